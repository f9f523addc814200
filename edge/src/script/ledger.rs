//! What was asked of a script, and so what it may say. Every message of it is judged here first; what does not fit is a lie,
//! after which nothing from there is believed. Does not carry anything out.
//!
//! Everything a script may say is bounded by something that it was asked or given: so a flood is a lie before it is one.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use berth_script::message::{
    BODY_WINDOW, BodyRef, Destination, Effect, EventId, HostBody, INLINE_BODY_BYTES, Limits, MAX_OPS,
    MAX_OPS_WEIGHT, OpId, Piece, Request, ScriptBody,
};

/// Lines of the log that a call may write, and that may be written outside calls each time the code is loaded: the script's
/// own bound, and the line that says so.
const LOG_LINES: u32 = 257;

/// Longest line, in bytes: the script's own bound, and the sign that it was cut.
const LOG_LINE_BYTES: usize = (16 << 10) + 8;

/// Bodies of its own that a call may have open at once.
const BODIES: u32 = 1024;

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
    #[error("more messages about what has ended than can be under way")]
    Stray,
    #[error("a message about objects, of which it was given none")]
    Object,
}

/// A call that goes on.
#[derive(Debug, Default)]
struct Call {
    /// Whether what it comes to is an answer.
    answers: bool,
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
}

/// A body that the script makes.
#[derive(Debug)]
struct Made {
    event: EventId,
    /// Bytes that it may still send.
    credit: u32,
}

/// The books of one link.
#[derive(Debug)]
pub(super) struct Ledger {
    limits: Limits,
    begun: Instant,
    last_given: u64,
    last_op: u64,
    calls: HashMap<EventId, Call>,
    /// What waits for an answer: whose it is, and what it weighs.
    ops: HashMap<OpId, (EventId, usize)>,
    ops_weight: usize,
    given: HashMap<HostBody, Given>,
    made: HashMap<ScriptBody, Made>,
    lines: u32,
    /// Loads whose outcome is not known.
    loading: u32,
    loaded: bool,
    ping: Option<u64>,
    last_ping: u64,
    beats: u128,
    strays: u64,
}

impl Ledger {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            begun: now,
            last_given: 0,
            last_op: 0,
            calls: HashMap::new(),
            ops: HashMap::new(),
            ops_weight: 0,
            given: HashMap::new(),
            made: HashMap::new(),
            lines: 0,
            loading: 0,
            loaded: false,
            ping: None,
            last_ping: 0,
            beats: 0,
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
    }

    pub(super) fn load(&mut self) {
        self.loading += 1;
        self.lines = 0;
    }

    pub(super) fn is_loading(&self) -> bool {
        self.loading > 0
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.len()
    }

    /// A new call.
    pub(super) fn call(&mut self, event: EventId, answers: bool) {
        self.calls.insert(event, Call { answers, ..Call::default() });
    }

    /// A body for a call.
    pub(super) fn give(&mut self, event: EventId) -> HostBody {
        self.last_given += 1;
        let body = HostBody(self.last_given);
        self.given.insert(body, Given { event, credit: None });
        self.strays += STRAYS;
        body
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
            Effect::Loaded(_) | Effect::LoadFailed(_) => {
                self.loading = self.loading.checked_sub(1).ok_or(Lie::Load)?;
                self.loaded = matches!(effect, Effect::Loaded(_));
                Ok(())
            }
            Effect::Responded(event, response) => {
                self.answered(*event, true)?;
                self.body(*event, &response.body)
            }
            Effect::Failed(event, _) => self.answered(*event, false),
            Effect::Done { event, .. } => self.done(*event),
            // No object is given to scripts yet, so none can honestly be spoken of.
            Effect::Fetch { destination: Destination::Object(_) | Destination::Port { .. }, .. }
            | Effect::Container(..)
            | Effect::Rpc { .. }
            | Effect::Returned(..)
            | Effect::Open(_)
            | Effect::Commit { .. }
            | Effect::Reset(..)
            | Effect::Dropped(_) => Err(Lie::Object),
            Effect::Fetch { op, event, request, .. } => self.request(*op, *event, request),
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
            Effect::Condemned(_) => {
                if std::mem::take(&mut self.loaded) {
                    Ok(())
                } else {
                    Err(Lie::Load)
                }
            }
            Effect::Pong(number) => {
                if self.ping.take() == Some(*number) {
                    Ok(())
                } else {
                    Err(Lie::Pong)
                }
            }
            Effect::Beat => {
                self.beats += 1;
                let time = now.saturating_duration_since(self.begun).as_millis() / BEAT.as_millis();
                if self.beats <= time + 2 { Ok(()) } else { Err(Lie::Beat) }
            }
        }
    }

    fn answered(&mut self, event: EventId, response: bool) -> Result<(), Lie> {
        let call = self.calls.get_mut(&event).ok_or(Lie::Call)?;
        if response && !call.answers {
            return Err(Lie::Call);
        }
        if std::mem::replace(&mut call.answered, true) { Err(Lie::Twice) } else { Ok(()) }
    }

    fn done(&mut self, event: EventId) -> Result<(), Lie> {
        self.calls.remove(&event).ok_or(Lie::Call)?;
        // The end of a call that was cut short ends its bodies too.
        self.made.retain(|_, made| made.event != event);
        self.given.retain(|_, given| given.event != event);
        let weight = &mut self.ops_weight;
        self.ops.retain(|_, (of, weighs)| {
            *weight -= if *of == event { *weighs } else { 0 };
            *of != event
        });
        Ok(())
    }

    fn request(&mut self, op: OpId, event: EventId, request: &Request) -> Result<(), Lie> {
        let most = self.limits.subrequests;
        let call = self.calls.get_mut(&event).ok_or(Lie::Call)?;
        call.requests += 1;
        if call.requests > most {
            return Err(Lie::Requests);
        }
        if op.0 <= self.last_op {
            return Err(Lie::Number);
        }
        self.last_op = op.0;
        self.strays += 1;
        let weight = request.weight();
        self.ops_weight += weight;
        self.ops.insert(op, (event, weight));
        if self.ops.len() > MAX_OPS || self.ops_weight > MAX_OPS_WEIGHT {
            return Err(Lie::Requests);
        }
        self.body(event, &request.body)
    }

    /// A body in a message from the script.
    fn body(&mut self, event: EventId, body: &BodyRef) -> Result<(), Lie> {
        match body {
            BodyRef::None => Ok(()),
            BodyRef::Bytes(bytes) if bytes.len() <= INLINE_BODY_BYTES => Ok(()),
            BodyRef::Bytes(_) => Err(Lie::Long),
            BodyRef::Host(body) => match self.given.remove(body) {
                Some(Given { credit: None, .. }) => Ok(()),
                _ => Err(Lie::NotGiven),
            },
            BodyRef::Script(body) => self.make(event, *body),
        }
    }

    fn make(&mut self, event: EventId, body: ScriptBody) -> Result<(), Lie> {
        let call = self.calls.get_mut(&event).ok_or(Lie::Call)?;
        call.bodies += 1;
        if call.bodies > BODIES || self.made.contains_key(&body) {
            return Err(Lie::NotMade);
        }
        self.made.insert(body, Made { event, credit: 0 });
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

    fn line(&mut self, event: Option<EventId>, text: &str) -> Result<(), Lie> {
        let lines = match event {
            Some(event) => &mut self.calls.get_mut(&event).ok_or(Lie::Call)?.lines,
            None => &mut self.lines,
        };
        *lines += 1;
        if *lines > LOG_LINES || text.len() > LOG_LINE_BYTES { Err(Lie::Lines) } else { Ok(()) }
    }
}
