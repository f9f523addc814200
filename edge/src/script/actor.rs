//! The actor behind a link: reads what the script says, has it judged, and carries it out (`effects`); writes what the script is
//! told; watches whether it lives. One task, on the thread of the shard that uses the link.

mod commits;
mod containers;
mod effects;
mod given;
mod leaving;
mod objects;

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_script::message::{
    BodyRef, Effect, Event, EventId, HostBody, Inbound, LoadFailed, OpId, Piece, ScriptBody as MadeId,
    ScriptError, Target, encode,
};
use http_body::Body as _;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use self::given::{Answers, Given, Source};
use self::objects::Objects;
use super::body::{Room, Word};
use super::child::Child;
use super::counts::Kind;
use super::failure::{Ended, Failure};
use super::ledger::Ledger;
use super::link::{Asker, Call, Command, Counted, Handle, Link, What, link};
use super::sockets::{Connection, Plug};
use super::version::Version;
use super::{Body, head};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

/// Messages that are carried out before others on this thread get their turn.
const MESSAGES: usize = 64;

/// Bytes that wait to be written above which no further pieces of bodies are taken.
const HIGH_WATER_BYTES: usize = 1 << 20;

/// Bytes that wait to be written above which calls are refused, besides the code.
const OVERLOAD_BYTES: usize = 64 << 20;

/// Bytes that wait to be written above which the process is ended: what it asks for comes whether it reads or not. The calls that are
/// taken, and the state of an object that is given once there is room, are less.
const UNREAD_BYTES: usize = OVERLOAD_BYTES + 2 * berth_script::message::MAX_EVENT_BYTES;

/// What a script may be told that waits for its turn above which nothing further is heard: each may be an answer to what it says.
const COMMANDS: usize = 1_000;

/// How many times longer a script may say nothing while it loads its code, which is compiled in one go.
const LOAD_SILENCES: u32 = 6;

/// How long nothing must have gone on in an object for it to go, in milliseconds: as on the platform that Berth follows.
const REST_MS: u32 = 10_000;

/// How often that is looked for.
const REST_EVERY: Duration = Duration::from_secs(5);

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
    answer: Option<Asker>,
    end: Option<oneshot::Sender<Result<(), Failure>>>,
    failed: Option<ScriptError>,
    kind: Kind,
    begun: Instant,
    _lease: Counted,
}

/// A body that the script makes.
struct Making {
    event: EventId,
    pieces: mpsc::UnboundedSender<Piece>,
    /// Bytes that may be under way.
    window: u32,
    /// The room for them, as long as its reader keeps it.
    room: Arc<Room>,
    /// Bytes sent that nobody has taken.
    unread: u32,
    /// Whether it is what goes over a WebSocket.
    socket: bool,
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

struct Actor {
    socket: UnixStream,
    link: Link,
    /// Which of the process's threads it is.
    lane: usize,
    version: Arc<Version>,
    child: Arc<Child>,
    inbound: Inbound<Effect>,
    out: Vec<u8>,
    sent: usize,
    ledger: Ledger,
    code: Code,
    calls: HashMap<EventId, Going>,
    given: HashMap<HostBody, Given>,
    answers: Arc<Answers>,
    making: HashMap<MadeId, Making>,
    /// Bodies that wait for others to end before they get credit.
    waiting: VecDeque<MadeId>,
    /// What may be under way of those that have got it, and is here of those that nobody has read to their end.
    open_bytes: u64,
    /// Whether the version knows that some wait.
    waiting_told: bool,
    asked: HashMap<OpId, Asked>,
    objects: Objects,
    heard: Instant,
    pinged: Instant,
    /// When objects were last told to rest.
    rested: Instant,
}

/// Starts the actor of a thread's socket, on the runtime of the caller.
pub(super) fn start(
    socket: std::os::unix::net::UnixStream,
    lane: usize,
    version: Arc<Version>,
    child: Arc<Child>,
) -> std::io::Result<Handle> {
    let (handle, link) = link();
    let socket = UnixStream::from_std(socket)?;
    tokio::spawn(Actor::new(socket, lane, link, version, child).run());
    Ok(handle)
}

impl Actor {
    fn new(socket: UnixStream, lane: usize, link: Link, version: Arc<Version>, child: Arc<Child>) -> Self {
        let now = Instant::now();
        Self {
            socket,
            link,
            lane,
            ledger: Ledger::new(&version.code.load, now),
            version,
            child,
            inbound: Inbound::default(),
            out: Vec::new(),
            sent: 0,
            code: Code::Missing,
            calls: HashMap::new(),
            given: HashMap::new(),
            answers: Arc::default(),
            making: HashMap::new(),
            waiting: VecDeque::new(),
            open_bytes: 0,
            waiting_told: false,
            asked: HashMap::new(),
            objects: Objects::default(),
            heard: now,
            pinged: now,
            rested: now,
        }
    }

