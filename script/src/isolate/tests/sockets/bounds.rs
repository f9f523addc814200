//! What WebSockets may take up, whose time their handlers use, and who hears of an end.

use super::*;

/// Two clients at an object; what one says is carried out for the other or for itself.
const TWO: &str = "all = [];
    async fetch(request) {
        const { 0: client, 1: server } = new WebSocketPair();
        server.accept();
        this.all.push(server);
        server.addEventListener('message', (e) => {
            const [first, second] = this.all;
            if (e.data === 'flood') {
                let sent = 0;
                try { for (;;) { first.send('x'.repeat(1 << 20)); sent++; } } catch (error) { console.log(sent, error.name, first.bufferedAmount > 1 << 20); }
            }
            if (e.data === 'small') second.send('still here');
            if (e.data === 'spin') for (;;);
            if (e.data.startsWith('work')) { for (let i = 0; i < Number(e.data.slice(4)); i++); console.log('worked'); }
        });
        return new Response(null, { status: 101, webSocket: client });
    }";

const OTHER: HostBody = HostBody(902);

impl Edge {
    /// Two clients of one object: what each is sent.
    fn two(&mut self) -> (EventId, ScriptBody, ScriptBody) {
        let first = self.upgrade("/");
        let made = self.joined(first);
        let second = self.upgrade("/");
        let BodyRef::Script(other) = answered(self, second) else { panic!("a socket of the edge's") };
        self.give(Event::Socket(other, OTHER));
        self.give(Event::Credit(other, SOCKET_WINDOW));
        (first, made, other)
    }
}

#[test]
fn what_one_does_not_take_leaves_the_others_their_share_and_weighs() {
    let mut edge = with(TWO, PASSES);
    let (event, _, other) = edge.two();
    edge.isolate.collect();
    let before = edge.isolate.memory_bytes();
    edge.say(CLIENT, &text("flood"));
    assert_eq!(edge.lines(), ["4 RangeError true"]);
    edge.isolate.collect();
    assert!(edge.isolate.memory_bytes() > before + (3 << 20) - (1 << 19));
    edge.say(CLIENT, &text("small"));
    assert_eq!(got(&edge, other).messages, [text("still here")]);
    edge.give(Event::Body(CLIENT, Piece::Failed("it is gone".to_owned())));
    assert!(is_done(&edge, event));
    edge.isolate.collect();
    assert!(edge.isolate.memory_bytes() < before + (1 << 20));
}

#[test]
fn a_few_that_take_nothing_do_not_use_up_what_all_may_have() {
    let mut bodies = crate::isolate::bodies::Bodies::default();
    for n in 0..100 {
        let flood = bodies.make(EventId(n), true);
        while bodies.admits(flood, 100_000).is_ok() {
            drop(bodies.write(flood, vec![0; 100_000], None));
        }
    }
    let fresh = bodies.make(EventId(200), true);
    assert!(bodies.admits(fresh, 64 << 10).is_ok(), "{}", bodies.socket_bytes());
    assert!(bodies.socket_bytes() <= crate::message::SOCKETS_UNSENT_BYTES);
    assert_eq!(bodies.unsent_bytes(), 0);
    for n in 0..100 {
        bodies.forget(EventId(n));
    }
    assert_eq!((bodies.socket_bytes(), bodies.sockets()), (0, 1));
}

#[test]
fn a_messages_handler_that_does_not_end_is_ended_and_each_message_has_its_own_time() {
    let mut edge = with(TWO, PASSES);
    let (event, ..) = edge.two();
    // Each far less than the 2 seconds that an event has, as the machine may be slower then; all of them more.
    let begun_us = edge.clock.cpu_us();
    edge.say(CLIENT, &text("work1e6"));
    let took_us = edge.clock.cpu_us() - begun_us;
    let work = format!("work{}", 800_000 * 1_000_000 / took_us.max(1));
    for _ in 0..3 {
        edge.say(CLIENT, &text(&work));
    }
    assert_eq!(edge.lines(), ["worked"; 4]);
    edge.say(CLIENT, &text("spin"));
    assert!(is_done(&edge, event), "{:?}", edge.seen);
    assert!(edge.seen.iter().any(|effect| matches!(effect, Effect::Reset(..))));
    assert_eq!(edge.isolate.condemned(), None);
    // What still comes for it means nothing, and its next life has none of them.
    edge.say(CLIENT, &text("small"));
    edge.give(Event::Body(OTHER, Piece::End));
    assert_eq!(edge.lines().len(), 4);
    let (_, _, other) = edge.two();
    edge.say(CLIENT, &text("small"));
    assert_eq!(got(&edge, other).messages, [text("still here")]);
}

#[test]
fn the_time_of_an_objects_turns_is_told() {
    let counts = "async fetch(request) { for (let i = 0; i < 1e6; i++); return new Response('x'); }";
    let mut edge = with(counts, PASSES);
    for _ in 0..3 {
        edge.get("/");
    }
    let told = edge.seen.iter().filter_map(|effect| match effect {
        Effect::Done { cpu_us, .. } => Some(*cpu_us),
        _ => None,
    });
    // The time of the object's own turns is in the end of its events.
    assert!(told.sum::<u64>() > 3_000);
}

