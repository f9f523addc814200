//! Makes durable what others have made: sled syncs its log, but neither its settings nor the name of any file, and a file
//! that has no name after a loss of power is lost with all that was synced in it.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Syncs all files and names below a directory, and the directory's own name.
pub(super) fn sync_with_name(directory: &Path) -> io::Result<()> {
    sync_below(directory)?;
    directory.parent().map_or(Ok(()), sync_names)
}

/// Syncs all files and names below a directory.
pub(super) fn sync_below(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => sync_below(&entry.path())?,
            kind if kind.is_file() => sync_file(&entry.path())?,
            _ => {}
        }
    }
    sync_names(directory)
}

/// Syncs the names in a directory.
pub(super) fn sync_names(directory: &Path) -> io::Result<()> {
    // The parent of a relative path may be the empty one.
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory)?.sync_all()
}

fn sync_file(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => file.sync_all(),
        // sled replaces files of large pages at any time.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
