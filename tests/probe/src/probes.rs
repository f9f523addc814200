//! The probes. What each expects, and which layers of protection it takes to stop it, stands in the test that runs them.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;

use super::sys::{self, Outcome, attempt};

/// A probe and its name.
pub(crate) type Probe = (&'static str, fn() -> Outcome);

const NULL: &[u8] = b"\0";
const NONE: &[u8] = b"none\0";
const TMPFS: &[u8] = b"tmpfs\0";
const ROOT: &[u8] = b"/\0";
const TMP: &[u8] = b"/tmp\0";
const PROC: &[u8] = b"/proc\0";
const KEY: &[u8] = b"user\0";
/// A namespace of clocks. The flag shares its bit with signals of `clone`: only `unshare` knows it.
const NEW_TIME: i32 = 0x80;
/// Bit in the numbers of the system calls of the x32 variant.
const X32: libc::c_long = 0x4000_0000;
/// A number that no system call has.
const UNKNOWN_CALL: libc::c_long = 4095;

fn at(text: &'static [u8]) -> usize {
    text.as_ptr() as usize
}

fn namespace(flag: i32) -> usize {
    usize::try_from(flag).unwrap_or(0)
}

fn io(result: std::io::Result<()>) -> Outcome {
    result.map_err(|error| error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))
}

fn write_to(path: &str, text: &str) -> Outcome {
    io(OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(text.as_bytes())))
}

/// Succeeds if there is something to read.
fn read_from(path: &str) -> Outcome {
    let mut bytes = [0; 16];
    match File::open(path).and_then(|mut file| file.read(&mut bytes)) {
        Ok(0) => Err(Errno::ENODATA),
        Ok(_) => Ok(()),
        Err(error) => io(Err(error)),
    }
}

fn unshare(flag: i32) -> Outcome {
    attempt(libc::SYS_unshare, [namespace(flag), 0, 0, 0, 0, 0])
}

fn setns(path: &str) -> Outcome {
    let file = File::open(path).map_err(|_| Errno::EACCES)?;
    attempt(libc::SYS_setns, [usize::try_from(file.as_raw_fd()).unwrap_or(0), 0, 0, 0, 0, 0])
}

fn connect(address: &str) -> Outcome {
    let address = address.parse().map_err(|_| Errno::EINVAL)?;
    let timeout = std::time::Duration::from_secs(2);
    match std::net::TcpStream::connect_timeout(&address, timeout) {
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Err(Errno::ETIMEDOUT),
        other => io(other.map(drop)),
    }
}

/// Descriptors of the first process that no app opens: anything but its three streams, sockets and pipes.
fn leaked_descriptor() -> Outcome {
    for entry in fs::read_dir("/proc/1/fd").map_err(|_| Errno::EACCES)?.flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let text = target.to_string_lossy().into_owned();
        let own =
            ["socket:", "pipe:", "anon_inode:", "/dev/null"].iter().any(|start| text.starts_with(start));
        if !own {
            println!("leaked: {text}");
            return Ok(());
        }
    }
    Err(Errno::ENOENT)
}

/// The working directory and the program of the first process lie inside the container's root. (CVE-2024-21626)
fn escaped_directory() -> Outcome {
    for link in ["/proc/1/cwd", "/proc/1/root"] {
        let target = fs::read_link(link).map_err(|_| Errno::EACCES)?;
        if !target.starts_with("/") || fs::metadata(&target).is_err() {
            return Ok(());
        }
    }
    Err(Errno::ENOENT)
}

/// The program that made the container can be opened for writing. (CVE-2019-5736)
fn runtime_binary() -> Outcome {
    let own = fs::read_link("/proc/1/exe").map_err(|_| Errno::EACCES)?;
    if own.ends_with("berth-agent") || !Path::new(&own).exists() {
        write_to("/proc/1/exe", "")
    } else {
        Err(Errno::ENOENT)
    }
}

/// Where the container's limit of memory is.
fn memory_limit() -> &'static str {
    let v1 = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
    if Path::new(v1).exists() { v1 } else { "/sys/fs/cgroup/memory.max" }
}

/// The file of its group that processes enter it by.
fn members() -> std::path::PathBuf {
    Path::new(memory_limit()).with_file_name("cgroup.procs")
}

fn personality() -> Outcome {
    attempt(libc::SYS_personality, [0x0040_0000, 0, 0, 0, 0, 0])
}

