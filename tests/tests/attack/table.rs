//! What each probe must come to, with and without the layers that stop it.
//!
//! Without its layers a probe returns `ok`, or the error of what comes after them: `EINVAL`, `EFAULT`, `ENODEV` and
//! `EBUSY` are the kernel's answers to calls that got through to it and made no sense there.

/// One probe.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Its result with all layers on.
    pub(crate) expected: &'static str,
    /// The layers without which it is tried again; none where what stops it cannot be switched off: that the thing is
    /// not there, or that a user namespace has no power over it.
    pub(crate) layers: &'static [&'static str],
    /// Its result then.
    pub(crate) then: &'static str,
}

const fn row(
    name: &'static str,
    expected: &'static str,
    layers: &'static [&'static str],
    then: &'static str,
) -> Row {
    Row { name, expected, layers, then }
}

const NOTHING: &[&str] = &[];
const SECCOMP: &[&str] = &["seccomp"];
const CAPABILITIES: &[&str] = &["capabilities"];
/// Each of the three stops what administers namespaces.
const ADMIN: &[&str] = &["seccomp", "capabilities", "user-counters"];
const USER_COUNTERS: &[&str] = &["user-counters"];
const MASKED: &[&str] = &["masked-paths"];
const READ_ONLY_SYS: &[&str] = &["read-only-sys"];

