//! The actor behind a link: reads what the script says, has it judged, and carries it out; writes what the script is told;
//! watches whether it lives. One task, on the thread of the shard that uses the link.

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_script::message::{
    BODY_WINDOW, BodyRef, Effect, Event, EventId, HostBody, Inbound, LoadFailed, OpId, Piece, Request,
    Response, ScriptBody as MadeId, ScriptError, Target, encode,
};
use http_body::Body as _;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use super::app::App;
use super::body::{Made, pump};
use super::child::Child;
use super::failure::{Ended, Failure};
use super::ledger::Ledger;
use super::link::{Call, Command, Counted, Link, What};
use super::{Body, Outgoing, ScriptBody, head};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

/// Messages that are carried out before others on this thread get their turn.
const MESSAGES: usize = 64;

/// Bytes that wait to be written above which no further pieces of bodies are taken.
const HIGH_WATER_BYTES: usize = 1 << 20;

/// Bytes that wait to be written above which calls are refused, besides the code.
const OVERLOAD_BYTES: usize = 64 << 20;

/// Bytes that scripts' bodies may have under way on one link, all together; further bodies wait for those to end.
const MADE_BYTES: u64 = 64 << 20;

/// How many times longer a script may say nothing while it loads its code, which is compiled in one go.
const LOAD_SILENCES: u32 = 6;

/// How often a script is asked whether it lives, within the time that it may say nothing.
const ASKS: u32 = 5;

/// Whether the thread has the code.
enum Code {
    Missing,
    Sent,
    Failed(Box<LoadFailed>),
}

/// A call that goes on.
struct Going {
    answer: Option<oneshot::Sender<Result<http::Response<ScriptBody>, Failure>>>,
    end: Option<oneshot::Sender<Result<(), Failure>>>,
    failed: Option<ScriptError>,
    _lease: Counted,
}

/// A body that the script was given.
struct Given {
    event: EventId,
    /// As long as nobody reads it.
    body: Option<Body>,
    credit: Arc<Semaphore>,
    pump: Option<AbortHandle>,
}

impl Drop for Given {
    fn drop(&mut self) {
        if let Some(pump) = &self.pump {
            pump.abort();
        }
    }
}

/// A body that the script makes.
struct Making {
    event: EventId,
    pieces: mpsc::UnboundedSender<Piece>,
    /// Whether it has its window of credit.
    open: bool,
}

/// A request of the script's.
struct Asked {
    event: EventId,
    task: AbortHandle,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) struct Actor {
    socket: UnixStream,
    link: Link,
    app: Arc<App>,
    child: Arc<Child>,
    inbound: Inbound<Effect>,
    out: Vec<u8>,
    sent: usize,
    ledger: Ledger,
    code: Code,
    calls: HashMap<EventId, Going>,
    given: HashMap<HostBody, Given>,
    making: HashMap<MadeId, Making>,
    /// Bodies that wait for others to end before they get credit.
    waiting: VecDeque<MadeId>,
    open_windows: u64,
    asked: HashMap<OpId, Asked>,
    heard: Instant,
    pinged: Instant,
}

impl Actor {
    pub(super) fn new(socket: UnixStream, link: Link, app: Arc<App>, child: Arc<Child>) -> Self {
        let now = Instant::now();
        Self {
            socket,
            link,
            ledger: Ledger::new(app.code.load.limits, now),
            app,
            child,
            inbound: Inbound::default(),
            out: Vec::new(),
            sent: 0,
            code: Code::Missing,
            calls: HashMap::new(),
            given: HashMap::new(),
            making: HashMap::new(),
            waiting: VecDeque::new(),
            open_windows: 0,
            asked: HashMap::new(),
            heard: now,
            pinged: now,
        }
    }

