//! Who may speak to whom: the app owner's certificate authority, the certificates of edges and agents, and the only
//! place that builds TLS configurations.
//!
//! ```text
//!  Authority ── issue ──▶ leaf: URI SAN berth://edge/NAME  (clientAuth)   ─┐
//!     ca.key         └──▶ leaf: URI SAN berth://agent/NAME (serverAuth)   ─┤
//!                                                                          ▼
//!  Credentials::load ──▶ client_config (edge: expects one node) · server_config (agent: takes any edge)
//! ```
//!
//! Both sides check the chain to the CA, the role and, where one is expected, the name. TLS 1.3 only, no session
//! resumption and no early data, so that every connection is a full check. For servers of the web there is a
//! configuration of its own (`web_client_config`). Knows nothing of QUIC or of what is sent.

mod authority;
mod credentials;
mod directory;
mod files;
mod identity;
mod lifetime;
mod request;
mod revoked;
mod tls;
mod verify;
mod web;

pub use authority::{Authority, AuthorityError, Issued, MAX_VALIDITY_DAYS, Validity};
pub use credentials::{Credentials, LoadError};
pub use directory::{Certificate, certificates_in};
pub use files::FileError;
pub use identity::{Identity, IdentityError, Role, issued_at_s, peer_identity};
pub use lifetime::Lifetime;
pub use request::{Request, RequestError, Requested};
pub use revoked::{KeyHash, NoKeyHash};
pub use tls::{SERVER_NAME, client_config, server_config};
pub use web::{NoAuthorities, web_client_config, web_client_config_with};
