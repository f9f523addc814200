//! Unpacks entries one after the other. A later one replaces an earlier one of the same name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{FileType, Mode, OFlags, mkdirat, mknodat, openat};
use rustix::io::Errno;

use super::archive::{Archive, CopyError, Entry, Kind};
use super::attributes::{Attributes, owner, set_xattrs};
use super::error::{LayerError, Name, Problem};
use super::own::{Own, Paths};
use super::path::{Clean, Meaning};
use super::sparse::Map;
use super::tree::{self, Directory, Make, Tree};
use super::{Form, Limits, Summary, Target};

/// Most bytes of the paths of directories, which are kept in memory to the end. Large images have some megabytes.
const MAX_DIRECTORY_PATHS_BYTES: usize = 256 << 20;
/// Most notes for people.
const MAX_NOTES: usize = 8;

/// A layer that is being unpacked.
pub(super) struct Unpacker<'a> {
    pub(super) target: &'a Target,
    pub(super) tree: Tree,
    limits: &'a Limits,
    /// In a merged root: the paths of this layer.
    pub(super) own: Own,
    /// Created directories that have had no entry so far.
    undescribed: Paths,
    /// Metadata of directories, applied at the end because unpacking into them changes their times.
    directories: BTreeMap<Clean, Attributes>,
    directory_paths_bytes: usize,
    pub(super) summary: Summary,
}

/// Creates missing directories within the limit of entries.
struct MakeCounted<'a> {
    entries_left: &'a mut u64,
    max_entries: u64,
    undescribed: &'a mut Paths,
}

