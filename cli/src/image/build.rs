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
/// How long a program may take to print its version, and to tell whether it works: it may have to wake up first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Most characters of what a program says that does not work.
const MAX_FAULT_CHARS: usize = 300;
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
    /// Arguments of the build, as NAME=VALUE.
    pub(crate) vars: Vec<String>,
}

impl Dockerfile {
    /// The Dockerfile at a path: the file itself, or one in the directory.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        if path.is_dir() {
            let mut files = DOCKERFILES.iter().map(|name| path.join(name));
            let file = files.find(|file| file.is_file())?;
            return Some(Self { file, context: path.to_owned(), vars: Vec::new() });
        }
        let named = path.file_name().and_then(OsStr::to_str).is_some_and(is_dockerfile);
        (named && path.is_file()).then(|| Self::named(path))
    }

    /// This file, whatever it is called, in its directory.
    pub(crate) fn named(path: &Path) -> Self {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let context = parent.unwrap_or(Path::new(".")).to_owned();
        Self { file: path.to_owned(), context, vars: Vec::new() }
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
            let named = || format!("{PROGRAM_VARIABLE} names {}", program.display());
            return Self::working(program.clone()).await.with_context(named);
        }
        Self::find_on(&env::var_os("PATH").unwrap_or_default()).await
    }

    /// The first that works in these directories.
    async fn find_on(path: &OsStr) -> Result<Self> {
        let mut others = Vec::new();
        for name in PROGRAMS {
            let Some(program) = on_path(name, path) else {
                others.push(format!("{name} is not installed"));
                continue;
            };
            match Self::working(program).await {
                Ok(builder) => {
                    builder.note_others(&others);
                    return Ok(builder);
                }
                Err(error) => others.push(format!("{error:#}")),
            }
        }
        bail!(
            "building an image from a Dockerfile needs docker, podman or buildah, and none of them works here ({}): \
             install one, start its daemon, or name one with {PROGRAM_VARIABLE}",
            others.join("; ")
        )
    }

    /// This program, if it can build now: a client of a daemon that does not run cannot.
    async fn working(program: PathBuf) -> Result<Self> {
        let kind = kind_of(&program).await?;
        answer(&program, &["info"]).await?;
        Ok(Self { program, kind })
    }

    /// Says why it is not one of those that come first, where they are there.
    fn note_others(&self, others: &[String]) {
        for other in others.iter().filter(|other| !other.ends_with(" is not installed")) {
            crate::output::note!(
                "{other}; building with {} ({PROGRAM_VARIABLE} names another)",
                self.program.display()
            );
        }
    }

    /// Builds an image and reads it in. The builder's output goes to standard error.
    pub(crate) async fn build(&self, from: &Dockerfile, tag: &str, args: &[OsString]) -> Result<Image> {
        let context = from.context.canonicalize()?;
        // Without `--layers`, buildah rebuilds everything each time, and the image's digest always changes.
        let verb: &[&str] = if self.kind == Kind::Buildah { &["bud", "--layers"] } else { &["build"] };
        let mut command = Command::new(&self.program);
        command.args(verb).arg("--file").arg(from.file.canonicalize()?).args(["--tag", tag]);
        command.args(from.vars.iter().flat_map(|var| ["--build-arg", var]));
        self.run(command.args(args).arg(context), "the build").await?;
        self.taken(tag).await
    }

    /// Reads in an image that the builder has.
    pub(crate) async fn taken(&self, tag: &str) -> Result<Image> {
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

/// Finds a program in the directories of a PATH.
fn on_path(name: &str, path: &OsStr) -> Option<PathBuf> {
    let executable = |file: &PathBuf| {
        file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(path).map(|directory| directory.join(name)).find(executable)
}

/// Finds out which builder a program is: `docker` may be podman by another name.
async fn kind_of(program: &Path) -> Result<Kind> {
    let said = answer(program, &["--version"]).await?.to_lowercase();
    Ok(match said.split_whitespace().next() {
        Some("podman") => Kind::Podman,
        Some("buildah") => Kind::Buildah,
        _ => Kind::Docker,
    })
}

/// What a program prints, if it succeeds; else the last it says of why not.
async fn answer(program: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let said = tokio::time::timeout(ANSWER_TIMEOUT, command.output()).await;
    let unusable = || format!("{} does not work", program.display());
    let said = said.with_context(unusable)?.with_context(unusable)?;
    if said.status.success() {
        return Ok(String::from_utf8_lossy(&said.stdout).into_owned());
    }
    let fault = String::from_utf8_lossy(&said.stderr);
    let fault = fault.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let fault: String = fault.chars().filter(|c| !c.is_control()).take(MAX_FAULT_CHARS).collect();
    bail!("{}: `{}` ends with {}: {fault}", unusable(), args.join(" "), said.status)
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
        assert!(kind_of(&broken).await.unwrap_err().to_string().contains("does not work"));
    }

    #[tokio::test]
    async fn a_client_without_its_daemon_does_not_work() {
        let dir = tempfile::tempdir().unwrap();
        let client = "[ \"$1\" = --version ] && echo 'Docker version 28.0.1' && exit 0\n\
            printf 'Client:\\n\\nERROR: Cannot connect to the \\033[31mDocker daemon\\n' >&2; exit 1";
        let error = format!("{:#}", Builder::working(script(dir.path(), client)).await.unwrap_err());
        assert!(error.contains("`info` ends with exit status: 1: ERROR: Cannot connect"), "{error}");
        assert!(!error.contains('\x1b'), "{error}");
        let path = dir.path().as_os_str();
        fs::rename(dir.path().join("builder"), dir.path().join("docker")).unwrap();
        let error = Builder::find_on(path).await.unwrap_err().to_string();
        for part in
            ["Cannot connect", "podman is not installed", "buildah is not installed", PROGRAM_VARIABLE]
        {
            assert!(error.contains(part), "{error}");
        }
        fs::rename(script(dir.path(), "echo podman version 5"), dir.path().join("podman")).unwrap();
        let found = Builder::find_on(path).await.unwrap();
        assert_eq!((found.kind, found.program), (Kind::Podman, dir.path().join("podman")));
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
