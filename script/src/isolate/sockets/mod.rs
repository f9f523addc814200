//! WebSockets whose other end is not in this isolate's JavaScript: what is known of each, what has come and was not heard yet, and
//! how much may come. What is heard is carried out by `natives`.
//!
//! ```text
//! given away ──(the other side takes it)──▶ both ways ──what comes ends, or breaks off──▶ over
//! the edge's ──(opened)──────────────────▶
//!      └──(given away unopened)──▶ not here any more
//! ```
//!
//! A message is an event: of an object, it waits before its gate. Room for as many further bytes is given only when it was heard.

mod natives;

use std::collections::{HashMap, VecDeque};

use rquickjs::{Function, Persistent};

use super::loopback::is_local_body;
use super::state::Scope;
use crate::message::{
    Effect, EventId, HostBody, MAX_SOCKETS, NoMessage, Piece, SOCKET_WINDOW, ScriptBody, SocketMessage,
    SocketMessages,
};

pub(crate) use self::natives::{
    accepted_in, arrive, close, count_pair, hear, make, open, pass, send, unsent, wake,
};

/// What a message that waits to be heard takes up besides its bytes, in bytes.
const HEARD_BYTES: usize = size_of::<(Heard, usize)>();

/// What a WebSocket breaks off with.
const LOST: &str = "Network connection lost.";

/// Who hears what comes, and where.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) scope: Scope,
    pub(crate) message: Persistent<Function<'static>>,
    pub(crate) close: Persistent<Function<'static>>,
    pub(crate) error: Persistent<Function<'static>>,
}

/// What there is to hear.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Message(SocketMessage),
    /// It has broken off.
    Lost(String),
    /// Nothing more comes.
    Over,
}

impl Heard {
    /// What it takes up, in bytes.
    fn bytes(&self) -> usize {
        HEARD_BYTES
            + match self {
                Self::Message(message) => message.bytes(),
                Self::Lost(why) => why.len(),
                Self::Over => 0,
            }
    }
}

/// A WebSocket.
struct Socket {
    /// The call that it belongs to.
    event: EventId,
    /// What goes there.
    to: Option<ScriptBody>,
    /// Whether more may go.
    sends: bool,
    /// What comes from there.
    from: Option<HostBody>,
    /// The calls that last as long as something may come.
    calls: Vec<EventId>,
    listener: Option<Listener>,
    messages: SocketMessages,
    /// Bytes of a message of which not all are here. There is room for as many more already.
    begun: usize,
    /// What is to be heard, each with the bytes that there is to be room for again after that.
    inbox: VecDeque<(Heard, usize)>,
    /// What that takes up, in bytes.
    waiting: usize,
    /// Bytes for which the other side is to be given room.
    owed: u32,
    /// Whether nothing that comes counts any more.
    closed: bool,
}

/// What has come of something that came.
#[derive(Default)]
pub(crate) struct Came {
    /// What the edge is told of it.
    pub(crate) effect: Option<Effect>,
    /// From where.
    pub(crate) scope: Option<Scope>,
}

/// What is to be heard now.
pub(crate) struct Next {
    pub(crate) listener: Listener,
    pub(crate) heard: Heard,
    /// What the edge is told once it was heard.
    pub(crate) credit: Option<Effect>,
    /// Calls that wait for less by that.
    pub(crate) calls: Vec<EventId>,
}

/// What goes with a call.
#[derive(Default)]
pub(crate) struct Gone {
    /// What nobody hears any more, and whose sender is to know.
    pub(crate) unheard: Vec<HostBody>,
    /// Other calls that have waited for it, each as often.
    pub(crate) others: Vec<EventId>,
}

/// What a WebSocket is to the one who is given it.
pub(crate) enum Given {
    /// The edge's: it stays there.
    Host(HostBody),
    /// One that this isolate makes.
    Script(ScriptBody),
}