impl Make for MakeCounted<'_> {
    fn may_make(&mut self) -> Result<bool, Problem> {
        let left = self.entries_left.checked_sub(1).ok_or(Problem::Entries(self.max_entries))?;
        *self.entries_left = left;
        Ok(true)
    }

    fn made(&mut self, path: Clean) {
        self.undescribed.insert(path.bytes());
    }
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(target: &'a Target, limits: &'a Limits) -> Result<Self, LayerError> {
        let root = target.root.try_clone().map_err(LayerError::Target)?;
        Ok(Self {
            target,
            tree: Tree::new(root),
            limits,
            own: Own::default(),
            undescribed: Paths::default(),
            directories: BTreeMap::new(),
            directory_paths_bytes: 0,
            summary: Summary::default(),
        })
    }

    /// Unpacks all entries.
    pub(super) fn run(mut self, archive: &mut Archive<impl BufRead>) -> Result<Summary, LayerError> {
        while let Some(entry) = archive.next()? {
            match self.place(&entry, archive) {
                Ok(()) => {}
                Err(Problem::Layer(error)) => return Err(*error),
                Err(problem) => return Err(LayerError::Entry { name: Name::new(&entry.path), problem }),
            }
        }
        self.finish_directories()?;
        self.summary.needs_parents |= self.target.form == Form::Overlay && !self.undescribed.is_empty();
        Ok(self.summary)
    }

    fn place(&mut self, entry: &Entry, archive: &mut Archive<impl BufRead>) -> Result<(), Problem> {
        let path = Clean::new(&entry.path)?;
        match path.meaning()? {
            Meaning::Content => self.place_content(&path, entry, archive),
            Meaning::Whiteout(hidden) => self.whiteout(&path, hidden, archive),
            Meaning::Opaque => self.opaque(&path, archive),
            Meaning::Bookkeeping => {
                self.leave_out(&path, "is the bookkeeping of a union file system");
                Ok(())
            }
        }
    }

    fn place_content(
        &mut self,
        path: &Clean,
        entry: &Entry,
        archive: &mut Archive<impl BufRead>,
    ) -> Result<(), Problem> {
        let attributes = Attributes::of(entry, self.target, self.limits.ids)?;
        match &entry.kind {
            Kind::Device => {
                self.leave_out(path, "is a device node");
                return Ok(());
            }
            Kind::Other(kind) => return Err(Problem::Kind(*kind)),
            Kind::Directory if path.is_root() => return self.describe_root(entry, attributes),
            _ => {}
        }
        let (parent, name) = path.split().ok_or(Problem::Root)?;
        let Some(parent) = self.parent(&parent, archive)? else { return Ok(()) };
        let real = parent.path.join(name);
        match &entry.kind {
            Kind::Directory => self.place_directory(&parent, name, entry, attributes)?,
            Kind::Symlink => self.place_symlink(&parent, name, entry, attributes)?,
            Kind::Hardlink => self.place_hardlink(&parent, name, entry)?,
            Kind::Fifo => self.place_fifo(&parent, name, entry, attributes)?,
            _ => self.place_file(&parent, name, entry, attributes, archive)?,
        }
        self.remember(&real)
    }

    /// The parent directory of an entry, created if missing.
    pub(super) fn parent(
        &mut self,
        path: &Clean,
        archive: &mut Archive<impl BufRead>,
    ) -> Result<Option<Rc<Directory>>, Problem> {
        let mut make = MakeCounted {
            entries_left: archive.entries_left(),
            max_entries: self.limits.entries,
            undescribed: &mut self.undescribed,
        };
        self.tree.directory(path, &mut make)
    }

    fn remember(&mut self, real: &Clean) -> Result<(), Problem> {
        if self.target.form == Form::Merged {
            self.own.insert(real);
            if self.own.directories() as u64 > self.limits.entries {
                return Err(Problem::Entries(self.limits.entries));
            }
        }
        Ok(())
    }

    fn describe_root(&mut self, entry: &Entry, attributes: Attributes) -> Result<(), Problem> {
        let root = self.tree.root().try_clone()?;
        self.finish_later(Clean::default(), entry, attributes, &root)
    }

    fn place_directory(
        &mut self,
        parent: &Directory,
        name: &[u8],
        entry: &Entry,
        attributes: Attributes,
    ) -> Result<(), Problem> {
        let real = parent.path.join(name);
        let found = match mkdirat(&parent.fd, name, Mode::RWXU) {
            Ok(()) => None,
            Err(Errno::EXIST) => tree::look(&parent.fd, name)?,
            Err(error) => return Err(error.into()),
        };
        let replaces = found.is_some_and(|found| !tree::is_directory(&found));
        if replaces {
            self.remove(parent, name)?;
            mkdirat(&parent.fd, name, Mode::RWXU)?;
        }
        let directory = tree::open_in(&parent.fd, name)?;
        if replaces && self.target.form == Form::Overlay {
            // The replaced whiteout hid the contents of lower layers, which must stay hidden.
            tree::set_opaque(&directory)?;
        }
        self.undescribed.remove(real.bytes());
        self.finish_later(real, entry, attributes, &directory)
    }

    fn finish_later(
        &mut self,
        real: Clean,
        entry: &Entry,
        attributes: Attributes,
        directory: &OwnedFd,
    ) -> Result<(), Problem> {
        self.set_xattrs(&real, directory, entry)?;
        self.summary.directories += 1;
        self.directory_paths_bytes += real.bytes().len();
        if self.directory_paths_bytes > MAX_DIRECTORY_PATHS_BYTES {
            return Err(LayerError::Names(MAX_DIRECTORY_PATHS_BYTES).into());
        }
        self.directories.insert(real, attributes);
        Ok(())
    }

    fn place_file(
        &mut self,
        parent: &Directory,
        name: &[u8],
        entry: &Entry,
        attributes: Attributes,
        archive: &mut Archive<impl BufRead>,
    ) -> Result<(), Problem> {
        self.summary.bytes = self.summary.bytes.saturating_add(entry.size);
        if self.summary.bytes > self.limits.bytes {
            return Err(Problem::Bytes(self.limits.bytes));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            self.replacing(parent, name, || openat(&parent.fd, name, flags, Mode::RUSR | Mode::WUSR))?;
        let mut file = File::from(file);
        match &entry.kind {
            Kind::Sparse(map) => copy_sparse(map, &mut file, archive),
            _ => archive.copy(&mut file),
        }
        .map_err(problem)?;
        let file = OwnedFd::from(file);
        if !entry.xattrs.is_empty() {
            self.set_xattrs(&parent.path.join(name), &file, entry)?;
        }
        attributes.set(&file)?;
        self.summary.files += 1;
        Ok(())
    }

    fn place_fifo(
        &mut self,
        parent: &Directory,
        name: &[u8],
        entry: &Entry,
        attributes: Attributes,
    ) -> Result<(), Problem> {
        let mode = Mode::RUSR | Mode::WUSR;
        self.replacing(parent, name, || mknodat(&parent.fd, name, FileType::Fifo, mode, 0))?;
        // Non-blocking, because opening a FIFO would wait for a peer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fifo = openat(&parent.fd, name, flags, Mode::empty())?;
        self.set_xattrs(&parent.path.join(name), &fifo, entry)?;
        attributes.set(&fifo)?;
        self.summary.files += 1;
        Ok(())
    }

    /// Creates an entry after removing an existing one.
    pub(super) fn replacing<T>(
        &mut self,
        parent: &Directory,
        name: &[u8],
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, Problem> {
        match make() {
            Err(Errno::EXIST) => {
                self.remove(parent, name)?;
                Ok(make()?)
            }
            made => Ok(made?),
        }
    }

    /// Removes an entry with its pending metadata.
    pub(super) fn remove(&mut self, parent: &Directory, name: &[u8]) -> Result<(), Problem> {
        tree::remove(parent.fd.as_fd(), name)?;
        self.tree.forget();
        let real = parent.path.join(name);
        self.undescribed.remove(real.bytes());
        self.directories.remove(&real);
        let first = real.join(b"");
        let below = self.directories.range(first.clone()..).map(|(path, _)| path);
        let below: Vec<Clean> =
            below.take_while(|path| path.bytes().starts_with(first.bytes())).cloned().collect();
        for path in below {
            self.directories.remove(&path);
        }
        Ok(())
    }

    fn set_xattrs(&mut self, path: &Clean, file: &OwnedFd, entry: &Entry) -> Result<(), Problem> {
        for xattr in set_xattrs(file, entry)? {
            self.leave_out_xattr(path, xattr);
        }
        Ok(())
    }

    pub(super) fn leave_out_xattr(&mut self, path: &Clean, xattr: &[u8]) {
        self.leave_out(
            path,
            &format!("has the attribute {}, which containers cannot have", Name::new(xattr)),
        );
    }

    fn leave_out(&mut self, path: &Clean, why: &str) {
        self.summary.left_out += 1;
        if self.summary.notes.len() < MAX_NOTES {
            self.summary.notes.push(format!("{} {why}", path.name()));
        }
    }

    /// Applies the deepest first: a parent may get a mode that denies access.
    fn finish_directories(&self) -> Result<(), LayerError> {
        for (path, attributes) in self.directories.iter().rev() {
            let set = self.tree.open(path).and_then(|directory| attributes.set(&directory));
            set.map_err(|error| LayerError::Entry { name: path.name(), problem: error.into() })?;
        }
        Ok(())
    }
}

/// Finds entries that cannot be placed anywhere.
pub(super) fn check(archive: &mut Archive<impl BufRead>, ids: u32) -> Result<(), LayerError> {
    while let Some(entry) = archive.next()? {
        match check_entry(&entry, ids) {
            Ok(()) => {}
            Err(Problem::Layer(error)) => return Err(*error),
            Err(problem) => return Err(LayerError::Entry { name: Name::new(&entry.path), problem }),
        }
    }
    Ok(())
}

fn check_entry(entry: &Entry, ids: u32) -> Result<(), Problem> {
    if !matches!(Clean::new(&entry.path)?.meaning()?, Meaning::Content) {
        return Ok(());
    }
    owner(entry, ids)?;
    if let Kind::Other(kind) = entry.kind { Err(Problem::Kind(kind)) } else { Ok(()) }
}

fn copy_sparse(map: &Map, file: &mut File, archive: &mut Archive<impl BufRead>) -> Result<(), CopyError> {
    for piece in &map.pieces {
        file.seek(SeekFrom::Start(piece.offset)).map_err(CopyError::Write)?;
        archive.copy_some(piece.length, file)?;
    }
    file.set_len(map.size).map_err(CopyError::Write)
}

fn problem(error: CopyError) -> Problem {
    match error {
        CopyError::Layer(error) => error.into(),
        CopyError::Write(error) => error.into(),
    }
}
