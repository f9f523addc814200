//! Unpacked layers on disk: each in a directory of its own, shared by all images and containers that use it.
//!
//! ```text
//! STATE/layers/DIFF           a layer by the digest of its archive: fs/ and summary.json
//! STATE/layers/chain-CHAIN    one that depends on the layers below it, unpacked onto them, by its chain id
//! STATE/layers/*.partial      one that is being unpacked, in a directory that no other attempt uses
//! STATE/layers/removed-*      one that is being removed
//! STATE/images/spool/BLOB.DIFF  the compressed bytes of one that is being fetched
//! ```
//!
//! `summary.json` is the proof that a layer is whole: it names the layer, and is written last. It counts for other boots
//! of the machine only once it was written again after all files were synced. A directory's modification time is the
//! time of its layer's last use.
//!
//! What an earlier agent left is renamed when the layers are opened, before anything can begin: what is deleted later
//! are only those names, which nothing else uses.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use berth_common::image::Digest;
use berth_images::layer::Summary;
use berth_shim::state_files::make_private_dir;
use serde::{Deserialize, Serialize};

use super::Failure;
use super::modes::wipe;

const PARTIAL: &str = ".partial";
const REMOVED: &str = "removed-";
const SUMMARY: &str = "summary.json";
const NOTE_PARTIAL: &str = "summary.new";
/// Longest name of a file on Linux, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// The layer's files, in its directory.
const FILES: &str = "fs";

/// The name of a layer's directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LayerName(String);

impl LayerName {
    /// The name of a layer that was unpacked alone.
    pub(super) fn alone(diff: &Digest) -> Self {
        Self(diff.hex())
    }

    /// The name of a layer that was unpacked onto others.
    pub(super) fn chained(chain: &Digest) -> Self {
        Self(format!("chain-{}", chain.hex()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a spool file. Two long digests would make it longer than a file's name may be: then they are hashed.
pub(super) fn spool_name(blob: &Digest, diff: &Digest) -> String {
    let name = format!("{}.{}", blob.hex(), diff.hex());
    if name.len() <= MAX_NAME_BYTES { name } else { Digest::of(name.as_bytes()).hex() }
}

/// The chain id of a layer on top of others, as the OCI image specification defines it.
pub(super) fn chain_of(below: Option<&Digest>, diff: &Digest) -> Digest {
    below.map_or(*diff, |below| Digest::of(format!("{below} {diff}").as_bytes()))
}

/// The metadata file of a layer.
#[derive(Serialize, Deserialize)]
struct Note {
    /// The name of the layer. Notes of earlier versions have none.
    #[serde(default)]
    layer: Option<String>,
    #[serde(flatten)]
    summary: Summary,
    /// The boot id of the machine, set while the layer's files may not be synced to disk: after a crash of the machine
    /// their contents are undefined, so a note with another boot id is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unsynced_in: Option<String>,
}

/// Writes a note atomically, and durably if it says that the layer is synced.
fn write_note(directory: &Path, note: &Note) -> io::Result<()> {
    let partial = directory.join(NOTE_PARTIAL);
    let file = File::create(&partial)?;
    serde_json::to_writer(&file, note)?;
    if note.unsynced_in.is_none() {
        file.sync_all()?;
    }
    fs::rename(partial, directory.join(SUMMARY))
}

/// Like `sync`, on a blocking thread. A layer that was removed meanwhile is no error.
fn sync_later(directory: PathBuf, note: Note) {
    tokio::task::spawn_blocking(move || match sync(&directory, note) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(layer = %directory.display(), %error, "a layer may have to be fetched again after a crash");
        }
        _ => {}
    });
}

/// Syncs a layer's files and its directory entry to disk, and notes that.
fn sync(directory: &Path, note: Note) -> io::Result<()> {
    nix::unistd::syncfs(File::open(directory)?)?;
    write_note(directory, &Note { unsynced_in: None, ..note })?;
    File::open(directory)?.sync_all()
}

/// The boot id of the machine.
fn this_boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// Its files.
    pub(super) files: PathBuf,
    pub(super) summary: Summary,
}

/// The unpacked layers of a node.
#[derive(Debug)]
pub(super) struct Layers {
    directory: PathBuf,
    spool: PathBuf,
    /// Part of the names that this agent makes, which no earlier one has used.
    run: String,
    /// How many such names were made.
    names: Cell<u64>,
    /// What an earlier agent left, to be deleted.
    leftovers: RefCell<Vec<PathBuf>>,
    /// The boot id of the machine.
    boot: String,
}

impl Layers {
    /// Opens those in a node's state directory. Afterwards nothing has a name there that an attempt to come may use.
    pub(super) fn open(state: &Path) -> io::Result<Self> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut layers = Self {
            directory: state.join("layers"),
            spool: state.join("images/spool"),
            run: format!("{:x}-{:x}", since.as_nanos(), std::process::id()),
            names: Cell::new(0),
            leftovers: RefCell::default(),
            boot: this_boot()?,
        };
        make_private_dir(&layers.directory)?;
        make_private_dir(&layers.spool)?;
        // Mounts of containers show resolved paths.
        layers.directory = layers.directory.canonicalize()?;
        layers.set_leftovers_aside()?;
        layers.drop_unpacked_spools()?;
        Ok(layers)
    }

