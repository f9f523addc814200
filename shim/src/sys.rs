//! System calls: all `unsafe` code of the runtime, each block with its reason.
//!
//! Supervisor, shim and builder are single-threaded processes; forking without exec is sound only there.
#![allow(unsafe_code)]

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::SigSet;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg,
    sendmsg,
};
use nix::unistd::{ForkResult, Gid, Pid, Uid};

/// Descriptor at which a shim finds its control socket.
pub(crate) const CONTROL_FD: RawFd = 3;
/// Descriptor at which a shim finds its instance's directory.
pub(crate) const DIRECTORY_FD: RawFd = 4;
/// Descriptor at which a shim finds the page of terms.
pub(crate) const TERMS_FD: RawFd = 5;

/// `AT_EMPTY_PATH`: what is meant is the descriptor itself.
#[allow(clippy::cast_sign_loss, reason = "the flag is 0x1000")]
const EMPTY_PATH: libc::c_uint = libc::AT_EMPTY_PATH as libc::c_uint;

/// Runs `child` in a forked process, which exits with what it returns. Returns its pid.
///
/// Only for single-threaded processes: in the child, locks of other threads would stay locked forever.
pub(crate) fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the caller's process has one thread, so the child may run any code (checked by its name: shim, builder,
    // supervisor and unpacker start no threads).
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let code = child();
            // SAFETY: `_exit` ends the child at once, without running the parent's exit handlers a second time.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Size of the kernel's set of signals, in bytes.
const SIGNAL_SET_BYTES: usize = 8;

/// Resets the signals of a forked child to what programs expect: none blocked, and none ignored, which exec would inherit.
/// Rust's startup ignores SIGPIPE, and so does systemd; others ignore SIGHUP.
pub(crate) fn usual_signals() -> io::Result<()> {
    // All zero, it is the default action without flags. Larger than the kernel's structure on any machine.
    let default = [0_u64; 8];
    for signal in 1..=libc::SIGRTMAX() {
        // Not by the C library, which refuses the signals that it uses itself. The kernel refuses those that cannot be ignored.
        // SAFETY: the kernel reads the structure, which outlives the call; no handler is installed.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                SIGNAL_SET_BYTES,
            );
        }
    }
    Ok(SigSet::all().thread_unblock()?)
}

/// Blocks all signals, for what this process becomes: they wait until it asks for them.
pub(crate) fn block_signals() -> io::Result<()> {
    Ok(SigSet::all().thread_block()?)
}

/// Blocks no signal.
pub(crate) fn unblock_signals() -> io::Result<()> {
    Ok(SigSet::all().thread_unblock()?)
}

/// Sends a signal by its number, which may be a real-time one.
pub(crate) fn send_signal(to: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: the call takes two numbers.
    Ok(Errno::result(unsafe { libc::kill(to.as_raw(), signal) }).map(drop)?)
}

