//! WebSockets: given to clients, taken from others, passed on; in a worker and in objects.

mod bounds;

use serde_bytes::ByteBuf;

use super::edge::{Edge, with};
use crate::isolate::Host;
use crate::message::{
    BodyRef, Effect, Event, EventId, HostBody, OpId, Piece, Request, Response, SOCKET_WINDOW, ScriptBody,
    ScriptError, SocketMessage, SocketMessages, Target,
};

/// Answers with a socket that it accepts; `on` is what it does with that, named `server`.
fn accepting(on: &str) -> String {
    format!(
        "const {{ 0: client, 1: server }} = new WebSocketPair();
        server.binaryType = 'arraybuffer';
        server.accept();
        server.addEventListener('close', (e) => console.log('close', e.code, e.reason, e.wasClean));
        server.addEventListener('error', (e) => console.log('error', e.message));
        {on}
        return new Response(null, {{ status: 101, webSocket: client, headers: {{ 'x-own': '1' }} }});"
    )
}

const ECHO: &str = "server.addEventListener('message', (e) => server.send(typeof e.data === 'string' ? `you said ${e.data}` : e.data));";

/// What the platform's own package does with a socket of a container's: it accepts both ends, and copies.
const COPIES: &str = "if (res.webSocket === null) return new Response('no socket');
    const [client, server] = Object.values(new WebSocketPair());
    res.webSocket.accept();
    server.accept();
    for (const [from, to] of [[server, res.webSocket], [res.webSocket, server]]) {
        from.addEventListener('message', async (e) => { to.send(e.data instanceof Blob ? await e.data.arrayBuffer() : e.data); });
        from.addEventListener('close', (e) => { try { to.close(e.code === 1005 ? undefined : e.code, e.code === 1005 ? undefined : e.reason); } catch {} });
        from.addEventListener('error', () => { try { to.close(1011, 'error'); } catch {} });
    }
    return new Response(null, { status: 101, webSocket: client });";

/// What the other side of a socket has got.
#[derive(Debug, Default, PartialEq, Eq)]
struct Got {
    messages: Vec<SocketMessage>,
    end: Option<Piece>,
}

fn got(edge: &Edge, of: ScriptBody) -> Got {
    let (mut messages, mut got) = (SocketMessages::default(), Got::default());
    for effect in &edge.seen {
        match effect {
            Effect::Body(body, Piece::Data(bytes)) if *body == of => {
                messages.extend(bytes);
                while let Some((message, _)) = messages.next_message().unwrap() {
                    got.messages.push(message);
                }
            }
            Effect::Body(body, end) if *body == of => got.end = Some(end.clone()),
            _ => {}
        }
    }
    got
}

fn text(text: &str) -> SocketMessage {
    SocketMessage::Text(text.to_owned())
}

fn close(code: u16, reason: &str) -> SocketMessage {
    SocketMessage::Close(code, reason.to_owned())
}

fn is_done(edge: &Edge, of: EventId) -> bool {
    edge.seen.iter().any(|effect| matches!(effect, Effect::Done { event, .. } if *event == of))
}

fn credit_of(edge: &Edge, of: HostBody) -> u32 {
    let credit = edge.seen.iter().filter_map(|effect| match effect {
        Effect::Credit(body, bytes) if *body == of => Some(*bytes),
        _ => None,
    });
    credit.sum()
}

