//! The real edge, as a separate process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use berth_certs::{Authority, Role, Validity};
use berth_common::spec::{AppSpec, ClassSpec, ImageRef};
use berth_store::fixtures;
use http::StatusCode;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use super::{client, image, soon};

/// The directories of an edge: certificates and state.
pub(crate) struct Site {
    directory: tempfile::TempDir,
    node: SocketAddr,
}

/// A running edge.
pub(crate) struct Edge {
    pub(crate) address: SocketAddr,
    /// The address of its registry.
    pub(crate) registry: SocketAddr,
    pub(crate) admin: PathBuf,
    process: Child,
}

/// Certificates of one authority for the edge `e1` and the node `n1`.
pub(crate) fn certificates() -> tempfile::TempDir {
    let directory = tempfile::TempDir::new().unwrap();
    let authority = Authority::create(directory.path()).unwrap();
    for (role, name) in [(Role::Edge, "e1"), (Role::Agent, "n1")] {
        authority.issue(role, name, Validity::days(1).unwrap()).unwrap();
    }
    directory
}

impl Site {
    /// A site whose node `n1` is at this address.
    pub(crate) fn new(certificates: tempfile::TempDir, node: SocketAddr) -> Self {
        Self { directory: certificates, node }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file or directory of the edge's state.
    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.path("state").join(name)
    }

    /// Starts an edge and waits until it is ready.
    pub(crate) async fn start(&self) -> Edge {
        self.start_with(&[]).await
    }

    /// The same, with more arguments.
    pub(crate) async fn start_with(&self, arguments: &[&str]) -> Edge {
        let mut process = Command::new(env!("CARGO_BIN_EXE_berth-edge"))
            .args(["run", "--name", "e1", "--listen", "127.0.0.1:0", "--shards", "2", "--log-format", "json"])
            .arg("--state")
            .arg(self.path("state"))
            .arg("--ca")
            .arg(self.path("ca.pem"))
            .arg("--cert")
            .arg(self.path("edge-e1.pem"))
            .arg("--key")
            .arg(self.path("edge-e1.key"))
            .args(["--node", &format!("n1={}", self.node), "--registry-listen", "127.0.0.1:0"])
            .args(arguments)
            .env("BERTH_LOG", "info,berth_edge=debug")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let (address, registry) = soon("the edge's start", ready(&mut log)).await;
        tokio::spawn(async move {
            while let Ok(Some(line)) = log.next_line().await {
                eprintln!("{line}");
            }
        });
        Edge { address, registry, admin: self.path("state/admin.sock"), process }
    }
}

/// Reads the log up to the line that says that the edge is ready; takes its address and that of its registry from
/// earlier lines.
async fn ready(log: &mut Lines<BufReader<ChildStderr>>) -> (SocketAddr, SocketAddr) {
    let (mut address, mut registry) = (None, None);
    while let Some(line) = log.next_line().await.unwrap() {
        eprintln!("{line}");
        let fields = serde_json::from_str::<serde_json::Value>(&line).unwrap()["fields"].clone();
        match fields["message"].as_str() {
            Some("listening") => address = Some(fields["address"].as_str().unwrap().parse().unwrap()),
            Some("registry") => registry = Some(fields["address"].as_str().unwrap().parse().unwrap()),
            Some("ready") => return (address.unwrap(), registry.unwrap()),
            _ => {}
        }
    }
    panic!("the edge ended");
}

impl Edge {
    /// Deploys an app with the class `C`, modified by `change`, at `/c/{id}/*`.
    pub(crate) async fn deploy(&self, change: impl Fn(&mut ClassSpec)) {
        image::push(&self.admin).await;
        let body = serde_json::to_vec(&app(change)).unwrap();
        let (status, answer) = client::admin(
            &self.admin,
            client::request("PUT", "/v1/apps/test?force=true&allow_unplaceable=true", body),
        )
        .await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }

    /// Returns once the node is connected.
    pub(crate) async fn connected(&self) {
        let connected = async { while self.look("/v1/nodes").await["nodes"][0]["connected"] != true {} };
        soon("a connection to the node", connected).await;
    }

    /// A resource of the admin API.
    pub(crate) async fn look(&self, path: &str) -> serde_json::Value {
        let (status, answer) = client::admin(&self.admin, client::request("GET", path, "")).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    /// The state of the object with this name.
    pub(crate) async fn state(&self, name: &str) -> Option<String> {
        let containers = self.look("/v1/containers").await;
        let found =
            containers["containers"].as_array().unwrap().iter().find(|object| object["name"] == name)?;
        found["state"].as_str().map(str::to_owned)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id().unwrap()
    }

    /// Peak memory of the edge, in KiB.
    pub(crate) fn peak_memory_kib(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Ends the edge with SIGTERM.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        let pid = i32::try_from(self.process.id().unwrap()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
        soon("the edge's end", self.process.wait()).await.unwrap()
    }

    /// Ends the edge with SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }
}

pub(crate) fn app(change: impl Fn(&mut ClassSpec)) -> AppSpec {
    let mut class = ClassSpec { start_timeout: Duration::from_secs(20), ..fixtures::class() };
    class.recipe.image = ImageRef::new(image::REPOSITORY.parse().unwrap(), image::Image::tiny().digest());
    change(&mut class);
    let mut app = fixtures::app("test", &[("/c/{id}/*", None)]);
    app.routes[0].class = "C".parse().unwrap();
    app.classes = BTreeMap::from([("C".parse().unwrap(), class)]);
    app
}
