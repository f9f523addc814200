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
/// Longest batch that is written, and so that is read, in bytes: far more than a batch of the largest writes takes.
const MAX_BYTES: u64 = 1 << 30;
/// What an entry of a batch takes up besides its key and value, in bytes: in memory and in the journal.
const ENTRY_BYTES: u64 = 64;
/// What an entry takes up in the journal besides: its table, whether there is a value, and the lengths of key and value.
const PART_HEADS_BYTES: usize = 2 + 4 + 4;

/// What a batch does to the database: the new value of each key, or none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch(BTreeMap<(u8, Vec<u8>), Option<Vec<u8>>>);

/// A batch that is being made, over the database as it is. There is one writer, so nothing changes below it.
pub(super) struct Draft<'a> {
    trees: &'a Trees,
    batch: Batch,
    bytes: u64,
}

impl<'a> Draft<'a> {
    pub(super) fn on(trees: &'a Trees) -> Self {
        Self { trees, batch: Batch::default(), bytes: 0 }
    }

    /// About how many bytes it has, in memory and in the journal.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many keys it inserts or removes.
    pub(super) fn entries(&self) -> usize {
        self.batch.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch.0.is_empty()
    }

    /// The database as it is without the batch.
    pub(super) fn trees(&self) -> &Trees {
        self.trees
    }

    /// The keys of a table that the batch inserts or removes.
    pub(super) fn changed(&self, table: Table) -> impl Iterator<Item = &[u8]> {
        self.from(table, &[]).map(|(key, _)| key)
    }

    /// What the batch does to the keys of a table from this one on.
    fn from(&self, table: Table, key: &[u8]) -> impl Iterator<Item = (&[u8], &Option<Vec<u8>>)> {
        let number = table as u8;
        let changes = self.batch.0.range((number, key.to_vec())..);
        changes.take_while(move |((of, _), _)| *of == number).map(|((_, key), value)| (key.as_slice(), value))
    }

