//! Runs an app's JavaScript: events go in, effects come out.

pub mod clone;
pub mod isolate;
pub mod message;
pub mod process;
mod raw;
pub mod web;
