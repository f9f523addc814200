//! The state that all parts of the agent share: the node's runtime, images, tables and counters. Knows nothing of its
//! users.

use std::collections::BTreeMap;
use std::rc::Rc;

use berth_common::ids::NodeId;
use berth_common::lifecycle::Lifecycle;

use crate::images::Images;
use crate::instances::Instances;
use crate::metrics::Counts;
use crate::runtime::Runtime;
use crate::sessions::Sessions;
use crate::terms::Terms;
use crate::tunnels::Tunnels;

/// The state that all connections share.
pub(crate) struct Agent<R: Runtime> {
    pub(crate) node: NodeId,
    pub(crate) region: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// How many instances an edge may have it start at once.
    pub(crate) starts_at_once: u32,
    pub(crate) runtime: R,
    pub(crate) images: Rc<Images>,
    pub(crate) instances: Instances<R::Container>,
    pub(crate) sessions: Sessions,
    pub(crate) terms: Terms,
    pub(crate) tunnels: Tunnels,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) counts: Counts,
}
