//! Creates links. Symbolic ones are created unchanged, whatever their target; hard ones only link to files in the
//! directory.

use rustix::fs::{AtFlags, linkat, symlinkat};

use super::Form;
use super::archive::Entry;
use super::attributes::Attributes;
use super::error::Problem;
use super::path::{Clean, MAX_PATH_BYTES};
use super::tree::{self, Directory, MakeNothing};
use super::unpacker::Unpacker;

impl Unpacker<'_> {
    pub(super) fn place_symlink(
        &mut self,
        parent: &Directory,
        name: &[u8],
        entry: &Entry,
        attributes: Attributes,
    ) -> Result<(), Problem> {
        if entry.link.len() > MAX_PATH_BYTES {
            return Err(Problem::TooLong(MAX_PATH_BYTES));
        }
        if entry.link.contains(&0) {
            return Err(Problem::Nul);
        }
        self.replacing(parent, name, || symlinkat(entry.link.as_slice(), &parent.fd, name))?;
        attributes.set_link(&parent.fd, name)?;
        for (xattr, _) in &entry.xattrs {
            self.leave_out_xattr(&parent.path.join(name), xattr);
        }
        self.summary.links += 1;
        Ok(())
    }

    pub(super) fn place_hardlink(
        &mut self,
        parent: &Directory,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), Problem> {
        let target = Clean::new(&entry.link)?;
        let (above, target_name) = target.split().ok_or(Problem::Root)?;
        // This replaces the cached directory; `parent`, which may be that one, is still needed below.
        let found = match self.tree.directory(&above, &mut MakeNothing) {
            Err(Problem::NotADirectory(_)) => None,
            found => found?,
        };
        let there = match &found {
            Some(directory) => tree::look(&directory.fd, target_name)?.filter(|it| !tree::is_whiteout(it)),
            None => None,
        };
        let (Some(directory), Some(_)) = (found, there) else { return self.without_target(&target) };
        self.summary.links += 1;
        if directory.path == parent.path && target_name == name {
            return Ok(());
        }
        self.replacing(parent, name, || {
            linkat(&directory.fd, target_name, &parent.fd, name, AtFlags::empty())
        })
    }

    /// A hard link to a file that can only be in a lower layer.
    fn without_target(&mut self, target: &Clean) -> Result<(), Problem> {
        if self.target.form == Form::Merged {
            return Err(Problem::LinkTarget(target.name()));
        }
        self.summary.needs_parents = true;
        self.summary.dangling += 1;
        Ok(())
    }
}
