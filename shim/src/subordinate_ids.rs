//! The subordinate ids of this user: the ranges of host uids and gids that its containers use.
//!
//! Each entry of `/etc/subuid` and `/etc/subgid` is a row of ranges, each as long as a container has ids. The first range
//! of all is shared: image layers on disk belong to it, and containers of a node without further ranges. The others are
//! each for one container at a time, so that nothing that the kernel counts for a user is shared by two containers.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub use berth_images::CONTAINER_IDS;
use nix::unistd::{Uid, User};
use serde::{Deserialize, Serialize};

/// The files with the uids and the gids.
pub const FILES: [&str; 2] = ["/etc/subuid", "/etc/subgid"];
/// How deep below a directory files of a container are looked for: an instance's directory has them in `disk/upper`.
const OWNED_DEPTH: u32 = 2;

/// A range of subordinate ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first, on the host.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

impl IdRange {
    fn has(self, id: u32) -> bool {
        id.checked_sub(self.first).is_some_and(|offset| offset < self.count)
    }
}

/// The shared uids and gids of this process's user.
pub fn of_this_user() -> io::Result<(IdRange, IdRange)> {
    let [uids, gids] = all_of_this_user()?;
    Ok((uids[0], gids[0]))
}

/// All ranges of uids and of gids of this process's user, in order. There is at least one of each: the shared one.
pub fn all_of_this_user() -> io::Result<[Vec<IdRange>; 2]> {
    let uid = Uid::effective();
    let name = User::from_uid(uid)?.map_or_else(|| uid.to_string(), |user| user.name);
    all_of(&name, uid.as_raw())
}

/// The same of another user.
pub fn all_of(name: &str, uid: u32) -> io::Result<[Vec<IdRange>; 2]> {
    let [uids, gids] = FILES.map(|file| of_user(Path::new(file), name, uid));
    Ok([uids?, gids?])
}

/// The ranges that the files of a container in a directory belong to; the shared ones if there are no such files.
pub(crate) fn of_files_in(directory: &Path) -> io::Result<(IdRange, IdRange)> {
    let [uids, gids] = all_of_this_user()?;
    let Some((uid, gid)) = foreign_owner(directory, Uid::effective().as_raw(), OWNED_DEPTH)? else {
        return Ok((uids[0], gids[0]));
    };
    let find = |ranges: &[IdRange], id: u32| {
        ranges.iter().copied().find(|range| range.has(id)).ok_or_else(|| {
            let directory = directory.display();
            io::Error::other(format!(
                "{directory} has files of the id {id}, which is none of this user's subordinate ids"
            ))
        })
    };
    Ok((find(&uids, uid)?, find(&gids, gid)?))
}

/// The owner of the first file that does not belong to this user. Links are not followed, and directories of others not
/// entered.
fn foreign_owner(path: &Path, own: u32, depth: u32) -> io::Result<Option<(u32, u32)>> {
    let about = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if about.uid() != own {
        return Ok(Some((about.uid(), about.gid())));
    }
    if depth == 0 || !about.is_dir() {
        return Ok(None);
    }
    for entry in fs::read_dir(path)? {
        if let Some(found) = foreign_owner(&entry?.path(), own, depth - 1)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The ranges of a user in `/etc/subuid` or `/etc/subgid`, sorted.
fn of_user(file: &Path, user: &str, uid: u32) -> io::Result<Vec<IdRange>> {
    let text = fs::read_to_string(file).map_err(|e| io::Error::other(format!("{}: {e}", file.display())))?;
    let ranges = in_text(&text, user, uid);
    if ranges.is_empty() {
        return Err(io::Error::other(format!(
            "{} has no range of {CONTAINER_IDS} ids for `{user}`; as root: usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST {user}",
            file.display()
        )));
    }
    Ok(ranges)
}

fn in_text(text: &str, user: &str, uid: u32) -> Vec<IdRange> {
    let uid = uid.to_string();
    let entries = text.lines().filter_map(|line| {
        let (owner, first, count) = parse(line)?;
        (owner == user || owner == uid).then_some((first, count))
    });
    let mut firsts: Vec<u32> = entries
        .flat_map(|(first, count)| {
            (0..count / CONTAINER_IDS).filter_map(move |n| first.checked_add(n * CONTAINER_IDS))
        })
        .collect();
    firsts.sort_unstable();
    firsts.dedup();
    firsts.into_iter().map(|first| IdRange { first, count: CONTAINER_IDS }).collect()
}

/// Owner, first id and count of a line.
pub fn parse(line: &str) -> Option<(&str, u32, u32)> {
    let mut parts = line.trim().split(':');
    Some((parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
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
        assert_eq!(find("b", 7).unwrap()[0].first, 100_000);
        assert_eq!(find("x", 1001).unwrap()[0].first, 200_000);
        assert!(find("a", 7).unwrap_err().to_string().contains("usermod"));
    }

    #[test]
    fn an_entry_is_a_row_of_ranges_and_the_lowest_is_the_shared_one() {
        let text = "b:1000000:131080\nother:500000:65536\nb:100000:65536\nb:4294901760:131072\n";
        let firsts: Vec<u32> = in_text(text, "b", 7).iter().map(|range| range.first).collect();
        assert_eq!(firsts, [100_000, 1_000_000, 1_065_536, 4_294_901_760]);
    }

    #[test]
    fn files_of_others_are_found_where_containers_have_theirs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk/upper");
        fs::create_dir_all(&path).unwrap();
        let own = fs::metadata(&path).unwrap();
        let find = |own: u32| foreign_owner(directory.path(), own, OWNED_DEPTH).unwrap();
        assert_eq!(find(own.uid()), None);
        assert_eq!(find(own.uid() + 1), Some((own.uid(), own.gid())));
        assert_eq!(foreign_owner(&path.join("missing"), 0, OWNED_DEPTH).unwrap(), None);
    }
}
