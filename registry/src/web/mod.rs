//! Connects to servers on the web: parses URLs, and connects only to permitted addresses, with TLS if the URL says so.
//! Does not know the protocol on top.

mod address;
mod connector;
mod url;

pub use self::connector::{Connector, PlainTo, WebError};
pub use self::url::WebAddress;
