//! The objects that are on this thread: asked for, given, committed, and let go. Calls of objects that other threads have go there.
//!
//! ```text
//! Open ──(another lane's)──▶ Elsewhere
//!   └──▶ claim ──▶ read ──▶ Whole ──▶ commits, one under way at a time ──▶ Reset or Dropped, or the process ends: the claim goes back
//! ```
//!
//! What fails, and what happens then:
//! * What is kept cannot be read: the calls that wait for the object fail with that, and the next one asks again.
//! * A commit cannot be made durable: nothing that was written after it is tried or kept, and the script resets the object.
//! * The store is slow: this link's part of `COMMITS` are with it at once, the others wait for their turn; nothing further is read from the link from
//!   `COMMITS_BYTES` on. What is with the store counts until it is settled, whatever has become of the object or the process.
//! * The process ends in the middle of a commit: the claim goes back only when that is settled, so nobody reads what is about
//!   to change.
//! * The code fails while commits wait: these are of turns before, and are kept (`leaving`).
//! * Another version wants the object: it is to go as soon as nothing goes on in it, and within `LAST_WORK` in any case.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_script::message::{
    Argument, BodyRef, CHANGES_BYTES, Changes, ErrorFlags, Event, EventId, Object, ObjectId, OpId, Opened,
    Request, STATE_PIECE_BYTES, ScriptError,
};
use serde_bytes::ByteBuf;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::super::counts::Counts;
use super::super::failure::{Ended, Failure};
use super::super::ledger::Lie;
use super::super::link::{Asking, Called, Carried, Command, Commit, Read, What, next_event};
use super::super::owners::Claim;
use super::super::{Body, Container, ContainerChanges, Keeper, Kept, lane_of};
use super::commits::{COMMIT_BYTES, Waiting, bytes_waiting, hand_over, take_commit, weight};
use super::given::Source;
use super::leaving::Leaving;
use super::{Actor, Asked};

/// Bytes of commits under way on one link from which nothing further is read from it.
const COMMITS_BYTES: usize = 32 << 20;

/// Commits of one process that are with the store at once, over all of its links: a batch of it has room for those of other apps, too.
const COMMITS: usize = 64;

/// States that are read at once for one link: each may have 32 MiB.
const READS: usize = 4;

/// How long a version may go on with an object that another wants.
const LAST_WORK: Duration = Duration::from_secs(30);

/// An object that is on this thread.
pub(super) struct Here {
    life: EventId,
    claim: Arc<Claim>,
    keeper: Box<dyn Keeper>,
    /// Pieces of a commit of which not all have come.
    pieces: Vec<u8>,
    /// Whether a commit is with the store.
    busy: bool,
    /// Whether it waits for its turn to commit.
    queued: bool,
    /// Whether a commit has failed, so that no other is tried.
    failed: bool,
    waiting: VecDeque<Waiting>,
    /// Since when another wants it.
    wanted: Option<Instant>,
    /// Whether it was told to go at once, for the edge's reasons.
    told_to_go: bool,
    /// Its container, if its class has them, and what has become of that.
    pub(super) container: Option<Box<dyn Container>>,
    pub(super) container_changes: ContainerChanges,
}

/// The objects of a link.
pub(super) struct Objects {
    pub(super) here: HashMap<ObjectId, Here>,
    opening: HashMap<ObjectId, AbortOnDropHandle<()>>,
    /// Those that are gone and have something to be committed, by the call that stood for their life.
    pub(super) leaving: HashMap<EventId, Leaving>,
    reads: Arc<Semaphore>,
    /// Bytes of commits that are not settled.
    pub(super) unsettled: usize,
    /// Commits that are with the store.
    pub(super) committing: usize,
    /// Objects that wait for their turn to commit, each once.
    queue: VecDeque<ObjectId>,
}

impl Default for Objects {
    fn default() -> Self {
        Self {
            here: HashMap::new(),
            opening: HashMap::new(),
            leaving: HashMap::new(),
            reads: Arc::new(Semaphore::new(READS)),
            unsettled: 0,
            committing: 0,
            queue: VecDeque::new(),
        }
    }
}

impl Objects {
    /// Whether further commits are taken.
    pub(super) fn has_room(&self) -> bool {
        self.unsettled < COMMITS_BYTES
    }

    /// The process or its isolate is lost. What is with the store is settled under its claims still.
    pub(super) fn forget_all(&mut self, counts: &Counts) {
        self.opening.clear();
        self.queue.clear();
        for here in std::mem::take(&mut self.here).into_values() {
            counts.objects.leave();
            self.give_up(&here.waiting);
        }
    }

