//! The versions of an app as people and programs see them.

use berth_common::ids::Version;
use berth_store::AppHistory;
use serde::Serialize;
use utoipa::ToSchema;

/// A version, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct VersionView {
    #[schema(value_type = u64, minimum = 1)]
    pub(crate) version: Version,
    /// When it was deployed, in milliseconds since 1970.
    pub(crate) created_ms: u64,
    /// Whether requests are routed by it, and containers started from it.
    pub(crate) current: bool,
    /// How many classes it has.
    pub(crate) classes: usize,
    /// How many routes it has.
    pub(crate) routes: usize,
}

/// All versions, the newest first.
pub(crate) fn views(history: &AppHistory) -> Vec<VersionView> {
    let kept = history.kept().rev();
    kept.map(|(known, current)| VersionView {
        version: known.version,
        created_ms: known.created_ms,
        current,
        classes: known.spec.classes.len(),
        routes: known.spec.routes.len(),
    })
    .collect()
}
