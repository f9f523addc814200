//! The settings, from environment variables: read once, at the start.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Port where `PORT` does not name one.
const DEFAULT_PORT: u16 = 8080;
/// First line of the page where `MESSAGE` does not give one.
const DEFAULT_MESSAGE: &str = "Hello from a container!";

/// How this process behaves, and its identity.
#[derive(Debug)]
pub(crate) struct Settings {
    /// First line of the page.
    pub(crate) message: String,
    /// TCP port to listen on.
    pub(crate) port: u16,
    /// The instance's id: given by Berth, else the boot id.
    pub(crate) instance: String,
    /// Drawn at random when the process starts: differs between any two processes.
    pub(crate) boot: String,
    /// Do not end on SIGTERM.
    pub(crate) ignore_term: bool,
    /// Do not open the port.
    pub(crate) never_listen: bool,
    /// Wait this long before the port is opened.
    pub(crate) start_delay: Duration,
}

impl Settings {
    /// Reads the environment.
    pub(crate) fn from_env() -> Self {
        let boot = random_id();
        Self {
            message: text("MESSAGE").unwrap_or_else(|| DEFAULT_MESSAGE.to_owned()),
            port: number("PORT").unwrap_or(DEFAULT_PORT),
            instance: text("BERTH_DEPLOYMENT_ID").unwrap_or_else(|| boot.clone()),
            boot,
            ignore_term: switch("IGNORE_TERM"),
            never_listen: switch("NEVER_LISTEN"),
            start_delay: Duration::from_millis(number("START_DELAY_MS").unwrap_or(0)),
        }
    }
}

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    let value = text(name)?;
    let parsed = value.parse().ok();
    if parsed.is_none() {
        eprintln!("hello: {name}={value} is not a number in range; using the default");
    }
    parsed
}

fn switch(name: &str) -> bool {
    text(name).is_some_and(|value| value == "1")
}

/// 32 hexadecimal digits. The standard library seeds its hashers from the system's random numbers.
fn random_id() -> String {
    let part = || RandomState::new().hash_one("boot");
    format!("{:016x}{:016x}", part(), part())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_ids_differ() {
        assert_eq!(random_id().len(), 32);
        assert_ne!(random_id(), random_id());
    }
}
