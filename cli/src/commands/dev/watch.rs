//! Whether the files of an app have changed: all that its images and static files are made of, also deep in directories.
//!
//! They are looked at regularly, and not by inotify, whose watches are a budget that containers share. Directories of version
//! control and of `berth dev` itself do not count.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::app::{App, MANIFEST};
use crate::args::Dev;
use crate::worker;

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// A look may take a fiftieth of the time: with very many files there are fewer.
const PAUSE_PER_LOOK: u32 = 50;
/// Looks at files that differ each time, after which they are taken as they are.
const MOST_LOOKS: u32 = 10;
/// Most files of one look, so that a directory that was named by mistake (`/`) keeps no CPU busy. What is behind them is not
/// seen.
const MAX_FILES: usize = 200_000;
/// Directories that change by themselves.
const IGNORED: [&str; 4] = [".berth", ".git", ".hg", ".svn"];

/// What is looked at.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    /// The directory that the app is in; of a Workers project perhaps its configuration.
    at: PathBuf,
    /// Whether that is a project, whatever else is there.
    is_project: bool,
    environment: Option<String>,
}

/// The state of an app's files: equal if none has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp(u64);

impl Watched {
    pub(super) fn of(args: &Dev) -> Self {
        let project = args.as_wrangler.as_ref().map(|wrangler| wrangler.project.clone());
        let is_project = project.is_some();
        let at = project.unwrap_or_else(|| args.at.dir.clone());
        Self { at, is_project, environment: args.env.clone() }
    }

    /// Looks at all files, on a thread of its own.
    pub(super) async fn look(&self) -> Stamp {
        let watched = self.clone();
        let looked = tokio::task::spawn_blocking(move || Stamp::of_files(&watched.files())).await;
        looked.unwrap_or(Stamp(0))
    }

    fn files(&self) -> Vec<PathBuf> {
        if self.is_project || worker::is_there(&self.at) {
            // Compiling it each time only to learn which files it has would take longer than to look at all.
            return of_project(&self.at, self.environment.as_deref());
        }
        match App::in_directory(&self.at) {
            Ok(app) => app.files(),
            // What is wrong will be corrected in this file, or where it says.
            Err(_) => vec![self.at.join(MANIFEST)],
        }
    }

    /// Waits until the files have changed, and are not being written any more. Of some that never rest, such as a log, it does not
    /// wait for that.
    pub(super) async fn changed(&self, seen: Stamp) {
        let (mut last, mut restless) = (None, 0);
        loop {
            let began = Instant::now();
            let now = self.look().await;
            if now != seen {
                if last == Some(now) {
                    return;
                }
                restless += 1;
                if restless == MOST_LOOKS {
                    crate::output::note!("files below {} are changed again and again", self.at.display());
                    return;
                }
            }
            last = Some(now);
            tokio::time::sleep(INTERVAL.max(began.elapsed() * PAUSE_PER_LOOK)).await;
        }
    }
}

impl Stamp {
    fn of_files(files: &[PathBuf]) -> Self {
        let mut hash = DefaultHasher::new();
        let mut left: Vec<PathBuf> = files.to_vec();
        let mut count = 0;
        while let Some(path) = left.pop().filter(|_| count < MAX_FILES) {
            count += 1;
            path.hash(&mut hash);
            // Links in directories are what they are; the paths that are named are followed.
            let named = files.contains(&path);
            let found = if named { fs::metadata(&path) } else { fs::symlink_metadata(&path) };
            let Ok(found) = found else { continue };
            add(&found, &mut hash);
            if found.is_dir() {
                left.extend(entries(&path));
            }
        }
        Self(hash.finish())
    }
}

/// What a Workers project may be made of. Packages are many, and are not worked on.
fn of_project(at: &Path, environment: Option<&str>) -> Vec<PathBuf> {
    let directory = worker::directory_of(at);
    let mut files = entries(directory);
    files.retain(|path| path.file_name() != Some(OsStr::new("node_modules")));
    // Images may be made of what is elsewhere.
    let up = |path: &PathBuf| path.components().any(|part| part == Component::ParentDir);
    let images = worker::image_files(at, environment).into_iter();
    files.extend(images.filter(|path| !path.starts_with(directory) || up(path)));
    files
}

/// What of a file changes when it is written, replaced or given other rights. Reading it changes nothing of that.
fn add(found: &Metadata, hash: &mut DefaultHasher) {
    (found.mtime(), found.mtime_nsec(), found.mode(), found.uid(), found.gid()).hash(hash);
    if !found.is_dir() {
        (found.ino(), found.size()).hash(hash);
    }
}

/// What is in a directory, in order.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let ignored =
        |path: &PathBuf| path.file_name().and_then(OsStr::to_str).is_some_and(|name| IGNORED.contains(&name));
    let mut entries: Vec<PathBuf> = entries.filter(|path| !ignored(path)).collect();
    entries.sort();
    entries
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn changes_are_seen_wherever_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("rootfs/usr/share/app");
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir_all(dir.path().join("rootfs/.git")).unwrap();
        let file = deep.join("index.html");
        fs::write(&file, "one").unwrap();
        let look = || Stamp::of_files(&[dir.path().join("rootfs")]);
        let mut seen = look();
        assert_eq!(look(), seen, "nothing has changed");
        let mut differs = |what: &str| {
            let now = look();
            assert_ne!(now, seen, "{what} was not seen");
            seen = now;
        };
        fs::write(&file, "other").unwrap();
        differs("another content");
        fs::write(deep.join("new"), "").unwrap();
        differs("a new file");
        fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
        differs("another mode");
        symlink("index.html", deep.join("link")).unwrap();
        differs("a link");
        fs::rename(&file, deep.join("renamed")).unwrap();
        differs("another name");
        fs::remove_file(deep.join("new")).unwrap();
        differs("a removal");
        fs::write(dir.path().join("rootfs/.git/index"), "x").unwrap();
        assert_eq!(look(), seen, "version control counted");
    }

    #[test]
    fn a_project_is_watched_with_what_its_environment_has() {
        let root = tempfile::tempdir().unwrap();
        let (project, image) = (root.path().join("project"), root.path().join("image"));
        fs::create_dir(&project).unwrap();
        fs::create_dir(&image).unwrap();
        let config = r#"{"name": "w", "main": "index.js", "compatibility_date": "2026-01-31", "env": {"staging": {
            "durable_objects": {"bindings": [{"name": "A", "class_name": "A"}]},
            "containers": [{"class_name": "A", "image": "../image"}]}},
            "migrations": [{"tag": "v1", "new_sqlite_classes": ["A"]}]}"#;
        for name in ["wrangler.jsonc", "other.jsonc"] {
            fs::write(project.join(name), config).unwrap();
        }
        for name in ["", "other.jsonc"] {
            let watched =
                Watched { at: project.join(name), is_project: true, environment: Some("staging".to_owned()) };
            let look = || Stamp::of_files(&watched.files());
            for changed in
                [".dev.vars.staging", ".env.staging.local", "wrangler.jsonc", "other.jsonc", "../image/f"]
            {
                let seen = look();
                fs::write(project.join(changed), format!("{config} // {name}")).unwrap();
                assert_ne!(look(), seen, "{changed}");
                fs::write(project.join(changed), config).unwrap();
                let seen = look();
                fs::remove_file(project.join(changed)).unwrap();
                assert_ne!(look(), seen, "{changed}");
                fs::write(project.join(changed), config).unwrap();
            }
        }
    }
}
