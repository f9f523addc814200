//! The key file: read only if no one else can read it, and changed as a whole or not at all.
//!
//! ```text
//! (none) ──init──▶ K1 ──add──▶ K1 K2 ──everything is under K2, durably──keep──▶ K2
//! ```
//!
//! Changes hold a lock on the directory. A new file is synced before it replaces the old one.
//!
//! What fails, and what happens then:
//!
//! * Killed before the rename: nothing has changed; the next change removes the partial file.
//! * The file is missing or others can read it: refused, with the reason.
//! * The file is damaged: refused, and never overwritten.
//! * The disk is full: the partial file is removed, and the change reported as failed.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use berth_store::KeyId;
use nix::fcntl::{Flock, FlockArg, OFlag};
use zeroize::Zeroizing;

use super::keys::{Key, Keys};

/// Name of the file in an edge's state directory.
pub(crate) const DEFAULT_NAME: &str = "secret.key";
/// Its mode: only the owner may read and write.
const MODE: u32 = 0o600;
/// The permissions that group and others must not have.
const OTHERS: u32 = 0o077;
/// Largest file that is read, in bytes: a full one has a tenth of it.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Why a key file was not read or changed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum KeyFileError {
    #[error(
        "there is no key file {}: `berth secret init --key-file {}` makes one; where there was one before, bring it \
         back from its copy instead", .0.display(), .0.display()
    )]
    Missing(PathBuf),
    #[error(
        "the key file {} can be read by others than its owner (mode {mode:o}): `chmod 600 {}` mends it; then see \
         to it that nobody has read it, or have new keys made with `berth secret rotate`", .path.display(), .path.display()
    )]
    Open { path: PathBuf, mode: u32 },
    #[error("the key file {} is damaged: {reason}", .path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("there is a key file {} already, and it is never overwritten: it may be all that reads the secrets", .0.display())]
    Exists(PathBuf),
    #[error("the key file {}: {reason}", .path.display())]
    Io { path: PathBuf, reason: String },
}

/// The path of a key file.
#[derive(Debug, Clone)]
pub(crate) struct KeyFile(PathBuf);

impl KeyFile {
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Reads and parses the file.
    pub(crate) fn read(&self) -> Result<Keys, KeyFileError> {
        let mut file = OpenOptions::new().read(true).open(&self.0).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => KeyFileError::Missing(self.0.clone()),
            _ => self.failed(&error),
        })?;
        let metadata = file.metadata().map_err(|error| self.failed(&error))?;
        let mode = metadata.mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(KeyFileError::Open { path: self.0.clone(), mode });
        }
        if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
            return Err(self.damaged("it is not a key file"));
        }
        let length = usize::try_from(metadata.len()).unwrap_or_default();
        let mut text = Zeroizing::new(String::with_capacity(length + 1));
        (&mut file).take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(|error| self.failed(&error))?;
        Keys::parse(&text).map_err(|reason| self.damaged(&reason))
    }

    /// Creates the file with a first key. If root creates it, it gets the owner of `like`.
    pub(crate) fn init(&self, like: &Path) -> Result<KeyId, KeyFileError> {
        let _lock = self.lock()?;
        let key = self.new_key()?;
        let owner = like.metadata().map_err(|error| self.failed(&error))?;
        let partial = self.write_partial(&Keys::only(key.clone()), (owner.uid(), owner.gid()))?;
        // Unlike a rename, a link never replaces an existing file.
        let linked = fs::hard_link(&partial, &self.0);
        let removed = fs::remove_file(&partial);
        linked.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists(self.0.clone()),
            _ => self.failed(&error),
        })?;
        removed.and_then(|()| self.sync_directory()).map_err(|error| self.failed(&error))?;
        Ok(key.id())
    }

    /// Adds a key, which becomes current.
    pub(crate) fn add(&self) -> Result<KeyId, KeyFileError> {
        let key = self.new_key()?;
        self.change(|keys| keys.and(key.clone()))?;
        Ok(key.id())
    }

    /// Removes all keys but the current one, which must be this one, and those in use. Returns how many.
    pub(crate) fn keep(&self, current: KeyId, in_use: &[KeyId]) -> Result<usize, KeyFileError> {
        let mut dropped = 0;
        self.change(|keys| {
            let (keys, count) = without_surplus(keys, current, in_use)?;
            dropped = count;
            Ok(keys)
        })?;
        Ok(dropped)
    }

    /// How many keys that would remove.
    pub(crate) fn surplus(&self, current: KeyId, in_use: &[KeyId]) -> Result<usize, KeyFileError> {
        let kept = without_surplus(self.read()?, current, in_use);
        kept.map(|(_, count)| count).map_err(|reason| self.failed(&io::Error::other(reason)))
    }

    fn change(&self, change: impl FnOnce(Keys) -> Result<Keys, String>) -> Result<(), KeyFileError> {
        let _lock = self.lock()?;
        let keys = change(self.read()?).map_err(|reason| self.failed(&io::Error::other(reason)))?;
        let owner = self.0.metadata().map_err(|error| self.failed(&error))?;
        let partial = self.write_partial(&keys, (owner.uid(), owner.gid()))?;
        let renamed = fs::rename(partial, &self.0).and_then(|()| self.sync_directory());
        renamed.map_err(|error| self.failed(&error))
    }

    fn write_partial(&self, keys: &Keys, owner: (u32, u32)) -> Result<PathBuf, KeyFileError> {
        let partial = self.partial();
        let write = || {
            match fs::remove_file(&partial) {
                // A partial file of a killed process.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(MODE).custom_flags(OFlag::O_NOFOLLOW.bits());
            let mut file = options.open(&partial)?;
            file.set_permissions(Permissions::from_mode(MODE))?;
            if nix::unistd::geteuid().is_root() {
                fchown(&file, Some(owner.0), Some(owner.1))?;
            }
            file.write_all(keys.text().as_bytes())?;
            file.sync_all()
        };
        write().map(|()| partial.clone()).map_err(|error| {
            // A partial file is of no use, and must not leave keys on disk.
            let _ = fs::remove_file(&partial);
            self.failed(&error)
        })
    }

    fn partial(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.0.file_name().unwrap_or_default());
        name.push(".partial");
        self.0.with_file_name(name)
    }

    /// Prevents concurrent changes.
    fn lock(&self) -> Result<Flock<File>, KeyFileError> {
        let directory = File::open(self.directory()).map_err(|error| {
            let reason = format!("its directory {} cannot be opened: {error}", self.directory().display());
            KeyFileError::Io { path: self.0.clone(), reason }
        })?;
        Flock::lock(directory, FlockArg::LockExclusive).map_err(|(_, error)| self.failed(&error.into()))
    }

    fn directory(&self) -> &Path {
        match self.0.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(self.directory())?.sync_all()
    }

    fn new_key(&self) -> Result<Key, KeyFileError> {
        Key::random().ok_or_else(|| self.failed(&io::Error::other("the system has no random bytes")))
    }

    fn damaged(&self, reason: &str) -> KeyFileError {
        KeyFileError::Damaged { path: self.0.clone(), reason: reason.to_owned() }
    }

    fn failed(&self, error: &io::Error) -> KeyFileError {
        KeyFileError::Io { path: self.0.clone(), reason: error.to_string() }
    }
}

