//! Bodies: passed on without a byte, read under credit, made under credit.

use serde_bytes::ByteBuf;

use super::harness::{Bench, answer, is_done, ok, running};
use crate::message::{BODY_WINDOW, BodyRef, Effect, Event, HostBody, OpId, Piece, ScriptBody};

fn handler(body: &str) -> Bench {
    running(&format!(
        "const bytes = (text) => Uint8Array.from([...text].map((c) => c.charCodeAt(0)));
        const read = async (id) => {{ let text = ''; for (let piece; (piece = await host.bodyRead(id)) !== null;) text += String.fromCharCode(...piece); return text; }};
        export default {{ async fetch(request, env, ctx) {{ {body} }} }}"
    ))
}

fn piece(bench: &mut Bench, piece: Piece) -> Vec<Effect> {
    bench.give(Event::Body(HostBody(5), piece))
}

fn data(bytes: &[u8]) -> Piece {
    Piece::Data(ByteBuf::from(bytes))
}

#[test]
fn a_body_is_passed_on_unread_once() {
    let mut bench = handler("return { body: request.body }");
    let (_, effects) = bench.request("/", BodyRef::Host(HostBody(5)));
    assert!(
        matches!(&effects[0], Effect::Responded(_, response) if response.body == BodyRef::Host(HostBody(5)))
    );
    let mut bench = handler("const first = fetch('http://a.example', { body: request.body });
        try { fetch('http://a.example', { body: request.body }); } catch (error) { return { body: bytes(error.message) }; }");
    let (_, effects) = bench.request("/", BodyRef::Host(HostBody(5)));
    assert!(
        matches!(&effects[0], Effect::Fetch { request, .. } if request.body == BodyRef::Host(HostBody(5)))
    );
    assert!(answer(&effects).1.starts_with("The body is not there any more"));
}

#[test]
fn a_body_is_read_under_credit() {
    let mut bench = handler("return { body: bytes(await read(request.body.host)) }");
    let (event, effects) = bench.request("/", BodyRef::Host(HostBody(5)));
    assert_eq!(effects, [Effect::Credit(HostBody(5), BODY_WINDOW)]);
    assert!(piece(&mut bench, data(b"ab")).is_empty());
    assert!(piece(&mut bench, data(b"cd")).is_empty());
    let effects = piece(&mut bench, Piece::End);
    assert_eq!(answer(&effects).1, "abcd");
    assert!(is_done(&effects, event));
    assert!(piece(&mut bench, data(b"late")).is_empty());
}

#[test]
fn further_credit_is_given_for_what_was_taken() {
    let mut bench = handler(
        "let count = 0; for (let piece; (piece = await host.bodyRead(request.body.host)) !== null;) count += piece.length; return { body: bytes(String(count)) }",
    );
    bench.request("/", BodyRef::Host(HostBody(5)));
    let half = vec![0; BODY_WINDOW as usize / 2];
    assert_eq!(piece(&mut bench, data(&half)), [Effect::Credit(HostBody(5), BODY_WINDOW / 2)]);
    assert!(piece(&mut bench, data(&half[1..])).is_empty());
    assert_eq!(answer(&piece(&mut bench, Piece::End)).1, (half.len() * 2 - 1).to_string());
}

#[test]
fn a_body_that_breaks_off_rejects_and_a_cancelled_one_is_told() {
    let mut bench = handler(
        "try { await read(request.body.host); } catch (error) { return { body: bytes(error.message) }; }",
    );
    bench.request("/", BodyRef::Host(HostBody(5)));
    assert_eq!(
        answer(&piece(&mut bench, Piece::Failed("Network connection lost.".to_owned()))).1,
        "Network connection lost."
    );
    let mut bench = handler(
        "const { host: id } = request.body; const waits = host.bodyRead(id); host.bodyCancel(id, 'no'); return { body: bytes(String(await waits)) }",
    );
    let (_, effects) = bench.request("/", BodyRef::Host(HostBody(5)));
    assert!(effects.contains(&Effect::Cancelled(HostBody(5))));
    assert_eq!(answer(&effects).1, "null");
}

#[test]
fn a_body_of_a_response_is_the_call_s() {
    let mut bench = handler(
        "const { body } = await fetch('http://a.example'); return { body: bytes(await read(body.host)) }",
    );
    let (event, _) = bench.request("/", BodyRef::None);
    let effects = bench.give(Event::Completed { op: OpId(1), outcome: Ok(ok(BodyRef::Host(HostBody(5)))) });
    assert_eq!(effects, [Effect::Credit(HostBody(5), BODY_WINDOW)]);
    piece(&mut bench, data(b"x"));
    let effects = piece(&mut bench, Piece::End);
    assert!(answer(&effects).1 == "x" && is_done(&effects, event));
}

const WRITER: &str = "const id = host.bodyNew();
    ctx.waitUntil((async () => { try { await host.bodyWrite(id, bytes('abc')); console.log('first'); await host.bodyWrite(id, bytes('defg')); host.bodyEnd(id); } catch (error) { console.log(error.message); } })());
    return { body: { script: id } };";

#[test]
fn a_script_s_body_flows_under_credit_and_its_call_lasts_until_its_end() {
    let mut bench = handler(WRITER);
    let (event, effects) = bench.request("/", BodyRef::None);
    let body = ScriptBody(1);
    assert!(
        matches!(&effects[..], [Effect::Responded(_, response)] if response.body == BodyRef::Script(body))
    );
    let effects = bench.give(Event::Credit(body, 2));
    assert_eq!(effects, [Effect::Body(body, data(b"ab"))]);
    let effects = bench.give(Event::Credit(body, 2));
    assert!(
        matches!(&effects[..], [Effect::Body(..), Effect::Log { .. }, Effect::Body(_, Piece::Data(rest))] if rest.as_ref() == b"d"),
        "{effects:?}"
    );
    let effects = bench.give(Event::Credit(body, 100));
    assert!(
        matches!(&effects[..], [Effect::Body(..), Effect::Body(_, Piece::End), Effect::Done { event: done, .. }] if *done == event),
        "{effects:?}"
    );
    assert!(bench.give(Event::Credit(body, 1)).is_empty());
}

#[test]
fn who_writes_a_body_that_nobody_reads_any_more_is_told() {
    let mut bench = handler(WRITER);
    let (event, _) = bench.request("/", BodyRef::None);
    let effects = bench.give(Event::Cancelled(ScriptBody(1)));
    assert_eq!(effects[0], Effect::Body(ScriptBody(1), Piece::End));
    assert!(matches!(&effects[1], Effect::Log { text, .. } if text.contains("nobody reads")), "{effects:?}");
    assert!(is_done(&effects, event));
}

#[test]
fn a_long_body_flows_and_what_waits_is_bounded() {
    let mut bench = handler("return { body: new Uint8Array(100000).fill(97) }");
    let (event, effects) = bench.request("/", BodyRef::None);
    assert!(
        matches!(&effects[..], [Effect::Responded(_, response)] if response.body == BodyRef::Script(ScriptBody(1)))
    );
    let effects = bench.give(Event::Credit(ScriptBody(1), BODY_WINDOW));
    let lengths: Vec<usize> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Body(_, Piece::Data(bytes)) => Some(bytes.len()),
            _ => None,
        })
        .collect();
    assert_eq!(lengths, [65536, 34464]);
    assert!(is_done(&effects, event));
    let mut bench = handler(
        "const id = host.bodyNew(); try { for (;;) host.bodyWrite(id, new Uint8Array(1 << 20)); } catch (error) { return { body: bytes(error.message) }; }",
    );
    assert_eq!(answer(&bench.get("/")).1, "More than 32 MiB of this script are on their way out.");
}

