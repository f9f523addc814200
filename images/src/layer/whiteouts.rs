//! What a layer hides of those below it: marked where it stands alone, removed where it is unpacked over them. What the
//! layer has itself stays, in whichever order it comes.

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
    /// What lower layers have of one name is gone.
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

    /// What lower layers have in a directory is gone.
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
            // Overlay file systems look for the mark everywhere but in the root.
            Form::Overlay if directory.path.is_root() => {
                self.summary.needs_parents = true;
                Ok(())
            }
            Form::Overlay => Ok(tree::set_opaque(&self.tree.open(&directory.path)?)?),
        }
    }

    /// The directory that something is hidden in. A mark needs one; where there is none, nothing can be removed.
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

    /// Removes something but for what is the layer's own.
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

/// Marks a name as hiding what lower layers have of it.
fn mark(parent: &Directory, hidden: &[u8]) -> Result<(), Problem> {
    match mknodat(&parent.fd, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::EXIST) => match tree::look(&parent.fd, hidden)? {
            // The layer has a directory of its own there, which must not show what lower ones have in theirs.
            Some(found) if tree::is_directory(&found) => {
                Ok(tree::set_opaque(&tree::open_in(&parent.fd, hidden)?)?)
            }
            _ => Ok(()),
        },
        made => Ok(made?),
    }
}