    /// Whether there is a key with this prefix.
    pub(super) fn has_some(&self, table: Table, prefix: &[u8]) -> Result<bool, StoreError> {
        let mut own = self.from(table, prefix).take_while(|(key, _)| key.starts_with(prefix));
        if own.any(|(_, value)| value.is_some()) {
            return Ok(true);
        }
        for key in self.trees.get(table).scan_prefix(prefix).keys() {
            // What the batch has of it goes.
            if !self.batch.0.contains_key(&(table as u8, key.map_err(failed)?.to_vec())) {
                return Ok(true);
            }
        }
        Ok(false)
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
        let mut keys = BTreeSet::new();
        for key in self.trees.get(table).range(from..).keys() {
            let key = key.map_err(failed)?.to_vec();
            if !key.starts_with(prefix) {
                break;
            }
            keys.insert(key);
        }
        for (key, value) in self.from(table, from).take_while(|(key, _)| key.starts_with(prefix)) {
            match value {
                Some(_) => keys.insert(key.to_vec()),
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
        self.set(table, key, Some(value.to_vec()));
    }

    pub(super) fn remove(&mut self, table: Table, key: Vec<u8>) {
        self.set(table, key, None);
    }

    fn set(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        let length = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len) as u64;
        let (entry, now) = (key.len() as u64 + ENTRY_BYTES, length(&value));
        self.bytes += now;
        match self.batch.0.insert((table as u8, key), value) {
            Some(before) => self.bytes -= length(&before),
            None => self.bytes += entry,
        }
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

    /// As the journal has it; an error if that is longer than is read again.
    fn encode(&self, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for ((table, key), value) in &self.0 {
            let value = value.as_deref();
            let whole = (bytes.len() + key.len() + value.map_or(0, <[u8]>::len) + PART_HEADS_BYTES) as u64;
            if whole > most {
                let text =
                    format!("a batch of writes is longer than the {most} bytes that the journal takes");
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
            }
            bytes.extend([*table, u8::from(value.is_some())]);
            for part in [key, value.unwrap_or_default()] {
                // Shorter than the whole.
                let length = u32::try_from(part.len()).map_err(io::Error::other)?;
                bytes.extend(length.to_be_bytes());
                bytes.extend(part);
            }
        }
        Ok(bytes)
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
pub(super) struct Journal {
    file: File,
    /// Longest batch, in bytes.
    most: u64,
}

impl Journal {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(JOURNAL_MODE);
        let file = options.open(directory.join(JOURNAL_FILE))?;
        sync_names(directory)?;
        Ok(Self { file, most: MAX_BYTES })
    }

    /// Keeps a batch with its number. It is durable then. One that could not be read again is refused, and the one before stays.
    pub(super) fn write(&self, number: u64, batch: &Batch) -> io::Result<()> {
        let body = batch.encode(self.most)?;
        let head = [number.to_be_bytes(), (body.len() as u64).to_be_bytes()].concat();
        let sum = checksum(&head, &body);
        self.file.write_all_at(&[&sum[..], &head].concat(), 0)?;
        self.file.write_all_at(&body, (SUM_BYTES + HEAD_BYTES) as u64)?;
        self.file.sync_data()
    }

    /// The batch that was kept last, with its number, unless it is incomplete.
    pub(super) fn read(&self) -> io::Result<Option<(u64, Batch)>> {
        read(&self.file, self.most)
    }
}

/// Reads no more than the head says, if that is what may be.
fn read(mut from: impl Read, most: u64) -> io::Result<Option<(u64, Batch)>> {
    let mut top = Vec::new();
    from.by_ref().take((SUM_BYTES + HEAD_BYTES) as u64).read_to_end(&mut top)?;
    let Some((sum, head)) = top.split_first_chunk::<SUM_BYTES>() else { return Ok(None) };
    let Some((number, length)) = numbers_of(head).filter(|(_, length)| *length <= most) else {
        return Ok(None);
    };
    let mut body = Vec::new();
    from.take(length).read_to_end(&mut body)?;
    let whole = body.len() as u64 == length && checksum(head, &body) == *sum;
    Ok(whole.then(|| Batch::decode(&body)).flatten().map(|batch| (number, batch)))
}

/// The number of a batch, and its length in bytes.
fn numbers_of(head: &[u8]) -> Option<(u64, u64)> {
    let (number, length) = head.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), u64::from_be_bytes(length.try_into().ok()?)))
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
        assert!(read(&whole[..], MAX_BYTES).unwrap().is_some());
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut], MAX_BYTES).unwrap(), None, "{cut}");
            let mut damaged = whole.clone();
            damaged[cut] ^= 1;
            assert_eq!(read(&damaged[..], MAX_BYTES).unwrap(), None, "{cut}");
        }
    }

    #[test]
    fn a_batch_that_could_not_be_read_again_is_refused_and_the_one_before_stays() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        journal.most = batch().encode(MAX_BYTES).unwrap().len() as u64;
        journal.write(7, &batch()).unwrap();
        let mut longer = batch();
        longer.0.insert((Table::Kv as u8, b"d".to_vec()), None);
        let error = journal.write(8, &longer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(Journal::open(directory.path()).unwrap().read().unwrap(), Some((7, batch())));
    }

    /// Whatever length a damaged head has, no more is read than a batch may have.
    #[test]
    fn a_damaged_length_reads_nothing() {
        struct Endless(u64);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += buffer.len() as u64;
                assert!(self.0 < 1 << 20, "it is read without end");
                buffer.fill(1);
                Ok(buffer.len())
            }
        }
        for length in [MAX_BYTES + 1, u64::MAX] {
            let top = [&[0; SUM_BYTES][..], &7_u64.to_be_bytes(), &length.to_be_bytes()].concat();
            assert_eq!(read(top.chain(Endless(0)), MAX_BYTES).unwrap(), None);
        }
    }
}
