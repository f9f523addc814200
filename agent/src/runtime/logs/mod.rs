//! The logs of a node's instances: their index and their retention. The shims write them (`berth_shim::log`); `reader`
//! reads them, for edges.
//!
//! ```text
//! logs/ID.json      its entry: owner, object, start and retention; written before the instance runs
//! logs/ID.log       the current file
//! logs/ID.log.1     the file before
//! logs/ID.log.next  the next file, only during a rotation
//! ```

mod cursor;
mod reader;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use berth_common::ids::{EdgeId, Generation, InstanceId, ObjectKey};
use berth_common::spec::LogSpec;
use berth_shim::log::line::{self, older};
use berth_shim::state_files::{read_json, write_json_fast};
use serde::{Deserialize, Serialize};

pub use self::reader::{Reader, Rest};
use crate::launch::Launch;

/// Most logs kept on a node; those of ended instances are removed first. Bounds the time of each search through them.
const MAX_LOGS: usize = 256;
/// Most bytes of the logs of a node's instances. Those of living ones, which their apps' settings bound, count, and those of
/// ended ones make room for them.
const MAX_BYTES: u64 = 4 << 30;
/// Digits of an instance's id, which its file names begin with.
const ID_DIGITS: usize = 32;

/// The directory of a node's logs.
#[derive(Debug, Clone)]
pub struct Logs {
    directory: PathBuf,
}

/// The entry of a log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogEntry {
    /// The instance.
    pub instance: InstanceId,
    /// The object that it was for.
    pub object: ObjectKey,
    /// Its generation.
    pub generation: Generation,
    /// The edge that owns it.
    pub owner: EdgeId,
    /// When it was started, in milliseconds since 1970.
    pub started_ms: u64,
    /// How long its output is kept, in milliseconds.
    pub retention_ms: u64,
}

