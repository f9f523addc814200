//! What happens to nodes and objects, kept for operators: `berth events`.
//!
//! ```text
//! shards, links, orders ──News, queued──▶ Keeper: a number, a share ──durable──▶ Entries: lists ── told to those who follow
//!                            └─queue full: counted                └─share used up: counted, the next one says so
//! ```
//!
//! Whoever tells of something never waits. One task writes; what can be read is durable, so that a number is never used twice.
//! `shares` says what is kept of which app and node.
//!
//! What fails, and what happens then:
//! * The store cannot write: what was to be written is left out, and said so in the log.
//! * This process ends: what was told in its last moments may be missing.

mod shares;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use berth_common::clock::wall_ms;
use berth_common::happening::{Happening, HappeningKind};
use berth_common::ids::{AppName, NodeId, ObjectKey};
use berth_store::{Store, StoreError, Write, commit};
use tokio::sync::{broadcast, mpsc};

use self::shares::{Shares, Source};

/// News that wait to be written: those of a node that is lost with a thousand objects, and some.
const QUEUE: usize = 2_048;
/// How many are written in one commit.
const BATCH: usize = 128;
/// How many a follower may fall behind.
const FOLLOWED: usize = 1_024;

/// What has just happened.
#[derive(Debug)]
struct News {
    time_ms: u64,
    kind: HappeningKind,
    node: Option<NodeId>,
    object: Option<ObjectKey>,
    reason: Option<String>,
}

/// Which of what has happened is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) app: Option<AppName>,
    pub(crate) node: Option<NodeId>,
}

impl Asked {
    pub(crate) fn matches(&self, happening: &Happening) -> bool {
        let app = happening.object.as_ref().map(|object| &object.app);
        self.app.as_ref().is_none_or(|asked| app == Some(asked))
            && self.node.as_ref().is_none_or(|asked| happening.node.as_ref() == Some(asked))
    }
}

type Entries = Arc<Mutex<BTreeMap<u64, Happening>>>;

/// The way to what has happened: to tell of more, and to read it.
#[derive(Clone)]
pub(crate) struct Happenings {
    sender: mpsc::Sender<News>,
    /// What there was no place for in the queue.
    overflow: Arc<AtomicU64>,
    /// What is durable. Held for a look or a batch.
    entries: Entries,
    told: broadcast::Sender<Happening>,
}

/// Keeps nothing.
impl Default for Happenings {
    fn default() -> Self {
        Self::new(BTreeMap::new()).0
    }
}

/// The one who writes.
pub(crate) struct Keeper {
    news: mpsc::Receiver<News>,
    happenings: Happenings,
    store: Arc<dyn Store>,
    shares: Shares,
    /// The last number that was used.
    last: u64,
    start: Instant,
}

impl Happenings {
    fn new(entries: BTreeMap<u64, Happening>) -> (Self, mpsc::Receiver<News>) {
        let (sender, news) = mpsc::channel(QUEUE);
        let (entries, told) = (Arc::new(Mutex::new(entries)), broadcast::Sender::new(FOLLOWED));
        (Self { sender, overflow: Arc::default(), entries, told }, news)
    }

    /// What the store has, and who is to keep more.
    pub(crate) fn open(store: &Arc<dyn Store>) -> (Self, Keeper) {
        let entries: BTreeMap<u64, Happening> =
            store.happenings().into_iter().map(|happening| (happening.number, happening)).collect();
        let mut shares = Shares::default();
        for happening in entries.values() {
            shares.keep(&source_of(happening), happening.number);
        }
        let last = entries.last_key_value().map_or(0, |(number, _)| *number);
        let (happenings, news) = Self::new(entries);
        let (store, start) = (Arc::clone(store), Instant::now());
        (happenings.clone(), Keeper { news, happenings, store, shares, last, start })
    }

    /// Something has happened to a node.
    pub(crate) fn node(&self, kind: HappeningKind, node: &NodeId, reason: impl Into<String>) {
        let (node, reason) = (Some(node.clone()), Some(reason.into()));
        self.tell(News { time_ms: wall_ms(), kind, node, object: None, reason });
    }

    /// Something has happened to an object, on a node if it is known which.
    pub(crate) fn object(
        &self,
        kind: HappeningKind,
        object: &ObjectKey,
        node: Option<&NodeId>,
        reason: impl Into<String>,
    ) {
        let (object, reason) = (Some(object.clone()), Some(reason.into()));
        self.tell(News { time_ms: wall_ms(), kind, node: node.cloned(), object, reason });
    }

