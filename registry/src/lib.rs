//! The images of an edge: kept by their digests (`content`), named in the store and ended when nobody needs them (`images`),
//! served to clients of registries (`server`), and moved from and to other registries (`remote`), on connections that are
//! checked one by one (`web`).
//!
//! Knows nothing of objects, nodes, the engine, and of how secrets are kept: who asks a registry it is told by [`remote::Logins`],
//! and who asks here by [`server::TokenLookup`].

pub mod content;
pub mod images;
pub mod remote;
pub mod server;
pub mod sessions;
pub mod web;
