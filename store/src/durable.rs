//! Makes files durable that others have written: sled syncs its log, but neither its settings nor the directory entry
//! of any file; a file without a durable entry is lost in a power failure, even if its content was synced.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Syncs all files and directory entries below a directory, and the directory's own entry.
pub(super) fn sync_with_name(directory: &Path) -> io::Result<()> {
    sync_below(directory)?;
    directory.parent().map_or(Ok(()), sync_names)
}

/// Syncs all files and directory entries below a directory.
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

/// Syncs the entries of a directory.
pub(super) fn sync_names(directory: &Path) -> io::Result<()> {
    // The parent of a relative path may be empty.
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory)?.sync_all()
}

fn sync_file(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => file.sync_all(),
        // sled may replace files of large pages at any time.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
