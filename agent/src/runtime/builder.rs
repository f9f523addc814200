//! The builder: a child of the shim that becomes the container's root and has libcontainer make the container.
//!
//! ```text
//! fork ─▶ join the cgroup ─▶ own mount namespace ─▶ open layers and disk (as the agent's user)
//!      ─▶ become root inside ─▶ tmpfs, binds, overlay ─▶ libcontainer create ─▶ tell the shim
//!      ─▶ wait for the shim's word ─▶ libcontainer start ─▶ exit: the app is now the shim's child
//! ```
//!
//! The directories of the node can only be entered by the agent's user. So the builder opens what it needs first, and
//! mounts it below a tmpfs of its own once it has become the container's root. All that libcontainer writes lies in
//! that tmpfs and is gone with the mount namespace.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::default::get_executor;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::mount::{MsFlags, mount};
use serde::{Deserialize, Serialize};

use super::cgroup::ControlGroup;
use super::disk::{self, Disk};
use super::messages::ShimConfig;
use super::{files, oci, rlimits, stage, sys, user};

/// Longest overlay option string: the kernel takes one page.
const MAX_OVERLAY_OPTIONS_BYTES: usize = 4095;

/// Characters of the instance's id that are its host name: as many as tell instances apart at a glance.
const HOSTNAME_CHARACTERS: usize = 12;

/// What builder, and the app's process until it is the app, tell the shim: JSON, one a line. When the last copy of
/// the pipe closes without a failure, the app runs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The container waits for its start; its first process has this pid.
    Created { pid: i32 },
    /// It could not be made or started.
    Failed { message: String },
    /// An error that libcontainer logged. Its own results say little; and when it cleans up after a failure it ends
    /// everything in the cgroup, the builder too, before that can say anything.
    #[serde(untagged)]
    Logged { fields: BTreeMap<String, serde_json::Value> },
}

/// The builder's ends of its pipes.
pub(crate) struct Pipes {
    /// Reports go here. Closed by exec.
    pub(crate) reports: File,
    /// One byte comes here when the app may start.
    pub(crate) go: File,
    /// The app's standard output.
    pub(crate) stdout: OwnedFd,
    /// The app's standard error.
    pub(crate) stderr: OwnedFd,
}

/// Runs in the forked child and returns its exit code.
pub(crate) fn run(config: &ShimConfig, cgroup: &ControlGroup, pipes: Pipes) -> i32 {
    let (Ok(mut reports), Ok(details)) = (pipes.reports.try_clone(), pipes.reports.try_clone()) else {
        return 1;
    };
    let layer = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::ERROR)
        .with_writer(Mutex::new(details));
    let _ = tracing_subscriber::util::SubscriberInitExt::try_init(layer.finish());
    match build(config, cgroup, pipes) {
        Ok(()) => 0,
        Err(message) => {
            let _ = report(&mut reports, &Report::Failed { message });
            1
        }
    }
}

fn build(config: &ShimConfig, cgroup: &ControlGroup, pipes: Pipes) -> Result<(), String> {
    let said = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| format!("{what}: {error}")
    };
    cgroup.join().map_err(said("enter the cgroup"))?;
    let layers = stage::open_directories(&config.layers).map_err(said("open the image's layers"))?;
    let disk = open_disk(&config.disk).map_err(said("open the disk"))?;
    sys::become_root().map_err(said("become the container's root"))?;
    sys::set_dumpable(true).map_err(said("set the builder dumpable"))?;
    let stage = Stage::prepare(&layers, &disk).map_err(said("mount the root filesystem"))?;
    let user = user::resolve(&config.user, &stage.rootfs).map_err(|e| e.to_string())?;
    let rlimits = rlimits::of_container().map_err(said("read this process's own limits"))?;
    let hostname = config.instance.to_string();
    let files = files::write(&hostname[..HOSTNAME_CHARACTERS], config.resolver)
        .map_err(said("write /etc/hosts and its like"))?;
    let spec = oci::spec(&oci::Particulars {
        hostname: &hostname[..HOSTNAME_CHARACTERS],
        rootfs: &stage.rootfs,
        cgroup: &config.cgroup,
        args: &config.args,
        env: &config.env,
        cwd: &config.cwd,
        user,
        capabilities: &config.capabilities,
        rlimits,
        files: &files,
        protection: config.protection,
    })
    .map_err(|e| format!("write the container's specification: {e}"))?;
    spec.save(stage.bundle.join("config.json"))
        .map_err(|e| format!("write the container's specification: {e}"))?;
    contain(&hostname, &stage, pipes)
}

