//! The command line, and the configuration that it becomes once checked.

mod registries;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use berth_certs::{Credentials, Role};
use berth_common::ids::{EdgeId, NodeId};
use berth_common::spec::{NODE_LOSS_BOUNDS, TimeOrNever};
use berth_common::telemetry::Format;
use berth_registry::images::ImageLimits;
use berth_registry::remote::Settings;
use bytesize::ByteSize;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use self::registries::RegistryArgs;
use crate::secrets;
use crate::secrets::command::SecretKeyCommand;

/// The longest time that containers go on without an edge that was told to end: half of the longest term that nodes take.
const MAX_RESTART_WINDOW: Duration = Duration::from_secs(12 * 60 * 60);

/// The edge: takes requests, owns objects, and has nodes run their instances.
#[derive(Debug, Parser)]
#[command(name = "berth-edge", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs an edge until SIGTERM or SIGINT.
    Run(Box<RunArgs>),
    /// Copies and checks the store of an edge that does not run.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Makes and changes the file of the keys that secrets are encrypted with.
    #[command(subcommand)]
    SecretKey(SecretKeyCommand),
    /// Runs scripts of apps for the edge that starts it, over its standard input.
    #[command(hide = true)]
    Script,
    /// Writes manual pages, which an installation calls for.
    #[command(hide = true)]
    Man {
        /// The directory to write them to.
        dir: PathBuf,
    },
}

/// Writes the manual pages of this program.
pub(crate) fn write_manual(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .with_context(|| format!("cannot write manual pages to {}", directory.display()))
}

