//! Bodies that one makes and another passes on to the edge, both in one isolate.

use super::edge::{Edge, with};
use crate::message::{
    BODY_WINDOW, BodyRef, Destination, Effect, Event, EventId, OpId, Piece, Request, ScriptBody, ScriptError,
    Target,
};

/// An object that answers with streams, and a worker that passes the answers on.
fn edge() -> Edge {
    with(
        "async fetch(request) {
            const { pathname } = new URL(request.url);
            if (pathname === '/out') return fetch('http://x.example/', { method: 'POST', body: request.body });
            const { readable, writable } = new TransformStream();
            const writer = writable.getWriter();
            const bytes = new TextEncoder();
            this.done = (async () => {
                if (pathname === '/empty') return writer.close();
                if (pathname === '/broken') return writer.abort(new Error('no more'));
                await writer.write(bytes.encode('one '));
                if (pathname === '/waits') await scheduler.wait(100);
                if (pathname === '/gated') this.ctx.storage.put('k', 1);
                await writer.write(bytes.encode('two'));
                await writer.close();
                console.log('written');
            })();
            this.done.catch(() => {});
            return new Response(readable);
        }",
        "if (url.pathname !== '/out') return stub.fetch(request);
        const { readable, writable } = new TransformStream();
        const writer = writable.getWriter();
        writer.write(new TextEncoder().encode('from the worker')).then(() => writer.close());
        return stub.fetch('http://o/out', { method: 'POST', body: readable });",
    )
}

fn named(edge: &Edge, event: EventId) -> ScriptBody {
    let named = edge.seen.iter().find_map(|effect| match effect {
        Effect::Responded(of, response) if *of == event => Some(response.body.clone()),
        _ => None,
    });
    match named {
        Some(BodyRef::Script(body)) => body,
        other => panic!("{other:?}"),
    }
}

/// What has come of a body, and how it ended.
fn came(edge: &Edge, of: ScriptBody) -> (String, Option<Piece>) {
    let mut text = String::new();
    for effect in &edge.seen {
        match effect {
            Effect::Body(body, Piece::Data(bytes)) if *body == of => text += &String::from_utf8_lossy(bytes),
            Effect::Body(body, end) if *body == of => return (text, Some(end.clone())),
            _ => {}
        }
    }
    (text, None)
}

fn is_done(edge: &Edge, of: EventId) -> bool {
    edge.seen.iter().any(|effect| matches!(effect, Effect::Done { event, .. } if *event == of))
}

#[test]
fn an_objects_stream_goes_to_the_edge_and_the_call_lasts_as_long() {
    let mut edge = edge();
    let event = edge.request("/all");
    let body = named(&edge, event);
    assert!(!is_done(&edge, event) && came(&edge, body) == (String::new(), None));
    edge.give(Event::Credit(body, BODY_WINDOW));
    assert_eq!(came(&edge, body), ("one two".to_owned(), Some(Piece::End)));
    assert!(is_done(&edge, event));
    assert_eq!(edge.lines(), ["written"]);
    let id = edge.only().0;
    edge.give(Event::Drop(id, None));
    assert!(edge.seen.contains(&Effect::Dropped(id)), "nothing of it is left");
}

#[test]
fn what_is_empty_or_broken_before_anybody_reads_is_that_to_the_edge() {
    let mut edge = edge();
    let event = edge.request("/empty");
    let body = named(&edge, event);
    assert_eq!(came(&edge, body), (String::new(), Some(Piece::End)));
    assert!(is_done(&edge, event));
    let event = edge.request("/broken");
    let body = named(&edge, event);
    assert!(matches!(came(&edge, body).1, Some(Piece::Failed(_))));
    assert!(is_done(&edge, event));
}

#[test]
fn pieces_of_it_wait_for_the_objects_writes() {
    let mut edge = edge();
    edge.prompt = false;
    let event = edge.request("/gated");
    let body = named(&edge, event);
    edge.give(Event::Credit(body, BODY_WINDOW));
    assert_eq!(came(&edge, body), (String::new(), None));
    assert!(!is_done(&edge, event));
    edge.commit();
    assert_eq!(came(&edge, body), ("one two".to_owned(), Some(Piece::End)));
}