/// The socket that a call was answered with, as the edge has it.
fn answered(edge: &Edge, event: EventId) -> BodyRef {
    let found = edge.seen.iter().find_map(|effect| match effect {
        Effect::Responded(of, response) if *of == event && response.has_socket() => {
            Some(response.body.clone())
        }
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no socket: {:?}", edge.seen))
}

/// The request to outside that waits, and what the answer with a socket is.
fn asked(edge: &Edge) -> OpId {
    edge.asked().last().expect("a request").0
}

const CLIENT: HostBody = HostBody(900);
const SERVER: HostBody = HostBody(901);

impl Edge {
    fn upgrade(&mut self, url: &str) -> EventId {
        let event = self.id();
        let headers = vec![("upgrade".to_owned(), "websocket".to_owned())];
        let url = format!("http://a.example{url}");
        let request = Request { method: "GET".to_owned(), url, headers, body: BodyRef::None };
        self.give(Event::Fetch { event, target: Target::Worker, request: Box::new(request) });
        event
    }

    /// A client takes the socket that a call was answered with.
    fn joined(&mut self, event: EventId) -> ScriptBody {
        let BodyRef::Script(made) = answered(self, event) else { panic!("a socket of the edge's") };
        self.give(Event::Socket(made, CLIENT));
        self.give(Event::Credit(made, SOCKET_WINDOW));
        made
    }

    fn say(&mut self, to: HostBody, message: &SocketMessage) {
        self.give(Event::Body(to, Piece::Data(ByteBuf::from(message.to_bytes()))));
    }

    /// Somebody whom a call asked for a socket gives one.
    fn give_socket(&mut self, op: OpId) {
        let headers = vec![("x-theirs".to_owned(), "2".to_owned())];
        let body = BodyRef::Host(SERVER);
        let response = Response { status: 101, status_text: String::new(), headers, body };
        self.give(Event::Completed { op, outcome: Ok(response) });
    }
}

#[test]
fn a_worker_talks_with_its_client_until_one_of_them_closes() {
    let mut edge = with("", &accepting(&format!("server.send('early'); {ECHO}")));
    let event = edge.upgrade("/");
    let made = edge.joined(event);
    assert_eq!(got(&edge, made).messages, [text("early")]);
    assert_eq!(credit_of(&edge, CLIENT), SOCKET_WINDOW);
    edge.say(CLIENT, &text("hé"));
    edge.say(CLIENT, &SocketMessage::Binary(vec![1, 0, 255]));
    assert_eq!(got(&edge, made).messages[1..], [text("you said hé"), SocketMessage::Binary(vec![1, 0, 255])]);
    edge.pass(100_000);
    assert!(!is_done(&edge, event));
    edge.say(CLIENT, &close(4001, "bye"));
    assert_eq!(got(&edge, made).messages[3..], [close(4001, "bye")]);
    assert_eq!(got(&edge, made).end, Some(Piece::End));
    assert!(!is_done(&edge, event));
    edge.give(Event::Body(CLIENT, Piece::End));
    assert!(is_done(&edge, event));
    assert_eq!(edge.lines(), ["close 4001 bye true"]);
    assert_eq!(edge.isolate.state.sockets.borrow().len(), 0);
}

#[test]
fn a_worker_closes_and_hears_the_clients_answer() {
    let mut edge = with("", &accepting("server.addEventListener('message', () => server.close());"));
    let event = edge.upgrade("/");
    let made = edge.joined(event);
    edge.say(CLIENT, &text("x"));
    assert_eq!(got(&edge, made), Got { messages: vec![close(1005, "")], end: Some(Piece::End) });
    assert!(!is_done(&edge, event));
    edge.say(CLIENT, &close(1005, ""));
    edge.give(Event::Body(CLIENT, Piece::End));
    assert!(is_done(&edge, event));
    assert_eq!(edge.lines(), ["close 1005  true"]);
}

#[test]
fn a_client_that_is_lost_is_told_and_so_is_one_that_says_what_is_no_message() {
    let mut edge = with("", &accepting(""));
    let event = edge.upgrade("/");
    let made = edge.joined(event);
    edge.give(Event::Body(CLIENT, Piece::Failed("Network connection lost.".to_owned())));
    let lost = "close 1006 WebSocket disconnected without sending Close frame. false";
    assert_eq!(edge.lines(), ["error Network connection lost.", lost]);
    assert!(got(&edge, made).end.is_some() && is_done(&edge, event));
    let event = edge.upgrade("/");
    let made = edge.joined(event);
    edge.give(Event::Body(CLIENT, Piece::Data(ByteBuf::from([7; 5]))));
    assert_eq!(edge.lines().len(), 4);
    assert!(edge.seen.contains(&Effect::Cancelled(CLIENT)));
    assert!(got(&edge, made).end.is_some() && is_done(&edge, event));
    // Gone before it took it.
    let event = edge.upgrade("/");
    let BodyRef::Script(made) = answered(&edge, event) else { panic!("a socket of the edge's") };
    edge.give(Event::Socket(made, CLIENT));
    edge.give(Event::Cancelled(made));
    edge.give(Event::Body(CLIENT, Piece::Failed("Network connection lost.".to_owned())));
    assert!(is_done(&edge, event));
    assert_eq!(edge.isolate.state.sockets.borrow().len(), 0);
}

#[test]
fn a_socket_is_not_for_those_who_did_not_ask_for_one() {
    let mut edge = with("", &accepting(""));
    assert_eq!(
        edge.get("/"),
        "TypeError: Worker tried to return WebSocket in a response to a request which did not contain the header \"Upgrade: websocket\"."
    );
    assert_eq!(edge.isolate.state.sockets.borrow().len(), 0);
}

#[test]
fn messages_wait_for_accept_and_room_is_given_when_they_were_heard() {
    let later = "const { 0: client, 1: server } = new WebSocketPair();
        server.addEventListener('message', (e) => console.log(e.data.length));
        ctx.waitUntil(scheduler.wait(1000).then(() => server.accept()));
        return new Response(null, { status: 101, webSocket: client });";
    let mut edge = with("", later);
    let event = edge.upgrade("/");
    edge.joined(event);
    assert_eq!(credit_of(&edge, CLIENT), 0);
    edge.pass(1000);
    assert_eq!(credit_of(&edge, CLIENT), SOCKET_WINDOW);
    edge.say(CLIENT, &text(&"x".repeat(20_000)));
    assert_eq!(edge.lines(), ["20000"]);
    assert_eq!(credit_of(&edge, CLIENT), SOCKET_WINDOW + 20_005);
    // A message that is longer than what may be under way flows all the same.
    let long = text(&"y".repeat(500_000)).to_bytes();
    for piece in long.chunks(16 << 10) {
        edge.give(Event::Body(CLIENT, Piece::Data(ByteBuf::from(piece))));
    }
    assert_eq!(edge.lines(), ["20000", "500000"]);
    let credit = usize::try_from(credit_of(&edge, CLIENT)).unwrap();
    assert!(credit + (SOCKET_WINDOW as usize) / 2 > 20_005 + long.len() + (SOCKET_WINDOW as usize));
    assert!(credit <= 20_005 + long.len() + (SOCKET_WINDOW as usize));
    assert_eq!(edge.isolate.state.sockets.borrow().held_bytes(), 0);
}

/// An object with a room: all hear what one says.
const ROOM: &str = "sockets = new Set();
    async fetch(request) {
        const { 0: client, 1: server } = new WebSocketPair();
        server.accept();
        this.sockets.add(server);
        server.addEventListener('message', async (e) => {
            console.log('heard', e.data);
            if (e.data === 'block') return this.ctx.blockConcurrencyWhile(() => scheduler.wait(1000));
            if (e.data === 'write') this.ctx.storage.put('k', 1);
            if (e.data === 'reset') this.ctx.abort('it is to go');
            for (const socket of this.sockets) socket.send(e.data);
        });
        server.addEventListener('close', (e) => { this.sockets.delete(server); server.close(e.code); });
        return new Response(null, { status: 101, webSocket: client });
    }";

const PASSES: &str = "return stub.fetch(request);";

#[test]
fn an_objects_messages_wait_for_its_sections_and_what_it_says_for_its_writes() {
    let mut edge = with(ROOM, PASSES);
    edge.prompt = false;
    let event = edge.upgrade("/");
    let made = edge.joined(event);
    edge.say(CLIENT, &text("block"));
    edge.say(CLIENT, &text(&"x".repeat(30_000)));
    assert_eq!(edge.lines(), ["heard block"]);
    assert_eq!(credit_of(&edge, CLIENT), SOCKET_WINDOW);
    edge.pass(1000);
    assert_eq!(edge.lines().len(), 2);
    assert_eq!(credit_of(&edge, CLIENT), SOCKET_WINDOW + 30_015);
    edge.say(CLIENT, &text("write"));
    assert_eq!(got(&edge, made).messages.len(), 1);
    edge.commit();
    assert_eq!(got(&edge, made).messages[1..], [text("write")]);
    let id = edge.only().0;
    edge.give(Event::Drop(id, None));
    assert!(!edge.seen.contains(&Effect::Dropped(id)), "its sockets keep it");
    edge.say(CLIENT, &close(1000, ""));
    edge.give(Event::Body(CLIENT, Piece::End));
    assert!(is_done(&edge, event));
    edge.give(Event::Drop(id, None));
    assert!(edge.seen.contains(&Effect::Dropped(id)));
    assert_eq!(edge.isolate.state.sockets.borrow().len(), 0);
}

#[test]
fn sockets_end_with_their_object() {
    let mut edge = with(ROOM, PASSES);
    let event = edge.upgrade("/");
    let made = edge.joined(event);
    edge.say(CLIENT, &text("reset"));
    assert!(matches!(got(&edge, made).end, Some(Piece::Failed(_))), "{:?}", edge.seen);
    assert!(is_done(&edge, event));
    let event = edge.upgrade("/");
    let made = edge.joined(event);
    let id = edge.only().0;
    edge.give(Event::Drop(id, Some(ScriptError::new("Error", "it is to go"))));
    assert_eq!(got(&edge, made).end, Some(Piece::Failed("it is to go".to_owned())));
    assert!(is_done(&edge, event));
    assert_eq!(edge.isolate.state.sockets.borrow().len(), 0);
}

#[test]
fn a_worker_opens_what_its_object_gives_it_and_copies() {
    let mut edge = with(ROOM, &format!("const res = await stub.fetch(request); {COPIES}"));
    let event = edge.upgrade("/");
    let made = edge.joined(event);
    edge.say(CLIENT, &text("one"));
    edge.say(CLIENT, &text("two"));
    assert_eq!(got(&edge, made).messages, [text("one"), text("two")]);
    edge.say(CLIENT, &close(4000, "done"));
    edge.give(Event::Body(CLIENT, Piece::End));
    assert_eq!(got(&edge, made).messages.len(), 3);
    assert!(is_done(&edge, event), "{:?}", edge.seen);
    let id = edge.only().0;
    edge.give(Event::Drop(id, None));
    assert!(edge.seen.contains(&Effect::Dropped(id)));
    assert_eq!(edge.isolate.state.sockets.borrow().len(), 0);
}

#[test]
fn a_socket_that_is_only_passed_on_stays_in_the_edge() {
    let through = "async fetch(request) { return fetch('http://x.example/ws', request); }";
    let mut edge = with(through, PASSES);
    let event = edge.upgrade("/");
    let op = asked(&edge);
    edge.give_socket(op);
    assert_eq!(answered(&edge, event), BodyRef::Host(SERVER));
    let response = edge.seen.iter().find_map(|effect| match effect {
        Effect::Responded(_, response) => Some(response.headers.clone()),
        _ => None,
    });
    assert_eq!(response.unwrap(), [("x-theirs".to_owned(), "2".to_owned())]);
    assert!(is_done(&edge, event));
    assert!(!edge.seen.iter().any(|effect| matches!(effect, Effect::Socket(..) | Effect::Credit(..))));
    assert_eq!(edge.isolate.state.sockets.borrow().len(), 0);
}

#[test]
fn both_ends_are_accepted_and_messages_are_copied() {
    let mut edge = with("", &format!("const res = await fetch('http://x.example/ws', request); {COPIES}"));
    let event = edge.upgrade("/");
    edge.give_socket(asked(&edge));
    let made = edge.joined(event);
    let there = edge.seen.iter().find_map(|effect| match effect {
        Effect::Socket(given, made) if *given == SERVER => Some(*made),
        _ => None,
    });
    let there = there.expect("it is opened");
    assert_eq!(credit_of(&edge, SERVER), SOCKET_WINDOW);
    edge.give(Event::Credit(there, SOCKET_WINDOW));
    edge.say(SERVER, &text("from the server"));
    edge.say(CLIENT, &SocketMessage::Binary(vec![1, 2]));
    assert_eq!(got(&edge, made).messages, [text("from the server")]);
    assert_eq!(got(&edge, there).messages, [SocketMessage::Binary(vec![1, 2])]);
    edge.say(CLIENT, &close(1000, "enough"));
    edge.give(Event::Body(CLIENT, Piece::End));
    assert_eq!(got(&edge, there).messages[1..], [close(1000, "enough")]);
    edge.say(SERVER, &close(1000, "enough"));
    edge.give(Event::Body(SERVER, Piece::End));
    assert!(is_done(&edge, event), "{:?}", edge.seen);
    assert_eq!(edge.isolate.state.sockets.borrow().len(), 0);
    // Without a socket, the answer says so.
    let event = edge.upgrade("/");
    let op = asked(&edge);
    edge.answer(op, "plain");
    assert_eq!(edge.outcome(event).unwrap().unwrap(), "no socket");
}

#[test]
fn a_script_does_not_send_without_end() {
    let flood = "const { 0: client, 1: server } = new WebSocketPair();
        server.accept();
        ctx.waitUntil(scheduler.wait(1).then(() => {
            try { server.send('x'.repeat((1 << 20) + 1)); } catch (error) { console.log(String(error)); }
            try { for (let i = 0; ; i++) server.send('x'.repeat(1 << 19)); } catch (error) { console.log(String(error)); }
        }));
        return new Response(null, { status: 101, webSocket: client });";
    let mut edge = with("", flood);
    let event = edge.upgrade("/");
    let made = edge.joined(event);
    edge.pass(1);
    let lines = edge.lines();
    assert_eq!(lines[0], "RangeError: A message of a WebSocket has at most 1024 KiB.");
    assert!(
        lines[1].starts_with("RangeError: More than 4 MiB of this WebSocket wait for its other side."),
        "{lines:?}"
    );
    let sent = edge.seen.iter().filter_map(|effect| match effect {
        Effect::Body(body, Piece::Data(bytes)) if *body == made => Some(bytes.len()),
        _ => None,
    });
    assert_eq!(sent.sum::<usize>(), SOCKET_WINDOW as usize);
}

#[test]
fn one_that_an_object_opens_and_that_is_reset_before_that_has_left_was_never_opened() {
    let opens = "async fetch() {
        const { webSocket } = await fetch('http://x.example/ws', { headers: { upgrade: 'websocket' } });
        this.ctx.storage.put('k', 1);
        webSocket.accept();
        webSocket.send('x');
        return new Response('sent');
    }";
    let mut edge = with(opens, PASSES);
    edge.prompt = false;
    edge.request("/");
    edge.give_socket(asked(&edge));
    let id = edge.only().0;
    edge.give(Event::Drop(id, Some(ScriptError::new("Error", "it is to go"))));
    let told = |effect: &Effect| matches!(effect, Effect::Socket(..) | Effect::Body(..));
    assert!(!edge.seen.iter().any(told), "{:?}", edge.seen);
    assert_eq!(edge.isolate.state.sockets.borrow().len(), 0);
}

#[test]
fn what_is_not_there_yet_says_so() {
    let fails = "async fetch() { try { this.ctx.acceptWebSocket(new WebSocketPair()[1]); } catch (error) { return new Response(String(error)); } }";
    let mut edge = with(fails, PASSES);
    assert_eq!(edge.get("/"), "Error: acceptWebSocket() is not supported by this version of Berth.");
}
