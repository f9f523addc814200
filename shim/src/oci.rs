//! The OCI runtime specification of a container, complete: nothing is left to defaults.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use berth_common::spec::Capability as Asked;
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxNamespaceBuilder,
    LinuxNamespaceType, Mount, MountBuilder, PosixRlimit, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
    UserBuilder,
};

use crate::protection::{Layer, Protection};
use crate::seccomp;
use crate::user::ImageUser;

/// Paths of /proc and /sys that reveal details of the machine: masked.
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// Terminals of a container: the kernel has 4,096, of which 1,024 are kept for the machine itself, and the rest are for 256
/// containers.
const MAX_TERMINALS: &str = "max=12";
/// Paths of /proc that could change the machine: read-only.
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The parts that differ between containers.
pub(crate) struct Particulars<'a> {
    pub(crate) rootfs: &'a Path,
    pub(crate) cgroup: &'a Path,
    pub(crate) args: &'a [String],
    pub(crate) env: &'a BTreeMap<String, String>,
    pub(crate) cwd: &'a Path,
    pub(crate) user: ImageUser,
    pub(crate) capabilities: &'a BTreeSet<Asked>,
    pub(crate) rlimits: Vec<PosixRlimit>,
    /// Files to bind read-only, and their paths inside.
    pub(crate) files: &'a [(PathBuf, &'static str)],
    /// Directories of its cgroup, and their paths inside.
    pub(crate) group: &'a [(PathBuf, PathBuf)],
    pub(crate) protection: Protection,
}

/// The specification of a container that is started inside its own user, network and UTS namespaces.
pub(crate) fn spec(of: &Particulars<'_>) -> Result<Spec, OciSpecError> {
    let user = UserBuilder::default()
        .uid(of.user.uid)
        .gid(of.user.gid)
        .additional_gids(of.user.groups.clone())
        .build()?;
    let on = |layer| of.protection.has(layer);
    let capabilities =
        if on(Layer::Capabilities) { capabilities(of.capabilities)? } else { all_capabilities()? };
    let process = ProcessBuilder::default()
        .terminal(false)
        .user(user)
        .args(of.args.to_vec())
        .env(of.env.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>())
        .cwd(of.cwd)
        .no_new_privileges(on(Layer::NoNewPrivileges))
        .capabilities(capabilities)
        .rlimits(of.rlimits.clone())
        .build()?;
    let mut linux = LinuxBuilder::default()
        .cgroups_path(of.cgroup)
        .namespaces(namespaces()?)
        .masked_paths(paths(&MASKED_PATHS, on(Layer::MaskedPaths)))
        .readonly_paths(paths(&READONLY_PATHS, on(Layer::ReadOnlyPaths)))
        .build()?;
    if on(Layer::Seccomp) {
        linux.set_seccomp(Some(seccomp::profile()?));
    }
    // The default is not empty, and with any device rule libcontainer writes the devices controller, which needs root.
    linux.set_resources(None);
    let mut spec = SpecBuilder::default()
        .version("1.0.2")
        .root(RootBuilder::default().path(of.rootfs).readonly(false).build()?)
        .process(process)
        .mounts(mounts(of, on(Layer::ReadOnlySys))?)
        .linux(linux)
        .build()?;
    // Unset: the builder sets the host name later, in its own UTS namespace.
    spec.set_hostname(None);
    Ok(spec)
}

fn paths(paths: &[&str], on: bool) -> Vec<String> {
    if on { paths.iter().map(|path| (*path).to_owned()).collect() } else { Vec::new() }
}

/// Empty, unless the class requests some: libcontainer changes to the image's user before the app runs, and any user
/// may listen on any port of the network namespace. Requested ones are root's alone: other users have none, and
/// executing a program gains none.
fn capabilities(asked: &BTreeSet<Asked>) -> Result<LinuxCapabilities, OciSpecError> {
    let asked: HashSet<Capability> = asked.iter().map(capability).collect();
    LinuxCapabilitiesBuilder::default()
        .bounding(asked.clone())
        .effective(asked.clone())
        .inheritable(HashSet::new())
        .permitted(asked)
        .ambient(HashSet::new())
        .build()
}

