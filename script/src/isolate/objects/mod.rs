//! The objects of an isolate: which are here, what each may do now, and what it keeps. The JavaScript of an object is known here only
//! by the number of its instance.
//!
//! ```text
//! (called) ──Open──▶ opening ──▶ here ──(Drop, nothing goes on)──▶ gone
//!                       │          └──(reset)──▶ gone: what it was doing has failed; the next call opens it anew
//!                       └──▶ elsewhere: calls go to the edge
//! ```

mod allowed;
mod container;
mod gate;
mod ids;
mod kept;
mod life;
mod math;
mod natives;
mod outgoing;
mod sql;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use rquickjs::{Ctx, Result as JsResult};

use self::container::Container;
use self::gate::Gate;
use self::kept::Kept;
use self::outgoing::Outgoing;
use self::sql::Database;
use super::host::Host;
use super::state::{Settle, State};
use crate::message::{Effect, ErrorFlags, Event, EventId, Object, ObjectId, ScriptError};

pub(crate) use self::container::port_of;
pub(crate) use self::gate::Section;
pub(crate) use self::natives::{for_web, object_of};

/// Objects that one isolate has at once, with those that it knows to be elsewhere. Each costs some KiB here and its instance there.
const OBJECTS: usize = 10_000;

/// What may wait before one object: what is more is refused at once, as a queue that long is not worked off in time.
const QUEUED: usize = 1000;

/// How long a critical section may take, in microseconds.
const SECTION_US: u64 = 30_000_000;

/// How long an alarm's handler may take, in microseconds.
const ALARM_US: u64 = 15 * 60 * 1_000_000;

/// One instance of an object, from its construction to its end. None has the number of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Instance(pub(crate) u64);

/// What runs as one turn.
pub(crate) type Run = Box<dyn for<'js> FnOnce(&Ctx<'js>, &State) -> JsResult<()>>;

/// A turn that waits before an object's gate.
pub(crate) struct Work {
    event: EventId,
    run: Run,
}

/// A moment at which something has taken too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline {
    instance: Instance,
    of: Due,
}

/// What has taken too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Section(Section),
    Alarm(EventId),
}

/// A section that goes on.
struct Pending {
    settle: Settle,
    /// Whether the object lives on when it fails.
    may_fail: bool,
}

/// An object that is here.
pub(crate) struct Live {
    object: Object,
    life: EventId,
    gate: Gate<Work>,
    out: Outgoing<Effect>,
    kept: Kept,
    /// Its database, once it is used; until then, the pages of it.
    sql: Option<Database>,
    pages: Vec<u8>,
    sections: HashMap<Section, Pending>,
    /// Who waits for a commit.
    syncs: VecDeque<(u64, Settle)>,
    /// The call that is its alarm's handler.
    alarm: Option<EventId>,
    /// Whether something was written since the last commit.
    unsent: bool,
    /// Its container, if its class has them.
    container: Option<Container>,
    /// Why it is reset as soon as this turn ends.
    doomed: Option<ScriptError>,
    /// Whether it is in the list of those that may go on.
    listed: bool,
    /// When something last began in it, in microseconds.
    used_us: u64,
    /// What it was last found to take up outside the script's heap, in bytes.
    weight: usize,
}

/// How it stands with an object.
enum Entry {
    /// The edge was asked for it.
    Opening {
        object: Object,
        stored: Vec<u8>,
        waiting: Vec<Event>,
    },
    Here(Instance),
    Elsewhere,
}

/// What comes of a call of an object.
enum Admitted {
    /// It is for this instance.
    Here(Instance, Event),
    /// It waits for the object, which has to be asked for.
    Asks,
    Waits,
    Refused(ScriptError),
}

/// All objects of an isolate.
#[derive(Default)]
pub(crate) struct Objects {
    entries: HashMap<ObjectId, Entry>,
    live: HashMap<Instance, Live>,
    last: u64,
    /// Those that have work that may run.
    ready: VecDeque<Instance>,
    /// Those that have written something.
    written: Vec<Instance>,
    /// Those that are to be reset.
    doomed: Vec<Instance>,
    /// What all take up outside the script's heap, in bytes.
    weight: usize,
}

