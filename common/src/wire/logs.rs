//! The call that reads the output of instances, and its answers.
//!
//! The output of one instance is a sequence of bytes that only grows at its end. Offsets in it are counted from its
//! beginning, also when the oldest bytes were removed. So a reader whose connection was lost can resume exactly where
//! it was.

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, InstanceId, ObjectId, ObjectKey};

/// Most offsets that a reader may name: with them a call stays far below the size of a frame.
pub const MAX_LOG_PLACES: usize = 4096;
/// Most last lines that a reader may ask for.
pub const MAX_LOG_TAIL: u32 = 10_000;

/// Asks for the output of instances of this edge, including ended ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadLogs {
    /// Whose output.
    pub of: LogsOf,
    /// Only lines from this time on, in milliseconds since 1970.
    #[serde(default)]
    pub since_ms: u64,
    /// Only this many last lines, of all instances together.
    #[serde(default)]
    pub tail: Option<u32>,
    /// Whether to continue with lines that are written later.
    #[serde(default)]
    pub follow: bool,
    /// The offsets where an earlier call ended: of these instances, everything after them is read.
    #[serde(default)]
    pub after: Vec<LogPlace>,
}

/// The scope of the output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogsOf {
    /// One object.
    Object(ObjectId),
    /// All classes of an app.
    App(AppName),
}

impl LogsOf {
    /// Whether an object's output is included.
    pub fn wants(&self, key: &ObjectKey) -> bool {
        match self {
            Self::Object(id) => key.id() == *id,
            Self::App(app) => key.app == *app,
        }
    }
}

/// An offset in the output of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlace {
    /// The instance.
    pub instance: InstanceId,
    /// Bytes from the beginning of its output.
    pub at: u64,
}

/// Some lines, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogBatch {
    /// The lines.
    pub records: Vec<LogRecord>,
    /// Set once, when all existing output has been sent and before later lines: the offset of each instance's end.
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
    /// The stream that it was written to.
    pub stream: LogStream,
    /// The text without its line break; invalid UTF-8 is replaced.
    pub text: String,
    /// The offset after it.
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

    /// The stream with this name.
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