fn capability(asked: &Asked) -> Capability {
    match asked {
        Asked::Chown => Capability::Chown,
        Asked::DacOverride => Capability::DacOverride,
        Asked::Fowner => Capability::Fowner,
        Asked::Fsetid => Capability::Fsetid,
        Asked::Kill => Capability::Kill,
        Asked::Setgid => Capability::Setgid,
        Asked::Setuid => Capability::Setuid,
    }
}

/// All capabilities, for tests that show what dropping them prevents.
fn all_capabilities() -> Result<LinuxCapabilities, OciSpecError> {
    use Capability::{DacOverride, Mknod, NetAdmin, NetRaw, Setgid, Setuid, SysAdmin, SysChroot, SysPtrace};
    let all = || {
        let all = [DacOverride, Mknod, NetAdmin, NetRaw, Setgid, Setuid, SysAdmin, SysChroot, SysPtrace];
        HashSet::from(all)
    };
    LinuxCapabilitiesBuilder::default()
        .bounding(all())
        .effective(all())
        .inheritable(all())
        .permitted(all())
        .ambient(all())
        .build()
}

fn namespaces() -> Result<Vec<oci_spec::runtime::LinuxNamespace>, OciSpecError> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Pid};
    [Pid, Ipc, Mount, Cgroup]
        .into_iter()
        .map(|typ| LinuxNamespaceBuilder::default().typ(typ).build())
        .collect()
}

fn mounts(of: &Particulars<'_>, read_only_sys: bool) -> Result<Vec<Mount>, OciSpecError> {
    let access = if read_only_sys { "ro" } else { "rw" };
    let mount = |destination: &str, typ: &str, options: &[&str]| {
        MountBuilder::default()
            .destination(destination)
            .typ(typ)
            .source(typ)
            .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
            .build()
    };
    let mut mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"])?,
        mount("/dev", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=64k"])?,
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5", MAX_TERMINALS],
        )?,
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=64m"])?,
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?,
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", access])?,
    ];
    let bind = |source: &Path, destination: &Path, access: &str| {
        let options = ["bind", access, "nosuid", "noexec", "nodev"].map(str::to_owned);
        let mount = MountBuilder::default().destination(destination).typ("bind").source(source);
        mount.options(options.to_vec()).build()
    };
    for (source, destination) in of.group {
        mounts.push(bind(source, destination, access)?);
    }
    for (source, destination) in of.files {
        mounts.push(bind(source, Path::new(destination), "ro")?);
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rlimits;

    #[test]
    fn the_specification_says_what_matters() {
        let spec = spec(&Particulars {
            rootfs: Path::new("/r"),
            cgroup: Path::new("/c"),
            args: &["/app".to_owned()],
            env: &BTreeMap::from([("A".to_owned(), "b".to_owned())]),
            cwd: Path::new("/"),
            user: ImageUser { uid: 7, gid: 8, groups: vec![9], home: "/".to_owned() },
            capabilities: &BTreeSet::new(),
            rlimits: rlimits::of_container().unwrap(),
            files: &[],
            group: &[],
            protection: Protection::default(),
        })
        .unwrap();
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.no_new_privileges(), Some(true));
        assert!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().is_empty());
        let linux = spec.linux().as_ref().unwrap();
        // Limits are written by the shim; with resources here libcontainer would want to be root on cgroup v1.
        assert!(linux.resources().is_none());
        let kinds: Vec<_> = linux.namespaces().as_ref().unwrap().iter().map(|n| n.typ()).collect();
        assert!(!kinds.contains(&LinuxNamespaceType::User) && !kinds.contains(&LinuxNamespaceType::Network));
    }
}
