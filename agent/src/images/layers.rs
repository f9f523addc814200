//! Unpacked layers on disk: each in a directory of its own, shared by all images and containers that use it.
//!
//! ```text
//! STATE/layers/DIFF           a layer by the digest of its archive: fs/ and summary.json
//! STATE/layers/chain-CHAIN    one that depends on the layers below it, unpacked onto them, by its chain id
//! STATE/layers/*.partial      one that is being unpacked
//! STATE/layers/removed-*      one that is being removed
//! STATE/images/spool/BLOB.DIFF  the compressed bytes of one that is being fetched
//! ```
//!
//! A directory's modification time is the time of its layer's last use.

use std::cell::Cell;
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

/// The chain id of a layer on top of others, as the OCI image specification defines it.
pub(super) fn chain_of(below: Option<&Digest>, diff: &Digest) -> Digest {
    below.map_or(*diff, |below| Digest::of(format!("{below} {diff}").as_bytes()))
}

/// The metadata file of a layer.
#[derive(Serialize, Deserialize)]
struct Note {
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
fn sync_later(directory: PathBuf, summary: Summary) {
    tokio::task::spawn_blocking(move || match sync(&directory, summary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(layer = %directory.display(), %error, "a layer may have to be fetched again after a crash");
        }
        _ => {}
    });
}

/// Syncs a layer's files and its directory entry to disk, and notes that.
fn sync(directory: &Path, summary: Summary) -> io::Result<()> {
    nix::unistd::syncfs(File::open(directory)?)?;
    write_note(directory, &Note { summary, unsynced_in: None })?;
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
    /// How many layers were renamed for removal, for unique names.
    removed: Cell<u64>,
    /// The boot id of the machine.
    boot: String,
}

impl Layers {
    /// Opens those in a node's state directory.
    pub(super) fn open(state: &Path) -> io::Result<Self> {
        let layers = Self {
            directory: state.join("layers"),
            spool: state.join("images/spool"),
            removed: Cell::new(0),
            boot: this_boot()?,
        };
        make_private_dir(&layers.directory)?;
        make_private_dir(&layers.spool)?;
        // Mounts of containers show resolved paths.
        Ok(Self { directory: layers.directory.canonicalize()?, ..layers })
    }

    /// A completely unpacked layer.
    pub(super) fn get(&self, name: &LayerName) -> Option<Unpacked> {
        let directory = self.path(name);
        let summary = self.note(&directory)?.summary;
        Some(Unpacked { files: directory.join(FILES), summary })
    }

    /// The note of a complete layer.
    fn note(&self, directory: &Path) -> Option<Note> {
        let note: Note = serde_json::from_slice(&fs::read(directory.join(SUMMARY)).ok()?).ok()?;
        note.unsynced_in.as_ref().is_none_or(|boot| *boot == self.boot).then_some(note)
    }

    /// Prepares the unpacking of a layer: removes what earlier attempts left, and returns the target directory.
    pub(super) async fn begin(&self, name: &LayerName) -> Result<PathBuf, Failure> {
        let partial = self.directory.join(format!("{}{PARTIAL}", name.0));
        wipe(&partial).await?;
        // A directory without a valid note is useless and would block the rename in `keep`.
        self.remove(name).await?;
        Ok(partial)
    }

