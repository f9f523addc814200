//! The system calls of the probes, as they are: no library stands between a probe and the kernel.
#![allow(unsafe_code)]

use std::io::Read;
use std::os::fd::AsRawFd;
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
pub(crate) fn socket(family: i32, kind: i32, protocol: i32) -> Result<std::os::fd::OwnedFd, Errno> {
    // SAFETY: the kernel makes a descriptor or does not.
    let fd = Errno::result(unsafe { libc::socket(family, kind, protocol) })?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) })
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
