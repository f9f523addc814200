//! The command line, and its help.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Most nodes of one `berth dev`: each is two processes.
const MAX_DEV_NODES: i64 = 32;

const EXIT_CODES: &str = "\
Exit codes:
  0  it worked
  1  it did not work
  2  what was given is wrong: the command line, berth.toml, or a name";

/// Runs containers on demand: one for each object, started by its first request, put to sleep when idle
#[derive(Debug, Parser)]
#[command(name = "berth", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Args {
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run an app on this machine: edge, nodes and all, until Ctrl-C
    ///
    /// Starts an edge and nodes as child processes, packs and deploys the app, and prints where to reach it.
    ///
    /// State and logs are kept in DIR/.berth/dev. Started by root, agents run as the user `berth`, and the state is kept in
    /// /var/lib/berth/dev. Ctrl-C ends all containers and everything else that was started; a second Ctrl-C does it at once.
    Dev(Dev),
    /// Check a berth.toml and the images that it names
    ///
    /// Reads a berth.toml and looks at the images that it names. Starts nothing, changes nothing.
    ///
    /// Every error is shown at once, one a line, as FILE:LINE:COLUMN: what is wrong; what is expected.
    Check(Check),
    /// Pack an app's images and give it to a running edge
    ///
    /// Packs each image where the edge keeps them and makes the app's new version known to it.
    Deploy(Deploy),
    /// Show the containers of an edge's apps
    #[command(subcommand)]
    Containers(Containers),
    /// Show the nodes of an edge
    Nodes(Show),
    /// Make an image from a static binary or a root directory
    ///
    /// Writes an OCI image layout and prints the digest of its manifest. The same input gives the same digest.
    ///
    /// A static binary becomes /app/NAME, and the image runs it. A root directory becomes the root of the image with owners and
    /// permissions as they are; devices, sockets and named pipes in it are refused, extended attributes are left out.
    Pack(Pack),
    /// Make the certificates by which edges and agents know each other
    #[command(subcommand)]
    Certs(Certs),
    /// Print a script that completes this command's words in a shell
    ///
    /// For example: berth completions bash > /etc/bash_completion.d/berth
    Completions(Completions),
}

/// Which edge to talk to.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct AdminArgs {
    /// The edge's admin socket [default: the first that exists of ./.berth/dev/edge/admin.sock and
    /// /var/lib/berth/edge/admin.sock]
    #[arg(long, value_name = "PATH", env = "BERTH_ADMIN_SOCKET", hide_env_values = true)]
    pub(crate) admin_socket: Option<PathBuf>,
}

/// Arguments of `berth dev`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Dev {
    /// The directory that holds berth.toml
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Where to take requests. Port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// How many nodes to run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=MAX_DEV_NODES))]
    pub(crate) nodes: u16,
}

/// Arguments of `berth check`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Check {
    /// The file
    #[arg(default_value = "berth.toml")]
    pub(crate) file: PathBuf,
}

