//! Signals to a container's first process. The kernel keeps from it those that it does not handle, whatever their default
//! action: who sends one has to carry that out. Knows no containers.

use std::fs;
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::sys;

/// How long a process may take to stop: one that has used up its CPU waits for the next period of 100 ms, or for some.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// How often is looked whether it has.
const STOP_POLL: Duration = Duration::from_millis(1);

/// The first and the last of the real-time signals, as programs count them: the C library keeps two for itself.
const REAL_TIME: (i32, i32) = (34, 64);
/// Signals whose default action is not to end the process.
const HARMLESS: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGWINCH,
];

/// The number of the signal that asks an app to end, as images name it: `SIGQUIT`, `QUIT`, `3`, `SIGRTMIN+3`. `SIGSTOP` is
/// none: no process gets to know of it, so each stop would last its whole grace.
pub fn number_of(name: &str) -> Option<i32> {
    named(name).filter(|number| *number != libc::SIGSTOP)
}

fn named(name: &str) -> Option<i32> {
    let name = name.trim().to_ascii_uppercase();
    if let Ok(number) = name.parse::<i32>() {
        return (1..=REAL_TIME.1).contains(&number).then_some(number);
    }
    let bare = name.strip_prefix("SIG").unwrap_or(&name);
    let (base, offset) = match (bare.strip_prefix("RTMIN"), bare.strip_prefix("RTMAX")) {
        (Some(offset), _) => (REAL_TIME.0, offset),
        (_, Some(offset)) => (REAL_TIME.1, offset),
        _ => return Signal::from_str(&format!("SIG{bare}")).ok().map(|signal| signal as i32),
    };
    let offset = if offset.is_empty() { 0 } else { offset.parse::<i32>().ok()? };
    let number = base.checked_add(offset)?;
    (REAL_TIME.0..=REAL_TIME.1).contains(&number).then_some(number)
}

/// Whether this signal would end the process if it were not the first of its container, and the kernel drops it because it
/// is.
pub(crate) fn is_kept_from(first: Pid, signal: i32) -> bool {
    let default = |status: &str| !has_ended(status) && has_default_action(status, signal);
    !HARMLESS.contains(&signal) && default(&status_of(first)) && default(&status_when_stopped(first))
}

/// Stops the app below an init. An init cannot pass SIGSTOP on: it would be stopped itself, and see the app's end no more.
/// False if the app is not among the processes of its container any more.
pub(crate) fn stop_below(init: Pid, members: &[Pid]) -> bool {
    let arguments = fs::read_to_string(format!("/proc/{init}/cmdline")).unwrap_or_default();
    let Some(app) = arguments.split('\0').nth(1) else { return false };
    let found = members.iter().find(|member| is_child(&status_of(**member), init, app));
    found.is_some_and(|app| sys::send_signal(*app, libc::SIGSTOP).is_ok())
}

/// Whether a process with this `status` is a child of this one, with this pid where it runs.
fn is_child(status: &str, parent: Pid, pid: &str) -> bool {
    field(status, "PPid") == Some(parent.to_string().as_str())
        && field(status, "NSpid").and_then(|pids| pids.split_whitespace().last()) == Some(pid)
}

fn status_of(process: Pid) -> String {
    fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default()
}

/// The `status` of a process while it is stopped for a moment. While it waits in `sigwait` or its like, the kernel shows a
/// blocked signal as if it were not; once it is stopped, it shows what is true. Only for one that is to end.
fn status_when_stopped(process: Pid) -> String {
    let _ = sys::send_signal(process, libc::SIGSTOP);
    let deadline = Instant::now() + STOP_TIMEOUT;
    let mut status = status_of(process);
    while !is_stopped(&status) && !has_ended(&status) && Instant::now() < deadline {
        std::thread::sleep(STOP_POLL);
        status = status_of(process);
    }
    let _ = sys::send_signal(process, libc::SIGCONT);
    status
}