impl LogEntry {
    /// The entry of an instance that is started now.
    pub fn of(launch: &Launch) -> Self {
        let retention = launch.start.logs.bounded().retention;
        Self {
            instance: launch.start.instance,
            object: launch.start.object.clone(),
            generation: launch.start.generation,
            owner: launch.owner.clone(),
            started_ms: line::unix_ms(SystemTime::now()),
            retention_ms: u64::try_from(retention.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// The logs found in the directory.
#[derive(Debug, Default)]
struct Listed {
    present: HashSet<InstanceId>,
    new: Vec<LogEntry>,
}

/// The files of one log.
#[derive(Debug, Default)]
struct Files {
    paths: Vec<PathBuf>,
    bytes: u64,
    /// When one of them was last written.
    written: Option<SystemTime>,
    /// When the older one was last written.
    older: Option<(PathBuf, SystemTime)>,
}

impl Logs {
    /// The logs in this directory.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The log file of one instance.
    pub(crate) fn path(&self, instance: InstanceId) -> PathBuf {
        self.directory.join(format!("{instance}.log"))
    }

    fn entry_path(&self, instance: InstanceId) -> PathBuf {
        self.directory.join(format!("{instance}.json"))
    }

    /// Writes the entry of a log, before anything is written to the log.
    pub fn enter(&self, entry: &LogEntry) -> io::Result<()> {
        write_json_fast(&self.entry_path(entry.instance), entry)
    }

    /// All logs in the directory; and the entries of those that are not known yet.
    fn entries(&self, known: &HashSet<InstanceId>) -> io::Result<Listed> {
        let mut listed = Listed::default();
        for found in fs::read_dir(&self.directory)? {
            let path = found?.path();
            let Some(instance) = instance_of(&path).filter(|_| is_entry(&path)) else { continue };
            listed.present.insert(instance);
            if !known.contains(&instance) {
                // An entry that was removed just now, or was written by another version, is skipped.
                listed.new.extend(read_json::<LogEntry>(&path).ok().flatten());
            }
        }
        Ok(listed)
    }

    /// Removes logs that are too old, and the oldest ones if there are too many. Those of living instances are only
    /// removed by age.
    pub(crate) fn prune(&self, living: &HashSet<InstanceId>, now: SystemTime) -> io::Result<()> {
        let mut ended = Vec::new();
        let logs = self.files()?;
        let mut count = logs.len();
        let mut bytes: u64 = logs.values().map(|files| files.bytes).sum();
        for (instance, files) in logs {
            let retention = self.retention(instance);
            let expired = |time| now.duration_since(time).is_ok_and(|age| age > retention);
            if living.contains(&instance) {
                let old = files.older.filter(|(_, written)| expired(*written));
                old.map_or(Ok(()), |(path, _)| remove(&path))?;
            } else if files.written.is_none_or(expired) {
                files.paths.iter().try_for_each(|path| remove(path))?;
                count -= 1;
                bytes -= files.bytes;
            } else {
                ended.push(files);
            }
        }
        ended.sort_by_key(|files| files.written);
        for files in ended {
            if count <= MAX_LOGS && bytes <= MAX_BYTES {
                break;
            }
            files.paths.iter().try_for_each(|path| remove(path))?;
            count -= 1;
            bytes -= files.bytes;
        }
        Ok(())
    }

    fn files(&self) -> io::Result<HashMap<InstanceId, Files>> {
        let mut logs: HashMap<InstanceId, Files> = HashMap::new();
        for found in fs::read_dir(&self.directory)? {
            let path = found?.path();
            let Some(instance) = instance_of(&path) else { continue };
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let written = metadata.modified()?;
            let files = logs.entry(instance).or_default();
            files.bytes += metadata.len();
            files.written = files.written.max(Some(written));
            if path == older(&self.path(instance)) {
                files.older = Some((path.clone(), written));
            }
            files.paths.push(path);
        }
        Ok(logs)
    }

    fn retention(&self, instance: InstanceId) -> Duration {
        let entry = read_json::<LogEntry>(&self.entry_path(instance)).ok().flatten();
        entry.map_or(LogSpec::default().retention, |entry| Duration::from_millis(entry.retention_ms))
    }
}

fn is_entry(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

/// The instance that a file of the directory belongs to.
fn instance_of(path: &Path) -> Option<InstanceId> {
    path.file_name()?.to_str()?.get(..ID_DIGITS)?.parse().ok()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn entry(id: InstanceId, retention: Duration) -> LogEntry {
        LogEntry {
            instance: id,
            object: ObjectKey {
                app: "a".parse().unwrap(),
                class: "C".parse().unwrap(),
                name: "x".parse().unwrap(),
            },
            generation: Generation(1),
            owner: "e1".parse().unwrap(),
            started_ms: 0,
            retention_ms: u64::try_from(retention.as_millis()).unwrap(),
        }
    }

    /// A log that was last written so long ago.
    fn log(logs: &Logs, number: u16, age: Duration, retention: Duration) -> InstanceId {
        let [high, low] = number.to_be_bytes();
        let id = InstanceId::from_bytes([[high; 8], [low; 8]].concat().try_into().unwrap());
        logs.enter(&entry(id, retention)).unwrap();
        for path in [logs.entry_path(id), logs.path(id), older(&logs.path(id))] {
            let file = File::options().create(true).append(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        id
    }

    fn left(logs: &Logs) -> HashSet<InstanceId> {
        logs.entries(&HashSet::new()).unwrap().present
    }

    #[test]
    fn logs_older_than_their_retention_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::at(directory.path());
        let gone = log(&logs, 1, 2 * DAY, DAY);
        let kept = log(&logs, 2, 2 * DAY, 3 * DAY);
        let living = log(&logs, 3, 2 * DAY, DAY);
        logs.prune(&HashSet::from([living]), SystemTime::now()).unwrap();
        assert_eq!(left(&logs), HashSet::from([kept, living]));
        assert!(!logs.path(gone).exists() && !older(&logs.path(gone)).exists());
        assert!(
            logs.path(living).exists() && !older(&logs.path(living)).exists(),
            "only its old file is too old"
        );
        // Other files are left alone.
        fs::write(directory.path().join("notes"), "x").unwrap();
        logs.prune(&HashSet::new(), SystemTime::now() + 40 * DAY).unwrap();
        assert!(left(&logs).is_empty() && fs::read_dir(directory.path()).unwrap().count() == 1);
    }

    #[test]
    fn the_oldest_of_too_many_are_removed_and_none_of_living_instances() {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::at(directory.path());
        let all: Vec<_> = (0..u16::try_from(MAX_LOGS).unwrap() + 3)
            .map(|n| log(&logs, n, DAY - Duration::from_secs(n.into()), 7 * DAY))
            .collect();
        logs.prune(&HashSet::from([all[0]]), SystemTime::now()).unwrap();
        let left = left(&logs);
        assert!(left.len() == MAX_LOGS && left.contains(&all[0]));
        assert!(all[1..4].iter().all(|id| !left.contains(id)) && left.contains(&all[4]));
    }

    #[test]
    fn a_log_without_an_entry_is_removed_like_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::at(directory.path());
        let id = log(&logs, 1, 8 * DAY, DAY);
        fs::write(logs.entry_path(id), "{").unwrap();
        logs.prune(&HashSet::new(), SystemTime::now()).unwrap();
        assert!(logs.path(id).exists(), "its entry was written just now");
        logs.prune(&HashSet::new(), SystemTime::now() + 8 * DAY).unwrap();
        assert!(!logs.path(id).exists());
    }
}
