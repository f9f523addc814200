//! The parts of a shard: its objects (`objects`), its links to the nodes (`link`), the streams over them (`tunnel`) with
//! their shares (`streams`, `unread`), its heartbeats (`heartbeats`), what becomes of silent nodes (`silence`) and of drained ones (`drains`), and who is woken by new events (`wakes`). And the queue of work for its thread: work for
//! an object runs on the object's shard.
//!
//! Does not know HTTP, or what the queued work does.

pub(crate) mod drains;
pub(crate) mod heartbeats;
pub(crate) mod link;
pub(crate) mod objects;
pub(crate) mod silence;
pub(crate) mod streams;
pub(crate) mod tunnel;
pub(crate) mod unread;
pub(crate) mod wakes;

use std::sync::Arc;

use berth_common::ids::ObjectId;
use berth_common::lifecycle::Lifecycle;
use tokio::sync::{mpsc, oneshot};

/// Most queued work items for one shard's thread; further senders wait.
const WAITING: usize = 1024;

/// The shard of an object.
pub(crate) fn shard_of(object: ObjectId, shards: usize) -> usize {
    // The id is a hash already, so its bytes are evenly distributed.
    let [a, b, c, d, ..] = *object.as_bytes();
    u32::from_be_bytes([a, b, c, d]) as usize % shards
}

/// A closure to run on a shard's thread, with the state of that shard.
type Work<S> = Box<dyn FnOnce(&Lifecycle, &Arc<S>) + Send>;

/// Queues work for the threads of all shards. `S` is the state that work finds on each.
pub(crate) struct Shards<S>(Arc<[mpsc::Sender<Work<S>>]>);

impl<S> Clone for Shards<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The receiving end of a shard.
pub(crate) struct WorkQueue<S>(mpsc::Receiver<Work<S>>);

/// The shard has ended, and the edge with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the edge is stopping")]
pub(crate) struct ShardStopped;

impl<S: Send + Sync + 'static> Shards<S> {
    /// The senders for this many shards, and each shard's receiver.
    pub(crate) fn new(count: usize) -> (Self, Vec<WorkQueue<S>>) {
        let (senders, queues): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| {
                let (sender, receiver) = mpsc::channel(WAITING);
                (sender, WorkQueue(receiver))
            })
            .unzip();
        (Self(senders.into()), queues)
    }

    /// The number of shards.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The index of an object's shard.
    pub(crate) fn of(&self, object: ObjectId) -> usize {
        shard_of(object, self.count())
    }

    /// Runs a closure's future on a shard's thread, and returns its result. Dropping the future cancels the work.
    pub(crate) async fn run<T, F>(
        &self,
        shard: usize,
        work: impl FnOnce(Arc<S>) -> F + Send + 'static,
    ) -> Result<T, ShardStopped>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.start(shard, move |here| answer_with(answer, work(here))).await?;
        answered.await.map_err(|_| ShardStopped)
    }

    /// Starts a closure's future on a shard's thread, without waiting for it.
    pub(crate) async fn start<F>(
        &self,
        shard: usize,
        work: impl FnOnce(Arc<S>) -> F + Send + 'static,
    ) -> Result<(), ShardStopped>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let work: Work<S> = Box::new(move |lifecycle, here| lifecycle.spawn(work(Arc::clone(here))));
        self.0[shard].send(work).await.map_err(|_| ShardStopped)
    }
}

impl<S> WorkQueue<S> {
    /// Starts queued work, until the edge stops.
    pub(crate) async fn serve(mut self, lifecycle: Lifecycle, here: Arc<S>) {
        while let Some(start) = self.0.recv().await {
            start(&lifecycle, &here);
        }
    }
}

/// Sends the result of the work; cancels the work when nobody waits for it any more.
async fn answer_with<T>(mut answer: oneshot::Sender<T>, work: impl Future<Output = T>) {
    let done = tokio::select! {
        done = work => done,
        () = answer.closed() => return,
    };
    // If the receiver is gone the result is dropped, and a hold with it.
    drop(answer.send(done));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_runs_on_its_shard_and_is_cancelled_when_nobody_waits() {
        let (shards, queues) = Shards::<usize>::new(2);
        let lifecycle = Lifecycle::new();
        for (index, queue) in queues.into_iter().enumerate() {
            tokio::spawn(queue.serve(lifecycle.clone(), Arc::new(index)));
        }
        assert_eq!(shards.run(1, |here| async move { *here }).await, Ok(1));
        let (alive, given_up) = oneshot::channel::<()>();
        let endless = shards.run(0, |_| async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        assert!(tokio::time::timeout(std::time::Duration::from_millis(50), endless).await.is_err());
        assert!(given_up.await.is_err());
    }

    #[tokio::test]
    async fn a_shard_that_has_ended_takes_no_work() {
        let (shards, queues) = Shards::<()>::new(1);
        drop(queues);
        assert_eq!(shards.run(0, |_| async {}).await, Err(ShardStopped));
    }
}
