//! The container of an object: what the object's code orders, what it is told, and the texts by which programs know why something
//! failed. Those are matched by programs, so none may change.

use serde::{Deserialize, Serialize};

/// Most bytes of what a container is started with, counted as `Start::weight` does: it is one message, and goes on to a node.
pub const START_BYTES: usize = 128 << 10;

/// Most labels of a container.
pub const LABELS: usize = 10;

/// Longest name of a label, in bytes.
pub const LABEL_NAME_BYTES: usize = 16;

/// Longest value of a label, in bytes.
pub const LABEL_VALUE_BYTES: usize = 64;

/// The highest number of a signal.
pub const LAST_SIGNAL: u8 = 64;

/// What a variable, an argument or a label weighs besides its bytes.
const ENTRY_WEIGHT: usize = 32;

/// What a request to a port fails with while nothing runs.
pub const NOT_RUNNING: &str = "The container is not running, consider calling start()";

/// What a start fails with that finds no node, no room, or the limit of its class or app reached. More may follow in the text.
pub const NO_INSTANCE: &str = "there is no container instance that can be provided to this durable object";

/// What follows `NO_INSTANCE` when it was the limit of the class.
pub const TOO_MANY: &str = "Maximum number of running container instances exceeded. Try again later, or try configuring a higher \
    value for max_instances";

/// What a start fails with when starts come too fast.
pub const TOO_FAST: &str = "you are requesting too many containers per second";

/// What a request fails with whose connection broke.
pub const CONNECTION_LOST: &str = "Network connection lost.";

/// What a request fails with to a port at which nothing listens. `address` is where that was tried.
pub fn not_listening(address: &str, port: u16) -> String {
    format!(
        "The container is not listening in the TCP address {address}:{port}. Container is not listening to port {port}"
    )
}

/// What an object's code wants of its container. An order that comes when there is nothing to carry it out on is without effect, but
/// every `Start` is answered, by `Change::Ended` at the latest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// It is to run.
    Start(Box<Start>),
    /// It is to get this signal, from 1 to `LAST_SIGNAL`.
    Signal(u8),
    /// It is to be killed.
    Destroy,
    /// It is to go on for so many milliseconds when its object is gone; at least one.
    KeepFor(u64),
}

/// What a container is started with; what is not said here is as the app's configuration has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Variables of its environment: names without `=` and NUL, values without NUL.
    pub env: Vec<(String, String)>,
    /// The command with its arguments, in place of the image's.
    pub entrypoint: Option<Vec<String>>,
    /// Whether it reaches the world outside.
    pub enable_internet: bool,
    /// Labels with their values: at most `LABELS`.
    pub labels: Vec<(String, String)>,
}

impl Start {
    /// About how many bytes it takes up.
    pub fn weight(&self) -> usize {
        let pairs = self.env.iter().chain(&self.labels);
        let pairs = pairs.map(|(name, value)| name.len() + value.len() + ENTRY_WEIGHT);
        let words = self.entrypoint.iter().flatten().map(|word| word.len() + ENTRY_WEIGHT);
        pairs.chain(words).fold(0, usize::saturating_add)
    }
}

/// What has become of an object's container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It runs, although the object's code has not started it since it last ended.
    Running,
    /// It does not run any more, or a start has come to nothing.
    Ended(Ended),
}

/// How a container came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// It ended with this code.
    Exited(i32),
    /// This signal ended it, also the one of `Order::Destroy`.
    Signalled(u8),
    /// Berth itself ended it, such as for a new version or because its node goes: with this code.
    Stopped(i32),
    /// It could not be started, for this reason.
    NotStarted(String),
    /// It is gone in another way.
    Lost(String),
}

impl Ended {
    /// The code, where there is one: of a signal, as shells have it.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Exited(code) | Self::Stopped(code) => Some(*code),
            Self::Signalled(signal) => Some(128 + i32::from(*signal)),
            Self::NotStarted(_) | Self::Lost(_) => None,
        }
    }

    /// What waiting for the end fails with; `None`: it does not fail.
    pub fn failure(&self) -> Option<String> {
        match (self, self.code()) {
            (Self::NotStarted(why) | Self::Lost(why), _) => Some(why.clone()),
            (Self::Stopped(code), _) => Some(format!("runtime signalled the container to exit: {code}")),
            (_, None | Some(0)) => None,
            (_, Some(code)) => Some(format!("Container exited with unexpected exit code: {code}")),
        }
    }
}