/// The location of a store.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Directory of what the edge remembers, as given to `run`.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Writes all that the store holds as lines of JSON, with a digest.
    Export {
        #[command(flatten)]
        store: StoreArgs,
        /// The file to write, which must not be there; standard output without.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Leaves out what cannot be read, and names it. Without, that is an error.
        #[arg(long)]
        without_damaged: bool,
    },
    /// Makes the store from such lines.
    Import {
        #[command(flatten)]
        store: StoreArgs,
        /// The file to read; standard input without.
        #[arg(long, short, value_name = "FILE")]
        input: Option<PathBuf>,
        /// With a store there already: sets it aside and takes its place.
        #[arg(long)]
        replace: bool,
        /// Only reads and checks the lines, and says what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Reads every value and checks it. Names what is damaged.
    Verify {
        #[command(flatten)]
        store: StoreArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The edge's name, as in its certificate.
    #[arg(long)]
    name: EdgeId,
    /// Where clients connect.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// Directory of what the edge must remember. Made if missing.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Certificate of the app owner's authority.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// The edge's certificate.
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// The private key of the edge's certificate.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// A node and where its agent listens. Once for each node. Others can be added while the edge runs: `berth nodes add`.
    #[arg(long = "node", value_name = "NAME=ADDR:PORT", value_parser = node)]
    nodes: Vec<(NodeId, String)>,
    /// Addresses of reverse proxies in front of this edge, whose X-Forwarded-For, -Proto and -Host, or Forwarded, are
    /// believed. Once for each. From anybody else these headers are replaced.
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    trust_proxy: Vec<IpNet>,
    /// How long a node may be silent until what ran there is started elsewhere: at least 30s, of which the first half is the time after
    /// which a node pauses its containers by itself. Or `never`: then it is waited for. A class's own `node_loss` counts before this.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = node_loss)]
    node_loss: TimeOrNever,
    /// How long containers go on without this edge once it is told to end, so that a restart or a reboot pauses none: at most 12h.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = restart_window)]
    restart_window: Duration,
    /// Threads that serve requests. Default: half of the CPUs.
    #[arg(long)]
    shards: Option<NonZeroU16>,
    /// Socket of the admin API. Default: `admin.sock` in the state directory.
    #[arg(long, value_name = "PATH")]
    admin_socket: Option<PathBuf>,
    /// Serves the admin API here too, with TLS, for bearers of tokens.
    #[arg(long, value_name = "ADDR:PORT", requires_all = ["admin_cert", "admin_key"])]
    admin_listen: Option<SocketAddr>,
    /// The certificate of that address, for the name that its clients know it by, with its chain.
    #[arg(long, value_name = "FILE", requires = "admin_listen")]
    admin_cert: Option<PathBuf>,
    /// The private key of that certificate.
    #[arg(long, value_name = "FILE", requires = "admin_listen")]
    admin_key: Option<PathBuf>,
    /// The keys that secrets are encrypted with. Default: `secret.key` in the state directory.
    #[arg(long, value_name = "FILE")]
    secret_key: Option<PathBuf>,
    /// Addresses that hooks may be posted to, and that programs may ask, besides public ones. Once for each.
    #[arg(long, value_name = "NETWORK")]
    allow_hooks_to: Vec<IpNet>,
    #[command(flatten)]
    registries: RegistryArgs,
    /// Serves metrics, health and readiness here, to everybody who can connect: /metrics, /healthz, /readyz. Names apps,
    /// classes and nodes, and no secrets; on loopback or a trusted network only.
    #[arg(long, value_name = "ADDR:PORT")]
    monitor_listen: Option<SocketAddr>,
    /// Has answers to requests say all about an error, commands, nodes and paths among it, and not only a short reason and
    /// the number under which the log has the rest: for development.
    #[arg(long)]
    show_errors: bool,
    /// Has /readyz say 503 while no node is connected: for something in front that has another edge to ask.
    #[arg(long, requires = "monitor_listen")]
    ready_with_node: bool,
    /// Serves the registry here, for bearers of tokens. On loopback, or with --registry-cert and --registry-key.
    #[arg(long, value_name = "ADDR:PORT")]
    registry_listen: Option<SocketAddr>,
    /// The certificate of that address, for the name that its clients know it by, with its chain.
    #[arg(long, value_name = "FILE", requires_all = ["registry_listen", "registry_key"])]
    registry_cert: Option<PathBuf>,
    /// The private key of that certificate.
    #[arg(long, value_name = "FILE", requires_all = ["registry_listen", "registry_cert"])]
    registry_key: Option<PathBuf>,
    /// Largest image: its layers, compressed as they are.
    #[arg(long, value_name = "SIZE", default_value = "2GB", value_parser = size)]
    image_limit: u64,
    /// Most that all images may take on disk.
    #[arg(long, value_name = "SIZE", default_value = "50GB", value_parser = size)]
    images_limit: u64,
    /// Starts while another edge with the same state still runs: listens beside it at once, and waits up to a minute for it
    /// to end. Then have that end with SIGTERM.
    #[arg(long)]
    take_over: bool,
    /// Form of the log.
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Also ends when standard input ends.
    #[arg(long)]
    pub(crate) watch_stdin: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// The address of the admin API with TLS.
#[derive(Debug)]
pub(crate) struct AdminTls {
    pub(crate) listen: SocketAddr,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// The address of the registry.
#[derive(Debug)]
pub(crate) struct RegistryAddress {
    pub(crate) listen: SocketAddr,
    /// Certificate and key; none only on loopback addresses.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
}

impl RegistryAddress {
    /// Refuses addresses where tokens would cross a network unencrypted.
    fn check(listen: SocketAddr, cert: Option<PathBuf>, key: Option<PathBuf>) -> anyhow::Result<Self> {
        let tls = cert.zip(key);
        ensure!(
            tls.is_some() || listen.ip().is_loopback(),
            "the registry at {listen} needs TLS, since others than this machine can reach it: give it --registry-cert and \
             --registry-key, or a loopback address such as 127.0.0.1:{}",
            listen.port()
        );
        Ok(Self { listen, tls })
    }
}

/// The configuration of a running edge.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) name: EdgeId,
    pub(crate) listen: SocketAddr,
    pub(crate) trust_proxy: Vec<IpNet>,
    pub(crate) state: PathBuf,
    pub(crate) nodes: BTreeMap<NodeId, String>,
    pub(crate) shards: NonZeroU16,
    pub(crate) admin_socket: PathBuf,
    pub(crate) admin_tls: Option<AdminTls>,
    pub(crate) secret_key: PathBuf,
    pub(crate) allow_hooks_to: Vec<IpNet>,
    pub(crate) registries: Settings,
    pub(crate) monitor_listen: Option<SocketAddr>,
    pub(crate) registry: Option<RegistryAddress>,
    pub(crate) images: ImageLimits,
    pub(crate) credentials: Credentials,
    /// How long after its node was last heard of a container counts as lost, where its class does not say.
    pub(crate) node_loss: TimeOrNever,
    /// How long containers go on without an edge that was told to end.
    pub(crate) restart_window: Duration,
    pub(crate) take_over: bool,
    pub(crate) ready_with_node: bool,
    pub(crate) show_errors: bool,
}

impl RunArgs {
    pub(crate) fn log_format(&self) -> Format {
        match self.log_format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        }
    }

    /// Where clients connect.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Checks everything that can be checked before anything is started.
    pub(crate) fn check(self) -> anyhow::Result<Config> {
        let credentials = Credentials::load(&self.ca, &self.cert, &self.key)?.require(Role::Edge)?;
        let certified = &credentials.identity().name;
        ensure!(
            certified == self.name.as_str(),
            "{} is the certificate of the edge `{certified}`, not of `{}`: give its name with --name",
            self.cert.display(),
            self.name
        );
        let (cert, key) = (self.registry_cert, self.registry_key);
        let registry = self.registry_listen.map(|listen| RegistryAddress::check(listen, cert, key));
        ensure!(
            self.image_limit > 0 && self.image_limit <= self.images_limit,
            "--image-limit must be more than nothing, and at most --images-limit"
        );
        let state = std::path::absolute(&self.state).context("the state directory")?;
        let secret_key = self.secret_key.unwrap_or_else(|| state.join(secrets::DEFAULT_NAME));
        Ok(Config {
            secret_key: std::path::absolute(secret_key).context("the key file")?,
            nodes: distinct(self.nodes)?,
            shards: self.shards.unwrap_or_else(default_shards),
            admin_socket: self.admin_socket.unwrap_or_else(|| self.state.join("admin.sock")),
            admin_tls: match (self.admin_listen, self.admin_cert, self.admin_key) {
                (Some(listen), Some(cert), Some(key)) => Some(AdminTls { listen, cert, key }),
                _ => None,
            },
            allow_hooks_to: self.allow_hooks_to,
            registries: self.registries.check()?,
            monitor_listen: self.monitor_listen,
            registry: registry.transpose()?,
            images: ImageLimits { image_bytes: self.image_limit, total_bytes: self.images_limit },
            name: self.name,
            listen: self.listen,
            trust_proxy: self.trust_proxy,
            state,
            credentials,
            node_loss: self.node_loss,
            restart_window: self.restart_window,
            take_over: self.take_over,
            ready_with_node: self.ready_with_node,
            show_errors: self.show_errors,
        })
    }
}

fn node_loss(text: &str) -> Result<TimeOrNever, String> {
    if text == "never" {
        return Ok(TimeOrNever::NEVER);
    }
    let (least, most) = (NODE_LOSS_BOUNDS.start(), NODE_LOSS_BOUNDS.end());
    let time = text.parse::<humantime::Duration>().map(Duration::from);
    match time {
        Ok(time) if time < *least => {
            Err(format!("at least {} s: a node needs half of that to pause by itself", least.as_secs()))
        }
        Ok(time) if time > *most => Err(format!("at most {}, or `never`", humantime::format_duration(*most))),
        Ok(time) => Ok(time.into()),
        Err(_) => Err(format!("`{text}` is neither a time such as 30s nor `never`")),
    }
}

fn restart_window(text: &str) -> Result<Duration, String> {
    let time = text.parse::<humantime::Duration>().map(Duration::from);
    match time {
        Ok(time) if time <= MAX_RESTART_WINDOW => Ok(time),
        Ok(_) => {
            Err(format!("at most {} h: nodes take no term for ever", MAX_RESTART_WINDOW.as_secs() / 3600))
        }
        Err(_) => Err(format!("`{text}` is not a time such as 2m, or 0s")),
    }
}

fn size(text: &str) -> Result<u64, String> {
    let read = text.parse::<ByteSize>().map(|size| size.as_u64());
    read.map_err(|_| format!("`{text}` is not a size such as 2GB or 512MiB"))
}

/// A network, or one address.
fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| format!("`{text}` is neither an address nor a network such as 10.0.0.0/8"))
}

