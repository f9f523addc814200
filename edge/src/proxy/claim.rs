//! What a request has of its object while it is activity.

use super::load::LoadGuard;
use crate::metrics::InFlight;
use crate::shard::objects::Hold;

/// A request's hold on an instance, and its part of what is counted. They end together.
pub(crate) struct Claim {
    pub(crate) hold: Hold,
    /// Its share of the object's load, where that is counted.
    pub(crate) load: Option<LoadGuard>,
    /// Its part of the requests in flight.
    pub(crate) in_flight: Option<InFlight>,
}
