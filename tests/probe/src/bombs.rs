//! What takes as much of something as it gets.

use std::fs::File;
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::sys;

/// With this variable the app does not end when it is asked to.
const STUBBORN: &str = "IGNORE_SIGTERM";
/// With this variable it does nothing about signals, as most programs.
const HANDLES_NONE: &str = "NO_HANDLER";
/// Size of one write of a flood, in bytes.
const FLOOD_BYTES: usize = 1 << 20;
/// Size of a datagram, in bytes, and how many are sent to a socket: more than its buffer takes by default.
const DATAGRAM_BYTES: usize = 8 << 10;
const DATAGRAMS: usize = 40;

/// Signals without a handler do not end the first process of a pid namespace (pid_namespaces(7)); this one logs it, and
/// exits unless it was asked to ignore it.
pub(crate) fn take_signals() {
    use nix::sys::signal::{SigSet, Signal};
    if std::env::var_os(STUBBORN).is_some() {
        return sys::ignore(libc::SIGTERM);
    }
    if std::env::var_os(HANDLES_NONE).is_some() {
        return;
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
        "in-flight" => in_flight(count),
        "terminals" => until_refused(count, sys::leak_terminal),
        "datagrams" => datagrams(count),
        "drip" => drip(count),
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
pub(crate) fn forks(count: usize) -> String {
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

pub(crate) fn until_refused(count: usize, mut take: impl FnMut() -> sys::Outcome) -> String {
    for taken in 0..count {
        if let Err(errno) = take() {
            return format!("{taken} {errno:?}");
        }
    }
    format!("{count} ok")
}

/// Descriptors that were sent and never received: through pairs of sockets of which each holds a few.
fn in_flight(count: usize) -> String {
    let file = match File::open("/") {
        Ok(file) => file,
        Err(error) => return error.to_string(),
    };
    let mut pairs = Vec::new();
    let answer = until_refused(count, || match pairs.last() {
        Some(pair) if sys::send_descriptor(pair, &file) == Ok(()) => Ok(()),
        _ => {
            let pair = UnixDatagram::pair().map_err(|_| Errno::EMFILE)?;
            sys::send_descriptor(&pair, &file)?;
            pairs.push(pair);
            Ok(())
        }
    });
    std::mem::forget(pairs);
    answer
}

/// Datagrams that wait in so many sockets to be read; tells how many bytes the kernel kept.
fn datagrams(count: usize) -> String {
    let sockets: std::io::Result<Vec<_>> = (0..count).map(|_| filled_socket()).collect();
    let sockets = match sockets {
        Ok(sockets) => sockets,
        Err(error) => return error.to_string(),
    };
    let mut buffer = vec![0; DATAGRAM_BYTES];
    let kept: usize = sockets
        .iter()
        .map(|socket| std::iter::from_fn(|| socket.recv(&mut buffer).ok()).sum::<usize>())
        .sum();
    kept.to_string()
}

/// A socket that has sent to itself more than it takes.
fn filled_socket() -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(socket.local_addr()?)?;
    socket.set_nonblocking(true)?;
    for _ in 0..DATAGRAMS {
        // Those that find no room are dropped without an error.
        let _ = socket.send(&[0; DATAGRAM_BYTES]);
    }
    Ok(socket)
}

/// Short lines on standard output, each written by itself, for so many seconds.
fn drip(seconds: usize) -> String {
    let end = Instant::now() + Duration::from_secs(seconds as u64);
    let mut count = 0_u64;
    while Instant::now() < end {
        if std::io::stdout().write_all(b"drip\n").is_err() {
            return "broken".to_owned();
        }
        count += 1;
    }
    count.to_string()
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
