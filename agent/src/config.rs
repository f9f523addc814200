//! The agent's configuration, read from the command line and checked as a whole: all problems are reported at once.
//! Later code sees only checked values.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use berth_certs::{Credentials, Role};
use berth_common::ids::NodeId;
use berth_common::spec::{MAX_LABELS, parse_label};
use berth_common::wire::call::Capacity;
#[cfg(debug_assertions)]
use berth_shim::protection::Layer;
use berth_shim::protection::Protection;
use bytesize::ByteSize;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::images::WaterMarks;
use crate::runtime::rootless;
use crate::site::{Site, memory_of};

/// CPU capacity is counted in sixteenths of a virtual CPU.
const SIXTEENTHS: u32 = 16;
/// Default of the most instances on a node.
const DEFAULT_MAX_INSTANCES: u32 = 256;
/// Default of how many instances start at once on each CPU.
const STARTS_PER_CPU: u32 = 2;
/// Default size of the shim pool per kind: each shim takes a few megabytes, with internet access thirty more.
const DEFAULT_WAITING_SHIMS: usize = 2;
/// Most shims in the pool per kind: a burst would use up more as well, and they take memory from instances.
const MAX_WAITING_SHIMS: usize = 64;
/// Default share of the machine's memory for instances, in percent: the rest is for the system and the daemons.
const DEFAULT_MEMORY_PERCENT: u64 = 90;
/// Descriptors budgeted per tunnelled connection, including pooled sockets and everything else.
const FILES_PER_TUNNEL: u64 = 2;

/// The options of `berth-agent run`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Name of this node, as in its certificate
    #[arg(long)]
    pub node: NodeId,
    /// Country that the node is in, in two letters; containers find it in BERTH_COUNTRY_A2
    #[arg(long, value_name = "CC", default_value = "XX", value_parser = country)]
    pub country: String,
    /// Region that the node is in; containers find it in BERTH_REGION
    #[arg(long, value_name = "NAME", default_value = "local", value_parser = place_name)]
    pub region: String,
    /// Place that the node is at; containers find it in BERTH_LOCATION
    #[arg(long, value_name = "NAME", default_value = "local", value_parser = place_name)]
    pub location: String,
    /// A label of this node, such as gpu=a100, for classes that ask for it. Once for each, up to 32
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,
    /// Address and UDP port that edges dial
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// Directory of the node's state, shared with its supervisor
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Certificate of the CA that edges and agents are issued by
    #[arg(long, value_name = "FILE")]
    pub ca: PathBuf,
    /// Certificate of this agent
    #[arg(long, value_name = "FILE")]
    pub cert: PathBuf,
    /// Private key of this agent
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Memory for all instances, such as 4GiB [default: 90 % of the machine's]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,
    /// Virtual CPUs for all instances [default: the machine's]
    #[arg(long, value_name = "N")]
    pub cpus: Option<NonZeroU32>,
    /// Most instances at once
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_INSTANCES)]
    pub max_instances: u32,
    /// Instances that an edge has this node start at once; further ones wait at the edge [default: twice the machine's CPUs]
    #[arg(long, value_name = "N")]
    pub starts_at_once: Option<NonZeroU32>,
    /// Whether instances are held to the size of their disks, for which `prepare` makes slots
    #[arg(long, value_enum, default_value = "enforced")]
    pub disk_limit: DiskLimits,
    /// Remove image layers that nobody needs when the disk of the state is as full as this, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 85, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_high_water: u8,
    /// ... until it is no fuller than this
    #[arg(long, value_name = "PERCENT", default_value_t = 75, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_low_water: u8,
    /// Containers' namespaces and networks to keep prepared, of those with and of those without internet access
    #[arg(long, value_name = "N", default_value_t = DEFAULT_WAITING_SHIMS)]
    pub spares: usize,
    /// Name server that instances with internet access resolve names with [default: the machine's]
    #[arg(long, value_name = "ADDR")]
    pub name_server: Option<IpAddr>,
    /// The program `pasta` [default: where it usually is]
    #[arg(long, value_name = "FILE")]
    pub pasta: Option<PathBuf>,
    /// The program `nft` [default: where it usually is]
    #[arg(long, value_name = "FILE")]
    pub nft: Option<PathBuf>,
    /// Serve metrics, health and readiness here, to everybody who can connect: /metrics, /healthz, /readyz. Names no
    /// secrets; on loopback or a trusted network only
    #[arg(long, value_name = "ADDR:PORT")]
    pub monitor_listen: Option<SocketAddr>,
    /// Run containers without a layer of protection, so that tests can show what it is good for
    #[cfg(debug_assertions)]
    #[arg(long, value_name = "LAYER", value_enum, hide = true)]
    pub without: Vec<Layer>,
}

