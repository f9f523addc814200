//! What an image leaves to the runtime: its working directory, its volumes, and the places of the files that are mounted
//! over its own. Made in the container's root filesystem before the container is. Nothing of the image leads out of it.

use std::io;
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use pathrs::Root;
use pathrs::flags::OpenFlags;

use crate::user::ImageUser;

/// Permissions of directories that no layer has.
const DIRECTORY_MODE: u32 = 0o755;
/// Permissions of files that no layer has.
const FILE_MODE: u32 = 0o644;

/// What is to be there.
pub(crate) struct Wanted<'a> {
    /// The working directory: made as root's.
    pub(crate) cwd: &'a Path,
    /// Directories for the app's data: made as the user's. One that is there keeps its owner and content.
    pub(crate) volumes: &'a [PathBuf],
    /// Whose volumes they are.
    pub(crate) user: &'a ImageUser,
}

/// Makes what is missing. For the container's root, with an umask that leaves reading to all.
pub(crate) fn complete(rootfs: &Path, wanted: &Wanted<'_>) -> io::Result<()> {
    let root = Root::open(rootfs).map_err(io::Error::other)?;
    for volume in wanted.volumes {
        let said = |e: io::Error| {
            io::Error::other(format!(
                "cannot make the volume {}: {e}; is a file of the image in its way?",
                volume.display()
            ))
        };
        make_volume(&root, volume, wanted.user).map_err(said)?;
    }
    if root.resolve(wanted.cwd).is_err() {
        let said = |e| {
            io::Error::other(format!(
                "cannot make the working directory {}: {e}; is a file of the image in its way?",
                wanted.cwd.display()
            ))
        };
        make_directory(&root, wanted.cwd).map_err(said)?;
    }
    Ok(())
}

/// Makes place for a file that is mounted: plain files of the image stay, and what leads nowhere, as a link to a file that
/// another program would make, is replaced.
pub(crate) fn make_place(rootfs: &Path, path: &Path) -> io::Result<()> {
    let root = Root::open(rootfs).map_err(io::Error::other)?;
    let found = root.resolve(path).map_err(io::Error::other);
    if found
        .and_then(|found| std::fs::File::from(std::os::fd::OwnedFd::from(found)).metadata())
        .is_ok_and(|m| m.is_file())
    {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_directory(&root, parent)?;
    }
    if root.resolve_nofollow(path).is_ok() {
        root.remove_file(path).map_err(io::Error::other)?;
    }
    let flags = OpenFlags::O_EXCL | OpenFlags::O_CREAT | OpenFlags::O_NOFOLLOW | OpenFlags::O_CLOEXEC;
    let mode = std::fs::Permissions::from_mode(FILE_MODE);
    root.create_file(path, flags, &mode).map(drop).map_err(io::Error::other)
}

fn make_directory(root: &Root, path: &Path) -> io::Result<pathrs::Handle> {
    root.mkdir_all(path, &std::fs::Permissions::from_mode(DIRECTORY_MODE)).map_err(io::Error::other)
}

fn make_volume(root: &Root, path: &Path, user: &ImageUser) -> io::Result<()> {
    if root.resolve(path).is_ok() {
        return Ok(());
    }
    let made = make_directory(root, path)?;
    let made = made.reopen(OpenFlags::O_RDONLY | OpenFlags::O_DIRECTORY | OpenFlags::O_CLOEXEC);
    fchown(made.map_err(io::Error::other)?, Some(user.uid), Some(user.gid))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    /// The user of this process, who may give files to itself.
    fn me(directory: &Path) -> ImageUser {
        let own = fs::metadata(directory).unwrap();
        ImageUser { uid: own.uid(), gid: own.gid(), groups: Vec::new(), home: "/".to_owned() }
    }

    #[test]
    fn what_no_layer_has_is_made_inside_wherever_links_lead() {
        let image = tempfile::tempdir().unwrap();
        let at = |path: &str| image.path().join(path);
        fs::create_dir(at("var")).unwrap();
        symlink("/../../var", at("data")).unwrap();
        fs::create_dir(at("kept")).unwrap();
        fs::set_permissions(at("kept"), fs::Permissions::from_mode(0o700)).unwrap();
        let volumes = ["/data/x", "/kept"].map(PathBuf::from);
        let user = me(image.path());
        let wanted = Wanted { cwd: Path::new("/srv/deep"), volumes: &volumes, user: &user };
        complete(image.path(), &wanted).unwrap();
        complete(image.path(), &wanted).unwrap();
        assert!(at("var/x").is_dir() && at("srv/deep").is_dir());
        assert_eq!(fs::metadata(at("kept")).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_place_of_a_mounted_file_is_made_where_a_link_leads_nowhere() {
        let image = tempfile::tempdir().unwrap();
        let at = |path: &str| image.path().join(path);
        fs::create_dir_all(at("etc")).unwrap();
        symlink("/run/systemd/resolve/stub-resolv.conf", at("etc/resolv.conf")).unwrap();
        symlink("hosts", at("etc/hosts")).unwrap();
        symlink("real", at("etc/hostname")).unwrap();
        fs::write(at("etc/real"), "kept").unwrap();
        for path in ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/missing/too"] {
            make_place(image.path(), Path::new(path)).unwrap();
            assert!(at(&path[1..]).is_file(), "{path}");
        }
        assert_eq!(fs::read(at("etc/hostname")).unwrap(), b"kept");
        assert!(fs::symlink_metadata(at("etc/hostname")).unwrap().is_symlink());
    }
}
