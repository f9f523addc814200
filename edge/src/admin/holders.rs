//! Which nodes hold an image, and how a deployment waits for them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use berth_api::apps::PREFETCH_TIMEOUT;
use berth_api::images::{Holder, HolderList, HolderState};
use berth_common::ids::NodeId;
use berth_common::image::Digest;
use berth_common::spec::AppSpec;
use berth_common::wire::images::ImageState;

use super::Admin;
use super::problem::{Denied, Problem};
use super::read;
use crate::delivery::{Goal, ImageOnNode, Pending, PrefetchError};

/// Longest wait of a deployment for nodes.
const MAX_PREFETCH_TIMEOUT: Duration = Duration::from_secs(3600);

/// How many nodes must hold an app's images before a version becomes current, and how long that may take.
#[derive(Debug)]
pub(super) struct Prefetch {
    goal: Option<Goal>,
    timeout: Duration,
}

impl Prefetch {
    /// Parses the parameters of a request: `all`, `none` or a number, and milliseconds.
    pub(super) fn parse(goal: Option<&str>, timeout_ms: Option<u64>) -> Result<Self, Problem> {
        let timeout = timeout_ms.map_or(PREFETCH_TIMEOUT, Duration::from_millis);
        if timeout > MAX_PREFETCH_TIMEOUT {
            return Err(wrong("prefetch_timeout_ms", "is more than an hour"));
        }
        let goal = match goal {
            None | Some("all") => Some(Goal::All),
            Some("none" | "0") => None,
            Some(number) => {
                let least = number.parse();
                Some(Goal::AtLeast(
                    least.map_err(|_| wrong("prefetch", "is neither `all` nor `none` nor a number"))?,
                ))
            }
        };
        Ok(Self { goal, timeout })
    }

    /// Has the nodes fetch an app's images, and waits for that. Pass the result to [`Delivery::settle`] once the
    /// version is current.
    ///
    /// [`Delivery::settle`]: crate::delivery::Delivery::settle
    pub(super) async fn wait(&self, admin: &Admin, app: &AppSpec) -> Result<Option<Pending>, Problem> {
        match self.goal {
            Some(goal) => Ok(Some(admin.delivery.prefetch(app, goal, self.timeout).await?)),
            None => Ok(None),
        }
    }
}

fn wrong(field: &str, message: &str) -> Problem {
    Problem::field(StatusCode::BAD_REQUEST, read::NOT_READ, field, message)
}

impl From<PrefetchError> for Problem {
    fn from(error: PrefetchError) -> Self {
        let status = match error {
            PrefetchError::Failed { .. } => StatusCode::BAD_GATEWAY,
            PrefetchError::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        };
        let detail = format!(
            "{error}. Nothing was changed; `prefetch` (berth deploy --wait-for) says how many nodes are waited for"
        );
        Self::new(status, "the nodes do not hold the app's images", detail)
    }
}

fn holder(node: String, image: ImageOnNode) -> Holder {
    let ImageOnNode { connected, state } = image;
    let (state, done, total, message) = match state {
        _ if !connected => (HolderState::Away, 0, 0, None),
        Some(ImageState::Fetching { done_bytes, total_bytes }) => {
            (HolderState::Fetching, done_bytes, total_bytes, None)
        }
        Some(ImageState::Ready) => (HolderState::Ready, 0, 0, None),
        Some(ImageState::Failed { message }) => (HolderState::Failed, 0, 0, Some(message)),
        Some(ImageState::Unknown) | None => (HolderState::Waiting, 0, 0, None),
    };
    Holder { node, state, done, total, message }
}

/// Shows how far each node is with fetching an image.
#[utoipa::path(get, path = "/v1/images/{digest}/nodes", tag = "images",
    params(("digest" = String, Path, pattern = "^sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})$", description = "Of its manifest or index")),
    responses((status = 200, body = HolderList), Denied,
        (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn of_image(
    State(admin): State<Arc<Admin>>,
    Path(digest): Path<String>,
) -> Result<Json<HolderList>, Problem> {
    let digest: Digest = read::name("digest", &digest)?;
    let of = |node: NodeId| holder(node.to_string(), admin.delivery.inventory().of(&node, &digest));
    Ok(Json(HolderList { nodes: admin.nodes.names().into_iter().map(of).collect() }))
}
