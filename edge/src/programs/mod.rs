//! The programs of apps: the code of each current version, read when it is first called; their calls; what they reach of the world
//! (`world`), and their log (`log`). Does not know routes, nor how a failure is answered.

mod code;
mod log;
mod map;
mod objects;
#[cfg(test)]
mod tests;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use berth_common::ids::{AppName, ClassName, ObjectKey, Version};
use berth_common::spec::{ClassSpec, Program};
use berth_monitor::Page;
use berth_script::message::{Level, Object, ObjectId};
use berth_store::{Store, StoreError};
use ipnet::IpNet;
use tokio::sync::{Notify, OnceCell, Semaphore};

pub(crate) use self::code::{CodeError, Content};
use self::code::{Read, Sources, Unreadable};
pub(crate) use self::log::{AppLog, ProgramLine};
use self::objects::States;
use self::world::World;
pub(crate) use self::world::{Containers, StaticFiles};
use crate::script::{Body, Code, ScriptBody, ScriptHost, Settings, VersionKey, lane_of};
pub(crate) use crate::script::{Called, Contained, Container, ContainerChanges, Ended, Failure, PortAnswer};
use crate::secrets::{Secrets, Stamp};

/// Why a program was not called, or came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// There is none any more.
    #[error("the app has no program now")]
    Gone,
    /// It has no such class.
    #[error("the app's program exports no class `{0}`")]
    NoClass(ClassName),
    /// Its code cannot be read.
    #[error("the app's program cannot be loaded: {0}")]
    Code(#[from] CodeError),
    /// It failed.
    #[error("{0}")]
    Failed(#[from] Failure),
}

impl ProgramError {
    /// All that is known, the stack included, for the app's log.
    pub(crate) fn whole(&self) -> String {
        let (error, place) = match self {
            Self::Failed(Failure::Script(error)) => (error, String::new()),
            Self::Failed(Failure::Load(failed)) => (&failed.error, place(failed)),
            _ => return self.to_string(),
        };
        // The stack begins with what was thrown, but for errors that the engine makes without a message at first.
        let text = if error.stack.contains(&error.message) && !error.stack.is_empty() {
            error.stack.clone()
        } else {
            let frames = error.stack.lines().filter(|line| line.trim_start().starts_with("at "));
            std::iter::once(error.to_string()).chain(frames.map(str::to_owned)).collect::<Vec<_>>().join("\n")
        };
        format!("{place}{text}")
    }
}

/// Where code could not be loaded, as far as that is known: `src/index.js:3:14: `.
fn place(failed: &berth_script::message::LoadFailed) -> String {
    match (&failed.module, failed.line, failed.column) {
        (Some(module), Some(line), Some(column)) => format!("{module}:{line}:{column}: "),
        (Some(module), Some(line), None) => format!("{module}:{line}: "),
        (Some(module), ..) => format!("{module}: "),
        _ => String::new(),
    }
}

/// An object's alarm that is due.
#[derive(Debug, Clone)]
pub(crate) struct Alarm {
    /// The object; its name is its id.
    pub(crate) key: ObjectKey,
    /// The name that its id was made of.
    pub(crate) name: Option<String>,
    /// When it was due.
    pub(crate) scheduled_ms: u64,
    /// How many times it has failed.
    pub(crate) retry: u32,
}

impl Alarm {
    fn id(&self) -> Option<ObjectId> {
        ObjectId::parse(self.key.name.as_str())
    }

    /// The object as code with these classes, each with its first name, knows it: by the name that its class has there, which may have
    /// been another when the alarm was set.
    fn object(&self, lineages: &BTreeMap<ClassName, ClassName>) -> Result<Object, ProgramError> {
        let id = self.id().ok_or(ProgramError::Gone)?;
        let class = lineages.iter().find(|(_, lineage)| **lineage == self.key.class);
        let (class, _) = class.ok_or_else(|| ProgramError::NoClass(self.key.class.clone()))?;
        Ok(Object { class: class.to_string(), id, name: self.name.clone() })
    }
}

/// The containers that an app declares.
type Classes = BTreeMap<ClassName, ClassSpec>;

/// What programs are run with.
pub(crate) struct Dependencies {
    pub(crate) shards: usize,
    pub(crate) content: Arc<dyn Content>,
    pub(crate) secrets: Arc<Secrets>,
    /// Networks that programs may reach besides public addresses.
    pub(crate) allowed: Vec<IpNet>,
    pub(crate) files: Arc<dyn StaticFiles>,
    pub(crate) containers: Arc<dyn Containers>,
    /// Keeps what objects keep.
    pub(crate) store: Arc<dyn Store>,
    /// Notified when an earlier alarm may have been set.
    pub(crate) agenda: Arc<Notify>,
}

/// The current version of a program.
struct Current {
    key: VersionKey,
    app: AppName,
    program: Arc<Program>,
    /// The containers of its classes of objects, by their first names.
    containers: BTreeMap<ClassName, Arc<ClassSpec>>,
    /// Read with the first call. Failing is not kept: content may come back.
    loaded: OnceCell<Loaded>,
}

/// The code of a program, and what it has seen of secrets.
struct Loaded {
    code: Arc<Code>,
    stamp: Stamp,
}

impl Current {
    fn new(app: &AppName, version: Version, program: &Program, containers: &Classes) -> Arc<Self> {
        let own = program.object_classes.values();
        let own = own.filter_map(|lineage| Some((lineage, containers.get(lineage)?)));
        Arc::new(Self {
            key: VersionKey { app: app.to_string(), version: version.0 },
            app: app.clone(),
            program: Arc::new(program.clone()),
            containers: own.map(|(lineage, class)| (lineage.clone(), Arc::new(class.clone()))).collect(),
            loaded: OnceCell::new(),
        })
    }

    /// The same to be read anew.
    fn again(&self) -> Arc<Self> {
        Arc::new(Self {
            key: self.key.clone(),
            app: self.app.clone(),
            program: Arc::clone(&self.program),
            containers: self.containers.clone(),
            loaded: OnceCell::new(),
        })
    }

    async fn code(&self, sources: &Sources, log: &AppLog) -> Result<Arc<Code>, CodeError> {
        let read = async || {
            let contained = self.containers.keys().cloned().collect();
            let program = Arc::clone(&self.program);
            let read = sources.load(self.app.clone(), program, contained, Unreadable::Fails).await?;
            let Read { load, remarks, stamp } = read;
            remarks.into_iter().for_each(|remark| log.write(&self.key, Level::Warn, remark));
            let lineages = self.program.object_classes.clone();
            let containers = self.containers.clone();
            let code = Arc::new(Code { key: self.key.clone(), load, lineages, containers });
            Ok::<_, CodeError>(Loaded { code, stamp })
        };
        self.loaded.get_or_try_init(read).await.map(|loaded| Arc::clone(&loaded.code))
    }

    /// Whether a secret that it has could not be read.
    fn lacks_secrets(&self) -> bool {
        self.loaded.get().is_some_and(|loaded| loaded.stamp.has_unreadable())
    }

    /// Whether it sees anything else of secrets than it has now. One that is still being read may. Blocks.
    fn is_outdated(&self, sources: &Sources) -> bool {
        let now = || sources.stamp(&self.app, &self.program);
        self.loaded.get().is_none_or(|loaded| loaded.stamp != now())
    }
}

fn has_secrets(current: &Current) -> bool {
    !current.program.secrets.is_empty() || !current.program.store_secrets.is_empty()
}

/// How often is tried again to read the secrets that a program lacks, because nothing tells when a key file is back. It costs a look at
/// the file, and for each such program a read of each of its secrets.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Starts programs anew that see other values of secrets than there are, for as long as it is polled.
pub(crate) async fn follow_secrets(programs: Arc<Programs>) {
    let mut changes = programs.sources.secrets.changes();
    loop {
        match tokio::time::timeout(TRY_AGAIN, changes.changed()).await {
            Ok(Ok(())) => programs.secrets_changed(has_secrets).await,
            Err(_) => programs.secrets_changed(Current::lacks_secrets).await,
            Ok(Err(_)) => return,
        }
    }
}

/// The programs of all apps.
pub(crate) struct Programs {
    host: ScriptHost,
    sources: Sources,
    world: Arc<World>,
    states: States,
    /// As many lanes does each process have.
    shards: usize,
    /// Calls begin, and versions are retired, under the lock: so no call begins on a version that is retired.
    current: RwLock<BTreeMap<AppName, Arc<Current>>>,
    /// Permits for texts whose places are being led back to sources.
    leading: Arc<Semaphore>,
}

/// Texts whose places are led back to sources at once: each reads a few maps.
const LEADING: usize = 4;

impl Programs {
    pub(crate) fn new(dependencies: Dependencies) -> Self {
        let Dependencies { shards, content, secrets, allowed, files, containers, store, agenda } =
            dependencies;
        let states = States::new(store, agenda);
        let world = Arc::new(World::new(allowed, files, states.clone(), containers));
        let host = ScriptHost::new(Settings::new(shards), Arc::clone(&world) as _);
        Self {
            host,
            sources: Sources { content, secrets },
            world,
            states,
            shards,
            current: RwLock::default(),
            leading: Arc::new(Semaphore::new(LEADING)),
        }
    }

    /// These are the current ones from now on. Others get no calls any more, and those that they have are given a while.
    pub(crate) fn publish<'a>(
        &self,
        programs: impl Iterator<Item = (&'a AppName, Version, &'a Program, &'a Classes)>,
    ) {
        let mut known = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *known);
        for (app, version, program, containers) in programs {
            let same = before.get(app).is_some_and(|current| current.key.version == version.0);
            let kept = if same { before.remove(app) } else { None };
            known
                .insert(app.clone(), kept.unwrap_or_else(|| Current::new(app, version, program, containers)));
        }
        before.into_values().for_each(|current| self.host.retire(&current.key));
        self.world.keep(&known.keys().map(AppName::as_str).collect::<BTreeSet<_>>());
    }

    /// Values of secrets may have changed: of these programs, those for which they have are started anew.
    async fn secrets_changed(&self, concerned: impl Fn(&Current) -> bool) {
        let known = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut outdated: Vec<_> = known.into_values().filter(|current| concerned(current)).collect();
        if outdated.is_empty() {
            return;
        }
        let sources = self.sources.clone();
        let reading = tokio::task::spawn_blocking(move || {
            outdated.retain(|current| current.is_outdated(&sources));
            outdated
        });
        // Otherwise the edge is stopping.
        let Ok(outdated) = reading.await else { return };
        let mut known = self.current.write().unwrap_or_else(PoisonError::into_inner);
        for before in outdated {
            // Of another version that was deployed meanwhile the secrets are read later than they were changed.
            if let Some(current) = known.get_mut(&before.app).filter(|now| Arc::ptr_eq(now, &before)) {
                self.host.retire(&current.key);
                *current = current.again();
            }
        }
    }

    /// Whether an app is there, and has a program.
    pub(crate) fn has(&self, app: &AppName) -> bool {
        self.current(app).is_some()
    }

    /// Has an app's program answer a request, on the caller's lane: the shard that it is.
    pub(crate) async fn fetch(
        &self,
        app: &AppName,
        lane: usize,
        request: http::Request<Body>,
    ) -> Result<http::Response<ScriptBody>, ProgramError> {
        let called = self.begin(app, |host, code| Ok(host.fetch(code, lane, request)?)).await?;
        Ok(called.answer().await?)
    }

    /// Calls `scheduled` for a cron that was due at this time; returns when all that it began has come to its end.
    pub(crate) async fn scheduled(
        &self,
        app: &AppName,
        lane: usize,
        cron: &str,
        time_ms: u64,
    ) -> Result<(), ProgramError> {
        let called = self.begin(app, |host, code| Ok(host.scheduled(code, lane, cron, time_ms)?)).await?;
        Ok(called.end().await?)
    }

    /// Calls an object's `alarm`, which has begun when this returns. To be called on the shard that `lane_of` says.
    pub(crate) async fn alarm(&self, alarm: &Alarm) -> Result<Called, ProgramError> {
        self.begin(&alarm.key.app, |host, code| {
            let object = alarm.object(&code.lineages)?;
            Ok(host.alarm(code, object, alarm.scheduled_ms, alarm.retry)?)
        })
        .await
    }

    /// The shard on whose thread an object is to be called.
    pub(crate) fn lane_of(&self, alarm: &Alarm) -> usize {
        alarm.id().map_or(0, |id| lane_of(id, self.shards))
    }

    /// Removes what the objects of a removed app keep. Returns how many there are.
    pub(crate) async fn purge(&self, app: &AppName, dry_run: bool) -> Result<usize, StoreError> {
        self.states.purge(app, dry_run).await
    }

    async fn begin(
        &self,
        app: &AppName,
        start: impl FnOnce(&ScriptHost, &Arc<Code>) -> Result<Called, ProgramError>,
    ) -> Result<Called, ProgramError> {
        loop {
            let current = self.current(app).ok_or(ProgramError::Gone)?;
            let code = current.code(&self.sources, &self.log(app)).await?;
            let known = self.current.read().unwrap_or_else(PoisonError::into_inner);
            if known.get(app).is_some_and(|now| Arc::ptr_eq(now, &current)) {
                return start(&self.host, &code);
            }
            // Another version was deployed meanwhile.
        }
    }

    fn current(&self, app: &AppName) -> Option<Arc<Current>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).get(app).cloned()
    }

    /// Loads a program in a process that does nothing else. If that fails, why, with its place in the sources.
    pub(crate) async fn try_out(
        &self,
        app: &AppName,
        program: &Program,
        containers: &Classes,
    ) -> Result<(), (ProgramError, String)> {
        let program = Arc::new(program.clone());
        let contained = containers.keys().cloned().collect();
        // A secret may be put after the deployment.
        let load = self.sources.load(app.clone(), Arc::clone(&program), contained, Unreadable::IsLeftOut);
        let loaded = match load.await {
            Ok(Read { load, .. }) => self.host.try_out(load).await.map_err(ProgramError::from),
            Err(error) => Err(error.into()),
        };
        let loaded = loaded.and_then(|loaded| {
            let mut classes = program.object_classes.keys();
            let missing = classes.find(|class| !loaded.classes.iter().any(|name| name == class.as_str()));
            missing.map_or(Ok(()), |class| Err(ProgramError::NoClass(class.clone())))
        });
        let Err(error) = loaded else { return Ok(()) };
        let text = self.sources.led_back(error.whole(), program).await;
        Err((error, text))
    }

    /// Writes to an app's log what its program came to, under the number that the client was told. To be called within a
    /// runtime: places are led back to the sources first.
    pub(crate) fn failed(&self, app: &AppName, id: u32, error: &ProgramError) {
        let Some(current) = self.current(app) else { return };
        let (log, sources, text) = (self.log(app), self.sources.clone(), error.whole());
        // Under a flood of failures most are told as they are.
        let Ok(permit) = Arc::clone(&self.leading).try_acquire_owned() else {
            return log.write(&current.key, Level::Error, format!("{text} (error {id:08x})"));
        };
        tokio::spawn(async move {
            let _permit = permit;
            let text = sources.led_back(text, Arc::clone(&current.program)).await;
            log.write(&current.key, Level::Error, format!("{text} (error {id:08x})"));
        });
    }

    /// Adds what programs have done, and are, to the page of metrics.
    pub(crate) fn add_to(&self, page: &mut Page) {
        self.host.add_to(page);
    }

    /// What the process of an app's program has in memory, in bytes, if it has one.
    pub(crate) fn memory_bytes(&self, app: &AppName) -> Option<u64> {
        self.host.memory_bytes(&self.current(app)?.key)
    }

    /// The log of an app's program.
    pub(crate) fn log(&self, app: &AppName) -> Arc<AppLog> {
        self.world.log_of(app.as_str())
    }
}
