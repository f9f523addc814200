//! Monitoring of a daemon: cheap counters (`cells`), the Prometheus page (`page`), process metrics of the kernel
//! (`process`), and the small HTTP server for metrics, health and readiness (`server`).
//!
//! The daemons define their metrics, and when they are healthy and ready.

pub mod cells;
pub mod page;
pub mod process;
pub mod server;

pub use page::{CONTENT_TYPE, Page};
pub use process::Process;
pub use server::{Monitor, Watched};
