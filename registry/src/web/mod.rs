//! Reaches servers of the web: takes their URLs apart, connects to addresses that may be reached and to no others, with TLS
//! where the URL says so. Knows nothing of what is said there.

mod address;
mod connector;
mod url;

pub use self::connector::{Connector, PlainTo, WebError};
pub use self::url::WebAddress;
