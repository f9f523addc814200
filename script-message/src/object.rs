//! Objects: who they are, what is stored of them, and what calls of their methods carry.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_bytes::ByteBuf;

use super::{Request, Response};

/// Most bytes of what is stored of one object, keys, values and pages together. All of it is in the isolate's memory while the
/// object is there: a quarter of what an isolate has unless something else is said.
pub const STATE_BYTES: usize = 32 << 20;

/// Most bytes that one piece of stored state or of a commit has: what waits behind it on the socket does not wait long.
pub const STATE_PIECE_BYTES: usize = 256 << 10;

/// Most bytes of one object's changes on their way, with all that stands around keys and values.
pub const CHANGES_BYTES: usize = STATE_BYTES + (STATE_BYTES >> 2);

/// Most entries, and most pages, of one object's changes on their way: as many as may be stored of one, as each weighs this much
/// at least. In memory each is some fifty bytes, however few it is on its way.
pub const CHANGES_PARTS: usize = CHANGES_BYTES / PART_BYTES;

/// What an entry or a page that is stored weighs besides its bytes, in bytes.
pub const PART_BYTES: usize = 64;

/// Most bytes of a call's arguments, and of its result: they go in one message, and longer ones are refused.
pub const RPC_BYTES: usize = 256 << 10;

/// The name of an object, of 64 hexadecimal digits where people see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId(pub [u8; 32]);

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl ObjectId {
    /// The id of exactly 64 hexadecimal digits.
    pub fn parse(digits: &str) -> Option<Self> {
        let digits = digits.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// An object, as a message about it needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// The name that its class is exported by.
    pub class: String,
    /// Its id.
    pub id: ObjectId,
    /// The name that its id was made of, if it was made of one.
    pub name: Option<String>,
}

/// A class whose instances are objects.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectClass {
    /// The name that it is exported by.
    pub name: String,
    /// What ids of its objects are made and recognised with. The same for ever, also when the class is renamed; known to no other
    /// app.
    pub key: [u8; 32],
    /// Whether each of its objects has a container.
    pub container: bool,
}

impl fmt::Debug for ObjectClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectClass").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is different in what is stored of an object; of an object that nothing is stored of, all that is. Keys and values first, then
/// pages, then their count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Whether all keys that were there go, before anything else.
    pub clear: bool,
    /// Keys with their new values; without one, the key goes.
    #[serde(deserialize_with = "parts")]
    pub entries: Vec<(String, Option<ByteBuf>)>,
    /// Pages of the object's database with their new content, counted from 0.
    #[serde(deserialize_with = "parts")]
    pub pages: Vec<(u32, ByteBuf)>,
    /// How many pages the database has now; those beyond go. `None`: as many as before.
    pub page_count: Option<u32>,
    /// When its alarm is due, in milliseconds since 1970; inside that, `None` is that it has none. `None`: as before.
    pub alarm: Option<Option<u64>>,
}

impl Changes {
    /// As bytes, to be sent in pieces. More than could be read from them is an error.
    pub fn to_bytes(&self) -> Result<Vec<u8>, postcard::Error> {
        if self.entries.len().max(self.pages.len()) > CHANGES_PARTS {
            return Err(postcard::Error::SerializeBufferFull);
        }
        postcard::to_stdvec(self)
    }

    /// Of all pieces together.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, postcard::Error> {
        let (changes, rest) = postcard::take_from_bytes(bytes)?;
        if rest.is_empty() { Ok(changes) } else { Err(postcard::Error::DeserializeBadEncoding) }
    }

    /// Whether nothing is different.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads no more entries, or pages, than there can be: what comes may say that it has a great many of no length.
fn parts<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    struct BoundedList<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for BoundedList<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {CHANGES_PARTS} parts")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<T>, A::Error> {
            let mut parts = Vec::new();
            while let Some(part) = from.next_element()? {
                if parts.len() == CHANGES_PARTS {
                    return Err(serde::de::Error::invalid_length(parts.len() + 1, &self));
                }
                parts.push(part);
            }
            Ok(parts)
        }
    }
    from.deserialize_seq(BoundedList(PhantomData))
}

/// What an edge says when it is asked for an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opened {
    /// The next bytes of its stored state; more follow.
    Part(ByteBuf),
    /// The last bytes. The object is here from now on, and nowhere else.
    Whole {
        /// The call that stands for its life: what it does besides answering is done in this.
        life: super::EventId,
        /// The last bytes of its stored state: `Changes` that nothing was there before.
        rest: ByteBuf,
        /// Whether its container runs now; of a class without, false.
        running: bool,
    },
    /// It is on another thread or edge: calls of it are to be sent to the edge.
    Elsewhere,
    /// It cannot be had.
    Failed(super::ScriptError),
}

/// An argument of a method, or what it returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Argument {
    /// A structured clone.
    Value(ByteBuf),
    /// A `Request`, whose body may flow.
    Request(Box<Request>),
    /// A `Response`.
    Response(Box<Response>),
}

impl Argument {
    /// Bytes of the message that it takes up, but for a body of its own.
    pub fn weight(&self) -> usize {
        let head =
            |headers: &super::Headers| headers.iter().map(|(a, b)| a.len() + b.len() + 8).sum::<usize>();
        match self {
            Self::Value(bytes) => bytes.len(),
            Self::Request(request) => request.weight(),
            Self::Response(response) => {
                let body = if let super::BodyRef::Bytes(bytes) = &response.body { bytes.len() } else { 0 };
                head(&response.headers) + response.status_text.len() + body
            }
        }
    }
}