fn node(text: &str) -> Result<(NodeId, String), String> {
    let (name, address) =
        text.split_once('=').ok_or("NAME=ADDR:PORT is expected, as in n1=192.0.2.1:7443")?;
    let name = name.parse().map_err(|error| format!("the node's name {error}"))?;
    Ok((name, node_address(address)?))
}

/// Longest address of a node, in bytes: the longest name of a host, and a port.
const MAX_NODE_ADDRESS_BYTES: usize = 253 + 6;

/// Where a node's agent listens: the address or name of a host, and a port.
pub(crate) fn node_address(text: &str) -> Result<String, String> {
    let shown = berth_common::shown::shown(text);
    let is_host =
        |host: &str| !host.is_empty() && !host.contains(|c: char| c.is_control() || c.is_whitespace());
    let port = text.rsplit_once(':').filter(|(host, _)| is_host(host)).map(|(_, port)| port.parse::<u16>());
    match port {
        _ if text.len() > MAX_NODE_ADDRESS_BYTES => Err(format!(
            "an address of {} bytes; at most {MAX_NODE_ADDRESS_BYTES} are a host and a port",
            text.len()
        )),
        Some(Ok(port)) if port != 0 => Ok(text.to_owned()),
        _ => Err(format!("`{shown}` is not an address and a port, as in 192.0.2.1:7443")),
    }
}

