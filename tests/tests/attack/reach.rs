//! What of the machine and of other containers is seen and reached from inside. What is looked for is really there: the
//! test makes it or finds it outside first.

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::cgroup;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::image::{self, Layer};
use berth_tests::programs::PROBE;
use berth_tests::scenario::Outcome;
use nix::ifaddrs::getifaddrs;
use serde_json::json;

use crate::scenario;

/// All that is in /dev: no disk, no console, nothing of the machine's.
const DEVICES: &str = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
/// The controllers of cgroup v1 whose hierarchies are seen inside.
const HIERARCHIES: &str = "cpu cpuacct cpuset memory pids";
/// Namespaces that are a container's own.
const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
/// What a process may do, without and with the layers of `WITHOUT`. The second of the capabilities are those that a
/// container without the layer is given.
const RIGHTS: [(&str, &str, &str); 4] = [
    ("NoNewPrivs", "1", "0"),
    ("Seccomp", "2", "0"),
    ("CapEff", "0000000000000000", "00000000082c30c2"),
    ("CapBnd", "0000000000000000", "00000000082c30c2"),
];
const WITHOUT: [&str; 6] =
    ["--without", "no-new-privileges", "--without", "seccomp", "--without", "capabilities"];

fn app() -> App {
    App { program: PROBE, ..App::default() }
}

/// The response of an instance of the app.
async fn look(cluster: &Cluster, instance: &str, name: &str, argument: &str) -> Result<String> {
    let path = format!("/container/{instance}/look/{name}?{argument}");
    Ok(cluster.client().get(&path).await?.success()?.text)
}

async fn expect(cluster: &Cluster, instance: &str, name: &str, argument: &str, told: &str) -> Result<()> {
    let found = look(cluster, instance, name, argument).await?;
    ensure!(found == told, "in {instance}, {name} {argument}: {found:?}, not {told:?}");
    Ok(())
}

#[test]
fn servers_of_the_machine_are_out_of_reach() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        let server = TcpListener::bind("[::]:0")?;
        let port = server.local_addr()?.port();
        for host in ["127.0.0.1", "[::1]"] {
            TcpStream::connect(format!("{host}:{port}")).context("the server is not there")?;
            expect(cluster, "one", "connect", &format!("{host}:{port}"), "ECONNREFUSED").await?;
        }
        expect(cluster, "one", "connect", &format!("0.0.0.0:{port}"), "ECONNREFUSED").await?;
        for address in own_addresses()? {
            TcpStream::connect(format!("{address}:{port}")).context("the server is not there")?;
            expect(cluster, "one", "connect", &format!("{address}:{port}"), "ENETUNREACH").await?;
        }
        for nowhere in ["169.254.169.254:80", "169.254.1.53:53", "[fe80::1~1]:80", "[fd00::1]:80"] {
            expect(cluster, "one", "connect", nowhere, "ENETUNREACH").await?;
        }
        expect(cluster, "one", "list", "/sys/class/net", "ok lo").await
    })
}

/// The machine's addresses, but those that mean another thing in each network.
fn own_addresses() -> Result<Vec<String>> {
    let addresses = getifaddrs()?.filter_map(|interface| interface.address);
    let v4 = addresses.filter_map(|address| Some(address.as_sockaddr_in()?.ip()));
    Ok(v4.filter(|ip| !ip.is_loopback() && !ip.is_link_local()).map(|ip| ip.to_string()).collect())
}

#[test]
fn sockets_and_files_of_the_node_are_not_there() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        look(cluster, "one", "terminal", "").await?;
        let sockets = sockets_below(cluster.directory());
        ensure!(sockets.iter().any(|path| path.starts_with(&cluster.nodes()[0].state)), "{sockets:?}");
        for path in &sockets {
            expect(cluster, "one", "unix", &path.display().to_string(), "ENOENT").await?;
        }
        expect(cluster, "one", "list", &cluster.directory().display().to_string(), "ENOENT").await?;
        let name = format!("berth-attack-{}", std::process::id());
        let address = UnixAddr::from_abstract_name(&name)?;
        let _server = UnixListener::bind_addr(&address)?;
        UnixStream::connect_addr(&address).context("the abstract socket is not there")?;
        expect(cluster, "one", "abstract", &name, "ECONNREFUSED").await
    })
}

fn sockets_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(sockets_below(&entry.path())),
            Ok(kind) if kind.is_socket() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

#[test]
fn another_container_is_neither_seen_nor_reached() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        for (how, argument) in [
            ("listen", "127.0.0.1:7007"),
            ("listen-abstract", "of-one"),
            ("put", "/left"),
            ("put", "/dev/shm/left"),
        ] {
            expect(cluster, "one", how, argument, "ok").await?;
        }
        for (name, argument) in [("connect", "127.0.0.1:7007"), ("abstract", "of-one")] {
            expect(cluster, "one", name, argument, "ok").await?;
            expect(cluster, "two", name, argument, "ECONNREFUSED").await?;
        }
        expect(cluster, "one", "list", "/dev/shm", "ok left").await?;
        expect(cluster, "two", "list", "/dev/shm", "ok").await?;
        for (instance, there) in [("one", true), ("two", false)] {
            let files = look(cluster, instance, "list", "/").await?;
            ensure!(files.split(' ').any(|name| name == "left") == there, "in {instance}: {files}");
        }
        expect(cluster, "two", "programs", "", "ok init probe").await?;
        for kind in NAMESPACES {
            let path = format!("/proc/self/ns/{kind}");
            let outside = format!("ok {}", fs::read_link(&path)?.display());
            let (one, two) =
                (look(cluster, "one", "link", &path).await?, look(cluster, "two", "link", &path).await?);
            ensure!(one.starts_with("ok ") && two.starts_with("ok "), "{kind}: {one}, {two}");
            ensure!(one != outside && two != outside && one != two, "{kind} is shared: {one}, {two}");
        }
        Ok(())
    })
}