    /// What waits to be committed does not wait any more.
    pub(super) fn give_up(&mut self, waiting: &VecDeque<Waiting>) {
        self.unsettled -= bytes_waiting(waiting);
    }

    /// Whether an object may have its commit begun now; if not, its turn comes.
    fn has_turn(&mut self, id: ObjectId, lanes: usize) -> bool {
        let Some(here) = self.here.get_mut(&id) else { return false };
        if here.busy || here.failed || here.waiting.is_empty() {
            return false;
        }
        let turn = self.committing < commits(lanes);
        if !turn && !std::mem::replace(&mut here.queued, true) {
            self.queue.push_back(id);
        }
        turn
    }

    /// The object whose turn it is next.
    fn next_turn(&mut self) -> Option<ObjectId> {
        let id = self.queue.pop_front()?;
        if let Some(here) = self.here.get_mut(&id) {
            here.queued = false;
        }
        Some(id)
    }
}

/// Commits of one link that are with the store at once: each has its part, so that none waits for another's.
fn commits(lanes: usize) -> usize {
    (COMMITS / lanes.max(1)).max(1)
}

/// Why an object ends whose code was updated.
fn updated() -> ScriptError {
    let flags = ErrorFlags { reset: true, retryable: true, ..ErrorFlags::default() };
    ScriptError::new("Error", Ended::Retired.to_string()).with(flags)
}

impl Actor {
    /// The script asks for an object.
    pub(super) fn open_object(&mut self, object: Object) {
        let id = object.id;
        if lane_of(id, self.version.settings.lanes) != self.lane {
            self.ledger.refused_object(id);
            return self.tell(&Event::Opened(id, Opened::Elsewhere));
        }
        let key = (self.version.code.key.app.clone(), id);
        let commands = self.link.to_itself.clone();
        let claim = self.version.owners.claim(
            key,
            Box::new(move || {
                let _ = commands.send(Command::Wanted(id));
            }),
        );
        let (version, reads) = (Arc::clone(&self.version), Arc::clone(&self.objects.reads));
        let results = self.link.openers.clone();
        let commands = self.link.to_itself.clone();
        let container_changes = ContainerChanges::new(move || {
            let _ = commands.send(Command::Contained(id));
        });
        let task = tokio::spawn(async move {
            // The sender of a claim is not dropped before it was sent.
            let Ok(claim) = claim.await else { return };
            let permit = reads.acquire_owned().await.ok();
            let read = version.outside.open(&version.code, &object, container_changes.clone()).await;
            let read = read.and_then(|Kept { changes, keeper, contained }| {
                Ok(Read { claim, state: bytes_of(&changes)?, keeper, contained })
            });
            let _ = results.send(Asking { id, read, container_changes, _permit: permit }).await;
        });
        self.objects.opening.insert(id, AbortOnDropHandle::new(task));
    }

    /// What has come of it.
    pub(super) fn opened(&mut self, asking: Asking) {
        let Asking { id, read, container_changes, _permit } = asking;
        // What was asked for by an isolate that is lost is not given to the next.
        if self.objects.opening.remove(&id).is_none() {
            return;
        }
        let Read { claim, state, keeper, contained } = match read {
            Ok(read) => read,
            Err(error) => {
                if self.ledger.refused_object(id) {
                    self.tell(&Event::Opened(id, Opened::Failed(error)));
                }
                return;
            }
        };
        let life = next_event(&self.link.last_event);
        let running = contained.as_ref().is_some_and(|contained| contained.running);
        if !self.ledger.given_object(id, life, running) {
            return;
        }
        let mut pieces = state.chunks(STATE_PIECE_BYTES).peekable();
        while let Some(piece) = pieces.next() {
            let piece = ByteBuf::from(piece);
            let opened = if pieces.peek().is_some() {
                Opened::Part(piece)
            } else {
                Opened::Whole { life, rest: piece, running }
            };
            self.tell(&Event::Opened(id, opened));
        }
        let here = Here {
            life,
            claim: Arc::new(claim),
            keeper,
            pieces: Vec::new(),
            busy: false,
            queued: false,
            failed: false,
            waiting: VecDeque::new(),
            wanted: None,
            told_to_go: false,
            container: contained.map(|contained| contained.container),
            container_changes,
        };
        self.objects.here.insert(id, here);
        self.version.counts.objects.enter();
        self.container_changed(id);
    }

