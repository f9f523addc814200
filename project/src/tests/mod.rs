//! Projects on disk: what is said of them, and that their modules run in the engine as they are given out.

mod commonjs;
mod engine;
mod hostile;
mod maps;
mod refusals;
mod runs;
mod surface;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{Mode, Program, Project, Refused, Remark, read};

/// A configuration with a good entry, `src/index.ts`, and no objects.
const CONFIG: &str = r#"{"name": "a", "main": "src/index.ts", "compatibility_date": "2025-11-17"}"#;

/// A project in a directory of its own.
struct Disk(TempDir);

impl Disk {
    /// With these files; without a configuration among them, `CONFIG` is it.
    fn of(files: &[(&str, &str)]) -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        if !files.iter().any(|(name, _)| name.starts_with("wrangler.")) {
            disk.write("wrangler.json", CONFIG);
        }
        for (name, text) in files {
            disk.write(name, text);
        }
        disk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self) -> Result<Project, Refused> {
        read(self.0.path(), None, Mode::Production)
    }
}

fn project(files: &[(&str, &str)]) -> Project {
    Disk::of(files).read().unwrap_or_else(|refused| panic!("{refused}"))
}

fn program(files: &[(&str, &str)]) -> Program {
    project(files).program.unwrap()
}

fn refusal(files: &[(&str, &str)]) -> String {
    let read = Disk::of(files).read();
    read.map(|project| format!("{:?}", project.remarks)).expect_err("is refused").to_string()
}

fn remarks(project: &Project) -> Vec<String> {
    project.remarks.iter().map(Remark::to_string).collect()
}

fn names(program: &Program) -> Vec<&str> {
    program.modules.keys().map(String::as_str).collect()
}

/// Whether a path is there that no test could have made.
fn exists(path: &str) -> bool {
    Path::new(path).exists()
}
