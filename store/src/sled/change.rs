//! The changes that a write makes to the trees of the database. Does not know files and batches.

use berth_common::ids::{InstanceId, ObjectId};
use berth_common::metering::Metered;
use berth_engine::{RecordState, UsageRecord};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::value::{self, Piece};
use super::super::{KvChange, StoreError, Write};
use super::catalogue::{manifest_key, tag_key};
use super::journal::Draft;
use super::outbox::{dead_key, event_key};
use super::schedules::{CronMark, cron_key, schedule_key};
use super::states::{Ready, forget_empty};
use super::tables::Table;
use super::{WINDOW, keeps_terms_key};
use crate::UsageKey;
use crate::{EventId, LastVersion, NUMBER_BYTES, SecretHolder};

/// A part of a batch, ready to be written.
pub(super) enum Change {
    /// A value with its checksum, or its removal if there are no pieces.
    Value { table: Table, key: Vec<u8>, pieces: Vec<Piece> },
    /// Inserts or removes a key without a value: an entry of an index.
    Entry { table: Table, key: Vec<u8>, there: bool },
    /// Sets or removes the due time of a schedule (`schedules`).
    Due { key: Vec<u8>, due_ms: Option<u64> },
    /// What an object of a program keeps is changed (`states`).
    State(Ready),
    /// An object of a program that keeps nothing and has no alarm is forgotten.
    Forget(ObjectId),
    /// These changes, but only if the schedule is still due at this time.
    IfDue { key: Vec<u8>, due_ms: u64, changes: Vec<Self> },
    /// What was measured of this instance takes the place of an estimate, if there is one.
    Measured { instance: InstanceId, metered: Box<Metered> },
    /// This change, but only if no instance of the object is placed.
    IfNotPlaced { object: ObjectId, change: Box<Self> },
}

/// Numbers the events of a batch.
pub(super) struct Numbers {
    batch: u64,
    next: u16,
}

impl Numbers {
    pub(super) fn of_batch(batch: u64) -> Self {
        Self { batch, next: 0 }
    }

    fn next(&mut self) -> Result<[u8; NUMBER_BYTES], StoreError> {
        let mut number = [0; NUMBER_BYTES];
        let (batch, place) = number.split_at_mut(size_of::<u64>());
        batch.copy_from_slice(&self.batch.to_be_bytes());
        place.copy_from_slice(&self.next.to_be_bytes());
        let next = self.next.checked_add(1);
        self.next = next.ok_or_else(|| StoreError::Io("too many events in one batch".to_owned()))?;
        Ok(number)
    }
}