    /// A piece of a commit. An error is one that was no commit.
    pub(super) fn commit(
        &mut self,
        id: ObjectId,
        sequence: u64,
        piece: &[u8],
        last: bool,
    ) -> Result<(), Lie> {
        let Some(here) = self.objects.here.get_mut(&id) else { return Ok(()) };
        if here.failed {
            return Ok(());
        }
        here.pieces.extend_from_slice(piece);
        if !last {
            return Ok(());
        }
        let bytes = std::mem::take(&mut here.pieces);
        let changes = Changes::from_bytes(&bytes).map_err(|_| Lie::Commit)?;
        let weight = weight(bytes.len(), &changes);
        let too_large = weight > COMMIT_BYTES;
        here.waiting.push_back(Waiting { sequence, weight, too_large, changes });
        self.objects.unsettled += weight;
        self.begin_commit(id);
        Ok(())
    }

    /// Hands what waits to the store, as one, unless the store has something of the object already.
    fn begin_commit(&mut self, id: ObjectId) {
        let lanes = self.version.settings.lanes;
        if !self.objects.has_turn(id, lanes) {
            return;
        }
        let Some(here) = self.objects.here.get_mut(&id) else { return };
        let Some(waiting) = take_commit(&mut here.waiting) else { return };
        if waiting.too_large {
            self.objects.unsettled -= waiting.weight;
            return self.commit_failed(id, waiting.sequence);
        }
        here.busy = true;
        let commands = self.link.to_itself.clone();
        let of = (id, here.life, Arc::clone(&here.claim));
        self.objects.committing += 1;
        hand_over(here.keeper.as_mut(), waiting, of, commands);
    }

    /// A commit has come to something.
    pub(super) fn settled(&mut self, commit: &Commit) {
        let &Commit { id, life, sequence, weight, durable } = commit;
        self.objects.committing -= 1;
        self.objects.unsettled -= weight;
        let of_this_life = self.objects.here.get_mut(&id).filter(|here| here.life == life);
        if let Some(here) = of_this_life {
            here.busy = false;
            if durable {
                self.tell(&Event::Committed(id, sequence));
            } else {
                self.commit_failed(id, sequence);
            }
        } else {
            self.leaving_settled(life, durable);
        }
        // Those that wait for their turn come first: an object that always has more would keep its own.
        while self.objects.committing < commits(self.version.settings.lanes)
            && let Some(next) = self.objects.next_turn()
        {
            self.begin_commit(next);
        }
        self.begin_commit(id);
    }

    /// Nothing of the object is written any more: its script takes it back to what is durable, by a reset. What is under way of the
    /// script's is not kept either, so that it never fills the link.
    fn commit_failed(&mut self, id: ObjectId, sequence: u64) {
        if let Some(here) = self.objects.here.get_mut(&id) {
            self.objects.unsettled -= bytes_waiting(&here.waiting);
            here.waiting.clear();
            here.pieces = Vec::new();
            (here.failed, here.told_to_go) = (true, true);
        }
        self.tell(&Event::CommitFailed(id, sequence));
    }

    /// An object is not here any more.
    pub(super) fn object_ended(&mut self, id: ObjectId) {
        if let Some(here) = self.take_object(id) {
            self.objects.give_up(&here.waiting);
        }
    }

    fn take_object(&mut self, id: ObjectId) -> Option<Here> {
        let here = self.objects.here.remove(&id)?;
        self.version.counts.objects.leave();
        if here.queued {
            self.objects.queue.retain(|queued| *queued != id);
        }
        self.forget_call(here.life);
        Some(here)
    }

    /// An object's code has failed, or was told to go at once. Its container ends with what failed, and no other has the object
    /// before that; what was told to go comes back, and finds its container.
    pub(super) fn object_reset(&mut self, id: ObjectId) {
        let Some(mut here) = self.take_object(id) else { return };
        if !here.told_to_go {
            self.version.counts.resets.count();
        }
        if let Some(container) = here.container.take().filter(|_| !here.told_to_go) {
            container.reset(Box::new(Arc::clone(&here.claim)));
        }
        let Here { life, claim, keeper, busy, waiting, .. } = here;
        self.leave(Leaving { object: id, claim, keeper, waiting }, life, busy);
    }

    /// Another wants an object.
    pub(super) fn wanted(&mut self, id: ObjectId) {
        let Some(here) = self.objects.here.get_mut(&id) else { return };
        here.wanted.get_or_insert_with(Instant::now);
        self.tell(&Event::Drop(id, None));
    }

