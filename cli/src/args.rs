//! The command line, and its help.

mod admin;
mod app;
mod certs;
mod containers;
mod deploy;
mod dev;
mod events;
mod images;
mod logs;
mod nodes;
mod ports;
mod schedules;
mod secret;
mod start;
mod untold;
pub(crate) mod usage;
mod wrangler;

use std::net::SocketAddr;
use std::path::PathBuf;

use berth_common::ids::Version;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

pub(crate) use self::admin::AdminArgs;
pub(crate) use self::app::{AnyApp, OneApp};
pub(crate) use self::certs::{Certs, NewCertificate, RoleArg};
pub(crate) use self::containers::{Containers, ListContainers, OneContainer, StopContainer};
pub(crate) use self::deploy::Deploy;
pub(crate) use self::dev::{AsWrangler, Dev, DevCommand, DevDirs, DevDown};
pub(crate) use self::events::Events;
pub(crate) use self::images::{Build, Images, OneImage, Registries};
pub(crate) use self::logs::Logs;
pub(crate) use self::nodes::{NodeCommand, Nodes};
pub(crate) use self::ports::Ports;
pub(crate) use self::schedules::{Alarm, ChosenEvents, Crons, Hooks, OneObject, Schedules, When};
pub(crate) use self::secret::{HeldBy, KeyFileArgs, OneSecret, Secret};
pub(crate) use self::start::StartContainer;

pub(crate) use self::wrangler::{
    OfProject, OfWorker, Rest, StoreRest, Wrangler, WranglerCommand, WranglerContainers, WranglerDeploy,
    WranglerDev, WranglerImages, WranglerSecret, WranglerSecretsStore, WranglerStored, WranglerStores,
    WranglerTypes, identifier,
};

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
    /// State and logs are kept in DIR/.berth/dev. Started by root, all of it runs as the user `berth`, and the state is kept in
    /// /var/lib/berth/dev. Ctrl-C ends all containers and everything else that was started; a second Ctrl-C does it at once.
    /// With --detach, `berth dev down` ends it.
    Dev(Dev),
    /// Write a berth.toml for a new app
    ///
    /// Asks nothing and overwrites nothing. Afterwards `berth dev` runs the app.
    Init(Init),
    /// Check a berth.toml and the images that it names, or a Workers project
    ///
    /// Reads a berth.toml and looks at the images that it names; or reads a wrangler configuration, and compiles the modules that it
    /// names. Starts nothing, changes nothing.
    ///
    /// Every error is shown at once, one a line, as FILE:LINE:COLUMN: what is wrong; what is expected.
    Check(Check),
    /// Give an app with its images to a running edge
    ///
    /// Packs, builds or reads the images that are here and pushes what the edge lacks of them; has the edge pull those of other
    /// registries; has nodes fetch all of them; and then makes the app's new version the current one. Of a directory with a
    /// wrangler configuration, compiles the modules and sends them.
    Deploy(Deploy),
    /// Build the images of an app, without deploying it
    ///
    /// Those that are built from a Dockerfile, with docker, podman or buildah: the first that is there, or the one that the
    /// variable BERTH_DOCKER_BIN names. Also packs and reads the others, and shows the digests of all.
    Build(Build),
    /// List the versions of an app that the edge keeps
    Versions(Versions),
    /// Go back to an earlier version of an app
    ///
    /// Requests are routed by it at once. Containers of other versions live until they sleep, or end with --now.
    Rollback(Rollback),
    /// List the apps of an edge, or end one
    #[command(subcommand)]
    Apps(Apps),
    /// Show and steer the containers of an edge's apps
    #[command(subcommand)]
    Containers(Containers),
    /// Show what containers have written to standard output and standard error
    ///
    /// Also of those that have ended. -f goes on with what is written later, by the object's next containers too.
    Logs(Logs),
    /// Exchange bytes with a port of an object's container, over standard input and output
    ///
    /// Starts the container if it sleeps. Ends when the container ends the connection.
    Connect(Connect),
    /// Make a port of an object's container one of this machine
    ///
    /// Each connection to it starts the container if it sleeps. Ctrl-C ends it.
    PortForward(PortForward),
    /// Keep values for an object, and read them
    #[command(subcommand)]
    Kv(Kv),
    /// Keep secrets for an app's containers
    #[command(subcommand)]
    Secret(Secret),
    /// The one alarm of an object: when it calls its class's callback
    #[command(subcommand)]
    Alarm(Alarm),
    /// What an object is to do later, each once, any number of them
    #[command(subcommand)]
    Schedules(Schedules),
    /// Show the crons of an app
    Crons(Crons),
    /// Events that hooks are still to be told, and those that they could not be told
    #[command(subcommand)]
    Hooks(Hooks),
    /// Show and steer the images of the edge's registry
    #[command(subcommand)]
    Images(Images),
    /// Users and passwords that the edge has for other registries
    #[command(subcommand)]
    Registries(Registries),
    /// Show the nodes of an edge, empty one, or give one up
    ///
    /// A node that was not heard of for a while is silent, and lost once what it had was given up. TERM is how long what it runs goes on
    /// without a further word of the edge.
    Nodes(Nodes),
    /// Show what has happened to nodes, and to objects when theirs was lost
    ///
    /// Nodes that were connected, silent, lost, drained; objects that were given up with a node, and started elsewhere: each with its reason.
    /// The edge keeps the last 10,000, of which each app and each node has a share.
    Events(Events),
    /// Show what containers have taken: time, CPU, memory, disk and bytes sent
    Usage(usage::Usage),
    /// Make an image from a static binary or a root directory
    ///
    /// Writes an OCI image layout and prints the digest of its manifest. The same input gives the same digest.
    ///
    /// A static binary becomes /app/NAME, and the image runs it. A root directory becomes the root of the image with owners and
    /// permissions as they are; devices, sockets and named pipes in it are refused, extended attributes are left out.
    Pack(Pack),
    /// Make, list and revoke tokens for the admin API over the network
    #[command(subcommand)]
    Token(Token),
    /// Copy and check the store of an edge that does not run
    #[command(subcommand)]
    Store(Store),
    /// Take the place of wrangler, so that the scripts of a Workers project go on as they are
    ///
    /// Does the same when it is started by a link that is called `wrangler`.
    Wrangler(Wrangler),
    /// Print the JSON Schema of berth.toml, with which editors complete it
    Schema,
    /// Make the certificates by which edges and agents know each other
    #[command(subcommand)]
    Certs(Certs),
    /// Print a script that completes this command's words in a shell
    ///
    /// For example: berth completions bash > /etc/bash_completion.d/berth
    Completions(Completions),
    /// Write manual pages, one for each command
    Man {
        /// The directory to write them to
        dir: PathBuf,
    },
}