impl Change {
    /// The changes of a write.
    pub(super) fn of(write: &Write, numbers: &mut Numbers) -> Result<Vec<Self>, StoreError> {
        Ok(match write {
            Write::Record(record) => {
                let (id, placed) = (record.key.id(), matches!(record.state, RecordState::Placed { .. }));
                let entry = Self::Entry { table: Table::Placed, key: id.as_bytes().to_vec(), there: placed };
                vec![Self::put(Table::Objects, id.as_bytes(), record)?, entry]
            }
            Write::RemoveRecord(id) => {
                let removal = Self::remove(Table::Objects, id.as_bytes());
                vec![Self::IfNotPlaced { object: *id, change: Box::new(removal) }]
            }
            Write::App(app) => {
                vec![Self::put(Table::Apps, app.current().spec.name.as_str().as_bytes(), app)?]
            }
            Write::RemoveApp(name) => vec![Self::remove(Table::Apps, name.as_str().as_bytes())],
            Write::LastVersion(name, last) => {
                let last = LastVersion { app: name.clone(), last: *last };
                vec![Self::put(Table::LastVersions, name.as_str().as_bytes(), &last)?]
            }
            Write::Token(token) => vec![Self::put(Table::Tokens, token.id.as_bytes(), token)?],
            Write::RemoveToken(id) => vec![Self::remove(Table::Tokens, id.as_bytes())],
            Write::Happening(happening) => {
                vec![Self::put(Table::Happenings, &happening.number.to_be_bytes(), happening)?]
            }
            Write::RemoveHappenings(numbers) => {
                numbers.iter().map(|number| Self::remove(Table::Happenings, &number.to_be_bytes())).collect()
            }
            Write::Node(record) => {
                vec![Self::put(Table::Nodes, record.node.as_str().as_bytes(), record)?]
            }
            Write::RemoveNode(node) => vec![Self::remove(Table::Nodes, node.as_str().as_bytes())],
            Write::Member(record) => {
                vec![Self::put(Table::Members, record.node.as_str().as_bytes(), record)?]
            }
            Write::RemoveMember(node) => vec![Self::remove(Table::Members, node.as_str().as_bytes())],
            Write::Revoked(record) => vec![Self::put(Table::Revoked, record.key.as_bytes(), record)?],
            Write::Usage(usage) => Self::of_usage(usage)?,
            Write::Measured { instance, metered } => {
                vec![Self::Measured { instance: *instance, metered: metered.clone() }]
            }
            Write::KeepsTerms(node, true) => vec![Self::put(Table::Meta, &keeps_terms_key(node), node)?],
            Write::KeepsTerms(node, false) => vec![Self::remove(Table::Meta, &keeps_terms_key(node))],
            Write::Window(window) => vec![Self::put(Table::Meta, WINDOW, window)?],
            Write::RemoveUsage(keys) => {
                let of = |key: &UsageKey| {
                    let estimate = Self::remove(Table::Meta, &estimate_key(key.instance()));
                    [Self::remove(Table::Usage, &key.to_bytes()), estimate]
                };
                keys.iter().flat_map(of).collect()
            }
            Write::Secret(secret) => {
                let key = secret_key(&secret.holder, secret.name.as_str());
                vec![Self::put(secret_table(&secret.holder), &key, secret)?]
            }
            Write::RemoveSecret { holder, name } => {
                vec![Self::remove(secret_table(holder), &secret_key(holder, name.as_str()))]
            }
            Write::Registry(record) => {
                vec![Self::put(Table::Registries, record.registry.as_str().as_bytes(), record)?]
            }
            Write::RemoveRegistry(registry) => {
                vec![Self::remove(Table::Registries, registry.as_str().as_bytes())]
            }
            Write::Kv { object, changes } => {
                changes.iter().map(|change| Self::of_kv(*object, change)).collect::<Result<_, _>>()?
            }
            Write::State(change) => vec![Self::State(Ready::of(change)?), Self::Forget(change.object)],
            Write::Event(delivery) => {
                let id = EventId { object: delivery.event.key.id(), number: numbers.next()? };
                vec![Self::put(Table::Hooks, &event_key(id), delivery)?]
            }
            Write::Retried(id, delivery) => vec![Self::put(Table::Hooks, &event_key(*id), delivery)?],
            Write::EventDelivered(id) => vec![Self::remove(Table::Hooks, &event_key(*id))],
            Write::SetAside(id, delivery) => vec![
                Self::remove(Table::Hooks, &event_key(*id)),
                Self::put(Table::Dead, &dead_key(*id), delivery)?,
            ],
            Write::RemoveDead(id) => vec![Self::remove(Table::Dead, &dead_key(*id))],
            Write::Schedule(schedule) => {
                let key = schedule_key(schedule.key.id(), schedule.id);
                let value = Self::put(Table::Schedules, &key, schedule)?;
                vec![value, Self::Due { key, due_ms: schedule.due_ms }]
            }
            Write::RemoveSchedule(object, id) => {
                let key = schedule_key(*object, *id);
                vec![
                    Self::remove(Table::Schedules, &key),
                    Self::Due { key, due_ms: None },
                    Self::Forget(*object),
                ]
            }
            Write::Finish { object, id, due_ms, then } => {
                let key = schedule_key(*object, *id);
                let value = match then {
                    Some(schedule) => Self::put(Table::Schedules, &key, schedule)?,
                    None => Self::remove(Table::Schedules, &key),
                };
                let due = Self::Due { key: key.clone(), due_ms: then.as_ref().and_then(|then| then.due_ms) };
                vec![Self::IfDue { key, due_ms: *due_ms, changes: vec![value, due, Self::Forget(*object)] }]
            }
            Write::CronMark(key, last_ms) => {
                let mark = CronMark { key: key.clone(), last_ms: *last_ms };
                vec![Self::put(Table::Crons, &cron_key(key), &mark)?]
            }
            Write::RemoveCronMark(key) => vec![Self::remove(Table::Crons, &cron_key(key))],
            Write::ImageTag(tag) => {
                vec![Self::put(Table::ImageTags, &tag_key(&tag.repository, tag.tag.as_str()), tag)?]
            }
            Write::RemoveImageTag(repository, tag) => {
                vec![Self::remove(Table::ImageTags, &tag_key(repository, tag.as_str()))]
            }
            Write::ImageManifest(of) => {
                vec![Self::put(Table::ImageManifests, &manifest_key(&of.repository, &of.digest), of)?]
            }
            Write::RemoveImageManifest(repository, digest) => {
                vec![Self::remove(Table::ImageManifests, &manifest_key(repository, digest))]
            }
        })
    }

    /// An estimate is found again by its instance.
    fn of_usage(usage: &UsageRecord) -> Result<Vec<Self>, StoreError> {
        let mut changes = vec![Self::put(Table::Usage, &UsageKey::of(usage).to_bytes(), usage)?];
        if usage.estimated {
            changes.push(Self::put(Table::Meta, &estimate_key(usage.instance), &usage.ended_ms())?);
        }
        Ok(changes)
    }

    fn of_kv(object: ObjectId, KvChange { key, value }: &KvChange) -> Result<Self, StoreError> {
        let key = kv_key(object, key);
        let pieces = value.as_ref().map_or(Ok(Vec::new()), |value| value::pieces(&key, value))?;
        Ok(Self::Value { table: Table::Kv, key, pieces })
    }

