//! What all that an agent does shares: the node's runtime, its images, its tables and its counts. Knows nothing of who uses it.

use std::rc::Rc;

use berth_common::ids::NodeId;
use berth_common::lifecycle::Lifecycle;
use tokio::sync::Semaphore;

use crate::images::Images;
use crate::instances::Instances;
use crate::metrics::Counts;
use crate::runtime::Runtime;
use crate::sessions::Sessions;

/// What all connections share.
pub(crate) struct Agent<R: Runtime> {
    pub(crate) node: NodeId,
    pub(crate) region: Option<String>,
    pub(crate) runtime: R,
    pub(crate) images: Rc<Images>,
    pub(crate) instances: Instances<R::Container>,
    pub(crate) sessions: Sessions,
    pub(crate) tunnels: Semaphore,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) counts: Counts,
}