/// Longest name of a region or location, in bytes: each instance gets them through a pipe, whose atomic write is 4 KiB.
const MAX_PLACE_NAME_BYTES: usize = 64;

fn country(text: &str) -> Result<String, &'static str> {
    let sound = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase());
    if sound { Ok(text.to_owned()) } else { Err("expected two capital letters, such as CH") }
}

fn place_name(text: &str) -> Result<String, String> {
    let sound = (1..=MAX_PLACE_NAME_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
    if sound {
        Ok(text.to_owned())
    } else {
        Err(format!("expected 1 to {MAX_PLACE_NAME_BYTES} bytes of text"))
    }
}

/// Whether instances are held to the size of their disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DiskLimits {
    /// Those that could not be are refused
    Enforced,
    /// One may fill the node's disk
    Unenforced,
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name, and where it is.
    pub site: Site,
    /// What it is labelled with.
    pub labels: BTreeMap<String, String>,
    /// Where edges dial.
    pub listen: SocketAddr,
    /// Where the node's state is.
    pub state: PathBuf,
    /// The agent's certificate and key, and the CA that it trusts.
    pub credentials: Credentials,
    /// The node's capacity for instances.
    pub capacity: Capacity,
    /// How many instances an edge may have it start at once.
    pub starts_at_once: u32,
    /// Most tunnelled connections at once.
    pub max_tunnels: usize,
    /// Whether instances are held to the size of their disks.
    pub disk_limit: DiskLimits,
    /// How full images may make the disk.
    pub water_marks: WaterMarks,
    /// How many shims of each kind are kept prepared.
    pub waiting_shims: usize,
    /// The name server for instances, if not the machine's.
    pub name_server: Option<IpAddr>,
    /// Where `pasta` is, if not in the usual places.
    pub pasta: Option<PathBuf>,
    /// Where `nft` is, if not in the usual places.
    pub nft: Option<PathBuf>,
    /// Where metrics, health and readiness are served, if anywhere.
    pub monitor_listen: Option<SocketAddr>,
    /// The layers of protection around containers.
    pub protection: Protection,
}

/// All problems of a configuration.
#[derive(Debug)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl Config {
    /// Checks the options and the files that they name.
    pub fn load(options: &Options) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let credentials = load_credentials(options, &mut problems);
        let capacity = capacity(options, &mut problems);
        if options.labels.len() > MAX_LABELS {
            problems.push(format!("more than {MAX_LABELS} labels: give fewer --label"));
        }
        if options.image_low_water > options.image_high_water {
            problems.push("--image-low-water is above --image-high-water: give a lower one".to_owned());
        }
        match credentials {
            Some(credentials) if problems.is_empty() => Ok(Self {
                site: Site {
                    node: options.node.clone(),
                    country: options.country.clone(),
                    region: options.region.clone(),
                    location: options.location.clone(),
                },
                labels: options.labels.iter().cloned().collect(),
                listen: options.listen,
                state: options.state.clone(),
                credentials,
                capacity,
                starts_at_once: options.starts_at_once.map_or_else(default_starts, NonZeroU32::get),
                max_tunnels: raise_open_files(),
                disk_limit: options.disk_limit,
                water_marks: options.water_marks(),
                waiting_shims: options.spares.min(MAX_WAITING_SHIMS),
                name_server: options.name_server,
                pasta: options.pasta.clone(),
                nft: options.nft.clone(),
                monitor_listen: options.monitor_listen,
                protection: options.protection(),
            }),
            _ => Err(ConfigError { problems }),
        }
    }
}

