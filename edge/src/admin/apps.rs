//! Apps and their versions.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use berth_api::apps::{AppList, AppView, DeployParameters, Deployed, Rollback, VersionList, VersionView};
use berth_common::ids::{AppName, Version};
use berth_common::spec::{AppSpec, ClassSpec};
use berth_engine::EndOrder;
use berth_store::AppHistory;
use serde_json::Value;

use super::Admin;
use super::holders::Prefetch;
use super::placeable;
use super::problem::{Conflicting, Denied, Missing, Problem, Unavailable, Unmet, Wrong};
use super::read::{self, Body, OptionalBody, Parameters};
use crate::apps::{Deployment, versions};

type Tagged<T> = Result<([(HeaderName, String); 1], Json<T>), Problem>;

/// The representation of an app.
fn view(history: &AppHistory, program_memory_bytes: Option<u64>) -> AppView {
    let current = history.current();
    let (version, created_ms) = (current.version, current.created_ms);
    let name = current.spec.name.clone();
    AppView { name, version, created_ms, spec: (&current.spec).into(), program_memory_bytes }
}

/// The same with what its program takes up now.
fn shown(admin: &Admin, history: &AppHistory) -> AppView {
    view(history, admin.apps.memory_of_program(&history.current().spec.name))
}

/// Lists the apps that are deployed.
#[utoipa::path(get, path = "/v1/apps", tag = "apps", responses((status = 200, body = AppList), Denied))]
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Json<AppList> {
    Json(AppList { apps: admin.apps.all().iter().map(|app| shown(&admin, app)).collect() })
}