/// All WebSockets of an isolate.
#[derive(Default)]
pub(crate) struct Sockets {
    sockets: HashMap<u64, Socket>,
    by_to: HashMap<ScriptBody, u64>,
    by_from: HashMap<HostBody, u64>,
    last: u64,
    /// Those that have something to be heard. Each is here once.
    ready: VecDeque<u64>,
    /// Bytes that have come and were not heard.
    held: usize,
}

impl Socket {
    fn new(event: EventId) -> Self {
        Self {
            event,
            to: None,
            sends: false,
            from: None,
            calls: Vec::new(),
            listener: None,
            messages: SocketMessages::default(),
            begun: 0,
            inbox: VecDeque::new(),
            waiting: 0,
            owed: 0,
            closed: false,
        }
    }

    /// Whether the edge has it, and nobody has opened it.
    fn is_unopened(&self) -> bool {
        self.to.is_none()
    }

    fn held(&self) -> usize {
        self.begun + self.waiting
    }

    fn put(&mut self, heard: Heard, owed: usize) {
        self.waiting += heard.bytes();
        self.inbox.push_back((heard, owed));
    }

    fn take_in(&mut self, piece: &Piece) -> Result<(), NoMessage> {
        match piece {
            Piece::Data(_) if self.closed => {}
            Piece::Data(bytes) => {
                self.messages.extend(bytes);
                let mut had = std::mem::take(&mut self.begun);
                while let Some((message, bytes)) = self.messages.next_message()? {
                    self.closed |= matches!(message, SocketMessage::Close(..));
                    // For the part that was here before there is room already.
                    let owed = bytes - std::mem::take(&mut had).min(bytes);
                    self.put(Heard::Message(message), owed);
                }
                self.begun = self.messages.begun_bytes();
                self.owed += u32::try_from(self.begun.saturating_sub(had)).unwrap_or(u32::MAX);
            }
            Piece::End => self.ends(LOST),
            Piece::Failed(why) => self.ends(why),
        }
        Ok(())
    }

    fn ends(&mut self, why: &str) {
        if !std::mem::replace(&mut self.closed, true) {
            self.put(Heard::Lost(why.to_owned()), 0);
        }
        self.put(Heard::Over, 0);
    }

    /// Room for what was heard, in steps that are worth a message.
    fn credit(&mut self) -> Option<Effect> {
        let from = self.from.filter(|_| !self.closed && self.owed >= SOCKET_WINDOW / 2)?;
        Some(Effect::Credit(from, std::mem::take(&mut self.owed)))
    }
}

impl Sockets {
    fn insert(&mut self, socket: Socket) -> u64 {
        self.last += 1;
        self.sockets.insert(self.last, socket);
        self.last
    }

    /// One whose other end is given away; what goes there is this body.
    pub(crate) fn made(&mut self, event: EventId, to: ScriptBody) -> u64 {
        let number = self.insert(Socket { to: Some(to), sends: true, ..Socket::new(event) });
        self.by_to.insert(to, number);
        number
    }

    /// One of the edge's that came to this call; one of this isolate's may be known since it was on its way.
    pub(crate) fn arrived(&mut self, event: EventId, from: HostBody) -> u64 {
        if let Some(known) = self.by_from.get(&from) {
            return *known;
        }
        let number = self.insert(Socket { from: Some(from), ..Socket::new(event) });
        self.by_from.insert(from, number);
        number
    }

    /// Whether there may be one more.
    fn is_full(&self) -> bool {
        self.sockets.len() >= MAX_SOCKETS
    }

    /// Gives one away, in a message of this call. `None`: it is not here any more, or was opened.
    pub(crate) fn pass(&mut self, number: u64, event: EventId) -> Option<Given> {
        let socket = self.sockets.get_mut(&number)?;
        match (socket.to, socket.from) {
            (Some(to), None) => {
                socket.event = event;
                Some(Given::Script(to))
            }
            (None, Some(from)) => {
                self.remove(number);
                Some(Given::Host(from))
            }
            _ => None,
        }
    }

