//! Exports and imports of a whole store as lines of JSON, for backups and moves.
//!
//! ```text
//! {"berth_store":4,"epoch":7}        the head
//! {"app":{...}}  {"token":{...}}  {"object":{...}}  {"value":{...}}        one line for each, in this order; then also
//! {"schedule":{...}}  {"cron":{...}}  {"event":{...}}  {"dead":{...}}  {"secret":{...}}  {"usage":{...}}
//! {"image":{...}}  {"tag":{...}}  {"registry":{...}}  {"last_version":{...}}  {"node":{...}}  {"happening":{...}}  {"state":{...}}
//! {"lines":3,"sha256":"..."}         the end: the number of lines between, and their digest
//! ```
//!
//! An import builds a new store next to the existing one, and replaces that only once everything was read and verified.

mod damage;
mod entry;
#[cfg(test)]
mod tests;
mod walk;

use std::fs;
use std::io::{self, BufRead, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use berth_common::ids::Epoch;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::damage::Damage;
pub use self::entry::Contents;
use self::entry::Entry;
use self::walk::walk;
use super::guard::expect_unused;
use super::sled::{DATABASE_FILE, FORMAT, SledStore};
use super::{Done, Store, StoreError, Window, Write};

/// Longest line that is read, in bytes: an app with all its versions.
const MAX_LINE_BYTES: usize = 256 << 20;

/// Bytes of states that wait to be written before an import goes on.
const UNDER_WAY_BYTES: usize = 64 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    berth_store: u32,
    epoch: Epoch,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<Window>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    lines: u64,
    sha256: String,
}

/// Writes everything that the store holds. The edge must not be running. What is damaged is an error, unless it is to be left out.
pub fn export(directory: &Path, to: impl io::Write, without_damaged: bool) -> Result<(Contents, Damage)> {
    let store = open_existing(directory)?;
    let mut to = Digesting { to: io::BufWriter::new(to), digest: Sha256::new(), lines: 0 };
    let head = Head { berth_store: FORMAT, epoch: store.epoch()?, window: store.window()? };
    serde_json::to_writer(&mut to.to, &head)?;
    to.to.write_all(b"\n")?;
    let mut damage = if without_damaged { Damage::default() } else { Damage::that_ends() };
    let contents = walk(&store, &mut damage, |entry| to.line(&entry))?;
    let end = End { lines: to.lines, sha256: hex::encode(to.digest.finalize()) };
    serde_json::to_writer(&mut to.to, &end)?;
    to.to.write_all(b"\n")?;
    to.to.flush().context("the export cannot be written")?;
    Ok((contents, damage))
}

/// Reads and verifies every value. The edge must not be running. Returns what is sound, and what is not.
pub fn verify(directory: &Path) -> Result<(Contents, Damage)> {
    let mut damage = Damage::default();
    let contents = walk(&open_existing(directory)?, &mut damage, |_| Ok(()))?;
    Ok((contents, damage))
}

/// Creates the store from an export. An existing store is replaced only with `replace`, and is moved aside then.
/// Returns what was read, and where the earlier store is now.
pub fn import(directory: &Path, from: impl BufRead, replace: bool) -> Result<(Contents, Option<PathBuf>)> {
    let there = may_import(directory, replace)?;
    if there {
        // A running edge has it locked. A store that cannot be opened for another reason is a case for an import.
        if let Err(error @ StoreError::InUse(_)) = SledStore::open(directory).map(drop) {
            return Err(error.into());
        }
    }
    let parent = directory.parent().context("the store has no parent directory")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    // Created with the mode 0700, as only the owner may read a store.
    let fresh = tempfile::Builder::new().prefix(".import-").tempdir_in(parent)?;
    let contents = read_into(fresh.path(), from)?;
    let aside = there.then(|| set_aside(directory)).transpose()?;
    if !there && directory.exists() {
        fs::remove_dir(directory).with_context(|| format!("{} is not a store", directory.display()))?;
    }
    fs::rename(fresh.keep(), directory).context("the new store cannot be put in its place")?;
    fs::File::open(parent)?.sync_all()?;
    Ok((contents, aside))
}

/// What an import would do, which changes nothing: reads and verifies the export. Returns what it holds, and whether an existing
/// store would be set aside.
pub fn try_import(directory: &Path, from: impl BufRead, replace: bool) -> Result<(Contents, bool)> {
    let there = may_import(directory, replace)?;
    if there {
        expect_unused(directory, DATABASE_FILE)?;
    } else if directory.exists() {
        let empty = fs::read_dir(directory)?.next().is_none();
        ensure!(empty, "{} is not a store", directory.display());
    }
    let (_, contents) = read_entries(from, |entry| entry.into_write().map(drop))?;
    Ok((contents, there))
}