    fn tell(&self, news: News) {
        if self.sender.try_send(news).is_err() {
            self.overflow.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What has happened after this number, in order, at most so many.
    pub(crate) fn after(&self, number: Option<u64>, asked: &Asked, limit: usize) -> Vec<Happening> {
        let entries = self.lock();
        let later = entries.range(number.map_or(0, |number| number.saturating_add(1))..);
        later.map(|(_, happening)| happening).filter(|one| asked.matches(one)).take(limit).cloned().collect()
    }

    /// What happens from now on, once it is durable.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Happening> {
        self.told.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Happening>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose share it takes.
fn source_of(happening: &Happening) -> Source {
    match (&happening.object, &happening.node) {
        (Some(object), _) => Source::App(object.app.clone()),
        (None, Some(node)) => Source::Node(node.clone()),
        (None, None) => Source::Other,
    }
}

/// What is to be written at once.
#[derive(Default)]
struct Batch {
    added: Vec<Happening>,
    removed: Vec<u64>,
}

impl Keeper {
    /// Writes for as long as the edge runs.
    pub(crate) async fn keep(mut self) {
        let mut news = Vec::new();
        while self.news.recv_many(&mut news, BATCH).await > 0 {
            let now_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            let mut batch = Batch::default();
            news.drain(..).for_each(|one| self.take(one, now_ms, &mut batch));
            if let Err(error) = self.write(batch).await {
                tracing::warn!(%error, "what has happened was not written");
            }
        }
    }

    /// Gives it a number, if it has a share.
    fn take(&mut self, News { time_ms, kind, node, object, reason }: News, now_ms: u64, batch: &mut Batch) {
        let mut happening =
            Happening { number: self.last + 1, time_ms, kind, node, object, reason, left_out: 0 };
        let source = source_of(&happening);
        let Some(left_out) = self.shares.admit(&source, now_ms) else { return };
        self.last += 1;
        happening.left_out = left_out + self.happenings.overflow.swap(0, Ordering::Relaxed);
        batch.removed.extend(self.shares.keep(&source, happening.number));
        batch.added.push(happening);
    }

    async fn write(&self, Batch { added, removed }: Batch) -> Result<(), StoreError> {
        if added.is_empty() {
            return Ok(());
        }
        let writes = added.iter().map(|happening| Write::Happening(Box::new(happening.clone())));
        let writes = writes.chain([Write::RemoveHappenings(removed.clone())]).collect();
        commit(&*self.store, writes).await?;
        let mut entries = self.happenings.lock();
        entries.extend(added.iter().map(|happening| (happening.number, happening.clone())));
        removed.iter().for_each(|number| drop(entries.remove(number)));
        drop(entries);
        // Without followers it is dropped.
        added.into_iter().for_each(|happening| drop(self.happenings.told.send(happening)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use berth_store::SledStore;

    use super::*;

    fn key(app: &str) -> ObjectKey {
        ObjectKey { app: app.parse().unwrap(), class: "C".parse().unwrap(), name: "o".parse().unwrap() }
    }

    #[tokio::test]
    async fn what_has_happened_is_listed_followed_and_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(directory.path()).unwrap());
        let node: NodeId = "n1".parse().unwrap();
        let (happenings, keeper) = Happenings::open(&store);
        let mut followed = happenings.follow();
        happenings.node(HappeningKind::NodeLost, &node, "silent");
        happenings.object(HappeningKind::ObjectGivenUp, &key("a"), Some(&node), "lost");
        happenings.object(HappeningKind::ObjectGivenUp, &key("b"), None, "lost");
        let keeping = tokio::spawn(keeper.keep());
        for number in 1..=3 {
            assert_eq!(followed.recv().await.unwrap().number, number);
        }
        keeping.abort();
        let (again, _) = Happenings::open(&store);
        let numbers = |after, asked: &Asked, limit| -> Vec<u64> {
            again.after(after, asked, limit).iter().map(|happening| happening.number).collect()
        };
        assert_eq!(numbers(None, &Asked::default(), 2), [1, 2]);
        assert_eq!(numbers(Some(2), &Asked::default(), 2), [3]);
        let of_app = Asked { app: Some("b".parse().unwrap()), node: None };
        let of_node = Asked { app: None, node: Some(node) };
        assert_eq!((numbers(None, &of_app, 9), numbers(None, &of_node, 9)), (vec![3], vec![1, 2]));
    }

    #[tokio::test]
    async fn what_finds_no_place_is_counted_and_nobody_waits() {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(directory.path()).unwrap());
        let (happenings, keeper) = Happenings::open(&store);
        let node: NodeId = "n1".parse().unwrap();
        (0..QUEUE + 7).for_each(|_| happenings.node(HappeningKind::NodeSilent, &node, ""));
        let mut followed = happenings.follow();
        let keeping = tokio::spawn(keeper.keep());
        assert_eq!(followed.recv().await.unwrap().left_out, 7);
        keeping.abort();
    }
}
