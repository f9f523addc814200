//! What the daemons of a cluster are started with: the arguments that are the same for every cluster. Callers add
//! options of their own at the end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::certificates::Credentials;
use crate::cgroup;
use crate::owner::Owner;
use crate::state_dir::StateDir;

/// Moves into a cgroup as root, then runs the rest of its arguments as another user.
const ENTER_AND_DEMOTE: &str = "echo $$ > \"$1\" && uid=$2 gid=$3 && shift 3 && exec setpriv --reuid=$uid --regid=$gid --clear-groups \"$@\"";

/// Makes standard output the first socket of the service manager, and standard error both, then runs its arguments.
const PASS_SOCKET_ON: &str = "exec 3>&1 1>&2; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";

/// Where the cgroups of a node's containers are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// In this one, below one that was delegated.
    Named(PathBuf),
    /// In a scope of the user's own systemd (v2).
    Scope,
    /// In the one that this process is in (v2).
    Own,
}

/// The directory of the daemons' programs, and the user that they run as.
#[derive(Debug, Clone)]
pub struct Launch {
    state: StateDir,
    owner: Owner,
    /// All of their environment, where it is not this process's.
    environment: Option<Vec<(String, String)>>,
}

impl Launch {
    /// Daemons in this directory, of this user, with the environment of this process.
    pub fn new(state: StateDir, owner: Owner) -> Self {
        Self { state, owner, environment: None }
    }

    /// The same with only these variables.
    pub fn with_environment(mut self, variables: &[(&str, &str)]) -> Self {
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.environment = Some(owned.collect());
        self
    }

    /// The directory.
    pub fn state(&self) -> &StateDir {
        &self.state
    }

    /// The daemons' user.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// A program of the cluster as the daemons' user.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.state.program(program));
        self.surround(&mut command);
        self.owner.demote(&mut command, self.state.path());
        command
    }

    /// The same behind a wrapper command that runs as this process's user, for example one that enters a network
    /// namespace, and in a cgroup that only root can move a process to.
    pub fn command_behind(&self, wrapper: &[String], entrance: Option<&Path>, program: &str) -> Command {
        if wrapper.is_empty() && entrance.is_none() {
            return self.command(program);
        }
        let user = self.owner.user();
        let mut wrapper = wrapper.iter().map(String::as_str).chain(["sh"]);
        let mut command = Command::new(wrapper.next().unwrap_or_default());
        command.args(wrapper).args(["-c", ENTER_AND_DEMOTE, "sh"]);
        command.arg(entrance.unwrap_or(Path::new("/dev/null")));
        command.args([user.uid.to_string(), user.gid.to_string()]).arg(self.state.program(program));
        self.surround(&mut command);
        command
    }

    /// Gives a command its environment and its directory, which the daemons' user can enter.
    fn surround(&self, command: &mut Command) {
        if let Some(variables) = &self.environment {
            command.env_clear().env("HOME", self.state.path()).env("USER", &self.owner.user().name);
            command.envs(variables.iter().map(|(name, value)| (name, value)));
        }
        // The end of the log is shown after a failed start; a backtrace of every error would push the error out. Panics
        // keep theirs.
        command.env("RUST_LIB_BACKTRACE", "0").current_dir(self.state.path());
    }

    /// The supervisor of a node with this state.
    pub fn supervisor(&self, state: &Path, group: &Group, wrapper: &[String]) -> Result<Command> {
        let mut command = match group {
            Group::Named(group) => {
                let entrance = cgroup::make_entrance(group, self.owner.user())?;
                self.command_behind(wrapper, entrance.as_deref(), "berth-agent")
            }
            Group::Scope => {
                let mut command = Command::new("systemd-run");
                command.args(["--user", "--scope", "--quiet", "-p", "Delegate=yes", "--"]);
                command.arg(self.state.program("berth-agent"));
                self.surround(&mut command);
                command
            }
            Group::Own => self.command("berth-agent"),
        };
        command.arg("supervisor").arg("--state").arg(state);
        if let Group::Named(group) = group {
            command.arg("--cgroup").arg(group);
        }
        Ok(command)
    }

    /// The agent of a node with this state.
    pub fn agent(
        &self,
        node: &str,
        state: &Path,
        listen: SocketAddr,
        credentials: &Credentials,
        wrapper: &[String],
    ) -> Command {
        let mut command = self.command_behind(wrapper, None, "berth-agent");
        command.args(["run", "--node", node, "--listen", &listen.to_string(), "--state"]).arg(state);
        credentials.add_to(&mut command);
        command
    }

    /// An edge that is connected with these nodes.
    pub fn edge(
        &self,
        name: &str,
        listen: SocketAddr,
        credentials: &Credentials,
        nodes: &[(String, SocketAddr)],
    ) -> Command {
        self.edge_by(self.command("berth-edge"), name, listen, credentials, nodes)
    }

    /// The same, with the socket that is its standard output passed on to it as service managers do.
    pub fn edge_with_kept_socket(
        &self,
        name: &str,
        listen: SocketAddr,
        credentials: &Credentials,
        nodes: &[(String, SocketAddr)],
    ) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", PASS_SOCKET_ON, "sh"]).arg(self.state.program("berth-edge"));
        self.surround(&mut command);
        self.owner.demote(&mut command, self.state.path());
        self.edge_by(command, name, listen, credentials, nodes)
    }

    fn edge_by(
        &self,
        mut command: Command,
        name: &str,
        listen: SocketAddr,
        credentials: &Credentials,
        nodes: &[(String, SocketAddr)],
    ) -> Command {
        command.args(["run", "--name", name, "--listen", &listen.to_string()]);
        command.arg("--state").arg(self.state.edge());
        command.arg("--admin-socket").arg(self.state.admin_socket());
        credentials.add_to(&mut command);
        for (node, address) in nodes {
            command.arg("--node").arg(format!("{node}={address}"));
        }
        command
    }
}

impl Credentials {
    /// The options that name them.
    fn add_to(&self, command: &mut Command) {
        command.arg("--ca").arg(&self.ca);
        command.arg("--cert").arg(&self.own.certificate).arg("--key").arg(&self.own.key);
    }
}
