//! A small file system for one directory, to fill up. Needs root.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::User;

use super::NAME;
use crate::machine;

/// A mounted one; unmounted with this value.
#[derive(Debug)]
pub struct Small {
    at: PathBuf,
}

impl Small {
    /// Mounts an empty one of so many MiB, which is this user's.
    pub fn mount(at: &Path, mib: u32, user: &User) -> Result<Self> {
        ensure!(machine::is_root(), "a small disk needs root");
        let options = format!("size={mib}m,mode=755,uid={},gid={}", user.uid, user.gid);
        mount(Some(NAME), at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("mount a small disk at {}", at.display()))?;
        Ok(Self { at: at.to_owned() })
    }

    /// Gives it another size.
    pub fn resize(&self, mib: u32) -> Result<()> {
        let options = format!("size={mib}m");
        mount(None::<&str>, &self.at, None::<&str>, MsFlags::MS_REMOUNT, Some(options.as_str()))
            .with_context(|| format!("resize the disk at {}", self.at.display()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        match umount2(&self.at, MntFlags::MNT_DETACH) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) => eprintln!("unmounting {}: {error}", self.at.display()),
        }
    }
}
