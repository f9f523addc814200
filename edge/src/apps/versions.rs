//! The versions of an app as the API shows them.

use berth_api::apps::VersionView;
use berth_store::AppHistory;

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
