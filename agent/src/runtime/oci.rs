//! The OCI runtime specification of an instance, written out in full: nothing is left to a default.

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, Mount,
    MountBuilder, PosixRlimitBuilder, PosixRlimitType, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
    UserBuilder,
};

use super::user::ImageUser;

/// Open files that a container's process may have at first and at most.
const NOFILE: (u64, u64) = (1024, 65_536);

/// Paths of /proc and /sys that show the machine to whoever can read them: covered.
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
/// Paths of /proc through which the machine could be changed: read-only.
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What is particular to one container.
pub(crate) struct Particulars<'a> {
    pub(crate) hostname: &'a str,
    pub(crate) rootfs: &'a Path,
    pub(crate) cgroup: &'a Path,
    pub(crate) args: &'a [String],
    pub(crate) env: &'a BTreeMap<String, String>,
    pub(crate) cwd: &'a Path,
    pub(crate) user: ImageUser,
    /// How many files this process itself may have open at most: it cannot give more.
    pub(crate) max_files: u64,
}

/// The specification of a container that is started inside its own user and network namespaces.
pub(crate) fn spec(of: &Particulars<'_>) -> Result<Spec, OciSpecError> {
    let user = UserBuilder::default()
        .uid(of.user.uid)
        .gid(of.user.gid)
        .additional_gids(of.user.groups.clone())
        .build()?;
    let (soft, hard) = (NOFILE.0.min(of.max_files), NOFILE.1.min(of.max_files));
    let nofile =
        PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitNofile).soft(soft).hard(hard).build()?;
    let core =
        PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitCore).soft(0u64).hard(0u64).build()?;
    let process = ProcessBuilder::default()
        .terminal(false)
        .user(user)
        .args(of.args.to_vec())
        .env(of.env.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>())
        .cwd(of.cwd)
        .no_new_privileges(true)
        .capabilities(no_capabilities()?)
        .rlimits(vec![nofile, core])
        .build()?;
    let mut linux = LinuxBuilder::default()
        .cgroups_path(of.cgroup)
        .namespaces(namespaces()?)
        .masked_paths(MASKED_PATHS.map(str::to_owned).to_vec())
        .readonly_paths(READONLY_PATHS.map(str::to_owned).to_vec())
        .build()?;
    // The builder's default is not none, and with any libcontainer wants to write the devices controller as root.
    linux.set_resources(None);
    SpecBuilder::default()
        .version("1.0.2")
        .hostname(of.hostname)
        .root(RootBuilder::default().path(of.rootfs).readonly(false).build()?)
        .process(process)
        .mounts(mounts()?)
        .linux(linux)
        .build()
}

/// The app itself has none: the change to the image's user has happened before it runs, and it listens on ports that
/// any user may take (its network namespace is its own).
fn no_capabilities() -> Result<oci_spec::runtime::LinuxCapabilities, OciSpecError> {
    let none = std::collections::HashSet::<Capability>::new;
    LinuxCapabilitiesBuilder::default()
        .bounding(none())
        .effective(none())
        .inheritable(none())
        .permitted(none())
        .ambient(none())
        .build()
}

fn namespaces() -> Result<Vec<oci_spec::runtime::LinuxNamespace>, OciSpecError> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Pid, Uts};
    [Pid, Ipc, Uts, Mount, Cgroup]
        .into_iter()
        .map(|typ| LinuxNamespaceBuilder::default().typ(typ).build())
        .collect()
}

fn mounts() -> Result<Vec<Mount>, OciSpecError> {
    let mount = |destination: &str, typ: &str, options: &[&str]| {
        MountBuilder::default()
            .destination(destination)
            .typ(typ)
            .source(typ)
            .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
            .build()
    };
    Ok(vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"])?,
        mount("/dev", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=64k"])?,
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        )?,
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=64m"])?,
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?,
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"])?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specification_says_what_matters() {
        let spec = spec(&Particulars {
            hostname: "h",
            rootfs: Path::new("/r"),
            cgroup: Path::new("/c"),
            args: &["/app".to_owned()],
            env: &BTreeMap::from([("A".to_owned(), "b".to_owned())]),
            cwd: Path::new("/"),
            user: ImageUser { uid: 7, gid: 8, groups: vec![9] },
            max_files: 4096,
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
