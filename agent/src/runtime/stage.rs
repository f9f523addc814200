//! A mount namespace with a tmpfs over `/tmp`: the place where a process that has become a container's root mounts
//! what it could only open before.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;

/// Where it lies. Every Linux system has the directory.
pub(crate) const STAGE: &str = "/tmp";
/// It holds a few small files and mount points.
const OPTIONS: &str = "size=1m,mode=0755";

/// Moves into a mount namespace of its own and opens directories there. They can be bound later, by a user who could
/// not have opened them.
pub(crate) fn open_directories<P: AsRef<Path>>(
    paths: impl IntoIterator<Item = P>,
) -> io::Result<Vec<OwnedFd>> {
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|e| io::Error::other(format!("cannot make a mount namespace: {e}")))?;
    paths.into_iter().map(|path| open_directory(path.as_ref())).collect()
}

/// Opens one more directory there.
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|e| io::Error::other(format!("{}: {e}", path.display())))
}

/// Mounts the tmpfs. Nothing of it, nor of what is mounted in it, is seen outside the namespace.
pub(crate) fn mount_stage() -> io::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("berth"), STAGE, Some("tmpfs"), flags, Some(OPTIONS))?)
}

/// Makes a directory in the stage.
pub(crate) fn make_in_stage(name: &str) -> io::Result<PathBuf> {
    let path = Path::new(STAGE).join(name);
    DirBuilder::new().mode(0o700).create(&path).map(|()| path)
}

/// Binds an opened directory to a new one in the stage.
pub(crate) fn bind_in_stage(from: &OwnedFd, name: &str) -> io::Result<PathBuf> {
    let to = make_in_stage(name)?;
    let source = format!("/proc/self/fd/{}", from.as_raw_fd());
    mount(Some(source.as_str()), &to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(to)
}
