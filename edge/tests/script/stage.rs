//! Scripts to call, and a world for them to ask.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_script::message::{Changes, Level, Limits, Load, Module, Object, ScriptError};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};

use crate::script::{
    Body, Code, ContainerChanges, Failure, Keeper, Kept, Outgoing, Outside, ScriptBody, ScriptHost, Settings,
    Settled, VersionKey,
};

/// A world that answers with what it was asked, and keeps the log.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) lines: Mutex<Vec<String>>,
    pub(crate) held: Arc<Held>,
}

/// Bodies of `/held` that there are, and the most that there ever were.
#[derive(Default)]
pub(crate) struct Held {
    now: AtomicUsize,
    pub(crate) most: AtomicUsize,
}

impl Held {
    pub(crate) fn now(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }
}

struct One(Arc<Held>);

impl One {
    fn of(held: &Arc<Held>) -> Self {
        let now = held.now.fetch_add(1, Ordering::SeqCst) + 1;
        held.most.fetch_max(now, Ordering::SeqCst);
        Self(Arc::clone(held))
    }

    async fn read(self) -> Result<Frame<Bytes>, crate::script::BoxError> {
        drop(self);
        Ok(Frame::data(Bytes::from_static(b"held")))
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Keeps nothing.
struct Nowhere;

impl Keeper for Nowhere {
    fn commit(&mut self, _: Changes, settled: Settled) {
        settled(true);
    }
}

impl Outside for World {
    fn fetch(
        &self,
        _: &VersionKey,
        outgoing: Outgoing,
    ) -> BoxFuture<'static, Result<http::Response<Body>, ScriptError>> {
        let held = Arc::clone(&self.held);
        async move {
            match outgoing.request.uri().path() {
                "/never" => std::future::pending().await,
                "/lost" => Err(ScriptError::new("Error", "Network connection lost.")),
                "/held" => {
                    let body = StreamBody::new(stream::once(One::of(&held).read()));
                    Ok(http::Response::new(Body::new(body)))
                }
                _ => {
                    let (parts, body) = outgoing.request.into_parts();
                    let response = http::Response::builder().header("x-method", parts.method.as_str());
                    Ok(response.body(body).unwrap())
                }
            }
        }
        .boxed()
    }

    fn open(
        &self,
        _: &Code,
        _: &Object,
        _: ContainerChanges,
    ) -> BoxFuture<'static, Result<Kept, ScriptError>> {
        let kept = Kept { changes: Changes::default(), keeper: Box::new(Nowhere), contained: None };
        std::future::ready(Ok(kept)).boxed()
    }

    fn log(&self, version: &VersionKey, _: Level, text: String) {
        self.lines.lock().unwrap().push(format!("{}: {text}", version.app));
    }
}

pub(crate) struct Stage {
    pub(crate) host: ScriptHost,
    pub(crate) world: Arc<World>,
}

pub(crate) fn settings() -> Settings {
    let mut settings = Settings::new(2);
    // Handlers find the internal object as a global, so that they can do what the web classes never would.
    settings.program = std::env::current_exe().unwrap();
    settings.arguments = vec!["plain".to_owned()];
    settings.silence = Duration::from_secs(2);
    settings
}

pub(crate) fn stage_with(settings: Settings) -> Stage {
    let world = Arc::new(World::default());
    Stage { host: ScriptHost::new(settings, world.clone()), world }
}

pub(crate) fn stage() -> Stage {
    stage_with(settings())
}

/// An app whose `fetch` has this body; `bytes` makes a body of a text.
pub(crate) fn app(name: &str, body: &str) -> Arc<Code> {
    module(
        name,
        &format!(
            "const bytes = (text) => Uint8Array.from([...text].map((c) => c.charCodeAt(0)));
            const read = async (id) => {{ let count = 0; for (let piece; (piece = await host.bodyRead(id)) !== null;) count += piece.length; return count; }};
            export default {{ async fetch(request, env, ctx) {{
                if (request.url.endsWith('/good')) return {{ body: bytes('good') }};
                {body}
            }}, scheduled(event) {{ console.log(event.cron, event.scheduledTime); if (event.cron === 'bad') throw new Error('bad cron'); }} }}"
        ),
    )
}

pub(crate) fn module(name: &str, source: &str) -> Arc<Code> {
    let load = Load {
        modules: vec![Module { name: "index.js".to_owned(), source: source.to_owned() }],
        resolutions: Vec::new(),
        entry: "index.js".to_owned(),
        env: Vec::new(),
        compatibility_date: "2026-01-31".to_owned(),
        flags: Vec::new(),
        objects: Vec::new(),
        limits: Limits { memory_bytes: 32 << 20, cpu_ms: 500, subrequests: 10_000, ..Limits::default() },
    };
    Arc::new(Code {
        key: VersionKey { app: name.to_owned(), version: 1 },
        load,
        lineages: Default::default(),
        containers: Default::default(),
    })
}

pub(crate) fn nothing() -> Body {
    Body::new(Empty::new().map_err(|never| match never {}))
}

pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    Body::new(Full::new(bytes.into()).map_err(|never| match never {}))
}

pub(crate) fn request(path: &str, body: Body) -> http::Request<Body> {
    http::Request::post(format!("http://app.example{path}")).body(body).unwrap()
}

impl Stage {
    pub(crate) async fn call(
        &self,
        code: &Arc<Code>,
        path: &str,
    ) -> Result<http::Response<ScriptBody>, Failure> {
        self.fetch(code, 0, request(path, nothing())).await
    }

    pub(crate) async fn fetch(
        &self,
        code: &Arc<Code>,
        lane: usize,
        request: http::Request<Body>,
    ) -> Result<http::Response<ScriptBody>, Failure> {
        self.host.fetch(code, lane, request)?.answer().await
    }

    pub(crate) async fn scheduled(
        &self,
        code: &Arc<Code>,
        lane: usize,
        cron: &str,
        time_ms: u64,
    ) -> Result<(), Failure> {
        self.host.scheduled(code, lane, cron, time_ms)?.end().await
    }

    /// The text of the answer, or why there is none.
    pub(crate) async fn text(&self, code: &Arc<Code>, path: &str) -> String {
        match self.call(code, path).await {
            Ok(response) => text(response).await,
            Err(failure) => failure.to_string(),
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.world.lines.lock().unwrap().clone()
    }

    /// Waits until a line of the log has this text.
    pub(crate) async fn logged(&self, text: &str) {
        until(|| self.lines().iter().any(|line| line.contains(text))).await;
    }
}

pub(crate) async fn text(response: http::Response<ScriptBody>) -> String {
    match response.into_body().collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => error.to_string(),
    }
}

/// What this process has in memory.
pub(crate) fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Waits until something holds.
pub(crate) async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("it comes to hold");
}

/// The script processes of this test.
pub(crate) fn processes() -> Vec<i32> {
    let own = std::process::id();
    let tasks = std::fs::read_dir(format!("/proc/{own}/task")).unwrap();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    children
        .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}
