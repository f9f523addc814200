//! Bodies that flow: those that the script reads, and those that it makes. What JavaScript waits for is settled by the caller,
//! when nothing here is borrowed.

use std::collections::{HashMap, VecDeque};

use serde_bytes::ByteBuf;

use super::loopback::{LOST_TEXT, is_local_body};
use super::state::Settle;
use crate::message::{
    BODY_WINDOW, Effect, EventId, HostBody, INLINE_BODY_BYTES, Piece, SOCKET_UNSENT_BYTES,
    SOCKETS_UNSENT_BYTES, ScriptBody,
};

/// A WebSocket's unsent bytes are at most this part of what all others leave, and its first at most `FIRST`: so those that nobody reads
/// leave room for those that somebody does.
const SHARE: usize = 4;
const FIRST: usize = 2;

/// What a read came to.
pub(crate) enum Read {
    Data(Vec<u8>),
    End,
    Failed(String),
}

/// A body in the edge.
struct Reading {
    event: EventId,
    /// Whether bytes were asked for; from then on it cannot be passed on.
    begun: bool,
    queue: VecDeque<Vec<u8>>,
    /// Bytes taken since credit was last given.
    taken: u32,
    /// How it ended, behind what is queued.
    end: Option<Result<(), String>>,
    waiting: Option<Settle>,
}

/// A piece that waits for credit.
struct Pending {
    bytes: Vec<u8>,
    sent: usize,
    /// Who waits until all of it is sent.
    waiting: Option<Settle>,
}

/// A body of the script's.
struct Writing {
    event: EventId,
    /// Whether a message is to name it, or has; only one may.
    taken: bool,
    /// Whether that message is on its way. Nothing of the body goes before.
    named: bool,
    /// Whether it is what goes over a WebSocket.
    socket: bool,
    credit: u32,
    pending: VecDeque<Pending>,
    /// Bytes that wait for credit.
    unsent: usize,
    ending: Option<Piece>,
}

/// Bytes that wait for credit: those of WebSockets apart, as their writers do not wait with them.
#[derive(Default)]
struct Unsent {
    bodies: usize,
    sockets: usize,
}

impl Unsent {
    fn of(&mut self, socket: bool) -> &mut usize {
        if socket { &mut self.sockets } else { &mut self.bodies }
    }
}

/// Why a WebSocket takes no more messages now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("More than {} MiB of this WebSocket wait for its other side.", SOCKET_UNSENT_BYTES >> 20)]
    Own,
    #[error(
        "This WebSocket has its share of the {} MiB that may wait for the other sides of all WebSockets of this script.",
        SOCKETS_UNSENT_BYTES >> 20
    )]
    All,
}

/// All bodies of an isolate.
#[derive(Default)]
pub(crate) struct Bodies {
    readings: HashMap<HostBody, Reading>,
    /// The calls that the edge gave its bodies to, as long as they last: with such a call the edge drops its bodies, wherever they are in
    /// here by then.
    givens: HashMap<HostBody, EventId>,
    writings: HashMap<ScriptBody, Writing>,
    /// The calls that have passed bodies of others on to the edge: they last until the ends of these have left, which may wait in an
    /// object for a commit.
    lent: HashMap<ScriptBody, EventId>,
    last: u64,
    unsent: Unsent,
    /// Those of WebSockets, of `writings`.
    sockets: usize,
}

/// What came of a change to a body that the script makes.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) effects: Vec<Effect>,
    /// Who waited for what is now sent.
    pub(crate) written: Vec<Settle>,
    /// The call whose body has ended by that.
    pub(crate) ended: Option<EventId>,
}

/// What goes with a call.
#[derive(Default)]
pub(crate) struct Forgotten {
    /// The bodies that nobody reads now and whose makers do not know it: of this isolate, or given to another call by the edge.
    pub(crate) unread: Vec<HostBody>,
    /// Those that the script has not made to their end.
    pub(crate) cut: Vec<ScriptBody>,
    /// Those of them that another call has passed on to the edge: it does not know that they end with this one.
    pub(crate) unfinished: Vec<ScriptBody>,
    /// Those of other calls that this one has passed on to the edge: nobody reads them now.
    pub(crate) returned: Vec<ScriptBody>,
}

/// Why a body cannot be passed on or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It is not here any more.
    Gone,
    /// Another read of it waits, or it was begun to be read and cannot be passed on.
    Busy,
}

impl Unusable {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Gone => "The body is not there any more: it was passed on, or its event has ended.",
            Self::Busy => "The body is being read.",
        }
    }
}

