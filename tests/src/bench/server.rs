//! Servers that Berth is compared with.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a server may take to listen, and to end.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two polls: what the start of a server is measured to.
const POLL: Duration = Duration::from_millis(1);

/// A server that is no daemon of ours. It ends with this process, or when it is dropped.
#[derive(Debug)]
pub(crate) struct Server(Child);

impl Server {
    /// Starts a server as the command's user, and waits until it listens.
    pub(crate) fn start(command: &Command, log: &Path, address: SocketAddr) -> Result<Self> {
        // Servers that cannot watch a pipe get a signal from the kernel when this process ends.
        let mut bound = Command::new("setpriv");
        bound.args(["--pdeathsig", "TERM"]).arg(command.get_program()).args(command.get_args());
        bound.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let file = fs::File::create(log)?;
        bound.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut server = Self(bound.spawn().with_context(|| format!("start {command:?}"))?);
        server.until_listening(log, address)?;
        Ok(server)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    fn until_listening(&mut self, log: &Path, address: SocketAddr) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while TcpStream::connect(address).is_err() {
            let ended = self.0.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log_text = fs::read_to_string(log).unwrap_or_default();
                bail!("nothing listens on {address} ({ended:?}): {}", log_text.trim());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = Instant::now() + TIMEOUT;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
