//! The first process of a container whose class has `init`: ends what has lost its parent, passes signals on to the app, and
//! ends as the app does. The kernel keeps signals from a first process that does not handle them; the app, its child, gets
//! what any process gets.
//!
//! `init APP STATUS`: the app's pid, and a descriptor for the app's status as `wait` has it, four bytes: a first process
//! cannot end itself by a signal. All signals are blocked before this runs, so that none is lost.
//!
//! A program without any library, of a page or two, because each container has one. It allocates nothing, opens nothing,
//! and reads nothing but its two arguments. `build.rs` compiles it.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::panic::PanicInfo;

const SIGCHLD: usize = 17;
/// `WNOHANG`: do not wait.
const AT_ONCE: usize = 1;
/// `PR_SET_NAME`.
const SET_NAME: usize = 15;
/// Any child, for `wait4`.
const ANY: usize = usize::MAX;
/// Bytes of the kernel's set of signals.
const SET_BYTES: usize = 8;
/// What shells add to the number of a signal that ended a program.
const BY_SIGNAL: usize = 128;
/// The code if the app is lost: there is no such child.
const LOST: usize = 255;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const WRITE: usize = 1;
    pub const WAIT: usize = 61;
    pub const KILL: usize = 62;
    pub const CONTROL: usize = 157;
    pub const AWAIT_SIGNAL: usize = 128;
    pub const EXIT: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const WRITE: usize = 64;
    pub const WAIT: usize = 260;
    pub const KILL: usize = 129;
    pub const CONTROL: usize = 167;
    pub const AWAIT_SIGNAL: usize = 137;
    pub const EXIT: usize = 94;
}

// The kernel starts a program with the number of its arguments, and pointers to them, on the stack.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "mov rdi, rsp", "and rsp, -16", "call {run}", "ud2", run = sym run);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x0, sp", "bl {run}", "brk #0", run = sym run);

/// One system call.
///
/// # Safety
/// As the call itself: what the arguments point to must be there.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, args: [usize; 4]) -> isize {
    let result;
    // SAFETY: the registers are those that the kernel takes and overwrites.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") args[0], in("rsi") args[1],
            in("rdx") args[2], in("r10") args[3], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// One system call.
///
/// # Safety
/// As the call itself: what the arguments point to must be there.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, args: [usize; 4]) -> isize {
    let result;
    // SAFETY: the registers are those that the kernel takes and overwrites.
    unsafe {
        asm!("svc #0", in("x8") number, inlateout("x0") args[0] => result, in("x1") args[1], in("x2") args[2],
            in("x3") args[3], options(nostack));
    }
    result
}

/// The n-th argument as a number.
///
/// # Safety
/// `start` is where the kernel has put the arguments, of which there are more than `n`.
unsafe fn argument(start: *const usize, n: usize) -> usize {
    let mut number = 0_usize;
    // SAFETY: the arguments follow their number, and each ends with a zero byte.
    unsafe {
        let mut at = *start.add(1 + n) as *const u8;
        while *at != 0 {
            number = number.wrapping_mul(10).wrapping_add((*at).wrapping_sub(b'0') as usize);
            at = at.add(1);
        }
    }
    number
}

/// # Safety
/// `start` is where the kernel has put two arguments beside the name.
unsafe extern "C" fn run(start: *const usize) -> ! {
    // SAFETY: as above; all that the calls are given is a constant or on this stack.
    unsafe {
        let (app, status) = (argument(start, 1), argument(start, 2));
        call(number::CONTROL, [SET_NAME, c"init".as_ptr() as usize, 0, 0]);
        let all = u64::MAX;
        loop {
            match call(number::AWAIT_SIGNAL, [&raw const all as usize, 0, 0, SET_BYTES]) {
                signal if signal == SIGCHLD as isize => reap(app, status),
                signal if signal > 0 => drop(call(number::KILL, [app, signal as usize, 0, 0])),
                // Interrupted.
                _ => {}
            }
        }
    }
}

/// Takes note of all children that have ended, and ends with the app.
///
/// # Safety
/// `status` is a descriptor of this process that may be written to.
unsafe fn reap(app: usize, status: usize) {
    loop {
        let mut how = 0_i32;
        // SAFETY: the kernel writes the status to this stack.
        let ended = unsafe { call(number::WAIT, [ANY, &raw mut how as usize, AT_ONCE, 0]) };
        if ended == app as isize {
            // SAFETY: four bytes of this stack are read.
            unsafe { call(number::WRITE, [status, &raw const how as usize, size_of::<i32>(), 0]) };
            let signal = (how & 0x7f) as usize;
            exit(if signal == 0 { (how as usize >> 8) & 0xff } else { BY_SIGNAL + signal });
        }
        match ended {
            // None of those that live.
            0 => return,
            ended if ended < 0 => exit(LOST),
            _ => {}
        }
    }
}

fn exit(code: usize) -> ! {
    loop {
        // SAFETY: it takes a number, and does not return.
        unsafe { call(number::EXIT, [code, 0, 0, 0]) };
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(LOST)
}
