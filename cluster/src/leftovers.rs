//! Processes of an earlier start. Daemons end with the process that started them, so waiting is enough, unless
//! something is wrong.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Pause between two polls: the kernel does not notify about the end of processes that are not children.
const POLL: Duration = Duration::from_millis(10);
/// How long killed processes may take to be gone.
const KILLED_TIMEOUT: Duration = Duration::from_secs(10);

/// Processes whose program lies below this directory.
pub fn processes_running(directory: &Path) -> Vec<u32> {
    let below =
        |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(directory));
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(below).collect()
}

/// The same for daemons and the processes that they started, and not for commands that a user runs from there.
pub fn daemons_running(directory: &Path) -> Vec<u32> {
    let mut all = processes_running(directory);
    all.retain(|pid| is_daemon(*pid));
    all
}

fn is_daemon(pid: u32) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("berth-"))
}

/// What a process was started with, for people.
pub fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let args: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    format!("{pid}: {}", args.join(" ").trim())
}

/// Waits until there are none, and kills those that are left after that. Returns which.
pub fn sweep(find: impl Fn() -> Vec<u32>, patience: Duration) -> Vec<String> {
    let deadline = Instant::now() + patience;
    while !find().is_empty() && Instant::now() < deadline {
        std::thread::sleep(POLL);
    }
    let killed = find().into_iter().map(command_line).collect();
    let deadline = Instant::now() + KILLED_TIMEOUT;
    // A process may have forked before it was killed.
    while kill_all(&find()) && Instant::now() < deadline {
        std::thread::sleep(POLL);
    }
    killed
}

/// Sends SIGKILL to all of them; returns whether there was any.
fn kill_all(pids: &[u32]) -> bool {
    for pid in pids.iter().filter_map(|pid| i32::try_from(*pid).ok()) {
        // One that is gone by now is what is wanted.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    !pids.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// A process that runs from a directory, until the end of its standard input.
    fn cat(directory: &Path) -> Child {
        let program = directory.join("cat");
        fs::copy("/bin/cat", &program).unwrap();
        Command::new(program).stdin(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn a_process_that_ends_by_itself_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut earlier = cat(dir.path());
        let running = processes_running(dir.path());
        assert_eq!(running, [earlier.id()]);
        let waiting = std::thread::spawn({
            let path = dir.path().to_owned();
            move || sweep(|| processes_running(&path), Duration::from_secs(20))
        });
        drop(earlier.stdin.take());
        earlier.wait().unwrap();
        assert_eq!(waiting.join().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_process_that_stays_is_killed_and_reported() {
        let dir = tempfile::tempdir().unwrap();
        let mut stays = cat(dir.path());
        // Who waits for a child closes its standard input first.
        let (id, _input) = (stays.id(), stays.stdin.take());
        let reaped = std::thread::spawn(move || stays.wait().unwrap());
        let killed = sweep(|| processes_running(dir.path()), Duration::from_millis(1));
        assert_eq!(killed, [format!("{id}: {}", dir.path().join("cat").display())]);
        assert!(!reaped.join().unwrap().success());
    }
}
