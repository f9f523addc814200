//! Removes a tree that somebody else has made, however deep and wide it is, with few descriptors and little memory.
//!
//! ```text
//!           an entry                     no entry left            nothing left below the top
//!  scan ──┬────────▶ file: unlink           │                              │
//!    ▲    ├────────▶ directory, depth < 32: open it, scan it               ▼
//!    │    └────────▶ directory, depth = 32: move it up to the top        done
//!    └──────── the top is scanned again, as long as a scan has removed or moved something ──▶ else: the last error
//! ```
//!
//! A recursion would hold one descriptor for each level and end with the first tree that is deeper than their limit; here a
//! tree is cut into pieces that are moved up to its top. What fails does not end the scan: whatever can be removed is. On a
//! full disk a move may fail until other entries are gone, so the next scan tries again.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;

/// Directories that are open at once, in descriptors: deep enough that ordinary trees are removed without a move, and few
/// against the limit of 1,024 that a process starts with.
const MAX_OPEN: usize = 32;

/// Removes a directory and all below, or a file; nothing is done where there is nothing.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_encoded_bytes())?;
    match open_directory(CWD, &name) {
        Ok(top) => Removal::new(top).run()?,
        Err(Errno::NOENT) => return Ok(()),
        // A file, or a symbolic link, which is not followed.
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(unlinkat(CWD, path, AtFlags::empty())?),
        Err(error) => return Err(error.into()),
    }
    Ok(unlinkat(CWD, path, AtFlags::REMOVEDIR)?)
}

fn open_directory(parent: impl AsFd, name: &CStr) -> Result<Dir, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Dir::new(openat(parent, name, flags, Mode::empty())?)
}

/// A directory that is being scanned, and its name in the one above.
struct Level {
    directory: Dir,
    name: CString,
}

struct Removal {
    top: Dir,
    /// Below the top, from there down.
    levels: Vec<Level>,
    /// Entries that this scan has removed or moved.
    progress: u64,
    /// Number of the next name at the top.
    moved: u64,
    /// What this scan could not do, the last of it.
    failed: Option<Errno>,
}

impl Removal {
    fn new(top: Dir) -> Self {
        Self { top, levels: Vec::new(), progress: 0, moved: 0, failed: None }
    }

    fn run(&mut self) -> io::Result<()> {
        loop {
            self.progress = 0;
            self.failed = None;
            let entries = self.scan()?;
            match self.failed {
                None if entries == 0 => return Ok(()),
                Some(error) if self.progress == 0 => return Err(error.into()),
                _ => {}
            }
        }
    }

    /// Goes through the tree once, and tells how many entries the top had.
    fn scan(&mut self) -> io::Result<u64> {
        // A new description: an old one need not show what was moved here meanwhile.
        self.top = open_directory(self.top.fd()?, c".")?;
        let mut at_top = 0;
        loop {
            let level = self.levels.last_mut().map_or(&mut self.top, |level| &mut level.directory);
            match next_entry(level) {
                Ok(Some((name, kind))) => {
                    at_top += u64::from(self.levels.is_empty());
                    self.entry(name, kind);
                }
                Ok(None) if self.levels.is_empty() => return Ok(at_top),
                Ok(None) => self.leave(),
                Err(error) => {
                    self.failed = Some(error);
                    if self.levels.pop().is_none() {
                        return Err(error.into());
                    }
                }
            }
        }
    }

    /// The directory that is being scanned.
    fn current(&self) -> &Dir {
        self.levels.last().map_or(&self.top, |level| &level.directory)
    }

    fn entry(&mut self, name: CString, kind: FileType) {
        let done = match kind {
            FileType::Directory => self.enter(name),
            // A file system that does not tell kinds: opening tells.
            FileType::Unknown => match self.enter(name.clone()) {
                Err(Errno::NOTDIR | Errno::LOOP) => self.unlink(&name),
                other => other,
            },
            _ => self.unlink(&name),
        };
        if let Err(error) = done {
            self.failed = Some(error);
        }
    }

