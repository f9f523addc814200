//! Runs an app's JavaScript: events go in, effects come out.

pub mod clone;
mod raw;
pub mod web;
