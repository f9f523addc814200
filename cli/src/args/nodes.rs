//! The arguments of `berth nodes`.

use std::path::PathBuf;

use berth_common::ids::NodeId;
use berth_common::spec::parse_label;
use clap::{Args, Subcommand};

use super::{AdminArgs, EXIT_CODES, Show};

/// Arguments of `berth nodes`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
pub(crate) struct Nodes {
    #[command(subcommand)]
    pub(crate) command: Option<NodeCommand>,
    #[command(flatten)]
    pub(crate) show: Show,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Add a node: the edge connects to it at once, without a restart
    ///
    /// Its agent runs already, with a certificate of this name and of the edge's authority (`berth certs`), or will: until it answers, `berth
    /// nodes` shows it as silent. It stays over restarts of the edge, until `berth nodes forget`.
    #[command(after_help = EXIT_CODES)]
    Add {
        /// The node's name, which its certificate has too
        node: NodeId,
        /// Where its agent listens: an address or a host's name, and a port, as in 192.0.2.1:7443
        address: String,
        /// A label besides those that its agent has, such as rack=7; it counts more than one of the agent. Once for each
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
        labels: Vec<(String, String)>,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Empty a node: the edge puts nothing new on it, and ends what it has there
    ///
    /// Each container gets SIGTERM and the grace of its class once no request holds it, and after a minute in any case. Objects that are asked
    /// for start on other nodes. The node stays drained, also over restarts of the edge, until `berth nodes undrain`. Containers that
    /// other edges have on it are not concerned: `berth-agent drain`, on the node, ends all.
    #[command(after_help = EXIT_CODES)]
    Drain {
        /// The node
        node: NodeId,
        /// Return at once, not when the node is empty
        #[arg(long)]
        no_wait: bool,
        /// Only shows what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Have a drained node take containers again
    #[command(after_help = EXIT_CODES)]
    Undrain {
        /// The node
        node: NodeId,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Cut a node off whose key may be in other hands: its certificate counts no more, for good
    ///
    /// Asks first. All connections to it end at once, and none is made with that key any more. What runs there pauses once its term is over,
    /// and is started elsewhere then. The node is used again once its agent has a certificate with a new key (`berth certs issue agent`).
    #[command(after_help = EXIT_CODES)]
    Revoke {
        /// The node
        node: NodeId,
        /// The certificate whose key is meant; without, the one that the node has last shown
        #[arg(long, value_name = "FILE")]
        cert: Option<PathBuf>,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// Only shows what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Give up what a node has that is gone for good, and the node: its objects can start elsewhere then
    ///
    /// Asks first. A node of the edge's command line (`--node`) stays there until that is taken away. Also for a node that the edge is not configured with any more, but still waits for. Refused while the node is
    /// connected, and until the term of what it runs is over.
    #[command(after_help = EXIT_CODES)]
    Forget {
        /// The node
        node: NodeId,
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::Args;

    #[test]
    fn nodes_are_shown_without_a_word_and_ordered_with_one() {
        let parses = |words: &[&str]| Args::try_parse_from(["berth", "nodes"].iter().chain(words)).is_ok();
        assert!(parses(&[]) && parses(&["--json"]) && parses(&["--wide", "--admin-socket", "/s"]));
        assert!(parses(&["drain", "n1", "--no-wait"]) && parses(&["undrain", "n1", "--admin-socket", "/s"]));
        assert!(parses(&["add", "n1", "192.0.2.1:7443", "--label", "rack=7", "--label", "gpu=no"]));
        assert!(parses(&["revoke", "n1", "-y"]) && parses(&["revoke", "n1", "--cert", "f", "--dry-run"]));
        assert!(!parses(&["add", "n1"]) && !parses(&["add", "n1", "a:1", "--label", "rack"]));
        assert!(parses(&["forget", "n1", "-y"]) && parses(&["forget", "n1", "--dry-run"]));
        assert!(!parses(&["drain"]) && !parses(&["forget", "a/b"]) && !parses(&["--json", "drain", "n1"]));
    }
}
