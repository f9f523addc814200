//! `berth-agent`: the daemon of a node and its commands. Parses the command line, and calls the library.

use std::convert::Infallible;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::SystemTime;

use anyhow::Context;
use berth_agent::config::{Config, Options};
use berth_agent::images::Images;
use berth_agent::runtime::rootless::Rootless;
use berth_agent::serve::Server;
use berth_agent::{check, drain, prepare};
use berth_certs::Credentials;
use berth_common::lifecycle::Lifecycle;
use berth_common::{service, telemetry};
use berth_monitor::{Monitor, Process, Watched};
use berth_shim::trial::{self, Trial};
use berth_shim::{process, shim, supervisor, sweep, unpack};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use nix::fcntl::{Flock, FlockArg};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::LocalSet;

/// How long tasks may take to end after the signal: enough to close the connections to edges.
const SHUTDOWN_GRACE: std::time::Duration = std::time::Duration::from_secs(2);

/// How often is told that the certificate ends soon.
const WARN_EVERY: std::time::Duration = std::time::Duration::from_secs(12 * 3600);

/// The daemon of a Berth node
#[derive(Debug, Parser)]
#[command(version)]
struct CommandLine {
    /// Form of the log on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Run the agent: take orders from edges and tunnel connections to containers
    Run {
        #[command(flatten)]
        options: Box<Options>,
        /// End when standard input ends, as on SIGTERM
        #[arg(long)]
        watch_stdin: bool,
    },
    /// Run the supervisor, which starts containers and outlives the agent
    Supervisor {
        /// Directory of the node's state
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// Delegated cgroup [default on cgroup v2: the supervisor's own]
        #[arg(long, value_name = "PATH")]
        cgroup: Option<PathBuf>,
        /// End when standard input ends, as on SIGTERM
        #[arg(long)]
        watch_stdin: bool,
    },
    /// Empty this node: it takes no new instances, and those that run are ended
    Drain(drain::Options),
    /// Take this node into service again
    Undrain {
        /// Directory of the node's state
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
    /// Prepare this machine, once and as root: user, subordinate ids, state directories, cgroups
    Prepare {
        /// The user that agents will run as
        #[arg(long, default_value = "berth")]
        user: String,
        /// State directories to make
        #[arg(long, value_name = "DIR", num_args = 1..)]
        state: Vec<PathBuf>,
        /// Cgroup to delegate
        #[arg(long, value_name = "PATH")]
        cgroup: Option<PathBuf>,
        /// Disks for instances to make for each state directory, such as 16x2GB: so many can live at once
        #[arg(long, value_name = "NxSIZE")]
        disk_slots: Vec<prepare::SlotSpec>,
        /// What holds them to their size
        #[arg(long, value_enum, default_value = "auto")]
        disk_backend: prepare::Backend,
        /// Let disks take room only as they are written, which a full disk of this machine turns into errors inside
        #[arg(long)]
        sparse_disk_slots: bool,
        /// Ranges of ids for each state directory, one for each container that lives at once [default: 32 more than disks]
        #[arg(long, value_name = "N")]
        id_ranges: Option<u32>,
        /// Remove all disks and ranges of ids of these state directories, and do nothing else
        #[arg(long, conflicts_with = "disk_slots")]
        remove_disk_slots: bool,
        /// Only say which disks would be made or removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Look after one container; started by the supervisor
    #[command(hide = true)]
    Shim,
    /// Unpack one image layer; started by the agent
    #[command(hide = true)]
    Unpack(unpack::Options),
    /// Remove a directory of a container's users; started by the agent
    #[command(hide = true)]
    Wipe {
        #[arg(long)]
        directory: PathBuf,
    },
    /// Tell what this machine can and cannot do for containers, and what mends it
    Check(check::Options),
    /// Try something out that containers need; started by the agent
    #[command(hide = true)]
    Trial {
        trial: Trial,
        #[command(flatten)]
        paths: trial::Paths,
    },
    /// Write manual pages, which an installation calls for
    #[command(hide = true)]
    Man {
        /// The directory to write them to
        dir: PathBuf,
    },
    /// Sweep up after a container whose shim is gone; started by the agent
    #[command(hide = true)]
    Sweep {
        #[arg(long)]
        directory: PathBuf,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let CommandLine { log_format, mode } = CommandLine::parse();
    // A container's builder sends what libcontainer logs to its shim instead.
    if !matches!(mode, Mode::Shim) {
        telemetry::init(match log_format {
            LogFormat::Text => telemetry::Format::Text,
            LogFormat::Json => telemetry::Format::Json,
        });
    }
    // The agent's short helpers have its environment, and it has said so for them.
    if matches!(mode, Mode::Run { .. } | Mode::Supervisor { .. }) {
        telemetry::tell_fault();
    }
    let done = match mode {
        Mode::Check(options) => return check::main(&options),
        Mode::Run { options, watch_stdin } => run(&options, watch_stdin),
        Mode::Supervisor { state, cgroup, watch_stdin } => {
            supervisor::main(&supervisor::Options { state, cgroup, watch_stdin })
        }
        Mode::Prepare {
            user,
            state,
            cgroup,
            disk_slots,
            disk_backend,
            sparse_disk_slots,
            id_ranges,
            remove_disk_slots,
            dry_run,
        } => {
            let disks = prepare::SlotOptions {
                slots: disk_slots,
                backend: disk_backend,
                sparse: sparse_disk_slots,
                dry_run,
            };
            let remove_disks = remove_disk_slots;
            prepare::run(&prepare::Options { user, state, cgroup, disks, id_ranges, remove_disks })
        }
        Mode::Drain(options) => drain::main(&options),
        Mode::Undrain { state } => drain::undo(&state),
        Mode::Shim => shim::main(),
        Mode::Unpack(options) => unpack::main(&options),
        Mode::Trial { trial, paths } => trial::main(trial, &paths),
        Mode::Man { dir } => write_manual(&dir),
        Mode::Wipe { directory } => sweep::wipe_main(&directory),
        Mode::Sweep { directory } => sweep::main(&directory),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Writes the manual pages of this program.
fn write_manual(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(CommandLine::command(), directory))
        .with_context(|| format!("cannot write manual pages to {}", directory.display()))
}

fn run(options: &Options, watch_stdin: bool) -> anyhow::Result<()> {
    process::refuse_root()?;
    let config = Config::load(options)?;
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&tokio, serve(config, watch_stdin))
}

async fn serve(config: Config, watch_stdin: bool) -> anyhow::Result<()> {
    let process = Process::started_now();
    let hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    let lifecycle = Lifecycle::new();
    if watch_stdin {
        end_with_stdin(&lifecycle);
    }
    let credentials = config.credentials.clone();
    let (node, capacity, monitor) = (config.site.node.clone(), config.capacity, config.monitor_listen);
    let _lock = lock(&config.state)?;
    let images = Images::open(&config.state, config.water_marks).context("open the node's images")?;
    let containers =
        Rootless::open(config.runtime(), Rc::clone(&images)).await.context("open the node's state")?;
    let server = Server::start(config, containers, images, lifecycle.clone()).await?;
    tracing::info!(%node, address = %server.local_addr(), ?capacity, "agent ready");
    let status = server.status();
    let monitor = Box::pin(monitored(monitor, server.watch(process)).await?);
    service::ready(&status());
    lifecycle.spawn_local(server.run());
    let ending = tokio::select! {
        ending = lifecycle.run_until_signal(SHUTDOWN_GRACE) => ending?,
        never = service::keep_alive(|| Some(status())) => match never {},
        never = monitor => match never {},
        never = look_after(credentials, hangup) => match never {},
    };
    tracing::info!(?ending, "agent stopped; its containers run on");
    Ok(())
}

/// Reads the certificate again on SIGHUP, for the handshakes from then on, and tells of one that ends soon.
async fn look_after(credentials: Credentials, mut hangup: Signal) -> Infallible {
    let mut warnings = tokio::time::interval(WARN_EVERY);
    loop {
        let told = tokio::select! {
            Some(()) = hangup.recv() => true,
            _ = warnings.tick() => false,
        };
        let file = credentials.file().display();
        match told.then(|| credentials.reload()).transpose() {
            Ok(None) => {}
            Ok(Some(_)) => tracing::info!(%file, "certificate read again; options are read at start only"),
            Err(error) => tracing::error!(%error, "certificate not read again, the one before still counts"),
        }
        if credentials.lifetime().is_ending(SystemTime::now()) {
            let days = credentials.lifetime().left(SystemTime::now()).as_secs() / (24 * 3600);
            tracing::warn!(%file, days, "the certificate ends soon: renew it, then send SIGHUP");
        }
    }
}

/// Serves metrics, health and readiness, if an address is configured.
async fn monitored(
    address: Option<SocketAddr>,
    watched: impl Watched,
) -> anyhow::Result<impl Future<Output = Infallible>> {
    let monitor = match address {
        Some(address) => {
            let bound = Monitor::bind(address).await;
            Some(bound.with_context(|| format!("cannot listen on {address} (--monitor-listen)"))?)
        }
        None => None,
    };
    Ok(async move {
        match monitor {
            Some(monitor) => monitor.serve(&watched).await,
            None => std::future::pending().await,
        }
    })
}

/// Two agents on one state would undo each other's work.
fn lock(state: &Path) -> anyhow::Result<Flock<File>> {
    let path = state.join("agent.lock");
    let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    lock.map_err(|_| anyhow::anyhow!("another agent runs on {}", state.display()))
}

/// Drains when standard input ends. A thread of its own, because reading a terminal or a file cannot be awaited; it
/// does not keep the process alive.
fn end_with_stdin(lifecycle: &Lifecycle) {
    let drain = lifecycle.drain().clone();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drain.cancel();
    });
}
