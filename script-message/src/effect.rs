//! What a script tells its edge.

use serde::{Deserialize, Serialize};

use serde_bytes::ByteBuf;

use super::container::Order;
use super::{Argument, EventId, HostBody, Object, ObjectId, OpId, Piece, Request, Response, ScriptBody};

/// A message from a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// The modules have run; the script takes events.
    Loaded(Loaded),
    /// They could not be run.
    LoadFailed(LoadFailed),
    /// A handler's answer to a request.
    Responded(EventId, Box<Response>),
    /// A handler failed, before it answered.
    Failed(EventId, ScriptError),
    /// All that belongs to a call is done: its answer was given, or it had none to give; what it wanted to have waited for has
    /// settled; the bodies that it makes have ended.
    Done {
        /// The call.
        event: EventId,
        /// The CPU time that it used and that was not told before, in microseconds; with that of its object, and of what is no call's.
        cpu_us: u64,
    },
    /// CPU time that was used and that the end of no call has told, in microseconds. No time is told twice.
    Used(u64),
    /// A handler wants a request made; a redirect is an answer.
    Fetch {
        /// Its name from here on.
        op: OpId,
        /// The call that wants it.
        event: EventId,
        /// Where to.
        destination: Destination,
        /// The request.
        request: Box<Request>,
    },
    /// A handler has lost interest in what it asked for.
    Cancel(OpId),
    /// A piece of a body that the script makes.
    Body(ScriptBody, Piece),
    /// The script takes this many further bytes of a body: at least one.
    Credit(HostBody, u32),
    /// The script does not want more of a body.
    Cancelled(HostBody),
    /// A line for the log.
    Log {
        /// The call in which it was written, if it was in one.
        event: Option<EventId>,
        /// How grave it is.
        level: Level,
        /// The line.
        text: String,
    },
    /// The isolate is lost, and with it all that was going on in it; it waits for `Load`.
    Condemned(Condemned),
    /// The answer to `Ping`.
    Pong(u64),
    /// A sign of life in the middle of a long calculation.
    Beat,
    /// A handler wants a method of an object called that is not here.
    Rpc {
        /// Its name from here on.
        op: OpId,
        /// The call that wants it.
        event: EventId,
        /// Whose method.
        object: Box<Object>,
        /// Its name.
        method: String,
        /// The arguments, of at most `RPC_BYTES`.
        args: Vec<Argument>,
    },
    /// What a method has returned.
    Returned(EventId, Argument),
    /// An object is wanted here, with all that is stored of it.
    Open(Box<Object>),
    /// Bytes of an object's next changes; with the last, all of them are to be made durable together.
    Commit {
        /// Whose.
        object: ObjectId,
        /// Its number, counted from 1 since the object was opened.
        sequence: u64,
        /// The next bytes of `Changes`.
        piece: ByteBuf,
        /// Whether they are the last.
        last: bool,
    },
    /// An object is not here any more, and all that it was doing has failed; what it had not committed is lost.
    Reset(ObjectId, ScriptError),
    /// An object is not here any more, because it was to go and nothing went on in it.
    Dropped(ObjectId),
    /// What an object wants of its container.
    Container(ObjectId, Order),
    /// The script opens a WebSocket that the edge has; what it sends there flows as this body.
    Socket(HostBody, ScriptBody),
}

/// CPU time that a script tells of by itself, in microseconds: at least this, but for the rest when it ends.
pub const USED_STEP_US: u64 = 100_000;

/// What the entry module exports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// The names of the default export's handlers.
    pub handlers: Vec<String>,
    /// The names of exported classes.
    pub classes: Vec<String>,
}

/// Why modules could not be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadFailed {
    /// What is wrong.
    pub error: ScriptError,
    /// The module where, if that is known.
    pub module: Option<String>,
    /// The line in it, from 1.
    pub line: Option<u32>,
    /// The column in it, from 1.
    pub column: Option<u32>,
}

/// An error as JavaScript has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptError {
    /// Its kind, such as `TypeError`.
    pub name: String,
    /// What it says.
    pub message: String,
    /// Where it came from; the first line has name and message.
    pub stack: String,
    /// What programs look at besides.
    pub flags: ErrorFlags,
    /// What was thrown, as a clone, for the code that catches it.
    pub thrown: Option<ByteBuf>,
}

/// Properties of an error by which programs decide what to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorFlags {
    /// `durableObjectReset`: the object that was called has been reset.
    pub reset: bool,
    /// `remote`: it was thrown by the code that was called.
    pub remote: bool,
    /// `retryable`: the same call may succeed.
    pub retryable: bool,
    /// `overloaded`: it was not begun, since too much waits.
    pub overloaded: bool,
}

impl ScriptError {
    /// An error of this kind that came from no script.
    pub fn new(name: &str, message: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            message: message.into(),
            stack: String::new(),
            flags: ErrorFlags::default(),
            thrown: None,
        }
    }

    /// With these properties.
    pub fn with(mut self, flags: ErrorFlags) -> Self {
        self.flags = flags;
        self
    }
}

impl std::fmt::Display for ScriptError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

/// Why an isolate is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condemned {
    /// It wanted more memory than it may have.
    Memory,
    /// An event used up its CPU time, and what it left behind would have gone on.
    Cpu,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// To the host of its URL.
    Outside,
    /// To the app's static assets.
    Assets,
    /// To an object that is not here.
    Object(Box<Object>),
    /// To a port of an object's container, in plain HTTP.
    Port {
        /// Whose container.
        object: ObjectId,
        /// The port, from 1.
        port: u16,
        /// Whether the request asks for a WebSocket.
        upgrade: bool,
    },
}

/// How grave a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// `console.debug`
    Debug,
    /// `console.log`
    Log,
    /// `console.info`
    Info,
    /// `console.warn`
    Warn,
    /// `console.error`, and errors that nobody caught
    Error,
}
