//! The system calls of the probes, as they are: no library stands between a probe and the kernel.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, pipe};

/// What came of a probe.
pub(crate) type Outcome = Result<(), Errno>;

/// Runs a probe in a child, which may be killed for it.
pub(crate) fn in_child(probe: fn() -> Outcome) -> String {
    let Ok((read, write)) = pipe() else { return "no-pipe".to_owned() };
    // SAFETY: the child only makes system calls and writes to a pipe before it exits; it takes no lock that another
    // thread may hold but, at worst, the allocator's, which the C library keeps usable across fork.
    match unsafe { nix::unistd::fork() } {
        Err(errno) => format!("fork-{errno:?}"),
        Ok(ForkResult::Child) => {
            let text = probe().map_or_else(|errno| format!("{errno:?}"), |()| "ok".to_owned());
            let _ = nix::unistd::write(&write, text.as_bytes());
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) }
        }
        Ok(ForkResult::Parent { child }) => {
            drop(write);
            let mut text = String::new();
            let _ = std::fs::File::from(read).read_to_string(&mut text);
            match waitpid(child, None) {
                Ok(WaitStatus::Signaled(_, signal, _)) => format!("killed-by-{}", signal as i32),
                _ => text,
            }
        }
    }
}

/// A system call by its number.
pub(crate) fn call(number: libc::c_long, arguments: [usize; 6]) -> Result<i64, Errno> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the probes pass numbers, null, or pointers to what outlives the call; what the kernel makes of it is what
    // is to be found out, in a child that does nothing else.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    Errno::result(result)
}

/// The same without a result.
pub(crate) fn attempt(number: libc::c_long, arguments: [usize; 6]) -> Outcome {
    call(number, arguments).map(drop)
}

/// A clone with flags, as a fork: the child of the child exits at once.
pub(crate) fn clone_with(flags: usize) -> Outcome {
    let signal = usize::try_from(libc::SIGCHLD).unwrap_or(0);
    if call(libc::SYS_clone, [flags | signal, 0, 0, 0, 0, 0])? == 0 {
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) }
    }
    Ok(())
}

/// A call of the 32-bit interface: `getpid`.
#[cfg(target_arch = "x86_64")]
pub(crate) fn call_32_bit() -> Outcome {
    let result: i32;
    // SAFETY: the interrupt calls the kernel, which changes nothing but the result register.
    unsafe {
        core::arch::asm!("int 0x80", inlateout("eax") 20 => result, options(nostack));
    }
    if result < 0 { Err(Errno::from_raw(-result)) } else { Ok(()) }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn call_32_bit() -> Outcome {
    Err(Errno::ENOSYS)
}

/// A socket of any kind.
pub(crate) fn socket(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: the kernel makes a descriptor or does not.
    let fd = Errno::result(unsafe { libc::socket(family, kind, protocol) })?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Asks the kernel to give an interface one more address: a whole routing message by hand.
pub(crate) fn add_address() -> Outcome {
    let socket = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    // Length 32, RTM_NEWADDR (20), request and acknowledge; IPv4, /32, interface 1; attribute IFA_LOCAL.
    let message: [u8; 32] =
        [32, 0, 0, 0, 20, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 32, 0, 0, 1, 0, 0, 0, 8, 0, 2, 0, 10, 9, 8, 7];
    nix::unistd::write(&socket, &message)?;
    let mut answer = [0u8; 64];
    nix::unistd::read(&socket, &mut answer)?;
    // The acknowledgement's error number, negative, follows its header.
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok(()),
        error => Err(Errno::from_raw(-error)),
    }
}

/// Allocates and touches memory, and keeps it.
pub(crate) fn take_memory(bytes: usize) {
    let mut memory = vec![1_u8; bytes];
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 2);
    std::mem::forget(memory);
}

/// An inotify instance that is never closed.
pub(crate) fn leak_inotify() -> Outcome {
    // SAFETY: the kernel makes a descriptor or does not.
    Errno::result(unsafe { libc::inotify_init1(0) }).map(drop)
}

/// A terminal that is never closed.
pub(crate) fn leak_terminal() -> Outcome {
    // SAFETY: the path is a string that outlives the call; the kernel makes a descriptor or does not.
    Errno::result(unsafe { libc::open(c"/dev/ptmx".as_ptr(), libc::O_RDWR | libc::O_NOCTTY) }).map(drop)
}

/// A descriptor that is never closed.
pub(crate) fn leak_descriptor(file: &std::fs::File) -> Outcome {
    // SAFETY: duplicates an open descriptor.
    Errno::result(unsafe { libc::dup(file.as_raw_fd()) }).map(drop)
}