/// Arguments of `berth deploy`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Deploy {
    /// The directory that holds berth.toml
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Containers {
    /// List the objects of all apps with their state, node and instance
    List(Show),
    /// Show one object
    Info(OneContainer),
    /// Start an object's container and wait until it answers
    ///
    /// Starts also what requests do not start (manual_start). Environment, entrypoint and internet access given here hold for
    /// this one container; it must not run already then.
    Start(StartContainer),
    /// End a container with a signal, and SIGKILL after a while
    Stop(StopContainer),
    /// End a container with SIGKILL, now
    Destroy(OneContainer),
    /// Count as activity: the container sleeps no earlier than sleep_after from now
    Renew(OneContainer),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct OneContainer {
    /// The object: APP/CLASS/NAME, or its ID as `berth containers list` shows it
    pub(crate) object: String,
    #[command(flatten)]
    pub(crate) show: Show,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct StartContainer {
    #[command(flatten)]
    pub(crate) one: OneContainer,
    /// An environment variable, beside those of the class
    ///
    /// With NAME alone the value is taken from berth's own environment, where other users of this machine cannot see it.
    #[arg(long, short, value_name = "NAME[=VALUE]", value_parser = named_variable)]
    pub(crate) env: Vec<(String, String)>,
    /// The program to run and its arguments, one a --entrypoint
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub(crate) entrypoint: Vec<String>,
    /// Whether it may reach the internet, if not as its class says
    #[arg(long, value_name = "BOOL")]
    pub(crate) internet: Option<bool>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct StopContainer {
    #[command(flatten)]
    pub(crate) one: OneContainer,
    /// The signal, by name or number [default: SIGTERM]
    #[arg(long, value_name = "SIGNAL", value_parser = signal)]
    pub(crate) signal: Option<i32>,
    /// How long after it SIGKILL follows, such as 30s [default: the class's stop_grace]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) grace: Option<std::time::Duration>,
}

/// A signal by its number, or its name with or without `SIG`.
fn signal(text: &str) -> Result<i32, String> {
    if let Ok(number) = text.parse() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err("expected 1 to 64".to_owned()) };
    }
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    let known: Result<nix::sys::signal::Signal, _> = name.parse();
    known
        .map(|signal| signal as i32)
        .map_err(|_| "expected a signal such as SIGINT, or its number".to_owned())
}

/// A variable with its value, which may be in our own environment.
fn named_variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => (text, std::env::var(text).map_err(|error| format!("{text}: {error}"))?),
    };
    if name.is_empty() { Err("expected NAME or NAME=VALUE".to_owned()) } else { Ok((name.to_owned(), value)) }
}

#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Show {
    /// Print the edge's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Arguments of `berth pack`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Pack {
    /// A static binary, or a directory that holds a whole root file system
    pub(crate) source: PathBuf,
    /// The directory to write. A layout that is there is replaced
    #[arg(long, short, value_name = "LAYOUT_DIR")]
    pub(crate) output: PathBuf,
    /// The program to run and its arguments, one a --entrypoint [default: the binary]
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub(crate) entrypoint: Vec<String>,
    /// An environment variable
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<String>,
    /// The user inside the container, by name or number, with or without :GROUP
    #[arg(long, short, value_name = "USER")]
    pub(crate) user: Option<String>,
}

fn variable(text: &str) -> Result<String, &'static str> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() && !text.contains('\0') => Ok(text.to_owned()),
        _ => Err("expected NAME=VALUE"),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Certs {
    /// Make a new certificate authority: ca.pem and ca.key. Never overwrites one
    #[command(after_help = EXIT_CODES)]
    Init {
        /// The directory to keep it in
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Issue a certificate to an edge or a node's agent: ROLE-NAME.pem and ROLE-NAME.key. Never overwrites one
    #[command(after_help = EXIT_CODES)]
    Issue {
        /// What it is for
        role: RoleArg,
        /// The edge's or the node's name
        name: String,
        /// The directory of the certificate authority
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// How many days it holds
        #[arg(long, value_name = "N", default_value_t = 365)]
        days: u32,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RoleArg {
    /// Takes requests and owns objects
    Edge,
    /// Runs containers on a node
    Agent,
}

/// Arguments of `berth completions`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn dev_is_bounded() {
        let parse = |nodes: &str| Args::try_parse_from(["berth", "dev", "--nodes", nodes]);
        assert!(parse("1").is_ok() && parse("32").is_ok());
        assert!(parse("0").is_err() && parse("33").is_err());
    }

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!((signal("SIGINT"), signal("int"), signal("2")), (Ok(2), Ok(2), Ok(2)));
        assert!(signal("SIGNOTHING").is_err() && signal("0").is_err() && signal("65").is_err());
    }

    #[test]
    fn variables_need_a_name() {
        assert!(variable("A=").is_ok() && variable("A=b=c").is_ok());
        assert!(variable("A").is_err() && variable("=b").is_err());
    }
}
