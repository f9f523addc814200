//! The checks, one function per row.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use berth_common::wire::call::DiskLimit;
use berth_shim::process::find_program;
use berth_shim::trial::{self, Trial};
use berth_shim::{cgroup as groups, landlock as files, subordinate_ids as ids};
use bytesize::ByteSize;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::utsname::uname;

use super::{Options, Row, State};
use crate::runtime::disks::slots_of;
use crate::runtime::ranges;

/// Open files that a node with many connections needs.
const OPEN_FILES: u64 = 65_536;
/// Inotify instances of the agents' user that serve a few dozen containers.
const INOTIFY_INSTANCES: u64 = 1024;
/// Their watches.
const INOTIFY_WATCHES: u64 = 1 << 20;
/// The first kernel with overlays in user namespaces.
const KERNEL: (u32, u32) = (5, 11);

const PREPARE: &str = "berth-agent prepare";

/// All rows, each after those that it depends on.
pub(super) fn all(options: &Options) -> Vec<Row> {
    let mut rows =
        vec![kernel(), subordinate_ids(), mappers(), namespaces(), cgroup(options), overlay(options)];
    rows.extend([disk_shares(options)]);
    rows.extend([
        seccomp(),
        landlock(),
        tunnel_device(),
        program("pasta", "passt"),
        program("nft", "nftables"),
    ]);
    rows.extend([
        internet(options),
        disks(options),
        id_ranges(options),
        memory_disks(),
        inotify(),
        open_files(),
    ]);
    rows
}

fn row(
    what: &'static str,
    why: &'static str,
    result: Result<String, String>,
    otherwise: State,
    fix: impl Into<String>,
) -> Row {
    match result {
        Ok(found) => Row { what, state: State::Ok, found, why, fix: None },
        Err(found) => Row { what, state: otherwise, found, why, fix: Some(fix.into()) },
    }
}

fn kernel() -> Row {
    let release = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let result = if version >= KERNEL { Ok(release) } else { Err(release) };
    let fix = format!("install Linux {}.{} or later", KERNEL.0, KERNEL.1);
    row("kernel", "containers' root filesystems are overlays in user namespaces", result, State::Missing, fix)
}

fn subordinate_ids() -> Row {
    let result =
        ids::of_this_user().map(|(uids, _)| format!("from {}", uids.first)).map_err(|e| e.to_string());
    let why = "containers' users are none of the machine's own";
    row("subordinate ids", why, result, State::Missing, PREPARE)
}

fn mappers() -> Row {
    const SETUID: u32 = 0o4000;
    let check = |name: &str| {
        let path = find_program(name).ok_or_else(|| format!("{name} is not installed"))?;
        let mode = fs::metadata(&path).map_err(|e| e.to_string())?.permissions().mode();
        // Some systems use file capabilities instead.
        if mode & SETUID == 0 {
            Ok(format!("{} (not setuid)", path.display()))
        } else {
            Ok(path.display().to_string())
        }
    };
    let result = check("newuidmap").and_then(|first| check("newgidmap").map(|_| first));
    row("newuidmap", "they give a container its users", result, State::Missing, "apt-get install uidmap")
}

fn namespaces() -> Row {
    let result = try_out(Trial::Namespaces, None, None);
    let fix = "sysctl -w user.max_user_namespaces=65536; on some systems also kernel.unprivileged_userns_clone=1 or \
               kernel.apparmor_restrict_unprivileged_userns=0";
    row("namespaces", "each container has its own", result, State::Missing, fix)
}

fn try_out(trial: Trial, directory: Option<&Path>, cgroup: Option<&Path>) -> Result<String, String> {
    let paths = trial::Paths { directory: directory.map(Path::to_owned), cgroup: cgroup.map(Path::to_owned) };
    trial::run(trial, &paths).map(|()| "tried".to_owned())
}

fn cgroup(options: &Options) -> Row {
    let why = "CPU, memory and processes are limited with it";
    let result = match &options.cgroup {
        Some(cgroup) => groups::try_out(cgroup).map(|()| "tried".to_owned()).map_err(|e| e.to_string()),
        None => return unnamed("cgroup", why, "--cgroup PATH"),
    };
    row(
        "cgroup",
        why,
        result,
        State::Missing,
        format!("{PREPARE} --cgroup {}", shown(options.cgroup.as_deref())),
    )
}

fn disk_shares(options: &Options) -> Row {
    let why = "a container that keeps the disk busy leaves its neighbours their share of it";
    let Some(cgroup) = &options.cgroup else { return unnamed("disk shares", why, "--cgroup PATH") };
    let result =
        if groups::shares_disks(cgroup) { Ok("by weight".to_owned()) } else { Err("none".to_owned()) };
    row(
        "disk shares",
        why,
        result,
        State::Degraded,
        "cgroup v2 with the io controller delegated (Delegate=io)",
    )
}

fn shown(path: Option<&Path>) -> String {
    path.map_or_else(|| "PATH".to_owned(), |path| path.display().to_string())
}

fn unnamed(what: &'static str, why: &'static str, option: &str) -> Row {
    let fix = Some(format!("give {option} to have it tried"));
    Row { what, state: State::Degraded, found: "not tried".to_owned(), why, fix }
}