/// Whether there is a store, which is replaced only with `replace`.
fn may_import(directory: &Path, replace: bool) -> Result<bool> {
    let there = directory.join(DATABASE_FILE).exists();
    if there && !replace {
        bail!("there is a store in {}: with --replace it is set aside, not removed", directory.display());
    }
    Ok(there)
}

fn set_aside(directory: &Path) -> Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // Within one second there may have been another.
    let name = |number: u32| {
        directory.with_file_name(match number {
            0 => format!("store-set-aside-{now}"),
            number => format!("store-set-aside-{now}-{number}"),
        })
    };
    let aside = (0..=u32::MAX).map(name).find(|path| !path.exists()).context("there is no name left")?;
    fs::rename(directory, &aside)
        .with_context(|| format!("cannot move {} to {}", directory.display(), aside.display()))?;
    Ok(aside)
}

fn open_existing(directory: &Path) -> Result<SledStore> {
    ensure!(directory.join(DATABASE_FILE).exists(), "there is no store in {}", directory.display());
    Ok(SledStore::open(directory)?)
}

/// Writes lines, and counts and hashes them.
struct Digesting<W: io::Write> {
    to: io::BufWriter<W>,
    digest: Sha256,
    lines: u64,
}

impl<W: io::Write> Digesting<W> {
    fn line(&mut self, entry: &Entry) -> Result<()> {
        let mut bytes = serde_json::to_vec(entry)?;
        bytes.push(b'\n');
        self.digest.update(&bytes);
        self.lines += 1;
        self.to.write_all(&bytes).context("the export cannot be written")
    }
}

/// Reads an export into a new store, which is durable when this returns.
fn read_into(directory: &Path, from: impl BufRead) -> Result<Contents> {
    let store = SledStore::open(directory)?;
    let failure = Failure::default();
    let mut under_way = 0;
    let (head, contents) = read_entries(from, |entry| {
        let write = entry.into_write()?;
        if let Write::State(change) = &write {
            under_way += change.bytes();
        }
        store.commit(vec![write], note_failure(&failure));
        if under_way > UNDER_WAY_BYTES {
            store.settle()?;
            under_way = 0;
        }
        Ok(())
    })?;
    // Written last, and waited for: then everything before it is durable too.
    if let Some(window) = head.window {
        store.commit(vec![Write::Window(window)], note_failure(&failure));
    }
    store.set_epoch(head.epoch)?;
    failure.get().cloned().map_or(Ok(contents), |error| Err(error.into()))
}

/// Reads an export, verifies it, and passes each entry on. Only once this returns is it known to be whole.
fn read_entries(
    mut from: impl BufRead,
    mut take: impl FnMut(Entry) -> Result<()>,
) -> Result<(Head, Contents)> {
    let mut text = String::new();
    read_line(&mut from, &mut text)?;
    let head: Head = serde_json::from_str(&text).context("line 1: this is not an export of a store")?;
    if head.berth_store > FORMAT {
        bail!(
            "the export has the format {}, and this version knows formats up to {FORMAT}",
            head.berth_store
        );
    }
    let mut contents = Contents::default();
    let mut digest = Sha256::new();
    let mut number = 0_u64;
    loop {
        text.clear();
        read_line(&mut from, &mut text)?;
        ensure!(!text.is_empty(), "the export ends before its last line: a part is missing");
        if let Ok(end) = serde_json::from_str::<End>(&text) {
            let sound = end.lines == number && end.sha256 == hex::encode(digest.finalize());
            ensure!(sound, "the export's digest does not match: it was damaged or changed");
            break;
        }
        number += 1;
        digest.update(&text);
        let entry: Entry = serde_json::from_str(&text).with_context(|| format!("line {}", number + 1))?;
        contents.count(&entry);
        take(entry)?;
    }
    Ok((head, contents))
}

fn read_line(from: &mut impl BufRead, text: &mut String) -> Result<()> {
    let read = io::Read::take(from, MAX_LINE_BYTES as u64).read_line(text);
    read.context("the export cannot be read")?;
    ensure!(text.len() < MAX_LINE_BYTES, "a line of the export is too long");
    Ok(())
}

/// The first write that failed.
type Failure = Arc<OnceLock<StoreError>>;

fn note_failure(failure: &Failure) -> Done {
    let failure = Arc::clone(failure);
    Box::new(move |result| result.unwrap_or_else(|error| drop(failure.set(error))))
}
