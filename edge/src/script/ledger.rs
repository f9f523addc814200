//! What was asked of a script, and so what it may say. Every message of it is judged here first; what does not fit is a lie,
//! after which nothing from there is believed. Does not carry anything out.
//!
//! Everything a script may say is bounded by something that it was asked or given: so a flood is a lie before it is one.

mod objects;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use berth_script::message::container::Change;
use berth_script::message::{
    Argument, BODY_WINDOW, BodyRef, Destination, Effect, EventId, HostBody, INLINE_BODY_BYTES, Limits, Load,
    MAX_BODIES, MAX_OPS, MAX_OPS_WEIGHT, MAX_SOCKETS, ObjectId, OpId, Piece, RPC_BYTES, ScriptBody,
    USED_STEP_US,
};

use self::objects::Objects;

/// Lines of the log that a call may write, and that may be written outside calls each time the code is loaded: the script's
/// own bound, and the line that says so.
const LOG_LINES: u32 = 257;

/// Longest line, in bytes: the script's own bound, and the sign that it was cut.
const LOG_LINE_BYTES: usize = (16 << 10) + 8;

/// WebSockets that it may write to at once: the script's own bound, and as many whose end is still under way.
const SOCKETS: usize = 2 * MAX_SOCKETS;

/// CPU time that it may tell of beyond what has gone by, in microseconds: its clock is another.
const CLOCKS_US: u64 = 5_000_000;

/// Longest name of a method, in bytes: far longer than any that is written.
const METHOD_BYTES: usize = 4 << 10;

/// What stands around each argument of a call, in bytes.
const ARGUMENT_BYTES: usize = 64;

/// Messages about each body of ours that may be under way when it ends: credit, and that it is not wanted.
const STRAYS: u64 = 3;

/// How often a script may show that it lives, beyond once in this time.
const BEAT: Duration = Duration::from_millis(500);

/// What a script said that it cannot have to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lie {
    #[error("a message about a call that there is not")]
    Call,
    #[error("a second end of a call")]
    Twice,
    #[error("a request whose number was used")]
    Number,
    #[error("more requests than may be made, or wait for their answer")]
    Requests,
    #[error("more lines than may be written, or too long a line")]
    Lines,
    #[error("a body that it was not given, or has begun to read")]
    NotGiven,
    #[error("a body of its own that there is not")]
    NotMade,
    #[error("a WebSocket where there can be none, or none where there must be one")]
    Socket,
    #[error("more bytes of a body than there is credit for")]
    Credit,
    #[error("a piece without bytes, or credit for none")]
    Empty,
    #[error("more than may be in one message")]
    Long,
    #[error("code that was not loaded")]
    Load,
    #[error("an answer to a question that was not asked")]
    Pong,
    #[error("more signs of life than there is time for")]
    Beat,
    #[error("more CPU time than there is, or too little to tell of")]
    Used,
    #[error("more messages about what has ended than can be under way")]
    Stray,
    #[error("a message about an object that it was not given")]
    Object,
    #[error("a commit out of its order, or with more than an object keeps")]
    Commit,
    #[error("an order for a container that there is not, or one that is none")]
    Container,
}

/// It is this lie unless something holds.
fn unless(holds: bool, lie: Lie) -> Result<(), Lie> {
    if holds { Ok(()) } else { Err(lie) }
}

/// What a call comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Answers {
    /// Its end.
    #[default]
    Nothing,
    /// A response.
    Response,
    /// What a method returns.
    Value,
    /// It stands for an object's life, and ends with that. How much is written and asked for in it is not bounded over all, as what
    /// the object is called for within the script is not told here; what goes on at once is.
    Life,
}

/// A call that goes on.
#[derive(Debug, Default)]
struct Call {
    answers: Answers,
    answered: bool,
    lines: u32,
    requests: u32,
    /// Bodies of its own that have not ended.
    bodies: u32,
}

/// A body that the script was given.
#[derive(Debug)]
struct Given {
    event: EventId,
    /// Bytes that it has taken on and not got yet. Nobody reads it as long as there is none.
    credit: Option<u32>,
    /// Whether it is what comes over a WebSocket.
    socket: bool,
}

/// A body that the script makes.
#[derive(Debug)]
struct Made {
    event: EventId,
    /// Whether it is what goes over a WebSocket.
    socket: bool,
    /// Bytes that it may still send.
    credit: u32,
}