/// Arguments of `berth init`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Init {
    /// The directory of the app. Made if missing
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// The app's name [default: the directory's]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// What its containers run: the path of a static binary, root directory or Dockerfile, `oci:` and that of an image layout,
    /// or an image of a registry such as ghcr.io/me/app:1
    #[arg(long, default_value = "./server")]
    pub(crate) image: String,
    /// The TCP port that the program listens on
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
}

/// Arguments of `berth versions`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Versions {
    #[command(flatten)]
    pub(crate) app: OneApp,
    #[command(flatten)]
    pub(crate) show: Show,
}

/// Arguments of `berth rollback`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Rollback {
    #[command(flatten)]
    pub(crate) app: OneApp,
    /// The version to go back to [default: the newest that is older than the current one]
    #[arg(long, value_name = "N")]
    pub(crate) to: Option<Version>,
    /// Only shows what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) terms: TermArgs,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// How an app is changed.
#[derive(Debug, ClapArgs)]
pub(crate) struct TermArgs {
    /// End the containers of other versions now, in place of letting them live until they sleep
    #[arg(long)]
    pub(crate) now: bool,
    /// Change nothing unless this version is current
    #[arg(long, value_name = "N")]
    pub(crate) expect: Option<Version>,
}

/// Arguments of `berth apps info`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct AppInfo {
    #[command(flatten)]
    pub(crate) app: OneApp,
    #[command(flatten)]
    pub(crate) show: Show,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Apps {
    /// List the apps with their current versions
    List(Show),
    /// Show an app: its version, its classes, and its program with what that has in memory
    Info(AppInfo),
    /// End an app: nothing is routed to it any more, its containers are stopped, its versions are lost
    ///
    /// Asks first. Its schedules, and events that were not delivered yet, go with it. Its secrets, and its objects with their
    /// values stay, unless --purge removes them too: also those of an app that was deleted before. The numbers of its versions are
    /// not used again.
    #[command(after_help = EXIT_CODES)]
    Delete {
        #[command(flatten)]
        app: OneApp,
        /// Also remove its secrets, and its objects with their values, once their containers have ended
        #[arg(long)]
        purge: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// Only shows what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// Arguments of `berth connect`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Connect {
    /// The object: APP/CLASS/NAME, or its ID or the first digits of it, as `berth containers list` shows it
    pub(crate) object: String,
    /// The port [default: the class's default_port]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Arguments of `berth port-forward`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct PortForward {
    /// The object: APP/CLASS/NAME, or its ID or the first digits of it, as `berth containers list` shows it
    pub(crate) object: String,
    /// The port of this machine, and the container's where it is another one. 0:PORT takes any that is free
    #[arg(value_name = "LOCAL[:PORT]")]
    pub(crate) ports: Ports,
    /// Where to take connections, in place of 127.0.0.1 and the local port. Port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Kv {
    /// Write the value under a key to standard output, as it is
    #[command(after_help = EXIT_CODES)]
    Get(KvKey),
    /// Put a value under a key, in place of the one that is there; durable when this returns
    #[command(after_help = EXIT_CODES)]
    Put {
        #[command(flatten)]
        key: KvKey,
        /// The value [default: what is on standard input]
        value: Option<String>,
    },
    /// Delete a key and its value, if they are there
    #[command(after_help = EXIT_CODES)]
    Delete {
        #[command(flatten)]
        key: KvKey,
        /// Only shows what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// List an object's keys
    #[command(after_help = EXIT_CODES)]
    List {
        /// The object: APP/CLASS/NAME, or its ID or the first digits of it
        object: String,
        /// Only keys that begin with this
        #[arg(long, default_value = "")]
        prefix: String,
        #[command(flatten)]
        show: Show,
    },
}

/// One of an object's keys.
#[derive(Debug, ClapArgs)]
pub(crate) struct KvKey {
    /// The object: APP/CLASS/NAME, or its ID or the first digits of it
    pub(crate) object: String,
    /// The key: any text of up to 2048 bytes
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token and print it, this once
    #[command(after_help = EXIT_CODES)]
    Create {
        /// What to call it
        name: String,
        /// What it allows; each includes those before it
        #[arg(long, value_enum)]
        scope: ScopeArg,
        #[command(flatten)]
        show: Show,
    },
    /// List the tokens with their last use
    List(Show),
    /// End a token: whoever has it gets nowhere from then on
    #[command(after_help = EXIT_CODES)]
    Revoke {
        /// Its name, or its ID or the first digits of it, as `berth token list` shows them
        token: String,
        /// Only shows what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// What a token allows.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ScopeArg {
    /// Look
    Read,
    /// Also deploy apps, and start and end containers
    Deploy,
    /// Also drain and forget nodes, and make and revoke tokens
    Admin,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Write all that the store holds as lines of JSON, with a digest
    #[command(after_help = EXIT_CODES)]
    Export {
        /// The edge's state directory
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// The file to write, which must not be there [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Leave out what cannot be read, and name it: without, that is an error
        #[arg(long)]
        without_damaged: bool,
    },
    /// Make the store from such lines
    #[command(after_help = EXIT_CODES)]
    Import {
        /// The edge's state directory
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// The file to read [default: standard input]
        #[arg(long, short, value_name = "FILE")]
        input: Option<PathBuf>,
        /// With a store there already: set it aside and take its place
        #[arg(long)]
        replace: bool,
        /// Only reads and checks the lines, and shows what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Read every value and check it
    #[command(after_help = EXIT_CODES)]
    Verify {
        /// The edge's state directory
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
}

/// Arguments of `berth check`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Check {
    /// The file, or the directory that holds berth.toml or a wrangler configuration
    #[arg(default_value = ".")]
    pub(crate) file: PathBuf,
    /// The environment of a wrangler configuration, rather than its top level
    #[arg(long, short = 'e', value_name = "NAME")]
    pub(crate) env: Option<String>,
    /// Print what was found as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Show {
    /// Print the edge's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Show IDs whole, and columns that are otherwise left out
    #[arg(long)]
    pub(crate) wide: bool,
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
    fn variables_need_a_name() {
        assert!(variable("A=").is_ok() && variable("A=b=c").is_ok());
        assert!(variable("A").is_err() && variable("=b").is_err());
    }
}
