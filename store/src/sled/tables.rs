//! The tables of the store, each a tree of the database. Knows nothing of what is written to them.

use std::ops::Bound;

use serde::de::DeserializeOwned;
use sled::{Db, Tree};

use super::super::StoreError;
use super::super::value;

/// A tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Objects,
    /// The ids of the objects with a placed instance.
    Placed,
    Apps,
    Meta,
    Tokens,
    /// Values of objects, by object id and key.
    Kv,
    /// Events that wait for delivery (`outbox`).
    Hooks,
    /// Events that were set aside.
    Dead,
    /// Schedules of objects (`schedules`).
    Schedules,
    Due,
    DueOf,
    Crons,
    /// Encrypted secrets, by app and name.
    Secrets,
    /// Usage records, by end and instance.
    Usage,
    /// Logins for registries, by registry.
    Registries,
    /// Tags and manifests of images (`catalogue`).
    ImageTags,
    ImageManifests,
    /// The highest versions of removed apps, by app.
    LastVersions,
    /// What objects of programs keep (`states`).
    States,
    StateParts,
    /// Encrypted secrets that apps share, by store and name.
    StoreSecrets,
    /// What operators have ordered of nodes, by node.
    Nodes,
    /// What has happened to nodes and objects, by number.
    Happenings,
    /// Nodes that the edge was given while it ran, by name.
    Members,
    /// Keys that no node may show any more.
    Revoked,
}

impl Table {
    /// All tables in the order of their numbers, with their names in the database.
    pub(super) const ALL: [(Self, &str); 25] = [
        (Self::Objects, "objects"),
        (Self::Placed, "placed"),
        (Self::Apps, "apps"),
        (Self::Meta, "meta"),
        (Self::Tokens, "tokens"),
        (Self::Kv, "kv"),
        (Self::Hooks, "hooks"),
        (Self::Dead, "dead"),
        (Self::Schedules, "schedules"),
        (Self::Due, "due"),
        (Self::DueOf, "due_of"),
        (Self::Crons, "crons"),
        (Self::Secrets, "secrets"),
        (Self::Usage, "usage"),
        (Self::Registries, "registries"),
        (Self::ImageTags, "image_tags"),
        (Self::ImageManifests, "image_manifests"),
        (Self::LastVersions, "last_versions"),
        (Self::States, "states"),
        (Self::StateParts, "state_parts"),
        (Self::StoreSecrets, "store_secrets"),
        (Self::Nodes, "nodes"),
        (Self::Happenings, "happenings"),
        (Self::Members, "members"),
        (Self::Revoked, "revoked"),
    ];
}

/// The open trees.
#[derive(Clone)]
pub(crate) struct Trees(Vec<Tree>);

impl Trees {
    pub(super) fn open(db: &Db) -> sled::Result<Self> {
        Table::ALL.iter().map(|(_, name)| db.open_tree(name)).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn get(&self, table: Table) -> &Tree {
        &self.0[table as usize]
    }

    pub(super) fn all(&self) -> &[Tree] {
        &self.0
    }

    /// The value of a key.
    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        let value = value::read(key, |piece| self.get(table).get(piece).map_err(failed))?;
        let decoded = value.map(|value| serde_json::from_slice(&value)).transpose();
        decoded.map_err(|error| StoreError::Damaged { what: value::shown(key), reason: error.to_string() })
    }

    /// Values in the order of their keys, from the first after this key.
    pub(crate) fn read_all<T: DeserializeOwned>(
        &self,
        table: Table,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<T>, StoreError> {
        self.each(table, after).take(limit).collect()
    }

    /// Values in the order of their keys, from the first after this key. A damaged one is an error in its place, behind which the
    /// others follow.
    pub(crate) fn each<T: DeserializeOwned>(
        &self,
        table: Table,
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = Result<T, StoreError>> + use<'_, T> {
        self.each_entry(table, after).map(|entry| entry.map(|(_, value)| value))
    }

    /// The same with their keys.
    pub(crate) fn each_entry<T: DeserializeOwned>(
        &self,
        table: Table,
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = Result<(Vec<u8>, T), StoreError>> + use<'_, T> {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.to_vec()));
        let pieces = self.get(table).range((from, Bound::Unbounded)).keys();
        let keys = pieces.filter_map(|piece| match piece {
            Ok(piece) => value::first_piece_of(&piece).map(|key| Ok(key.to_vec())),
            Err(error) => Some(Err(failed(error))),
        });
        // Without a value it was removed in the meantime.
        keys.filter_map(move |key| match key {
            Ok(key) => self.read(table, &key).transpose().map(|value| value.map(|value| (key, value))),
            Err(error) => Some(Err(error)),
        })
    }
}

pub(crate) fn failed(error: sled::Error) -> StoreError {
    StoreError::Io(error.to_string())
}