fn distinct(nodes: Vec<(NodeId, String)>) -> anyhow::Result<BTreeMap<NodeId, String>> {
    let mut distinct = BTreeMap::new();
    for (name, address) in nodes {
        if distinct.insert(name.clone(), address).is_some() {
            bail!("the node `{name}` is given twice with --node");
        }
    }
    Ok(distinct)
}

fn default_shards() -> NonZeroU16 {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(cpus / 2).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn nodes_have_a_name_and_an_address() {
        assert_eq!(node("n1=192.0.2.1:7443").unwrap().1, "192.0.2.1:7443");
        assert_eq!(node("n1=node.lan:1").unwrap().0.as_str(), "n1");
        for bad in ["n1", "n1=", "n1=x", "n1=:1", "n1=x:0", "n1=x:y", "=x:1", "a/b=x:1"] {
            assert!(node(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_registry_that_others_reach_has_tls() {
        let check = |listen: &str, file: Option<&str>| {
            let file = file.map(PathBuf::from);
            RegistryAddress::check(listen.parse().unwrap(), file.clone(), file).is_ok()
        };
        assert!(check("127.0.0.1:5000", None) && check("[::1]:5000", None));
        assert!(!check("192.0.2.1:5000", None) && !check("0.0.0.0:5000", None) && !check("[::]:5000", None));
        assert!(check("0.0.0.0:5000", Some("x")));
    }

    #[test]
    fn a_restart_window_is_bounded() {
        assert_eq!(restart_window("2m"), Ok(Duration::from_secs(120)));
        assert!(
            restart_window("0s").is_ok() && restart_window("13h").is_err() && restart_window("x").is_err()
        );
    }

    #[test]
    fn a_node_is_not_given_up_before_it_has_paused() {
        assert_eq!(node_loss("never"), Ok(TimeOrNever::NEVER));
        assert_eq!(node_loss("5m"), Ok(Duration::from_secs(300).into()));
        assert!(node_loss("30s").is_ok() && node_loss("29s").is_err() && node_loss("soon").is_err());
        assert!(*NODE_LOSS_BOUNDS.start() >= 2 * berth_protocol::edge::TERM);
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!((size("2GB"), size("512MiB"), size("7")), (Ok(2_000_000_000), Ok(512 << 20), Ok(7)));
        assert!(size("much").is_err());
    }

    #[test]
    fn a_network_may_be_one_address() {
        assert_eq!(network("10.1.0.0/16").unwrap().to_string(), "10.1.0.0/16");
        assert_eq!(network("::1").unwrap().to_string(), "::1/128");
        assert!(network("proxy.lan").is_err() && network("").is_err());
    }

    #[test]
    fn a_node_is_given_once() {
        let twice = vec![node("a=x:1").unwrap(), node("a=y:1").unwrap()];
        assert!(distinct(twice).is_err());
    }
}