#[test]
fn it_breaks_off_with_its_object() {
    let mut edge = edge();
    let event = edge.request("/waits");
    let body = named(&edge, event);
    edge.give(Event::Credit(body, BODY_WINDOW));
    let id = edge.only().0;
    edge.give(Event::Drop(id, Some(ScriptError::new("Error", "it is to go"))));
    assert_eq!(came(&edge, body), ("one ".to_owned(), Some(Piece::Failed("it is to go".to_owned()))));
    assert!(is_done(&edge, event));
}

/// An object's answer that waits for a commit has the stream of another object as its body.
#[test]
fn a_call_is_done_when_what_it_has_passed_on_is_whole_also_behind_a_commit() {
    let mut edge = with(
        "async fetch(request) {
            const { pathname } = new URL(request.url);
            if (pathname === '/first') {
                const answer = await this.env.A.getByName('two').fetch('http://x.example/second');
                this.ctx.storage.put('k', 1);
                return answer;
            }
            const { readable, writable } = new TransformStream();
            const writer = writable.getWriter();
            writer.write(new TextEncoder().encode('one ')).then(() => scheduler.wait(100)).then(async () => {
                await writer.write(new TextEncoder().encode('two'));
                await writer.close();
            });
            return new Response(readable);
        }",
        "return stub.fetch('http://x.example/none');",
    );
    edge.get("/");
    edge.prompt = false;
    let object = Box::new(edge.objects.values().next().unwrap().clone());
    let event = edge.id();
    let request = Request {
        method: "GET".to_owned(),
        url: "http://x.example/first".to_owned(),
        headers: Vec::new(),
        body: BodyRef::None,
    };
    edge.give(Event::Fetch { event, target: Target::Object(object), request: Box::new(request) });
    edge.commit();
    let body = named(&edge, event);
    edge.give(Event::Credit(body, BODY_WINDOW));
    assert_eq!(came(&edge, body), ("one ".to_owned(), None));
    assert!(!is_done(&edge, event));
    edge.pass(100);
    assert_eq!(came(&edge, body), ("one two".to_owned(), Some(Piece::End)));
    assert!(is_done(&edge, event));
}

#[test]
fn it_ends_when_nobody_reads_it() {
    let mut edge = edge();
    let event = edge.request("/waits");
    let body = named(&edge, event);
    edge.give(Event::Cancelled(body));
    assert_eq!(came(&edge, body).1, Some(Piece::End));
    assert!(is_done(&edge, event));
}

#[test]
fn it_ends_with_the_client_and_the_edge_hears_no_more_of_it() {
    for path in ["/waits", "/gated"] {
        let mut edge = edge();
        edge.prompt = path != "/gated";
        let event = edge.request(path);
        let body = named(&edge, event);
        edge.give(Event::Credit(body, BODY_WINDOW));
        let before = came(&edge, body);
        edge.give(Event::Aborted(event));
        assert!(is_done(&edge, event));
        if !edge.prompt {
            edge.commit();
        }
        edge.pass(100);
        assert_eq!(came(&edge, body), before, "{path}");
        let id = edge.objects.keys().next().copied().unwrap();
        edge.give(Event::Drop(id, None));
        assert!(edge.seen.contains(&Effect::Dropped(id)), "{path}: nothing of it is left");
    }
}

#[test]
fn a_workers_stream_that_is_not_whole_ends_with_it() {
    let mut edge = with(
        "async fetch(request) {
            this.ctx.waitUntil(fetch('http://x.example/', { method: 'POST', body: request.body }));
            return new Response('begun');
        }",
        "const { readable, writable } = new TransformStream();
        writable.getWriter().write(new Uint8Array(10)).catch(() => {});
        return stub.fetch('http://o/', { method: 'POST', body: readable });",
    );
    let event = edge.request("/");
    let asked = edge.seen.iter().find_map(|effect| match effect {
        Effect::Fetch { destination: Destination::Outside, request, .. } => Some(request.body.clone()),
        _ => None,
    });
    let Some(BodyRef::Script(body)) = asked else { panic!("{asked:?}") };
    edge.give(Event::Credit(body, BODY_WINDOW));
    edge.give(Event::Aborted(event));
    edge.pass(30_000);
    assert!(is_done(&edge, event));
    assert!(matches!(came(&edge, body).1, Some(Piece::Failed(_))), "{:?}", edge.seen);
}