    /// From now on what comes is heard. Of one that the edge has and nobody had opened: its call, and what comes.
    fn listen(&mut self, number: u64, listener: Listener) -> Option<(EventId, HostBody)> {
        let socket = self.sockets.get_mut(&number).filter(|socket| socket.listener.is_none())?;
        socket.listener = Some(listener);
        let unopened = socket.is_unopened();
        let from = socket.from.filter(|_| unopened).map(|from| (socket.event, from));
        if !socket.inbox.is_empty() {
            self.ready.push_back(number);
        }
        from
    }

    /// What goes there from now on.
    fn opened(&mut self, number: u64, to: ScriptBody) {
        if let Some(socket) = self.sockets.get_mut(&number) {
            (socket.to, socket.sends) = (Some(to), true);
            socket.calls = vec![socket.event];
            self.by_to.insert(to, number);
        }
    }

    /// The first room for what comes, if somebody hears it and something is to come.
    fn first_credit(&self, number: u64) -> Option<Effect> {
        let socket = self.sockets.get(&number)?;
        socket.listener.as_ref()?;
        let from = socket.from.filter(|_| !socket.closed)?;
        Some(Effect::Credit(from, SOCKET_WINDOW))
    }

    /// The other side has taken one that was given away: what comes, for as long as which these calls last.
    pub(crate) fn plugged(
        &mut self,
        to: ScriptBody,
        from: HostBody,
        calls: impl FnOnce(EventId) -> Vec<EventId>,
    ) -> Came {
        let number = self.by_to.get(&to).copied();
        let socket = number.and_then(|number| self.sockets.get_mut(&number));
        let Some((number, socket)) =
            number.zip(socket.filter(|socket| socket.from.is_none() && !socket.closed))
        else {
            return Came { effect: Some(Effect::Cancelled(from)), scope: None };
        };
        socket.from = Some(from);
        socket.calls = calls(socket.event);
        let scope = socket.listener.as_ref().map(|listener| listener.scope);
        self.by_from.insert(from, number);
        Came { effect: self.first_credit(number), scope }
    }

    /// The calls that last as long as something may come there.
    pub(crate) fn calls_of(&self, from: HostBody) -> Vec<EventId> {
        let socket = self.by_from.get(&from).and_then(|number| self.sockets.get(number));
        socket.map(|socket| socket.calls.clone()).unwrap_or_default()
    }

    /// A piece of what comes; `None` if it is not a WebSocket's.
    pub(crate) fn piece(&mut self, from: HostBody, piece: &Piece) -> Option<Came> {
        let number = *self.by_from.get(&from)?;
        let socket = self.sockets.get_mut(&number)?;
        let (before, waited) = (socket.held(), !socket.inbox.is_empty());
        let mut effect = None;
        if let Err(why) = socket.take_in(piece) {
            socket.ends(&why.to_string());
            effect = Some(Effect::Cancelled(from));
        }
        let effect = effect.or_else(|| socket.credit());
        self.held = self.held + socket.held() - before;
        let scope = socket.listener.as_ref().map(|listener| listener.scope);
        if scope.is_some() && !waited && !socket.inbox.is_empty() {
            self.ready.push_back(number);
        }
        Some(Came { effect, scope })
    }

    /// Nobody takes what goes there. If nothing comes from there that would tell, it has broken off; the call that lasts until that is
    /// heard, if none waits for it yet.
    pub(crate) fn unread(&mut self, to: ScriptBody) -> Option<EventId> {
        let number = self.by_to.get(&to).copied();
        let (number, socket) =
            number.and_then(|number| self.sockets.get_mut(&number).map(|one| (number, one)))?;
        socket.sends = false;
        let waited = !socket.inbox.is_empty();
        if socket.from.is_none_or(is_local_body) && !waited {
            let before = socket.held();
            socket.ends(LOST);
            self.held += socket.held() - before;
            if socket.listener.is_some() {
                self.ready.push_back(number);
                if socket.calls.is_empty() {
                    socket.calls.push(socket.event);
                    return Some(socket.event);
                }
            }
        }
        None
    }

