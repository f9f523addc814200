//! The directory that a layer is unpacked into. Paths are resolved component by component without ever leaving it:
//! symbolic links are resolved here as if the directory were the root of the system, and never by the kernel.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, mkdirat, openat, openat2, readlinkat, statat,
    unlinkat,
};
use rustix::io::Errno;

use super::error::Problem;
use super::path::{Clean, MAX_DEPTH};

/// Most symbolic links in the resolution of one path: the kernel's limit.
const MAX_LINKS: usize = 40;
/// Flags to open directories during resolution.
const PASS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Flags to open directories to read and change them.
const USE: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Flags to open a path without links in one step.
const PLAIN: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// A resolved directory.
#[derive(Debug)]
pub(super) struct Directory {
    /// Its real path, without links.
    pub(super) path: Clean,
    /// Its descriptor, opened with `O_PATH`: for `*at` calls only.
    pub(super) fd: OwnedFd,
}

/// The root directory of a layer.
pub(super) struct Tree {
    root: OwnedFd,
    /// Cache of the last resolved directory, since archives are ordered by directory.
    last: Option<(Clean, Rc<Directory>)>,
}

/// Whether missing directories are created during resolution.
pub(super) trait Make {
    /// Whether a missing directory may be created. If so, it is created and reported by [`Make::made`].
    fn may_make(&mut self) -> Result<bool, Problem>;
    /// Called for each created directory.
    fn made(&mut self, path: Clean);
}

/// Creates nothing.
pub(super) struct MakeNothing;

impl Make for MakeNothing {
    fn may_make(&mut self) -> Result<bool, Problem> {
        Ok(false)
    }
    fn made(&mut self, _: Clean) {}
}

impl Tree {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root, last: None }
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Drops the cache, because something was removed.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// Resolves a directory. `None` if it is missing and may not be created.
    pub(super) fn directory(
        &mut self,
        path: &Clean,
        make: &mut impl Make,
    ) -> Result<Option<Rc<Directory>>, Problem> {
        if let Some((last, found)) = &self.last
            && last == path
        {
            return Ok(Some(found.clone()));
        }
        let found = match self.open_plain(path, PASS) {
            Ok(fd) => Some(Directory { path: path.clone(), fd }),
            Err(_) => self.walk(path, make)?,
        };
        let found = found.map(Rc::new);
        self.last = found.clone().map(|found| (path.clone(), found));
        Ok(found)
    }

    /// Opens a directory to read and change it, if the path leads to one without any link.
    pub(super) fn open(&self, path: &Clean) -> Result<OwnedFd, Errno> {
        self.open_plain(path, USE)
    }

    fn open_plain(&self, path: &Clean, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_root() { b"." } else { path.bytes() };
        openat2(&self.root, path, flags, Mode::empty(), PLAIN)
    }

    fn walk(&self, path: &Clean, make: &mut impl Make) -> Result<Option<Directory>, Problem> {
        let mut walk = Walk { tree: self, above: Vec::new(), links: 0 };
        let mut to_go: Vec<Vec<u8>> = path.parts().rev().map(<[u8]>::to_vec).collect();
        while let Some(name) = to_go.pop() {
            match name.as_slice() {
                b"" | b"." => {}
                b".." => drop(walk.above.pop()),
                name => match walk.step(name, make)? {
                    Step::Entered => {}
                    Step::Missing => return Ok(None),
                    Step::Link(target) => {
                        if target.starts_with(b"/") {
                            walk.above.clear();
                        }
                        to_go.extend(target.rsplit(|byte| *byte == b'/').map(<[u8]>::to_vec));
                    }
                },
            }
        }
        walk.end().map(Some)
    }
}

/// A resolution in progress: the ancestors, each with its name.
struct Walk<'a> {
    tree: &'a Tree,
    above: Vec<(Vec<u8>, OwnedFd)>,
    links: usize,
}

