//! The last batch, in a file beside the database, written and synced before the database is touched.
//!
//! Of a batch whose pages reached the disk in part, as when power fails, the database may hold a part. The journal has all of it,
//! with a checksum, so that the next opening writes it again; or it is incomplete, and then the database has none of it.
//!
//! ```text
//! batch ──▶ journal, synced ──▶ database, synced ──▶ mark ──▶ acknowledged
//!              └─ power fails from here on: written again when the store is opened
//! ```
//!
//! What fails, and what happens then:
//! * The journal cannot be written: the batch is refused, and the database is as it was. If it is on the disk all the same, and the edge
//!   dies before the next batch takes its place, it is written when the store is opened: like any write that has failed, it may
//!   have happened.
//! * It is damaged or incomplete, or of an older batch than the database has: it is not used.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};
use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError};

use super::tables::{Table, Trees, failed};
use crate::StoreError;
use crate::durable::sync_names;
use crate::value::piece_key;

const JOURNAL_FILE: &str = "journal";
/// Only the owner may read it: it contains the environment of containers.
const JOURNAL_MODE: u32 = 0o600;
const SUM_BYTES: usize = 32;
/// The number of the batch and the length of what follows.
const HEAD_BYTES: usize = 16;
/// Longest batch that is read, in bytes: more than a batch of the largest writes takes.
const MAX_BYTES: u64 = 1 << 30;

/// What a batch does to the database: the new value of each key, or none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch(BTreeMap<(u8, Vec<u8>), Option<Vec<u8>>>);

/// A batch that is being made, over the database as it is. There is one writer, so nothing changes below it.
pub(super) struct Draft<'a> {
    trees: &'a Trees,
    batch: Batch,
}

impl<'a> Draft<'a> {
    pub(super) fn on(trees: &'a Trees) -> Self {
        Self { trees, batch: Batch::default() }
    }

    pub(super) fn finish(self) -> Batch {
        self.batch
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.batch.0.get(&(table as u8, key.to_vec())) {
            Some(value) => Ok(value.clone()),
            None => Ok(self.trees.get(table).get(key).map_err(failed)?.map(|value| value.to_vec())),
        }
    }

    /// The keys that there are with this prefix, from this one on.
    pub(super) fn keys(&self, table: Table, from: &[u8], prefix: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        let number = table as u8;
        let mut keys = BTreeSet::new();
        for key in self.trees.get(table).range(from..).keys() {
            let key = key.map_err(failed)?.to_vec();
            if !key.starts_with(prefix) {
                break;
            }
            keys.insert(key);
        }
        for ((of, key), value) in self.batch.0.range((number, from.to_vec())..) {
            if *of != number || !key.starts_with(prefix) {
                break;
            }
            match value {
                Some(_) => keys.insert(key.clone()),
                None => keys.remove(key),
            };
        }
        Ok(keys.into_iter().collect())
    }

    /// Removes the further pieces of a longer value that was there before.
    pub(super) fn remove_pieces_from(
        &mut self,
        first: usize,
        key: &[u8],
        table: Table,
    ) -> Result<(), StoreError> {
        for index in first.. {
            let piece = piece_key(key, u16::try_from(index).unwrap_or(u16::MAX));
            if self.get(table, &piece)?.is_none() {
                break;
            }
            self.remove(table, piece);
        }
        Ok(())
    }

    pub(super) fn insert(&mut self, table: Table, key: Vec<u8>, value: &[u8]) {
        self.batch.0.insert((table as u8, key), Some(value.to_vec()));
    }

    pub(super) fn remove(&mut self, table: Table, key: Vec<u8>) {
        self.batch.0.insert((table as u8, key), None);
    }
}