fn mount() -> Outcome {
    let _ = fs::create_dir_all("/tmp");
    attempt(libc::SYS_mount, [at(NONE), at(TMP), at(TMPFS), 0, 0, 0])
}

fn mknod() -> Outcome {
    let _ = fs::create_dir_all("/tmp");
    // A character device, 1:3.
    attempt(libc::SYS_mknodat, [usize::MAX - 99, at(b"/tmp/null\0"), 0o020_666, 0x103, 0, 0])
}

fn other_processes() -> Outcome {
    let count = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids: Vec<i32> = count.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // Its own first process, this child, and what other probes run at the same time: never those of the host.
    if pids.len() > 64 { Ok(()) } else { Err(Errno::ESRCH) }
}

fn device(path: &str) -> Outcome {
    io(File::open(path).map(drop))
}

/// A context of the kernel's older asynchronous I/O.
fn io_setup() -> Outcome {
    let mut context: usize = 0;
    attempt(libc::SYS_io_setup, [1, std::ptr::from_mut(&mut context) as usize, 0, 0, 0, 0])
}

/// All probes.
pub(crate) const ALL: &[Probe] = &[
    ("mount-tmpfs", mount),
    ("umount-proc", || attempt(libc::SYS_umount2, [at(PROC), 0, 0, 0, 0, 0])),
    ("pivot-root", || attempt(libc::SYS_pivot_root, [at(ROOT), at(ROOT), 0, 0, 0, 0])),
    ("fsopen", || attempt(libc::SYS_fsopen, [at(TMPFS), 0, 0, 0, 0, 0])),
    ("open-tree", || attempt(libc::SYS_open_tree, [usize::MAX - 99, at(ROOT), 1, 0, 0, 0])),
    ("chroot", || attempt(libc::SYS_chroot, [at(ROOT), 0, 0, 0, 0, 0])),
    ("unshare-user", || unshare(libc::CLONE_NEWUSER)),
    ("unshare-mount", || unshare(libc::CLONE_NEWNS)),
    ("unshare-net", || unshare(libc::CLONE_NEWNET)),
    ("unshare-pid", || unshare(libc::CLONE_NEWPID)),
    ("unshare-ipc", || unshare(libc::CLONE_NEWIPC)),
    ("unshare-uts", || unshare(libc::CLONE_NEWUTS)),
    ("unshare-cgroup", || unshare(libc::CLONE_NEWCGROUP)),
    ("unshare-time", || unshare(NEW_TIME)),
    ("clone-mount", || sys::clone_with(namespace(libc::CLONE_NEWNS))),
    ("clone-pid", || sys::clone_with(namespace(libc::CLONE_NEWPID))),
    ("clone-ipc", || sys::clone_with(namespace(libc::CLONE_NEWIPC))),
    ("clone-uts", || sys::clone_with(namespace(libc::CLONE_NEWUTS))),
    ("clone-cgroup", || sys::clone_with(namespace(libc::CLONE_NEWCGROUP))),
    ("clone-user", || sys::clone_with(namespace(libc::CLONE_NEWUSER))),
    ("clone-net", || sys::clone_with(namespace(libc::CLONE_NEWNET))),
    ("clone-plain", || sys::clone_with(0)),
    ("clone3", || attempt(libc::SYS_clone3, [0, 0, 0, 0, 0, 0])),
    ("setns-uts", || setns("/proc/self/ns/uts")),
    ("keyctl", || attempt(libc::SYS_keyctl, [0, usize::MAX - 2, 0, 0, 0, 0])),
    ("add-key", || attempt(libc::SYS_add_key, [at(KEY), at(KEY), at(KEY), 4, usize::MAX - 1, 0])),
    ("request-key", || attempt(libc::SYS_request_key, [at(KEY), at(KEY), 0, usize::MAX - 1, 0, 0])),
    // Compares two files of the first process.
    ("kcmp", || attempt(libc::SYS_kcmp, [1, 1, 1, 0, 0, 0])),
    ("unknown-call", || attempt(UNKNOWN_CALL, [0; 6])),
    ("bpf", || attempt(libc::SYS_bpf, [0, 0, 0, 0, 0, 0])),
    ("io-uring", || {
        let mut params = [0_u64; 32];
        attempt(libc::SYS_io_uring_setup, [1, params.as_mut_ptr() as usize, 0, 0, 0, 0])
    }),
    ("userfaultfd", || attempt(libc::SYS_userfaultfd, [1, 0, 0, 0, 0, 0])),
    ("perf-event-open", || attempt(libc::SYS_perf_event_open, [0, 0, usize::MAX, usize::MAX, 0, 0])),
    ("open-by-handle-at", || attempt(libc::SYS_open_by_handle_at, [0, 0, 0, 0, 0, 0])),
    ("kexec-load", || attempt(libc::SYS_kexec_load, [0, 0, 0, 0, 0, 0])),
    ("init-module", || attempt(libc::SYS_init_module, [at(NULL), 0, at(NULL), 0, 0, 0])),
    ("delete-module", || attempt(libc::SYS_delete_module, [at(NONE), 0, 0, 0, 0, 0])),
    ("reboot", || attempt(libc::SYS_reboot, [0, 0, 0, 0, 0, 0])),
    ("swapon", || attempt(libc::SYS_swapon, [at(ROOT), 0, 0, 0, 0, 0])),
    ("kernel-log", || attempt(libc::SYS_syslog, [10, 0, 0, 0, 0, 0])),
    ("quotactl", || attempt(libc::SYS_quotactl, [0, 0, 0, 0, 0, 0])),
    ("acct", || attempt(libc::SYS_acct, [0, 0, 0, 0, 0, 0])),
    ("settimeofday", || attempt(libc::SYS_settimeofday, [0, 0, 0, 0, 0, 0])),
    ("sethostname", || attempt(libc::SYS_sethostname, [at(NONE), 4, 0, 0, 0, 0])),
    ("personality", personality),
    ("call-32-bit", sys::call_32_bit),
    ("call-x32", || attempt(libc::SYS_getpid | X32, [0; 6])),
    ("setuid", || attempt(libc::SYS_setuid, [1, 0, 0, 0, 0, 0])),
    ("mknod", mknod),
    ("socket-alg", || sys::socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0).map(drop)),
    ("socket-vsock", || sys::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0).map(drop)),
    ("socket-packet", || sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).map(drop)),
    ("socket-raw", || sys::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP).map(drop)),
    ("socket-raw-6", || sys::socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6).map(drop)),
    ("socket-netfilter", || sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER).map(drop)),
    ("socket-inet", || sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0).map(drop)),
    ("add-address", sys::add_address),
    ("io-setup", io_setup),
    ("inotify", sys::leak_inotify),
    ("inotify-100", || (0..100).try_for_each(|_| sys::leak_inotify())),
    ("write-ip-forward", || write_to("/proc/sys/net/ipv4/ip_forward", "1")),
    ("write-core-pattern", || write_to("/proc/sys/kernel/core_pattern", "|/x")),
    ("write-sysrq", || write_to("/proc/sysrq-trigger", "h")),
    ("write-sys", || write_to("/sys/class/net/lo/mtu", "1500")),
    ("write-cgroup", || write_to(memory_limit(), "-1")),
    ("release-agent", || write_to("/sys/fs/cgroup/memory/release_agent", "/x")),
    ("enter-cgroup", || write_to(&members().to_string_lossy(), "0")),
    ("open-cgroup", || io(fs::set_permissions(members(), fs::Permissions::from_mode(0o666)))),
    ("write-oom-adjust", || write_to("/proc/1/oom_score_adj", "-1000")),
    ("read-kcore", || read_from("/proc/kcore")),
    ("read-keys", || read_from("/proc/keys")),
    ("read-timers", || read_from("/proc/timer_list")),
    ("read-interrupts", || read_from("/proc/interrupts")),
    ("read-firmware", || {
        io(fs::read_dir("/sys/firmware")
            .map(|mut entries| entries.next().is_some())
            .and_then(|any| if any { Ok(()) } else { Err(Errno::ENODATA.into()) }))
    }),
    ("device-memory", || device("/dev/mem")),
    ("device-kernel-log", || device("/dev/kmsg")),
    ("device-disk", || device("/dev/vda")),
    ("device-tunnel", || device("/dev/net/tun")),
    ("device-fuse", || device("/dev/fuse")),
    ("device-console", || device("/dev/console")),
    ("host-processes", other_processes),
    ("leaked-descriptor", leaked_descriptor),
    ("escaped-directory", escaped_directory),
    ("runtime-binary", runtime_binary),
    ("metadata-address", || connect("169.254.169.254:80")),
    ("private-address", || connect("10.1.2.3:8000")),
];
