//! Builds an image from a Dockerfile with the builder that is installed: docker, podman or buildah. Knows their command
//! lines, and takes the result from a file; their caches stay theirs.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::{Image, docker, scratch};
use crate::stop::blocking;

/// Environment variable with the builder to use instead of searching for one.
const PROGRAM_VARIABLE: &str = "BERTH_DOCKER_BIN";
/// The builders, in search order.
const PROGRAMS: [&str; 3] = ["docker", "podman", "buildah"];
/// The names of Dockerfiles in a directory; the first that exists is used.
const DOCKERFILES: [&str; 2] = ["Dockerfile", "Containerfile"];
/// How long a program may take to print its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a builder may take to end after SIGTERM, and how often it is polled.
const END_GRACE: Duration = Duration::from_secs(5);
const END_INTERVAL: Duration = Duration::from_millis(20);
/// The name of the result in the file that the builder writes.
const RESULT: &str = "image";

/// A Dockerfile, and the directory that it is built in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dockerfile {
    pub(crate) file: PathBuf,
    pub(crate) context: PathBuf,
}

impl Dockerfile {
    /// The Dockerfile at a path: the file itself, or one in the directory.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        if path.is_dir() {
            let mut files = DOCKERFILES.iter().map(|name| path.join(name));
            return files.find(|file| file.is_file()).map(|file| Self { file, context: path.to_owned() });
        }
        let named = path.file_name().and_then(OsStr::to_str).is_some_and(is_dockerfile);
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let context = parent.unwrap_or(Path::new(".")).to_owned();
        (named && path.is_file()).then(|| Self { file: path.to_owned(), context })
    }
}

/// `Dockerfile`, `web.Dockerfile`, `Dockerfile.web`.
fn is_dockerfile(name: &str) -> bool {
    DOCKERFILES.iter().any(|known| {
        let before = name.strip_suffix(known).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        before || name.strip_prefix(known).is_some_and(|rest| rest.starts_with('.'))
    })
}

/// The command line syntax of a builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Docker,
    Podman,
    Buildah,
}

/// A program that builds images.
#[derive(Debug)]
pub(crate) struct Builder {
    program: PathBuf,
    kind: Kind,
}

impl Builder {
    /// The one that the environment names, or the first that is installed and works.
    pub(crate) async fn find() -> Result<Self> {
        if let Some(named) = env::var_os(PROGRAM_VARIABLE).filter(|named| !named.is_empty()) {
            let program = PathBuf::from(named);
            let kind = kind_of(&program).await;
            let kind = kind.with_context(|| format!("{PROGRAM_VARIABLE} names {}", program.display()))?;
            return Ok(Self { program, kind });
        }
        let mut faults = String::new();
        for program in PROGRAMS.iter().filter_map(|name| on_path(name)) {
            match kind_of(&program).await {
                Ok(kind) => return Ok(Self { program, kind }),
                Err(error) => faults.push_str(&format!("; {error:#}")),
            }
        }
        bail!(
            "building an image from a Dockerfile needs docker, podman or buildah, and none of them works here: install \
             one, or name one with {PROGRAM_VARIABLE}{faults}"
        )
    }

    /// Builds an image and reads it in. The builder's output goes to standard error.
    pub(crate) async fn build(&self, from: &Dockerfile, tag: &str, args: &[OsString]) -> Result<Image> {
        let context = from.context.canonicalize()?;
        // Without `--layers`, buildah rebuilds everything each time, and the image's digest always changes.
        let verb: &[&str] = if self.kind == Kind::Buildah { &["bud", "--layers"] } else { &["build"] };
        let mut command = Command::new(&self.program);
        command.args(verb).arg("--file").arg(from.file.canonicalize()?).args(["--tag", tag]);
        self.run(command.args(args).arg(context), "the build").await?;
        let directory = tempfile::Builder::new().prefix(".berth-build-").tempdir_in(scratch())?;
        let mut command = Command::new(&self.program);
        // A path may contain a colon, which these take for the start of a tag.
        command.current_dir(directory.path());
        match self.kind {
            Kind::Docker => command.args(["save", "--output", RESULT, tag]),
            Kind::Podman => command.args(["save", "--quiet", "--format", "oci-dir", "--output", RESULT, tag]),
            Kind::Buildah => command.args(["push", "--quiet", tag, &format!("oci:{RESULT}")]),
        };
        self.run(&mut command, "giving the image over").await?;
        let docker = self.kind == Kind::Docker;
        blocking(move |stop| {
            let result = directory.path().join(RESULT);
            if docker {
                docker::import(&result, &stop).map(|image| image.with_directory(directory))
            } else {
                Image::of_layout(&result).map(|image| image.with_directory(directory))
            }
        })
        .await
    }

