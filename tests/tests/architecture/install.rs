//! `systemd/install`, into a directory of the test's own: what it says that it would do it does not do, and what it has
//! installed it removes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::workspace;

/// Stands for each program: writes what the real ones write, as far as the script asks for it.
const PROGRAM: &str =
    "#!/bin/sh\ncase $1 in man) : >\"$2/$(basename \"$0\").1\" ;; completions) echo \"# $2\" ;; esac\n";

fn run(destination: &Path, words: &[&str]) -> Output {
    let program = workspace().join("systemd/install");
    Command::new(program).args(words).env("DESTDIR", destination).env("PREFIX", "/usr").output().unwrap()
}

/// Files below a directory, without it.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.push(path.strip_prefix(directory).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

fn programs() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in ["berth", "berth-agent", "berth-edge"] {
        let path = directory.path().join(name);
        fs::write(&path, PROGRAM).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    directory
}

#[test]
fn a_dry_run_changes_nothing_and_names_all_that_is_installed() {
    let (programs, destination) = (programs(), tempfile::tempdir().unwrap());
    let from = programs.path().display().to_string();
    for words in [["install", "--dry-run", "--from", &from], ["install", "--from", &from, "--dry-run"]] {
        let output = run(destination.path(), &words);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(files(destination.path()), Vec::<String>::new());
        assert!(text.contains("berth-node.service") && text.contains("bin/berth-edge"), "{text}");
    }
    assert!(!run(destination.path(), &["install", "--from", &from, "--dry"]).status.success());
    assert_eq!(files(destination.path()), Vec::<String>::new());

    let named = String::from_utf8(run(destination.path(), &["install", "--dry-run", "--from", &from]).stdout)
        .unwrap();
    assert!(run(destination.path(), &["install", "--from", &from]).status.success());
    let installed = files(destination.path());
    for wanted in [
        "usr/bin/berth-agent",
        "usr/lib/systemd/system/berth-node.service",
        "usr/share/man/man1/berth.1",
        "usr/share/man/man1/berth-edge.1",
        "usr/share/man/man1/berth-agent.1",
        "usr/share/bash-completion/completions/berth",
    ] {
        assert!(installed.iter().any(|file| file == wanted), "{wanted} is missing: {installed:?}");
    }
    for file in installed.iter().filter(|file| *file != "usr/share/berth/documents") {
        assert!(named.contains(&format!("/{file}")), "the dry run did not name {file}:\n{named}");
    }
}

#[test]
fn what_was_installed_is_removed_and_nothing_else() {
    let (programs, destination) = (programs(), tempfile::tempdir().unwrap());
    let from = programs.path().display().to_string();
    let other = destination.path().join("usr/share/man/man1/other.1");
    fs::create_dir_all(other.parent().unwrap()).unwrap();
    fs::write(&other, "").unwrap();
    assert!(run(destination.path(), &["install", "--from", &from]).status.success());
    let all = files(destination.path());
    assert!(run(destination.path(), &["uninstall", "--dry-run"]).status.success());
    assert_eq!(files(destination.path()), all);
    assert!(run(destination.path(), &["uninstall"]).status.success());
    assert_eq!(files(destination.path()), ["usr/share/man/man1/other.1"]);
}

#[test]
fn of_what_lies_beside_programs_only_their_own_pages_are_installed() {
    let (home, destination) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let programs = programs();
    fs::rename(programs.path(), home.path().join("bin")).unwrap();
    for name in ["man/man1/berth.1", "man/man1/berth-edge.1", "man/man1/other.1", "keyrings/private.key"] {
        let path = home.path().join("share").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let from = home.path().join("bin").display().to_string();
    assert!(run(destination.path(), &["install", "--from", &from]).status.success());
    assert_eq!(files(&destination.path().join("usr/share/man")), ["man1/berth-edge.1", "man1/berth.1"]);
    assert!(!destination.path().join("usr/share/keyrings").exists());
}
