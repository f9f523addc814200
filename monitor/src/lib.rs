//! What a daemon shows of itself: counts that are cheap to keep (`cells`), the page that Prometheus reads (`page`),
//! what the kernel knows of the process (`process`), and the small HTTP server that shows all of it with health and
//! readiness (`server`).
//!
//! Knows nothing of what is counted: which metrics there are, and when a daemon is ready, is the daemons' own.

pub mod cells;
pub mod page;
pub mod process;
pub mod server;

pub use page::{CONTENT_TYPE, Page};
pub use process::Process;
pub use server::{Monitor, Watched};