impl Bodies {
    /// Bytes that wait for credit, but for those of WebSockets.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.unsent.bodies
    }

    /// Bytes of WebSockets that wait for credit.
    pub(crate) fn socket_bytes(&self) -> usize {
        self.unsent.sockets
    }

    /// Those of one.
    pub(crate) fn unsent_of(&self, body: ScriptBody) -> usize {
        self.writings.get(&body).map_or(0, |writing| writing.unsent)
    }

    /// WebSockets that the script writes to.
    pub(crate) fn sockets(&self) -> usize {
        self.sockets
    }

    /// Whether so many further bytes of a WebSocket may wait.
    pub(crate) fn admits(&self, body: ScriptBody, bytes: usize) -> Result<(), Full> {
        let own = self.unsent_of(body);
        if own + bytes > SOCKET_UNSENT_BYTES {
            return Err(Full::Own);
        }
        let left = (SOCKETS_UNSENT_BYTES + own).saturating_sub(self.unsent.sockets);
        let most = left / if own == 0 { FIRST } else { SHARE };
        if own + bytes > most { Err(Full::All) } else { Ok(()) }
    }

    /// A body that came with a message to this call.
    pub(crate) fn arrived(&mut self, body: HostBody, event: EventId) {
        let reading =
            Reading { event, begun: false, queue: VecDeque::new(), taken: 0, end: None, waiting: None };
        if !is_local_body(body) {
            self.givens.entry(body).or_insert(event);
        }
        // One of this isolate's is known since it was on its way, and may have ended by now.
        self.readings.entry(body).or_insert(reading);
    }

    /// Gives a body to the edge again, unread. If it has ended by now, how.
    pub(crate) fn pass_on(&mut self, body: HostBody) -> Result<Option<Result<(), String>>, Unusable> {
        let reading = self.readings.get(&body).ok_or(Unusable::Gone)?;
        if reading.begun {
            return Err(Unusable::Busy);
        }
        let ended = self.readings.remove(&body).and_then(|reading| reading.end);
        if ended.is_some() {
            self.givens.remove(&body);
        }
        Ok(ended)
    }

    /// The edge is to be given one of its bodies again. Whether it has it still: it drops those of calls that have ended.
    pub(crate) fn give_back(&mut self, body: HostBody) -> bool {
        self.givens.remove(&body).is_some()
    }

    /// Whether a call has bodies that the edge gave to this one.
    pub(crate) fn lends(&self, event: EventId) -> bool {
        let elsewhere = |body| self.readings.get(body).is_some_and(|reading| reading.event != event);
        self.givens.iter().any(|(body, given)| *given == event && elsewhere(body))
    }

    /// Takes what is there of a body, and whether and how much credit to give. Without anything there, `None`: it is waited
    /// for with `wait`.
    pub(crate) fn read(&mut self, body: HostBody) -> Result<(Option<Read>, Option<Effect>), Unusable> {
        let reading = self.readings.get_mut(&body).ok_or(Unusable::Gone)?;
        if reading.waiting.is_some() {
            return Err(Unusable::Busy);
        }
        let first = !std::mem::replace(&mut reading.begun, true);
        let credit = first.then_some(Effect::Credit(body, BODY_WINDOW));
        match reading.take() {
            Some(Read::Data(bytes)) => Ok((Some(Read::Data(bytes)), reading.credit(body))),
            Some(end) => {
                self.readings.remove(&body);
                self.givens.remove(&body);
                Ok((Some(end), None))
            }
            None => Ok((None, credit)),
        }
    }

    /// Has somebody wait for the next piece of a body.
    pub(crate) fn wait(&mut self, body: HostBody, settle: Settle) {
        if let Some(reading) = self.readings.get_mut(&body) {
            reading.waiting = Some(settle);
        }
    }

    /// A piece from the edge: who waited for it. Pieces of bodies that are not wanted any more
    /// may be under way, and mean nothing.
    pub(crate) fn piece(&mut self, body: HostBody, piece: Piece) -> Option<Settle> {
        let reading = self.readings.get_mut(&body)?;
        match piece {
            Piece::Data(bytes) => reading.queue.push_back(bytes.into_vec()),
            Piece::End => reading.end = reading.end.take().or(Some(Ok(()))),
            Piece::Failed(text) => reading.end = Some(Err(text)),
        }
        reading.waiting.take()
    }

    /// The script does not want more of a body. Whether the edge has to be told, and who waited for it.
    pub(crate) fn cancel(&mut self, body: HostBody) -> Option<(Effect, Option<Settle>)> {
        let reading = self.readings.remove(&body)?;
        self.givens.remove(&body);
        Some((Effect::Cancelled(body), reading.waiting))
    }

    /// The number of a new body of the script's.
    pub(crate) fn number(&mut self) -> ScriptBody {
        self.last += 1;
        ScriptBody(self.last)
    }

    /// A new body of the script's, which may be what goes over a WebSocket.
    pub(crate) fn make(&mut self, event: EventId, socket: bool) -> ScriptBody {
        self.sockets += usize::from(socket);
        let body = self.number();
        let writing = Writing {
            event,
            taken: false,
            named: false,
            socket,
            credit: 0,
            pending: VecDeque::new(),
            unsent: 0,
            ending: None,
        };
        self.writings.insert(body, writing);
        body
    }

    /// A message of this call is going to name a body; the call that it belonged to before.
    pub(crate) fn adopt(&mut self, body: ScriptBody, event: EventId) -> Result<EventId, Unusable> {
        let writing = self.writings.get_mut(&body).filter(|writing| !writing.taken).ok_or(Unusable::Gone)?;
        writing.taken = true;
        Ok(std::mem::replace(&mut writing.event, event))
    }

    /// A call passes a body on to the edge that another call of this isolate makes, and whose end has not left.
    pub(crate) fn lend(&mut self, body: ScriptBody, event: EventId) {
        self.lent.insert(body, event);
    }

    /// The end of a body leaves for the edge: who had passed it on.
    pub(crate) fn left(&mut self, body: ScriptBody) -> Option<EventId> {
        self.lent.remove(&body)
    }

    /// The message that names a body is on its way.
    pub(crate) fn named(&mut self, body: ScriptBody) -> Sent {
        if let Some(writing) = self.writings.get_mut(&body) {
            writing.named = true;
        }
        self.send(body)
    }

    /// Whether the script still writes this body.
    pub(crate) fn is_open(&self, body: ScriptBody) -> bool {
        self.writings.get(&body).is_some_and(|writing| writing.ending.is_none())
    }

    /// The call that a body of the script's belongs to.
    pub(crate) fn event_of(&self, body: ScriptBody) -> Option<EventId> {
        self.writings.get(&body).map(|writing| writing.event)
    }

    /// The calls that last as long as a body of the script's.
    pub(crate) fn calls_of(&self, body: ScriptBody) -> Vec<EventId> {
        let maker = self.writings.get(&body).map(|writing| writing.event);
        maker.into_iter().chain(self.lent.get(&body).copied()).collect()
    }

    /// Sends bytes, as far as there is credit; the rest waits for it.
    pub(crate) fn write(&mut self, body: ScriptBody, bytes: Vec<u8>, waiting: Option<Settle>) -> Sent {
        if let Some(writing) = self.writings.get_mut(&body) {
            writing.unsent += bytes.len();
            *self.unsent.of(writing.socket) += bytes.len();
            writing.put(bytes, waiting);
        }
        self.send(body)
    }

    /// The last of a body, behind what waits.
    pub(crate) fn end(&mut self, body: ScriptBody, ending: Piece) -> Sent {
        let Some(writing) = self.writings.get_mut(&body).filter(|writing| writing.ending.is_none()) else {
            return Sent::default();
        };
        if matches!(ending, Piece::Failed(_)) {
            writing.pending.clear();
            *self.unsent.of(writing.socket) -= std::mem::take(&mut writing.unsent);
        }
        writing.ending = Some(ending);
        self.send(body)
    }

    /// The reader takes so many further bytes.
    pub(crate) fn credit(&mut self, body: ScriptBody, bytes: u32) -> Sent {
        if let Some(writing) = self.writings.get_mut(&body) {
            writing.credit = writing.credit.saturating_add(bytes);
        }
        self.send(body)
    }

    /// Nobody reads a body any more. Who waited to write it, and the call that made it; the edge is told its end.
    pub(crate) fn unread(&mut self, body: ScriptBody) -> Option<(EventId, Vec<Settle>)> {
        let writing = self.remove(body)?;
        let waiting = writing.pending.into_iter().filter_map(|one| one.waiting).collect();
        Some((writing.event, waiting))
    }

    /// The bodies of these calls that the script writes and that a message names.
    pub(crate) fn named_of(&self, events: &[EventId]) -> Vec<ScriptBody> {
        let named = self.writings.iter().filter(|(_, one)| one.named && events.contains(&one.event));
        named.map(|(body, _)| *body).collect()
    }

    /// Drops the bodies of a call.
    pub(crate) fn forget(&mut self, event: EventId) -> Forgotten {
        let unread = self.unread_of(event);
        let returned = self.take_back(event);
        let own = self.writings.iter().filter(|(_, writing)| writing.event == event);
        let cut: Vec<ScriptBody> = own.map(|(body, _)| *body).collect();
        cut.iter().for_each(|body| drop(self.remove(*body)));
        let unfinished = cut.iter().copied().filter(|body| self.lent.contains_key(body)).collect();
        Forgotten { unread, cut, unfinished, returned }
    }

    /// The bodies of other calls that this one has passed on to the edge.
    fn take_back(&mut self, event: EventId) -> Vec<ScriptBody> {
        let lent = self.lent.iter().filter(|(_, by)| **by == event);
        let lent: Vec<ScriptBody> = lent.map(|(body, _)| *body).collect();
        lent.iter().for_each(|body| _ = self.lent.remove(body));
        lent
    }

    /// Drops what a call was reading. The edge knows the end of those that it gave to that call.
    fn unread_of(&mut self, event: EventId) -> Vec<HostBody> {
        let own = self.readings.iter().filter(|(_, reading)| reading.event == event);
        let mut own: Vec<HostBody> = own.map(|(body, _)| *body).collect();
        own.iter().for_each(|body| drop(self.readings.remove(body)));
        own.retain(|body| is_local_body(*body) || self.givens.get(body).is_some_and(|given| *given != event));
        own.iter().for_each(|body| _ = self.givens.remove(body));
        own
    }

    /// Whether a call has passed bodies of others on to the edge whose ends have not left.
    pub(crate) fn is_lender(&self, event: EventId) -> bool {
        self.lent.values().any(|by| *by == event)
    }

    /// The edge drops the bodies that it gave to this call: breaks those that others have now.
    pub(crate) fn lose(&mut self, event: EventId) -> Vec<HostBody> {
        let given = self.givens.iter().filter(|(_, given)| **given == event);
        let mut lost: Vec<HostBody> = given.map(|(body, _)| *body).collect();
        lost.iter().for_each(|body| _ = self.givens.remove(body));
        lost.retain(|body| match self.readings.get_mut(body) {
            Some(reading) => reading.end.replace(Err(LOST_TEXT.to_owned())).is_none(),
            None => false,
        });
        lost
    }

    fn remove(&mut self, body: ScriptBody) -> Option<Writing> {
        let writing = self.writings.remove(&body)?;
        *self.unsent.of(writing.socket) -= writing.unsent;
        self.sockets -= usize::from(writing.socket);
        Some(writing)
    }

    fn send(&mut self, body: ScriptBody) -> Sent {
        let mut sent = Sent::default();
        let Some(writing) = self.writings.get_mut(&body).filter(|writing| writing.named) else { return sent };
        while let Some(first) = writing.pending.front_mut() {
            let rest = first.bytes.len() - first.sent;
            let count = rest.min(writing.credit as usize).min(INLINE_BODY_BYTES);
            if count > 0 {
                let bytes = ByteBuf::from(&first.bytes[first.sent..first.sent + count]);
                sent.effects.push(Effect::Body(body, Piece::Data(bytes)));
                first.sent += count;
                writing.credit -= u32::try_from(count).unwrap_or(u32::MAX);
                writing.unsent -= count;
                *self.unsent.of(writing.socket) -= count;
            }
            if first.sent < first.bytes.len() {
                if count == 0 {
                    return sent;
                }
                continue;
            }
            sent.written.extend(writing.pending.pop_front().and_then(|one| one.waiting));
        }
        if let Some(ending) = writing.ending.take() {
            sent.effects.push(Effect::Body(body, ending));
            sent.ended = Some(writing.event);
            self.remove(body);
        }
        sent
    }
}

impl Writing {
    /// Behind what waits. Small messages share a place: each by itself would take up far more than its bytes.
    fn put(&mut self, bytes: Vec<u8>, waiting: Option<Settle>) {
        match self.pending.back_mut() {
            Some(last) if self.socket && last.bytes.len() + bytes.len() <= INLINE_BODY_BYTES => {
                last.bytes.extend_from_slice(&bytes);
            }
            _ => self.pending.push_back(Pending { bytes, sent: 0, waiting }),
        }
    }
}

impl Reading {
    fn take(&mut self) -> Option<Read> {
        if let Some(bytes) = self.queue.pop_front() {
            self.taken = self.taken.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            return Some(Read::Data(bytes));
        }
        self.end.take().map(|end| end.map_or_else(Read::Failed, |()| Read::End))
    }

    /// Credit for what was taken, in steps that are worth a message; none once the body has ended.
    fn credit(&mut self, body: HostBody) -> Option<Effect> {
        let due = self.end.is_none() && self.taken >= BODY_WINDOW / 2;
        due.then(|| Effect::Credit(body, std::mem::take(&mut self.taken)))
    }
}
