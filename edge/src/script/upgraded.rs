//! A connection that an answer of status 101 has become: bytes both ways. It is in the answer's extensions, and taken once.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The server's side of an upgraded connection, directly behind its 101. Clones share it.
#[derive(Clone)]
pub(crate) struct Upgraded(Arc<Mutex<Option<Box<dyn Stream>>>>);

impl Upgraded {
    /// What is read comes from the server, what is written goes there. What the server sent together with its 101 is read first.
    pub(crate) fn new(stream: impl Stream + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(stream)))))
    }

    /// The connection, the first time.
    pub(crate) fn take(&self) -> Option<Box<dyn Stream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_taken_once_whichever_clone_is_asked() {
        let mut response = http::Response::new(());
        response.extensions_mut().insert(Upgraded::new(tokio::io::duplex(1).0));
        let (parts, ()) = response.into_parts();
        let found = parts.extensions.get::<Upgraded>().cloned().unwrap();
        assert!(found.take().is_some());
        assert!(parts.extensions.get::<Upgraded>().unwrap().take().is_none());
    }
}