    /// Works until the process is gone, and fails what was going on.
    async fn run(mut self) {
        let mut tick =
            tokio::time::interval((self.version.settings.silence / ASKS).max(Duration::from_millis(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = vec![0; READ_BYTES];
        let why = loop {
            let hears = self.hears();
            let interest = match (hears, self.out.is_empty()) {
                (true, true) => Interest::READABLE,
                (true, false) => Interest::READABLE | Interest::WRITABLE,
                // Nothing further is read until others have caught up.
                (false, _) => Interest::WRITABLE,
            };
            let moves = hears || !self.out.is_empty();
            let room = self.out.len() - self.sent < HIGH_WATER_BYTES;
            let step = tokio::select! {
                ready = self.socket.ready(interest), if moves => match ready {
                    Ok(ready) if ready.is_readable() => self.read(&mut buffer).await,
                    Ok(_) => Ok(()),
                    Err(_) => Err(self.child.ended()),
                },
                Some(command) = self.link.commands.recv() => {
                    self.obey(command);
                    Ok(())
                }
                Some(asking) = self.link.opened.recv(), if room => {
                    self.opened(asking);
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
        self.version.gone(&self.child);
        self.fail_all(&Failure::Ended(why));
        // Commands that are on their way are refused by this: calls among them fail.
        self.link.commands.close();
        while let Ok(command) = self.link.commands.try_recv() {
            if let Command::Call(call) = command {
                call.refuse(Failure::Ended(why));
            }
        }
    }

    /// Whether what the script says is read now.
    fn hears(&self) -> bool {
        self.objects.has_room() && self.link.commands.len() < COMMANDS
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
            self.carry_out(effect).map_err(|lie| self.lied(&lie))?;
            taken += 1;
            if taken % MESSAGES == 0 {
                self.write()?;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Ends a process that said what it cannot have to say.
    fn lied(&self, lie: &dyn std::fmt::Display) -> Ended {
        let key = &self.version.code.key;
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
        if self.out.len() - self.sent > UNREAD_BYTES {
            self.child.kill(Ended::Silent);
            return Err(self.child.ended());
        }
        Ok(())
    }

    /// Asks whether the script lives; ends it if it has not shown that for too long.
    fn look(&mut self) -> Result<(), Ended> {
        self.let_go_of_wanted();
        self.take_back();
        if self.rested.elapsed() >= REST_EVERY && self.ledger.has_objects() {
            self.rested = Instant::now();
            self.tell(&Event::Rest { idle_ms: REST_MS });
        }
        if !self.hears() {
            // It is not heard.
            self.heard = Instant::now();
            return Ok(());
        }
        if let Some(number) = self.ledger.ask() {
            self.pinged = Instant::now();
            self.tell(&Event::Ping(number));
            return Ok(());
        }
        let silences = if self.ledger.is_loading() { LOAD_SILENCES } else { 1 };
        let limit = self.version.settings.silence * silences;
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
            Command::Word(word) => self.pass_on(word),
            Command::Completed(op, outcome) => self.completed(op, outcome),
            Command::Returned(op, outcome) => self.returned(op, outcome),
            Command::Settled(commit) => self.settled(&commit),
            Command::Wanted(object) => self.wanted(object),
            Command::Contained(object) => self.container_changed(object),
        }
    }

    /// Tells the script what its readers say, if it still has to do with them.
    fn pass_on(&mut self, word: Word) {
        match word {
            Word::Gone(event) => {
                if self.calls.contains_key(&event) {
                    self.tell(&Event::Aborted(event));
                }
            }
            Word::Credit(body, bytes) => {
                if let Some(making) = self.making.get_mut(&body) {
                    making.unread = making.unread.saturating_sub(bytes);
                }
                if self.ledger.credit(body, bytes) {
                    self.tell(&Event::Credit(body, bytes));
                }
            }
            Word::Unread(body) => {
                if self.making.contains_key(&body) {
                    self.tell(&Event::Cancelled(body));
                }
            }
            Word::Room(bytes) => {
                self.open_bytes = self.open_bytes.saturating_sub(bytes.into());
                self.open();
            }
            Word::Plugged(body, messages) => {
                if let Some(given) = self.given.get_mut(&body) {
                    given.body = Some(messages);
                    self.pump(body);
                }
            }
        }
    }

    fn call(&mut self, call: Call) {
        if let Err(failure) = self.have_code() {
            return call.refuse(failure);
        }
        if self.out.len() - self.sent > OVERLOAD_BYTES + berth_script::message::MAX_EVENT_BYTES {
            return call.refuse(Failure::Overloaded);
        }
        let Call { event, what, answer, end, lease } = call;
        let going = Going {
            answer: Some(answer),
            end: Some(end),
            failed: None,
            kind: what.kind(),
            begun: Instant::now(),
            _lease: lease,
        };
        self.calls.insert(event, going);
        self.ledger.call(event, what.answers());
        match what {
            What::Fetch(request) => {
                let (parts, body) = request.into_parts();
                let body = self.give(event, body, Source::Client);
                let request = Box::new(head::request(&parts, body));
                self.tell(&Event::Fetch { event, target: Target::Worker, request });
            }
            What::Scheduled { cron, time_ms } => self.tell(&Event::Scheduled { event, cron, time_ms }),
            What::Object(object, mut request, body) => {
                request.body = self.give(event, Body::new(body), Source::Call);
                self.tell(&Event::Fetch { event, target: Target::Object(object), request });
            }
            What::Method { object, method, args } => {
                let args = args.into_iter().map(|arg| self.argument(event, arg)).collect();
                self.tell(&Event::Rpc { event, object, method, args });
            }
            What::Alarm { object, scheduled_ms, retry } => {
                self.tell(&Event::Alarm { event, object, scheduled_ms, retry });
            }
        }
    }

    /// Has the code loaded, if it is not.
    fn have_code(&mut self) -> Result<(), Failure> {
        match &self.code {
            Code::Sent => Ok(()),
            Code::Failed(failed) => Err(Failure::Load(failed.clone())),
            Code::Missing => {
                if let Some(wait) = self.version.wait() {
                    return Err(Failure::BackOff(wait));
                }
                self.version.load(&mut self.out)?;
                self.ledger.load();
                self.code = Code::Sent;
                Ok(())
            }
        }
    }

    /// A body for the script, which it may read or pass on.
    fn give(&mut self, event: EventId, body: Body, source: Source) -> BodyRef {
        if body.is_end_stream() {
            return BodyRef::None;
        }
        let id = self.ledger.give(event);
        self.given.insert(id, Given::new(event, Some(body), source));
        BodyRef::Host(id)
    }

    /// The body of an answer.
    fn give_answer(&mut self, event: EventId, body: Body) -> Result<BodyRef, ScriptError> {
        if body.is_end_stream() {
            return Ok(BodyRef::None);
        }
        let share = self.share(&body)?;
        let given = self.give(event, body, Source::Answer);
        if let BodyRef::Host(id) = given
            && let Some(given) = self.given.get_mut(&id)
        {
            given.share = Some(share);
        }
        Ok(given)
    }

    /// A WebSocket for the script, which it may open or pass on.
    fn give_socket(
        &mut self,
        event: EventId,
        body: Body,
        connection: Connection,
    ) -> Result<BodyRef, ScriptError> {
        let share = self.share(&body)?;
        let id = self.ledger.give_socket(event);
        let mut given = Given::new(event, Some(body), Source::Answer);
        (given.connection, given.share) = (Some(connection), Some(share));
        self.given.insert(id, given);
        Ok(BodyRef::Host(id))
    }

    /// The end of a WebSocket that a script has given away. It is told what will come to it.
    fn plug(&mut self, event: EventId, made: MadeId) -> Plug {
        let id = self.ledger.give_back(event);
        self.given.insert(id, Given::new(event, None, Source::Client));
        self.tell(&Event::Socket(made, id));
        Plug::new(id, Arc::clone(&self.link.words))
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
        let outcome = outcome.and_then(|response| {
            let (parts, body) = response.into_parts();
            let body = match Connection::of(&parts.extensions) {
                _ if parts.status != http::StatusCode::SWITCHING_PROTOCOLS => {
                    self.give_answer(event, body)?
                }
                Some(connection) => self.give_socket(event, body, connection)?,
                None => return Err(ScriptError::new("Error", "The server switched to another protocol.")),
            };
            Ok(head::response(&parts, body))
        });
        self.tell(&Event::Completed { op, outcome });
    }
}
