//! How an instance ended: the types that nodes, edges and the admin API share.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why an instance is no more.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// The app's first process exited by itself.
    Exit,
    /// A signal that Berth did not send ended the app.
    Signal,
    /// The kernel ended it for want of memory.
    Oom,
    /// It was put to sleep after `sleep_after` without activity.
    Idle,
    /// It was stopped on request.
    Stopped,
    /// Its node was drained.
    Drained,
    /// It was destroyed on request.
    Destroyed,
    /// It could not be started, or never opened its port.
    StartFailed,
    /// The process that looked after it on the node is gone, and it was ended with it.
    RuntimeLost,
    /// Its node is gone.
    NodeLost,
    /// A reason that a newer version of Berth knows.
    #[serde(other)]
    Unknown,
}

/// How an instance ended.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Why it ended.
    pub reason: ExitReason,
    /// Exit code of the app's first process, where it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Number of the signal that ended it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What a person should read: what was tried, on what, what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Longest message of an outcome or a refusal, in characters: enough for a reason and what to do. It is stored, shown, and
/// may be another's.
pub const MAX_MESSAGE_CHARS: usize = 2000;

/// A message no longer than it may be; `…` is where the rest was.
pub fn shortened(message: String) -> String {
    match message.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message,
    }
}

impl Outcome {
    /// An end without code or signal, with a message.
    pub fn because(reason: ExitReason, message: impl Into<String>) -> Self {
        Self { reason, code: None, signal: None, message: Some(shortened(message.into())) }
    }

    /// The same with a message that is no longer than it may be.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self { message: self.message.map(shortened), ..self }
    }

    /// The app exited with this code.
    pub fn exited(code: i32) -> Self {
        Self { reason: ExitReason::Exit, code: Some(code), signal: None, message: None }
    }

    /// A signal ended the app.
    pub fn signalled(signal: i32) -> Self {
        Self { reason: ExitReason::Signal, code: None, signal: Some(signal), message: None }
    }
}

/// As people call it.
impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exit => "exited",
            Self::Signal => "killed",
            Self::Oom => "out of memory",
            Self::Idle => "idle",
            Self::Stopped => "stopped",
            Self::Drained => "drained",
            Self::Destroyed => "destroyed",
            Self::StartFailed => "start failed",
            Self::RuntimeLost => "runtime lost",
            Self::NodeLost => "node lost",
            Self::Unknown => "unknown",
        })
    }
}

/// A short text without the message: `exited (code 3)`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "{} (code {code})", self.reason),
            (None, Some(signal)) => write!(f, "{} (signal {signal})", self.reason),
            (None, None) => self.reason.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_a_few_words() {
        assert_eq!(Outcome::exited(3).to_string(), "exited (code 3)");
        assert_eq!(Outcome::signalled(9).to_string(), "killed (signal 9)");
        assert_eq!(Outcome::because(ExitReason::Idle, "x").to_string(), "idle");
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let long = Outcome { message: Some("é".repeat(MAX_MESSAGE_CHARS + 1)), ..Outcome::exited(1) };
        let message = long.bounded().message.unwrap();
        assert_eq!(message.chars().count(), MAX_MESSAGE_CHARS + 1);
        assert!(message.ends_with("é…"));
        let exact = "é".repeat(MAX_MESSAGE_CHARS);
        assert_eq!(shortened(exact.clone()), exact);
    }
}
