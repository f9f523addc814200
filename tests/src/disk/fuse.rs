//! Serves a disk's tree to the kernel.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nix::errno::Errno as Code;

use super::Disk;
use super::content::{Content, PAGE_BYTES};
use super::tree::{Access, Directory, Kind, Tree};

/// How long the kernel may cache attributes and entries: not at all.
const CACHE_TTL: Duration = Duration::ZERO;
/// The reported size of the disk, in pages: 4 GiB, all of them free.
const PAGES: u64 = 1 << 20;
/// Longest name, in bytes, as everywhere.
const MAX_NAME_BYTES: u32 = 255;
/// Size in bytes of the blocks in which files' sizes are reported.
const BLOCK_BYTES: u64 = 512;

pub(super) struct Server {
    disk: Disk,
}

impl Server {
    pub(super) fn of(disk: Disk) -> Self {
        Self { disk }
    }

    fn make(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        kind: Kind,
        mode: u32,
    ) -> Result<FileAttr, Code> {
        // The kernel has taken the umask off already.
        let access = Access { mode: permissions(mode), uid: request.uid(), gid: request.gid() };
        let mut tree = self.disk.tree();
        let number = tree.make(parent.0, name, kind, access)?;
        attributes(&tree, number)
    }
}

fn permissions(mode: u32) -> u16 {
    // Masked: it fits.
    u16::try_from(mode & 0o7777).unwrap_or_default()
}

fn errno(code: Code) -> Errno {
    Errno::from(std::io::Error::from(code))
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn kind_of(kind: &Kind) -> FileType {
    match kind {
        Kind::File(_) => FileType::RegularFile,
        Kind::Directory(_) => FileType::Directory,
        Kind::Socket => FileType::Socket,
    }
}

fn attributes(tree: &Tree, number: u64) -> Result<FileAttr, Code> {
    let node = tree.node(number)?;
    let size = if let Kind::File(content) = &node.kind { content.len() } else { 0 };
    Ok(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(BLOCK_BYTES),
        atime: node.changed,
        mtime: node.changed,
        ctime: node.changed,
        crtime: node.changed,
        kind: kind_of(&node.kind),
        perm: node.access.mode,
        nlink: 1,
        uid: node.access.uid,
        gid: node.access.gid,
        rdev: 0,
        blksize: u32::try_from(PAGE_BYTES).unwrap_or_default(),
        flags: 0,
    })
}

fn answer(reply: ReplyEmpty, result: Result<(), Code>) {
    match result {
        Ok(()) => reply.ok(),
        Err(code) => reply.error(errno(code)),
    }
}

fn answer_entry(reply: ReplyEntry, result: Result<FileAttr, Code>) {
    match result {
        Ok(attributes) => reply.entry(&CACHE_TTL, &attributes, Generation(0)),
        Err(code) => reply.error(errno(code)),
    }
}

impl Filesystem for Server {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let tree = self.disk.tree();
        answer_entry(reply, tree.find(parent.0, name).and_then(|number| attributes(&tree, number)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attributes(&self.disk.tree(), ino.0) {
            Ok(attributes) => reply.attr(&CACHE_TTL, &attributes),
            Err(code) => reply.error(errno(code)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = |tree: &mut Tree| {
            let access = &mut tree.change(ino.0)?.access;
            access.mode = mode.map_or(access.mode, permissions);
            access.uid = uid.unwrap_or(access.uid);
            access.gid = gid.unwrap_or(access.gid);
            if let Some(size) = size {
                tree.content(ino.0)?.resize(usize_of(size));
            }
            attributes(tree, ino.0)
        };
        match set(&mut self.disk.tree()) {
            Ok(attributes) => reply.attr(&CACHE_TTL, &attributes),
            Err(code) => reply.error(errno(code)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let kind = match mode & file_type::MASK {
            file_type::FILE => Ok(Kind::File(Content::default())),
            file_type::SOCKET => Ok(Kind::Socket),
            _ => Err(Code::EPERM),
        };
        answer_entry(reply, kind.and_then(|kind| self.make(request, parent, name, kind, mode)));
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        answer_entry(reply, self.make(request, parent, name, Kind::Directory(Directory::default()), mode));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.make(request, parent, name, Kind::File(Content::default()), mode) {
            Ok(attributes) => {
                reply.created(&CACHE_TTL, &attributes, Generation(0), FileHandle(0), FopenFlags::empty());
            }
            Err(code) => reply.error(errno(code)),
        }
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut tree = self.disk.tree();
        let linked = tree.link(ino.0, parent.0, name);
        answer_entry(reply, linked.and_then(|()| attributes(&tree, ino.0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.disk.tree().remove(parent.0, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.disk.tree().remove(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = ((parent.0, name), (new_parent.0, new_name));
        let mut tree = self.disk.tree();
        let renamed = if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            tree.exchange(from, to)
        } else {
            tree.rename(from, to, !flags.contains(RenameFlags::RENAME_NOREPLACE))
        };
        answer(reply, renamed);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk.tree().content(ino.0) {
            Ok(content) => reply.data(content.read(usize_of(offset), usize_of(size.into()))),
            Err(code) => reply.error(errno(code)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut tree = self.disk.tree();
        let written = tree.content(ino.0).map(|content| content.write(usize_of(offset), data));
        match written.and_then(|()| tree.change(ino.0).map(drop)) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(code) => reply.error(errno(code)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.disk.tree().sync(ino.0));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.disk.tree().sync(ino.0));
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let tree = self.disk.tree();
        let directory = match tree.directory(ino.0) {
            Ok(directory) => directory,
            Err(code) => return reply.error(errno(code)),
        };
        // The offset is a node's number, which stays the same while others are added and removed.
        let mut entries: Vec<_> = directory.names.iter().map(|(name, number)| (*number, name)).collect();
        entries.sort_unstable();
        for (number, name) in entries.into_iter().filter(|(number, _)| *number > offset) {
            let kind = tree.node(number).map_or(FileType::RegularFile, |node| kind_of(&node.kind));
            if reply.add(INodeNo(number), number, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let page = u32::try_from(PAGE_BYTES).unwrap_or_default();
        reply.statfs(PAGES, PAGES, PAGES, PAGES, PAGES, page, MAX_NAME_BYTES, page);
    }
}

/// The file type, from the upper bits of a mode.
mod file_type {
    use nix::sys::stat::SFlag;

    pub(super) const MASK: u32 = SFlag::S_IFMT.bits();
    pub(super) const FILE: u32 = SFlag::S_IFREG.bits();
    pub(super) const SOCKET: u32 = SFlag::S_IFSOCK.bits();
}
