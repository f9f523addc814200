//! Scripts, from the edge's side: which process runs which version of an app, and a handle to have its handlers called.
//!
//! ```text
//! ScriptHost ── app version ──▶ App ── first call ──▶ Child ── a socket each ──▶ Link (an actor on its caller's thread)
//!                                │ back-off, its end      │ kill, last words        │ Ledger: what the script may say
//! ```
//!
//! What runs scripts may have been taken over by them. So each message is judged against what was asked; a process that says
//! what it cannot have to say, or is silent, is killed, and all that it was doing fails with a text that names why. Nothing of
//! one app's process touches another's. An object is with one thread of one process at a time (`owners`). Does not know routes, nor
//! where objects are kept.

mod actor;
mod app;
mod backoff;
mod body;
mod child;
mod container;
mod counts;
mod failure;
mod head;
mod ledger;
mod link;
mod owners;
mod sockets;
mod trial;
mod upgraded;
mod version;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_common::ids::ClassName;
use berth_common::spec::ClassSpec;
use berth_monitor::Page;
use berth_script::message::{Changes, Destination, Level, Load, Loaded, Object, ObjectId, ScriptError};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;

use self::app::App;
pub(crate) use self::body::ScriptBody;
pub(crate) use self::container::{Answer as PortAnswer, Changes as ContainerChanges, Contained, Container};
use self::counts::{Counts, Processes};
pub(crate) use self::failure::{Ended, Failure};
pub(crate) use self::link::Called;
use self::owners::Owners;
pub(crate) use self::sockets::{Plug, frames};
pub(crate) use self::upgraded::{Stream, Upgraded};

/// Why a body ended early.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body on its way to a script, or to where a script sends it.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// One version of an app, as its logs and requests are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct VersionKey {
    pub(crate) app: String,
    pub(crate) version: u64,
}

/// The code of a version.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) key: VersionKey,
    pub(crate) load: Load,
    /// The first name of each class whose instances are objects: what they keep is found by it.
    pub(crate) lineages: BTreeMap<ClassName, ClassName>,
    /// The containers of those that have some, by that first name.
    pub(crate) containers: BTreeMap<ClassName, Arc<ClassSpec>>,
}

/// A request that a script wants made.
pub(crate) struct Outgoing {
    pub(crate) destination: Destination,
    pub(crate) request: http::Request<Body>,
}

/// What scripts reach of the rest of the edge, and through it of the world.
pub(crate) trait Outside: Send + Sync + 'static {
    /// Makes a request. Dropped when the script does not want it any more. An answer of status 101 has an `Upgraded` in its
    /// extensions, over which WebSocket's frames go, without extensions of that protocol.
    fn fetch(
        &self,
        version: &VersionKey,
        outgoing: Outgoing,
    ) -> BoxFuture<'static, Result<http::Response<Body>, ScriptError>>;

    /// Whether requests of this app wait for what others of its requests keep.
    fn is_waited_for(&self, version: &VersionKey) -> bool {
        let _ = version;
        false
    }

    /// Takes a line of the log. Must not block.
    fn log(&self, version: &VersionKey, level: Level, text: String);

    /// Reads what is kept of an object, and looks after its container if it has one, whose changes are told from then on. Nobody
    /// else has it until what is returned is dropped.
    fn open(
        &self,
        code: &Code,
        object: &Object,
        changes: ContainerChanges,
    ) -> BoxFuture<'static, Result<Kept, ScriptError>> {
        let _ = (code, object, changes);
        let text = "Durable Objects are not kept here.";
        Box::pin(std::future::ready(Err(ScriptError::new("Error", text))))
    }
}

/// What is kept of an object, what makes its changes durable, and its container if its class has them.
pub(crate) struct Kept {
    pub(crate) changes: Changes,
    pub(crate) keeper: Box<dyn Keeper>,
    pub(crate) contained: Option<Contained>,
}

/// Called with whether a commit is durable. Must not block.
pub(crate) type Settled = Box<dyn FnOnce(bool) + Send>;

/// Makes durable what changes of an object that is with a script.
pub(crate) trait Keeper: Send {
    /// Makes these durable, together. Not called before what it was last called with is settled. Must not block.
    fn commit(&mut self, changes: Changes, settled: Settled);
}

/// The lane that an object is on, in each process: always the same.
pub(crate) fn lane_of(object: ObjectId, lanes: usize) -> usize {
    let [a, b, c, d, ..] = object.0;
    // Ids are as good as random.
    u32::from_be_bytes([a, b, c, d]) as usize % lanes.max(1)
}

