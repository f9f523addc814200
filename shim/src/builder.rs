//! The builder: a child of the shim that becomes the container's root and has libcontainer make the container.
//!
//! ```text
//! fork ─▶ join the cgroup ─▶ own mount namespace ─▶ open layers and disk (as the agent's user)
//!      ─▶ become root inside ─▶ tmpfs, binds, overlay ─▶ libcontainer create ─▶ report to the shim
//!      ─▶ wait for the shim's assignment, which may take long: the instance ─▶ set the host name
//!      ─▶ libcontainer start ─▶ exit: the app is now the shim's child
//! ```
//!
//! What fails, and what happens then:
//! * Any step before the app runs: the failure is reported through the pipe, and the builder exits.
//! * libcontainer's own cleanup kills the builder: the shim has its logged errors, which were reported before.
//! * The shim dies: the assignment's pipe closes, the builder gives up, and the supervisor has the container swept.
//! * The app cannot be executed: see `app`.
//!
//! The directories of the node can only be entered by the agent's user. So the builder opens what it needs first, and
//! mounts it below a tmpfs of its own once it has become the container's root. All that libcontainer writes lies in
//! that tmpfs and is gone with the mount namespace.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::sethostname;

use crate::app::{App, Init, Report, init_program};
use crate::cgroup::ControlGroup;
use crate::disk::{self, Disk};
use crate::files::Files;
use crate::group_view::OpenGroup;
use crate::messages::{Assignment, ContainerConfig};
use crate::{files, oci, process, rlimits, rootfs, stage, sys, user};

/// Characters of the instance's id that make its host name: enough to distinguish instances.
const HOSTNAME_CHARACTERS: usize = 12;
/// Characters of an instance's id.
const INSTANCE_ID_CHARACTERS: usize = 32;
/// The container's id for libcontainer. Constant, because its state directory is private to the builder.
const LIBCONTAINER_ID: &str = "container";

/// The builder's ends of its pipes.
pub(crate) struct Pipes {
    /// Reports go here. Closed by exec.
    pub(crate) reports: File,
    /// The assignment is read from here when the app may start. The builder reads the instance's id, the app's first
    /// process the rest.
    pub(crate) go: File,
    /// The app's standard output.
    pub(crate) stdout: OwnedFd,
    /// The app's standard error.
    pub(crate) stderr: OwnedFd,
    /// Where the init tells how the app ended, if there is to be one.
    pub(crate) status: Option<OwnedFd>,
}

/// Encodes the assignment of a container to an instance, after which its app may start.
pub(crate) fn encode_assignment(assignment: &Assignment) -> io::Result<Vec<u8>> {
    let mut word = assignment.instance.to_string().into_bytes();
    serde_json::to_writer(&mut word, &assignment.env).map_err(io::Error::other)?;
    Ok(word)
}

/// Where and under which limits a container is made.
pub(crate) struct Location<'a> {
    /// Its shim's directory.
    pub(crate) directory: &'a Path,
    /// Its group.
    pub(crate) cgroup: &'a ControlGroup,
}

/// Runs in the forked child and returns its exit code.
pub(crate) fn run(config: &ContainerConfig, location: &Location<'_>, pipes: Pipes) -> i32 {
    let (Ok(mut reports), Ok(details)) = (pipes.reports.try_clone(), pipes.reports.try_clone()) else {
        return 1;
    };
    let layer = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::ERROR)
        .with_writer(Mutex::new(details));
    let _ = tracing_subscriber::util::SubscriberInitExt::try_init(layer.finish());
    match build(config, location, pipes) {
        Ok(()) => 0,
        Err(message) => {
            let _ = report(&mut reports, &Report::Failed { message });
            1
        }
    }
}

fn build(config: &ContainerConfig, location: &Location<'_>, pipes: Pipes) -> Result<(), String> {
    let said = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| format!("cannot {what}: {error}")
    };
    location.cgroup.join().map_err(said("enter the cgroup"))?;
    let layers = stage::open_directories(&config.layers).map_err(said("open the image's layers"))?;
    let disk = open_disk(&config.disk, location.directory).map_err(said("open the disk"))?;
    let group = OpenGroup::open(location.cgroup).map_err(said("open the cgroup"))?;
    sys::become_root().map_err(said("become the container's root"))?;
    unshare(CloneFlags::CLONE_NEWUTS).map_err(io::Error::from).map_err(said("make a UTS namespace"))?;
    sys::set_dumpable(true).map_err(said("set the builder dumpable"))?;
    // Whatever the supervisor's: the app has it from here.
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let stage = Stage::prepare(&layers, &disk).map_err(said("mount the root filesystem"))?;
    let user = user::resolve(&config.user, &stage.rootfs).map_err(|e| e.to_string())?;
    let wanted = rootfs::Wanted { cwd: &config.cwd, volumes: &config.volumes, user: &user };
    rootfs::complete(&stage.rootfs, &wanted).map_err(|e| e.to_string())?;
    let rlimits = rlimits::of_container().map_err(said("read this process's own limits"))?;
    let files = files::write(config.resolver).map_err(said("write /etc/hosts and its like"))?;
    for (_, path) in &files {
        rootfs::make_place(&stage.rootfs, Path::new(path))
            .map_err(said(&format!("make place for {path}")))?;
    }
    let group = group.put_in_stage().map_err(said("make the view of the cgroup"))?;
    let env = with_home(&config.env, &user.home);
    let spec = oci::spec(&oci::Particulars {
        rootfs: &stage.rootfs,
        cgroup: &config.cgroup,
        args: &config.args,
        env: &env,
        cwd: &config.cwd,
        user,
        capabilities: &config.capabilities,
        rlimits,
        files: &files,
        group: &group,
        protection: config.protection,
    })
    .map_err(|e| format!("cannot write the container's specification: {e}"))?;
    spec.save(stage.bundle.join("config.json"))
        .map_err(|e| format!("cannot write the container's specification: {e}"))?;
    contain(&stage, &files, pipes)
}

