//! A script process: started, heard to its end, killed. Does not know what is said to it.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use berth_common::shown::shown_lines;
use berth_script::process::{Invitation, LAST_WORDS_BYTES, invite};

use super::failure::Ended;
use super::{Settings, VersionKey};

/// How often is looked whether a process that closed its socket has ended.
const REAP_INTERVAL: Duration = Duration::from_millis(20);

/// How long that may take before it is killed.
const REAP_LIMIT: Duration = Duration::from_secs(2);

/// A process.
pub(super) struct Child {
    process: Mutex<Process>,
    control: Mutex<Option<UnixStream>>,
    /// Why it was ended, if it was.
    ended: OnceLock<Ended>,
}

impl Child {
    /// Starts a process. Returns the sockets of its threads with it.
    ///
    /// It ends with the *thread* that calls this, which the kernel takes for its parent: so this is called on threads that
    /// live as long as the edge, never on those of a pool.
    pub(super) fn start(settings: &Settings, memory_bytes: u64) -> std::io::Result<(Self, Vec<UnixStream>)> {
        let (control, its_own) = UnixStream::pair()?;
        let mut near = Vec::with_capacity(settings.lanes);
        let mut far = Vec::with_capacity(settings.lanes);
        for _ in 0..settings.lanes {
            let (mine, its_own) = UnixStream::pair()?;
            mine.set_nonblocking(true)?;
            near.push(mine);
            far.push(its_own);
        }
        let process = Command::new(&settings.program)
            .args(&settings.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(its_own))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let ended = OnceLock::new();
        let child = Self { process: Mutex::new(process), control: Mutex::new(None), ended };
        // From here on the process is killed and awaited when the child is dropped.
        invite(&control, Invitation { memory_bytes }, &far)?;
        control.set_nonblocking(true)?;
        *child.control.lock().unwrap_or_else(PoisonError::into_inner) = Some(control);
        Ok((child, near))
    }

    /// Ends the process, for this reason; the first that is given counts.
    pub(super) fn kill(&self, why: Ended) {
        let _ = self.ended.set(why);
        // It may have ended already.
        let _ = self.process.lock().unwrap_or_else(PoisonError::into_inner).kill();
    }

    /// What the process has in memory, in bytes.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        let pid = self.process.lock().unwrap_or_else(PoisonError::into_inner).id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib << 10)
    }

    /// Why it has ended.
    pub(super) fn ended(&self) -> Ended {
        self.ended.get().copied().unwrap_or(Ended::Died)
    }

    /// Waits for the end of the process, and logs it if it was not asked for.
    pub(super) async fn watch(&self, key: &VersionKey) {
        let Some(control) = self.control.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let last_words = last_words(control).await;
        if last_words.len() > LAST_WORDS_BYTES {
            self.kill(Ended::Lied);
        }
        let status = self.reap().await;
        if self.ended() != Ended::Retired {
            let last_words = String::from_utf8_lossy(&last_words);
            let (why, last_words) = (self.ended(), shown_lines(&last_words));
            tracing::warn!(app = key.app, version = key.version, %why, ?status, %last_words, "a script process ended");
        }
    }

    async fn reap(&self) -> Option<ExitStatus> {
        let look = || self.process.lock().unwrap_or_else(PoisonError::into_inner).try_wait().ok().flatten();
        let looking = async {
            loop {
                if let Some(status) = look() {
                    return status;
                }
                tokio::time::sleep(REAP_INTERVAL).await;
            }
        };
        match tokio::time::timeout(REAP_LIMIT, looking).await {
            Ok(status) => Some(status),
            Err(_) => {
                self.kill(Ended::Died);
                // Killed, it goes as soon as the system gets to it; `Drop` awaits that.
                None
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !matches!(process.try_wait(), Ok(Some(_))) {
            let _ = process.kill();
            // A killed process does not keep its parent waiting.
            let _ = process.wait();
        }
    }
}

/// What the process leaves when it ends by a fault; returns at its end, or once that is more than it may be.
async fn last_words(control: UnixStream) -> Vec<u8> {
    let mut text = Vec::new();
    let Ok(control) = tokio::net::UnixStream::from_std(control) else { return text };
    let mut buffer = [0; LAST_WORDS_BYTES];
    while text.len() <= LAST_WORDS_BYTES && control.readable().await.is_ok() {
        match control.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    text
}
