//! What takes as much of something as it gets.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use super::sys;

/// With this variable the app does not end when it is asked to.
const STUBBORN: &str = "IGNORE_SIGTERM";
/// Size of one write of a flood, in bytes.
const FLOOD_BYTES: usize = 1 << 20;

/// Signals without a handler do not end the first process of a pid namespace (pid_namespaces(7)); this one logs it, and
/// exits unless it was asked to ignore it.
pub(crate) fn take_signals() {
    use nix::sys::signal::{SigSet, Signal};
    if std::env::var_os(STUBBORN).is_some() {
        return sys::ignore(libc::SIGTERM);
    }
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    if set.thread_block().is_ok() {
        std::thread::spawn(move || {
            let _ = set.wait();
            std::process::exit(0);
        });
    }
}

/// Drops one.
pub(crate) fn drop(name: &str, count: usize) -> String {
    match name {
        // In a child: the kernel ends the largest, and then the whole must go.
        "memory" => memory(count),
        "fork" => forks(count),
        "spin" => spin(count),
        "inotify" => until_refused(count, sys::leak_inotify),
        "files" => match File::open("/") {
            Ok(file) => until_refused(count, || sys::leak_descriptor(&file)),
            Err(error) => error.to_string(),
        },
        "flood" => flood(count),
        "orphans" => orphans(count),
        "levels" => levels(count),
        _ => "there is no such bomb".to_owned(),
    }
}

/// So many mebibytes, in this very process.
fn memory(count: usize) -> String {
    sys::take_memory(count << 20);
    format!("took {count} MiB")
}

/// Children that sleep for ever, and how many there could be.
fn forks(count: usize) -> String {
    until_refused(count, || {
        if sys::fork()? {
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
        Ok(())
    })
}

/// Keeps all CPUs busy for so many seconds.
fn spin(seconds: usize) -> String {
    let end = Instant::now() + Duration::from_secs(seconds as u64);
    let threads: Vec<_> = (0..2)
        .map(|_| {
            std::thread::spawn(move || {
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| std::mem::drop(thread.join()));
    "spun".to_owned()
}

fn until_refused(count: usize, mut take: impl FnMut() -> sys::Outcome) -> String {
    for taken in 0..count {
        if let Err(errno) = take() {
            return format!("{taken} {errno:?}");
        }
    }
    format!("{count} ok")
}

/// So many mebibytes of empty lines on standard output.
fn flood(count: usize) -> String {
    let lines = vec![b'\n'; FLOOD_BYTES];
    let began = Instant::now();
    for _ in 0..count {
        if std::io::stdout().write_all(&lines).is_err() {
            return "broken".to_owned();
        }
    }
    format!("{} ms", began.elapsed().as_millis())
}

/// Processes that leave this one's session and parent, as daemons do.
fn orphans(count: usize) -> String {
    until_refused(count, || {
        if sys::fork()? {
            let _ = nix::unistd::setsid();
            if sys::fork()? {
                sys::ignore(libc::SIGTERM);
                sys::ignore(libc::SIGHUP);
                loop {
                    std::thread::sleep(Duration::from_secs(3600));
                }
            }
            std::process::exit(0);
        }
        Ok(())
    })
}

/// So many directories, each in the one before. This process stays in the last: no path would be short enough.
fn levels(count: usize) -> String {
    let deeper = || {
        std::fs::create_dir("d")?;
        std::env::set_current_dir("d")
    };
    for level in 0..count {
        if let Err(error) = deeper() {
            return format!("{level} {error}");
        }
    }
    format!("{count} ok")
}