#[test]
fn nothing_of_a_body_goes_before_the_message_that_names_it_and_one_message_does() {
    let mut bench =
        handler("const id = host.bodyNew(); host.bodyEnd(id); await null; return { body: { script: id } };");
    let (event, effects) = bench.request("/", BodyRef::None);
    assert!(
        matches!(&effects[..], [Effect::Responded(..), Effect::Body(_, Piece::End), Effect::Done { .. }]),
        "{effects:?}"
    );
    assert!(is_done(&effects, event));
    let mut bench = handler(
        "const id = host.bodyNew(); fetch('http://a.example', { body: { script: id } }); return { body: { script: id } };",
    );
    let (_, effects) = bench.request("/", BodyRef::None);
    assert!(
        matches!(&effects[1], Effect::Failed(_, error) if error.message.starts_with("The body is not there")),
        "{effects:?}"
    );
}

#[test]
fn a_body_belongs_to_the_call_that_answers_with_it() {
    let mut bench = handler(
        "if (request.url === '/make') { globalThis.id = host.bodyNew(); globalThis.write = host.bodyWrite(id, bytes('abc')); await new Promise(() => {}); }
        host.bodyEnd(id); return { body: { script: id } };",
    );
    let (maker, _) = bench.request("/make", BodyRef::None);
    let (taker, effects) = bench.request("/take", BodyRef::None);
    assert!(matches!(&effects[..], [Effect::Responded(..)]), "{effects:?}");
    assert!(is_done(&bench.give(Event::Aborted(maker)), maker));
    let effects = bench.give(Event::Credit(ScriptBody(1), 10));
    assert!(
        matches!(
            &effects[..],
            [Effect::Body(_, Piece::Data(_)), Effect::Body(_, Piece::End), Effect::Done { .. }]
        ),
        "{effects:?}"
    );
    assert!(is_done(&effects, taker));
}
