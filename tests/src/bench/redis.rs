//! redis with `appendfsync always`: the peer that durable commits are compared with. It too makes all that waits
//! durable with one sync.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::packages;

/// The program of the package redis-tools that is the server under the server's name; the package redis-server would
/// start one without being asked to.
const PROGRAM: &str = "redis-check-rdb";
/// How long it may take to listen.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two polls.
const POLL: Duration = Duration::from_millis(10);
/// Different keys, so that each put is of another one, mostly.
const KEYS: &str = "1000000";

/// A server; ended with this value.
#[derive(Debug)]
pub struct Redis {
    server: Child,
    socket: PathBuf,
}

/// What one run has measured.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Durable puts a second.
    pub per_second: f64,
    /// Median latency.
    pub p50_ms: f64,
}

impl Redis {
    /// Installs it where it is missing, and starts one with its data in this directory.
    pub fn start(directory: &Path) -> Result<Self> {
        packages::need(&[(PROGRAM, "redis-tools")])?;
        let socket = directory.join("redis.sock");
        let mut command = Command::new(Path::new("/usr/bin").join(PROGRAM));
        command.arg0("redis-server").args(["--port", "0", "--save", "", "--appendonly", "yes"]);
        command.args(["--appendfsync", "always", "--unixsocket"]).arg(&socket).arg("--dir").arg(directory);
        let server = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut redis = Self { server: server.context("start redis")?, socket };
        redis.until_listening()?;
        Ok(redis)
    }

    fn until_listening(&mut self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while std::os::unix::net::UnixStream::connect(&self.socket).is_err() {
            if let Some(status) = self.server.try_wait()? {
                bail!("redis has ended: {status}");
            }
            ensure!(Instant::now() < deadline, "redis does not listen on {}", self.socket.display());
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Has so many clients put so many values, each of which waits for its answer.
    pub fn measure(&self, clients: usize, value_bytes: usize, puts: usize) -> Result<Measured> {
        let mut command = Command::new("redis-benchmark");
        command.arg("-s").arg(&self.socket).args(["-t", "set", "--csv", "-r", KEYS]);
        command.args(["-c", &clients.to_string(), "-d", &value_bytes.to_string(), "-n", &puts.to_string()]);
        let output = command.output().context("run redis-benchmark")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        read(&text).with_context(|| format!("redis-benchmark said {text:?}"))
    }
}

/// `"SET","9000.00","6.1","0.4","5.9",...`: requests a second, then average, least and median latency.
fn read(text: &str) -> Option<Measured> {
    let line = text.lines().find(|line| line.starts_with("\"SET\""))?;
    let number = |index| line.split(',').nth(index)?.trim_matches('"').parse::<f64>().ok();
    Some(Measured { per_second: number(1)?, p50_ms: number(4)? })
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_benchmark_says_is_read() {
        let text = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\"\n\
                    \"SET\",\"9000.50\",\"6.103\",\"0.400\",\"5.900\",\"8.0\",\"9.1\",\"11.2\"\n";
        let read = super::read(text).unwrap();
        assert!((read.per_second - 9000.5).abs() < 0.01 && (read.p50_ms - 5.9).abs() < 0.01);
        assert!(super::read("").is_none());
    }
}
