//! Bodies that one makes and another passes on to the edge, both in one isolate.

use super::edge::{Edge, with};
use crate::message::{
    BODY_WINDOW, BodyRef, Destination, Effect, Event, EventId, OpId, Piece, ScriptBody, ScriptError,
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
