//! Runs an app's JavaScript: events go in, effects come out.

pub mod clone;
pub mod isolate;
pub mod process;
mod raw;
pub mod web;

pub use berth_script_message as message;
