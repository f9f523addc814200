//! Takes as much as it gets of one thing that the kernel counts for a user, for a node or for a container, and keeps it
//! for as long as the app runs. What a neighbour then still gets is looked at by `vitals`.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};

use super::bombs::{forks, until_refused};
use super::sys::{self, Outcome};

/// Files, descriptors and sockets that are made at most: within the usual limits of a process.
const FILES: usize = 15_000;
/// Watches of epoll: more than the kernel allows the processes of one user on a machine of 24 GB.
const EPOLL_WATCHES: usize = 6_000_000;
/// Most descriptors that one message carries (`SCM_MAX_FD`).
const FILES_A_MESSAGE: usize = 253;
/// Requested size of each pipe, in bytes: the most that an ordinary user may ask for.
const PIPE_BYTES: usize = 1 << 20;
/// Memory that is locked at once, in bytes.
const LOCKED_BYTES: usize = 64 << 10;
/// Largest datagram that is sent, in bytes.
const DATAGRAM_BYTES: usize = 32 << 10;
/// More than any limit of what is left.
const ALL: usize = 1_000_000;
/// Threads that do nothing but use the CPU.
const SPINNING: usize = 4;

/// The name of a thing, and how it is seized: how much there was, and why there was no more.
type Seizure = (&'static str, fn() -> String);

/// What can be seized.
const SEIZURES: &[Seizure] = &[
    ("epoll-watches", epoll_watches),
    ("files-in-flight", files_in_flight),
    ("pipe-pages", || until_refused(ALL, || sys::pipe_of(PIPE_BYTES).map(std::mem::forget))),
    ("aio-contexts", || until_refused(ALL, sys::leak_aio)),
    ("terminals", || until_refused(ALL, || leak(sys::terminal()))),
    ("inotify-instances", || until_refused(ALL, sys::leak_inotify)),
    ("inotify-watches", inotify_watches),
    ("timers", || until_refused(ALL, sys::leak_timer)),
    ("locked-memory", || until_refused(ALL, || sys::lock_memory(LOCKED_BYTES))),
    ("message-queues", message_queues),
    ("open-files", || until_refused(ALL, || leak(sys::event()))),
    ("processes", || forks(ALL)),
    ("datagrams", datagrams),
    ("disk", fill_disk),
    ("files", files),
    ("log", || for_ever(1, flood)),
    ("cpu", || for_ever(SPINNING, std::hint::spin_loop)),
    ("sync", || for_ever(1, write_and_sync)),
];

/// Seizes one thing.
pub(crate) fn seize(name: &str) -> String {
    // Best effort: where it fails the attack is weaker.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    match SEIZURES.iter().find(|(known, _)| *known == name) {
        Some((_, act)) => act(),
        None => "there is no such thing to seize".to_owned(),
    }
}

/// Keeps a descriptor open.
fn leak(fd: Result<OwnedFd, Errno>) -> Outcome {
    fd.map(std::mem::forget)
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// Each instance of epoll watches each of the files once.
fn epoll_watches() -> String {
    let files: Vec<OwnedFd> = (0..FILES).map_while(|_| sys::event().ok()).collect();
    let (mut instance, mut taken) = (None, 0);
    let outcome = until_refused(EPOLL_WATCHES, || {
        let file = &files[taken % files.len()];
        if taken % files.len() == 0 {
            std::mem::forget(instance.replace(sys::epoll()?));
        }
        taken += 1;
        instance.as_ref().map_or(Ok(()), |epoll| sys::watch(epoll, file))
    });
    std::mem::forget((files, instance));
    outcome
}

/// Messages that carry descriptors and are never read.
fn files_in_flight() -> String {
    let mut sockets: Option<(OwnedFd, OwnedFd)> = None;
    let outcome = until_refused(ALL, || {
        loop {
            let (from, to) = match sockets.take() {
                Some(sockets) => sockets,
                None => socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty())?,
            };
            match pass(&from, FILES_A_MESSAGE) {
                Err(Errno::EAGAIN) => std::mem::forget((from, to)),
                other => {
                    sockets = Some((from, to));
                    return other;
                }
            }
        }
    });
    std::mem::forget(sockets);
    outcome
}

/// Sends a message with a descriptor, so many times in it.
pub(crate) fn pass(socket: &OwnedFd, times: usize) -> Outcome {
    let files = vec![socket.as_raw_fd(); times];
    let rights = [ControlMessage::ScmRights(&files)];
    let text = [IoSlice::new(b"x")];
    sendmsg::<()>(socket.as_raw_fd(), &text, &rights, MsgFlags::MSG_DONTWAIT, None).map(drop)
}

/// Each inotify instance watches each of the files that can be made.
fn inotify_watches() -> String {
    let made = files();
    let names: Vec<String> = (0..FILES).map(name_of).take_while(|name| File::open(name).is_ok()).collect();
    let (mut instance, mut taken) = (None, 0);
    let outcome = until_refused(ALL, || {
        if taken % names.len() == 0 {
            std::mem::forget(instance.replace(sys::inotify()?));
        }
        taken += 1;
        let name = &names[(taken - 1) % names.len()];
        instance.as_ref().map_or(Ok(()), |inotify| sys::watch_file(inotify, name))
    });
    std::mem::forget(instance);
    format!("{outcome} (files: {made})")
}

fn name_of(number: usize) -> String {
    format!("/seized-{number}")
}

/// Small files until there can be no more, `FILES` at most.
fn files() -> String {
    let mut number = 0;
    until_refused(FILES, || {
        number += 1;
        File::create(name_of(number - 1)).map(drop).map_err(|error| errno(&error))
    })
}

fn message_queues() -> String {
    let mut number = 0;
    until_refused(ALL, || {
        number += 1;
        sys::message_queue(number)
    })
}

/// Datagrams that nobody reads, at as many sockets as there can be.
fn datagrams() -> String {
    let payload = vec![0; DATAGRAM_BYTES];
    until_refused(FILES, || {
        let attempt = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            // A full buffer drops what arrives: what counts is what lies in it.
            for _ in 0..8 {
                socket.send_to(&payload, socket.local_addr()?)?;
            }
            std::mem::forget(socket);
            Ok(())
        };
        attempt().map_err(|error: std::io::Error| errno(&error))
    })
}

fn fill_disk() -> String {
    let Ok(mut file) = File::create("/seized") else { return "no file".to_owned() };
    let block = vec![1; 1 << 20];
    until_refused(ALL, || file.write_all(&block).map_err(|error| errno(&error)))
}

fn flood() {
    let lines = [b'\n'; 64 << 10];
    let _ = std::io::stdout().write_all(&lines);
}

fn write_and_sync() {
    let file = OpenOptions::new().create(true).truncate(true).write(true).open("/synced");
    let _ = file.and_then(|mut file| {
        file.write_all(&[1; 64 << 10])?;
        file.sync_all()
    });
}

/// In threads that never end.
fn for_ever(threads: usize, act: fn()) -> String {
    for _ in 0..threads {
        std::thread::spawn(move || {
            loop {
                act();
            }
        });
    }
    format!("{threads} threads")
}