fn overloaded() -> ScriptError {
    ScriptError::new("Error", "Durable Object is overloaded. Too many requests queued.")
        .with(ErrorFlags { overloaded: true, ..ErrorFlags::default() })
}

impl Objects {
    pub(crate) fn is_elsewhere(&self, object: ObjectId) -> bool {
        matches!(self.entries.get(&object), Some(Entry::Elsewhere))
    }

    /// Takes in a call of an object.
    fn admit(&mut self, object: &Object, event: Event) -> Admitted {
        match self.entries.get_mut(&object.id) {
            Some(Entry::Here(instance)) => {
                let full = self.live.get(instance).is_some_and(|live| live.gate.len() >= QUEUED);
                if full { Admitted::Refused(overloaded()) } else { Admitted::Here(*instance, event) }
            }
            Some(Entry::Opening { waiting, .. }) if waiting.len() >= QUEUED => {
                Admitted::Refused(overloaded())
            }
            Some(Entry::Opening { waiting, .. }) => {
                waiting.push(event);
                Admitted::Waits
            }
            Some(Entry::Elsewhere) | None => self.ask(object, event),
        }
    }

    fn ask(&mut self, object: &Object, event: Event) -> Admitted {
        if self.entries.len() >= OBJECTS {
            // What is elsewhere can be asked for again.
            self.entries.retain(|_, entry| !matches!(entry, Entry::Elsewhere));
        }
        if self.entries.len() >= OBJECTS {
            return Admitted::Refused(overloaded());
        }
        let entry = Entry::Opening { object: object.clone(), stored: Vec::new(), waiting: vec![event] };
        self.entries.insert(object.id, entry);
        Admitted::Asks
    }

    /// An object is here from now on.
    fn begin(
        &mut self,
        object: Object,
        life: EventId,
        (kept, pages): (Kept, Vec<u8>),
        container: Option<Container>,
        now_us: u64,
    ) -> Instance {
        self.last += 1;
        let instance = Instance(self.last);
        self.entries.insert(object.id, Entry::Here(instance));
        let live = Live {
            object,
            life,
            kept,
            sql: None,
            pages,
            gate: Gate::default(),
            out: Outgoing::default(),
            sections: HashMap::new(),
            syncs: VecDeque::new(),
            alarm: None,
            unsent: false,
            container,
            doomed: None,
            listed: false,
            used_us: now_us,
            weight: 0,
        };
        self.live.insert(instance, live);
        self.weigh(instance);
        instance
    }

    /// The call that stands for the life of one.
    pub(crate) fn life_of(&self, instance: Instance) -> Option<EventId> {
        self.live.get(&instance).map(|live| live.life)
    }

    fn here(&self, object: ObjectId) -> Option<Instance> {
        match self.entries.get(&object) {
            Some(Entry::Here(instance)) => Some(*instance),
            _ => None,
        }
    }

    /// An object that lives and is not to be reset.
    fn sound(&mut self, instance: Instance) -> Option<&mut Live> {
        self.live.get_mut(&instance).filter(|live| live.doomed.is_none())
    }

    /// Puts a turn before an object's gate; what is of an object that is gone is dropped.
    pub(crate) fn enqueue(&mut self, instance: Instance, section: Section, event: EventId, run: Run) {
        if let Some(live) = self.live.get_mut(&instance) {
            live.gate.push(section, Work { event, run });
            self.list(instance);
        }
    }

    /// The same, before all that waits.
    fn enqueue_first(&mut self, instance: Instance, section: Section, event: EventId, run: Run) {
        if let Some(live) = self.live.get_mut(&instance) {
            live.gate.push_first(section, Work { event, run });
            self.list(instance);
        }
    }