impl Batch {
    /// Writes it to the database, which still has to be synced.
    pub(super) fn commit(&self, trees: &Trees) -> Result<(), StoreError> {
        let committed = trees.all().transaction(|trees| {
            for ((table, key), value) in &self.0 {
                let tree = &trees[usize::from(*table)];
                match value {
                    Some(value) => tree.insert(key.as_slice(), value.as_slice())?,
                    None => tree.remove(key.as_slice())?,
                };
            }
            Ok::<_, ConflictableTransactionError<()>>(())
        });
        committed.map_err(|error| match error {
            TransactionError::Storage(error) => failed(error),
            TransactionError::Abort(()) => StoreError::Io("a transaction was given up".to_owned()),
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let part = |bytes: &mut Vec<u8>, part: &[u8]| {
            bytes.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend(part);
        };
        for ((table, key), value) in &self.0 {
            bytes.extend([*table, u8::from(value.is_some())]);
            part(&mut bytes, key);
            part(&mut bytes, value.as_deref().unwrap_or_default());
        }
        bytes
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut batch = Self::default();
        while let Some((head, rest)) = bytes.split_first_chunk::<2>() {
            let [table, there] = *head;
            let (key, rest) = part(rest)?;
            let (value, rest) = part(rest)?;
            let known = usize::from(table) < Table::ALL.len();
            known.then(|| batch.0.insert((table, key.to_vec()), (there == 1).then(|| value.to_vec())))?;
            bytes = rest;
        }
        bytes.is_empty().then_some(batch)
    }
}

fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// The file.
pub(super) struct Journal(File);

impl Journal {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(JOURNAL_MODE);
        let file = options.open(directory.join(JOURNAL_FILE))?;
        sync_names(directory)?;
        Ok(Self(file))
    }

    /// Keeps a batch with its number. It is durable then.
    pub(super) fn write(&self, number: u64, batch: &Batch) -> io::Result<()> {
        let body = batch.encode();
        let head = [number.to_be_bytes(), (body.len() as u64).to_be_bytes()].concat();
        self.0.write_all_at(&[&checksum(&head, &body)[..], &head, &body].concat(), 0)?;
        self.0.sync_data()
    }

    /// The batch that was kept last, with its number, unless it is incomplete.
    pub(super) fn read(&self) -> io::Result<Option<(u64, Batch)>> {
        let mut bytes = Vec::new();
        (&self.0).take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(read(&bytes))
    }
}

fn read(bytes: &[u8]) -> Option<(u64, Batch)> {
    let (sum, rest) = bytes.split_first_chunk::<SUM_BYTES>()?;
    let (head, rest) = rest.split_first_chunk::<HEAD_BYTES>()?;
    let (number, length) = head.split_first_chunk()?;
    let length = u64::from_be_bytes(length.try_into().ok()?);
    let body = rest.get(..usize::try_from(length).ok()?)?;
    let whole = checksum(head, body) == *sum;
    Some((u64::from_be_bytes(*number), Batch::decode(body).filter(|_| whole)?))
}

fn checksum(head: &[u8], body: &[u8]) -> [u8; SUM_BYTES] {
    Sha256::new().chain_update(head).chain_update(body).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let key = |key: &str| (Table::Kv as u8, key.as_bytes().to_vec());
        Batch([(key("a"), Some(vec![1; 300])), (key("b"), None), (key("c"), Some(Vec::new()))].into())
    }

    #[test]
    fn a_batch_is_read_as_it_was_written_also_over_a_longer_one() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        assert_eq!(journal.read().unwrap(), None);
        journal.write(7, &batch()).unwrap();
        journal.write(8, &Batch::default()).unwrap();
        journal.write(9, &batch()).unwrap();
        assert_eq!(Journal::open(directory.path()).unwrap().read().unwrap(), Some((9, batch())));
    }

    #[test]
    fn whatever_is_missing_or_damaged_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        journal.write(7, &batch()).unwrap();
        let whole = std::fs::read(directory.path().join(JOURNAL_FILE)).unwrap();
        assert!(read(&whole).is_some());
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut]), None, "{cut}");
            let mut damaged = whole.clone();
            damaged[cut] ^= 1;
            assert_eq!(read(&damaged), None, "{cut}");
        }
    }
}
