//! System calls that have no safe form.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Closes all files but standard input, output and error: what an edge has open is not its scripts'. To be called first of all.
pub(super) fn close_all_but_standard() {
    // SAFETY: nothing in this process has opened a file yet. An error (a kernel before 5.9) leaves what is marked to be closed
    // when a program is run, which is all that the edge opens.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32);
    }
}

/// Takes over a file that the kernel has just given to this process.
pub(super) fn take(file: RawFd) -> OwnedFd {
    // SAFETY: the caller has the number from a message that installed the file, and gives it to nobody else.
    unsafe { OwnedFd::from_raw_fd(file) }
}

/// Lowers this process's share of CPU time.
pub(super) fn lower_priority(nice: i32) {
    // SAFETY: changes a number of this process in the kernel. Failing to is harmless.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, nice);
    }
}

/// Fills the bytes with chance from the kernel.
pub(super) fn random(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: the kernel writes at most as many bytes as there are.
        let count = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(count) {
            Ok(count) => filled += count,
            // Interrupted by a signal; any other error cannot be, and keys without chance must not be.
            Err(_) => assert_eq!(nix::Error::last(), nix::Error::EINTR, "the kernel gives no chance"),
        }
    }
}