    fn unlink(&mut self, name: &CStr) -> Result<(), Errno> {
        unlinkat(self.current().fd()?, name, AtFlags::empty())?;
        self.progress += 1;
        Ok(())
    }

    fn enter(&mut self, name: CString) -> Result<(), Errno> {
        if self.levels.len() == MAX_OPEN {
            return self.move_up(&name);
        }
        let directory = open_directory(self.current().fd()?, &name)?;
        self.levels.push(Level { directory, name });
        Ok(())
    }

    /// Gives a directory a name at the top that is free there.
    fn move_up(&mut self, name: &CStr) -> Result<(), Errno> {
        loop {
            let free = format!("removed-{}", self.moved);
            self.moved += 1;
            match renameat(self.current().fd()?, name, self.top.fd()?, free.as_str()) {
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                done => {
                    self.progress += u64::from(done.is_ok());
                    return done;
                }
            }
        }
    }

    /// The directory at the bottom has no entry left, unless one could not be removed.
    fn leave(&mut self) {
        let Some(Level { name, .. }) = self.levels.pop() else { return };
        let removed = self.current().fd().and_then(|parent| unlinkat(parent, &name, AtFlags::REMOVEDIR));
        match removed {
            Ok(()) => self.progress += 1,
            // Why is known already; or a scan that removes has passed an entry over, and the next one finds it.
            Err(Errno::NOTEMPTY) => {
                self.failed.get_or_insert(Errno::NOTEMPTY);
            }
            Err(error) => self.failed = Some(error),
        }
    }
}

fn next_entry(directory: &mut Dir) -> Result<Option<(CString, FileType)>, Errno> {
    while let Some(entry) = directory.read() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            return Ok(Some((name.to_owned(), entry.file_type())));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::mkdirat;

    use super::*;

    /// Makes a chain of directories below this one, as deep as this, with a file in the last.
    fn chain(top: &Path, levels: u32) {
        let name = CString::new(top.as_os_str().as_encoded_bytes()).unwrap();
        let mut at = open_directory(CWD, &name).unwrap();
        for _ in 0..levels {
            mkdirat(at.fd().unwrap(), "d", Mode::RWXU).unwrap();
            at = open_directory(at.fd().unwrap(), c"d").unwrap();
        }
        drop(openat(at.fd().unwrap(), "file", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap());
    }

    #[test]
    fn a_tree_that_is_deeper_than_there_are_descriptors_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().join("top");
        fs::create_dir(&top).unwrap();
        chain(&top, 1_200);
        remove_tree(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn names_that_are_taken_at_the_top_are_no_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().join("top");
        fs::create_dir(&top).unwrap();
        fs::write(top.join("removed-0"), "").unwrap();
        fs::create_dir_all(top.join("removed-1/full")).unwrap();
        fs::create_dir(top.join("removed-2")).unwrap();
        chain(&top, 100);
        remove_tree(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (top, outside) = (directory.path().join("top"), directory.path().join("outside"));
        fs::create_dir(&top).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        symlink(&outside, top.join("link")).unwrap();
        remove_tree(&top).unwrap();
        assert!(!top.exists() && outside.join("kept").exists());
    }

    #[test]
    fn a_link_or_a_file_in_the_place_of_the_tree_goes_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (link, file) = (directory.path().join("link"), directory.path().join("file"));
        fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        remove_tree(&link).unwrap();
        assert!(file.exists() && fs::symlink_metadata(&link).is_err());
        remove_tree(&file).unwrap();
        remove_tree(&file).unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn a_wide_tree_goes_too() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().join("top");
        for index in 0..300 {
            let inner = top.join(format!("{index}/inner"));
            fs::create_dir_all(&inner).unwrap();
            (0..10).for_each(|file| fs::write(inner.join(file.to_string()), "x").unwrap());
        }
        remove_tree(&top).unwrap();
        assert!(!top.exists());
    }
}
