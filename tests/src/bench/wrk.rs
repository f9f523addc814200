//! Load by `wrk`, and what it measured.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::packages;

/// Has wrk print what it measured as one line of JSON, times in microseconds.
const SCRIPT: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration_us":%d,"errors":%d,"p50_us":%d,"p99_us":%d}\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"#;

/// A load generator.
#[derive(Debug)]
pub struct Wrk {
    script: PathBuf,
}

/// What one run has measured.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Measured {
    /// Requests that were answered.
    pub requests: u64,
    /// How long it ran.
    pub duration_us: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Median latency.
    pub p50_us: u64,
    /// Latency that one in a hundred exceeds.
    pub p99_us: u64,
}

impl Measured {
    /// Requests a second.
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / (self.duration_us as f64 / 1e6)
    }
}

impl Wrk {
    /// Installs wrk where it is missing; its script goes into this directory.
    pub fn prepare(directory: &Path) -> Result<Self> {
        packages::need(&[("wrk", "wrk")])?;
        let script = directory.join("report.lua");
        fs::write(&script, SCRIPT)?;
        Ok(Self { script })
    }

    /// Asks for one path over so many connections, for so many seconds. Waits for it: call it where that is no harm.
    pub fn run(&self, address: SocketAddr, path: &str, connections: usize, seconds: u32) -> Result<Measured> {
        let mut command = Command::new("wrk");
        command.args(["--threads", "1", "--connections", &connections.to_string()]);
        command
            .args(["--duration", &format!("{seconds}s"), "--timeout", "10s", "--script"])
            .arg(&self.script);
        let output = command.arg(format!("http://{address}{path}")).output().context("run wrk")?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let line = stdout
            .lines()
            .find(|line| line.starts_with('{'))
            .with_context(|| format!("wrk said: {stdout}"))?;
        let measured: Measured = serde_json::from_str(line)?;
        ensure!(measured.errors == 0, "{} requests failed of {}", measured.errors, measured.requests);
        ensure!(measured.requests > 0, "no request was answered");
        Ok(measured)
    }
}