/// Replaces the process by a program in a descriptor that a parent process left open, and keeps another one open. Only
/// returns on failure.
pub(crate) fn exec_inherited(
    program: RawFd,
    kept: RawFd,
    args: &[CString],
    env: &[CString],
) -> io::Result<Infallible> {
    // SAFETY: at worst the numbers are not open and the calls fail; nothing is closed here.
    let (program, kept) = unsafe { (BorrowedFd::borrow_raw(program), BorrowedFd::borrow_raw(kept)) };
    fcntl(kept, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(nix::unistd::fexecve(program, args, env)?)
}

/// Replaces the process by a program with exactly these arguments and environment. Only returns on failure.
pub(crate) fn exec(program: &Path, args: &[&str], env: &[&str]) -> io::Error {
    let c_string = |text: &str| CString::new(text).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let run = || -> io::Result<()> {
        let program = c_string(&program.to_string_lossy())?;
        let args = args.iter().map(|a| c_string(a)).collect::<io::Result<Vec<_>>>()?;
        let env = env.iter().map(|e| c_string(e)).collect::<io::Result<Vec<_>>>()?;
        nix::unistd::execve(&program, &args, &env)?;
        Ok(())
    };
    run().err().unwrap_or_else(|| io::Error::other("exec returned"))
}

/// Takes over a descriptor that the parent process placed at a fixed number.
///
/// Call it once per number, at the start of a process.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the borrow only lives for the check below, and nothing in this process closes descriptors yet.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: the descriptor is open (fcntl succeeded), was placed there for us, and is taken once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts a descriptor at a fixed number, open across exec. For use between fork and exec.
pub(crate) fn place(fd: &OwnedFd, at: RawFd) -> io::Result<()> {
    // SAFETY: dup2 is given an open descriptor; the target number is one that the child is about to hand to a program.
    let result = unsafe { libc::dup2(fd.as_raw_fd(), at) };
    Errno::result(result)?;
    if fd.as_raw_fd() == at {
        // dup2 onto itself keeps the close-on-exec flag.
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(())
}

/// A copy of a descriptor with a number above the fixed ones.
pub(crate) fn duplicate_high(fd: &OwnedFd) -> io::Result<OwnedFd> {
    let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(TERMS_FD + 1))?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Marks every descriptor from `first` up to be closed by exec.
pub(crate) fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    let first = u32::try_from(first).map_err(io::Error::other)?;
    // SAFETY: the call only sets flags on descriptors of this process.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(result)?;
    Ok(())
}

/// The flag of an interface that is up, as `ifreq` has it.
#[allow(clippy::cast_possible_truncation, reason = "the flag is 1")]
const UP: libc::c_short = libc::IFF_UP as libc::c_short;

/// Requests of `ioctl`, in its argument type, which differs between C libraries.
#[allow(clippy::cast_possible_truncation, reason = "both numbers have 16 bits")]
const GET_FLAGS: libc::Ioctl = libc::SIOCGIFFLAGS as libc::Ioctl;
#[allow(clippy::cast_possible_truncation, reason = "as above")]
const SET_FLAGS: libc::Ioctl = libc::SIOCSIFFLAGS as libc::Ioctl;

/// Brings the loopback interface of the current network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket =
        nix::sys::socket::socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all-zero bytes are a valid `ifreq`: an empty name and no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    // SAFETY: the kernel reads and writes one `ifreq`, which outlives the call.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), GET_FLAGS, &mut request) })?;
    // SAFETY: GET_FLAGS filled in the flags member of the union.
    unsafe { request.ifr_ifru.ifru_flags |= UP };
    // SAFETY: as above.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), SET_FLAGS, &request) })?;
    Ok(())
}

/// The kernel's Landlock ABI version.
pub(crate) fn landlock_version() -> io::Result<i32> {
    const ASK_VERSION: libc::c_int = 1;
    // SAFETY: with this flag the kernel takes no attributes and makes no descriptor.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0, ASK_VERSION)
    };
    i32::try_from(Errno::result(version)?).map_err(io::Error::other)
}

/// Makes the calling (single-threaded) process root of its user namespace, without supplementary groups.
pub(crate) fn become_root() -> io::Result<()> {
    nix::unistd::setgroups(&[])?;
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    Ok(())
}

/// Lets other processes of the same user open this one's files in /proc, as newuidmap must.
pub(crate) fn set_dumpable(on: bool) -> io::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(on)?)
}

