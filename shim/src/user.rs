//! The user of an image: by number, or by name from the image's `/etc/passwd` and `/etc/group`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

/// Most bytes read of an image's passwd or group file: an image is not trusted.
const MAX_DATABASE_BYTES: u64 = 1 << 20;

/// The user that the app runs as, inside its user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// Its home directory; the root directory where `/etc/passwd` names none.
    pub(crate) home: String,
}

/// Resolves `user` or `user:group` (empty: root) against the image at `rootfs`.
pub(crate) fn resolve(text: &str, rootfs: &Path) -> io::Result<ImageUser> {
    let passwd = read_inside(rootfs, "etc/passwd")?;
    let group = read_inside(rootfs, "etc/group")?;
    let found = lookup(text, &passwd, &group)?;
    let highest = [found.uid, found.gid].into_iter().chain(found.groups.iter().copied()).max().unwrap_or(0);
    if highest >= crate::subordinate_ids::CONTAINER_IDS {
        return Err(io::Error::other(format!(
            "the image's user `{text}` has an id over 65535, which no container has"
        )));
    }
    Ok(found)
}

fn lookup(text: &str, passwd: &str, group: &str) -> io::Result<ImageUser> {
    let (user, explicit_group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
    // `web:` is `web`.
    let explicit_group = explicit_group.filter(|group| !group.is_empty());
    let user = if user.is_empty() { "0" } else { user };
    let entry = passwd.lines().map(fields).find(|f| f.len() >= 4 && (f[0] == user || f[2] == user));
    let number = |n: &str| n.parse::<u32>().ok();
    let uid = entry.as_ref().and_then(|f| number(f[2])).or_else(|| number(user));
    let uid = uid.ok_or_else(|| unknown("user", user, "/etc/passwd"))?;
    let name = entry.as_ref().map_or("", |f| f[0]);
    let gid = match explicit_group {
        Some(wanted) => {
            let entry =
                group.lines().map(fields).find(|f| f.len() >= 3 && (f[0] == wanted || f[2] == wanted));
            let gid = entry.and_then(|f| number(f[2])).or_else(|| number(wanted));
            gid.ok_or_else(|| unknown("group", wanted, "/etc/group"))?
        }
        None => entry.as_ref().and_then(|f| number(f[3])).unwrap_or(0),
    };
    // As in Docker, an explicit group means no supplementary groups.
    let groups =
        if explicit_group.is_some() || name.is_empty() { Vec::new() } else { memberships(name, gid, group) };
    let home = entry.as_ref().and_then(|f| f.get(5)).filter(|home| is_path(home));
    Ok(ImageUser { uid, gid, groups, home: home.map_or("/", |home| home).to_owned() })
}

/// Whether a home can be one: no variable holds a NUL byte.
fn is_path(home: &str) -> bool {
    home.starts_with('/') && !home.contains('\0')
}

fn memberships(name: &str, primary: u32, group: &str) -> Vec<u32> {
    let member = |f: &Vec<&str>| f.len() >= 4 && f[3].split(',').any(|member| member == name);
    let ids = group.lines().map(fields).filter(member).filter_map(|f| f[2].parse().ok());
    ids.filter(|gid| *gid != primary).collect()
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

fn unknown(kind: &str, name: &str, file: &str) -> io::Error {
    io::Error::other(format!(
        "the image's {kind} `{name}` is not in its {file}; use a number or add the {kind} to the image"
    ))
}

/// Reads a file of the image without following symbolic links out of the image. Empty if missing.
fn read_inside(rootfs: &Path, path: &str) -> io::Result<String> {
    let root = open(rootfs, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let Ok(fd) = openat2(&root, path, how) else { return Ok(String::new()) };
    let file = File::from(fd);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("the image's /{path} is not a plain file")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_DATABASE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nweb:x:33:44::/:/bin/false\n";
    const GROUP: &str = "root:x:0:\nwww:x:44:\nextra:x:50:web,other\n";

    fn user(text: &str) -> (u32, u32, Vec<u32>) {
        let found = lookup(text, PASSWD, GROUP).unwrap();
        (found.uid, found.gid, found.groups)
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(user(""), (0, 0, vec![]));
        assert_eq!(user("web"), (33, 44, vec![50]));
        assert_eq!(user("33"), (33, 44, vec![50]));
        assert_eq!(user("web:extra"), (33, 50, vec![]));
        assert_eq!(user("web:"), (33, 44, vec![50]));
        assert_eq!(user(":44"), (0, 44, vec![]));
        assert_eq!(user("1000:1001"), (1000, 1001, vec![]));
        assert_eq!(user("1000"), (1000, 0, vec![]));
    }

    #[test]
    fn home_is_the_root_directory_without_an_entry() {
        let home = |text: &str| lookup(text, PASSWD, GROUP).unwrap().home;
        assert_eq!(home(""), "/root");
        assert_eq!(home("1000"), "/");
        assert_eq!(lookup("bare", "bare:x:7:7\n", "").unwrap().home, "/");
        for senseless in ["", "srv", "/srv\0x", "\0"] {
            let passwd = format!("bare:x:7:7::{senseless}:/bin/sh\n");
            assert_eq!(lookup("bare", &passwd, "").unwrap().home, "/", "{senseless:?}");
        }
    }

    #[test]
    fn unknown_names_say_what_to_do() {
        assert!(lookup("ghost", PASSWD, GROUP).unwrap_err().to_string().contains("/etc/passwd"));
        assert!(lookup("web:ghost", PASSWD, GROUP).unwrap_err().to_string().contains("/etc/group"));
    }

    #[test]
    fn links_out_of_the_image_lead_nowhere() {
        let image = tempfile::tempdir().unwrap();
        std::fs::create_dir(image.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/../../../../etc/passwd", image.path().join("etc/passwd")).unwrap();
        // Inside the image the link leads back to itself, never to the host's file.
        assert_eq!(read_inside(image.path(), "etc/passwd").unwrap(), "");
    }
}
