//! The call that reads what instances have written, and its answers.
//!
//! The output of one instance is a sequence of bytes that only grows at its end; places in it are counted from its
//! beginning, also where the oldest are not kept any more. So a reader whose connection was lost goes on exactly where
//! it was.

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, InstanceId, ObjectId, ObjectKey};

/// Most places that a reader may name: with them a call stays far below the size of a frame.
pub const MAX_LOG_PLACES: usize = 4096;
/// Most lines that a reader may ask back for.
pub const MAX_LOG_TAIL: u32 = 10_000;

/// Asks for the output of instances of this edge, also of ended ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadLogs {
    /// Of which.
    pub of: LogsOf,
    /// Only from this moment on, in milliseconds since 1970.
    #[serde(default)]
    pub since_ms: u64,
    /// Only the last lines, so many of all together.
    #[serde(default)]
    pub tail: Option<u32>,
    /// Whether to go on with what is written later.
    #[serde(default)]
    pub follow: bool,
    /// Where an earlier call came to: of these instances everything behind these places is wanted.
    #[serde(default)]
    pub after: Vec<LogPlace>,
}

/// Whose output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogsOf {
    /// One object's.
    Object(ObjectId),
    /// That of all classes of an app.
    App(AppName),
}

impl LogsOf {
    /// Whether an object's output is meant.
    pub fn wants(&self, key: &ObjectKey) -> bool {
        match self {
            Self::Object(id) => key.id() == *id,
            Self::App(app) => key.app == *app,
        }
    }
}

/// A place in the output of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlace {
    /// The instance.
    pub instance: InstanceId,
    /// Bytes from the beginning of what was kept of its output.
    pub at: u64,
}

/// Some lines, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogBatch {
    /// The lines.
    pub records: Vec<LogRecord>,
    /// All that was there has been sent: where each instance's output ended. Sent once, before what is written later.
    #[serde(default)]
    pub caught_up: Option<Vec<LogPlace>>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// When it was read from the app, in milliseconds since 1970, by the node's clock.
    pub time_ms: u64,
    /// The object.
    pub object: ObjectKey,
    /// The instance of it.
    pub instance: InstanceId,
    /// What it was written to.
    pub stream: LogStream,
    /// The text without its line break; what is no UTF-8 has been replaced.
    pub text: String,
    /// The place behind it.
    pub next: u64,
}

/// What a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Nothing: it is a remark of Berth's own, such as that lines are missing.
    Berth,
    /// One that a newer version knows.
    #[serde(other)]
    Other,
}

impl LogStream {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Berth => "berth",
            Self::Other => "other",
        }
    }

    /// The one with this name.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        [Self::Stdout, Self::Stderr, Self::Berth].into_iter().find(|known| known.name().as_bytes() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_an_older_edge_and_a_stream_of_a_newer_agent_are_read() {
        let read: ReadLogs = serde_json::from_str(r#"{"of":{"app":"a"},"newer":1}"#).unwrap();
        assert_eq!((read.since_ms, read.tail, read.follow, read.after.len()), (0, None, false, 0));
        assert_eq!(serde_json::from_str::<LogStream>("\"stdlog\"").unwrap(), LogStream::Other);
    }

    #[test]
    fn the_longest_call_fits_a_frame() {
        let place = LogPlace { instance: InstanceId::from_bytes([255; 16]), at: u64::MAX };
        let after = vec![place; MAX_LOG_PLACES];
        let of = LogsOf::App("a".repeat(63).parse().unwrap());
        let call = ReadLogs { of, since_ms: u64::MAX, tail: Some(u32::MAX), follow: true, after };
        assert!(crate::wire::frame::encode(&call).unwrap().len() < crate::wire::frame::MAX_FRAME_BYTES / 2);
    }
}
