//! Files and directories of a node's state: private directories, atomically written JSON, and removal.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::removal::remove_tree;

/// Makes a directory that only this user can enter, unless it exists.
pub fn make_private_dir(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Writes a value as a private file, atomically and durably.
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    write_partial(path, value)?.sync_all()?;
    fs::rename(partial(path), path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Writes a value as a private file, atomically but not durably: a crash of the machine loses it together with the
/// container that it is about.
pub fn write_json_fast(path: &Path, value: &impl Serialize) -> io::Result<()> {
    write_partial(path, value)?;
    fs::rename(partial(path), path)
}

fn partial(path: &Path) -> PathBuf {
    path.with_extension("partial")
}

fn write_partial(path: &Path, value: &impl Serialize) -> io::Result<File> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(partial(path))?;
    file.write_all(&serde_json::to_vec(value).map_err(io::Error::other)?)?;
    Ok(file)
}

/// Reads a value, or `None` if there is no file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a directory with its contents, if it exists.
pub(crate) fn wipe(path: &Path) -> io::Result<()> {
    remove_tree(path).map_err(|error| io::Error::other(format!("remove {}: {error}", path.display())))
}
