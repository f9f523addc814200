//! Carries out what a script says, once it was judged to be what it may say: its answers, its requests, the bodies that it makes
//! and reads. Judges nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_script::message::{
    BODY_WINDOW, BodyRef, Destination, Effect, Event, EventId, HostBody, OpId, Piece, Request, Response,
    SOCKET_WINDOW, ScriptBody as MadeId, ScriptError, SocketMessage,
};
use serde_bytes::ByteBuf;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;

use super::super::body::{Made, Room, pump};
use super::super::failure::{Ended, Failure};
use super::super::ledger::Lie;
use super::super::link::Command;
use super::super::sockets::{Connection, frames};
use super::super::{Body, Outgoing, PortAnswer, ScriptBody, head};
use super::{Actor, Asked, Code, Making, given};

/// Bytes that scripts' bodies may have under way on one link, all together; further bodies wait for those to be read. Not those of
/// WebSockets, whose number is bounded: they stay for long, and what waits behind them would wait as long.
const MADE_BYTES: u64 = 64 << 20;

/// The code that WebSockets are closed with when their script's version is not run any more.
const GOING_AWAY: u16 = 1001;

impl Actor {
    /// Carries out what was judged to be what a script may say.
    /// An error is a commit that is none.
    pub(super) fn carry_out(&mut self, effect: Effect) -> Result<(), Lie> {
        match effect {
            Effect::Loaded(_) | Effect::Pong(_) | Effect::Beat => {}
            Effect::Open(object) => self.open_object(*object),
            Effect::Commit { object, sequence, piece, last } => {
                return self.commit(object, sequence, &piece, last);
            }
            Effect::Reset(object, _) => self.object_reset(object),
            Effect::Dropped(object) => self.object_ended(object),
            Effect::Rpc { op, event, object, method, args } => {
                self.call_object(op, event, object, method, args);
            }
            Effect::Returned(event, value) => {
                let value = self.carried(event, value);
                if let Some(asker) = self.calls.get_mut(&event).and_then(|call| call.answer.take()) {
                    drop(asker.value.send(Ok(value)));
                }
            }
            Effect::Fetch { op, event, destination: Destination::Object(object), request, .. } => {
                self.fetch_object(op, event, object, request);
            }
            Effect::Fetch {
                op,
                event,
                destination: Destination::Port { object, port, upgrade },
                request,
                ..
            } => {
                self.fetch_port(op, event, object, port, upgrade, *request);
            }
            Effect::Container(object, order) => self.order_container(object, order),
            Effect::Socket(given, made) => self.open_socket(given, made),
            Effect::LoadFailed(failed) => {
                let failed = Box::new(failed);
                self.forget_all(&Failure::Load(failed.clone()));
                self.code = Code::Failed(failed);
            }
            Effect::Condemned(why) => {
                self.version.condemned(why.into());
                self.forget_all(&Failure::Ended(why.into()));
                self.code = Code::Missing;
            }
            Effect::Responded(event, response) => self.responded(event, *response),
            Effect::Failed(event, error) => self.failed(event, error),
            Effect::Used(us) => self.version.counts.cpu(Duration::from_micros(us)),
            Effect::Done { event, cpu_us } => self.done(event, Duration::from_micros(cpu_us)),
            Effect::Fetch { op, event, destination, request, .. } => {
                self.fetch(op, event, *request, |request| Outgoing { destination, request });
            }
            Effect::Cancel(op) => drop(self.asked.remove(&op)),
            Effect::Body(body, piece) => self.piece(body, piece),
            Effect::Credit(body, bytes) => self.read_on(body, bytes),
            Effect::Cancelled(body) => drop(self.given.remove(&body)),
            Effect::Log { level, text, .. } => self.version.outside.log(&self.version.code.key, level, text),
        }
        Ok(())
    }

    /// The body that a message of the script's names.
    pub(super) fn body_of(&mut self, event: EventId, body: BodyRef) -> ScriptBody {
        match body {
            BodyRef::None => ScriptBody::whole(Vec::new()),
            BodyRef::Bytes(bytes) => ScriptBody::whole(bytes.into_vec()),
            BodyRef::Host(id) => match self.given.remove(&id).and_then(|mut given| given.body.take()) {
                Some(body) => ScriptBody::passed(body),
                // The ledger has it, unless it was taken back.
                None => ScriptBody::passed(given::cancelled()),
            },
            BodyRef::Script(id) => self.made(event, id, false),
        }
    }

