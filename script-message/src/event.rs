//! What an edge tells a script.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::container::Change;
use super::{
    Argument, BodyRef, EventId, Headers, HostBody, Object, ObjectClass, ObjectId, OpId, Opened, Piece,
    ScriptBody, ScriptError,
};

/// A message to a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The code to run, first of all; again after the script was condemned.
    Load(Box<Load>),
    /// A request.
    Fetch {
        /// The call that this begins.
        event: EventId,
        /// Who is to answer.
        target: Target,
        /// What is asked.
        request: Box<Request>,
    },
    /// A cron is due.
    Scheduled {
        /// The call that this begins.
        event: EventId,
        /// The cron's expression.
        cron: String,
        /// When it was due, in milliseconds since 1970.
        time_ms: u64,
    },
    /// The client of a call has gone. What the handler asked to have waited for goes on.
    Aborted(EventId),
    /// What a script asked for has come to this.
    Completed {
        /// What was asked for.
        op: OpId,
        /// What it came to.
        outcome: Outcome,
    },
    /// A piece of a body that the script reads.
    Body(HostBody, Piece),
    /// The reader of a script's body takes this many further bytes.
    Credit(ScriptBody, u32),
    /// Nobody reads a script's body any more. The script ends it, as if it had come to its end.
    Cancelled(ScriptBody),
    /// Whether the script still takes messages; the answer has the same number.
    Ping(u64),
    /// A method of an object is called.
    Rpc {
        /// The call that this begins.
        event: EventId,
        /// Whose method.
        object: Box<Object>,
        /// Its name.
        method: String,
        /// The arguments.
        args: Vec<Argument>,
    },
    /// An object's alarm is due.
    Alarm {
        /// The call that this begins.
        event: EventId,
        /// Whose alarm.
        object: Box<Object>,
        /// When it was due, in milliseconds since 1970.
        scheduled_ms: u64,
        /// How many times it failed before.
        retry: u32,
    },
    /// What a method came to that a script called.
    Returned {
        /// What was asked for.
        op: OpId,
        /// What it returned.
        outcome: Result<Argument, ScriptError>,
    },
    /// What comes of having asked for an object.
    Opened(ObjectId, Opened),
    /// An object's changes up to this number are durable.
    Committed(ObjectId, u64),
    /// An object's changes of this number cannot be made durable: it is reset.
    CommitFailed(ObjectId, u64),
    /// An object is to go: at once, with this reason, or, without one, if nothing goes on in it.
    Drop(ObjectId, Option<ScriptError>),
    /// Objects in which nothing goes on, and nothing has begun for so long, are to go.
    Rest {
        /// How long, in milliseconds.
        idle_ms: u32,
    },
    /// What has become of an object's container since the object was opened.
    Container(ObjectId, Change),
    /// A WebSocket whose outgoing body this is, which the script gave away: what comes to it flows as that body. Said before anything
    /// else about it.
    Socket(ScriptBody, HostBody),
}

/// Who answers a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The default export of the entry module.
    Worker,
    /// An object.
    Object(Box<Object>),
}

/// An app's code and what it is run with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// All modules; nothing else can be imported.
    pub modules: Vec<Module>,
    /// Which import means which module. One that is not here fails.
    pub resolutions: Vec<Resolution>,
    /// The name of the module whose exports are the handlers.
    pub entry: String,
    /// What handlers find in `env`, in this order.
    pub env: Vec<(String, Variable)>,
    /// The day, as `2026-01-31`, of which the platform's behaviour is meant.
    pub compatibility_date: String,
    /// Compatibility flags.
    pub flags: Vec<String>,
    /// The classes whose instances are objects.
    pub objects: Vec<ObjectClass>,
    /// What the script may use.
    pub limits: Limits,
}

/// A module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// As stack traces show it.
    pub name: String,
    /// JavaScript, an ES module.
    pub source: String,
}

/// What an import means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// The name of the module that imports.
    pub importer: String,
    /// As it stands in the source.
    pub specifier: String,
    /// The name of the module that is meant.
    pub module: String,
}

/// A value of `env`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Variable {
    /// A string.
    Text(String),
    /// The JSON of a value.
    Json(String),
    /// The app's static files: what has `fetch`.
    Assets,
    /// The namespace of the objects of this class.
    Objects(String),
    /// A secret of a store: its value, or what to say to whoever asks for it.
    StoreSecret(Result<String, String>),
}

/// Leaves values out: they may be secrets.
impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::Json(_) => f.write_str("Json(…)"),
            Self::Assets => f.write_str("Assets"),
            Self::Objects(class) => f.debug_tuple("Objects").field(class).finish(),
            Self::StoreSecret(Ok(_)) => f.write_str("StoreSecret(…)"),
            Self::StoreSecret(Err(reason)) => f.debug_tuple("StoreSecret").field(reason).finish(),
        }
    }
}

/// What one isolate may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of JavaScript's values, in bytes.
    pub memory_bytes: u64,
    /// CPU time of one event, in milliseconds.
    pub cpu_ms: u32,
    /// CPU time of the modules' top level, in milliseconds.
    pub startup_ms: u32,
    /// What one event may ask of the edge.
    pub subrequests: u32,
}

impl Default for Limits {
    /// As of the platform that Berth follows.
    fn default() -> Self {
        Self { memory_bytes: 128 << 20, cpu_ms: 30_000, startup_ms: 1000, subrequests: 1000 }
    }
}

/// A request, to a handler or from one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The absolute URL.
    pub url: String,
    /// The header fields.
    pub headers: Headers,
    /// The body.
    pub body: BodyRef,
}

/// Requests that one script may have made without an answer yet.
pub const MAX_OPS: usize = 10_000;

/// What they may weigh together, in bytes: the edge keeps each until it is sent.
pub const MAX_OPS_WEIGHT: usize = 32 << 20;

/// What a header field weighs besides its bytes.
const FIELD_WEIGHT: usize = 128;

impl Request {
    /// About how many bytes it takes up.
    pub fn weight(&self) -> usize {
        let field = |(name, value): &(String, String)| name.len() + value.len() + FIELD_WEIGHT;
        let body = if let BodyRef::Bytes(bytes) = &self.body { bytes.len() } else { 0 };
        let head = self.method.len() + self.url.len();
        self.headers.iter().map(field).fold(head + body + FIELD_WEIGHT, usize::saturating_add)
    }
}

/// A response, from a handler or to one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The reason phrase, mostly empty.
    pub status_text: String,
    /// The header fields.
    pub headers: Headers,
    /// The body. With the status 101, what comes over a WebSocket.
    pub body: BodyRef,
}

/// What came of something that a script asked for.
pub type Outcome = Result<Response, ScriptError>;