    /// The next that has something to be heard, and where.
    pub(crate) fn next_ready(&mut self) -> Option<(u64, Scope)> {
        while let Some(number) = self.ready.pop_front() {
            let listener = self.sockets.get(&number).and_then(|socket| socket.listener.as_ref());
            if let Some(listener) = listener {
                return Some((number, listener.scope));
            }
        }
        None
    }

    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes the next thing to be heard.
    fn take(&mut self, number: u64) -> Option<Next> {
        let socket = self.sockets.get_mut(&number)?;
        let listener = socket.listener.clone()?;
        let (heard, bytes) = socket.inbox.pop_front()?;
        socket.waiting -= heard.bytes();
        socket.owed += u32::try_from(bytes).unwrap_or(u32::MAX);
        let credit = socket.credit();
        let mut calls = Vec::new();
        if heard == Heard::Over {
            calls = std::mem::take(&mut socket.calls);
            if let Some(from) = socket.from {
                self.by_from.remove(&from);
            }
        }
        if !socket.inbox.is_empty() {
            self.ready.push_back(number);
        }
        self.held -= heard.bytes();
        Some(Next { listener, heard, credit, calls })
    }

    /// What goes there, as long as more may.
    fn sends(&self, number: u64) -> Option<ScriptBody> {
        self.sockets.get(&number).filter(|socket| socket.sends)?.to
    }

    /// Nothing more goes there; what went.
    fn stop_sending(&mut self, number: u64) -> Option<ScriptBody> {
        let socket = self.sockets.get_mut(&number).filter(|socket| socket.sends)?;
        socket.sends = false;
        socket.to
    }

    fn get(&self, number: u64) -> Option<&Socket> {
        self.sockets.get(&number)
    }

    /// The one that sends there.
    pub(crate) fn of(&self, to: ScriptBody) -> Option<u64> {
        self.by_to.get(&to).copied()
    }

    /// Forgets one; the bodies that it was of.
    pub(crate) fn give_up(&mut self, number: u64) -> Option<(Option<HostBody>, Option<ScriptBody>)> {
        self.remove(number).map(|socket| (socket.from, socket.to))
    }

    fn remove(&mut self, number: u64) -> Option<Socket> {
        let socket = self.sockets.remove(&number)?;
        self.held -= socket.held();
        socket.to.map(|to| self.by_to.remove(&to));
        socket.from.map(|from| self.by_from.remove(&from));
        self.ready.retain(|one| *one != number);
        Some(socket)
    }

    /// Forgets one that is over in both directions.
    fn remove_if_over(&mut self, number: u64) {
        let over = |socket: &Socket| {
            socket.closed && !socket.sends && socket.inbox.is_empty() && socket.calls.is_empty()
        };
        if self.sockets.get(&number).is_some_and(over) {
            self.remove(number);
        }
    }

    /// Whether a call has one, or has passed one on.
    pub(crate) fn has(&self, event: EventId) -> bool {
        self.sockets.values().any(|socket| socket.event == event || socket.calls.contains(&event))
    }

    /// Bytes that have come and were not heard.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held
    }

    /// Drops those of a call.
    pub(crate) fn forget(&mut self, event: EventId) -> Gone {
        // Where nobody hears any more is as good as gone, whosever call it was given away in.
        let hears =
            |one: &Socket| one.listener.as_ref().is_some_and(|listener| listener.scope.event == event);
        let own = self
            .sockets
            .iter()
            .filter(|(_, one)| one.event == event || one.calls.contains(&event) || hears(one));
        let own: Vec<u64> = own.map(|(number, _)| *number).collect();
        let mut gone = Gone::default();
        for socket in own.into_iter().filter_map(|number| self.remove(number)) {
            let others: Vec<EventId> = socket.calls.into_iter().filter(|call| *call != event).collect();
            // What belongs to this call alone ends with it, also in the edge.
            gone.unheard.extend(socket.from.filter(|from| is_local_body(*from) || !others.is_empty()));
            gone.others.extend(others);
        }
        gone
    }

    pub(crate) fn len(&self) -> usize {
        self.sockets.len()
    }
}
