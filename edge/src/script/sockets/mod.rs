//! WebSockets of scripts in the edge. One that a script has given away waits here for whoever takes it; one that comes from
//! somewhere else is a connection (`Upgraded`) whose frames nobody looks into, unless a script opens it (`frames`).

pub(crate) mod frames;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use berth_script::message::HostBody;
use futures_util::stream;
use http_body_util::StreamBody;

use super::body::{Word, Words};
use super::{Body, Upgraded};

/// The other end of a script's WebSocket, which somebody may take. Clones share it. Dropped without that, the script is told that
/// it is lost.
#[derive(Clone)]
pub(crate) struct Plug(Arc<Mutex<Waiting>>);

struct Waiting {
    to: HostBody,
    words: Option<Words>,
}

impl Plug {
    /// What comes to the script from the one who takes it flows as `to`.
    pub(super) fn new(to: HostBody, words: Words) -> Self {
        Self(Arc::new(Mutex::new(Waiting { to, words: Some(words) })))
    }

    /// Takes it: these messages go to the script from now on. What the script sends is the body of the response that it was in.
    pub(crate) fn connect(&self, messages: Body) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).connect(messages);
    }
}

impl Waiting {
    fn connect(&mut self, messages: Body) {
        if let Some(words) = self.words.take() {
            words(Word::Plugged(self.to, messages));
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.connect(Body::new(StreamBody::new(stream::iter([Err("nobody has taken it".into())]))));
    }
}

impl fmt::Debug for Plug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plug").finish_non_exhaustive()
    }
}

/// What an answer of status 101 leads to.
#[derive(Debug, Clone)]
pub(super) enum Connection {
    /// A server outside.
    Server(Upgraded),
    /// A script, of this thread or another.
    Script(Plug),
}

impl Connection {
    pub(super) fn of(extensions: &http::Extensions) -> Option<Self> {
        let server = extensions.get().cloned().map(Self::Server);
        server.or_else(|| extensions.get().cloned().map(Self::Script))
    }

    pub(super) fn put_into(self, extensions: &mut http::Extensions) {
        match self {
            Self::Server(upgraded) => drop(extensions.insert(upgraded)),
            Self::Script(plug) => drop(extensions.insert(plug)),
        }
    }
}
