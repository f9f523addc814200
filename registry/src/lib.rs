//! The images of an edge: stored by digest (`content`), named and garbage-collected (`images`), served to registry
//! clients (`server`), and moved from and to other registries (`remote`), on connections whose addresses are checked
//! (`web`). And the files of apps, stored by digest beside them (`files`).
//!
//! Does not know objects, nodes, the engine, or how secrets are stored: it gets logins for other registries through
//! [`remote::Logins`], and verifies tokens through [`server::TokenLookup`].

pub mod content;
pub mod files;
pub mod images;
pub mod remote;
pub mod server;
pub mod sessions;
pub mod web;
