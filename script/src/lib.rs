//! Runs an app's JavaScript: events go in, effects come out.

pub mod message;