/// Creates the container, waits for the shim's word, and starts it.
fn contain(id: &str, stage: &Stage, pipes: Pipes) -> Result<(), String> {
    let Pipes { mut reports, mut go, stdout, stderr } = pipes;
    let stdin = File::open("/dev/null").map_err(|e| format!("open /dev/null: {e}"))?;
    let app = App { reports: reports.as_raw_fd() };
    let mut container = ContainerBuilder::new(id.to_owned(), SyscallType::default())
        .with_root_path(&stage.state)
        .and_then(|b| {
            b.with_executor(app).with_stdin(stdin).with_stdout(stdout).with_stderr(stderr).validate_id()
        })
        .and_then(|b| b.as_init(&stage.bundle).with_systemd(false).with_detach(true).build())
        .map_err(|e| format!("create the container: {}", chain(&e)))?;
    let pid = container.pid().ok_or("libcontainer gave no pid")?.as_raw();
    report(&mut reports, &Report::Created { pid }).map_err(|e| format!("report to the shim: {e}"))?;
    drop(reports);
    go.read_exact(&mut [0]).map_err(|e| format!("wait for the shim: {e}"))?;
    container.start().map_err(|e| format!("start the container: {}", chain(&e)))
}

/// An error with its causes: libcontainer's own texts say little.
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

/// libcontainer's usual way to run the app, and a report to the shim if that fails.
#[derive(Clone)]
struct App {
    reports: i32,
}

impl Executor for App {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let result = get_executor().exec(spec);
        if let Err(error) = &result {
            let program = spec.process().as_ref().and_then(|p| p.args().as_ref()).and_then(|a| a.first());
            let message = format!("run `{}`: {error}", program.map_or("", String::as_str));
            let line = serde_json::to_vec(&Report::Failed { message }).unwrap_or_default();
            sys::write_to_inherited(self.reports, &line);
        }
        result
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        get_executor().validate(spec)
    }
}

/// A disk, within reach of the container's root.
enum OpenDisk {
    Directory(OwnedFd),
    Memory { bytes: u64 },
}

fn open_disk(disk: &Disk) -> io::Result<OpenDisk> {
    Ok(match disk {
        Disk::Directory { path } => OpenDisk::Directory(stage::open_directory(path)?),
        Disk::Memory { bytes } => OpenDisk::Memory { bytes: *bytes },
    })
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

/// The builder's tmpfs and what lies in it.
struct Stage {
    bundle: PathBuf,
    state: PathBuf,
    rootfs: PathBuf,
}

impl Stage {
    /// Mounts layers (topmost first) and disk as one root filesystem.
    fn prepare(layers: &[OwnedFd], disk: &OpenDisk) -> io::Result<Self> {
        stage::mount_stage()?;
        let bound =
            layers.iter().enumerate().map(|(index, layer)| stage::bind_in_stage(layer, &index.to_string()));
        let lower = bound.collect::<io::Result<Vec<_>>>()?;
        let disk = disk.put_in_stage()?;
        let make = stage::make_in_stage;
        let made = Self { bundle: make("bundle")?, state: make("state")?, rootfs: make("rootfs")? };
        made.overlay(&lower, &disk)?;
        Ok(made)
    }

    fn overlay(&self, lower: &[PathBuf], disk: &Path) -> io::Result<()> {
        let (upper, work) = (disk.join("upper"), disk.join("work"));
        DirBuilder::new().mode(0o755).create(&upper)?;
        DirBuilder::new().mode(0o700).create(&work)?;
        let image_root = fs::metadata(&lower[0])?;
        fs::set_permissions(&upper, fs::Permissions::from_mode(image_root.mode() & 0o7777))?;
        std::os::unix::fs::chown(&upper, Some(image_root.uid()), Some(image_root.gid()))?;
        let lower: Vec<String> = lower.iter().map(|p| p.display().to_string()).collect();
        let options = format!(
            "lowerdir={},upperdir={},workdir={},userxattr",
            lower.join(":"),
            upper.display(),
            work.display()
        );
        if options.len() > MAX_OVERLAY_OPTIONS_BYTES {
            return Err(io::Error::other(format!("the image has too many layers ({})", lower.len())));
        }
        let flags = MsFlags::MS_NODEV;
        Ok(mount(Some("overlay"), &self.rootfs, Some("overlay"), flags, Some(options.as_str()))?)
    }
}
