//! Arguments of `berth wrangler`, which are wrangler's: those that mean something here, those that are taken and do nothing, and
//! those that are refused by name because ignoring them would be wrong.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use berth_common::ids::{AppName, SecretName, StoreName};
use berth_common::image::Named;
use clap::{Arg, ArgAction, ArgMatches, Args as ClapArgs, Command, FromArgMatches, Subcommand};

use super::{AdminArgs, AnyApp, EXIT_CODES, OneContainer, OneImage, Show};

/// Arguments of `berth wrangler`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES, disable_version_flag = true)]
pub(crate) struct Wrangler {
    /// Print the version of Berth
    #[arg(long, short = 'v')]
    pub(crate) version: bool,
    #[command(flatten)]
    pub(crate) of: OfProject,
    #[command(subcommand)]
    pub(crate) command: Option<WranglerCommand>,
}

/// Which project, and which of its environments.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct OfProject {
    /// The configuration, in place of the wrangler.jsonc, wrangler.json or wrangler.toml that is here. Paths in it begin at its directory
    #[arg(long, short, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The environment of the configuration, rather than its top level
    #[arg(long, short, global = true, value_name = "NAME")]
    pub(crate) env: Option<String>,
    /// Run as if started in this directory
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WranglerCommand {
    /// Run the project on this machine, as `berth dev` does
    #[command(after_help = EXIT_CODES)]
    Dev(WranglerDev),
    /// Give the project to a running edge, as `berth deploy` does
    #[command(after_help = EXIT_CODES)]
    Deploy(WranglerDeploy),
    /// Write the TypeScript types of what is in `env`
    #[command(after_help = EXIT_CODES)]
    Types(WranglerTypes),
    /// Keep secrets for the project's app
    #[command(subcommand)]
    Secret(WranglerSecret),
    /// Keep secrets that apps share
    #[command(subcommand)]
    SecretsStore(WranglerSecretsStore),
    /// Show and steer containers and images
    #[command(subcommand)]
    Containers(WranglerContainers),
    /// Anything else, which is refused by name
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

impl WranglerCommand {
    /// Which edge it speaks with.
    pub(crate) fn admin(&mut self) -> Option<&mut AdminArgs> {
        match self {
            Self::Deploy(deploy) => Some(&mut deploy.admin),
            Self::Secret(secret) => Some(secret.admin()),
            Self::SecretsStore(WranglerSecretsStore::Store(WranglerStores::List { show, .. })) => {
                Some(&mut show.admin)
            }
            Self::SecretsStore(WranglerSecretsStore::Secret(stored)) => stored.admin(),
            Self::Containers(containers) => containers.admin(),
            Self::Dev(_) | Self::Types(_) | Self::SecretsStore(_) | Self::Other(_) => None,
        }
    }
}

/// Arguments of `wrangler dev`.
#[derive(Debug, ClapArgs)]
pub(crate) struct WranglerDev {
    /// The entry module, which must be the configuration's `main`
    pub(crate) script: Option<PathBuf>,
    /// The port to take requests on [default: the configuration's, or 8787, or one that is free]
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// The address to take requests on [default: the configuration's, or 127.0.0.1]
    #[arg(long, value_parser = address)]
    pub(crate) ip: Option<IpAddr>,
    /// A variable of the program
    #[arg(long = "var", value_name = "NAME:VALUE", num_args = 1.., value_parser = variable)]
    pub(crate) vars: Vec<(String, String)>,
    /// Where to keep state
    #[arg(long, value_name = "DIR")]
    pub(crate) persist_to: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) rest: Rest,
}

/// Arguments of `wrangler deploy`.
#[derive(Debug, ClapArgs)]
pub(crate) struct WranglerDeploy {
    /// The entry module, which must be the configuration's `main`
    pub(crate) script: Option<PathBuf>,
    /// The app's name, in place of the configuration's
    #[arg(long)]
    pub(crate) name: Option<AppName>,
    /// Only check the project
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// A variable of the program
    #[arg(long = "var", value_name = "NAME:VALUE", num_args = 1.., value_parser = variable)]
    pub(crate) vars: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
    #[command(flatten)]
    pub(crate) rest: Rest,
}

