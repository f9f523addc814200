//! Layers, honest and hostile, unpacked into directories that are looked at afterwards.

pub(super) mod archive;
mod content;
mod hidden;
mod hostile;
mod limits;
mod properties;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use berth_common::image::Algorithm;
use tempfile::TempDir;

use super::{Form, LayerError, Limits, Owners, Summary, Target, unpack};
pub(super) use archive::{E, Tar};

/// A directory with what a layer was unpacked into, and a file beside it that nothing may touch.
pub(super) struct Sandbox {
    outside: TempDir,
    pub(super) root: PathBuf,
}

impl Sandbox {
    pub(super) fn new() -> Self {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(outside.path().join("canary"), "canary").unwrap();
        Self { outside, root }
    }

    /// Files can only be given away by root.
    pub(super) fn owners() -> Owners {
        if rustix::process::geteuid().is_root() { Owners::Said } else { Owners::Mine }
    }

    pub(super) fn unpack(&self, layer: &[u8], form: Form, limits: Limits) -> Result<Summary, LayerError> {
        let target = Target::open(&self.root, form, Self::owners()).unwrap();
        let unpacked = unpack(&mut &*layer, &target, &limits, Some(Algorithm::Sha256));
        self.expect_untouched();
        unpacked
    }

    pub(super) fn add(&self, layer: Tar, form: Form) -> Summary {
        self.unpack(&layer.done(), form, Limits::default()).unwrap()
    }

    /// The file beside the directory, from inside, as hostile images would name it.
    pub(super) fn canary(&self) -> String {
        self.outside.path().join("canary").display().to_string()
    }

    fn expect_untouched(&self) {
        let canary = self.outside.path().join("canary");
        assert_eq!(fs::read_to_string(&canary).unwrap(), "canary");
        assert_eq!(fs::metadata(&canary).unwrap().nlink(), 1, "it was linked to");
        assert_eq!(fs::read_dir(self.outside.path()).unwrap().count(), 2, "something was made beside it");
    }

    pub(super) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_else(|error| format!("{path}: {error}"))
    }

    /// All that is there: directories end in a slash, links and whiteouts say what they are.
    pub(super) fn list(&self) -> String {
        let mut all = Vec::new();
        list(&self.root, &self.root, &mut all);
        all.sort();
        all.join(" ")
    }
}

fn list(root: &Path, at: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        let (name, kind) =
            (path.strip_prefix(root).unwrap().display().to_string(), path.symlink_metadata().unwrap());
        if kind.is_dir() {
            let mark = if is_opaque(&path) { "/!" } else { "/" };
            all.push(name + mark);
            list(root, &path, all);
        } else if kind.is_symlink() {
            all.push(format!("{name}>{}", fs::read_link(&path).unwrap().display()));
        } else if kind.file_type().is_char_device() {
            assert_eq!(kind.rdev(), 0);
            all.push(format!("-{name}"));
        } else {
            all.push(name);
        }
    }
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 8];
    matches!(rustix::fs::lgetxattr(path, "user.overlay.opaque", &mut value[..]), Ok(1)) && value[0] == b'y'
}

/// What a layer becomes in an empty directory.
pub(super) fn unpacked(layer: Tar, form: Form) -> (Sandbox, Result<Summary, LayerError>) {
    let sandbox = Sandbox::new();
    let done = sandbox.unpack(&layer.done(), form, Limits::default());
    (sandbox, done)
}

/// Why a layer is refused.
pub(super) fn refused(layer: Tar) -> String {
    unpacked(layer, Form::Overlay).1.expect_err("it should be refused").to_string()
}
