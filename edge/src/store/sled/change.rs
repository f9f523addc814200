//! The trees of the database, and what a write changes in them. Knows nothing of files and batches.

use std::ops::Bound;

use berth_common::ids::ObjectId;
use berth_engine::RecordState;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sled::transaction::{ConflictableTransactionError, TransactionalTree};
use sled::{Db, Tree};

use super::super::value::{self, Piece, piece_key};
use super::super::{KvChange, StoreError, Write};
use crate::usage::UsageKey;

/// A tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Objects,
    /// The ids of the objects whose record says that an instance is placed.
    Placed,
    Apps,
    Meta,
    Tokens,
    /// Objects' values, by the object's id and the key behind it.
    Kv,
    /// What instances took, by the moment of their end and the instance.
    Usage,
}

impl Place {
    /// All of them in the order of their numbers, with their names in the database.
    const ALL: [(Self, &str); 7] = [
        (Self::Objects, "objects"),
        (Self::Placed, "placed"),
        (Self::Apps, "apps"),
        (Self::Meta, "meta"),
        (Self::Tokens, "tokens"),
        (Self::Kv, "kv"),
        (Self::Usage, "usage"),
    ];
}

/// The open trees.
#[derive(Clone)]
pub(super) struct Trees(Vec<Tree>);

impl Trees {
    pub(super) fn open(db: &Db) -> sled::Result<Self> {
        Place::ALL.iter().map(|(_, name)| db.open_tree(name)).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn get(&self, place: Place) -> &Tree {
        &self.0[place as usize]
    }

    pub(super) fn all(&self) -> &[Tree] {
        &self.0
    }

    /// The value under a key.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        place: Place,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        let value = value::read(key, |piece| self.get(place).get(piece).map_err(failed))?;
        let decoded = value.map(|value| serde_json::from_slice(&value)).transpose();
        decoded.map_err(|error| StoreError::Damaged {
            what: format!("value under the key {:?}", String::from_utf8_lossy(key)),
            reason: error.to_string(),
        })
    }

    /// Values in the order of their keys, from the first behind this key.
    pub(super) fn read_all<T: DeserializeOwned>(
        &self,
        place: Place,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<T>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut values = Vec::new();
        for key in self.get(place).range::<&[u8], _>((from, Bound::Unbounded)).keys() {
            let key = key.map_err(failed)?;
            if values.len() == limit {
                break;
            }
            if let Some(key) = value::first_piece_of(&key) {
                values.extend(self.read(place, key)?);
            }
        }
        Ok(values)
    }
}

/// A piece of a batch, ready to be written.
pub(super) enum Change {
    /// A value with its checksum, or its removal where there are no pieces.
    Value { place: Place, key: Vec<u8>, pieces: Vec<Piece> },
    /// A key without a value: an entry of an index, there or not.
    Entry { place: Place, key: Vec<u8>, there: bool },
}

impl Change {
    /// What a write changes.
    pub(super) fn of(write: &Write) -> Result<Vec<Self>, StoreError> {
        Ok(match write {
            Write::Record(record) => {
                let (id, placed) = (record.key.id(), matches!(record.state, RecordState::Placed { .. }));
                let entry = Self::Entry { place: Place::Placed, key: id.as_bytes().to_vec(), there: placed };
                vec![Self::put(Place::Objects, id.as_bytes(), record)?, entry]
            }
            Write::App(app) => {
                vec![Self::put(Place::Apps, app.current().spec.name.as_str().as_bytes(), app)?]
            }
            Write::RemoveApp(name) => vec![Self::remove(Place::Apps, name.as_str().as_bytes())],
            Write::Token(token) => vec![Self::put(Place::Tokens, token.id.as_bytes(), token)?],
            Write::RemoveToken(id) => vec![Self::remove(Place::Tokens, id.as_bytes())],
            Write::Usage(usage) => {
                vec![Self::put(Place::Usage, &UsageKey::of(usage).to_bytes(), usage)?]
            }
            Write::RemoveUsage(keys) => {
                keys.iter().map(|key| Self::remove(Place::Usage, &key.to_bytes())).collect()
            }
            Write::Kv { object, changes } => {
                changes.iter().map(|change| Self::of_kv(*object, change)).collect::<Result<_, _>>()?
            }
        })
    }

    fn of_kv(object: ObjectId, KvChange { key, value }: &KvChange) -> Result<Self, StoreError> {
        let key = kv_key(object, key);
        let pieces = value.as_ref().map_or(Ok(Vec::new()), |value| value::pieces(&key, value))?;
        Ok(Self::Value { place: Place::Kv, key, pieces })
    }

    /// A value in the place of what is under this key.
    pub(super) fn put(place: Place, key: &[u8], value: &impl Serialize) -> Result<Self, StoreError> {
        let value = serde_json::to_vec(value).map_err(|error| StoreError::Io(error.to_string()))?;
        Ok(Self::Value { place, key: key.to_owned(), pieces: value::pieces(key, &value)? })
    }

    /// Nothing under this key.
    pub(super) fn remove(place: Place, key: &[u8]) -> Self {
        Self::Value { place, key: key.to_owned(), pieces: Vec::new() }
    }

    /// How many bytes it writes.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Value { pieces, .. } => {
                pieces.iter().map(|(key, piece)| (key.len() + piece.len()) as u64).sum()
            }
            Self::Entry { key, .. } => key.len() as u64,
        }
    }

    pub(super) fn apply(&self, trees: &[TransactionalTree]) -> Result<(), ConflictableTransactionError<()>> {
        match self {
            Self::Value { place, key, pieces } => {
                let tree = &trees[*place as usize];
                for (key, piece) in pieces {
                    tree.insert(key.as_slice(), piece.as_slice())?;
                }
                remove_pieces_from(pieces.len(), key, tree)
            }
            Self::Entry { place, key, there } => {
                let tree = &trees[*place as usize];
                if *there {
                    tree.insert(key.as_slice(), &[])?
                } else {
                    tree.remove(key.as_slice())?
                };
                Ok(())
            }
        }
    }
}

/// Removes what is left of a longer value that was there before.
fn remove_pieces_from(
    first: usize,
    key: &[u8],
    tree: &TransactionalTree,
) -> Result<(), ConflictableTransactionError<()>> {
    for index in first.. {
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        if tree.remove(piece_key(key, index))?.is_none() {
            break;
        }
    }
    Ok(())
}

/// The key of one of an object's values.
pub(super) fn kv_key(object: ObjectId, key: &str) -> Vec<u8> {
    [object.as_bytes(), key.as_bytes()].concat()
}

pub(super) fn failed(error: sled::Error) -> StoreError {
    StoreError::Io(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_their_numbers() {
        for (index, (place, _)) in Place::ALL.iter().enumerate() {
            assert_eq!(*place as usize, index);
        }
    }
}
