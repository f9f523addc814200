//! What a request holds while it is activity of its object.

use super::load::LoadGuard;
use crate::metrics::InFlight;
use crate::shard::objects::Hold;

/// A request's hold on an instance, with its share of the counters. They end together.
#[derive(Default)]
#[expect(dead_code, reason = "what is in it ends with it")]
pub(crate) struct Claim {
    /// None for requests of programs, whose object holds its instance itself.
    pub(crate) hold: Option<Hold>,
    /// Its share of the object's load, if the route balances load.
    pub(crate) load: Option<LoadGuard>,
    /// Its share of the requests in flight.
    pub(crate) in_flight: Option<InFlight>,
}