/// Lets other processes of the same group have the CPU first.
pub(crate) fn yield_cpu() -> io::Result<()> {
    /// Half way from the usual to the last.
    const NICENESS: libc::c_int = 10;
    Errno::clear();
    // SAFETY: the call takes a number and changes only this process's priority.
    let niceness = unsafe { libc::nice(NICENESS) };
    // -1 may be a niceness too.
    if niceness == -1 && Errno::last_raw() != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes this process the parent of orphaned descendants (child subreaper).
pub(crate) fn adopt_orphans() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// One datagram of a sequenced-packet socket: its bytes and the descriptors that came with it.
#[derive(Debug, Default)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// Descriptors that one packet may carry.
const MAX_DESCRIPTORS: usize = 4;

/// Sends one packet. `WouldBlock` if the socket is non-blocking and full.
pub(crate) fn send_packet(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let parts = [io::IoSlice::new(bytes)];
    sendmsg::<UnixAddr>(socket.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one packet of at most `limit` bytes; `None` when the peer has closed.
pub(crate) fn receive_packet(socket: BorrowedFd<'_>, limit: usize) -> io::Result<Option<Packet>> {
    let mut bytes = vec![0; limit];
    let mut control = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let (length, truncated, descriptors) = {
        let mut parts = [io::IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let mut descriptors = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = part {
                // SAFETY: the kernel has just made these descriptors for us; each is taken once.
                descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        (message.bytes, message.flags.contains(MsgFlags::MSG_TRUNC), descriptors)
    };
    if truncated {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet is longer than allowed"));
    }
    bytes.truncate(length);
    Ok((length > 0).then_some(Packet { bytes, descriptors }))
}

/// A listening sequenced-packet socket at a path, which must not exist.
pub(crate) fn listen(path: &Path, backlog: i32) -> io::Result<OwnedFd> {
    use nix::sys::socket::{Backlog, bind, listen, socket};
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&fd, Backlog::new(backlog)?)?;
    Ok(fd)
}

/// Connects to a listening sequenced-packet socket; the result does not block.
pub(crate) fn connect(path: &Path) -> io::Result<OwnedFd> {
    use nix::sys::socket::{connect, socket};
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(fd)
}

/// Accepts one waiting connection, or `None`.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    match nix::sys::socket::accept4(listener.as_raw_fd(), flags) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(Errno::EAGAIN | Errno::ECONNABORTED | Errno::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether the process at the other end of a Unix socket runs as this process's user.
pub(crate) fn peer_is_same_user(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let peer = nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::PeerCredentials)?;
    Ok(peer.uid() == Uid::effective().as_raw())
}

/// An unconnected, non-blocking TCP socket in the current network namespace: IPv6 (dual stack) where the kernel has it.
pub(crate) fn tcp_socket() -> io::Result<OwnedFd> {
    use nix::sys::socket::{setsockopt, socket, sockopt::Ipv6V6Only};
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    match socket(AddressFamily::Inet6, SockType::Stream, flags, None) {
        Ok(fd) => {
            setsockopt(&fd, Ipv6V6Only, &false)?;
            Ok(fd)
        }
        Err(Errno::EAFNOSUPPORT) => Ok(socket(AddressFamily::Inet, SockType::Stream, flags, None)?),
        Err(error) => Err(error.into()),
    }
}

/// A copy of the mount that this directory is in, with this directory as its root, which is attached nowhere yet.
pub(crate) fn copy_mount(directory: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | EMPTY_PATH;
    // SAFETY: the path is a string that outlives the call; the kernel makes a descriptor or does not.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, directory.as_raw_fd(), c"".as_ptr(), flags) };
    let fd = RawFd::try_from(Errno::result(fd)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has a mount that is attached nowhere show ids as the user namespace maps them, and makes it read-only.
pub(crate) fn map_ids(mount: &OwnedFd, user_namespace: &impl AsRawFd) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP
            | libc::MOUNT_ATTR_RDONLY
            | libc::MOUNT_ATTR_NOSUID
            | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(user_namespace.as_raw_fd()).map_err(io::Error::other)?,
    };
    let size = size_of::<libc::mount_attr>();
    // SAFETY: the kernel reads one structure of this size, and the path, which outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            EMPTY_PATH,
            std::ptr::from_ref(&attributes),
            size,
        )
    };
    Ok(Errno::result(done).map(drop)?)
}

/// Attaches a mount to a directory.
pub(crate) fn attach_mount(mount: &OwnedFd, at: &Path) -> io::Result<()> {
    /// `MOVE_MOUNT_F_EMPTY_PATH`: the mount is named by its descriptor alone.
    const FROM_DESCRIPTOR: libc::c_uint = 0x4;
    let at = CString::new(at.as_os_str().as_encoded_bytes())?;
    // SAFETY: both paths are strings that outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            at.as_ptr(),
            FROM_DESCRIPTOR,
        )
    };
    Ok(Errno::result(done).map(drop)?)
}

/// Writes to a descriptor that a parent process left open, ignoring errors, because the caller is about to exit.
pub(crate) fn write_to_inherited(fd: RawFd, bytes: &[u8]) {
    // SAFETY: at worst the number is not open and the write fails; the descriptor is not closed here.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let _ = nix::unistd::write(borrowed, bytes);
}

/// Reads a descriptor that a parent process left open, to its end.
pub(crate) fn read_inherited(fd: RawFd) -> io::Result<Vec<u8>> {
    // SAFETY: at worst the number is not open and the read fails; the descriptor is not closed here.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let (mut all, mut chunk) = (Vec::new(), [0; 1024]);
    loop {
        match nix::unistd::read(borrowed, &mut chunk)? {
            0 => return Ok(all),
            n => all.extend_from_slice(&chunk[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_ignores_no_signal() {
        let child = fork(|| {
            for signal in [libc::SIGHUP, libc::SIGUSR1, libc::SIGPIPE, 40] {
                // SAFETY: no handler is installed that could run anything.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
            let reset = usual_signals();
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t"));
            let ignored = line.and_then(|mask| u64::from_str_radix(mask, 16).ok());
            i32::from(reset.is_err() || ignored != Some(0))
        });
        let ended = nix::sys::wait::waitpid(child.unwrap(), None).unwrap();
        assert!(matches!(ended, nix::sys::wait::WaitStatus::Exited(_, 0)), "{ended:?}");
    }
}