    /// Renames what an earlier agent was unpacking: its unpacking process may still be writing there.
    fn set_leftovers_aside(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(PARTIAL) {
                let trash = self.trash();
                fs::rename(&path, &trash)?;
                self.leftovers.borrow_mut().push(trash);
            } else if name.starts_with(REMOVED) {
                self.leftovers.borrow_mut().push(path);
            }
        }
        Ok(())
    }

    /// Removes the spool files of layers that are unpacked. Others are resumed.
    fn drop_unpacked_spools(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.spool)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let diff = name.split_once('.').and_then(|(_, diff)| Digest::from_hex(diff).ok());
            let unpacked = diff.and_then(|diff| self.get(&LayerName::alone(&diff)));
            if unpacked.is_some_and(|layer| !layer.summary.needs_parents) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// A name that nothing has had.
    fn unique(&self) -> String {
        let count = self.names.get();
        self.names.set(count + 1);
        format!("{}-{count}", self.run)
    }

    fn trash(&self) -> PathBuf {
        self.directory.join(format!("{REMOVED}{}", self.unique()))
    }

    /// A completely unpacked layer.
    pub(super) fn get(&self, name: &LayerName) -> Option<Unpacked> {
        let directory = self.path(name);
        let summary = self.note(&directory)?.summary;
        Some(Unpacked { files: directory.join(FILES), summary })
    }

    /// The note that proves that the layer in this directory is whole.
    fn note(&self, directory: &Path) -> Option<Note> {
        let note: Note = serde_json::from_slice(&fs::read(directory.join(SUMMARY)).ok()?).ok()?;
        let its_own = note.layer.as_ref().is_none_or(|layer| directory.ends_with(layer));
        let lasts = note.unsynced_in.as_ref().is_none_or(|boot| *boot == self.boot);
        (its_own && lasts && directory.join(FILES).is_dir()).then_some(note)
    }

    /// Prepares the unpacking of a layer, and returns the directory to make, which is this attempt's own.
    pub(super) async fn begin(&self, name: &LayerName) -> Result<PathBuf, Failure> {
        // A directory without a valid note is useless and would block the rename in `keep`.
        self.remove(name).await?;
        Ok(self.directory.join(format!("{}.{}{PARTIAL}", name.0, self.unique())))
    }

    /// Moves an unpacked layer to its final name. It can be used at once; it is synced to disk in the background.
    pub(super) fn keep(&self, partial: &Path, name: &LayerName, summary: Summary) -> io::Result<Unpacked> {
        fs::set_permissions(partial, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let note = Note { layer: Some(name.0.clone()), summary, unsynced_in: Some(self.boot.clone()) };
        write_note(partial, &note)?;
        let directory = self.path(name);
        fs::rename(partial, &directory)?;
        let unpacked = Unpacked { files: directory.join(FILES), summary: note.summary.clone() };
        sync_later(directory, note);
        Ok(unpacked)
    }

    /// Removes the files of a failed attempt.
    pub(super) async fn give_up(&self, partial: &Path) {
        if let Err(error) = wipe(partial).await {
            tracing::warn!(directory = %partial.display(), %error, "cannot remove a partly unpacked layer");
        }
    }

    /// Removes a layer, if it exists. It is gone for other callers before its files are deleted.
    pub(super) async fn remove(&self, name: &LayerName) -> Result<(), Failure> {
        match self.set_aside(name)? {
            Some(trash) => wipe(&trash).await,
            None => Ok(()),
        }
    }

    /// Renames a layer for removal, atomically; the caller deletes the returned directory. `None` if there is no such
    /// layer.
    pub(super) fn set_aside(&self, name: &LayerName) -> io::Result<Option<PathBuf>> {
        let trash = self.trash();
        match fs::rename(self.path(name), &trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(|()| Some(trash)),
        }
    }

    /// Records that layers are used now.
    pub(super) fn touch(&self, files: &[PathBuf]) {
        for directory in files.iter().filter_map(|files| files.parent()) {
            let touched = File::open(directory).and_then(|file| file.set_modified(SystemTime::now()));
            if let Err(error) = touched {
                tracing::debug!(layer = %directory.display(), %error, "cannot record the use of a layer");
            }
        }
    }

    /// All complete layers, the least recently used first.
    pub(super) fn by_last_use(&self) -> io::Result<Vec<LayerName>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.ends_with(PARTIAL) && !name.starts_with(REMOVED) {
                found.push((entry.metadata()?.modified()?, LayerName(name)));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, name)| name).collect())
    }

    /// The name of the layer whose files these are.
    pub(super) fn name_of(&self, files: &Path) -> Option<LayerName> {
        let name = files.parent()?.strip_prefix(&self.directory).ok()?;
        Some(LayerName(name.to_str()?.to_owned()))
    }

    /// The spool file of a layer's compressed bytes.
    pub(super) fn spool_of(&self, blob: &Digest, diff: &Digest) -> PathBuf {
        self.spool.join(spool_name(blob, diff))
    }

    /// Deletes what an earlier agent left, and completes the syncing of its layers.
    pub(super) async fn tidy(&self) -> Result<(), Failure> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if let Some(note) = self.note(&path).filter(|note| note.unsynced_in.is_some()) {
                sync_later(path, note);
            }
        }
        for leftover in self.leftovers.take() {
            if let Err(error) = wipe(&leftover).await {
                tracing::warn!(directory = %leftover.display(), %error, "cannot remove what an earlier agent left");
            }
        }
        Ok(())
    }

    /// Removes spool files that have not grown for this long, and that are not used.
    pub(super) fn drop_old_spools(&self, age: Duration, used: impl Fn(&str) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.spool)? {
            let entry = entry?;
            let old = entry.metadata()?.modified()?.elapsed().is_ok_and(|idle| idle >= age);
            if old && !used(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes a layer's spool file, if there is one.
    pub(super) fn drop_spool(&self, blob: &Digest, diff: &Digest) -> io::Result<()> {
        match fs::remove_file(self.spool_of(blob, diff)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The directory of all layers.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, name: &LayerName) -> PathBuf {
        self.directory.join(&name.0)
    }
}

#[cfg(test)]
mod tests;
