//! The seccomp filter of containers: an allow list of system calls; all others fail.
//!
//! Unknown calls fail as on an old kernel (ENOSYS), so that software falls back; forbidden ones fail with EPERM.
//! Programs for another architecture than the machine's are killed at their first call.

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

/// Forbidden by not being listed: `io_setup` and its like, whose contexts the kernel counts for the whole machine. What uses
/// them falls back, as on a kernel without them.
///
/// Allowed whatever their arguments: files, memory, processes and threads of one's own, time, sockets, signals.
const ALLOWED: &str = "
    accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown clock_adjtime
    clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
    eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod
    fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
    fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv futex_wake futimesat get_robust_list
    get_thread_area getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer getpeername getpgid
    getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt
    gettid gettimeofday getuid getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl
    ioprio_get ioprio_set kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat listen listxattr llistxattr
    lremovexattr lseek lsetxattr lstat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir
    mkdirat mknod mknodat mlock mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
    mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap nanosleep newfstatat
    open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll
    prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6 ptrace pwrite64
    pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages removexattr
    rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity
    sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop sendfile
    sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setitimer
    setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid setxattr shmat shmctl
    shmdt shmget shutdown sigaltstack signalfd signalfd4 socketpair splice stat statfs statx symlink symlinkat
    sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
    timer_settime timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask uname unlink unlinkat utime
    utimensat utimes vfork vmsplice wait4 waitid write writev";

/// Forbidden calls: they administer the machine, make namespaces or mounts, access other processes, or were used to
/// escape from containers.
const DENIED: &str = "
    acct add_key bpf chroot clock_settime create_module delete_module fanotify_init finit_module fsconfig fsmount
    fsopen fspick get_kernel_syms get_mempolicy init_module io_uring_enter io_uring_register io_uring_setup ioperm
    iopl kcmp kexec_file_load kexec_load keyctl listmount lookup_dcookie lsm_get_self_attr lsm_list_modules
    lsm_set_self_attr mbind migrate_pages modify_ldt mount mount_setattr move_mount move_pages name_to_handle_at
    nfsservctl open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root process_madvise query_module quotactl
    quotactl_fd reboot request_key set_mempolicy set_mempolicy_home_node setdomainname sethostname setns settimeofday
    statmount stime swapoff swapon sysfs syslog umount umount2 unshare uselib userfaultfd ustat vhangup vm86 vm86old";

/// Flags of `clone` that make namespaces.
const NAMESPACE_FLAGS: [u64; 7] = [
    0x0002_0000, // mount
    0x0200_0000, // cgroup
    0x0400_0000, // uts
    0x0800_0000, // ipc
    0x1000_0000, // user
    0x2000_0000, // pid
    0x4000_0000, // network
];
/// Address families of sockets: Unix, IPv4, IPv6.
const SOCKET_FAMILIES: [u64; 3] = [1, 2, 10];
/// Netlink, of which apps need the protocol for addresses and routes.
const NETLINK_FAMILY: u64 = 16;
const NETLINK_ROUTE: u64 = 0;
/// Values of `personality`: Linux, the variants that only change `uname`, and the query.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// No error: the call does nothing.
const DONE: u32 = 0;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const EPROTONOSUPPORT: u32 = 93;
const EAFNOSUPPORT: u32 = 97;

/// The profile of every container.
pub(crate) fn profile() -> Result<LinuxSeccomp, OciSpecError> {
    let mut rules = vec![allow(ALLOWED, None)?, deny(DENIED, EPERM, None)?];
    // It would write back the files of all containers, and of the machine. What this one has on its disk does not outlive a
    // crash of the machine in any case.
    rules.push(deny("sync", DONE, None)?);
    rules.extend(sockets()?);
    rules.extend(clones()?);
    for personality in PERSONALITIES {
        rules.push(allow("personality", Some(vec![equal(0, personality)?]))?);
    }
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(ENOSYS)
        .architectures(vec![Arch::ScmpArchNative])
        .syscalls(rules)
        .build()
}

