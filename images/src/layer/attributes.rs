//! The metadata of files: owner, mode, time, extended attributes.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown, fsetxattr, futimens,
    utimensat,
};
use rustix::io::Errno;

use super::archive::Entry;
use super::error::Problem;
use super::pax::Time;
use super::{Owners, Target};

/// Prefix of the extended attributes that are unpacked: any user may set them.
const ALLOWED_XATTRS: &[u8] = b"user.";
/// Except these, which control overlay file systems mounted with `userxattr`.
const OVERLAY_XATTRS: &[u8] = b"user.overlay.";

/// Owner, mode and time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    owner: Option<(u32, u32)>,
    mode: u32,
    mtime: Time,
}

impl Attributes {
    /// The metadata of an entry, if its owners are valid ids.
    pub(super) fn of(entry: &Entry, target: &Target, ids: u32) -> Result<Self, Problem> {
        let owner = owner(entry, ids)?;
        let owner = (target.owners == Owners::Said).then_some(owner);
        Ok(Self { owner, mode: entry.mode, mtime: entry.mtime })
    }

    /// Applies them to a file or directory. The owner first, because chown clears the setuid bit.
    pub(super) fn set(&self, file: &impl AsFd) -> Result<(), Errno> {
        if let Some((uid, gid)) = self.owner {
            fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        fchmod(file, Mode::from_raw_mode(self.mode))?;
        futimens(file, &self.times())
    }

    /// Applies them to a symbolic link, which has no mode.
    pub(super) fn set_link(&self, within: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        if let Some((uid, gid)) = self.owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            chownat(within, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        utimensat(within, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn times(&self) -> Timestamps {
        let time = Timespec { tv_sec: self.mtime.seconds, tv_nsec: self.mtime.nanoseconds.into() };
        Timestamps { last_access: time, last_modification: time }
    }
}

/// Uid and gid of an entry, if a container can have them.
pub(super) fn owner(entry: &Entry, ids: u32) -> Result<(u32, u32), Problem> {
    let id = |id: i64| u32::try_from(id).ok().filter(|id| *id < ids).ok_or(Problem::Owner(id, ids));
    Ok((id(entry.uid)?, id(entry.gid)?))
}

/// Sets the extended attributes of a file or directory, and returns the names of those that were left out.
pub(super) fn set_xattrs<'a>(file: &OwnedFd, entry: &'a Entry) -> Result<Vec<&'a [u8]>, Errno> {
    let mut left_out = Vec::new();
    for (name, value) in &entry.xattrs {
        if !name.starts_with(ALLOWED_XATTRS) || name.starts_with(OVERLAY_XATTRS) {
            left_out.push(name.as_slice());
            continue;
        }
        match fsetxattr(file, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) => {}
            // Not every file system supports them.
            Err(Errno::NOTSUP | Errno::PERM) => left_out.push(name.as_slice()),
            Err(error) => return Err(error),
        }
    }
    Ok(left_out)
}
