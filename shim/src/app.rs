//! The container's first process before it becomes what the class asks for: the app itself, or a small init whose child
//! the app is. Runs inside the container, with the rights of the app.
//!
//! ```text
//! first process ─▶ assignment ─▶ (without init) exec: the app
//!                            └─▶ (with init) block signals ─▶ fork ─▶ exec: init
//!                                                               └──▶ own session, no signals blocked ─▶ exec: the app
//! ```
//!
//! The init is a program of a page or two (`init/main.rs`), run from sealed memory: what runs inside is neither a file of the
//! node's nor the agent's program, and nothing inside can change it. It has what the app has: user, filter, capabilities
//! (none but the class's), limits.
//!
//! What fails, and what happens then:
//! * The app cannot be executed: the process reports that and exits, and the init after it.
//! * The init cannot be executed: the same; with the first process all of the container ends.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::unistd::{execvpe, setsid};
use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create};
use serde::{Deserialize, Serialize};

use crate::sys;

/// The init, compiled by `build.rs`.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));
/// Exit code of a process that could not become the app, as shells have it.
const NOT_RUN: i32 = 127;

/// Reports of the builder, and of the app's process before exec, to the shim: JSON, one per line. When the last copy of
/// the pipe closes without a failure, the app runs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The container waits for its start; its first process has this pid.
    Created { pid: i32 },
    /// It could not be made or started.
    Failed { message: String },
    /// An error that libcontainer logged. Its results have little detail; and its cleanup after a failure kills
    /// everything in the cgroup, including the builder, before that could report.
    #[serde(untagged)]
    Logged { fields: BTreeMap<String, serde_json::Value> },
}

/// The init's program, in sealed memory.
pub(crate) fn init_program() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // A kernel before 6.3 does not know the flag, and runs any.
    let program = match memfd_create("init", flags | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => memfd_create("init", flags)?,
        made => made.map_err(|e| {
            io::Error::other(format!(
                "{e}; is vm.memfd_noexec 2? Then set it to 1, or init = false in the class"
            ))
        })?,
    };
    let written = nix::unistd::write(&program, INIT)?;
    if written != INIT.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    fchmod(&program, Mode::from_raw_mode(0o555))?;
    fcntl_add_seals(&program, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(program)
}

/// What the first process needs of the builder's descriptors.
#[derive(Clone)]
pub(crate) struct App {
    /// Where failures are reported. Closed by exec.
    pub(crate) reports: RawFd,
    /// Where the rest of the assignment comes from. Closed by exec.
    pub(crate) go: RawFd,
    /// The init, if it is to be the first process.
    pub(crate) init: Option<Init>,
}

/// The init's descriptors.
#[derive(Clone)]
pub(crate) struct Init {
    /// Its program.
    pub(crate) program: RawFd,
    /// Where it tells how the app ended.
    pub(crate) status: RawFd,
}

impl App {
    /// Becomes the app, or the init with the app as its child. Returns only on failure.
    fn become_first(&self, spec: &Spec) -> io::Result<Infallible> {
        let environment = self.environment()?;
        let args = spec.process().as_ref().and_then(|process| process.args().as_ref());
        let args = args.into_iter().flatten().map(|arg| CString::new(arg.as_bytes()));
        let args = args.collect::<Result<Vec<_>, _>>()?;
        let program = args.first().ok_or_else(|| io::Error::other("there is no program to run"))?;
        match &self.init {
            None => Ok(execvpe(program, &args, &environment)?),
            Some(init) => init.run_above(&environment, || {
                let become_app = || {
                    setsid()?;
                    sys::unblock_signals()?;
                    Ok(execvpe(program, &args, &environment)?)
                };
                let Err(error) = become_app();
                self.tell(spec, &error);
                NOT_RUN
            }),
        }
    }

    /// The instance's variables, overridden by those that libcontainer has set.
    fn environment(&self) -> io::Result<Vec<CString>> {
        let told: BTreeMap<String, String> =
            serde_json::from_slice(&sys::read_inherited(self.go)?).map_err(io::Error::other)?;
        let mut variables: BTreeMap<OsString, OsString> =
            told.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        variables.extend(std::env::vars_os());
        let joined = variables.into_iter().map(|(name, value)| {
            CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).map_err(io::Error::from)
        });
        joined.collect()
    }

    /// Reports why the app cannot be run, and returns the report's text.
    fn tell(&self, spec: &Spec, error: &io::Error) -> String {
        let program = spec.process().as_ref().and_then(|p| p.args().as_ref()).and_then(|a| a.first());
        let message = why_not_run(program.map_or("", String::as_str), error);
        let mut line = serde_json::to_vec(&Report::Failed { message: message.clone() }).unwrap_or_default();
        line.push(b'\n');
        sys::write_to_inherited(self.reports, &line);
        message
    }
}