/// All probes.
pub(crate) const ROWS: &[Row] = &[
    row("mount-tmpfs", "EPERM", ADMIN, "ok"),
    row("umount-proc", "EPERM", ADMIN, "EBUSY"),
    row("pivot-root", "EPERM", ADMIN, "EINVAL"),
    row("fsopen", "EPERM", ADMIN, "ok"),
    row("open-tree", "EPERM", ADMIN, "ok"),
    row("chroot", "EPERM", ADMIN, "ok"),
    row("unshare-user", "EPERM", ADMIN, "ok"),
    row("unshare-mount", "EPERM", ADMIN, "ok"),
    row("unshare-net", "EPERM", ADMIN, "ok"),
    row("unshare-pid", "EPERM", ADMIN, "ok"),
    row("unshare-ipc", "EPERM", ADMIN, "ok"),
    row("unshare-uts", "EPERM", ADMIN, "ok"),
    row("unshare-cgroup", "EPERM", ADMIN, "ok"),
    row("unshare-time", "EPERM", ADMIN, "ok"),
    row("clone-mount", "EPERM", ADMIN, "ok"),
    row("clone-pid", "EPERM", ADMIN, "ok"),
    row("clone-ipc", "EPERM", ADMIN, "ok"),
    row("clone-uts", "EPERM", ADMIN, "ok"),
    row("clone-cgroup", "EPERM", ADMIN, "ok"),
    row("clone-user", "EPERM", ADMIN, "ok"),
    row("clone-net", "EPERM", ADMIN, "ok"),
    row("clone-plain", "ok", NOTHING, "-"),
    row("clone3", "ENOSYS", SECCOMP, "EINVAL"),
    row("setns-uts", "EPERM", ADMIN, "ok"),
    row("keyctl", "EPERM", SECCOMP, "ok"),
    row("add-key", "EPERM", SECCOMP, "ok"),
    row("request-key", "EPERM", SECCOMP, "ENOKEY"),
    row("kcmp", "EPERM", SECCOMP, "ok"),
    row("unknown-call", "ENOSYS", NOTHING, "-"),
    row("bpf", "EPERM", SECCOMP, "EINVAL"),
    row("io-uring", "EPERM", SECCOMP, "ok"),
    row("userfaultfd", "EPERM", SECCOMP, "ok"),
    row("perf-event-open", "EPERM", SECCOMP, "EFAULT"),
    row("open-by-handle-at", "EPERM", SECCOMP, "EFAULT"),
    row("kexec-load", "EPERM", SECCOMP, "ENOSYS"),
    row("init-module", "EPERM", SECCOMP, "ENOSYS"),
    row("delete-module", "EPERM", SECCOMP, "ENOSYS"),
    row("reboot", "EPERM", NOTHING, "-"),
    row("swapon", "EPERM", NOTHING, "-"),
    row("kernel-log", "EPERM", NOTHING, "-"),
    row("quotactl", "EPERM", SECCOMP, "ENODEV"),
    row("acct", "EPERM", NOTHING, "-"),
    row("settimeofday", "EPERM", NOTHING, "-"),
    row("sethostname", "EPERM", ADMIN, "ok"),
    row("personality", "ENOSYS", SECCOMP, "ok"),
    row("call-32-bit", "killed-by-31", SECCOMP, "ok"),
    row("call-x32", "killed-by-31", SECCOMP, "ENOSYS"),
    row("setuid", "EPERM", CAPABILITIES, "ok"),
    row("mknod", "EPERM", NOTHING, "-"),
    row("socket-alg", "EAFNOSUPPORT", NOTHING, "-"),
    row("socket-vsock", "EAFNOSUPPORT", SECCOMP, "ok"),
    row("socket-packet", "EAFNOSUPPORT", ADMIN, "ok"),
    row("socket-raw", "EPERM", CAPABILITIES, "ok"),
    row("socket-raw-6", "EPERM", CAPABILITIES, "ok"),
    row("socket-netfilter", "EPROTONOSUPPORT", SECCOMP, "ok"),
    row("socket-inet", "ok", NOTHING, "-"),
    row("add-address", "EPERM", CAPABILITIES, "ok"),
    row("io-setup", "ENOSYS", SECCOMP, "ok"),
    row("inotify", "ok", NOTHING, "-"),
    row("inotify-100", "EMFILE", USER_COUNTERS, "ok"),
    row("write-ip-forward", "EACCES", CAPABILITIES, "EROFS"),
    row("write-core-pattern", "EACCES", NOTHING, "-"),
    row("write-sysrq", "ENOENT", NOTHING, "-"),
    row("write-sys", "EROFS", READ_ONLY_SYS, "EPERM"),
    row("write-cgroup", "EACCES", NOTHING, "-"),
    row("release-agent", "ENOENT", NOTHING, "-"),
    row("enter-cgroup", "EACCES", NOTHING, "-"),
    row("open-cgroup", "EROFS", READ_ONLY_SYS, "EPERM"),
    row("write-oom-adjust", "EACCES", NOTHING, "-"),
    row("read-kcore", "ENOENT", NOTHING, "-"),
    row("read-keys", "ENODATA", NOTHING, "-"),
    row("read-timers", "ENODATA", MASKED, "EACCES"),
    row("read-interrupts", "ENODATA", MASKED, "ok"),
    row("read-firmware", "ENODATA", MASKED, "ok"),
    row("device-memory", "ENOENT", NOTHING, "-"),
    row("device-kernel-log", "ENOENT", NOTHING, "-"),
    row("device-disk", "ENOENT", NOTHING, "-"),
    row("device-tunnel", "ENOENT", NOTHING, "-"),
    row("device-fuse", "ENOENT", NOTHING, "-"),
    row("device-console", "ENOENT", NOTHING, "-"),
    row("host-processes", "ESRCH", NOTHING, "-"),
    row("leaked-descriptor", "ENOENT", NOTHING, "-"),
    row("escaped-directory", "ENOENT", NOTHING, "-"),
    row("runtime-binary", "EACCES", NOTHING, "-"),
    row("metadata-address", "ENETUNREACH", NOTHING, "-"),
    row("private-address", "ENETUNREACH", NOTHING, "-"),
];

/// What this test cannot show, and why.
pub(crate) const NOT_TESTABLE: &[&str] = &[
    "socket-alg, where the kernel has no AF_ALG: it answers as the filter does",
    "kexec-load, init-module and delete-module, where the kernel has none: without the filter they are unknown calls",
    "call-x32, where the kernel has no such calls: without the filter it is an unknown one",
    "Landlock, where the kernel has it not",
];