    /// Notes that an object may go on, if it may.
    fn list(&mut self, instance: Instance) {
        let Some(live) = self.live.get_mut(&instance) else { return };
        if !live.listed && live.gate.is_ready() {
            live.listed = true;
            self.ready.push_back(instance);
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next turn of any object, in which each has its turn after the others.
    pub(crate) fn next(&mut self) -> Option<(Instance, Section, EventId, Run)> {
        while let Some(instance) = self.ready.pop_front() {
            let Some(live) = self.live.get_mut(&instance) else { continue };
            live.listed = false;
            if let Some((section, Work { event, run })) = live.gate.next() {
                self.list(instance);
                return Some((instance, section, event, run));
            }
        }
        None
    }

    /// Lets something leave, if nothing has to be durable before. From what is gone nothing leaves.
    pub(crate) fn pass(&mut self, instance: Instance, effect: Effect) -> Option<Effect> {
        self.sound(instance)?.out.pass(effect)
    }

    /// Something was written; unless `unconfirmed`, what leaves from now on waits for it. What a transaction writes that goes on
    /// over more than one turn counts as written when that has ended: what it does meanwhile could not wait for that.
    fn touch(&mut self, instance: Instance, unconfirmed: bool) {
        let Some(live) = self.live.get_mut(&instance) else { return };
        if !unconfirmed && !live.kept.in_long_transaction() {
            live.out.written();
        }
        if !std::mem::replace(&mut live.unsent, true) {
            self.written.push(instance);
        }
    }

    /// A transaction has ended: if it was the outermost, what it wrote is written.
    fn released(&mut self, instance: Instance) {
        let Some(live) = self.live.get_mut(&instance) else { return };
        if live.unsent && !live.kept.in_long_transaction() {
            live.out.written();
        }
    }

    /// Has an object reset once the turn has ended; the first reason counts.
    fn doom(&mut self, instance: Instance, mut why: ScriptError) {
        why.flags.reset = true;
        if let Some(live) = self.sound(instance) {
            live.doomed = Some(why);
            self.doomed.push(instance);
        }
    }

    /// Those in which nothing has begun since then.
    fn unused_since(&self, us: u64) -> Vec<ObjectId> {
        self.live.values().filter(|live| live.used_us <= us).map(|live| live.object.id).collect()
    }

    /// Bytes that are kept outside the script's heap.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.weight
    }

    /// Counts what an object takes up now.
    fn weigh(&mut self, instance: Instance) {
        let Some(live) = self.live.get_mut(&instance) else { return };
        let bytes = live.kept.bytes() + live.pages.len() + live.sql.as_ref().map_or(0, Database::bytes);
        self.weight = self.weight - live.weight + bytes;
        live.weight = bytes;
    }

    /// Takes an object out.
    fn remove(&mut self, instance: Instance) -> Option<Live> {
        let live = self.live.remove(&instance)?;
        self.weight -= live.weight;
        self.entries.remove(&live.object.id);
        self.written.retain(|one| *one != instance);
        Some(live)
    }
}

impl Live {
    /// Its database; opened, if it is not yet, within the transactions that go on.
    fn database(&mut self, host: &Rc<dyn Host>) -> Result<&mut Database, String> {
        if self.sql.is_none() {
            let mut database = Database::open(std::mem::take(&mut self.pages), host)?;
            (1..=self.kept.depth()).try_for_each(|depth| database.begin(depth))?;
            self.sql = Some(database);
        }
        self.sql.as_mut().ok_or_else(String::new)
    }

    /// What the database takes up that keys and values must leave room for.
    fn database_bytes(&mut self) -> usize {
        self.pages.len() + self.sql.as_mut().map_or(0, Database::size)
    }

    /// Forgets what the database has.
    fn clear_database(&mut self, host: &Rc<dyn Host>) -> Result<(), String> {
        if self.sql.is_none() && self.pages.is_empty() {
            return Ok(());
        }
        self.database(host)?.clear(host)
    }

    /// Begins a transaction over all that it keeps.
    fn begin(&mut self, long: bool) -> Result<(), String> {
        self.kept.begin(long).map_err(|why| why.to_string())?;
        let depth = self.kept.depth();
        self.sql.as_mut().map_or(Ok(()), |database| database.begin(depth))
    }

    /// Ends the innermost transaction, and takes back what it changed if it is to be.
    fn end(&mut self, keep: bool) -> Result<(), String> {
        let depth = self.kept.depth();
        if depth == 0 {
            return Ok(());
        }
        if keep {
            self.kept.release();
        } else {
            self.kept.roll_back();
        }
        let Some(database) = &mut self.sql else { return Ok(()) };
        if keep { database.release(depth) } else { database.roll_back(depth) }
    }
}