/// Why a program could not be executed, and what to do.
fn why_not_run(program: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => format!(
            "`{program}` is not in the image, or what it is run by is not (the program after `#!`, or its loader): \
             check the entrypoint and the image"
        ),
        Some(libc::EACCES) => format!(
            "`{program}` may not be executed by the image's user: give it the permission (chmod +x) in the image"
        ),
        Some(libc::ENOEXEC) => format!(
            "`{program}` is no program for this machine, nor a script with `#!` in its first line: check its architecture"
        ),
        _ => format!("cannot run `{program}`: {error}"),
    }
}

impl Init {
    /// Becomes the init, with this as its child. Signals are blocked before there is one: those for a first process that
    /// does not block them are lost. The environment is for people: tools look for it at the first process.
    fn run_above(&self, environment: &[CString], child: impl FnOnce() -> i32) -> io::Result<Infallible> {
        sys::block_signals()?;
        let app = sys::fork(child)?;
        let args = ["init".to_owned(), app.to_string(), self.status.to_string()];
        let args = args.map(CString::new).into_iter().collect::<Result<Vec<_>, _>>()?;
        sys::exec_inherited(self.program, self.status, &args, environment)
    }
}

impl Executor for App {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let Err(error) = self.become_first(spec);
        Err(ExecutorError::Execution(self.tell(spec, &error).into()))
    }

    /// Not ahead of need: exec itself has the exact reason.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::time::{Duration, Instant};

    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::Pid;

    use super::*;
    use crate::signals;

    /// How the init ends, and what it tells, when its child does this.
    fn end(child: impl FnOnce() -> i32) -> (WaitStatus, Vec<u8>) {
        let program = init_program().unwrap();
        let (mut told, status) = io::pipe().unwrap();
        let init = Init { program: program.as_raw_fd(), status: status.as_raw_fd() };
        // The tests' process has other threads, but the child only makes system calls.
        let first = sys::fork(|| {
            let _ = init.run_above(&[], child);
            1
        });
        drop(status);
        let mut bytes = Vec::new();
        told.read_to_end(&mut bytes).unwrap();
        (waitpid(first.unwrap(), None).unwrap(), bytes)
    }

    #[test]
    fn the_init_ends_as_its_child_does_and_tells_how() {
        let (ended, told) = end(|| 7);
        assert!(matches!(ended, WaitStatus::Exited(_, 7)), "{ended:?}");
        assert_eq!(told, (7_i32 << 8).to_ne_bytes());
        let (ended, told) = end(|| {
            let _ = sys::unblock_signals();
            sys::send_signal(nix::unistd::getpid(), libc::SIGTERM).map_or(1, |()| 2)
        });
        assert!(matches!(ended, WaitStatus::Exited(_, 143)), "{ended:?}");
        assert_eq!(told, libc::SIGTERM.to_ne_bytes());
    }

    #[test]
    fn sigstop_stops_the_app_and_not_the_init_which_still_sees_its_end() {
        let program = init_program().unwrap();
        let (mut told, status) = io::pipe().unwrap();
        let (mut pids, pid) = io::pipe().unwrap();
        let init = Init { program: program.as_raw_fd(), status: status.as_raw_fd() };
        let first = sys::fork(|| {
            let _ = init.run_above(&[], || {
                let _ = nix::unistd::write(&pid, &std::process::id().to_ne_bytes());
                loop {
                    nix::unistd::pause();
                }
            });
            1
        });
        let first = first.unwrap();
        drop((status, pid));
        let mut bytes = [0; 4];
        pids.read_exact(&mut bytes).unwrap();
        let app = Pid::from_raw(i32::from_ne_bytes(bytes));
        let killed = Killed([first, app]);
        // Not before the first process is the init.
        until(|| signals::stop_below(first, &[first, app]));
        until(|| state_of(app) == Some('T'));
        assert_ne!(state_of(first), Some('T'));
        sys::send_signal(app, libc::SIGKILL).unwrap();
        let mut bytes = Vec::new();
        told.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, libc::SIGKILL.to_ne_bytes());
        std::mem::forget(killed);
        waitpid(first, None).unwrap();
    }

    /// Ends these processes if the test fails.
    struct Killed([Pid; 2]);

    impl Drop for Killed {
        fn drop(&mut self) {
            self.0.iter().for_each(|pid| drop(sys::send_signal(*pid, libc::SIGKILL)));
        }
    }

    fn state_of(process: Pid) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    fn until(true_at_last: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !true_at_last() {
            assert!(Instant::now() < deadline, "not within 30 s");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_program_that_is_not_run_has_a_reason_and_a_remedy() {
        for (code, reason) in
            [(libc::ENOENT, "is not in the image"), (libc::EACCES, "chmod"), (libc::E2BIG, "cannot run")]
        {
            let text = why_not_run("/app/x", &io::Error::from_raw_os_error(code));
            assert!(text.contains(reason) && text.contains("`/app/x`"), "{text}");
        }
    }

    #[test]
    fn the_inits_program_cannot_be_changed() {
        let program = init_program().unwrap();
        let path = format!("/proc/self/fd/{}", program.as_raw_fd());
        let changed = File::options().write(true).open(path).and_then(|mut file| file.write_all(b"x"));
        assert!(changed.is_err());
        assert!(INIT.len() < 8192, "{} bytes for each container", INIT.len());
    }
}