/// The current key, which must be this one, and those in use; and how many others there were.
fn without_surplus(keys: Keys, current: KeyId, in_use: &[KeyId]) -> Result<(Keys, usize), String> {
    let found = keys.current().id();
    if found != current {
        return Err(format!(
            "its current key is {found}, and the edge's is {current}: the edge uses another file, or somebody else \
             changes this one"
        ));
    }
    let before = keys.ids().len();
    let keys = keys.keep(in_use);
    let dropped = before - keys.ids().len();
    Ok((keys, dropped))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temp_key_file() -> (tempfile::TempDir, KeyFile) {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::at(directory.path().join("secret.key"));
        (directory, file)
    }

    #[test]
    fn it_is_created_once_and_only_its_owner_may_read_it() {
        let (directory, file) = temp_key_file();
        assert!(matches!(file.read(), Err(KeyFileError::Missing(_))));
        let id = file.init(directory.path()).unwrap();
        assert_eq!(file.read().unwrap().ids(), [id]);
        assert_eq!(file.path().metadata().unwrap().mode() & 0o777, 0o600);
        let text = fs::read(file.path()).unwrap();
        assert!(matches!(file.init(directory.path()), Err(KeyFileError::Exists(_))));
        assert_eq!(fs::read(file.path()).unwrap(), text);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn created_by_root_it_belongs_to_the_owner_of_the_directory() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let (directory, file) = temp_key_file();
        std::os::unix::fs::chown(directory.path(), Some(12345), Some(12346)).unwrap();
        file.init(directory.path()).unwrap();
        file.add().unwrap();
        let metadata = file.path().metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (12345, 12346, 0o600));
    }

    #[test]
    fn one_that_others_can_read_is_refused() {
        let (directory, file) = temp_key_file();
        file.init(directory.path()).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            let error = file.read().unwrap_err().to_string();
            assert!(error.contains("chmod 600") && error.contains(&format!("{mode:o}")), "{error}");
            assert!(file.add().is_err());
        }
        fs::set_permissions(file.path(), Permissions::from_mode(0o400)).unwrap();
        file.read().unwrap();
    }

    #[test]
    fn keys_are_added_and_dropped() {
        let (directory, file) = temp_key_file();
        let one = file.init(directory.path()).unwrap();
        let (two, three) = (file.add().unwrap(), file.add().unwrap());
        assert_eq!(file.read().unwrap().ids(), [one, two, three]);
        assert!(file.keep(two, &[two]).unwrap_err().to_string().contains("another file"));
        assert_eq!(file.keep(three, &[two]).unwrap(), 1);
        assert_eq!(file.read().unwrap().ids(), [two, three]);
        assert_eq!(file.keep(three, &[]).unwrap(), 1);
        assert_eq!(file.read().unwrap().ids(), [three]);
    }

    /// A change that is killed before the rename has no effect, and its partial file does not disturb later ones.
    #[test]
    fn a_killed_change_has_no_effect() {
        let (directory, file) = temp_key_file();
        fs::write(file.partial(), "half a ke").unwrap();
        let one = file.init(directory.path()).unwrap();
        fs::write(file.partial(), "berth-secret-keys 1\n").unwrap();
        assert_eq!(file.read().unwrap().ids(), [one]);
        // Killed between the link and the removal of the temporary name.
        fs::remove_file(file.partial()).unwrap();
        fs::hard_link(file.path(), file.partial()).unwrap();
        let two = file.add().unwrap();
        assert_eq!(file.read().unwrap().ids(), [one, two]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_directory_is_named_in_the_error() {
        let error = KeyFile::at("/nowhere/at/all/k").init(Path::new("/")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all"), "{error}");
    }
}