/// Compares all 64 bits, including those that the kernel ignores, so that no other value passes.
fn sockets() -> Result<Vec<LinuxSyscall>, OciSpecError> {
    let mut rules = Vec::new();
    for family in 0..NETLINK_FAMILY {
        let argument = Some(vec![equal(0, family)?]);
        rules.push(if SOCKET_FAMILIES.contains(&family) {
            allow("socket", argument)?
        } else {
            deny("socket", EAFNOSUPPORT, argument)?
        });
    }
    rules.push(deny("socket", EAFNOSUPPORT, Some(vec![greater(0, NETLINK_FAMILY)?]))?);
    let netlink =
        |protocol| -> Result<_, OciSpecError> { Ok(Some(vec![equal(0, NETLINK_FAMILY)?, protocol])) };
    rules.push(allow("socket", netlink(equal(2, NETLINK_ROUTE)?)?)?);
    rules.push(deny("socket", EPROTONOSUPPORT, netlink(greater(2, NETLINK_ROUTE)?)?)?);
    Ok(rules)
}

/// Processes and threads, but no namespaces. `clone3` has its flags in memory, where filters cannot check them: it
/// fails with ENOSYS, and programs fall back to `clone`.
fn clones() -> Result<Vec<LinuxSyscall>, OciSpecError> {
    let all = NAMESPACE_FLAGS.iter().fold(0, |all, flag| all | flag);
    let mut rules = vec![allow("clone", Some(vec![masked(0, all, 0)?]))?];
    for flag in NAMESPACE_FLAGS {
        rules.push(deny("clone", EPERM, Some(vec![masked(0, flag, flag)?]))?);
    }
    Ok(rules)
}

fn allow(names: &str, args: Option<Vec<LinuxSeccompArg>>) -> Result<LinuxSyscall, OciSpecError> {
    rule(names, LinuxSeccompAction::ScmpActAllow, None, args)
}

fn deny(names: &str, errno: u32, args: Option<Vec<LinuxSeccompArg>>) -> Result<LinuxSyscall, OciSpecError> {
    rule(names, LinuxSeccompAction::ScmpActErrno, Some(errno), args)
}

fn rule(
    names: &str,
    action: LinuxSeccompAction,
    errno: Option<u32>,
    args: Option<Vec<LinuxSeccompArg>>,
) -> Result<LinuxSyscall, OciSpecError> {
    let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
    let mut rule = LinuxSyscallBuilder::default().names(names).action(action);
    if let Some(errno) = errno {
        rule = rule.errno_ret(errno);
    }
    if let Some(args) = args {
        rule = rule.args(args);
    }
    rule.build()
}

fn equal(index: usize, value: u64) -> Result<LinuxSeccompArg, OciSpecError> {
    LinuxSeccompArgBuilder::default().index(index).value(value).op(LinuxSeccompOperator::ScmpCmpEq).build()
}

fn greater(index: usize, value: u64) -> Result<LinuxSeccompArg, OciSpecError> {
    LinuxSeccompArgBuilder::default().index(index).value(value).op(LinuxSeccompOperator::ScmpCmpGt).build()
}

/// Matches if the masked bits of the argument have this value. libcontainer takes the value from the first field and
/// the mask from the second, unlike the runtime specification. Should that change, nothing matches and no process can
/// be made: it fails closed, and every test with it.
fn masked(index: usize, mask: u64, value: u64) -> Result<LinuxSeccompArg, OciSpecError> {
    LinuxSeccompArgBuilder::default()
        .index(index)
        .value(value)
        .value_two(mask)
        .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_call_is_both_allowed_and_denied() {
        let allowed: HashSet<&str> = ALLOWED.split_whitespace().collect();
        let denied: HashSet<&str> = DENIED.split_whitespace().collect();
        assert_eq!(allowed.intersection(&denied).collect::<Vec<_>>(), Vec::<&&str>::new());
        for conditional in ["clone", "clone3", "socket", "personality", "sync"] {
            assert!(!allowed.contains(conditional) && !denied.contains(conditional), "{conditional}");
        }
    }

    #[test]
    fn what_leads_out_is_denied() {
        let denied: HashSet<&str> = DENIED.split_whitespace().collect();
        for name in [
            "mount",
            "unshare",
            "setns",
            "bpf",
            "keyctl",
            "io_uring_setup",
            "userfaultfd",
            "open_by_handle_at",
        ] {
            assert!(denied.contains(name), "{name}");
        }
        assert!(!ALLOWED.contains("io_setup"), "one container could use up the contexts of all");
    }

    #[test]
    fn all_that_is_not_listed_fails() {
        let profile = profile().unwrap();
        assert_eq!(profile.default_action(), LinuxSeccompAction::ScmpActErrno);
        assert_eq!(profile.default_errno_ret(), Some(ENOSYS));
    }
}
