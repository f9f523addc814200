//! What an ordinary app needs of the kernel, a little of each. An app with a greedy neighbour gets all of it.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;

use super::seize;
use super::sys::{self, Outcome};

/// What a new pipe holds, in bytes, while the kernel has pages for it (pipe(7)).
const PIPE_BYTES: usize = 64 << 10;
/// Size of the file that is written, in bytes.
const FILE_BYTES: usize = 64 << 10;
/// How long a datagram to oneself may take.
const DATAGRAM_TIMEOUT: Duration = Duration::from_secs(2);

/// The name of a thing, and an attempt to get it.
type Vital = (&'static str, fn() -> Outcome);

/// What is tried, in a child process each.
const VITALS: &[Vital] = &[
    ("epoll-watch", || sys::watch(&sys::epoll()?, &sys::event()?)),
    ("pass-file", pass_file),
    ("pipe", || if sys::pipe_size()? < PIPE_BYTES { Err(Errno::ENOBUFS) } else { Ok(()) }),
    ("aio-context", sys::leak_aio),
    ("terminal", || sys::terminal().map(drop)),
    ("inotify-instance", sys::leak_inotify),
    ("inotify-watch", || sys::watch_file(&sys::inotify()?, "/")),
    ("timer", sys::leak_timer),
    ("lock-memory", || sys::lock_memory(64 << 10)),
    ("message-queue", message_queue),
    ("process", || sys::child_that_exits().and_then(|child| waitpid(child, None).map(drop))),
    ("datagram", || io(datagram())),
    ("connection", || io(connection())),
    ("write-file", || io(write_file())),
];

/// The result of each, a line each: its name, and `ok` or the error's name.
pub(crate) fn all() -> String {
    VITALS.iter().map(|(name, act)| format!("{name} {}\n", sys::in_child(*act))).collect()
}

fn io(result: std::io::Result<()>) -> Outcome {
    result.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

fn pass_file() -> Outcome {
    let (from, _to) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty())?;
    seize::pass(&from, 1)
}

/// Removed at once: the queue would outlive the child.
fn message_queue() -> Outcome {
    sys::message_queue(0)?;
    sys::remove_message_queue(0)
}

fn datagram() -> std::io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(DATAGRAM_TIMEOUT))?;
    socket.send_to(b"x", socket.local_addr()?)?;
    socket.recv(&mut [0; 1]).map(drop)
}

fn connection() -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (_server, _) = listener.accept()?;
    client.write_all(b"x")
}

fn write_file() -> std::io::Result<()> {
    let mut file = File::create("/vital")?;
    file.write_all(&[1; FILE_BYTES])?;
    file.sync_all()?;
    fs::remove_file("/vital")
}
