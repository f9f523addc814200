//! The subordinate ids of this user: the ranges of host uids and gids that its containers use.

use std::io;
use std::path::Path;

use nix::unistd::{Uid, User};
use serde::{Deserialize, Serialize};

/// Number of uids and gids of a container.
pub(crate) const CONTAINER_IDS: u32 = 65_536;

/// A range of subordinate ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first, on the host.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

/// The subordinate uids and gids of this process's user.
pub fn of_this_user() -> io::Result<(IdRange, IdRange)> {
    let uid = Uid::effective();
    let name = User::from_uid(uid)?.map_or_else(|| uid.to_string(), |user| user.name);
    let of = |file: &str| of_user(Path::new(file), &name, uid.as_raw());
    Ok((of("/etc/subuid")?, of("/etc/subgid")?))
}

/// The subordinate ids of a user in `/etc/subuid` or `/etc/subgid`.
fn of_user(file: &Path, user: &str, uid: u32) -> io::Result<IdRange> {
    let text =
        std::fs::read_to_string(file).map_err(|e| io::Error::other(format!("{}: {e}", file.display())))?;
    let uid = uid.to_string();
    let ranges = text.lines().filter_map(|line| {
        let mut parts = line.trim().split(':');
        let owner = parts.next()?;
        let (first, count) = (parts.next()?.parse().ok()?, parts.next()?.parse::<u32>().ok()?);
        ((owner == user || owner == uid) && count >= CONTAINER_IDS).then_some(first)
    });
    let first = ranges.min().ok_or_else(|| {
        io::Error::other(format!(
            "{} has no range of {CONTAINER_IDS} ids for `{user}`; as root: usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST {user}",
            file.display()
        ))
    })?;
    Ok(IdRange { first, count: CONTAINER_IDS })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn subordinate_ids_are_found_by_name_or_number() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "a:100:5\nb:100000:65536\n# no\n1001:200000:65536\n").unwrap();
        let find = |user, uid| of_user(file.path(), user, uid);
        assert_eq!(find("b", 7).unwrap().first, 100_000);
        assert_eq!(find("x", 1001).unwrap().first, 200_000);
        assert!(find("a", 7).unwrap_err().to_string().contains("usermod"));
    }
}
