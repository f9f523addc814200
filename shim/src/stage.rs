//! A mount namespace with a tmpfs over `/tmp`, where a process that has become a container's root mounts the
//! directories that it could only open as the agent's user.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;

/// Its mount point, which every Linux system has.
pub(crate) const STAGE: &str = "/tmp";
/// It holds a few small files and mount points.
const OPTIONS: &str = "size=1m,mode=0755";
/// Longest overlay option string, in bytes: the kernel takes one page.
const MAX_OVERLAY_OPTIONS_BYTES: usize = 4095;

/// Enters a new mount namespace and opens directories there, so that they can be bound later by a user who could not
/// open them.
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

/// Mounts the tmpfs. It and the mounts in it are not visible outside the namespace.
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

/// Binds layers to directories in the stage, with short names, because an overlay's options must list all of them.
pub(crate) fn bind_layers(layers: &[OwnedFd]) -> io::Result<Vec<PathBuf>> {
    layers.iter().enumerate().map(|(index, layer)| bind_in_stage(layer, &index.to_string())).collect()
}

/// An overlay of layers with a writable upper directory.
pub(crate) struct Overlay<'a> {
    /// The layers, the topmost first.
    pub(crate) lower: &'a [PathBuf],
    /// The upper directory, which is created.
    pub(crate) upper: PathBuf,
    /// The work directory, which is created.
    pub(crate) work: PathBuf,
}

impl Overlay<'_> {
    /// Mounts it. Its root directory has the attributes of the topmost layer's.
    pub(crate) fn mount(&self, at: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o755).create(&self.upper)?;
        DirBuilder::new().mode(0o700).create(&self.work)?;
        let top = self.lower.first().ok_or_else(|| io::Error::other("the image has no layers"))?;
        let root = fs::metadata(top)?;
        fs::set_permissions(&self.upper, fs::Permissions::from_mode(root.mode() & 0o7777))?;
        std::os::unix::fs::chown(&self.upper, Some(root.uid()), Some(root.gid()))?;
        let options = self.options();
        if options.len() > MAX_OVERLAY_OPTIONS_BYTES {
            return Err(io::Error::other(format!("the image has too many layers ({})", self.lower.len())));
        }
        Ok(mount(Some("overlay"), at, Some("overlay"), MsFlags::MS_NODEV, Some(options.as_str()))?)
    }

    fn options(&self) -> String {
        let lower: Vec<String> = self.lower.iter().map(|path| path.display().to_string()).collect();
        let (upper, work) = (self.upper.display(), self.work.display());
        format!("lowerdir={},upperdir={upper},workdir={work},userxattr", lower.join(":"))
    }
}
