//! Unpacked layers on disk: each in a directory of its own, shared by all images and containers that have it.
//!
//! ```text
//! STATE/layers/DIFF           a layer by the digest of its archive: fs/ and summary.json
//! STATE/layers/chain-CHAIN    one that cannot stand alone, unpacked onto those below it, by the chain of their digests
//! STATE/layers/*.partial      one that is being unpacked
//! STATE/layers/removed-*      one that is being removed
//! STATE/images/spool/BLOB.DIFF  the compressed bytes of one that is on its way
//! ```
//!
//! The time of a directory's last change says when its layer was used last.

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
    /// That of a layer that stands alone.
    pub(super) fn alone(diff: &Digest) -> Self {
        Self(diff.hex())
    }

    /// That of one that was unpacked onto others.
    pub(super) fn chained(chain: &Digest) -> Self {
        Self(format!("chain-{}", chain.hex()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The chain of a layer that lies on others: a digest of all of them.
pub(super) fn chain_of(below: Option<&Digest>, diff: &Digest) -> Digest {
    below.map_or(*diff, |below| Digest::of(format!("{below} {diff}").as_bytes()))
}

/// What is written of a layer beside it.
#[derive(Serialize, Deserialize)]
struct Note {
    #[serde(flatten)]
    summary: Summary,
    /// The boot of the machine in which it was unpacked, while its files may not be on the disk: after a crash of the machine
    /// nobody knows what is in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unsynced_in: Option<String>,
}

/// Writes a note whole or not at all, and durably where it says that the layer is.
fn write_note(directory: &Path, note: &Note) -> io::Result<()> {
    let partial = directory.join(NOTE_PARTIAL);
    let file = File::create(&partial)?;
    serde_json::to_writer(&file, note)?;
    if note.unsynced_in.is_none() {
        file.sync_all()?;
    }
    fs::rename(partial, directory.join(SUMMARY))
}

/// The same, on a thread that may wait for the disk. One that was removed meanwhile needs it no more.
fn settle_later(directory: PathBuf, summary: Summary) {
    tokio::task::spawn_blocking(move || match settle(&directory, summary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(layer = %directory.display(), %error, "a layer may have to be fetched again after a crash");
        }
        _ => {}
    });
}

/// Has a layer's files, and its place, on the disk, and notes that.
fn settle(directory: &Path, summary: Summary) -> io::Result<()> {
    nix::unistd::syncfs(File::open(directory)?)?;
    write_note(directory, &Note { summary, unsynced_in: None })?;
    File::open(directory)?.sync_all()
}

/// What this boot of the machine is called.
fn this_boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// A layer that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// Its files.
    pub(super) files: PathBuf,
    pub(super) summary: Summary,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Layers {
    directory: PathBuf,
    spool: PathBuf,
    /// How many layers were set aside.
    removed: Cell<u64>,
    /// Which boot of the machine this is.
    boot: String,
}

impl Layers {
    /// Those in a node's state directory.
    pub(super) fn open(state: &Path) -> io::Result<Self> {
        let layers = Self {
            directory: state.join("layers"),
            spool: state.join("images/spool"),
            removed: Cell::new(0),
            boot: this_boot()?,
        };
        make_private_dir(&layers.directory)?;
        make_private_dir(&layers.spool)?;
        // Mounts of containers name the layers by where they really are.
        Ok(Self { directory: layers.directory.canonicalize()?, ..layers })
    }

    /// A layer that is there whole.
    pub(super) fn get(&self, name: &LayerName) -> Option<Unpacked> {
        let directory = self.path(name);
        let summary = self.note(&directory)?.summary;
        Some(Unpacked { files: directory.join(FILES), summary })
    }

    /// What is noted of a layer of which all is there.
    fn note(&self, directory: &Path) -> Option<Note> {
        let note: Note = serde_json::from_slice(&fs::read(directory.join(SUMMARY)).ok()?).ok()?;
        note.unsynced_in.as_ref().is_none_or(|boot| *boot == self.boot).then_some(note)
    }

    /// Where one is unpacked that is not there yet: nothing is left of earlier attempts.
    pub(super) async fn begin(&self, name: &LayerName) -> Result<PathBuf, Failure> {
        let partial = self.directory.join(format!("{}{PARTIAL}", name.0));
        wipe(&partial).await?;
        // One without its summary is of no use, and would stand in the way.
        self.remove(name).await?;
        Ok(partial)
    }

    /// Puts one to its place that was unpacked. It can be used at once; that it is on the disk follows by itself.
    pub(super) fn keep(&self, name: &LayerName, summary: Summary) -> io::Result<Unpacked> {
        let partial = self.directory.join(format!("{}{PARTIAL}", name.0));
        fs::set_permissions(&partial, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let note = Note { summary, unsynced_in: Some(self.boot.clone()) };
        write_note(&partial, &note)?;
        let place = self.path(name);
        fs::rename(&partial, &place)?;
        settle_later(place.clone(), note.summary.clone());
        Ok(Unpacked { files: place.join(FILES), summary: note.summary })
    }

    /// Removes what came of an attempt that failed.
    pub(super) async fn give_up(&self, name: &LayerName) {
        let partial = self.directory.join(format!("{}{PARTIAL}", name.0));
        if let Err(error) = wipe(&partial).await {
            tracing::warn!(directory = %partial.display(), %error, "cannot remove a layer that was not unpacked");
        }
    }

    /// Removes a layer, if it is there. From its first moment on it is not.
    pub(super) async fn remove(&self, name: &LayerName) -> Result<(), Failure> {
        match self.set_aside(name)? {
            Some(trash) => wipe(&trash).await,
            None => Ok(()),
        }
    }

    /// Takes a layer away in one step; what is left is to be wiped. None where it is not there.
    pub(super) fn set_aside(&self, name: &LayerName) -> io::Result<Option<PathBuf>> {
        // A number, because what was set aside before may not be wiped yet.
        let count = self.removed.get();
        self.removed.set(count + 1);
        let trash = self.directory.join(format!("{REMOVED}{}-{count}-{}", std::process::id(), name.0));
        match fs::rename(self.path(name), &trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(|()| Some(trash)),
        }
    }

    /// Notes that layers are used.
    pub(super) fn touch(&self, files: &[PathBuf]) {
        for directory in files.iter().filter_map(|files| files.parent()) {
            let touched = File::open(directory).and_then(|file| file.set_modified(SystemTime::now()));
            if let Err(error) = touched {
                tracing::debug!(layer = %directory.display(), %error, "cannot note that a layer is used");
            }
        }
    }

    /// All that are there whole, the one first that was used least recently.
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

    /// Where the compressed bytes of a layer come in.
    pub(super) fn spool_of(&self, blob: &Digest, diff: &Digest) -> PathBuf {
        self.spool.join(format!("{}.{}", blob.hex(), diff.hex()))
    }

    /// Removes what an agent has left that was killed, but for layers that were on their way and can go on. None of it is
    /// in use by this one.
    pub(super) async fn tidy(&self) -> Result<(), Failure> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(PARTIAL) || name.starts_with(REMOVED) {
                wipe(&entry.path()).await?;
            } else if let Some(Note { summary, unsynced_in: Some(_) }) = self.note(&entry.path()) {
                settle_later(entry.path(), summary);
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

    /// Removes the bytes of layers that have not come any further for so long.
    pub(super) fn drop_old_spools(&self, age: Duration) -> io::Result<()> {
        for entry in fs::read_dir(&self.spool)? {
            let entry = entry?;
            if entry.metadata()?.modified()?.elapsed().is_ok_and(|idle| idle >= age) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes what is left of the compressed bytes of a layer.
    pub(super) fn drop_spool(&self, blob: &Digest, diff: &Digest) -> io::Result<()> {
        match fs::remove_file(self.spool_of(blob, diff)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The directory that all are in.
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
    async fn a_layer_that_a_crash_of_the_machine_may_have_damaged_is_not_there() {
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
        settle(&directory, Summary::default()).unwrap();
        assert!(layers.get(&name).is_some());
    }

    #[test]
    fn chains_are_as_the_image_specification_has_them() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(chain_of(None, &a), a);
        assert_eq!(chain_of(Some(&a), &b), Digest::of(format!("{a} {b}").as_bytes()));
    }

    #[tokio::test]
    async fn only_whole_layers_are_there_and_the_least_used_comes_first() {
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
