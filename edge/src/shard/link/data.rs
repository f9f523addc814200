//! The data connection of a session: dialled once the node has welcomed the session, attached to it, and closed with it.
//! Tunnels and questions about instances flow there, so that no tenant can delay the calls of the session itself.

use berth_common::wire::attach::{Attach, AttachKey};
use berth_common::wire::call::{Answer, Call, Hello};
use berth_common::wire::close;
use quinn::{Connection, Endpoint, VarInt};

use super::call::{self, CallError};
use super::session::SessionError;
use super::{DIAL_TIMEOUT, DialError, dial};

/// Where and how a data connection is dialled.
#[derive(Clone)]
pub(super) struct DataDial {
    pub(super) endpoint: Endpoint,
    pub(super) config: quinn::ClientConfig,
    pub(super) address: String,
}

/// A session's data connection. Dropping it closes it.
pub(super) struct DataConnection(Connection);

impl DataConnection {
    /// Dials, and attaches the connection to the session that was welcomed with this key.
    pub(super) async fn attach(
        dial_to: DataDial,
        hello: Hello,
        key: AttachKey,
    ) -> Result<Self, SessionError> {
        let DataDial { endpoint, config, address } = dial_to;
        let dialled = tokio::time::timeout(DIAL_TIMEOUT, dial(endpoint, config, address)).await;
        let connection = Self(dialled.unwrap_or(Err(DialError::TimedOut)).map_err(SessionError::Data)?);
        let Hello { edge, epoch, shard, session, .. } = hello;
        let failed = |error| SessionError::Call { call: "attach", error };
        match call::ask(&connection.0, &Call::Attach(Attach { edge, epoch, shard, session, key })).await {
            Ok(Answer::Done) => Ok(connection),
            Ok(Answer::Refused(refusal)) => Err(SessionError::Refused { call: "attach", refusal }),
            Ok(_) => Err(failed(CallError::Unexpected)),
            Err(error) => Err(failed(error)),
        }
    }

    pub(super) fn get(&self) -> &Connection {
        &self.0
    }
}

impl Drop for DataConnection {
    fn drop(&mut self) {
        self.0.close(VarInt::from_u32(close::SHUTDOWN), b"the session is over");
    }
}
