//! The output of containers, as lines of JSON.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_api::logs::{LogLine, LogObject, LogParameters};
use berth_common::clock::wall_ms;
use berth_common::ids::AppName;
use berth_common::wire::logs::{LogRecord, LogStream, LogsOf, MAX_LOG_TAIL, ReadLogs};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

use super::Admin;
use super::problem::{Denied, Missing, Problem, Unavailable, Wrong};
use super::read::{self, NOT_READ, Parameters, invalid, object_id};
use crate::logs::{self, LineContent, LogRequest, NodeLine, OwnLog};
use crate::proxy::error::ProxyError;

/// Interval of empty lines to a follower on a silent stream, by which both sides notice that the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const CONTENT_TYPE: &str = "application/x-ndjson";

fn shown(NodeLine { node, content }: NodeLine) -> LogLine {
    match content {
        LineContent::Remark { time_ms, text } => {
            LogLine { time_ms, stream: LogStream::Berth, text, node, object: None }
        }
        LineContent::Program { time_ms, stream, text } => {
            LogLine { time_ms, stream, text, node, object: None }
        }
        LineContent::Record(LogRecord { time_ms, object: key, instance, stream, text, .. }) => {
            let id = key.id();
            let object = Some(LogObject { id, app: key.app, class: key.class, name: key.name, instance });
            LogLine { time_ms, stream, text, node, object }
        }
    }
}

fn ask(wanted: LogParameters, of: LogsOf) -> Result<ReadLogs, Problem> {
    if wanted.tail.is_some_and(|lines| lines > MAX_LOG_TAIL) {
        return Err(invalid("tail", format!("at most {MAX_LOG_TAIL} lines can be asked for")));
    }
    let since_ms = wanted.since.map_or(Ok(0), |text| since(&text, wall_ms()))?;
    Ok(ReadLogs { of, since_ms, tail: wanted.tail, follow: wanted.follow, after: Vec::new() })
}

/// A time: milliseconds since 1970, or a duration before now.
fn since(text: &str, now_ms: u64) -> Result<u64, Problem> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    let ago = humantime::parse_duration(text).map_err(|_| {
        let message = format!("{text:?} is neither milliseconds since 1970 nor a duration such as `10m`");
        Problem::field(StatusCode::BAD_REQUEST, NOT_READ, "since", message)
    })?;
    Ok(now_ms.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)))
}

/// Returns the output of an object's containers, also of those that have ended: lines of JSON, ordered by time. With
/// `follow`, continues with new output of this container and the object's next ones.
#[utoipa::path(get, path = "/v1/containers/{id}/logs", tag = "containers", params(("id" = String, Path, pattern = "^[0-9a-f]{32}$"), LogParameters),
    responses((status = 200, body = LogLine, content_type = "application/x-ndjson"), Denied, Wrong, Missing, Unavailable))]
pub(super) async fn of_object(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    Parameters(wanted): Parameters<LogParameters>,
) -> Result<Response, Problem> {
    let object = object_id(&id)?;
    let ask = ask(wanted, LogsOf::Object(object))?;
    admin.known(object).await?;
    admin.read_logs(ask, None).await
}

/// Returns the output of all containers of an app, in the same way.
#[utoipa::path(get, path = "/v1/apps/{app}/logs", tag = "apps", params(("app" = String, Path), LogParameters),
    responses((status = 200, body = LogLine, content_type = "application/x-ndjson"), Denied, Wrong, Missing, Unavailable))]
pub(super) async fn of_app(
    State(admin): State<Arc<Admin>>,
    Path(app): Path<String>,
    Parameters(wanted): Parameters<LogParameters>,
) -> Result<Response, Problem> {
    let app: AppName = read::name("app", &app)?;
    let ask = ask(wanted, LogsOf::App(app.clone()))?;
    let Some(known) = admin.apps.get(&app) else {
        let detail = format!("there is no app `{app}`; the output of an object can be asked for by its id");
        return Err(Problem::new(StatusCode::NOT_FOUND, "no such app", detail));
    };
    let programmed = known.current().spec.program.is_some();
    let own = programmed.then(|| OwnLog { edge: admin.name.clone(), log: admin.programs.log(&app) });
    admin.read_logs(ask, own).await
}

impl Admin {
    async fn read_logs(&self, ask: ReadLogs, own: Option<OwnLog>) -> Result<Response, Problem> {
        let follow = ask.follow;
        let (reading, lines) = LogRequest::new(ask, own, self.watch()?);
        // Any shard has links to all nodes.
        let turn = usize::try_from(self.waiters.next().0).unwrap_or_default();
        let shard = turn % self.shards.count();
        let started = self.shards.start(shard, |proxy| async move {
            // A follower stays for as long as the edge runs, so it must not delay the shutdown.
            tokio::select! {
                () = logs::read(&proxy.links, reading) => {}
                () = proxy.lifecycle.drain().cancelled() => {}
            }
        });
        started.await.map_err(ProxyError::from)?;
        let body = stream::unfold(lines, move |lines| next(lines, follow));
        let headers = [(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")];
        Ok((headers, Body::from_stream(body)).into_response())
    }
}

type Part = (Result<Bytes, Infallible>, mpsc::Receiver<Vec<NodeLine>>);

/// The next part of the response: some lines, or an empty line for a follower after a silent interval.
async fn next(mut lines: mpsc::Receiver<Vec<NodeLine>>, follow: bool) -> Option<Part> {
    let some = match tokio::time::timeout(KEEP_ALIVE, lines.recv()).await {
        Ok(some) => some?,
        Err(_) if follow => Vec::new(),
        Err(_) => lines.recv().await?,
    };
    let mut text = some.into_iter().map(json).collect::<Vec<_>>().concat();
    if text.is_empty() {
        text.push(b'\n');
    }
    Some((Ok(text.into()), lines))
}

fn json(line: NodeLine) -> Vec<u8> {
    let mut text = serde_json::to_vec(&shown(line)).unwrap_or_default();
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_number_or_a_duration() {
        assert_eq!(since("1769860800000", 5).ok(), Some(1_769_860_800_000));
        assert_eq!(since("10m", 1_000_000).ok(), Some(400_000));
        assert_eq!(since("3 years", 1_000_000).ok(), Some(0));
        for bad in ["", "yesterday", "-5", "10"] {
            assert_eq!(since(bad, 0).is_ok(), bad == "10", "{bad}");
        }
    }

    #[test]
    fn a_remark_names_no_object() {
        let content = LineContent::Remark { time_ms: 7, text: "gone".to_owned() };
        let line = shown(NodeLine { node: "n1".parse().unwrap(), content });
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(text, r#"{"time_ms":7,"stream":"berth","text":"gone","node":"n1"}"#);
    }
}
