//! One `sh` that runs one block after the other, so that variables and what runs in the background stay, as in a
//! terminal.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

use crate::cluster::Cluster;
use crate::programs::ROOT;

/// How long one block may take: far more than the longest one on a busy machine.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(60);
/// Where Debian has its programs.
const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A shell at the top of the repository; it ends with this value, and what it has started does too.
#[derive(Debug)]
pub(super) struct Shell {
    process: Child,
    /// Said behind every block, with its exit status. No program prints it.
    marker: String,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

/// What programs look at for the authorities that they trust.
const CERTIFICATES: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"];

impl Shell {
    /// A shell with `berth` in its PATH, as this process's user.
    pub(super) fn start(cluster: &Cluster) -> Result<Self> {
        let mut command = Command::new("sh");
        command
            .env_clear()
            .env("PATH", format!("{}:{SYSTEM_PATH}", cluster.directory().join("bin").display()));
        command.env("BERTH_ADMIN_SOCKET", cluster.admin().socket());
        command.env("HOME", cluster.directory()).env("TMPDIR", cluster.directory()).current_dir(ROOT);
        // Where the network's certificates are the machine's own business.
        let certificates = CERTIFICATES.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.envs(certificates);
        // One stream for both, as on a terminal. Its own group, so that what runs in the background can be ended.
        command.args(["-c", "exec 2>&1; exec sh -s"]).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().context("start sh")?;
        let input = process.stdin.take().context("sh has no input")?;
        let output = BufReader::new(process.stdout.take().context("sh has no output")?);
        let marker = format!("end-of-block-{:016x}", fastrand::u64(..));
        Ok(Self { process, marker, pipes: Mutex::new((input, output)) })
    }

    /// Runs a block. Gives what it printed, and the exit status of its last command.
    pub(super) async fn run(&self, block: &str) -> Result<(String, i32)> {
        let run = tokio::time::timeout(BLOCK_TIMEOUT, self.run_in_time(block)).await;
        run.map_err(|_| anyhow!("it did not end within {BLOCK_TIMEOUT:?}"))?
    }

    async fn run_in_time(&self, block: &str) -> Result<(String, i32)> {
        let mut pipes = self.pipes.lock().await;
        let (input, output) = &mut *pipes;
        // What reads its standard input must not read the blocks.
        let script = format!("{{ {block}\n}} </dev/null\nprintf '\\n%s %s\\n' {} $?\n", self.marker);
        input.write_all(script.as_bytes()).await.context("write to sh")?;
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            if output.read_line(&mut line).await.context("read from sh")? == 0 {
                bail!("the shell ended; it had printed:\n{printed}");
            }
            match line.strip_prefix(&self.marker) {
                Some(status) => return Ok((printed, status.trim().parse()?)),
                None => printed.push_str(&line),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if let Some(group) = self.process.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It leads its group, and was not waited for: the number is still its own.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}