    /// Inserts or replaces the value of this key.
    pub(super) fn put(table: Table, key: &[u8], value: &impl Serialize) -> Result<Self, StoreError> {
        let value = serde_json::to_vec(value).map_err(|error| StoreError::Io(error.to_string()))?;
        Ok(Self::Value { table, key: key.to_owned(), pieces: value::pieces(key, &value)? })
    }

    /// Removes this key.
    pub(super) fn remove(table: Table, key: &[u8]) -> Self {
        Self::Value { table, key: key.to_owned(), pieces: Vec::new() }
    }

    /// Adds what it does to a batch.
    pub(super) fn apply(&self, draft: &mut Draft<'_>) -> Result<(), StoreError> {
        match self {
            Self::Value { table, key, pieces } => {
                for (key, piece) in pieces {
                    draft.insert(*table, key.clone(), piece);
                }
                draft.remove_pieces_from(pieces.len(), key, *table)
            }
            Self::Entry { table, key, there } => {
                if *there {
                    draft.insert(*table, key.clone(), &[]);
                } else {
                    draft.remove(*table, key.clone());
                }
                Ok(())
            }
            Self::Due { key, due_ms } => set_due(key, *due_ms, draft),
            Self::State(ready) => ready.apply(draft),
            Self::Measured { instance, metered } => replace_estimate(*instance, metered, draft),
            Self::Forget(object) => forget_empty(*object, draft),
            Self::IfDue { key, due_ms, changes } => {
                let due = draft.get(Table::DueOf, key)?;
                if due.is_some_and(|due| due == due_ms.to_be_bytes()) {
                    changes.iter().try_for_each(|change| change.apply(draft))?;
                }
                Ok(())
            }
            Self::IfNotPlaced { object, change } => match draft.get(Table::Placed, object.as_bytes())? {
                Some(_) => Ok(()),
                None => change.apply(draft),
            },
        }
    }
}

/// Where the end is kept of an instance whose usage record is an estimate.
fn estimate_key(instance: InstanceId) -> Vec<u8> {
    [b"estimate/".as_slice(), instance.as_bytes()].concat()
}

fn replace_estimate(
    instance: InstanceId,
    metered: &Metered,
    draft: &mut Draft<'_>,
) -> Result<(), StoreError> {
    let index = estimate_key(instance);
    let Some(ended_ms) = read::<u64>(Table::Meta, &index, draft)? else { return Ok(()) };
    let key = UsageKey::new(ended_ms, instance).to_bytes();
    Change::remove(Table::Meta, &index).apply(draft)?;
    let Some(estimate) = read::<UsageRecord>(Table::Usage, &key, draft)? else { return Ok(()) };
    Change::remove(Table::Usage, &key).apply(draft)?;
    let Metered { started_ms, lived_cs, cpu_us, received_bytes, sent_bytes, region, estimated } =
        metered.clone();
    let region = region.or(estimate.region);
    let measured = UsageRecord {
        started_ms,
        lived_cs,
        cpu_us,
        received_bytes,
        sent_bytes,
        region,
        estimated,
        ..estimate
    };
    Change::of_usage(&measured)?.iter().try_for_each(|change| change.apply(draft))
}

fn read<T: DeserializeOwned>(table: Table, key: &[u8], draft: &Draft<'_>) -> Result<Option<T>, StoreError> {
    let value = value::read(key, |piece| draft.get(table, piece))?;
    let decoded = value.map(|value| serde_json::from_slice(&value)).transpose();
    decoded.map_err(|error| StoreError::Damaged { what: value::shown(key), reason: error.to_string() })
}

fn set_due(key: &[u8], due_ms: Option<u64>, draft: &mut Draft<'_>) -> Result<(), StoreError> {
    if let Some(before) = draft.get(Table::DueOf, key)? {
        draft.remove(Table::Due, [&before[..], key].concat());
    }
    match due_ms {
        Some(ms) => {
            draft.insert(Table::DueOf, key.to_vec(), &ms.to_be_bytes());
            draft.insert(Table::Due, [&ms.to_be_bytes()[..], key].concat(), &[]);
        }
        None => draft.remove(Table::DueOf, key.to_vec()),
    }
    Ok(())
}

/// The key of an object's value.
pub(super) fn kv_key(object: ObjectId, key: &str) -> Vec<u8> {
    [object.as_bytes(), key.as_bytes()].concat()
}

/// The key of a secret. Neither name contains a zero byte.
pub(super) fn secret_key(holder: &SecretHolder, name: &str) -> Vec<u8> {
    [holder.name().as_bytes(), b"\0", name.as_bytes()].concat()
}

/// The table of a secret.
pub(super) fn secret_table(holder: &SecretHolder) -> Table {
    match holder {
        SecretHolder::App(_) => Table::Secrets,
        SecretHolder::Store(_) => Table::StoreSecrets,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_their_numbers() {
        for (index, (table, _)) in Table::ALL.iter().enumerate() {
            assert_eq!(*table as usize, index);
        }
    }
}