    /// Has objects go that others want, as soon as nothing goes on in them or their time is over.
    pub(super) fn let_go_of_wanted(&mut self) {
        let wanted = self.objects.here.iter().filter_map(|(id, here)| Some((*id, here.wanted?)));
        let wanted: Vec<_> = wanted.collect();
        for (id, since) in wanted {
            let why = (since.elapsed() >= LAST_WORK).then(updated);
            if let Some(here) = self.objects.here.get_mut(&id) {
                here.told_to_go |= why.is_some();
            }
            self.tell(&Event::Drop(id, why));
        }
    }

    /// A request to an object of another thread.
    pub(super) fn fetch_object(
        &mut self,
        op: OpId,
        event: EventId,
        object: Box<Object>,
        mut request: Box<Request>,
    ) {
        let body = std::mem::replace(&mut request.body, BodyRef::None);
        let body = self.body_of(event, body);
        let id = object.id;
        let called = self.beside(id, What::Object(object, request, body));
        let commands = self.link.to_itself.clone();
        let task = tokio::spawn(async move {
            let answer = match called {
                Ok(called) => called.answer().await,
                Err(failure) => Err(failure),
            };
            let answer = answer.map(|response| response.map(Body::new)).map_err(Failure::into_error);
            let _ = commands.send(Command::Completed(op, answer));
        });
        self.asked.insert(op, Asked { event, task: task.abort_handle() });
    }

    /// A call of a method of an object of another thread.
    pub(super) fn call_object(
        &mut self,
        op: OpId,
        event: EventId,
        object: Box<Object>,
        method: String,
        args: Vec<Argument>,
    ) {
        let args = args.into_iter().map(|arg| self.carried(event, arg)).collect();
        let id = object.id;
        let called = self.beside(id, What::Method { object, method, args });
        let commands = self.link.to_itself.clone();
        let task = tokio::spawn(async move {
            let value = match called {
                Ok(called) => called.value().await,
                Err(failure) => Err(failure),
            };
            let _ = commands.send(Command::Returned(op, value.map_err(Failure::into_error)));
        });
        self.asked.insert(op, Asked { event, task: task.abort_handle() });
    }

    fn beside(&self, id: ObjectId, what: What) -> Result<Called, Failure> {
        let lane = lane_of(id, self.version.settings.lanes);
        self.version.beside(lane)?.call(what)
    }

    /// An argument with its body beside it, for another thread.
    pub(super) fn carried(&mut self, event: EventId, mut argument: Argument) -> Carried {
        let body = match body_in(&mut argument).map(|body| std::mem::replace(body, BodyRef::None)) {
            None | Some(BodyRef::None) => None,
            Some(body) => Some(self.body_of(event, body)),
        };
        Carried { argument, body }
    }

    /// The same as the script of this thread gets it, as an argument of a call.
    pub(super) fn argument(&mut self, event: EventId, carried: Carried) -> Argument {
        let Carried { mut argument, body } = carried;
        if let (Some(place), Some(body)) = (body_in(&mut argument), body) {
            *place = self.give(event, Body::new(body), Source::Call);
        }
        argument
    }

    /// The same, as what a call of its has come to.
    fn result(&mut self, event: EventId, carried: Carried) -> Result<Argument, ScriptError> {
        let Carried { mut argument, body } = carried;
        if let (Some(place), Some(body)) = (body_in(&mut argument), body) {
            *place = self.give_answer(event, Body::new(body))?;
        }
        Ok(argument)
    }

    /// A method that the script has called has come to something.
    pub(super) fn returned(&mut self, op: OpId, outcome: Result<Carried, ScriptError>) {
        self.asked.remove(&op);
        let Some(event) = self.ledger.complete(op) else { return };
        let outcome = outcome.and_then(|carried| self.result(event, carried));
        self.tell(&Event::Returned { op, outcome });
    }
}

fn bytes_of(changes: &Changes) -> Result<Vec<u8>, ScriptError> {
    let bytes = changes.to_bytes().ok().filter(|bytes| bytes.len() <= CHANGES_BYTES);
    bytes.ok_or_else(|| {
        ScriptError::new("Error", "What is stored of the Durable Object is more than it may be.")
    })
}

fn body_in(argument: &mut Argument) -> Option<&mut BodyRef> {
    match argument {
        Argument::Value(_) => None,
        Argument::Request(request) => Some(&mut request.body),
        Argument::Response(response) => Some(&mut response.body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_have_equal_parts_of_the_store_and_each_has_one() {
        assert_eq!([1, 4, 48, 1000].map(commits), [64, 16, 1, 1]);
    }
}