    /// Runs a command of the builder; dropping the future ends it.
    async fn run(&self, command: &mut Command, what: &str) -> Result<()> {
        // Standard output is for the results of berth itself.
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        command.stdin(Stdio::null()).stdout(stderr);
        let child = command.spawn().with_context(|| format!("cannot run {}", self.program.display()))?;
        let status = Running(child).0.wait().await?;
        ensure!(status.success(), "{} did not succeed ({status}): {what}", self.program.display());
        Ok(())
    }
}

/// Finds a program in PATH.
fn on_path(name: &str) -> Option<PathBuf> {
    let executable = |file: &PathBuf| {
        file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(executable)
}

/// Finds out which builder a program is: `docker` may be podman by another name.
async fn kind_of(program: &Path) -> Result<Kind> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let said = tokio::time::timeout(VERSION_TIMEOUT, command.output()).await;
    let unusable = || format!("{} cannot be used", program.display());
    let said = said.with_context(unusable)?.with_context(unusable)?;
    ensure!(said.status.success(), "{}: it does not say its version ({})", unusable(), said.status);
    let said = String::from_utf8_lossy(&said.stdout).to_lowercase();
    Ok(match said.split_whitespace().next() {
        Some("podman") => Kind::Podman,
        Some("buildah") => Kind::Buildah,
        _ => Kind::Docker,
    })
}

/// A running builder. Dropped, it gets SIGTERM and is waited for: it may be writing where we remove files next.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let Some(pid) = self.0.id().and_then(|id| i32::try_from(id).ok()) else { return };
        // It may have ended just now.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let deadline = Instant::now() + END_GRACE;
        while matches!(self.0.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ = self.0.start_kill();
                return;
            }
            std::thread::sleep(END_INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn dockerfiles_are_known_by_their_names() {
        for good in ["Dockerfile", "Containerfile", "web.Dockerfile", "Dockerfile.web"] {
            assert!(is_dockerfile(good), "{good}");
        }
        for bad in ["dockerfile", "MyDockerfile", "Dockerfiles", "server"] {
            assert!(!is_dockerfile(bad), "{bad}");
        }
    }

    #[test]
    fn a_directory_that_holds_one_is_built() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Dockerfile::at(dir.path()), None);
        fs::write(dir.path().join("Containerfile"), "FROM scratch\n").unwrap();
        let found = Dockerfile::at(dir.path()).unwrap();
        assert_eq!((found.context.as_path(), found.file.ends_with("Containerfile")), (dir.path(), true));
        assert_eq!(Dockerfile::at(&dir.path().join("Containerfile")), Some(found));
        assert_eq!(Dockerfile::at(&dir.path().join("Dockerfile")), None);
    }

    /// A fake builder that runs this script.
    fn script(dir: &Path, text: &str) -> PathBuf {
        let program = dir.join("builder");
        fs::write(&program, format!("#!/bin/sh\n{text}")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    #[tokio::test]
    async fn programs_say_which_they_are() {
        let dir = tempfile::tempdir().unwrap();
        for (said, kind) in [
            ("podman version 4.3.1", Kind::Podman),
            ("buildah version 1.28.2 (image-spec 1.0.2)", Kind::Buildah),
            ("Docker version 28.0.1, build 068a01e", Kind::Docker),
        ] {
            let program = script(dir.path(), &format!("echo '{said}'"));
            assert_eq!(kind_of(&program).await.unwrap(), kind, "{said}");
        }
        let broken = script(dir.path(), "exit 3");
        assert!(kind_of(&broken).await.unwrap_err().to_string().contains("cannot be used"));
    }

    #[tokio::test]
    async fn a_build_that_nobody_waits_for_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let program =
            script(dir.path(), "trap 'touch ended; exit 0' TERM\ntouch begun\nwhile :; do sleep 0.02; done");
        let builder = Builder { program: program.clone(), kind: Kind::Docker };
        let mut command = Command::new(&program);
        let run = builder.run(command.current_dir(dir.path()), "x");
        let begun = async {
            while !dir.path().join("begun").exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! { _ = run => panic!("it ended by itself"), () = begun => {} }
        assert!(dir.path().join("ended").exists());
    }
}