fn overlay(options: &Options) -> Row {
    let why = "a container's root filesystem is its image with its own disk on top";
    let Some(state) = &options.state else { return unnamed("overlay", why, "--state DIR") };
    let result = try_out(Trial::Overlay, Some(state), None);
    let fix = format!("{PREPARE} --state {} (on ext4, xfs or btrfs)", state.display());
    row("overlay", why, result, State::Missing, fix)
}

fn seccomp() -> Row {
    let path = "/proc/sys/kernel/seccomp/actions_avail";
    let actions = fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
    let result = actions.and_then(|text| {
        if text.contains("errno") {
            Ok("there".to_owned())
        } else {
            Err("it cannot answer with errors".to_owned())
        }
    });
    row(
        "seccomp",
        "system calls that lead out are denied",
        result,
        State::Missing,
        "a kernel with CONFIG_SECCOMP_FILTER",
    )
}

fn landlock() -> Row {
    let result = files::version().map(|version| format!("version {version}"));
    let result = result.ok_or_else(|| "the kernel has it not, or not switched on".to_owned());
    let why = "Berth's own processes beside a container are kept to their files";
    row(
        "Landlock",
        why,
        result,
        State::Degraded,
        "a kernel with CONFIG_SECURITY_LANDLOCK and landlock in lsm=",
    )
}

fn tunnel_device() -> Row {
    let path = "/dev/net/tun";
    let opened = OpenOptions::new().read(true).write(true).open(path);
    let result = opened.map(|_| path.to_owned()).map_err(|e| format!("{path}: {e}"));
    row("tunnel device", INTERNET, result, State::Degraded, format!("modprobe tun; {PREPARE}"))
}

const INTERNET: &str = "instances with enable_internet need it";

fn program(name: &'static str, package: &str) -> Row {
    let result = find_program(name).map(|path| path.display().to_string());
    let result = result.ok_or_else(|| "not installed".to_owned());
    row(name, INTERNET, result, State::Degraded, format!("apt-get install {package}"))
}

fn internet(options: &Options) -> Row {
    let Some(cgroup) = &options.cgroup else { return unnamed("internet", INTERNET, "--cgroup PATH") };
    let result = try_out(Trial::Internet, None, Some(cgroup));
    row(
        "internet",
        INTERNET,
        result,
        State::Degraded,
        "see the rows above; or set enable_internet = false in every class",
    )
}

fn disks(options: &Options) -> Row {
    let why = "an instance cannot use more disk than its type has; without, it is refused";
    let Some(state) = &options.state else { return unnamed("disks", why, "--state DIR") };
    let result = slots_of(state).map_err(|e| e.to_string()).and_then(|capacity| {
        let slots: Vec<_> = capacity
            .slots
            .iter()
            .map(|slots| format!("{}x{}", slots.count, ByteSize(slots.bytes).display().si()))
            .collect();
        if capacity.limit == DiskLimit::None {
            Err("no slots".to_owned())
        } else if capacity.broken > 0 {
            Err(format!("{} of them could not be wiped: prepare makes them anew", capacity.broken))
        } else {
            Ok(format!("{} {}", capacity.limit, slots.join(", ")))
        }
    });
    let fix = format!(
        "{PREPARE} --state {} --disk-slots 16x2GB; or run the agent with --disk-limit unenforced",
        state.display()
    );
    row("disks", why, result, State::Degraded, fix)
}

fn id_ranges(options: &Options) -> Row {
    let why =
        "each container has host users of its own, so that none uses up what the kernel counts for another's";
    let Some(state) = &options.state else { return unnamed("ranges of ids", why, "--state DIR") };
    let result = match ranges::usable(state) {
        Ok(0) => Err("none: all containers share one".to_owned()),
        Ok(count) => Ok(count.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let fix = format!(
        "{PREPARE} --state {} --id-ranges 64 (Linux 5.19 or later; the state on ext4, xfs or btrfs)",
        state.display()
    );
    row("ranges of ids", why, result, State::Degraded, fix)
}

fn memory_disks() -> Row {
    let result = try_out(Trial::MemoryDisk, None, None);
    let why = "classes with disk_in_memory = true need it";
    row("disks in memory", why, result, State::Degraded, "Linux 6.6 or later")
}

fn inotify() -> Row {
    let limit = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or(0)
    };
    let (instances, watches) = (limit("max_user_instances"), limit("max_user_watches"));
    let found = format!("{instances}, {watches} watches");
    let result =
        if instances >= INOTIFY_INSTANCES && watches >= INOTIFY_WATCHES { Ok(found) } else { Err(found) };
    row("inotify", "all containers share what this user may have", result, State::Degraded, PREPARE)
}

fn open_files() -> Row {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard);
    let result = if limit >= OPEN_FILES { Ok(limit.to_string()) } else { Err(limit.to_string()) };
    let fix = format!("LimitNOFILE={OPEN_FILES} in the agent's unit, or `ulimit -Hn {OPEN_FILES}` before it");
    row("open files", "each connection of a client takes two", result, State::Degraded, fix)
}
