//! workerd, the reference's own runtime, with the same program in front of the same server: the peer of programs.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bench::server::Server;
use crate::workerd::VERSION;
use crate::{host, ports};

/// Gives each object of the class what Berth gives it, for which workerd wants Docker: a container that always runs, whose port is
/// the server's.
const ATTACH: &str = r#"import worker, { Box as Unattached, Plain } from "./index.js";
export { Plain };
const backend = (env) => ({
    running: false,
    start() { this.running = true; },
    monitor: () => new Promise(() => {}),
    getTcpPort: () => ({ fetch: (request, init) => env.BACKEND.fetch(request, init) }),
});
export class Box extends Unattached {
    constructor(ctx, env) {
        Object.defineProperty(ctx, "container", { value: backend(env), configurable: true });
        super(ctx, env);
    }
}
export default worker;
"#;

/// Modules by the names under which the others import them, and their files in the project.
const MODULES: [(&str, &str); 6] = [
    ("attach.js", "attach.js"),
    ("index.js", "index.js"),
    ("@cloudflare/containers", "node_modules/@cloudflare/containers/dist/index.js"),
    ("@cloudflare/lib/container", "node_modules/@cloudflare/containers/dist/lib/container.js"),
    ("@cloudflare/lib/helpers", "node_modules/@cloudflare/containers/dist/lib/helpers.js"),
    ("@cloudflare/lib/utils", "node_modules/@cloudflare/containers/dist/lib/utils.js"),
];

/// A running workerd.
#[derive(Debug)]
pub struct Workerd {
    server: Server,
    address: SocketAddr,
}

impl Workerd {
    /// Starts it with the program in this directory, whose containers are the server at this address.
    pub fn start(program: &Path, project: &Path, date: &str, backend: SocketAddr) -> Result<Self> {
        let address = ports::free_address()?;
        fs::write(project.join("attach.js"), ATTACH)?;
        fs::create_dir_all(project.join(format!("objects-{}", address.port())))?;
        fs::write(project.join("workerd.capnp"), configuration(project, date, address, backend))?;
        let mut command = Command::new(program);
        command.arg("serve").arg(project.join("workerd.capnp")).arg("--experimental");
        let server =
            Server::start(&command, &project.join("workerd.log"), address).context("start workerd")?;
        Ok(Self { server, address })
    }

    /// Where it takes requests.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// CPU time that it has used.
    pub fn cpu_time(&self) -> Result<Duration> {
        host::cpu_time(self.server.pid())
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> Result<u64> {
        host::resident_memory(self.server.pid())
    }
}

fn configuration(project: &Path, date: &str, listen: SocketAddr, backend: SocketAddr) -> String {
    let objects = project.join(format!("objects-{}", listen.port()));
    let module = |(name, file): &(&str, &str)| format!("(name = \"{name}\", esModule = embed \"{file}\")");
    let modules = MODULES.iter().map(module).collect::<Vec<_>>().join(",\n    ");
    let class =
        |class: &str, key| format!("(className = \"{class}\", uniqueKey = \"{key}\", enableSql = true)");
    format!(
        r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = .program),
    (name = "backend", external = (address = "{backend}", http = ())),
    (name = "objects", disk = (path = "{}", writable = true)),
  ],
  sockets = [(name = "http", address = "{listen}", http = (), service = "main")],
);
const program :Workerd.Worker = (
  modules = [
    {modules},
  ],
  compatibilityDate = "{date}",
  durableObjectNamespaces = [{}, {}],
  durableObjectStorage = (localDisk = "objects"),
  bindings = [
    (name = "PLAIN", durableObjectNamespace = "Plain"),
    (name = "BOX", durableObjectNamespace = "Box"),
    (name = "BACKEND", service = "backend"),
  ],
);
"#,
        objects.display(),
        class("Plain", "plain"),
        class("Box", "box"),
    )
}

/// The program of npm's package, for the report.
pub fn described() -> String {
    format!(
        "workerd {VERSION} of npm, objects on local disk; its containers are the same server over loopback"
    )
}
