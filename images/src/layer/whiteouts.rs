//! Whiteouts: written as overlay whiteouts if the layer is unpacked alone, applied as removals if it is unpacked over
//! lower layers. The layer's own entries are kept, independent of their order.

use std::io::BufRead;
use std::rc::Rc;

use rustix::fs::{FileType, Mode, mknodat};
use rustix::io::Errno;

use super::Form;
use super::archive::Archive;
use super::error::Problem;
use super::path::Clean;
use super::tree::{self, Directory, MakeNothing};
use super::unpacker::Unpacker;

impl Unpacker<'_> {
    /// Hides one name of lower layers.
    pub(super) fn whiteout(
        &mut self,
        path: &Clean,
        hidden: &[u8],
        archive: &mut Archive<impl BufRead>,
    ) -> Result<(), Problem> {
        let (parent, _) = path.split().ok_or(Problem::Root)?;
        self.summary.whiteouts += 1;
        let Some(parent) = self.hiding(&parent, archive)? else { return Ok(()) };
        match self.target.form {
            Form::Merged => self.clear(&parent, hidden),
            Form::Overlay => mark(&parent, hidden),
        }
    }

    /// Hides the contents of a directory in lower layers.
    pub(super) fn opaque(
        &mut self,
        path: &Clean,
        archive: &mut Archive<impl BufRead>,
    ) -> Result<(), Problem> {
        let (directory, _) = path.split().ok_or(Problem::Root)?;
        self.summary.whiteouts += 1;
        let Some(directory) = self.hiding(&directory, archive)? else { return Ok(()) };
        match self.target.form {
            Form::Merged => self.clear_within(&directory),
            // Overlay file systems ignore the opaque attribute on the root.
            Form::Overlay if directory.path.is_root() => {
                self.summary.needs_parents = true;
                Ok(())
            }
            Form::Overlay => Ok(tree::set_opaque(&self.tree.open(&directory.path)?)?),
        }
    }

    /// The directory of a hidden name, created for an overlay whiteout. For a removal a missing one means nothing to
    /// do.
    fn hiding(
        &mut self,
        path: &Clean,
        archive: &mut Archive<impl BufRead>,
    ) -> Result<Option<Rc<Directory>>, Problem> {
        match self.target.form {
            Form::Overlay => self.parent(path, archive),
            Form::Merged => match self.tree.directory(path, &mut MakeNothing) {
                Err(Problem::NotADirectory(_)) => Ok(None),
                found => found,
            },
        }
    }

    /// Removes a name except for the layer's own entries.
    fn clear(&mut self, parent: &Directory, name: &[u8]) -> Result<(), Problem> {
        let real = parent.path.join(name);
        if !self.own.has(&real) {
            return self.remove(parent, name);
        }
        match tree::look(&parent.fd, name)? {
            Some(found) if tree::is_directory(&found) => {
                let fd = tree::open_in(&parent.fd, name)?;
                self.clear_within(&Directory { path: real, fd })
            }
            _ => Ok(()),
        }
    }

    fn clear_within(&mut self, directory: &Directory) -> Result<(), Problem> {
        let readable = self.tree.open(&directory.path)?;
        for name in tree::names(&readable)? {
            self.clear(directory, &name)?;
        }
        Ok(())
    }
}

/// Creates an overlay whiteout.
fn mark(parent: &Directory, hidden: &[u8]) -> Result<(), Problem> {
    match mknodat(&parent.fd, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::EXIST) => match tree::look(&parent.fd, hidden)? {
            // The layer has a directory of that name, which is made opaque instead.
            Some(found) if tree::is_directory(&found) => {
                Ok(tree::set_opaque(&tree::open_in(&parent.fd, hidden)?)?)
            }
            _ => Ok(()),
        },
        made => Ok(made?),
    }
}
