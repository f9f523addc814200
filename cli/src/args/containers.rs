//! Arguments of `berth containers`, but for `start`.

use berth_api::containers::{ContainerState, SIGNALS};
use clap::{Args as ClapArgs, Subcommand};

use super::{AnyApp, EXIT_CODES, Show, StartContainer};

#[derive(Debug, Subcommand)]
pub(crate) enum Containers {
    /// List the objects of all apps with their state, node and instance
    List(ListContainers),
    /// Show one object
    Info(OneContainer),
    /// Tell why an object's container is on its node, and which nodes could take it now
    Why(OneContainer),
    /// Start an object's container and wait until it answers
    ///
    /// Starts also what requests do not start (manual_start). Environment, entrypoint and internet access given here hold for
    /// this one container; it must not run already then.
    Start(StartContainer),
    /// End a container with a signal, and SIGKILL after a while
    Stop(StopContainer),
    /// End a container with SIGKILL, now
    #[command(after_help = EXIT_CODES)]
    Destroy {
        #[command(flatten)]
        one: OneContainer,
        /// Only shows what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Send a container a signal, and no more
    Signal(SignalContainer),
    /// Count as activity: the container sleeps no earlier than sleep_after from now
    Renew(OneContainer),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct OneContainer {
    /// The object: APP/CLASS/NAME, or its ID or the first digits of it, as `berth containers list` shows it
    pub(crate) object: String,
    #[command(flatten)]
    pub(crate) show: Show,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct StopContainer {
    #[command(flatten)]
    pub(crate) one: OneContainer,
    /// The signal, by name or number [default: SIGTERM]. In place of SIGTERM the app gets the image's STOPSIGNAL, if it has one
    #[arg(long, value_name = "SIGNAL", value_parser = signal)]
    pub(crate) signal: Option<i32>,
    /// How long after it SIGKILL follows, such as 30s [default: the class's stop_grace]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) grace: Option<std::time::Duration>,
    /// Only shows what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ListContainers {
    #[command(flatten)]
    pub(crate) app: AnyApp,
    /// Only those in this state: stopped, running, healthy, stopping or stopped_with_code
    #[arg(long, value_parser = ContainerState::ALL.map(ContainerState::name))]
    pub(crate) state: Option<String>,
    #[command(flatten)]
    pub(crate) show: Show,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct SignalContainer {
    #[command(flatten)]
    pub(crate) one: OneContainer,
    /// The signal, by name or number
    #[arg(value_name = "SIGNAL", value_parser = signal)]
    pub(crate) signal: i32,
}

/// A signal by its number, or its name with or without `SIG`.
fn signal(text: &str) -> Result<i32, String> {
    if let Ok(number) = text.parse() {
        return if SIGNALS.contains(&number) { Ok(number) } else { Err("expected 1 to 64".to_owned()) };
    }
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    let known: Result<nix::sys::signal::Signal, _> = name.parse();
    known
        .map(|signal| signal as i32)
        .map_err(|_| "expected a signal such as SIGINT, or its number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!((signal("SIGINT"), signal("int"), signal("2")), (Ok(2), Ok(2), Ok(2)));
        assert!(signal("SIGNOTHING").is_err() && signal("0").is_err() && signal("65").is_err());
    }
}