/// The books of one link.
#[derive(Debug)]
pub(super) struct Ledger {
    limits: Limits,
    objects: Objects,
    begun: Instant,
    last_given: u64,
    /// Bodies that were taken back and may still be passed on: the message may be under way.
    withdrawn: u64,
    last_op: u64,
    calls: HashMap<EventId, Call>,
    /// What waits for an answer: whose it is, and what it weighs.
    ops: HashMap<OpId, (EventId, usize)>,
    ops_weight: usize,
    given: HashMap<HostBody, Given>,
    made: HashMap<ScriptBody, Made>,
    /// WebSockets among them.
    sockets: usize,
    lines: u32,
    /// Loads whose outcome is not known.
    loading: u32,
    loaded: bool,
    ping: Option<u64>,
    last_ping: u64,
    beats: u128,
    /// CPU time that it told of by itself, in microseconds.
    used_us: u64,
    /// How often it may tell of less than a step: at the end of what was loaded.
    rests: u32,
    strays: u64,
}

impl Ledger {
    pub(super) fn new(load: &Load, now: Instant) -> Self {
        Self {
            limits: load.limits,
            objects: Objects::of(load),
            begun: now,
            last_given: 0,
            withdrawn: 0,
            last_op: 0,
            calls: HashMap::new(),
            ops: HashMap::new(),
            ops_weight: 0,
            given: HashMap::new(),
            made: HashMap::new(),
            sockets: 0,
            lines: 0,
            loading: 0,
            loaded: false,
            ping: None,
            last_ping: 0,
            beats: 0,
            used_us: 0,
            rests: 0,
            strays: 0,
        }
    }

    /// Nothing that was asked or given before counts any more: the script has lost it.
    pub(super) fn forget_all(&mut self) {
        self.calls.clear();
        self.ops.clear();
        self.ops_weight = 0;
        self.given.clear();
        self.made.clear();
        self.sockets = 0;
        self.objects.forget_all();
    }

    pub(super) fn load(&mut self) {
        self.loading += 1;
        self.rests = self.rests.saturating_add(1);
        self.lines = 0;
    }

    pub(super) fn is_loading(&self) -> bool {
        self.loading > 0
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.len()
    }

    /// A new call.
    pub(super) fn call(&mut self, event: EventId, answers: Answers) {
        self.calls.insert(event, Call { answers, ..Call::default() });
    }

    /// An object that was asked for is with the script from now on; whether it still waits for it.
    /// `running` says whether its container runs.
    pub(super) fn given_object(&mut self, object: ObjectId, life: EventId, running: bool) -> bool {
        let waits = self.objects.given(object, life, running);
        if waits {
            self.call(life, Answers::Life);
        }
        waits
    }

    /// An object that was asked for is not given; whether the script still waits for it.
    pub(super) fn refused_object(&mut self, object: ObjectId) -> bool {
        self.objects.refused(object)
    }

    /// The script is told what has become of an object's container.
    pub(super) fn container_changed(&mut self, object: ObjectId, change: &Change) {
        self.objects.container_changed(object, matches!(change, Change::Running));
    }

    /// Whether objects are with the script.
    pub(super) fn has_objects(&self) -> bool {
        !self.objects.is_empty()
    }

    /// A body for a call.
    pub(super) fn give(&mut self, event: EventId) -> HostBody {
        self.last_given += 1;
        let body = HostBody(self.last_given);
        self.given.insert(body, Given { event, credit: None, socket: false });
        self.strays += STRAYS;
        body
    }

    /// A WebSocket for a call, which it may open or pass on.
    pub(super) fn give_socket(&mut self, event: EventId) -> HostBody {
        let body = self.give(event);
        self.given.insert(body, Given { event, credit: None, socket: true });
        body
    }

    /// What comes over a WebSocket that a call has given away.
    pub(super) fn give_back(&mut self, event: EventId) -> HostBody {
        let body = self.give(event);
        self.given.insert(body, Given { event, credit: Some(0), socket: true });
        body
    }

    /// A body is taken back that the script does not read.
    pub(super) fn withdraw(&mut self, body: HostBody) {
        self.withdrawn += u64::from(self.given.remove(&body).is_some());
    }