enum Step {
    Entered,
    Missing,
    Link(Vec<u8>),
}

impl Walk<'_> {
    fn here(&self) -> &OwnedFd {
        self.above.last().map_or(&self.tree.root, |(_, fd)| fd)
    }

    fn path(&self) -> Clean {
        Clean::of_parts(&self.above.iter().map(|(name, _)| name.as_slice()).collect::<Vec<_>>())
    }

    fn step(&mut self, name: &[u8], make: &mut impl Make) -> Result<Step, Problem> {
        if self.above.len() == MAX_DEPTH {
            return Err(Problem::TooDeep(MAX_DEPTH));
        }
        match openat(self.here(), name, PASS, Mode::empty()) {
            Ok(fd) => self.above.push((name.to_vec(), fd)),
            Err(Errno::NOENT) => return self.make(name, make),
            Err(Errno::NOTDIR | Errno::LOOP) => return self.follow(name, make),
            Err(error) => return Err(error.into()),
        }
        Ok(Step::Entered)
    }

    fn make(&mut self, name: &[u8], make: &mut impl Make) -> Result<Step, Problem> {
        if !make.may_make()? {
            return Ok(Step::Missing);
        }
        make_directory(self.here(), name)?;
        self.above.push((name.to_vec(), openat(self.here(), name, PASS, Mode::empty())?));
        make.made(self.path());
        Ok(Step::Entered)
    }

    /// The target, if it is a symbolic link. A whiteout is replaced by an opaque directory.
    fn follow(&mut self, name: &[u8], make: &mut impl Make) -> Result<Step, Problem> {
        match readlinkat(self.here(), name, Vec::new()) {
            Ok(target) if self.links < MAX_LINKS => {
                self.links += 1;
                Ok(Step::Link(target.into_bytes()))
            }
            Ok(_) => Err(Errno::LOOP.into()),
            Err(Errno::INVAL) if is_whiteout(&statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW)?) => {
                if !make.may_make()? {
                    return Ok(Step::Missing);
                }
                unlinkat(self.here(), name, AtFlags::empty())?;
                make_directory(self.here(), name)?;
                set_opaque(&openat(self.here(), name, USE, Mode::empty())?)?;
                self.above.push((name.to_vec(), openat(self.here(), name, PASS, Mode::empty())?));
                make.made(self.path());
                Ok(Step::Entered)
            }
            Err(Errno::INVAL) => Err(Problem::NotADirectory(self.path().join(name).name())),
            Err(error) => Err(error.into()),
        }
    }

    fn end(mut self) -> Result<Directory, Problem> {
        let path = self.path();
        let fd = match self.above.pop() {
            Some((_, fd)) => fd,
            None => openat(&self.tree.root, c".", PASS, Mode::empty())?,
        };
        Ok(Directory { path, fd })
    }
}

/// Creates a directory that the layer has no entry for, with the usual mode.
fn make_directory(within: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    mkdirat(within, name, Mode::from_raw_mode(0o755))
}

/// Opens a directory in another, to read and change it.
pub(super) fn open_in(within: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(within, name, USE, Mode::empty())
}

/// The metadata of a name, without following links.
pub(super) fn look(within: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match statat(within, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn is_directory(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Directory
}

/// Whether it is an overlay's whiteout: a character device 0/0.
pub(super) fn is_whiteout(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && found.st_rdev == 0
}

/// Makes a directory opaque: it hides its contents in lower layers.
pub(super) fn set_opaque(directory: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::fsetxattr(directory, c"user.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
}

/// Names in a directory.
pub(super) fn names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes a name recursively without following links. A missing one is no error.
pub(super) fn remove(within: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match unlinkat(within, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error),
    }
    let directory = open_in(within, name)?;
    for inside in names(&directory)? {
        remove(directory.as_fd(), &inside)?;
    }
    unlinkat(within, name, AtFlags::REMOVEDIR)
}
