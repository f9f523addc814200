//! Why an object's container is where it is, and which nodes could take it now.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use berth_api::placement::{NodeVerdictView, PlacementView, TakenView, VerdictView};
use berth_engine::fleet::{Demand, Looked, Taken, Verdict};

use super::Admin;
use super::problem::{Denied, Missing, Problem};
use super::read::object_id;

/// Tells which nodes were looked at for an object, and why each could take it now or could not.
#[utoipa::path(get, path = "/v1/containers/{id}/placement", tag = "containers", params(("id" = String, Path, pattern = "^[0-9a-f]{32}$")),
    responses((status = 200, body = PlacementView), Denied, Missing,
        (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Json<PlacementView>, Problem> {
    let object = object_id(&id)?;
    let view = admin.known(object).await?;
    let class = admin.class(&view.key.app, &view.key.class)?;
    let demand = Demand::of(&view.key, view.generation.next(), &class);
    let taken = view.instance.and_then(|_| admin.nodes.taken(object)).map(taken);
    let nodes = admin.nodes.look(&demand).into_iter().map(looked).collect();
    Ok(Json(PlacementView { taken, instance: view.instance, nodes }))
}

fn taken(Taken { node, is_last, other }: Taken) -> TakenView {
    TakenView { node, is_last, other }
}

fn looked(Looked { node, verdict }: Looked) -> NodeVerdictView {
    let (verdict, detail) = in_words(verdict);
    NodeVerdictView { node, verdict, detail }
}

fn in_words(verdict: Verdict) -> (VerdictView, String) {
    let no = |detail: &str| (VerdictView::No, detail.to_owned());
    match verdict {
        Verdict::NotConnected => no("not connected"),
        Verdict::Draining => no("it is drained"),
        Verdict::HasRefused => no("it has refused this container"),
        Verdict::Unmet(what) => (VerdictView::No, format!("lacks {what}")),
        Verdict::Lacks(what) => (VerdictView::No, format!("not enough {what}")),
        Verdict::Busy => no("it starts as many containers as it does at once: a turn is waited for"),
        Verdict::SaysFull => (VerdictView::LastResort, "it says that it is full".to_owned()),
        Verdict::Silent => (VerdictView::LastResort, "nothing has come from it for a while".to_owned()),
        Verdict::Unsteady => (VerdictView::LastResort, "lost several times of late".to_owned()),
        Verdict::Able { holds_image, band, free_thousandths } => {
            let image = if holds_image { "has the image" } else { "lacks the image" };
            let percent = free_thousandths / 10;
            (VerdictView::Able, format!("{image}, distance {band}, {percent} % free"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verdict_says_what_it_is_about() {
        let able = Verdict::Able { holds_image: true, band: 1, free_thousandths: 456 };
        assert_eq!(in_words(able), (VerdictView::Able, "has the image, distance 1, 45 % free".to_owned()));
        assert_eq!(
            in_words(Verdict::Lacks("memory".to_owned())),
            (VerdictView::No, "not enough memory".to_owned())
        );
        assert_eq!(in_words(Verdict::SaysFull).0, VerdictView::LastResort);
    }
}