    /// Asks whether it lives, unless that is already being asked.
    pub(super) fn ask(&mut self) -> Option<u64> {
        if self.ping.is_some() {
            return None;
        }
        self.last_ping += 1;
        self.ping = Some(self.last_ping);
        self.ping
    }

    /// The call of a request that has come to something, if the script still wants to know.
    pub(super) fn complete(&mut self, op: OpId) -> Option<EventId> {
        let (event, weight) = self.ops.remove(&op)?;
        self.ops_weight -= weight;
        Some(event)
    }

    /// Bytes or the end of a body are sent; whether the script still wants them.
    pub(super) fn send(&mut self, body: HostBody, piece: &Piece) -> bool {
        let Some(given) = self.given.get_mut(&body) else { return false };
        match piece {
            Piece::Data(bytes) => {
                let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                given.credit = given.credit.map(|credit| credit.saturating_sub(count));
            }
            Piece::End | Piece::Failed(_) => {
                self.given.remove(&body);
            }
        }
        true
    }

    /// Gives credit for a body of the script's; whether it still goes on.
    pub(super) fn credit(&mut self, body: ScriptBody, bytes: u32) -> bool {
        let Some(made) = self.made.get_mut(&body) else { return false };
        made.credit = made.credit.saturating_add(bytes).min(BODY_WINDOW);
        true
    }

    /// Judges a message, and enters it.
    pub(super) fn judge(&mut self, effect: &Effect, now: Instant) -> Result<(), Lie> {
        match effect {
            Effect::Loaded(_) => self.load_ended(true),
            Effect::LoadFailed(_) => self.load_ended(false),
            Effect::Condemned(_) => unless(std::mem::take(&mut self.loaded), Lie::Load),
            Effect::Pong(number) => unless(self.ping.take() == Some(*number), Lie::Pong),
            Effect::Beat => self.beat(now),
            Effect::Used(us) => self.used(*us, now),
            Effect::Responded(event, response) => {
                self.answered(*event, Some(Answers::Response))?;
                if response.has_socket() {
                    return self.socket(*event, &response.body);
                }
                self.body(*event, &response.body)
            }
            Effect::Returned(event, value) => {
                self.answered(*event, Some(Answers::Value))?;
                self.argument(*event, value)
            }
            Effect::Failed(event, _) => self.answered(*event, None),
            Effect::Done { event, .. } => self.done(*event),
            Effect::Container(object, order) => self.objects.order(*object, order),
            Effect::Socket(given, made) => self.opened(*given, *made),
            Effect::Open(object) => self.objects.asked(object),
            Effect::Commit { object, sequence, piece, last } => {
                self.objects.piece(*object, *sequence, piece.len(), *last)
            }
            Effect::Reset(object, why) => self.objects.reset(*object, why).map(|life| self.end(life)),
            Effect::Dropped(object) => self.objects.ended(*object).map(|life| self.end(life)),
            Effect::Rpc { op, event, object, method, args } => {
                self.objects.is_named(object)?;
                self.method(*op, *event, method, args)
            }
            Effect::Fetch { op, event, destination, request, .. } => {
                match destination {
                    Destination::Object(object) => self.objects.is_named(object)?,
                    Destination::Port { object, port, .. } => self.objects.has_port(*object, *port)?,
                    Destination::Outside | Destination::Assets => {}
                }
                self.ask_for(*op, *event, request.weight())?;
                self.body(*event, &request.body)
            }
            Effect::Cancel(op) if op.0 > self.last_op => Err(Lie::Number),
            // It may be under way together with what it came to.
            Effect::Cancel(op) => match self.complete(*op) {
                Some(_) => Ok(()),
                None => self.spend_stray(),
            },
            Effect::Body(body, piece) => self.piece(*body, piece),
            Effect::Credit(body, bytes) => self.taken_on(*body, *bytes),
            Effect::Cancelled(body) => match self.given.remove(body) {
                Some(_) => Ok(()),
                None => self.stray(*body),
            },
            Effect::Log { event, text, .. } => self.line(*event, text),
        }
    }

    /// The code was loaded, or cannot be.
    fn load_ended(&mut self, loaded: bool) -> Result<(), Lie> {
        self.loading = self.loading.checked_sub(1).ok_or(Lie::Load)?;
        self.loaded = loaded;
        Ok(())
    }

