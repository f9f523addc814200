//! Objects whose code has failed while commits of theirs waited: these are of turns before that, and are kept, as nothing says that they
//! are not. Nobody else has the object before. One that fails takes those after it with it.

use std::collections::VecDeque;
use std::sync::Arc;

use berth_script::message::{EventId, ObjectId};

use super::super::Keeper;
use super::super::owners::Claim;
use super::Actor;
use super::commits::{Waiting, hand_over, take_commit};

/// An object that is gone, and what is still to be committed of it.
pub(super) struct Leaving {
    pub(super) object: ObjectId,
    pub(super) claim: Arc<Claim>,
    pub(super) keeper: Box<dyn Keeper>,
    pub(super) waiting: VecDeque<Waiting>,
}

impl Actor {
    /// Commits what waits, now or after what is with the store (`busy`).
    pub(super) fn leave(&mut self, leaving: Leaving, life: EventId, busy: bool) {
        if leaving.waiting.is_empty() {
            return;
        }
        self.objects.leaving.insert(life, leaving);
        if !busy {
            self.commit_rest(life);
        }
    }

    /// A commit of what may be one of these has come to something.
    pub(super) fn leaving_settled(&mut self, life: EventId, durable: bool) {
        if durable {
            return self.commit_rest(life);
        }
        if let Some(leaving) = self.objects.leaving.remove(&life) {
            self.objects.give_up(&leaving.waiting);
        }
    }

    fn commit_rest(&mut self, life: EventId) {
        let Some(mut leaving) = self.objects.leaving.remove(&life) else { return };
        let Some(first) = take_commit(&mut leaving.waiting) else { return };
        if first.too_large {
            self.objects.unsettled -= first.weight;
            return self.objects.give_up(&leaving.waiting);
        }
        // They are few: what an object writes after this is refused.
        self.objects.committing += 1;
        let of = (leaving.object, life, Arc::clone(&leaving.claim));
        hand_over(leaving.keeper.as_mut(), first, of, self.link.to_itself.clone());
        self.objects.leaving.insert(life, leaving);
    }
}
