//! What an app sees and reaches: `GET .../look/NAME?ARGUMENT` returns `ok` with what was found, or the error's name.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;

/// How long a connection may take. Where nothing answers, nothing comes through.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a process without a parent may stay.
const GONE_TIMEOUT: Duration = Duration::from_secs(5);
/// Lines of `status` that differ between an init and its app.
const OF_ONE: [&str; 1] = ["SigIgn"];

/// What the app was given open.
static OPEN_AT_START: OnceLock<String> = OnceLock::new();

/// Before the app opens anything of its own.
pub(crate) fn remember_descriptors() -> io::Result<()> {
    let open = descriptors()?;
    OPEN_AT_START.get_or_init(|| open);
    Ok(())
}

/// Runs one of them, and returns the result as one line.
pub(crate) fn look(name: &str, argument: &str) -> String {
    match find(name, argument) {
        Ok(found) => format!("ok {found}").trim_end().to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(code) => format!("{:?}", Errno::from_raw(code)),
            None => error.to_string(),
        },
    }
}

fn find(name: &str, argument: &str) -> io::Result<String> {
    let nothing = String::new();
    match name {
        "list" => list(argument),
        "link" => fs::read_link(argument).map(|target| target.display().to_string()),
        "status" => status(argument),
        "descriptors" => Ok(OPEN_AT_START.get().cloned().unwrap_or_default()),
        "programs" => programs(),
        "terminal" => fs::File::open("/dev/tty").map(|_| nothing),
        "connect" => connect(argument).map(|()| nothing),
        "unix" => UnixStream::connect(argument).map(|_| nothing),
        "abstract" => {
            abstract_name(argument).and_then(|name| UnixStream::connect_addr(&name)).map(|_| nothing)
        }
        "read" => fs::read_to_string(argument),
        "udp-from" => udp_from(argument).map(|()| nothing),
        "owner" => fs::metadata(argument).map(|about| format!("{} {}", about.uid(), about.gid())),
        "touch" => fs::OpenOptions::new().append(true).open(argument).map(|_| nothing),
        "chown" => std::os::unix::fs::chown(argument, Some(1234), Some(2345)).map(|()| nothing),
        "append" => append(argument).map(|()| nothing),
        "exit" => std::process::exit(argument.parse().unwrap_or(1)),
        "raise" => raise(argument).map(|()| nothing),
        "orphan" => orphan(),
        "working-directory" => std::env::current_dir().map(|path| path.display().to_string()),
        "variable" => std::env::var(argument).map_err(io::Error::other),
        "pid" => Ok(format!("{} {}", std::process::id(), session()?)),
        "put" => fs::File::create(argument).and_then(|mut file| file.write_all(b"x")).map(|()| nothing),
        "say" => writeln!(io::stdout(), "{argument}").map(|()| nothing),
        "listen" => listen(argument).map(|()| nothing),
        "listen-abstract" => listen_abstract(argument).map(|()| nothing),
        _ => Err(io::Error::other(format!("there is no such look: {name}"))),
    }
}

fn list(path: &str) -> io::Result<String> {
    let mut names = fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names.join(" "))
}

/// Writes to a file that is there, as programs open their logs.
fn append(path: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path)?;
    writeln!(file, "written to {path}")
}

/// Ends this process by a signal.
fn raise(signal: &str) -> io::Result<()> {
    let signal =
        signal.parse().map_err(io::Error::other).and_then(|number: i32| Ok(Signal::try_from(number)?))?;
    Ok(kill(getpid(), signal)?)
}

/// Leaves a grandchild without a parent, which then ends, and returns once it is no more: somebody has waited for it.
fn orphan() -> io::Result<String> {
    let (read, write) = nix::unistd::pipe()?;
    if super::sys::fork()? {
        // The child: leaves its own child behind, which ends at once.
        if super::sys::fork()? {
            let _ = nix::unistd::write(&write, &getpid().as_raw().to_ne_bytes());
        }
        std::process::exit(0);
    }
    drop(write);
    let mut pid = [0; 4];
    fs::File::from(read).read_exact(&mut pid)?;
    let grandchild = std::path::PathBuf::from(format!("/proc/{}", i32::from_ne_bytes(pid)));
    let deadline = Instant::now() + GONE_TIMEOUT;
    while grandchild.exists() {
        if Instant::now() > deadline {
            return Err(io::Error::other("it is still there"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(String::new())
}

/// Whether this process leads its session and its group.
fn session() -> io::Result<&'static str> {
    let own = getpid();
    let leads = nix::unistd::getsid(None)? == own && nix::unistd::getpgrp() == own;
    Ok(if leads { "leads" } else { "follows" })
}

/// A line of the first process's `status`, which this process's own must be equal to.
fn status(name: &str) -> io::Result<String> {
    let (first, own) = (line_of("/proc/1/status", name)?, line_of("/proc/self/status", name)?);
    if first != own && !OF_ONE.contains(&name) {
        return Ok(format!("{first}, of the app {own}"));
    }
    Ok(own)
}

fn line_of(path: &str, name: &str) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let line = line.ok_or_else(|| io::Error::other(format!("there is no line {name}")))?;
    Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What this process has open, by number: the kind of a thing, or the path of a file.
fn descriptors() -> io::Result<String> {
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // The list itself is closed by the time that it is looked at.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        if !target.ends_with("/fd") {
            let kind = target.split(':').next().unwrap_or_default().to_owned();
            open.push(format!("{}={kind}", entry.file_name().to_string_lossy()));
        }
    }
    open.sort();
    Ok(open.join(" "))
}

/// The names of the programs of all processes that are seen, each once.
fn programs() -> io::Result<String> {
    let names =
        fs::read_dir("/proc")?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let pids = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let mut programs: Vec<_> =
        pids.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok()).collect();
    programs.sort();
    programs.dedup();
    Ok(programs.iter().map(|name| name.trim_end()).collect::<Vec<_>>().join(" "))
}

fn connect(address: &str) -> io::Result<()> {
    // A percent sign in a path means something else.
    let address: SocketAddr = address.replace('~', "%").parse().map_err(io::Error::other)?;
    match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            Err(io::Error::from_raw_os_error(libc::ETIMEDOUT))
        }
        other => other.map(drop),
    }
}

fn abstract_name(name: &str) -> io::Result<UnixAddr> {
    UnixAddr::from_abstract_name(name)
}

/// Sends a datagram from this port to `ADDRESS:PORT` behind a comma.
fn udp_from(argument: &str) -> io::Result<()> {
    let (port, to) = argument.split_once(',').ok_or(io::ErrorKind::InvalidInput)?;
    let port = port.parse().map_err(io::Error::other)?;
    UdpSocket::bind(("0.0.0.0", port))?.send_to(b"x", to).map(drop)
}

/// Until the app ends.
fn listen(address: &str) -> io::Result<()> {
    TcpListener::bind(address).map(std::mem::forget)
}

fn listen_abstract(name: &str) -> io::Result<()> {
    UnixListener::bind_addr(&abstract_name(name)?).map(std::mem::forget)
}