    fn beat(&mut self, now: Instant) -> Result<(), Lie> {
        self.beats += 1;
        let time = now.saturating_duration_since(self.begun).as_millis() / BEAT.as_millis();
        unless(self.beats <= time + 2, Lie::Beat)
    }

    /// A method of an object is called.
    fn method(&mut self, op: OpId, event: EventId, method: &str, args: &[Argument]) -> Result<(), Lie> {
        if method.len() > METHOD_BYTES {
            return Err(Lie::Long);
        }
        let weight = |arg: &Argument| arg.weight().saturating_add(ARGUMENT_BYTES);
        let weight = args.iter().map(weight).fold(method.len(), usize::saturating_add);
        self.ask_for(op, event, weight)?;
        args.iter().try_for_each(|arg| self.argument(event, arg))
    }

    /// A call has come to an answer of this kind; without one, it has failed.
    fn answered(&mut self, event: EventId, with: Option<Answers>) -> Result<(), Lie> {
        let call = self.calls.get_mut(&event).ok_or(Lie::Call)?;
        if call.answers == Answers::Life || with.is_some_and(|with| with != call.answers) {
            return Err(Lie::Call);
        }
        if std::mem::replace(&mut call.answered, true) { Err(Lie::Twice) } else { Ok(()) }
    }

    fn done(&mut self, event: EventId) -> Result<(), Lie> {
        match self.calls.get(&event) {
            Some(call) if call.answers != Answers::Life => self.end(event),
            _ => return Err(Lie::Call),
        }
        Ok(())
    }

    /// Forgets a call with all that is its.
    fn end(&mut self, event: EventId) {
        self.calls.remove(&event);
        // The end of a call that was cut short ends its bodies too.
        let sockets = &mut self.sockets;
        self.made.retain(|_, made| {
            let gone = made.event == event;
            *sockets -= usize::from(gone && made.socket);
            !gone
        });
        self.given.retain(|_, given| given.event != event);
        let weight = &mut self.ops_weight;
        self.ops.retain(|_, (of, weighs)| {
            *weight -= if *of == event { *weighs } else { 0 };
            *of != event
        });
    }

    /// Something is asked for that weighs as much.
    fn ask_for(&mut self, op: OpId, event: EventId, weight: usize) -> Result<(), Lie> {
        let most = self.limits.subrequests;
        let call = self.calls.get_mut(&event).ok_or(Lie::Call)?;
        call.requests = call.requests.saturating_add(1);
        if call.requests > most && call.answers != Answers::Life {
            return Err(Lie::Requests);
        }
        // What an object asks for may have waited until it was durable, and come after what was asked for later.
        if op.0 == 0 || self.ops.contains_key(&op) {
            return Err(Lie::Number);
        }
        self.last_op = self.last_op.max(op.0);
        self.strays += 1;
        self.ops_weight = self.ops_weight.saturating_add(weight);
        self.ops.insert(op, (event, weight));
        if self.ops.len() > MAX_OPS || self.ops_weight > MAX_OPS_WEIGHT {
            return Err(Lie::Requests);
        }
        Ok(())
    }

    /// What a method is given, or returns.
    fn argument(&mut self, event: EventId, argument: &Argument) -> Result<(), Lie> {
        if argument.weight() > RPC_BYTES {
            return Err(Lie::Long);
        }
        match argument {
            Argument::Value(_) => Ok(()),
            Argument::Request(request) => self.body(event, &request.body),
            Argument::Response(response) if response.has_socket() => Err(Lie::Socket),
            Argument::Response(response) => self.body(event, &response.body),
        }
    }

    /// A WebSocket that the script gives away.
    fn socket(&mut self, event: EventId, body: &BodyRef) -> Result<(), Lie> {
        match body {
            BodyRef::None | BodyRef::Bytes(_) => Err(Lie::Socket),
            BodyRef::Host(body) => match self.given.remove(body) {
                Some(Given { credit: None, socket: true, .. }) => Ok(()),
                _ => Err(Lie::NotGiven),
            },
            BodyRef::Script(body) => self.make(event, *body, true),
        }
    }

    /// The script opens a WebSocket that it was given; what it sends there is a body of the same call.
    fn opened(&mut self, given: HostBody, made: ScriptBody) -> Result<(), Lie> {
        let unopened = |given: &&mut Given| given.socket && given.credit.is_none();
        let given = self.given.get_mut(&given).filter(unopened).ok_or(Lie::NotGiven)?;
        given.credit = Some(0);
        let event = given.event;
        self.make(event, made, true)
    }