impl Config {
    /// The options of the runtime.
    pub fn runtime(&self) -> rootless::Options {
        rootless::Options {
            site: self.site.clone(),
            state: self.state.clone(),
            enforce_disks: self.disk_limit == DiskLimits::Enforced,
            waiting_shims: self.waiting_shims,
            name_server: self.name_server,
            pasta: self.pasta.clone(),
            nft: self.nft.clone(),
            protection: self.protection,
        }
    }
}

impl Options {
    fn water_marks(&self) -> WaterMarks {
        WaterMarks { high: self.image_high_water, low: self.image_low_water }
    }

    #[cfg(debug_assertions)]
    fn protection(&self) -> Protection {
        if !self.without.is_empty() {
            tracing::warn!(without = ?self.without, "CONTAINERS ARE NOT FULLY PROTECTED: this is for tests only");
        }
        Protection::without(&self.without)
    }

    #[cfg(not(debug_assertions))]
    #[allow(clippy::unused_self, reason = "there is nothing to choose")]
    fn protection(&self) -> Protection {
        Protection::default()
    }
}

fn load_credentials(options: &Options, problems: &mut Vec<String>) -> Option<Credentials> {
    let loaded =
        Credentials::load(&options.ca, &options.cert, &options.key).and_then(|c| c.require(Role::Agent));
    let credentials = loaded.map_err(|error| problems.push(error.to_string())).ok()?;
    let named = &credentials.identity().name;
    if named != options.node.as_str() {
        problems.push(format!(
            "{} is the certificate of node {named}, not {}: give --node {named}, or the certificate that `berth certs \
             issue agent {}` makes",
            options.cert.display(),
            options.node,
            options.node
        ));
    }
    Some(credentials)
}

fn capacity(options: &Options, problems: &mut Vec<String>) -> Capacity {
    let memory_bytes = options.memory.map_or_else(|| default_memory(problems), |size| size.as_u64());
    if options.memory.is_some_and(|size| size.as_u64() == 0) {
        problems.push("--memory 0 leaves no room for any instance: give a size such as 4GiB".to_owned());
    }
    if options.max_instances == 0 {
        problems.push("--max-instances 0 leaves no room for any instance: give at least 1".to_owned());
    }
    let cpus = options.cpus.map_or_else(default_cpus, NonZeroU32::get);
    Capacity {
        memory_bytes,
        cpu_sixteenths: cpus.saturating_mul(SIXTEENTHS),
        instances: options.max_instances,
    }
}

fn default_cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

/// A start works and waits by turns, so that two for each CPU keep it busy.
fn default_starts() -> u32 {
    default_cpus().saturating_mul(STARTS_PER_CPU)
}

fn default_memory(problems: &mut Vec<String>) -> u64 {
    let total = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory_of("MemTotal", &text));
    total.map_or_else(
        || {
            problems.push("/proc/meminfo does not tell the machine's memory: give --memory".to_owned());
            0
        },
        |bytes| bytes / 100 * DEFAULT_MEMORY_PERCENT,
    )
}

/// Raises the limit of open files to the hard limit, and returns how many tunnelled connections fit under it.
fn raise_open_files() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    usize::try_from(limit / FILES_PER_TUNNEL).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        options: Options,
    }

    fn options(extra: &[&str]) -> Options {
        let fixed = ["x", "--node=n1", "--listen=127.0.0.1:0", "--state=/nowhere", "--ca=/nowhere/ca"];
        let rest = ["--cert=/nowhere/c", "--key=/nowhere/k"];
        CommandLine::parse_from(fixed.iter().chain(&rest).chain(extra)).options
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let error = Config::load(&options(&["--memory=0", "--max-instances=0"])).unwrap_err().to_string();
        for expected in ["/nowhere/ca", "--memory 0", "--max-instances 0"] {
            assert!(error.contains(expected), "{expected} is missing in: {error}");
        }
    }

    #[test]
    fn capacity_is_what_was_asked_for() {
        let asked = options(&["--memory=2GiB", "--cpus=3", "--max-instances=7"]);
        let expected = Capacity { memory_bytes: 2 << 30, cpu_sixteenths: 48, instances: 7 };
        assert_eq!(capacity(&asked, &mut Vec::new()), expected);
    }
}