    /// A body that the script makes from now on.
    fn made(&mut self, event: EventId, id: MadeId, socket: bool) -> ScriptBody {
        let window = if socket { SOCKET_WINDOW } else { BODY_WINDOW };
        // Bounded by credit.
        let (pieces, received) = mpsc::unbounded_channel();
        let room = Arc::new(Room::default());
        let making = Making { event, pieces, window, room: Arc::clone(&room), unread: 0, socket };
        self.making.insert(id, making);
        if socket {
            self.give_credit(id, window);
        } else {
            self.waiting.push_back(id);
            self.open();
        }
        ScriptBody::made(Made::new(id, received, Arc::clone(&self.link.words), window, room))
    }

    /// The WebSocket that a response of the script's has in place of its body, and where it leads.
    fn socket_of(&mut self, event: EventId, body: BodyRef) -> (ScriptBody, Option<Connection>) {
        match body {
            BodyRef::Script(id) => {
                let plug = self.plug(event, id);
                (self.made(event, id, true), Some(Connection::Script(plug)))
            }
            BodyRef::Host(id) => {
                let given = self.given.remove(&id);
                let parts = given.map(|mut given| (given.body.take(), given.connection.take()));
                let (body, connection) = parts.unwrap_or_default();
                (body.map_or_else(|| ScriptBody::whole(Vec::new()), ScriptBody::passed), connection)
            }
            // The ledger knows none such.
            BodyRef::None | BodyRef::Bytes(_) => (ScriptBody::whole(Vec::new()), None),
        }
    }

    /// The script opens a WebSocket that it was given.
    fn open_socket(&mut self, id: HostBody, made: MadeId) {
        let Some(given) = self.given.get_mut(&id) else { return };
        given.is_opened();
        let (event, connection) = (given.event, given.connection.take());
        let outgoing = Body::new(self.made(event, made, true));
        match connection {
            Some(Connection::Script(plug)) => plug.connect(outgoing),
            Some(Connection::Server(upgraded)) => {
                // Taken before, it is lost to this one.
                let Some(stream) = upgraded.take() else { return };
                let (sender, incoming) = frames::incoming();
                tokio::spawn(async move {
                    let never = CancellationToken::new();
                    frames::carry(stream, Role::Client, outgoing, sender, &never).await;
                });
                if let Some(given) = self.given.get_mut(&id) {
                    given.body = Some(incoming);
                }
            }
            None => {}
        }
    }

    /// Gives credit to bodies that wait for it, as long as there is any.
    pub(super) fn open(&mut self) {
        while self.open_bytes + u64::from(BODY_WINDOW) <= MADE_BYTES
            && let Some(id) = self.waiting.pop_front()
        {
            // Without a reader the script is being told.
            let making = self.making.get(&id).filter(|making| making.room.take(making.window));
            let Some(window) = making.map(|making| making.window) else { continue };
            self.open_bytes += u64::from(window);
            self.give_credit(id, window);
        }
        self.tell_waiting();
    }

    /// Has those who keep room know whether others wait for it.
    fn tell_waiting(&mut self) {
        let waiting = !self.waiting.is_empty();
        if std::mem::replace(&mut self.waiting_told, waiting) != waiting {
            self.version.waiting(waiting);
        }
    }

    fn give_credit(&mut self, id: MadeId, bytes: u32) {
        if self.ledger.credit(id, bytes) {
            self.tell(&Event::Credit(id, bytes));
        }
    }

    fn responded(&mut self, event: EventId, mut response: Response) {
        let body = std::mem::replace(&mut response.body, BodyRef::None);
        let (body, connection) = if response.has_socket() {
            self.socket_of(event, body)
        } else {
            (self.body_of(event, body), None)
        };
        let answer = head::response_from(response, body).map(|mut response| {
            connection.into_iter().for_each(|one| one.put_into(response.extensions_mut()));
            response
        });
        let answer = answer.map_err(|text| Failure::Script(ScriptError::new("TypeError", text)));
        if let Some(waits) = self.calls.get_mut(&event).and_then(|call| call.answer.take()) {
            // Without a receiver the client has gone, and the body goes the way of those that nobody reads.
            drop(waits.response.send(answer));
        }
    }

    fn failed(&mut self, event: EventId, error: ScriptError) {
        let Some(call) = self.calls.get_mut(&event) else { return };
        if let Some(waits) = call.answer.take() {
            waits.fail(Failure::Script(error.clone()));
        }
        call.failed = Some(error);
    }

    fn done(&mut self, event: EventId, cpu: Duration) {
        let Some(call) = self.calls.remove(&event) else { return };
        self.version.counts.event(call.kind, call.failed.is_none(), call.begun, cpu);
        self.forget_call(event);
        if let Some(answer) = call.answer {
            let text = "The script will never generate a response.";
            answer.fail(Failure::Script(ScriptError::new("Error", text)));
        }
        if let Some(end) = call.end {
            drop(end.send(call.failed.map_or(Ok(()), |error| Err(Failure::Script(error)))));
        }
    }

