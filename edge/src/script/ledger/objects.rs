//! What a script may say of objects: which it has asked for, which are with it, and how far it is with their commits.
//!
//! ```text
//! Open ──▶ asked ──(given)──▶ here ──Commit 1, 2, …──▶ Reset or Dropped ──▶ gone, and its life's call with it
//!            └──(refused, or elsewhere)──▶ gone
//! ```

use std::collections::HashMap;

use berth_script::message::container::{LABELS, LAST_SIGNAL, Order, START_BYTES, Start};
use berth_script::message::{CHANGES_BYTES, EventId, Load, Object, ObjectId, STATE_PIECE_BYTES, ScriptError};

use super::Lie;

/// Objects that one script may have, or have asked for, at once: the script's own bound.
const OBJECTS: usize = 10_000;

/// Longest name that an id is made of, in bytes: the script's own bound.
const NAME_BYTES: usize = 2048;

/// Longest text of an error that an object is reset with, in bytes: a message is longer only with what is no error.
const ERROR_BYTES: usize = 256 << 10;

/// How it stands with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Asked {
        /// Whether its class has containers.
        container: bool,
    },
    Here {
        /// The call that stands for its life.
        life: EventId,
        /// The last commit that it has made whole.
        commits: u64,
        /// Its container; none for a class without.
        container: Option<Container>,
    },
}

/// How it stands with a container, as the script was told or has ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Container {
    running: bool,
    /// Whether it may be ordered to be killed: once each time it runs. The order may be under way when it has ended.
    may_destroy: bool,
}

impl Container {
    fn new(running: bool) -> Self {
        Self { running, may_destroy: running }
    }
}

/// A commit of which not all pieces have come. Pieces of others, or the object's end, do not come between.
#[derive(Debug)]
struct Unfinished {
    object: ObjectId,
    sequence: u64,
    bytes: usize,
}

/// The books of a script's objects.
#[derive(Debug, Default)]
pub(super) struct Objects {
    /// The classes, and which of them have containers.
    classes: HashMap<String, bool>,
    standing: HashMap<ObjectId, Standing>,
    unfinished: Option<Unfinished>,
}

impl Objects {
    pub(super) fn of(load: &Load) -> Self {
        let classes = load.objects.iter().map(|class| (class.name.clone(), class.container)).collect();
        Self { classes, ..Self::default() }
    }

    /// The script has lost all of them.
    pub(super) fn forget_all(&mut self) {
        self.standing.clear();
        self.unfinished = None;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.standing.is_empty()
    }

    /// Whether it may speak of this object, as the one whose method it calls or that it asks for.
    pub(super) fn is_named(&self, object: &Object) -> Result<(), Lie> {
        let named = object.name.as_ref().is_none_or(|name| name.len() <= NAME_BYTES);
        if named && self.classes.contains_key(&object.class) { Ok(()) } else { Err(Lie::Object) }
    }

    pub(super) fn asked(&mut self, object: &Object) -> Result<(), Lie> {
        self.is_named(object)?;
        let container = self.classes.get(&object.class) == Some(&true);
        let before = self.standing.insert(object.id, Standing::Asked { container });
        if before.is_some() || self.standing.len() > OBJECTS { Err(Lie::Object) } else { Ok(()) }
    }

    /// An object that was asked for is there from now on; whether the script still waits for it.
    pub(super) fn given(&mut self, object: ObjectId, life: EventId, running: bool) -> bool {
        let Some(standing) = self.standing.get_mut(&object) else { return false };
        let Standing::Asked { container } = *standing else { return false };
        *standing =
            Standing::Here { life, commits: 0, container: container.then(|| Container::new(running)) };
        true
    }

    /// The script is told that an object's container runs, or does not any more.
    pub(super) fn container_changed(&mut self, object: ObjectId, now: bool) {
        if let Some(Standing::Here { container: Some(container), .. }) = self.standing.get_mut(&object) {
            *container = Container { running: now, may_destroy: now || container.may_destroy };
        }
    }

    /// An order for an object's container.
    pub(super) fn order(&mut self, object: ObjectId, order: &Order) -> Result<(), Lie> {
        let Some(Standing::Here { container: Some(container), .. }) = self.standing.get_mut(&object) else {
            return Err(Lie::Container);
        };
        let sound = match order {
            Order::Start(start) => {
                let before = std::mem::replace(container, Container::new(true));
                !before.running && is_sound(start)
            }
            Order::Signal(signal) => (1..=LAST_SIGNAL).contains(signal),
            Order::Destroy => std::mem::take(&mut container.may_destroy),
            Order::KeepFor(ms) => *ms > 0,
        };
        if sound { Ok(()) } else { Err(Lie::Container) }
    }

    /// A port of an object's container.
    pub(super) fn has_port(&self, object: ObjectId, port: u16) -> Result<(), Lie> {
        let contained = matches!(self.standing.get(&object), Some(Standing::Here { container: Some(_), .. }));
        if contained && port > 0 { Ok(()) } else { Err(Lie::Container) }
    }

    /// An object that was asked for is not given; whether the script still waits for it.
    pub(super) fn refused(&mut self, object: ObjectId) -> bool {
        let asked = matches!(self.standing.get(&object), Some(Standing::Asked { .. }));
        asked && self.standing.remove(&object).is_some()
    }

    /// A piece of an object's commit.
    pub(super) fn piece(
        &mut self,
        object: ObjectId,
        sequence: u64,
        bytes: usize,
        last: bool,
    ) -> Result<(), Lie> {
        let Some(Standing::Here { commits, .. }) = self.standing.get_mut(&object) else {
            return Err(Lie::Object);
        };
        let before = match self.unfinished.take() {
            Some(Unfinished { object: of, sequence: number, bytes }) => {
                if of != object || number != sequence { Err(Lie::Commit) } else { Ok(bytes) }
            }
            None if sequence == *commits + 1 => Ok(0),
            None => Err(Lie::Commit),
        }?;
        let all = before + bytes;
        if bytes == 0 || bytes > STATE_PIECE_BYTES || all > CHANGES_BYTES {
            return Err(Lie::Commit);
        }
        if last {
            *commits = sequence;
        } else {
            self.unfinished = Some(Unfinished { object, sequence, bytes: all });
        }
        Ok(())
    }

    /// An object has been reset. Returns the call that stood for its life.
    pub(super) fn reset(&mut self, object: ObjectId, why: &ScriptError) -> Result<EventId, Lie> {
        let bytes = why.name.len() + why.message.len() + why.stack.len();
        if bytes > ERROR_BYTES { Err(Lie::Long) } else { self.ended(object) }
    }

    /// An object is not there any more. Returns the call that stood for its life.
    pub(super) fn ended(&mut self, object: ObjectId) -> Result<EventId, Lie> {
        if self.unfinished.as_ref().is_some_and(|commit| commit.object == object) {
            return Err(Lie::Commit);
        }
        match self.standing.remove(&object) {
            Some(Standing::Here { life, .. }) => Ok(life),
            _ => Err(Lie::Object),
        }
    }
}

/// Whether a container may be started with this.
fn is_sound(start: &Start) -> bool {
    let is_text = |text: &String| !text.contains('\0');
    let env = |(name, value): &(String, String)| !name.contains('=') && is_text(name) && is_text(value);
    start.weight() <= START_BYTES
        && start.labels.len() <= LABELS
        && start.env.iter().all(env)
        && start.entrypoint.iter().all(|words| !words.is_empty() && words.iter().all(is_text))
}