    /// A body in a message from the script.
    fn body(&mut self, event: EventId, body: &BodyRef) -> Result<(), Lie> {
        match body {
            BodyRef::None => Ok(()),
            BodyRef::Bytes(bytes) if bytes.len() <= INLINE_BODY_BYTES => Ok(()),
            BodyRef::Bytes(_) => Err(Lie::Long),
            BodyRef::Host(body) => match self.given.remove(body) {
                Some(Given { credit: None, socket: false, .. }) => Ok(()),
                None if body.0 <= self.last_given && self.withdrawn > 0 => {
                    self.withdrawn -= 1;
                    Ok(())
                }
                _ => Err(Lie::NotGiven),
            },
            BodyRef::Script(body) => self.make(event, *body, false),
        }
    }

    fn make(&mut self, event: EventId, body: ScriptBody, socket: bool) -> Result<(), Lie> {
        let call = self.calls.get_mut(&event).ok_or(Lie::Call)?;
        call.bodies += 1;
        if call.bodies > MAX_BODIES || self.made.contains_key(&body) {
            return Err(Lie::NotMade);
        }
        self.sockets += usize::from(socket);
        if self.sockets > SOCKETS {
            return Err(Lie::Socket);
        }
        self.made.insert(body, Made { event, socket, credit: 0 });
        Ok(())
    }

    fn piece(&mut self, body: ScriptBody, piece: &Piece) -> Result<(), Lie> {
        let made = self.made.get_mut(&body).ok_or(Lie::NotMade)?;
        match piece {
            Piece::Data(bytes) if bytes.is_empty() => Err(Lie::Empty),
            Piece::Data(bytes) => {
                let count = u32::try_from(bytes.len()).map_err(|_| Lie::Credit)?;
                made.credit = made.credit.checked_sub(count).ok_or(Lie::Credit)?;
                Ok(())
            }
            Piece::End | Piece::Failed(_) => {
                let event = made.event;
                self.sockets -= usize::from(made.socket);
                self.made.remove(&body);
                if let Some(call) = self.calls.get_mut(&event) {
                    call.bodies = call.bodies.saturating_sub(1);
                }
                Ok(())
            }
        }
    }

    fn taken_on(&mut self, body: HostBody, bytes: u32) -> Result<(), Lie> {
        if bytes == 0 {
            return Err(Lie::Empty);
        }
        let Some(given) = self.given.get_mut(&body) else { return self.stray(body) };
        if given.socket && given.credit.is_none() {
            return Err(Lie::Socket);
        }
        let credit = given.credit.unwrap_or(0).saturating_add(bytes);
        given.credit = Some(credit);
        if credit <= BODY_WINDOW { Ok(()) } else { Err(Lie::Credit) }
    }

    /// A message about a body that has ended, and was under way.
    fn stray(&mut self, body: HostBody) -> Result<(), Lie> {
        if body.0 > self.last_given {
            return Err(Lie::NotGiven);
        }
        self.spend_stray()
    }

    fn spend_stray(&mut self) -> Result<(), Lie> {
        self.strays = self.strays.checked_sub(1).ok_or(Lie::Stray)?;
        Ok(())
    }

    fn used(&mut self, us: u64, now: Instant) -> Result<(), Lie> {
        let gone_by = now.saturating_duration_since(self.begun).as_micros();
        self.used_us = self.used_us.saturating_add(us);
        if us == 0 || u128::from(self.used_us) > gone_by + u128::from(CLOCKS_US) {
            return Err(Lie::Used);
        }
        if us < USED_STEP_US {
            self.rests = self.rests.checked_sub(1).ok_or(Lie::Used)?;
        }
        Ok(())
    }

    fn line(&mut self, event: Option<EventId>, text: &str) -> Result<(), Lie> {
        let (lines, most) = match event {
            Some(event) => {
                let call = self.calls.get_mut(&event).ok_or(Lie::Call)?;
                let most = if call.answers == Answers::Life { u32::MAX } else { LOG_LINES };
                (&mut call.lines, most)
            }
            None => (&mut self.lines, LOG_LINES),
        };
        *lines = lines.saturating_add(1);
        if *lines > most || text.len() > LOG_LINE_BYTES { Err(Lie::Lines) } else { Ok(()) }
    }
}
