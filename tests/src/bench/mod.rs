//! What the benches share: peers to compare with, load, and reports. Benches run both sides by turns in one run, so that
//! whatever else the machine does meets both.

pub mod alarms;
pub mod beside_workerd;
pub mod commits;
pub mod latencies;
pub mod nginx;
pub mod podman;
pub mod pull;
pub mod redis;
pub mod report;
pub mod routes;
pub mod sample_image;
pub mod samples;
mod server;
pub mod workerd;
pub mod wrk;