/// Arguments of `wrangler types`.
#[derive(Debug, ClapArgs)]
pub(crate) struct WranglerTypes {
    /// The file to write. One that was not generated is not overwritten
    #[arg(default_value = "worker-configuration.d.ts")]
    pub(crate) path: PathBuf,
    /// The name of the interface
    #[arg(long, value_name = "NAME", default_value = "Env", value_parser = identifier)]
    pub(crate) env_interface: String,
    #[command(flatten)]
    pub(crate) rest: Rest,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WranglerSecret {
    /// Put a secret, which is read from standard input
    #[command(after_help = EXIT_CODES)]
    Put {
        /// Its name
        name: SecretName,
        #[command(flatten)]
        of: OfWorker,
    },
    /// Delete a secret
    #[command(after_help = EXIT_CODES)]
    Delete {
        /// Its name
        name: SecretName,
        #[command(flatten)]
        of: OfWorker,
    },
    /// List the secrets, without what they are
    #[command(after_help = EXIT_CODES)]
    List {
        /// How
        #[arg(long, value_parser = ["json", "pretty"], default_value = "json")]
        format: String,
        #[command(flatten)]
        of: OfWorker,
    },
    /// Put several secrets: a JSON object of texts, or lines as of .env. `null` deletes one
    #[command(after_help = EXIT_CODES)]
    Bulk {
        /// The file [default: standard input]
        file: Option<PathBuf>,
        #[command(flatten)]
        of: OfWorker,
    },
}

impl WranglerSecret {
    fn admin(&mut self) -> &mut AdminArgs {
        match self {
            Self::Put { of, .. }
            | Self::Delete { of, .. }
            | Self::List { of, .. }
            | Self::Bulk { of, .. } => &mut of.admin,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum WranglerSecretsStore {
    /// The stores
    #[command(subcommand)]
    Store(WranglerStores),
    /// The secrets of a store
    #[command(subcommand)]
    Secret(WranglerStored),
    /// Anything else, which is refused by name
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

#[derive(Debug, Subcommand)]
pub(crate) enum WranglerStores {
    /// List them
    #[command(after_help = EXIT_CODES)]
    List {
        #[command(flatten)]
        rest: StoreRest,
        #[command(flatten)]
        show: Show,
    },
    /// Anything else, which is refused by name
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

#[derive(Debug, Subcommand)]
pub(crate) enum WranglerStored {
    /// Put a secret, which is read from standard input
    #[command(after_help = EXIT_CODES)]
    Create {
        /// The store
        store: StoreName,
        /// Its name
        #[arg(long)]
        name: SecretName,
        #[command(flatten)]
        rest: StoreRest,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// List the secrets, without what they are
    #[command(after_help = EXIT_CODES)]
    List {
        /// The store
        store: StoreName,
        #[command(flatten)]
        rest: StoreRest,
        #[command(flatten)]
        show: Show,
    },
    /// Delete a secret
    #[command(after_help = EXIT_CODES)]
    Delete {
        /// The store
        store: StoreName,
        /// The secret, by its name
        #[arg(long, value_name = "NAME")]
        secret_id: SecretName,
        #[command(flatten)]
        rest: StoreRest,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Anything else, which is refused by name
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

impl WranglerStored {
    fn admin(&mut self) -> Option<&mut AdminArgs> {
        match self {
            Self::Create { admin, .. } | Self::Delete { admin, .. } => Some(admin),
            Self::List { show, .. } => Some(&mut show.admin),
            Self::Other(_) => None,
        }
    }
}

/// wrangler's other options for stores: they change nothing here, but for one that is refused.
#[derive(Debug)]
pub(crate) struct StoreRest {
    /// Whether a value was given where other users could see it. It is not kept.
    pub(crate) has_value: bool,
}

/// Those with a value that change nothing.
const QUIET_OF_STORES: [&str; 4] = ["scopes", "comment", "page", "per-page"];

impl ClapArgs for StoreRest {
    fn augment_args(command: Command) -> Command {
        let option = |name: &'static str| Arg::new(name).long(name).hide(true).action(ArgAction::Append);
        let remote = Arg::new("remote").long("remote").hide(true).action(ArgAction::SetTrue);
        command.args(QUIET_OF_STORES.map(option)).arg(option("value")).arg(remote)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for StoreRest {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { has_value: matches.contains_id("value") })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Which app's secret.
#[derive(Debug, ClapArgs)]
pub(crate) struct OfWorker {
    /// The app [default: the one of the configuration]
    #[arg(long = "name", id = "worker", value_name = "APP")]
    pub(crate) app: Option<AppName>,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WranglerContainers {
    /// List the objects that have or had a container
    #[command(after_help = EXIT_CODES)]
    List {
        #[command(flatten)]
        app: AnyApp,
        #[command(flatten)]
        show: Show,
    },
    /// The same
    #[command(after_help = EXIT_CODES)]
    Instances {
        #[command(flatten)]
        app: AnyApp,
        #[command(flatten)]
        show: Show,
    },
    /// Show one object
    Info(OneContainer),
    /// Build an image from the Dockerfile in a directory
    #[command(after_help = EXIT_CODES)]
    Build {
        /// The directory
        #[arg(default_value = ".")]
        directory: PathBuf,
        /// What to call it: REPOSITORY[:TAG]
        #[arg(long, short)]
        tag: Named,
        /// Also push it to the edge's registry
        #[arg(long, short)]
        push: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Push an image of docker, podman or buildah to the edge's registry
    #[command(after_help = EXIT_CODES)]
    Push {
        /// What it is called there, and will be here: REPOSITORY[:TAG]
        tag: Named,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Images of the edge's registry
    #[command(subcommand)]
    Images(WranglerImages),
    /// Anything else, which is refused by name
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

impl WranglerContainers {
    fn admin(&mut self) -> Option<&mut AdminArgs> {
        match self {
            Self::List { show, .. } | Self::Instances { show, .. } => Some(&mut show.admin),
            Self::Info(one) => Some(&mut one.show.admin),
            Self::Build { admin, .. } | Self::Push { admin, .. } => Some(admin),
            Self::Images(WranglerImages::List(show)) => Some(&mut show.admin),
            Self::Images(WranglerImages::Delete { admin, .. }) => Some(admin),
            Self::Other(_) => None,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum WranglerImages {
    /// List them
    #[command(after_help = EXIT_CODES)]
    List(Show),
    /// Delete one
    #[command(after_help = EXIT_CODES)]
    Delete {
        #[command(flatten)]
        image: OneImage,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// An address as wrangler takes it.
fn address(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        "*" => Ok(Ipv4Addr::UNSPECIFIED.into()),
        text => text.parse().map_err(|_| "expected an address such as 127.0.0.1".to_owned()),
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME:VALUE")?;
    if name.is_empty() || text.contains('\0') {
        return Err("expected NAME:VALUE".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// A name that TypeScript takes.
pub(crate) fn identifier(text: &str) -> Result<String, String> {
    let begins = |c: char| c.is_ascii_alphabetic() || c == '_' || c == '$';
    let goes_on = |c: char| begins(c) || c.is_ascii_digit();
    let good = text.starts_with(begins) && text.chars().all(goes_on);
    good.then(|| text.to_owned()).ok_or_else(|| "expected a name such as Env".to_owned())
}

/// wrangler's other options: of some the meaning is given here anyway, others are refused.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rest {
    /// Those that were given and are refused, each with what to do in its place.
    pub(crate) refused: Vec<(&'static str, &'static str)>,
}

/// Options that change nothing here, without a value or with one behind `=`.
const QUIET: [&str; 27] = [
    "local",
    "enable-containers",
    "inspect",
    "live-reload",
    "persist",
    "bundle",
    "no-bundle",
    "minify",
    "no-minify",
    "show-interactive-dev-session",
    "no-show-interactive-dev-session",
    "latest",
    "keep-vars",
    "logpush",
    "upload-source-maps",
    "strict",
    "autoconfig",
    "no-autoconfig",
    "install-skills",
    "experimental-vectorize-bind-to-prod",
    "experimental-images-local-mode",
    "experimental-auto-create",
    "experimental-autoconfig",
    "include-env",
    "include-runtime",
    "strict-vars",
    "process-sockets",
];

/// The same with a value.
const QUIET_VALUES: [&str; 9] = [
    "log-level",
    "inspector-port",
    "inspector-ip",
    "local-upstream",
    "upstream-protocol",
    "tag",
    "message",
    "containers-rollout",
    "old-asset-ttl",
];

const IN_CONFIGURATION: &str = "say it in the configuration";

/// Options that would have to change something, and what to do in their place.
const REFUSED: [(&str, &str); 32] = [
    ("remote", "the project runs on this machine, or on an edge with `deploy`"),
    ("local-protocol", "put a proxy with a certificate before it"),
    ("https-key-path", "put a proxy with a certificate before it"),
    ("https-cert-path", "put a proxy with a certificate before it"),
    ("test-scheduled", "crons run when they are due"),
    ("no-enable-containers", "remove `containers` from the configuration"),
    ("env-file", "use .dev.vars, or .env"),
    ("secrets-file", "use `secret bulk`"),
    ("outdir", "nothing is bundled into a file"),
    ("outfile", "nothing is bundled into a file"),
    ("metafile", "nothing is bundled into a file"),
    ("host", IN_CONFIGURATION),
    ("define", IN_CONFIGURATION),
    ("alias", IN_CONFIGURATION),
    ("jsx-factory", IN_CONFIGURATION),
    ("jsx-fragment", IN_CONFIGURATION),
    ("tsconfig", IN_CONFIGURATION),
    ("compatibility-date", IN_CONFIGURATION),
    ("compatibility-flag", IN_CONFIGURATION),
    ("compatibility-flags", IN_CONFIGURATION),
    ("assets", IN_CONFIGURATION),
    ("site", IN_CONFIGURATION),
    ("site-include", IN_CONFIGURATION),
    ("site-exclude", IN_CONFIGURATION),
    ("route", IN_CONFIGURATION),
    ("routes", IN_CONFIGURATION),
    ("domain", IN_CONFIGURATION),
    ("domains", IN_CONFIGURATION),
    ("schedule", IN_CONFIGURATION),
    ("schedules", IN_CONFIGURATION),
    ("triggers", IN_CONFIGURATION),
    ("dispatch-namespace", "deploy it as an app of its own"),
];

impl ClapArgs for Rest {
    fn augment_args(command: Command) -> Command {
        let option = |name: &'static str| Arg::new(name).long(name).hide(true).action(ArgAction::Append);
        let switch = |name| option(name).num_args(0..=1).require_equals(true).default_missing_value("true");
        let command = command.args(QUIET.map(switch)).args(QUIET_VALUES.map(option));
        // However many words follow: the command is refused anyway.
        command.args(REFUSED.map(|(name, _)| option(name).num_args(0..).default_missing_value("true")))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Rest {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |name: &str| matches.contains_id(name);
        let mut refused: Vec<_> = REFUSED.into_iter().filter(|(name, _)| given(name)).collect();
        let off = |name: &str| {
            let mut values = matches.get_many::<String>(name).into_iter().flatten();
            values.any(|value| value == "false")
        };
        if off("enable-containers") {
            refused.push(("enable-containers=false", "remove `containers` from the configuration"));
        }
        if off("local") {
            refused.push(("local=false", "the project runs on this machine, or on an edge with `deploy`"));
        }
        Ok(Self { refused })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{self, Args};

    fn parse(words: &[&str]) -> Result<Wrangler, clap::Error> {
        let words = ["berth", "wrangler"].iter().chain(words);
        match Args::try_parse_from(words)?.command {
            args::Command::Wrangler(wrangler) => Ok(wrangler),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn wranglers_options_are_taken_ignored_or_refused_by_name() {
        let words = "dev src/index.ts --port 0 --ip localhost -e x -c a/wrangler.toml --var A:1 B:x:y --local --log-level debug --inspect=false";
        let Wrangler { of, command: Some(WranglerCommand::Dev(dev)), .. } =
            parse(&words.split(' ').collect::<Vec<_>>()).unwrap()
        else {
            panic!("it is dev")
        };
        assert_eq!((of.env.as_deref(), of.config), (Some("x"), Some("a/wrangler.toml".into())));
        assert_eq!((dev.port, dev.ip), (Some(0), Some(Ipv4Addr::LOCALHOST.into())));
        let vars = [("A", "1"), ("B", "x:y")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!((dev.vars, dev.rest.refused), (vars.to_vec(), Vec::new()));
        let Some(WranglerCommand::Deploy(deploy)) =
            parse(&["deploy", "--keep-vars", "--routes", "a/*", "b/*", "--outdir", "x"]).unwrap().command
        else {
            panic!("it is deploy")
        };
        let refused: Vec<&str> = deploy.rest.refused.iter().map(|(name, _)| *name).collect();
        assert_eq!(refused, ["outdir", "routes"]);
        let create =
            "secrets-store secret create shop --name KEY --scopes workers --comment x --remote --value y";
        assert!(matches!(
            parse(&create.split(' ').collect::<Vec<_>>()).unwrap().command,
            Some(WranglerCommand::SecretsStore(WranglerSecretsStore::Secret(WranglerStored::Create {
                store, name, rest: StoreRest { has_value: true }, ..
            }))) if store.as_str() == "shop" && name.as_str() == "KEY"
        ));
        for unknown in [&["dev", "--no-such"][..], &["deploy", "--port", "1"], &["--no-such"]] {
            assert!(parse(unknown).is_err(), "{unknown:?}");
        }
        assert!(parse(&["--version"]).unwrap().version && parse(&["-v"]).unwrap().version);
        assert!(matches!(
            parse(&["kv", "namespace", "list", "--remote"]).unwrap().command,
            Some(WranglerCommand::Other(words)) if words[0] == "kv"
        ));
    }
}
