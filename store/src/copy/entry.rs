//! The entries of an export: the lines between its first and its last one, and what each writes into a store.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use berth_common::happening::Happening;
use berth_common::ids::ObjectId;
use berth_engine::{Record, UsageRecord};
use serde::{Deserialize, Serialize};

use crate::{
    AppHistory, CronKey, Delivery, KvChange, LastVersion, ManifestRecord, MemberRecord, NodeRecord,
    RegistryRecord, RevokedRecord, Schedule, SecretRecord, StateChange, StateHead, StoredState, TagRecord,
    TokenRecord, Write,
};

/// One line of an export.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    App(Box<AppHistory>),
    LastVersion(LastVersion),
    Token(Box<TokenRecord>),
    Object(Box<Record>),
    Value {
        object: ObjectId,
        key: String,
        base64: String,
    },
    Schedule(Box<Schedule>),
    Cron {
        key: CronKey,
        last_ms: u64,
    },
    Event(Box<Delivery>),
    Dead {
        id: String,
        delivery: Box<Delivery>,
    },
    /// Still encrypted: it decrypts only with the edge's key file, which is not part of an export.
    Secret(Box<SecretRecord>),
    /// All that an object of a program keeps.
    State {
        head: Box<StateHead>,
        /// Keys with their values, in base64.
        values: Vec<(String, String)>,
        /// Pages by their numbers, in base64.
        pages: Vec<(u32, String)>,
    },
    Usage(Box<UsageRecord>),
    /// A login with its password, still encrypted.
    Registry(Box<RegistryRecord>),
    /// A manifest of a repository. The content of images is not part of an export.
    Image(Box<ManifestRecord>),
    Tag(TagRecord),
    /// What was ordered of a node.
    Node(NodeRecord),
    /// A node that the edge was given while it ran.
    Member(Box<MemberRecord>),
    /// A key that no node may show any more.
    Revoked(RevokedRecord),
    Happening(Box<Happening>),
}

impl Entry {
    pub(super) fn of_state(StoredState { head, values, pages }: StoredState) -> Self {
        let values = values.into_iter().map(|(key, value)| (key, BASE64_STANDARD.encode(value))).collect();
        let pages = pages.into_iter().map(|(number, page)| (number, BASE64_STANDARD.encode(page))).collect();
        Self::State { head: Box::new(head), values, pages }
    }

    /// The write that stores it. An error means that the export is not valid.
    pub(super) fn into_write(self) -> Result<Write> {
        Ok(match self {
            Self::App(app) => {
                ensure!(app.is_valid(), "the versions of an app do not fit together");
                Write::App(*app)
            }
            Self::LastVersion(LastVersion { app, last }) => Write::LastVersion(app, last),
            Self::Token(token) => Write::Token(*token),
            Self::Object(record) => Write::Record(record),
            Self::Value { object, key, base64 } => {
                let value = Some(BASE64_STANDARD.decode(base64).context("a value is not base64")?);
                Write::Kv { object, changes: vec![KvChange { key, value }] }
            }
            Self::Schedule(schedule) => Write::Schedule(schedule),
            Self::Cron { key, last_ms } => Write::CronMark(key, last_ms),
            Self::Event(delivery) => Write::Event(delivery),
            Self::Dead { id, delivery } => {
                let id = id.parse().context("an event that was set aside has no id")?;
                Write::SetAside(id, delivery)
            }
            Self::Secret(secret) => Write::Secret(*secret),
            Self::State { head, values, pages } => {
                let state = StoredState { head: *head, values: decoded(values)?, pages: decoded(pages)? };
                Write::State(Box::new(StateChange::whole(state)))
            }
            Self::Usage(record) => Write::Usage(record),
            Self::Registry(registry) => Write::Registry(*registry),
            Self::Image(record) => Write::ImageManifest(record),
            Self::Tag(record) => Write::ImageTag(record),
            Self::Node(record) => Write::Node(record),
            Self::Member(record) => Write::Member(record),
            Self::Revoked(record) => Write::Revoked(record),
            Self::Happening(happening) => Write::Happening(happening),
        })
    }
}

fn decoded<K>(values: Vec<(K, String)>) -> Result<Vec<(K, Vec<u8>)>> {
    let decode = |(key, text): (K, String)| {
        Ok((key, BASE64_STANDARD.decode(text).context("a part of a state is not base64")?))
    };
    values.into_iter().map(decode).collect()
}

/// How many entries of each kind a store has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// Apps.
    pub apps: u64,
    /// Tokens.
    pub tokens: u64,
    /// Objects.
    pub objects: u64,
    /// Values of objects.
    pub values: u64,
    /// Secrets.
    pub secrets: u64,
    /// Alarms and schedules.
    pub schedules: u64,
    /// Objects of programs that keep something.
    pub states: u64,
    /// Events that wait for delivery; not those that were set aside.
    pub events: u64,
    /// Usage records.
    pub usage: u64,
    /// Logins for registries.
    pub registries: u64,
    /// Manifests of images.
    pub images: u64,
    /// Tags of images.
    pub tags: u64,
    /// Files that the versions of apps name by digest, each counted once an app.
    pub files: u64,
}

impl Contents {
    /// Counts an entry.
    pub(super) fn count(&mut self, entry: &Entry) {
        let count = match entry {
            Entry::App(app) => {
                self.files += files_of(app);
                &mut self.apps
            }
            Entry::Token(_) => &mut self.tokens,
            Entry::Object(_) => &mut self.objects,
            Entry::Value { .. } => &mut self.values,
            Entry::Schedule(_) => &mut self.schedules,
            Entry::State { .. } => &mut self.states,
            Entry::Event(_) => &mut self.events,
            Entry::Secret(_) => &mut self.secrets,
            Entry::Usage(_) => &mut self.usage,
            Entry::Registry(_) => &mut self.registries,
            Entry::Image(_) => &mut self.images,
            Entry::Tag(_) => &mut self.tags,
            Entry::LastVersion(_)
            | Entry::Cron { .. }
            | Entry::Dead { .. }
            | Entry::Node(_)
            | Entry::Member(_)
            | Entry::Revoked(_)
            | Entry::Happening(_) => return,
        };
        *count += 1;
    }
}

/// How many files the kept versions of an app name.
fn files_of(app: &AppHistory) -> u64 {
    let kept = app.kept().flat_map(|(version, _)| version.spec.content());
    let files: HashSet<_> = kept.map(|(_, digest)| digest).collect();
    files.len() as u64
}