/// Whether a process with this `status` is stopped, by a signal or by who traces it.
fn is_stopped(status: &str) -> bool {
    matches!(state_of(status), Some('T' | 't'))
}

/// Whether a process with this `status` has ended: no signal does anything to it. Also if there is none any more.
fn has_ended(status: &str) -> bool {
    matches!(state_of(status), None | Some('Z' | 'X'))
}

fn state_of(status: &str) -> Option<char> {
    field(status, "State")?.chars().next()
}

/// A line of a `status`, without its name.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// Whether a process with this `status` neither catches, ignores nor blocks a signal. A blocked one is kept for it.
fn has_default_action(status: &str, signal: i32) -> bool {
    let Some(bit) = u32::try_from(signal - 1).ok().and_then(|bit| 1_u64.checked_shl(bit)) else {
        return false;
    };
    let has = |name: &str| {
        field(status, name).and_then(|mask| u64::from_str_radix(mask, 16).ok()).map(|mask| mask & bit != 0)
    };
    // Where that cannot be read, it is left to the process.
    ["SigCgt", "SigIgn", "SigBlk"].iter().all(|mask| has(mask) == Some(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_name_signals_in_any_way() {
        let known = [("SIGQUIT", 3), ("QUIT", 3), ("sigquit", 3), (" 3 ", 3), ("SIGRTMIN+3", 37)];
        for (name, number) in known.into_iter().chain([("RTMAX-1", 63), ("SIGWINCH", 28), ("64", 64)]) {
            assert_eq!(number_of(name), Some(number), "{name}");
        }
        for name in [
            "",
            "SIG",
            "SIGNOTHING",
            "0",
            "65",
            "-1",
            "SIGSTOP",
            "stop",
            "19",
            "RTMIN+31",
            "RTMAX+1",
            "RTMIN+x",
        ] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }

    #[test]
    fn only_what_is_not_handled_has_its_default_action() {
        let status = "SigBlk:\t0000000000000001\nSigIgn:\t0000000000000004\nSigCgt:\t0000000000004000\n";
        for (signal, default) in [(1, false), (2, true), (3, false), (15, false), (14, true), (64, true)] {
            assert_eq!(has_default_action(status, signal), default, "{signal}");
        }
        assert!(!has_default_action("", 15) && !has_default_action(status, 0));
        assert!(!has_default_action(status, 65));
    }

    #[test]
    fn what_has_ended_is_neither_waited_for_nor_carried_out() {
        for (state, stopped, ended) in [
            ("T (stopped)", true, false),
            ("t (tracing stop)", true, false),
            ("S (sleeping)", false, false),
            ("D (disk sleep)", false, false),
            ("Z (zombie)", false, true),
            ("X (dead)", false, true),
        ] {
            let status = format!("Name:\tT\nUmask:\t0022\nState:\t{state}\nTgid:\t7\n");
            assert_eq!((is_stopped(&status), has_ended(&status)), (stopped, ended), "{state}");
        }
        assert!(has_ended("") && !is_stopped(""));
    }

    #[test]
    fn a_first_process_that_has_ended_and_is_not_reaped_keeps_nobody_waiting() {
        let ended = sys::fork(|| 0).unwrap();
        while !has_ended(&status_of(ended)) {
            std::thread::yield_now();
        }
        assert!(!is_kept_from(ended, libc::SIGUSR1));
        nix::sys::wait::waitpid(ended, None).unwrap();
    }

    #[test]
    fn only_the_inits_own_child_of_that_pid_is_the_app() {
        let status = |parent: i32, pids: &str| format!("Pid:\t700\nPPid:\t{parent}\nNSpid:\t{pids}\n");
        let is_app = |status: String| is_child(&status, Pid::from_raw(600), "2");
        assert!(is_app(status(600, "700\t2")) && is_app(status(600, "700\t9\t2")));
        assert!(!is_app(status(600, "700\t12")) && !is_app(status(60, "700\t2")) && !is_app(String::new()));
    }
}