/// Sends a descriptor from one end of a pair to the other, which does not receive it. Does not wait for room.
pub(crate) fn send_descriptor(pair: &(UnixDatagram, UnixDatagram), file: &std::fs::File) -> Outcome {
    use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
    let descriptors = [file.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let bytes = [std::io::IoSlice::new(b"x")];
    let (from, flags) = (pair.0.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
    sendmsg::<UnixAddr>(from, &bytes, &rights, flags, None).map(drop)
}

/// Forks; true in the child.
pub(crate) fn fork() -> Result<bool, Errno> {
    // SAFETY: the children only make system calls.
    Ok(matches!(unsafe { nix::unistd::fork() }?, ForkResult::Child))
}

/// Has signals that ask for the end ignored.
pub(crate) fn ignore(signal: i32) {
    // SAFETY: no handler is installed that could run anything.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// The descriptor that a system call has made.
fn made(result: Result<i64, Errno>) -> Result<OwnedFd, Errno> {
    let fd = i32::try_from(result?).map_err(|_| Errno::EBADF)?;
    // SAFETY: only used on what the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: &impl AsRawFd) -> usize {
    usize::try_from(fd.as_raw_fd()).unwrap_or(usize::MAX)
}

/// An event descriptor: the smallest thing that is an open file.
pub(crate) fn event() -> Result<OwnedFd, Errno> {
    made(call(libc::SYS_eventfd2, [0; 6]))
}

/// An instance of epoll.
pub(crate) fn epoll() -> Result<OwnedFd, Errno> {
    made(call(libc::SYS_epoll_create1, [0; 6]))
}

/// Has an instance of epoll watch a descriptor.
pub(crate) fn watch(epoll: &OwnedFd, fd: &OwnedFd) -> Outcome {
    let mut event = libc::epoll_event { events: 1, u64: 0 };
    let add = usize::try_from(libc::EPOLL_CTL_ADD).unwrap_or(0);
    attempt(libc::SYS_epoll_ctl, [number(epoll), add, number(fd), &raw mut event as usize, 0, 0])
}

/// An instance of inotify.
pub(crate) fn inotify() -> Result<OwnedFd, Errno> {
    made(call(libc::SYS_inotify_init1, [0; 6]))
}

/// Has an instance of inotify watch a file.
pub(crate) fn watch_file(inotify: &OwnedFd, path: &str) -> Outcome {
    let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
    let all = usize::try_from(libc::IN_ALL_EVENTS).unwrap_or(0);
    attempt(libc::SYS_inotify_add_watch, [number(inotify), path.as_ptr() as usize, all, 0, 0, 0])
}

/// The master of a new pseudo-terminal.
pub(crate) fn terminal() -> Result<OwnedFd, Errno> {
    let terminal = std::fs::OpenOptions::new().read(true).write(true).open("/dev/ptmx");
    terminal.map(OwnedFd::from).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

/// Both ends of a pipe that was asked to hold so many bytes, and its real size.
pub(crate) fn pipe_of(bytes: usize) -> Result<(OwnedFd, OwnedFd), Errno> {
    let (read, write) = pipe()?;
    let set = usize::try_from(libc::F_SETPIPE_SZ).unwrap_or(0);
    attempt(libc::SYS_fcntl, [number(&read), set, bytes, 0, 0, 0])?;
    Ok((read, write))
}

/// How many bytes a new pipe holds.
pub(crate) fn pipe_size() -> Result<usize, Errno> {
    let (read, _write) = pipe()?;
    let get = usize::try_from(libc::F_GETPIPE_SZ).unwrap_or(0);
    let size = call(libc::SYS_fcntl, [number(&read), get, 0, 0, 0, 0])?;
    usize::try_from(size).map_err(|_| Errno::EINVAL)
}

/// A context for asynchronous I/O that is never destroyed.
pub(crate) fn leak_aio() -> Outcome {
    const EVENTS: usize = 128;
    let mut context = 0_usize;
    attempt(libc::SYS_io_setup, [EVENTS, &raw mut context as usize, 0, 0, 0, 0])
}

/// A timer that is never deleted; the kernel keeps a signal ready for it.
pub(crate) fn leak_timer() -> Outcome {
    let mut timer = 0_i32;
    let clock = usize::try_from(libc::CLOCK_MONOTONIC).unwrap_or(0);
    attempt(libc::SYS_timer_create, [clock, 0, &raw mut timer as usize, 0, 0, 0])
}

/// Memory that is never swapped out, nor given back.
pub(crate) fn lock_memory(bytes: usize) -> Outcome {
    let memory = vec![1_u8; bytes].leak();
    attempt(libc::SYS_mlock, [memory.as_ptr() as usize, bytes, 0, 0, 0, 0])
}

/// A POSIX message queue for one message of a kilobyte; it stays when its descriptor is closed.
pub(crate) fn message_queue(number: usize) -> Outcome {
    let name = CString::new(format!("queue-{number}")).map_err(|_| Errno::EINVAL)?;
    // Flags, most messages, most bytes of one, and what the kernel would tell.
    let attributes: [libc::c_long; 8] = [0, 1, 1024, 0, 0, 0, 0, 0];
    let flags = usize::try_from(libc::O_CREAT | libc::O_RDWR).unwrap_or(0);
    made(call(libc::SYS_mq_open, [name.as_ptr() as usize, flags, 0o600, attributes.as_ptr() as usize, 0, 0]))
        .map(drop)
}

/// Removes a message queue.
pub(crate) fn remove_message_queue(number: usize) -> Outcome {
    let name = CString::new(format!("queue-{number}")).map_err(|_| Errno::EINVAL)?;
    attempt(libc::SYS_mq_unlink, [name.as_ptr() as usize, 0, 0, 0, 0, 0])
}

/// A child process that ends at once.
pub(crate) fn child_that_exits() -> Result<nix::unistd::Pid, Errno> {
    // SAFETY: the child makes one system call.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        // SAFETY: ends the child at once.
        ForkResult::Child => unsafe { libc::_exit(0) },
    }
}