#[test]
fn pairs_without_end_are_refused() {
    let mut edge = with(
        "",
        "const all = []; try { for (;;) all.push(new WebSocketPair()); } catch (error) { return new Response(`${all.length} ${error}`); }",
    );
    for _ in 0..2 {
        assert_eq!(edge.get("/"), "1000 RangeError: An event can make at most 1000 WebSocketPairs.");
    }
}

#[test]
fn both_ends_in_one_isolate_have_the_bounds_of_others() {
    let floods = "const [a, b] = Object.values(new WebSocketPair());
        const said = [];
        a.accept();
        const before = a.bufferedAmount;
        try { a.send('é'.repeat((1 << 19) + 1)); } catch (error) { said.push(String(error)); }
        try { for (let i = 0; ; i++) a.send(new Uint8Array(1 << 19)); } catch (error) { said.push(String(error), before, a.bufferedAmount >> 20); }
        let heard = 0;
        b.addEventListener('message', () => heard++);
        b.accept();
        a.send('again');
        await scheduler.wait(1);
        said.push(heard, a.bufferedAmount);
        return Response.json(said);";
    let mut edge = with("", floods);
    let event = edge.request("/");
    edge.pass(1);
    let said = edge.outcome(event).unwrap().unwrap();
    let bounds = "\"RangeError: A message of a WebSocket has at most 1024 KiB.\",\"RangeError: More than 4 MiB of this WebSocket wait for its other side.\"";
    assert_eq!(said, format!("[{bounds},0,3,8,0]"));
}

#[test]
fn a_pairs_messages_are_heard_where_its_end_was_accepted() {
    let pair = "async fetch() {
        const [a, b] = Object.values(new WebSocketPair());
        a.accept();
        b.accept();
        const seen = [];
        b.addEventListener('message', (e) => { seen.push(e.data); });
        await this.ctx.blockConcurrencyWhile(async () => {
            a.send('said within');
            await scheduler.wait(10);
            seen.push('the section ends');
        });
        await scheduler.wait(10);
        return Response.json(seen);
    }";
    let mut edge = with(pair, PASSES);
    let event = edge.request("/");
    edge.pass(10);
    edge.pass(10);
    assert_eq!(edge.outcome(event).unwrap().unwrap(), "[\"the section ends\",\"said within\"]");
}

#[test]
fn an_end_whose_event_is_over_is_lost_to_the_other() {
    let kept = "if (url.pathname === '/keep') {
            const [a, b] = Object.values(new WebSocketPair());
            a.accept();
            globalThis.other = b;
            return new Response('kept');
        }
        const seen = [];
        const { other } = globalThis;
        other.accept();
        for (const type of ['error', 'close']) other.addEventListener(type, (e) => seen.push(e.type, e.code ?? 0));
        other.send('x');
        await scheduler.wait(1);
        return Response.json(seen);";
    let mut edge = with("", kept);
    assert_eq!(edge.get("/keep"), "kept");
    let event = edge.request("/hear");
    edge.pass(1);
    assert_eq!(edge.outcome(event).unwrap().unwrap(), "[\"error\",0,\"close\",1006]");
    assert!(edge.isolate.state.later.borrow().is_empty());
}

#[test]
fn a_socket_that_its_caller_leaves_behind_is_lost_to_the_object() {
    let listens = "async fetch() {
        const { 0: client, 1: server } = new WebSocketPair();
        server.accept();
        server.addEventListener('close', (e) => console.log('close', e.code));
        return new Response(null, { status: 101, webSocket: client });
    }";
    let leaves = "const res = await stub.fetch('http://x.example/', { headers: { upgrade: 'websocket' } });
        if (url.pathname === '/open') res.webSocket.accept();
        return new Response('left');";
    for path in ["/unopened", "/open"] {
        let mut edge = with(listens, leaves);
        let event = edge.request(path);
        assert_eq!(edge.outcome(event).unwrap().unwrap(), "left");
        if path == "/open" {
            let id = edge.only().0;
            edge.give(Event::Drop(id, Some(ScriptError::new("Error", "it is to go"))));
        } else {
            assert_eq!(edge.lines(), ["close 1006"]);
        }
        assert!(is_done(&edge, event), "{path}");
        assert_eq!(edge.isolate.state.sockets.borrow().len(), 0, "{path}");
        assert_eq!(edge.isolate.state.bodies.borrow().sockets(), 0, "{path}");
        assert_eq!(edge.isolate.state.calls.borrow().len(), usize::from(path != "/open"), "{path}");
    }
}

/// A client that is lost takes its call with it before the end of what it sent is told: the object hears of that all the same.
#[test]
fn an_object_hears_that_a_client_is_lost_whose_socket_the_worker_passed_on() {
    let listens = "async fetch() {
        const { 0: client, 1: server } = new WebSocketPair();
        server.accept();
        server.addEventListener('close', (e) => { console.log('close', e.code); server.close(); });
        return new Response(null, { status: 101, webSocket: client });
    }";
    let mut edge = with(listens, PASSES);
    let event = edge.upgrade("/");
    edge.joined(event);
    edge.give(Event::Aborted(event));
    edge.give(Event::Body(CLIENT, Piece::Failed("Network connection lost.".to_owned())));
    assert_eq!(edge.lines(), ["close 1006"]);
    assert!(is_done(&edge, event));
    assert_eq!(edge.isolate.state.sockets.borrow().len(), 0);
}