/// The controllers of the hierarchies that a container lists. Where two share one, it has both names, and a link for each.
fn controllers(listed: &str) -> Option<BTreeSet<&str>> {
    Some(listed.strip_prefix("ok ")?.split([' ', ',']).collect())
}

#[test]
fn a_hierarchy_of_two_controllers_counts_as_both() {
    let each = controllers("ok cpu cpuacct memory");
    assert_eq!(controllers("ok cpu cpu,cpuacct cpuacct memory"), each);
    assert_ne!(controllers("ok cpu cpu,devices cpuacct memory"), each);
    assert_eq!(controllers("ENOENT"), None);
}

#[test]
fn an_app_starts_with_nothing_but_its_own() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&app()).await?;
        expect(cluster, "one", "descriptors", "", "ok 0=/dev/null 1=pipe 2=pipe").await?;
        expect(cluster, "one", "list", "/dev", &format!("ok {DEVICES}")).await?;
        let groups = look(cluster, "one", "list", "/sys/fs/cgroup").await?;
        // Of its own group on v2, and on v1 no hierarchy that could say something of the machine or of its devices.
        ensure!(
            cgroup::is_unified() || controllers(&groups) == controllers(&format!("ok {HIERARCHIES}")),
            "{groups}"
        );
        for of_others in ["berth", "release_agent", "memory/berth", "memory/release_agent", "devices"] {
            expect(cluster, "one", "list", &format!("/sys/fs/cgroup/{of_others}"), "ENOENT").await?;
        }
        // TIOCSTI (typing into a terminal) needs a terminal, and there is none.
        expect(cluster, "one", "terminal", "", "ENXIO").await?;
        for link in ["/proc/1/cwd", "/proc/1/root"] {
            expect(cluster, "one", "link", link, "ok /").await?;
        }
        for (name, protected, _) in RIGHTS {
            expect(cluster, "one", "status", name, &format!("ok {protected}")).await?;
        }
        Ok(())
    })
}

#[test]
fn without_their_layers_an_app_has_those_rights() -> Outcome {
    scenario(Setup { agent_options: WITHOUT.to_vec(), ..Setup::nodes(1) }, async |cluster| {
        cluster.deploy(&app()).await?;
        for (name, _, unprotected) in RIGHTS {
            expect(cluster, "one", "status", name, &format!("ok {unprotected}")).await?;
        }
        Ok(())
    })
}

/// Deploys the probe as a file of the container's root that makes its user root, run by another user.
async fn deploy_setuid(cluster: &Cluster) -> Result<()> {
    let layer =
        Layer::default().directory("app").file("app/gain", 0o4755, &fs::read(cluster.program(PROBE))?);
    deploy_image(cluster, "gain", layer, &["/app/gain"]).await
}

async fn deploy_image(
    cluster: &Cluster,
    name: &'static str,
    layer: Layer,
    entrypoint: &[&str],
) -> Result<()> {
    let directory = cluster.make_directory(&format!("image-{name}"))?;
    let config = json!({"User": "1000:1000", "Entrypoint": entrypoint});
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let image = image::write(&directory, vec![layer], config, architecture)?;
    cluster.deploy(&App { image: Some(image), name, prefix: name, ..app() }).await
}

async fn user_of(cluster: &Cluster) -> Result<String> {
    deploy_setuid(cluster).await?;
    Ok(cluster.client().get("/gain/one/look/status?Uid").await?.success()?.text)
}

#[test]
fn a_setuid_file_makes_nobody_root() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let user = user_of(cluster).await?;
        ensure!(user == "ok 1000 1000 1000 1000", "{user}");
        Ok(())
    })
}

#[test]
fn without_its_layers_a_setuid_file_makes_root() -> Outcome {
    // The filter too: without privileges it can only be loaded by a process that gains none.
    scenario(Setup { agent_options: WITHOUT[..4].to_vec(), ..Setup::nodes(1) }, async |cluster| {
        let user = user_of(cluster).await?;
        // The app's own; the init above it stays the image's user.
        ensure!(user.ends_with("of the app 1000 0 0 0"), "{user}");
        Ok(())
    })
}

/// An image can have the runtime's own program run in the container, where it might be written to. (CVE-2019-5736)
#[test]
fn the_runtimes_program_is_not_changed_by_an_image_that_runs_it() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let agent = cluster.program("berth-agent");
        let before = fs::read(&agent)?;
        let script = || Layer::default().file("script", 0o755, b"#!/proc/self/exe\n");
        for (name, entrypoint) in [("exe", "/proc/self/exe"), ("script", "/script")] {
            deploy_image(cluster, name, script(), &[entrypoint]).await?;
            let answer = cluster.client().get(&format!("/{name}/one")).await?;
            ensure!(answer.status.as_u16() == 500, "{name}: {}: {}", answer.status, answer.text);
        }
        ensure!(fs::read(&agent)? == before, "the program of the runtime was changed");
        Ok(())
    })
}