/// Shows one app. The `ETag` is its current version, for conditional changes.
#[utoipa::path(get, path = "/v1/apps/{app}", tag = "apps", params(("app" = String, Path, max_length = 63, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$")),
    responses((status = 200, body = AppView, headers(("etag" = String))), Denied, Missing,
        (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn show(State(admin): State<Arc<Admin>>, Path(app): Path<String>) -> Tagged<AppView> {
    let history = admin.history(&app)?;
    Ok((read::etag(history.current().version), Json(shown(&admin, &history))))
}

/// Lists the kept versions of an app, the newest first.
#[utoipa::path(get, path = "/v1/apps/{app}/versions", tag = "apps", params(("app" = String, Path, max_length = 63, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$")),
    responses((status = 200, body = VersionList), Denied, Missing,
        (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn versions(
    State(admin): State<Arc<Admin>>,
    Path(app): Path<String>,
) -> Result<Json<VersionList>, Problem> {
    Ok(Json(VersionList { versions: versions::views(&*admin.history(&app)?) }))
}

/// Deploys an app: makes the specification its newest and current version. Responds once that is durable and requests
/// are routed by it. The specification of the current version makes no other one, unless `force` asks for it. An app that
/// cannot run is refused, unless `allow_unplaceable` lets it.
#[utoipa::path(put, path = "/v1/apps/{app}", tag = "apps", request_body = AppSpec,
    params(("app" = String, Path, max_length = 63, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"), DeployParameters,
        ("if-match" = Option<String>, Header, description = "The version that must be current, in quotes"),
        ("if-none-match" = Option<String>, Header, description = "`*`: the app must not be deployed yet")),
    responses((status = 200, body = Deployed, headers(("etag" = String))), Denied, Wrong, Conflicting, Unmet, Unavailable))]
pub(super) async fn deploy(
    State(admin): State<Arc<Admin>>,
    Path(app): Path<String>,
    Parameters(how): Parameters<DeployParameters>,
    headers: HeaderMap,
    Body(body): Body<Value>,
) -> Tagged<Deployed> {
    let app: AppName = read::name("app", &app)?;
    let expect = read::expectation(&headers)?;
    let prefetch = Prefetch::parse(how.prefetch.as_deref(), how.prefetch_timeout_ms)?;
    let spec: AppSpec = read::strict(body)?;
    if spec.name != app {
        let message = format!("is `{}`, and the path names the app `{app}`", spec.name);
        return Err(Problem::field(StatusCode::BAD_REQUEST, read::NOT_READ, "name", message));
    }
    let spec = admin.apps.checked(spec, expect).await?;
    if !how.allow_unplaceable {
        placeable::wait(&admin.nodes, &spec).await;
    }
    let faults = placeable::faults(&admin.nodes, &spec);
    let unplaceable = placeable::texts(&faults);
    if !faults.is_empty() && !how.allow_unplaceable {
        return Err(placeable::refusal(faults));
    }
    let fetched = prefetch.wait(&admin, &spec).await?;
    let Deployment { version, unchanged } = admin.apps.deploy(spec, expect, how.force).await?;
    admin.delivery.settle(&admin.apps, fetched);
    let (tag, Json(deployed)) = admin.deployed(app, version, how.now).await?;
    Ok((tag, Json(Deployed { unchanged, unplaceable, ..deployed })))
}

/// Makes an earlier version of an app current again. Responds once that is durable and requests are routed by it.
#[utoipa::path(post, path = "/v1/apps/{app}/rollback", tag = "apps", request_body = Option<Rollback>,
    params(("app" = String, Path, max_length = 63, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"),
        ("if-match" = Option<String>, Header, description = "The version that must be current, in quotes")),
    responses((status = 200, body = Deployed, headers(("etag" = String))), Denied, Wrong, Missing, Unmet, Unavailable))]
pub(super) async fn roll_back(
    State(admin): State<Arc<Admin>>,
    Path(app): Path<String>,
    headers: HeaderMap,
    OptionalBody(rollback): OptionalBody<Rollback>,
) -> Tagged<Deployed> {
    let Rollback { version, now, prefetch, prefetch_timeout_ms } = rollback;
    let app: AppName = read::name("app", &app)?;
    let expect = read::expectation(&headers)?;
    let prefetch = Prefetch::parse(prefetch.as_deref(), prefetch_timeout_ms)?;
    let to = admin.history(&app.to_string())?.roll_back(version);
    let fetched = match &to {
        Some(to) => prefetch.wait(&admin, &to.current().spec).await?,
        None => None,
    };
    // Another version may have become current while nodes fetched images: roll back to the one that was waited for.
    let version = version.or(to.map(|to| to.current().version));
    let current = admin.apps.roll_back(&app, version, expect).await?;
    admin.delivery.settle(&admin.apps, fetched);
    admin.deployed(app, current, now).await
}

/// Removes an app with its versions, schedules and events for hooks: its routes are removed, and its containers stopped. Its
/// secrets are kept.
#[utoipa::path(delete, path = "/v1/apps/{app}", tag = "apps",
    params(("app" = String, Path, max_length = 63, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"),
        ("if-match" = Option<String>, Header, description = "The version that must be current, in quotes")),
    responses((status = 204), Denied, Missing, Unmet, Unavailable,
        (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn remove(
    State(admin): State<Arc<Admin>>,
    Path(app): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let app: AppName = read::name("app", &app)?;
    let expect = read::expectation(&headers)?;
    let removal = async move {
        if !admin.apps.remove(&app, expect).await? {
            return Err(no_app(&app));
        }
        admin.end_others(&app, Version::default()).await?;
        Ok(StatusCode::NO_CONTENT)
    };
    // Also without the client: nobody would stop the containers of an app that is gone already.
    to_its_end(removal).await
}

/// Does this to its end, also if the request is cut off meanwhile.
pub(super) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work).await.map_err(|error| Problem::internal(&error))?
}

fn no_app(app: &AppName) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no such app", format!("there is no app `{app}`"))
}

impl Admin {
    fn history(&self, app: &str) -> Result<Arc<AppHistory>, Problem> {
        let app: AppName = read::name("app", app)?;
        self.apps.get(&app).ok_or_else(|| no_app(&app))
    }

    async fn deployed(&self, app: AppName, version: VersionView, now: bool) -> Tagged<Deployed> {
        let ended = if now { self.end_others(&app, version.version).await? } else { 0 };
        let history = self.apps.get(&app);
        let classes = history.iter().flat_map(|history| history.current().spec.classes.values());
        let of_program = history.iter().filter_map(|history| history.current().spec.program.as_ref());
        let of_program = of_program.flat_map(|program| program.secrets.values().cloned());
        let named = classes.flat_map(ClassSpec::secret_names).chain(of_program);
        let missing_secrets = self.secrets.missing(&app, named)?;
        let programs = history.iter().filter_map(|history| history.current().spec.program.as_ref());
        let of_stores = programs.flat_map(|program| program.store_secrets.values());
        let missing_store_secrets = self.secrets.missing_of_stores(of_stores)?;
        let tag = read::etag(version.version);
        let (unchanged, unplaceable) = (false, Vec::new());
        let deployed =
            Deployed { app, version, ended, missing_secrets, missing_store_secrets, unchanged, unplaceable };
        Ok((tag, Json(deployed)))
    }

    /// Stops the containers of an app that are of another version.
    pub(super) async fn end_others(&self, app: &AppName, version: Version) -> Result<usize, Problem> {
        let mut ended = 0;
        for mailbox in &self.mailboxes {
            for view in mailbox.views().await {
                if view.key.app == *app && view.version.is_some_and(|other| other != version) {
                    let order = EndOrder::Stop { signal: None, grace_ms: None };
                    mailbox.end(self.waiters.next(), view.id, order).await?;
                    ended += 1;
                }
            }
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use berth_common::spec::{Action, CronSpec, RequestAction};
    use berth_store::fixtures::app;
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_has_begun_ends_without_its_client() {
        let (go, wait) = tokio::sync::oneshot::channel();
        let (tell, told) = tokio::sync::oneshot::channel();
        let work = async move {
            wait.await.unwrap();
            tell.send(()).unwrap();
            Ok(())
        };
        let mut request = Box::pin(to_its_end(work));
        assert!((&mut request).now_or_never().is_none());
        drop(request);
        go.send(()).unwrap();
        told.await.unwrap();
    }

    #[test]
    fn values_are_not_shown_wherever_they_are() {
        let mut spec = app("a", &[]);
        let (name, class) = spec.classes.iter_mut().next().unwrap();
        let env = |name: &str| BTreeMap::from([(name.to_owned(), "very secret".to_owned())]);
        class.recipe.env = env("OF_CLASS");
        class.callbacks.insert("clean".parse().unwrap(), Action::Start { env: env("OF_CALLBACK") });
        let (method, path) = ("POST".to_owned(), "/run".to_owned());
        let body = Some("very secret".to_owned());
        let request = Action::Request(RequestAction { method, path, body, port: None });
        class.callbacks.insert("ask".parse().unwrap(), request);
        let action = Action::Start { env: env("OF_CRON") };
        let (class, object) = (name.clone(), "o".parse().unwrap());
        spec.crons.push(CronSpec { cron: "* * * * *".parse().unwrap(), class, object, action });
        let program = r#"{"entry": "a", "modules": [], "compatibility_date": "2026-01-31",
            "vars": {"OF_PROGRAM": {"text": "very secret"}, "JSON": {"json": "very secret"}}}"#;
        spec.program = Some(serde_json::from_str(program).unwrap());
        let whole = serde_json::to_value(&spec).unwrap();
        let shown = serde_json::to_value(view(&AppHistory::begin(spec, 1), None)).unwrap();
        let text = shown.to_string();
        assert!(
            ["OF_CLASS", "OF_CALLBACK", "OF_CRON", "OF_PROGRAM", "/run"]
                .iter()
                .all(|name| text.contains(name)),
            "{text}"
        );
        assert!(!text.contains("very secret"), "{text}");
        // But for the values, both have one shape, which clients of earlier versions read.
        let without = whole.to_string().replace("very secret", "");
        let read: AppSpec = serde_json::from_value(shown["spec"].clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), serde_json::from_str::<Value>(&without).unwrap());
    }
}