/// How scripts are run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The program of the processes, and what it is started with.
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Threads of each process; one for each shard.
    pub(crate) lanes: usize,
    /// How long a process without calls goes on.
    pub(crate) idle: Duration,
    /// How long calls of a version that is retired may go on.
    pub(crate) last_calls: Duration,
    /// How long a process may say nothing while something is asked of it.
    pub(crate) silence: Duration,
    /// How long an answer that it does not read on is kept where others wait for what that takes.
    pub(crate) stalled: Duration,
}

impl Settings {
    /// Of this program, with as many threads as there are shards.
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            arguments: vec!["script".to_owned()],
            lanes: shards,
            idle: Duration::from_secs(300),
            // As long as work after a response may take.
            last_calls: Duration::from_secs(30),
            silence: Duration::from_secs(5),
            stalled: Duration::from_secs(5),
        }
    }
}

/// Runs scripts.
#[derive(Clone)]
pub(crate) struct ScriptHost(Arc<Inner>);

struct Inner {
    settings: Settings,
    outside: Arc<dyn Outside>,
    apps: Mutex<HashMap<VersionKey, App>>,
    owners: Owners,
    counts: Arc<Counts>,
    /// Code is tried one after the other: compiling takes much memory.
    trying: tokio::sync::Mutex<()>,
}

impl ScriptHost {
    pub(crate) fn new(settings: Settings, outside: Arc<dyn Outside>) -> Self {
        Self(Arc::new(Inner {
            settings,
            outside,
            apps: Mutex::default(),
            owners: Owners::default(),
            counts: Arc::default(),
            trying: tokio::sync::Mutex::default(),
        }))
    }

    /// Has the version's `fetch` answer a request. `lane` says on which of the process's threads, and should be the shard
    /// that calls. It has begun when this returns: a version that is retired from then on answers it still. Dropping the
    /// call, or the body of the response, tells the script that its client has gone.
    pub(crate) fn fetch(
        &self,
        code: &Arc<Code>,
        lane: usize,
        request: http::Request<Body>,
    ) -> Result<Called, Failure> {
        self.app(code).lane(lane)?.fetch(request)
    }

    /// Calls the version's `scheduled`, which has begun when this returns.
    pub(crate) fn scheduled(
        &self,
        code: &Arc<Code>,
        lane: usize,
        cron: &str,
        time_ms: u64,
    ) -> Result<Called, Failure> {
        self.app(code).lane(lane)?.scheduled(cron, time_ms)
    }

    /// Calls an object's `alarm`, which has begun when this returns. `retry` says how many times it has failed.
    pub(crate) fn alarm(
        &self,
        code: &Arc<Code>,
        object: Object,
        scheduled_ms: u64,
        retry: u32,
    ) -> Result<Called, Failure> {
        let lane = lane_of(object.id, self.0.settings.lanes);
        self.app(code).lane(lane)?.alarm(object, scheduled_ms, retry)
    }

    /// Ends the process of a version that is not called any more, once the calls that it has are done or have had their time.
    pub(crate) fn retire(&self, version: &VersionKey) {
        let retired = self.0.apps.lock().unwrap_or_else(PoisonError::into_inner).remove(version);
        if let Some(app) = retired {
            app.end();
        }
    }

    /// Loads code in a process of its own that ends with that, and says what it exports. Its log goes nowhere.
    pub(crate) async fn try_out(&self, load: Load) -> Result<Loaded, Failure> {
        let _one = self.0.trying.lock().await;
        trial::load(&self.0.settings, load).await
    }

    /// Adds what scripts have done, and are, to the page of metrics.
    pub(crate) fn add_to(&self, page: &mut Page) {
        let apps: Vec<App> =
            self.0.apps.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut processes = Processes::default();
        for memory_bytes in apps.iter().filter_map(App::memory_bytes) {
            processes.count += 1;
            processes.memory_bytes += memory_bytes;
        }
        self.0.counts.add_to(page, processes);
    }

    /// What the process of a version has in memory, in bytes, if it has one.
    pub(crate) fn memory_bytes(&self, version: &VersionKey) -> Option<u64> {
        self.0.apps.lock().unwrap_or_else(PoisonError::into_inner).get(version)?.memory_bytes()
    }

    fn app(&self, code: &Arc<Code>) -> App {
        let mut apps = self.0.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let outside = Arc::clone(&self.0.outside);
            let (owners, counts) = (self.0.owners.clone(), Arc::clone(&self.0.counts));
            App::new(self.0.settings.clone(), Arc::clone(code), outside, owners, counts)
        };
        apps.entry(code.key.clone()).or_insert_with(make).clone()
    }
}
