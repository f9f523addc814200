//! What a script process gives up, in steps: its standing with the system and its memory, files (landlock), and then all system
//! calls but those that a calculation needs (seccomp). Each layer by itself keeps a script from files, network and other
//! processes; none is needed for what the others do.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError, Scope,
};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::sys;

/// The newest version of landlock whose rights are given up; older kernels enforce those that they know.
const LANDLOCK: ABI = ABI::V6;

/// How far below the edge scripts stand when CPU time is short.
const NICE: i32 = 5;

/// How much sooner than the edge the kernel ends scripts when memory is short (`oom_score_adj`, of 1000).
const ENDS_SOONER: &str = "900";

/// Address space besides the isolates', in bytes: the program, its stacks, buffers of messages.
const ADDRESS_SPACE_BYTES: u64 = 1 << 30;

/// Address space of each thread besides its isolate, in bytes: what its allocator sets aside, and code that is being loaded.
const LANE_BYTES: u64 = 512 << 20;

/// Open files: its sockets and the standard ones.
const FILES: u64 = 8 + super::invitation::LANES as u64;

/// Calls that are allowed whatever their arguments: reading and writing what is open, waiting, memory, time, chance, and the end.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Why a process could not be confined.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A limit or a property of the process could not be set.
    #[error("a limit of the process: {0}")]
    Limit(#[from] nix::Error),
    /// Landlock is there and refused.
    #[error("landlock: {0}")]
    Landlock(#[from] RulesetError),
    /// The filter could not be made.
    #[error("the filter of system calls: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// The filter could not be applied.
    #[error("the filter of system calls: {0}")]
    Apply(#[from] seccompiler::Error),
}

/// Which of the layers that kernels may lack are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confined {
    /// Landlock.
    pub landlock: bool,
}

/// Ends with the edge, is read by no other process, leaves no core, and stands behind the edge.
pub(super) fn belong_to_parent() -> Result<(), SandboxError> {
    // If the edge has ended already, its sockets are closed, and that ends this process too.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // Before its files in /proc are root's. Where there is no /proc it is as likely to be ended as the edge.
    drop(std::fs::write("/proc/self/oom_score_adj", ENDS_SOONER));
    prctl::set_dumpable(false)?;
    prctl::set_name(c"berth-script")?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    sys::lower_priority(NICE);
    Ok(())
}

/// Gives up all files, the network, and signals to others, for this thread and those that it starts.
pub fn keep_from_files() -> Result<Confined, SandboxError> {
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?;
    let status = landlock::RulesetCreated::restrict_self(rules.create()?)?;
    Ok(Confined { landlock: status.ruleset != landlock::RulesetStatus::NotEnforced })
}

/// Bounds the memory of the process, and its files and processes to those that it has.
pub fn confine_memory(lanes: usize, memory_bytes: u64) -> Result<(), SandboxError> {
    let each = memory_bytes.saturating_mul(2).saturating_add(LANE_BYTES);
    let most = each.saturating_mul(lanes as u64).saturating_add(ADDRESS_SPACE_BYTES);
    setrlimit(Resource::RLIMIT_AS, most, most)?;
    setrlimit(Resource::RLIMIT_NOFILE, FILES, FILES)?;
    setrlimit(Resource::RLIMIT_NPROC, 0, 0)?;
    Ok(())
}

/// Gives up all system calls but those of a calculation, for all threads, for good. Others fail with EPERM.
pub fn seal() -> Result<(), SandboxError> {
    let program: BpfProgram = filter()?.try_into()?;
    seccompiler::apply_filter_all_threads(&program)?;
    Ok(())
}

fn filter() -> Result<SeccompFilter, seccompiler::BackendError> {
    let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    // Memory that is never run.
    let execute = u64::try_from(libc::PROT_EXEC).unwrap_or(u64::MAX);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let not_run = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(execute), 0)?;
        rules.insert(call, vec![SeccompRule::new(vec![not_run])?]);
    }
    // A process may end itself by a signal, which `abort` does.
    let own =
        SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, u64::from(std::process::id()))?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![own])?]);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, refused, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)
}
