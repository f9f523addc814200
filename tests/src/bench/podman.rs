//! Rootless podman, as an ordinary user runs it: the peer that a cold start is compared with.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{User, geteuid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{machine, packages};

/// The ordinary user that root makes for the bench, and removes after it.
const USER: &str = "berth-bench";
/// Where that user keeps images and containers.
const HOME: &str = "/var/lib/berth-bench";
/// What rootless networking needs. On an ordinary system everybody may open it.
const TUN: &str = "/dev/net/tun";
/// How long a container may take until it answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between two tries to reach a port that is not there yet.
const RETRY: Duration = Duration::from_millis(1);
/// Podman's warning if it cannot limit CPU and memory.
const NO_LIMITS: &str = "Resource limits are not supported";

const PACKAGES: [(&str, &str); 6] = [
    ("podman", "podman"),
    ("runc", "runc"),
    ("newuidmap", "uidmap"),
    ("slirp4netns", "slirp4netns"),
    ("fuse-overlayfs", "fuse-overlayfs"),
    ("conmon", "conmon"),
];

/// A podman of an ordinary user with one image.
#[derive(Debug)]
pub struct Podman {
    user: User,
    home: PathBuf,
    image: String,
    /// Whether it limits CPU and memory of containers on this machine.
    pub limits: bool,
    made_user: bool,
    tun_mode: Option<u32>,
}

impl Podman {
    /// Installs missing packages, creates the user if this process is root's, and loads an OCI image layout.
    pub fn prepare(layout: &Path) -> Result<Self> {
        packages::need(&PACKAGES)?;
        let (user, home, made_user) = find_user()?;
        let mut podman = Self { user, home, image: String::new(), limits: true, made_user, tun_mode: None };
        podman.make_directories()?;
        podman.tun_mode = open_tun()?;
        podman.image = podman.load(layout)?;
        Ok(podman)
    }

    /// Runs a container, and measures from the start of the command to the first byte of the app's answer.
    pub async fn cold_start(&mut self, name: &str, address: SocketAddr) -> Result<Duration> {
        let mut command = self.command();
        command.args(["run", "--detach", "--name", name, "--cpus", "1", "--memory", "256m"]);
        command.arg("--publish").arg(format!("{address}:8080")).arg(&self.image);
        let started = Instant::now();
        let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("run podman")?;
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, first_byte(address)).await;
        let took = started.elapsed();
        let output = tokio::task::spawn_blocking(move || run.wait_with_output()).await??;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "podman run: {}", stderr.trim());
        answered.with_context(|| format!("no answer from podman's container: {}", stderr.trim()))?;
        self.limits &= !stderr.contains(NO_LIMITS);
        Ok(took)
    }

    /// Removes a container.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.succeed(&["rm", "--force", "--time", "0", name]).map(drop)
    }

    /// Version, for the report.
    pub fn version(&self) -> Result<String> {
        self.succeed(&["--version"])
    }

    fn load(&self, layout: &Path) -> Result<String> {
        let copy = self.home.join("image");
        let output = Command::new("cp").arg("-r").arg(layout).arg(&copy).output().context("run cp")?;
        ensure!(
            output.status.success(),
            "copy {}: {}",
            layout.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        self.give(&copy)?;
        self.succeed(&["pull", "--quiet", &format!("oci:{}", copy.display())])
    }

    fn make_directories(&self) -> Result<()> {
        for path in [self.home.clone(), self.home.join("run")] {
            fs::create_dir_all(&path)?;
            self.give(&path)?;
            fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        }
        Ok(())
    }

    fn give(&self, path: &Path) -> Result<()> {
        chown(path, Some(self.user.uid.as_raw()), Some(self.user.gid.as_raw()))?;
        if path.is_dir() {
            fs::read_dir(path)?.try_for_each(|entry| self.give(&entry?.path()))?;
        }
        Ok(())
    }

    /// podman with the settings that are right for it on this kind of machine: runc, no systemd, the kernel's overlay.
    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--storage-driver", "overlay"]);
        command
            .arg("--root")
            .arg(self.home.join("storage"))
            .arg("--runroot")
            .arg(self.home.join("run/containers"));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", &self.home);
        command.env("XDG_RUNTIME_DIR", self.home.join("run")).current_dir(&self.home);
        if geteuid().is_root() {
            command.uid(self.user.uid.as_raw()).gid(self.user.gid.as_raw());
        }
        command.stdin(Stdio::null());
        command
    }

    fn succeed(&self, args: &[&str]) -> Result<String> {
        let output = self.command().args(args).output().context("run podman")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "podman {}: {}", args.join(" "), stderr.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn clean_up(&self) -> Result<()> {
        self.succeed(&["rm", "--all", "--force", "--time", "0"])?;
        if let Some(mode) = self.tun_mode {
            fs::set_permissions(TUN, Permissions::from_mode(mode))?;
        }
        machine::remove_directory(&self.home)?;
        if self.made_user {
            run("userdel", &[USER])?;
        }
        Ok(())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        if let Err(error) = self.clean_up() {
            eprintln!("cleaning up after podman: {error:#}");
        }
    }
}

/// This process's user; for root, an ordinary one, which is made where it is missing.
fn find_user() -> Result<(User, PathBuf, bool)> {
    if !geteuid().is_root() {
        let user = User::from_uid(geteuid())?.context("this process's user has no name")?;
        let home = std::env::temp_dir().join(format!("berth-bench-{}", std::process::id()));
        return Ok((user, home, false));
    }
    let made = User::from_name(USER)?.is_none();
    if made {
        println!("making the ordinary user `{USER}` for podman; it is removed at the end");
        // An ordinary user gets subordinate ids by itself.
        run("useradd", &["--no-create-home", "--home-dir", HOME, "--shell", "/usr/sbin/nologin", USER])?;
    }
    machine::remove_directory(Path::new(HOME))?;
    let user =
        User::from_name(USER)?.with_context(|| format!("the user {USER} was made and is not there"))?;
    Ok((user, HOME.into(), made))
}

/// Lets ordinary users open the device as they may elsewhere; returns the mode that it had.
fn open_tun() -> Result<Option<u32>> {
    let mode =
        fs::metadata(TUN).with_context(|| format!("look at {TUN}, which rootless networking needs"))?;
    let mode = mode.permissions().mode() & 0o777;
    if mode & 0o006 == 0o006 {
        return Ok(None);
    }
    ensure!(geteuid().is_root(), "ordinary users cannot open {TUN}; as root run: chmod 666 {TUN}");
    println!("letting ordinary users open {TUN} until the end, as on an ordinary system: podman needs it");
    fs::set_permissions(TUN, Permissions::from_mode(0o666))?;
    Ok(Some(mode))
}

/// Asks until the app has answered. Podman takes connections before the app does, and drops them.
async fn first_byte(address: SocketAddr) {
    while ask(address).await.is_err() {
        tokio::time::sleep(RETRY).await;
    }
}

async fn ask(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).await?;
    match stream.read(&mut [0; 1]).await? {
        0 => bail!("closed before the answer"),
        _ => Ok(()),
    }
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program).args(args).output().with_context(|| format!("run {program}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", args.join(" "), stderr.trim());
    Ok(())
}
