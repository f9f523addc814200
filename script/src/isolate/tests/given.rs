//! Bodies of the edge's that go from one call to another in one isolate. The edge drops them with the call that it gave them to.

use super::edge::{Edge, with};
use crate::message::{
    BodyRef, Destination, Effect, Event, EventId, HostBody, OpId, Piece, Request, Response, Target,
};

/// What a client sends, and what a server answers.
const SENT: HostBody = HostBody(5);
const ANSWERED: HostBody = HostBody(9);

/// An object that does with a request what its path says, and a worker that passes its own on.
fn edge() -> Edge {
    with(
        "async fetch(request) {
            const { pathname } = new URL(request.url);
            if (pathname === '/slow') {
                await scheduler.wait(100);
                return fetch('http://x.example/', { method: 'POST', body: request.body });
            }
            if (pathname === '/gated') {
                this.ctx.storage.put('k', 1);
                return fetch('http://x.example/', { method: 'POST', body: request.body });
            }
            if (pathname === '/reads') {
                console.log(await request.text().catch((error) => error.message));
                return new Response('read');
            }
            if (pathname === '/polls') return new Promise((done) => { this.done = done; });
            return fetch('http://x.example/');
        }",
        "if (url.pathname === '/unread') { const got = await stub.fetch(request); return new Response(got.status); }
        if (url.pathname === '/holds') { const got = await stub.fetch(request); await scheduler.wait(60000); return got; }
        return stub.fetch(request);",
    )
}

fn post(edge: &mut Edge, path: &str) -> EventId {
    let event = edge.id();
    let url = format!("http://a.example{path}");
    let request = Request { method: "POST".to_owned(), url, headers: Vec::new(), body: BodyRef::Host(SENT) };
    edge.give(Event::Fetch { event, target: Target::Worker, request: Box::new(request) });
    event
}

fn answer(edge: &mut Edge) {
    let (op, _) = *edge.asked().last().expect("it asks for something");
    let response = Response {
        status: 200,
        status_text: String::new(),
        headers: Vec::new(),
        body: BodyRef::Host(ANSWERED),
    };
    edge.give(Event::Completed { op, outcome: Ok(response) });
}

fn is_done(edge: &Edge, of: EventId) -> bool {
    edge.seen.iter().any(|effect| matches!(effect, Effect::Done { event, .. } if *event == of))
}

fn sent_out(edge: &Edge) -> Option<(OpId, BodyRef)> {
    edge.seen.iter().find_map(|effect| match effect {
        Effect::Fetch { op, destination: Destination::Outside, request, .. } => {
            Some((*op, request.body.clone()))
        }
        _ => None,
    })
}

/// Fails unless this body breaks off and nothing of it comes.
fn expect_broken(edge: &Edge, body: BodyRef) {
    let BodyRef::Script(made) = body else { panic!("{body:?}: the edge has dropped it") };
    let pieces: Vec<&Piece> = edge
        .seen
        .iter()
        .filter_map(|effect| match effect {
            Effect::Body(of, piece) if *of == made => Some(piece),
            _ => None,
        })
        .collect();
    assert!(matches!(pieces[..], [Piece::Failed(_)]), "{pieces:?}");
}

/// Whether the only object goes when it is told to, if nothing goes on in it.
fn goes(edge: &mut Edge) -> bool {
    let id = edge.only().0;
    edge.give(Event::Drop(id, None));
    edge.seen.contains(&Effect::Dropped(id))
}

#[test]
fn one_that_is_passed_on_after_its_client_has_gone_is_broken() {
    let mut edge = edge();
    let event = post(&mut edge, "/slow");
    edge.give(Event::Aborted(event));
    assert!(is_done(&edge, event), "nobody waits for it");
    edge.pass(100);
    let (_, body) = sent_out(&edge).expect("the object goes on");
    expect_broken(&edge, body);
}

/// What leaves before its call is done is whole, also if it has waited.
#[test]
fn one_that_an_objects_answer_gives_back_behind_a_commit_is_whole() {
    let mut edge = with(
        "async fetch(request) { this.ctx.storage.put('k', 1); return new Response(request.body); }",
        "return stub.fetch('http://x.example/none');",
    );
    edge.get("/");
    edge.prompt = false;
    let object = Box::new(edge.objects.values().next().unwrap().clone());
    let event = edge.id();
    let url = "http://x.example/".to_owned();
    let request = Request { method: "POST".to_owned(), url, headers: Vec::new(), body: BodyRef::Host(SENT) };
    edge.give(Event::Fetch { event, target: Target::Object(object), request: Box::new(request) });
    edge.commit();
    assert_eq!(edge.outcome(event).unwrap().unwrap(), format!("{:?}", BodyRef::Host(SENT)));
    assert!(is_done(&edge, event));
}

#[test]
fn one_that_waits_for_a_commit_when_its_client_goes_is_broken() {
    let mut edge = edge();
    edge.prompt = false;
    let event = post(&mut edge, "/gated");
    assert_eq!(sent_out(&edge), None);
    edge.give(Event::Aborted(event));
    edge.commit();
    let (_, body) = sent_out(&edge).expect("it leaves when all is durable");
    expect_broken(&edge, body);
}

#[test]
fn who_reads_one_hears_that_its_client_has_gone() {
    let mut edge = edge();
    let event = post(&mut edge, "/reads");
    edge.give(Event::Body(SENT, Piece::Data(serde_bytes::ByteBuf::from(*b"some"))));
    edge.give(Event::Aborted(event));
    assert_eq!(edge.lines(), ["The event of the body has ended."]);
    assert!(goes(&mut edge), "{:?}", edge.seen);
}

#[test]
fn an_object_stays_as_long_as_another_has_what_it_was_answered() {
    let mut edge = edge();
    let event = edge.request("/holds");
    answer(&mut edge);
    assert!(!goes(&mut edge));
    edge.pass(60_000);
    assert_eq!(edge.outcome(event).unwrap().unwrap(), format!("{:?}", BodyRef::Host(ANSWERED)));
    assert!(goes(&mut edge));
}

#[test]
fn what_nobody_reads_is_given_up_with_the_call_that_got_it() {
    for gone in [false, true] {
        let mut edge = edge();
        let event = edge.request(if gone { "/holds" } else { "/unread" });
        answer(&mut edge);
        if gone {
            edge.give(Event::Aborted(event));
        }
        assert!(is_done(&edge, event));
        assert!(edge.seen.contains(&Effect::Cancelled(ANSWERED)), "{:?}", edge.seen);
        assert!(goes(&mut edge));
    }
}

#[test]
fn what_comes_when_nobody_waits_any_more_is_given_up() {
    let mut edge = edge();
    let event = edge.request("/passed");
    edge.give(Event::Aborted(event));
    answer(&mut edge);
    assert!(edge.seen.contains(&Effect::Cancelled(ANSWERED)), "{:?}", edge.seen);
    assert!(goes(&mut edge));
}

#[test]
fn a_call_that_waits_for_ever_ends_some_time_after_its_caller_has_gone() {
    let mut edge = edge();
    let event = edge.request("/polls");
    edge.give(Event::Aborted(event));
    assert!(is_done(&edge, event) && !goes(&mut edge));
    edge.pass(30_000);
    assert!(goes(&mut edge), "{:?}", edge.seen);
}