    /// Works until the process is gone, and fails what was going on.
    pub(super) async fn run(mut self) {
        let mut tick =
            tokio::time::interval((self.app.settings.silence / ASKS).max(Duration::from_millis(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = vec![0; READ_BYTES];
        let why = loop {
            let interest = if self.out.is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            let room = self.out.len() - self.sent < HIGH_WATER_BYTES;
            let step = tokio::select! {
                ready = self.socket.ready(interest) => match ready {
                    Ok(ready) if ready.is_readable() => self.read(&mut buffer).await,
                    Ok(_) => Ok(()),
                    Err(_) => Err(self.child.ended()),
                },
                Some(command) = self.link.commands.recv() => {
                    self.obey(command);
                    Ok(())
                }
                Some((body, piece)) = self.link.pieces.recv(), if room => {
                    self.forward(body, piece);
                    Ok(())
                }
                _ = tick.tick(), if self.ledger.calls() > 0 || self.ledger.is_loading() => self.look(),
            };
            if let Err(why) = step.and_then(|()| self.write()) {
                break why;
            }
        };
        self.app.gone(&self.child);
        self.fail_all(&Failure::Ended(why));
        // Commands that are on their way are refused by this: calls among them fail.
        self.link.commands.close();
        while let Ok(command) = self.link.commands.try_recv() {
            if let Command::Call(call) = command {
                refuse(*call, Failure::Ended(why));
            }
        }
    }

    /// Reads what is there and carries it out.
    async fn read(&mut self, buffer: &mut [u8]) -> Result<(), Ended> {
        match self.socket.try_read(buffer) {
            Ok(0) => return Err(self.child.ended()),
            Ok(count) => self.inbound.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return Err(self.child.ended()),
        }
        self.heard = Instant::now();
        let mut taken = 0;
        loop {
            let effect = match self.inbound.next_message() {
                Ok(Some(effect)) => effect,
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.lied(&error)),
            };
            self.ledger.judge(&effect, self.heard).map_err(|lie| self.lied(&lie))?;
            self.carry_out(effect);
            taken += 1;
            if taken % MESSAGES == 0 {
                self.write()?;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Ends a process that said what it cannot have to say.
    fn lied(&self, lie: &dyn std::fmt::Display) -> Ended {
        let key = &self.app.code.key;
        tracing::warn!(app = key.app, version = key.version, %lie, "a script process broke its protocol");
        self.child.kill(Ended::Lied);
        self.child.ended()
    }

    /// Writes what the socket takes now.
    fn write(&mut self) -> Result<(), Ended> {
        while self.sent < self.out.len() {
            match self.socket.try_write(&self.out[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Err(self.child.ended()),
            }
        }
        if self.sent == self.out.len() {
            self.out.clear();
            self.out.shrink_to(HIGH_WATER_BYTES);
            self.sent = 0;
        } else if self.sent > HIGH_WATER_BYTES && self.sent > self.out.len() / 2 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }

    /// Asks whether the script lives; ends it if it has not shown that for too long.
    fn look(&mut self) -> Result<(), Ended> {
        if let Some(number) = self.ledger.ask() {
            self.pinged = Instant::now();
            self.tell(&Event::Ping(number));
            return Ok(());
        }
        let silences = if self.ledger.is_loading() { LOAD_SILENCES } else { 1 };
        let limit = self.app.settings.silence * silences;
        if self.heard.max(self.pinged).elapsed() < limit {
            return Ok(());
        }
        self.child.kill(Ended::Silent);
        Err(self.child.ended())
    }

    /// Puts a message into the queue. Those that are bounded by what was asked always fit into a frame.
    fn tell(&mut self, event: &Event) {
        if let Err(error) = encode(event, &mut self.out) {
            tracing::error!(%error, "a message to a script has no form");
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Call(call) => self.call(*call),
            Command::Abort(event) => {
                if self.calls.contains_key(&event) {
                    self.tell(&Event::Aborted(event));
                }
            }
            Command::Completed(op, outcome) => self.completed(op, outcome),
            Command::Credit(body, bytes) => {
                if self.ledger.credit(body, bytes) {
                    self.tell(&Event::Credit(body, bytes));
                }
            }
            Command::Unread(body) => {
                if self.making.contains_key(&body) {
                    self.tell(&Event::Cancelled(body));
                }
            }
        }
    }

    fn call(&mut self, call: Call) {
        if let Err(failure) = self.have_code() {
            return refuse(call, failure);
        }
        if self.out.len() - self.sent > OVERLOAD_BYTES + berth_script::message::MAX_EVENT_BYTES {
            return refuse(call, Failure::Overloaded);
        }
        let Call { event, what, answer, end, lease } = call;
        let going = Going { answer: Some(answer), end: Some(end), failed: None, _lease: lease };
        self.calls.insert(event, going);
        self.ledger.call(event, matches!(what, What::Fetch(_)));
        match what {
            What::Fetch(request) => {
                let (parts, body) = request.into_parts();
                let body = self.give(event, body);
                let request = Box::new(head::request(&parts, body));
                self.tell(&Event::Fetch { event, target: Target::Worker, request });
            }
            What::Scheduled { cron, time_ms } => self.tell(&Event::Scheduled { event, cron, time_ms }),
        }
    }

    /// Has the code loaded, if it is not.
    fn have_code(&mut self) -> Result<(), Failure> {
        match &self.code {
            Code::Sent => Ok(()),
            Code::Failed(failed) => Err(Failure::Load(failed.clone())),
            Code::Missing => {
                if let Some(wait) = self.app.wait() {
                    return Err(Failure::BackOff(wait));
                }
                self.app.load(&mut self.out)?;
                self.ledger.load();
                self.code = Code::Sent;
                Ok(())
            }
        }
    }

    /// A body for the script, which it may read or pass on.
    fn give(&mut self, event: EventId, body: Body) -> BodyRef {
        if body.is_end_stream() {
            return BodyRef::None;
        }
        let id = self.ledger.give(event);
        let given = Given { event, body: Some(body), credit: Arc::new(Semaphore::new(0)), pump: None };
        self.given.insert(id, given);
        BodyRef::Host(id)
    }

    /// A piece of a body that the script reads.
    fn forward(&mut self, body: HostBody, piece: Piece) {
        if !self.ledger.send(body, &piece) {
            return;
        }
        if !matches!(piece, Piece::Data(_)) {
            self.given.remove(&body);
        }
        self.tell(&Event::Body(body, piece));
    }

    fn completed(&mut self, op: OpId, outcome: Result<http::Response<Body>, ScriptError>) {
        self.asked.remove(&op);
        let Some(event) = self.ledger.complete(op) else { return };
        let outcome = outcome.map(|response| {
            let (parts, body) = response.into_parts();
            let body = self.give(event, body);
            head::response(&parts, body)
        });
        self.tell(&Event::Completed { op, outcome });
    }

    /// Carries out what was judged to be what a script may say.
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Loaded(_) | Effect::Pong(_) | Effect::Beat => {}
            // Judged to be lies.
            Effect::Rpc { .. }
            | Effect::Returned(..)
            | Effect::Open(_)
            | Effect::Commit { .. }
            | Effect::Reset(..)
            | Effect::Dropped(_) => {}
            Effect::LoadFailed(failed) => {
                let failed = Box::new(failed);
                self.forget_all(&Failure::Load(failed.clone()));
                self.code = Code::Failed(failed);
            }
            Effect::Condemned(why) => {
                self.app.condemned();
                self.forget_all(&Failure::Ended(why.into()));
                self.code = Code::Missing;
            }
            Effect::Responded(event, response) => self.responded(event, *response),
            Effect::Failed(event, error) => self.failed(event, error),
            Effect::Done { event, .. } => self.done(event),
            Effect::Fetch { op, event, destination, request, follow } => {
                self.fetch(op, event, *request, |request| Outgoing { destination, request, follow });
            }
            Effect::Cancel(op) => drop(self.asked.remove(&op)),
            Effect::Body(body, piece) => self.piece(body, piece),
            Effect::Credit(body, bytes) => self.read_on(body, bytes),
            Effect::Cancelled(body) => drop(self.given.remove(&body)),
            Effect::Log { level, text, .. } => self.app.outside.log(&self.app.code.key, level, text),
        }
    }

    /// The body that a message of the script's names.
    fn body_of(&mut self, event: EventId, body: BodyRef) -> ScriptBody {
        match body {
            BodyRef::None => ScriptBody::whole(Vec::new()),
            BodyRef::Bytes(bytes) => ScriptBody::whole(bytes.into_vec()),
            BodyRef::Host(id) => match self.given.remove(&id).and_then(|mut given| given.body.take()) {
                Some(body) => ScriptBody::passed(body),
                // The ledger has it; so there is none without.
                None => ScriptBody::whole(Vec::new()),
            },
            BodyRef::Script(id) => {
                // Bounded by credit.
                let (pieces, received) = mpsc::unbounded_channel();
                self.making.insert(id, Making { event, pieces, open: false });
                self.waiting.push_back(id);
                self.open();
                ScriptBody::made(Made::new(id, received, self.link.to_itself.clone()))
            }
        }
    }

    /// Gives credit to bodies that wait for it, as long as there is any.
    fn open(&mut self) {
        while (self.open_windows + 1) * u64::from(BODY_WINDOW) <= MADE_BYTES
            && let Some(id) = self.waiting.pop_front()
        {
            let Some(making) = self.making.get_mut(&id) else { continue };
            making.open = true;
            self.open_windows += 1;
            if self.ledger.credit(id, BODY_WINDOW) {
                self.tell(&Event::Credit(id, BODY_WINDOW));
            }
        }
    }

    fn responded(&mut self, event: EventId, mut response: Response) {
        let body = std::mem::replace(&mut response.body, BodyRef::None);
        let body = self.body_of(event, body);
        let answer = head::response_from(response, body);
        let answer = answer.map_err(|text| Failure::Script(ScriptError::new("TypeError", text)));
        if let Some(waits) = self.calls.get_mut(&event).and_then(|call| call.answer.take()) {
            // Without a receiver the client has gone, and the body goes the way of those that nobody reads.
            drop(waits.send(answer));
        }
    }

    fn failed(&mut self, event: EventId, error: ScriptError) {
        let Some(call) = self.calls.get_mut(&event) else { return };
        if let Some(waits) = call.answer.take() {
            drop(waits.send(Err(Failure::Script(error.clone()))));
        }
        call.failed = Some(error);
    }

    fn done(&mut self, event: EventId) {
        let Some(call) = self.calls.remove(&event) else { return };
        self.asked.retain(|_, asked| asked.event != event);
        self.given.retain(|_, given| given.event != event);
        let cut: Vec<MadeId> =
            self.making.iter().filter(|(_, making)| making.event == event).map(|(id, _)| *id).collect();
        for id in cut {
            self.made_ends(id, Piece::Failed("its event has ended".to_owned()));
        }
        if let Some(answer) = call.answer {
            let text = "The script will never generate a response.";
            drop(answer.send(Err(Failure::Script(ScriptError::new("Error", text)))));
        }
        if let Some(end) = call.end {
            drop(end.send(call.failed.map_or(Ok(()), |error| Err(Failure::Script(error)))));
        }
    }

    fn fetch(
        &mut self,
        op: OpId,
        event: EventId,
        mut request: Request,
        outgoing: impl FnOnce(http::Request<Body>) -> Outgoing,
    ) {
        let body = std::mem::replace(&mut request.body, BodyRef::None);
        let body = Body::new(self.body_of(event, body));
        let commands = self.link.to_itself.clone();
        let request = match head::request_from(request, body) {
            Ok(request) => request,
            Err(text) => {
                let _ = commands.send(Command::Completed(op, Err(ScriptError::new("TypeError", text))));
                return;
            }
        };
        let response = self.app.outside.fetch(&self.app.code.key, outgoing(request));
        let task = tokio::spawn(async move {
            let _ = commands.send(Command::Completed(op, response.await));
        });
        self.asked.insert(op, Asked { event, task: task.abort_handle() });
    }

    fn piece(&mut self, body: MadeId, piece: Piece) {
        match piece {
            Piece::Data(_) => {
                if let Some(making) = self.making.get(&body) {
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
        if making.open {
            self.open_windows -= 1;
        }
        self.open();
    }

    /// The script takes further bytes of a body that it was given.
    fn read_on(&mut self, body: HostBody, bytes: u32) {
        let Some(given) = self.given.get_mut(&body) else { return };
        given.credit.add_permits(bytes as usize);
        if let Some(unread) = given.body.take() {
            let pump = pump(body, unread, Arc::clone(&given.credit), self.link.pumps.clone());
            given.pump = Some(tokio::spawn(pump).abort_handle());
        }
    }

    /// Fails all that goes on, and forgets what the script was given and asked for.
    fn forget_all(&mut self, why: &Failure) {
        self.fail_all(why);
        self.ledger.forget_all();
    }

    fn fail_all(&mut self, why: &Failure) {
        for (_, call) in self.calls.drain() {
            if let Some(answer) = call.answer {
                drop(answer.send(Err(why.clone())));
            }
            if let Some(end) = call.end {
                drop(end.send(Err(why.clone())));
            }
        }
        for (_, making) in self.making.drain() {
            let _ = making.pieces.send(Piece::Failed(why.to_string()));
        }
        self.waiting.clear();
        self.open_windows = 0;
        self.given.clear();
        self.asked.clear();
    }
}

/// Answers a call that does not begin.
fn refuse(call: Call, why: Failure) {
    drop(call.end.send(Err(why.clone())));
    drop(call.answer.send(Err(why)));
}