    /// What a call has left goes with it.
    pub(super) fn forget_call(&mut self, event: EventId) {
        self.asked.retain(|_, asked| asked.event != event);
        self.given.retain(|_, given| given.event != event);
        let cut: Vec<MadeId> =
            self.making.iter().filter(|(_, making)| making.event == event).map(|(id, _)| *id).collect();
        for id in cut {
            self.made_ends(id, Piece::Failed("its event has ended".to_owned()));
        }
    }

    fn fetch(
        &mut self,
        op: OpId,
        event: EventId,
        request: Request,
        outgoing: impl FnOnce(http::Request<Body>) -> Outgoing,
    ) {
        let Some(request) = self.request_of(op, event, request) else { return };
        let response = self.version.outside.fetch(&self.version.code.key, outgoing(request));
        self.await_answer(op, event, response);
    }

    /// A request of the script's with its body. One that cannot be made is answered with why.
    pub(super) fn request_of(
        &mut self,
        op: OpId,
        event: EventId,
        mut request: Request,
    ) -> Option<http::Request<Body>> {
        let body = std::mem::replace(&mut request.body, BodyRef::None);
        let body = Body::new(self.body_of(event, body));
        let made = head::request_from(request, body);
        let refused = |text| Command::Completed(op, Err(ScriptError::new("TypeError", text)));
        made.map_err(|text| drop(self.link.to_itself.send(refused(text)))).ok()
    }

    /// The script is told what a request of its comes to, as long as it wants to know.
    pub(super) fn await_answer(&mut self, op: OpId, event: EventId, answer: PortAnswer) {
        let commands = self.link.to_itself.clone();
        let task = tokio::spawn(async move {
            let _ = commands.send(Command::Completed(op, answer.await));
        });
        self.asked.insert(op, Asked { event, task: task.abort_handle() });
    }

    fn piece(&mut self, body: MadeId, piece: Piece) {
        match piece {
            Piece::Data(ref bytes) => {
                if let Some(making) = self.making.get_mut(&body) {
                    let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    making.unread = making.unread.saturating_add(count);
                    // Without a reader it is dropped; the script is being told.
                    let _ = making.pieces.send(piece);
                }
            }
            Piece::End | Piece::Failed(_) => self.made_ends(body, piece),
        }
    }

    fn made_ends(&mut self, body: MadeId, end: Piece) {
        let Some(making) = self.making.remove(&body) else { return };
        let _ = making.pieces.send(end);
        self.open_bytes = self.open_bytes.saturating_sub(making.room.shrink(making.unread).into());
        self.open();
    }

    /// The script takes further bytes of a body that it was given.
    fn read_on(&mut self, body: HostBody, bytes: u32) {
        let Some(given) = self.given.get_mut(&body) else { return };
        given.credit.add_permits(bytes as usize);
        given.used = Instant::now();
        self.pump(body);
    }

    /// Begins to read a body for the script, once there is one and the script wants it.
    pub(super) fn pump(&mut self, body: HostBody) {
        let Some(given) = self.given.get_mut(&body) else { return };
        if given.credit.available_permits() > 0
            && let Some(unread) = given.body.take()
        {
            let pump = pump(body, unread, Arc::clone(&given.credit), self.link.pumps.clone());
            given.pump = Some(tokio::spawn(pump).abort_handle());
        }
    }

    /// Fails all that goes on, and forgets what the script was given and asked for.
    fn forget_all(&mut self, why: &Failure) {
        self.fail_all(why);
        self.ledger.forget_all();
    }

    pub(super) fn fail_all(&mut self, why: &Failure) {
        for (_, call) in self.calls.drain() {
            self.version.counts.event(call.kind, false, call.begun, Duration::ZERO);
            if let Some(answer) = call.answer {
                answer.fail(why.clone());
            }
            if let Some(end) = call.end {
                drop(end.send(Err(why.clone())));
            }
        }
        let retired = matches!(why, Failure::Ended(Ended::Retired));
        for (_, making) in self.making.drain() {
            if retired && making.socket {
                let last = SocketMessage::Close(GOING_AWAY, String::new()).to_bytes();
                let _ = making.pieces.send(Piece::Data(ByteBuf::from(last)));
            }
            let _ = making.pieces.send(Piece::Failed(why.to_string()));
        }
        self.waiting.clear();
        self.tell_waiting();
        self.given.clear();
        self.asked.clear();
        self.objects.forget_all(&self.version.counts);
    }
}