#[test]
fn a_workers_stream_goes_out_of_an_object() {
    let mut edge = edge();
    let event = edge.request("/out");
    let asked = edge.seen.iter().find_map(|effect| match effect {
        Effect::Fetch { op, destination: Destination::Outside, request, .. } => {
            Some((*op, request.body.clone()))
        }
        _ => None,
    });
    let Some((op, BodyRef::Script(body))): Option<(OpId, BodyRef)> = asked else { panic!("{asked:?}") };
    edge.give(Event::Credit(body, BODY_WINDOW));
    assert_eq!(came(&edge, body), ("from the worker".to_owned(), Some(Piece::End)));
    edge.answer(op, "thanks");
    assert_eq!(edge.outcome(event).unwrap().unwrap(), "thanks");
    assert!(is_done(&edge, event));
}

/// Streams that have more than crosses with a message.
const REQUEST: &str =
    "const long = () => new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(1000)); } });
    const sending = () => new Request('http://x.example/', { method: 'POST', body: long() });";

#[test]
fn what_a_refused_call_would_have_sent_is_given_up() {
    for (call, error) in [
        ("stub.take(sending(), () => {})", "DataCloneError"),
        (
            "stub.take(new Request('http://x.example/', { method: 'POST', body: new Uint8Array(1 << 20) }), 'x'.repeat(40 << 20))",
            "",
        ),
        ("stub.take(...Array.from({ length: 40 }, () => new Uint8Array(1 << 20)), sending())", "RangeError"),
        ("stub.give()", "TypeError: A WebSocket cannot be an argument or result"),
        (
            "stub.fetch('http://x.example/', { method: 'POST', body: long(), headers: { x: 'y'.repeat(200 << 10) } })",
            "TypeError",
        ),
    ] {
        let members = "take() { return 1; } give() { return new Response(null, { status: 101, webSocket: new WebSocketPair()[0] }); }";
        let handler = format!("{REQUEST} return new Response(await caught(() => {call}));");
        let mut edge = with(members, &handler);
        let event = edge.request("/");
        let said = edge.outcome(event).unwrap_or_else(|| panic!("{call}: {:?}", edge.seen)).unwrap();
        assert!(said.contains(error), "{call}: {said}");
        let done =
            edge.seen.iter().any(|effect| matches!(effect, Effect::Done { event: of, .. } if *of == event));
        assert!(done, "{call}: {:?}", edge.seen);
        assert_eq!(edge.isolate.state.ops.borrow().len(), 0, "{call}");
        assert_eq!(edge.isolate.state.sockets.borrow().len(), 0, "{call}");
        assert_eq!(edge.isolate.state.bodies.borrow().unsent_bytes(), 0, "{call}");
    }
}

#[test]
fn a_body_for_an_object_that_is_not_there_is_given_up() {
    let handler = format!("{REQUEST} return new Response(await caught(() => stub.take(sending())));");
    let mut edge = with("constructor() { throw new Error('not made'); } take() {}", &handler);
    let event = edge.request("/");
    assert!(edge.outcome(event).unwrap().unwrap().contains("not made"));
    let done =
        edge.seen.iter().any(|effect| matches!(effect, Effect::Done { event: of, .. } if *of == event));
    assert!(done, "{:?}", edge.seen);
}

#[test]
fn an_empty_body_ends_though_its_object_takes_its_time() {
    let members = "async fetch(request) {
        const before = this.before;
        this.before = true;
        if (!before) return this.ctx.blockConcurrencyWhile(async () => { await scheduler.wait(10); return new Response('first'); });
        return new Response(`read ${(await request.text()).length}`);
    }";
    let handler = "const empty = new ReadableStream({ start(c) { c.close(); } });
        const [, second] = await Promise.all([stub.fetch('http://x.example/'), stub.fetch('http://x.example/', { method: 'POST', body: empty })]);
        return second;";
    let mut edge = with(members, handler);
    let event = edge.request("/");
    edge.pass(10);
    assert_eq!(edge.outcome(event).map(Result::unwrap).as_deref(), Some("read 0"));
}

#[test]
fn that_the_isolate_is_lost_waits_for_no_commit() {
    let members = "async fetch() { this.ctx.storage.put('k', 1); await scheduler.wait(1); const all = []; for (;;) all.push(new Uint8Array(1 << 20)); }";
    let mut edge = with(members, "return stub.fetch(request);");
    edge.prompt = false;
    edge.request("/");
    edge.pass(1);
    assert!(edge.seen.contains(&Effect::Condemned(crate::message::Condemned::Memory)), "{:?}", edge.seen);
}