    /// Moves an unpacked layer to its final name. It can be used at once; it is synced to disk in the background.
    pub(super) fn keep(&self, name: &LayerName, summary: Summary) -> io::Result<Unpacked> {
        let partial = self.directory.join(format!("{}{PARTIAL}", name.0));
        fs::set_permissions(&partial, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let note = Note { summary, unsynced_in: Some(self.boot.clone()) };
        write_note(&partial, &note)?;
        let directory = self.path(name);
        fs::rename(&partial, &directory)?;
        sync_later(directory.clone(), note.summary.clone());
        Ok(Unpacked { files: directory.join(FILES), summary: note.summary })
    }

    /// Removes the files of a failed attempt.
    pub(super) async fn give_up(&self, name: &LayerName) {
        let partial = self.directory.join(format!("{}{PARTIAL}", name.0));
        if let Err(error) = wipe(&partial).await {
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
        // Numbered, because an earlier one of the same name may not be deleted yet.
        let count = self.removed.get();
        self.removed.set(count + 1);
        let trash = self.directory.join(format!("{REMOVED}{}-{count}-{}", std::process::id(), name.0));
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
        self.spool.join(format!("{}.{}", blob.hex(), diff.hex()))
    }

    /// Removes what a killed agent left behind, except for spool files that can be resumed. Must run before this agent
    /// uses any of it.
    pub(super) async fn tidy(&self) -> Result<(), Failure> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(PARTIAL) || name.starts_with(REMOVED) {
                wipe(&entry.path()).await?;
            } else if let Some(Note { summary, unsynced_in: Some(_) }) = self.note(&entry.path()) {
                sync_later(entry.path(), summary);
            }
        }
        for entry in fs::read_dir(&self.spool)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let diff =
                name.split_once('.').and_then(|(_, diff)| format!("sha256:{diff}").parse::<Digest>().ok());
            let come = diff.and_then(|diff| self.get(&LayerName::alone(&diff)));
            if come.is_some_and(|layer| !layer.summary.needs_parents) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes spool files that have not grown for this long.
    pub(super) fn drop_old_spools(&self, age: Duration) -> io::Result<()> {
        for entry in fs::read_dir(&self.spool)? {
            let entry = entry?;
            if entry.metadata()?.modified()?.elapsed().is_ok_and(|idle| idle >= age) {
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
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_layer_that_was_not_synced_before_a_crash_of_the_machine_counts_as_missing() {
        let dir = tempfile::tempdir().unwrap();
        make_private_dir(&dir.path().join("images")).unwrap();
        let mut layers = Layers::open(dir.path()).unwrap();
        let name = LayerName::alone(&Digest::of(b"a"));
        let directory = layers.path(&name);
        fs::create_dir_all(&directory).unwrap();
        let unsynced_in = Some(layers.boot.clone());
        write_note(&directory, &Note { summary: Summary::default(), unsynced_in }).unwrap();
        assert!(layers.get(&name).is_some());
        layers.boot = "another".to_owned();
        assert!(layers.get(&name).is_none());
        sync(&directory, Summary::default()).unwrap();
        assert!(layers.get(&name).is_some());
    }

    #[test]
    fn chain_ids_are_those_of_the_image_specification() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(chain_of(None, &a), a);
        assert_eq!(chain_of(Some(&a), &b), Digest::of(format!("{a} {b}").as_bytes()));
    }

    #[tokio::test]
    async fn only_complete_layers_are_listed_the_least_recently_used_first() {
        let dir = tempfile::tempdir().unwrap();
        make_private_dir(&dir.path().join("images")).unwrap();
        let layers = Layers::open(dir.path()).unwrap();
        let names: Vec<LayerName> =
            [&b"a"[..], b"b"].iter().map(|of| LayerName::alone(&Digest::of(of))).collect();
        for (age, name) in [(10, &names[0]), (20, &names[1])] {
            let partial = layers.directory.join(format!("{}{PARTIAL}", name.as_str()));
            fs::create_dir_all(partial.join(FILES)).unwrap();
            assert_eq!(layers.get(name), None);
            layers.keep(name, Summary::default()).unwrap();
            let used = SystemTime::now() - Duration::from_secs(age);
            File::open(layers.path(name)).unwrap().set_modified(used).unwrap();
        }
        assert_eq!(layers.by_last_use().unwrap(), [names[1].clone(), names[0].clone()]);
        let files = layers.get(&names[1]).unwrap().files;
        assert_eq!(layers.name_of(&files), Some(names[1].clone()));
        layers.touch(&[files]);
        assert_eq!(layers.by_last_use().unwrap(), [names[0].clone(), names[1].clone()]);
    }
}
