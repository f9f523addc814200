//! Calls of handlers: answers, failures, timers, what is asked of the edge, and when a call is done.

use super::harness::{Bench, answer, failure, is_done, lines, ok, running, text_body};
use crate::message::{BodyRef, Destination, Effect, Event, EventId, OpId, ScriptError};

fn handler(body: &str) -> Bench {
    running(&format!("const bytes = (text) => Uint8Array.from([...text].map((c) => c.charCodeAt(0)));
        const text = (bytes) => String.fromCharCode(...bytes);
        export default {{ async fetch(request, env, ctx) {{ {body} }}, scheduled(event, env, ctx) {{ console.log(event.cron, event.scheduledTime); }} }}"))
}

#[test]
fn a_request_is_answered() {
    let mut bench =
        handler("return { status: 201, names: ['a'], values: [request.url], body: bytes(request.method) }");
    let (event, effects) = bench.request("http://a.example/", text_body("x"));
    let [Effect::Responded(answered, response), Effect::Done { event: done, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((*answered, *done), (event, event));
    assert_eq!(response.headers, [("a".to_owned(), "http://a.example/".to_owned())]);
    assert_eq!(answer(&effects), (201, "GET".to_owned()));
}

#[test]
fn a_failing_handler_fails_its_call_only() {
    let mut bench =
        handler("if (request.url === '/bad') throw new RangeError('no'); return { body: bytes('good') }");
    let (event, effects) = bench.request("/bad", BodyRef::None);
    assert_eq!(failure(&effects), "RangeError: no");
    assert!(is_done(&effects, event) && lines(&effects).is_empty());
    assert_eq!(answer(&bench.get("/good")).1, "good");
    assert!(failure(&handler("return { status: 7 }").get("/")).contains("did not resolve to 'Response'"));
    let missing = running("export default {}").get("/");
    assert_eq!(failure(&missing), "Error: Handler does not export a fetch() function.");
}

#[test]
fn a_cron_calls_its_handler() {
    let mut bench = handler("");
    let effects =
        bench.give(Event::Scheduled { event: EventId(9), cron: "* * * * *".to_owned(), time_ms: 5 });
    assert_eq!(lines(&effects), ["* * * * * 5"]);
    assert!(matches!(effects.last(), Some(Effect::Done { event: EventId(9), .. })));
}

#[test]
fn requests_go_to_the_edge_and_their_outcome_comes_back() {
    let mut bench = handler(
        "try { const got = await fetch('http://b.example/x', { method: 'PUT', names: ['n'], values: ['v'], body: bytes('put') });
            return { status: got.status, body: got.body };
        } catch (error) { return { body: bytes(String(error)) }; }",
    );
    let (event, effects) = bench.request("/", BodyRef::None);
    let [Effect::Fetch { op, event: of, destination: Destination::Outside, request }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((*op, *of, request.method.as_str()), (OpId(1), event, "PUT"));
    assert_eq!(request.body, text_body("put"));
    let effects = bench.give(Event::Completed { op: OpId(1), outcome: Ok(ok(text_body("got"))) });
    assert_eq!(answer(&effects), (200, "got".to_owned()));
    assert!(is_done(&effects, event));
    bench.get("/");
    let error = ScriptError::new("TypeError", "Network connection lost.");
    let effects = bench.give(Event::Completed { op: OpId(2), outcome: Err(error) });
    assert_eq!(answer(&effects).1, "TypeError: Network connection lost.");
    assert!(bench.give(Event::Completed { op: OpId(2), outcome: Ok(ok(BodyRef::None)) }).is_empty());
}

#[test]
fn timers_run_in_their_call_when_they_are_due() {
    let mut bench = handler(
        "await new Promise((done) => { setTimeout(done, 20); setTimeout(() => console.log('first', event()), 10); clearTimeout(setTimeout(() => console.log('never'), 5)); });
        return { body: bytes('late') };",
    );
    let (event, effects) = bench.request("/", BodyRef::None);
    assert!(effects.is_empty());
    assert_eq!(bench.isolate.next_due_us(), Some(10_000));
    assert!(bench.pass(9).is_empty());
    assert_eq!(lines(&bench.pass(1)), ["first 1"]);
    let effects = bench.pass(10);
    assert_eq!(answer(&effects).1, "late");
    assert!(is_done(&effects, event));
    assert_eq!(bench.isolate.next_due_us(), None);
}

#[test]
fn what_a_call_waits_for_is_waited_for_but_not_for_ever() {
    let mut bench = handler(
        "ctx.waitUntil(new Promise((done) => setTimeout(() => { console.log('waited'); done(); }, 10)));
        if (request.url === '/bad') ctx.waitUntil(Promise.reject(new Error('bad')));
        if (request.url === '/never') ctx.waitUntil(new Promise(() => {}));
        setTimeout(() => console.log('after'), 50); return {};",
    );
    let (event, effects) = bench.request("/", BodyRef::None);
    assert!(!is_done(&effects, event));
    let effects = bench.pass(10);
    assert_eq!(lines(&effects), ["waited"]);
    assert!(is_done(&effects, event));
    // What it left behind ends with it.
    assert!(bench.pass(1000).is_empty());

    let (_, effects) = bench.request("/bad", BodyRef::None);
    assert!(
        lines(&effects)[0].starts_with("Uncaught (in promise) Error: bad\n    at fetch (index.js:"),
        "{effects:?}"
    );
    bench.pass(10);

    let (event, _) = bench.request("/never", BodyRef::None);
    bench.pass(10);
    let effects = bench.pass(30_000);
    assert!(
        lines(&effects).iter().any(|line| line.starts_with("waitUntil() tasks did not complete")),
        "{effects:?}"
    );
    assert!(is_done(&effects, event));
}

#[test]
fn a_call_whose_client_has_gone_is_told_and_ends_but_for_what_it_wants_to_have_waited_for() {
    let mut bench = handler(
        "if (request.url === '/waits') ctx.waitUntil(new Promise((done) => setTimeout(() => { console.log('waited'); done(); }, 10)));
        if (request.url === '/never') ctx.waitUntil(new Promise(() => {}));
        await new Promise((done) => setTimeout(done, 1000)); console.log('late')",
    );
    let (event, effects) = bench.request("/", BodyRef::None);
    assert!(effects.is_empty());
    assert!(is_done(&bench.give(Event::Aborted(event)), event));
    assert!(bench.give(Event::Aborted(EventId(77))).is_empty());
    let (event, _) = bench.request("/waits", BodyRef::None);
    assert!(!is_done(&bench.give(Event::Aborted(event)), event));
    let effects = bench.pass(10);
    assert_eq!(lines(&effects), ["waited"]);
    assert!(is_done(&effects, event));
    let (event, _) = bench.request("/never", BodyRef::None);
    assert!(!is_done(&bench.give(Event::Aborted(event)), event));
    assert!(is_done(&bench.pass(30_000), event));
}

#[test]
fn rejections_that_nobody_takes_care_of_are_logged_once() {
    let mut bench = handler(
        "Promise.reject(new Error('lost')); const late = Promise.reject(new Error('kept')); late.catch(() => {});
        setTimeout(() => { throw new TypeError('timer'); }, 0); await new Promise((done) => setTimeout(done, 1)); return {};",
    );
    let effects = bench.get("/");
    let said = lines(&effects);
    assert!(said.len() == 1 && said[0].starts_with("Uncaught (in promise) Error: lost"), "{said:?}");
    let effects = bench.pass(1);
    let said = lines(&effects);
    assert!(
        said.len() == 1 && said[0].starts_with("Uncaught TypeError: timer\n    at <anonymous> (index.js:")
            || said[0].starts_with("Uncaught TypeError: timer\n    at index.js:"),
        "{said:?}"
    );
}

#[test]
fn lines_are_bounded() {
    let mut bench =
        handler("for (let i = 0; i < 1000; i++) console.log(i); console.log('x'.repeat(1e6)); return {};");
    let effects = bench.get("/");
    let said = lines(&effects);
    assert_eq!(
        (said.len(), said[254], said[255]),
        (256, "254", "further lines are left out: an event may write 256")
    );
    let mut bench = handler("console.log('é'.repeat(20000)); console.log('\\ud800!'); return {};");
    let effects = bench.get("/");
    let said = lines(&effects);
    assert!(said[0].len() <= (16 << 10) + 3 && said[0].ends_with('…'), "{}", said[0].len());
    assert_eq!(said[1], "\u{fffd}!");
}

#[test]
fn errors_have_frames() {
    let mut bench = handler("function inner() { [1].map(() => { throw new Error('deep'); }); } inner();");
    let effects = bench.get("/");
    let Some(Effect::Failed(_, error)) = effects.first() else { panic!("{effects:?}") };
    let frames: Vec<&str> = error.stack.lines().collect();
    assert_eq!(frames[0], "Error: deep");
    assert!(frames.iter().any(|frame| frame.starts_with("    at inner (index.js:")), "{frames:?}");
    assert!(frames.iter().all(|frame| !frame.contains("berth:")), "{frames:?}");
}

#[test]
fn counts_are_bounded() {
    let mut bench = handler(
        "try { for (;;) setTimeout(() => {}, 1e6); } catch (error) { return { body: bytes(String(error)) }; }",
    );
    assert_eq!(answer(&bench.get("/")).1, "RangeError: More than 10000 timers are set.");
    let mut bench = handler(
        "try { for (;;) fetch('http://a.example').catch(() => {}); } catch (error) { return { body: bytes(String(error)) }; }",
    );
    let effects = bench.get("/");
    assert_eq!(answer(&effects).1, "Error: Too many subrequests.");
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Fetch { .. })).count(), 1000);
    let mut bench = handler(
        "try { for (;;) fetch('http://a.example', { body: new Uint8Array(65536) }); } catch (error) { return { body: bytes(String(error)) }; }",
    );
    assert_eq!(answer(&bench.get("/")).1, "Error: More than 32 MiB of requests wait for their answer.");
    let mut bench = handler(
        "try { await fetch('http://a.example/' + 'x'.repeat(200000)); } catch (error) { return { body: bytes(String(error)) }; }",
    );
    assert_eq!(answer(&bench.get("/")).1, "TypeError: URL and headers have more than 128 KiB.");
}