/// Creates the container, waits for the assignment, and starts it.
fn contain(stage: &Stage, files: &Files, pipes: Pipes) -> Result<(), String> {
    process::require_one_thread().map_err(|e| format!("cannot make the container: {e}"))?;
    let Pipes { mut reports, mut go, stdout, stderr, status } = pipes;
    let stdin = File::open("/dev/null").map_err(|e| format!("cannot open /dev/null: {e}"))?;
    let program = status.as_ref().map(|_| init_program()).transpose();
    let program = program.map_err(|e| format!("cannot make the container's first process: {e}"))?;
    let init = program.as_ref().zip(status.as_ref());
    let init =
        init.map(|(program, status)| Init { program: program.as_raw_fd(), status: status.as_raw_fd() });
    let app = App { reports: reports.as_raw_fd(), go: go.as_raw_fd(), init };
    let mut container = ContainerBuilder::new(LIBCONTAINER_ID.to_owned(), SyscallType::default())
        .with_root_path(&stage.state)
        .and_then(|b| {
            b.with_executor(app).with_stdin(stdin).with_stdout(stdout).with_stderr(stderr).validate_id()
        })
        .and_then(|b| b.as_init(&stage.bundle).with_systemd(false).with_detach(true).build())
        .map_err(|e| format!("cannot create the container: {}", chain(&e)))?;
    let pid = container.pid().ok_or("libcontainer gave no pid")?.as_raw();
    report(&mut reports, &Report::Created { pid }).map_err(|e| format!("report to the shim: {e}"))?;
    drop(reports);
    let mut instance = [0; INSTANCE_ID_CHARACTERS];
    go.read_exact(&mut instance).map_err(|e| format!("wait for the shim: {e}"))?;
    let hostname = String::from_utf8_lossy(&instance[..HOSTNAME_CHARACTERS]);
    sethostname(hostname.as_ref()).map_err(|e| format!("cannot set the host name: {e}"))?;
    files::name(files, &hostname).map_err(|e| format!("cannot write /etc/hosts and its like: {e}"))?;
    container.start().map_err(|e| format!("cannot start the container: {}", chain(&e)))
}

/// The environment with the user's home, unless it names one: programs expect it.
fn with_home(env: &BTreeMap<String, String>, home: &str) -> BTreeMap<String, String> {
    let mut env = env.clone();
    if env.get("HOME").is_none_or(String::is_empty) {
        env.insert("HOME".to_owned(), home.to_owned());
    }
    env
}

/// An error with its causes: libcontainer's own texts have little detail.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn report(to: &mut File, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report).map_err(io::Error::other)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// A disk that was opened as the agent's user, for use as the container's root.
enum OpenDisk {
    Directory(OwnedFd),
    Memory { bytes: u64 },
}

fn open_disk(disk: &Disk, shim: &Path) -> io::Result<OpenDisk> {
    match (disk, disk.path(shim)) {
        (Disk::Memory { bytes }, _) => Ok(OpenDisk::Memory { bytes: *bytes }),
        (_, Some(path)) => Ok(OpenDisk::Directory(stage::open_directory(&path)?)),
        (_, None) => Err(io::Error::other("it has no directory")),
    }
}

impl OpenDisk {
    fn put_in_stage(&self) -> io::Result<PathBuf> {
        match self {
            Self::Directory(directory) => stage::bind_in_stage(directory, "disk"),
            Self::Memory { bytes } => {
                let path = stage::make_in_stage("disk")?;
                disk::memory::mount_disk(*bytes, &path)?;
                Ok(path)
            }
        }
    }
}

/// The builder's tmpfs and its contents.
struct Stage {
    bundle: PathBuf,
    state: PathBuf,
    rootfs: PathBuf,
}

impl Stage {
    /// Mounts layers (topmost first) and disk as one root filesystem.
    fn prepare(layers: &[OwnedFd], disk: &OpenDisk) -> io::Result<Self> {
        stage::mount_stage()?;
        let lower = stage::bind_layers(layers)?;
        let disk = disk.put_in_stage()?;
        let make = stage::make_in_stage;
        let made = Self { bundle: make("bundle")?, state: make("state")?, rootfs: make("rootfs")? };
        let (upper, work) = (disk.join("upper"), disk.join("work"));
        stage::Overlay { lower: &lower, upper, work }.mount(&made.rootfs)?;
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libcontainer_is_never_called_by_a_process_with_threads() {
        let open = || File::open("/dev/null").unwrap();
        let (stdout, stderr) = (open().into(), open().into());
        let pipes = Pipes { reports: open(), go: open(), stdout, stderr, status: None };
        let nowhere = PathBuf::from("/nowhere");
        let stage = Stage { bundle: nowhere.clone(), state: nowhere.clone(), rootfs: nowhere };
        // The tests' own process has a thread for the test beside its first.
        let refused = contain(&stage, &Files::new(), pipes).unwrap_err();
        assert!(refused.contains("threads"), "{refused}");
    }
}
