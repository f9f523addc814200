//! Objects: who they are, calls of them, their end.

use super::edge::{Edge, app, with};
use crate::message::{Argument, Destination, Effect, Event, Opened, ScriptError};

#[test]
fn a_stub_calls_methods_and_fetch_of_one_object() {
    let mut edge = with(
        "count = 0; add(n) { return this.count += n; } get who() { return 1; }
        async fetch(request) { return new Response(`${request.method} ${request.url} ${await request.text()} ${this.count} ${this.ctx.id.name}`); }",
        "const first = await stub.add(2);
        const response = await stub.fetch('http://x.example/y', { method: 'POST', body: 'hi' });
        return json([first, await stub.add(3), await response.text(), await env.A.getByName('two').add(1), await env.B.getByName('x').ping(), stub.name]);",
    );
    assert_eq!(edge.get("/"), r#"[2,5,"POST http://x.example/y hi 2 one",1,"pong","one"]"#);
    assert_eq!(edge.objects.len(), 3);
}

#[test]
fn stubs_are_no_promises_and_say_what_is_missing() {
    let mut edge = with(
        "own = () => 1; get got() { return 1; }",
        "const awaited = await stub;
        return json([typeof stub.then, awaited === stub, await caught(() => stub.nothing()), await caught(() => stub.own()), await caught(() => stub.got()),
            await caught(() => stub.toString()), await caught(() => stub.constructor()), await caught(() => stub.fetch('/x')), String(stub.id) === stub.id.toString()]);",
    );
    let missing =
        |name| format!(r#""TypeError: The RPC receiver does not implement the method \"{name}\".""#);
    let expected = format!(
        r#"["undefined",true,{},{},{},"[object DurableObject]","TypeError: Illegal constructor","TypeError: Invalid URL: /x",true]"#,
        missing("nothing"),
        missing("own"),
        missing("got")
    );
    assert_eq!(edge.get("/"), expected);
}

#[test]
fn a_class_that_is_no_durable_object_has_fetch_only() {
    let mut edge = Edge::of(app(
        "export class A { constructor(ctx, env) {} fetch() { return new Response('yes'); } m() {} } export class B {}
        export default { async fetch(r, env) { const stub = env.A.getByName('x');
            return new Response(await (await stub.fetch('http://x')).text() + await stub.m().catch(String)); } }",
    ));
    assert!(edge.get("/").starts_with("yesTypeError: The receiving Durable Object does not support RPC"));
}

#[test]
fn errors_cross_with_what_they_carry_and_instances_of_classes_do_not() {
    let mut edge = with(
        "own() { throw Object.assign(new TypeError('t', { cause: new RangeError('c') }), { code: 'E', name: 'Mine' }); }
        plain() { throw { a: 1 }; } dom() { throw new DOMException('gone', 'NotFoundError'); } text() { throw 'x'; }
        made() { class Foo {} return [new Foo()]; } void(value) {}",
        "const told = [];
        for (const name of ['own', 'plain', 'dom', 'text', 'made']) try { await stub[name](); } catch (error) {
            told.push([error instanceof Error, error instanceof DOMException, error.name, error.message, error.code, error.cause?.message, Object.keys(error).sort()]);
        }
        class Bar {}
        return json([told, await caught(() => stub.void(new Bar())), await caught(() => stub.void(Object.create(null)))]);",
    );
    let refused = r#"Could not serialize object of type \"Foo\". This type does not support serialization."#;
    let expected = format!(
        r#"[[[true,false,"Mine","t","E","c",["code","durableObjectId","name","remote"]],[false,false,null,null,null,null,["a","durableObjectId","remote"]],[true,true,"NotFoundError","gone",8,null,["remote"]],[true,false,"Error","x",null,null,["remote"]],[true,true,"DataCloneError","{refused}",25,null,["remote"]]],"DataCloneError: {}",null]"#,
        refused.replace("Foo", "Bar")
    );
    assert_eq!(edge.get("/"), expected);
}

#[test]
fn ids_belong_to_their_namespace() {
    let mut edge = with(
        "which() { return [this.ctx.id.toString(), this.ctx.id.name]; }",
        "const id = env.A.idFromName('n');
        const again = env.A.idFromString(id.toString().toUpperCase());
        const unique = env.A.newUniqueId();
        return json([id.toString().length, id.equals(env.A.idFromName('n')), id.equals(again), id.equals(env.B.idFromName('n')), again.name === undefined, id.name, unique.name === undefined,
            await caught(() => env.B.idFromString(id.toString())), await caught(() => env.A.idFromString('xyz')), await caught(() => env.B.get(id)), await caught(() => env.A.get('n')),
            await caught(() => env.A.idFromName('')), await caught(() => env.A.idFromName('x'.repeat(2049))),
            (await env.A.get(id).which())[0] === id.toString(), (await env.A.get(unique).which())[0] === unique.toString(), env.A.jurisdiction('eu') === env.A, ctx.exports.A === env.A]);",
    );
    let expected = r#"[64,true,true,false,true,"n",true,"TypeError: Durable Object ID is not valid for this namespace.","TypeError: Invalid Durable Object ID: must be 64 hex digits","TypeError: Durable Object ID is not valid for this namespace.","TypeError: Failed to execute 'get' on 'DurableObjectNamespace': parameter 1 is not of type 'DurableObjectId'.","TypeError: The name of a Durable Object must have from 1 to 2048 bytes.","TypeError: The name of a Durable Object must have from 1 to 2048 bytes.",true,true,true,true]"#;
    assert_eq!(edge.get("/"), expected);
}

#[test]
fn requests_responses_and_errors_cross() {
    let mut edge = with(
        "async relay(request, more) { return new Response(`${request.url} ${await request.text()} ${more.get('k')}`, { status: 201, headers: { a: 'b' } }); }
        fail() { throw new RangeError('no'); }
        flow() { const { readable, writable } = new TransformStream(); const w = writable.getWriter();
            (async () => { for (let i = 0; i < 3; i++) { await w.write(new TextEncoder().encode('x'.repeat(70000))); } await w.close(); })();
            return new Response(readable); }
        big() { return 'x'.repeat(300000); }
        plain(value) { value.changed = true; return value; }",
        "const got = await stub.relay(new Request('http://r.example/', { method: 'PUT', body: 'body' }), new Map([['k', 7]]));
        let failed; try { await stub.fail(); } catch (error) { failed = [error.name, error instanceof RangeError, error.message, error.remote, error.durableObjectReset === undefined]; }
        const flowed = await (await stub.flow()).text();
        const given = { a: [1, undefined, -0] };
        const copy = await stub.plain(given);
        return json([got.status, got.headers.get('a'), await got.text(), failed, flowed.length, await caught(() => stub.big()), 'changed' in given, Object.is(copy.a[2], -0),
            await caught(() => stub.plain(() => 1))]);",
    );
    let expected = r#"[201,"b","http://r.example/ body 7",["RangeError",true,"no",true,true],210000,"RangeError: What a method of an object returns has more than 256 KiB.",false,true,"DataCloneError: () => 1 could not be cloned."]"#;
    assert_eq!(edge.get("/"), expected);
}

#[test]
fn calls_on_one_stub_arrive_in_their_order() {
    let mut edge = with(
        "seen = []; async see(n) { this.seen.push(n); await scheduler.wait(5); return this.seen.join(); }",
        "const all = [1, 2, 3].map((n) => stub.see(n)); return json(await Promise.all(all));",
    );
    let event = edge.request("/");
    edge.pass(5);
    assert_eq!(edge.outcome(event).unwrap().unwrap(), r#"["1,2,3","1,2,3","1,2,3"]"#);
}

#[test]
fn after_a_reset_old_stubs_stay_broken_and_new_ones_work() {
    let mut edge = with(
        "n = 0; add() { return ++this.n; } async keep() { await this.ctx.storage.put('k', 1); this.ctx.abort(); } die() { this.ctx.abort(); } why() { this.ctx.abort('because'); }
        kept() { return this.ctx.storage.get('k'); }",
        "const unused = env.A.getByName('one');
        await stub.add();
        let first; try { await stub.die(); } catch (error) { first = [error.message, error.durableObjectReset, 'remote' in error]; }
        const later = await caught(() => stub.add());
        const fresh = env.A.getByName('one');
        return json([first, later, await caught(() => unused.add()), await caught(() => stub.fetch('http://x')), await fresh.add(), await caught(() => fresh.why()),
            await caught(() => env.A.getByName('one').keep()), await env.A.getByName('one').kept() ?? 'nothing']);",
    );
    let text = r#""Error: Application called abort() to reset Durable Object.""#;
    let expected = format!(
        r#"[["Application called abort() to reset Durable Object.",true,false],{text},{text},{text},1,"Error: because",{text},"nothing"]"#
    );
    assert_eq!(edge.get("/"), expected);
    let resets = edge.seen.iter().filter(|effect| matches!(effect, Effect::Reset(..))).count();
    assert_eq!(resets, 3);
}

#[test]
fn a_constructor_that_throws_fails_what_waits_and_is_tried_again() {
    let mut edge = with(
        "constructor(ctx, env) { super(ctx, env); if (globalThis.bad) throw new TypeError('not yet'); } ok() { return 1; }",
        "globalThis.bad = true; const first = await Promise.all([caught(() => stub.ok()), caught(() => stub.ok())]); globalThis.bad = false;
        return json([first, await env.A.getByName('one').ok()]);",
    );
    assert_eq!(edge.get("/"), r#"[["TypeError: not yet","TypeError: not yet"],1]"#);
}

#[test]
fn objects_elsewhere_are_called_through_the_edge() {
    let mut edge = with(
        "",
        "const first = stub.fetch('http://x.example/a', { method: 'POST', body: new Blob(['abc']).stream() }); const second = stub.m(1); const third = stub.fetch('http://x.example/c');
        return json([await (await first).text(), await second, await (await third).text()]);",
    );
    edge.elsewhere = true;
    let event = edge.request("/");
    let asked: Vec<_> = edge
        .seen
        .iter()
        .filter_map(|effect| match effect {
            Effect::Fetch { op, event: of, destination: Destination::Object(object), .. } => {
                assert_eq!((*of, object.class.as_str(), object.name.as_deref()), (event, "A", Some("one")));
                Some((*op, true))
            }
            Effect::Rpc { op, event: of, method, args, .. } => {
                assert_eq!((*of, method.as_str(), args.len()), (event, "m", 1));
                Some((*op, false))
            }
            _ => None,
        })
        .collect();
    assert_eq!(asked.len(), 3);
    assert_eq!([asked[0].1, asked[1].1, asked[2].1], [true, false, true]);
    edge.answer(asked[0].0, "one");
    let Some(Argument::Value(two)) = edge.seen.iter().find_map(|effect| match effect {
        Effect::Rpc { args, .. } => args.first().cloned(),
        _ => None,
    }) else {
        panic!()
    };
    edge.give(Event::Returned { op: asked[1].0, outcome: Ok(Argument::Value(two)) });
    edge.answer(asked[2].0, "three");
    assert_eq!(edge.outcome(event).unwrap().unwrap(), r#"["one",1,"three"]"#);
}

#[test]
fn an_object_that_cannot_be_had_or_read_fails_its_calls_only() {
    let mut edge = with("ok() { return 1; }", "return json(await caught(() => stub.ok()));");
    edge.get("/");
    let id = edge.only().0;
    edge.give(Event::Drop(id, None));
    assert!(edge.seen.contains(&Effect::Dropped(id)));
    edge.elsewhere = true;
    let event = edge.request("/?id=one");
    assert!(edge.outcome(event).is_none());
    // An answer to what was not asked means nothing.
    edge.give(Event::Opened(id, Opened::Failed(ScriptError::new("Error", "late"))));
    assert!(edge.outcome(event).is_none());

    let mut load = app("import { DurableObject } from 'cloudflare:workers'; export class A extends DurableObject { ok() { return 1; } } export class B {}
        export default { async fetch(r, env) { return new Response(await env.A.getByName('x').ok().catch(String)); } }");
    load.compatibility_date = "2026-08-01".to_owned();
    let mut edge = Edge::of(load);
    let request = crate::message::Request {
        method: "GET".to_owned(),
        url: "http://x/".to_owned(),
        headers: Vec::new(),
        body: crate::message::BodyRef::None,
    };
    let event = edge.id();
    edge.isolate.deliver(Event::Fetch {
        event,
        target: crate::message::Target::Worker,
        request: Box::new(request),
    });
    let effects = edge.isolate.take_effects();
    let [Effect::Open(object)] = &effects[..] else { panic!("{effects:?}") };
    let life = edge.id();
    let rest = serde_bytes::ByteBuf::from(vec![0xff; 9]);
    edge.give(Event::Opened(object.id, Opened::Whole { life, rest, running: false }));
    assert_eq!(
        edge.outcome(event).unwrap().unwrap(),
        "Error: What is stored of the Durable Object cannot be read."
    );
}

#[test]
fn class_names_are_kept() {
    let mut edge = with("which() { return this.constructor.name; }", "return json(await stub.which());");
    assert_eq!(edge.get("/"), r#""A""#);
}

#[test]
fn timers_of_objects_outlive_their_events() {
    let mut edge = with(
        "later() { setTimeout(() => console.log('later'), 10); return 1; }",
        "return json(await stub.later());",
    );
    assert_eq!(edge.get("/"), "1");
    let id = edge.only().0;
    edge.give(Event::Drop(id, None));
    assert!(!edge.seen.contains(&Effect::Dropped(id)), "it has a timer");
    edge.pass(10);
    assert_eq!(edge.lines(), ["later"]);
    edge.give(Event::Drop(id, None));
    assert!(edge.seen.contains(&Effect::Dropped(id)));
}

#[test]
fn an_object_that_loops_is_reset_and_others_live_on() {
    let mut edge = with(
        "n = 0; add() { return ++this.n; } spin() { for (;;) {} }",
        "if (url.pathname === '/spin') return json(await caught(() => stub.spin())); return json(await stub.add());",
    );
    assert_eq!(edge.get("/?id=two"), "1");
    assert_eq!(edge.get("/spin"), r#""Error: Worker exceeded CPU time limit.""#);
    assert_eq!((edge.get("/?id=two"), edge.get("/")), ("2".to_owned(), "1".to_owned()));
}

#[test]
fn a_deploy_resets_with_its_reason() {
    let mut edge = with(
        "async slow() { await scheduler.wait(1000); }",
        "try { await stub.slow(); } catch (error) { return json([error.message, error.retryable, error.durableObjectReset]); }",
    );
    let event = edge.request("/");
    let id = edge.only().0;
    let flags = crate::message::ErrorFlags { retryable: true, ..Default::default() };
    let why = ScriptError::new("Error", "Durable Object reset because its code was updated.").with(flags);
    edge.give(Event::Drop(id, Some(why)));
    assert_eq!(
        edge.outcome(event).unwrap().unwrap(),
        r#"["Durable Object reset because its code was updated.",true,true]"#
    );
}

#[test]
fn too_many_that_wait_are_refused() {
    let mut edge = with(
        "constructor(ctx, env) { super(ctx, env); ctx.blockConcurrencyWhile(() => scheduler.wait(1000)); } ok() { return 1; }",
        "if (url.pathname === '/many') { for (let i = 0; i < 998; i++) stub.ok().catch(() => {}); return json(1); }
        try { return json(await stub.ok()); } catch (error) { return json([error.message, error.overloaded]); }",
    );
    edge.get("/many");
    let (last, beyond) = (edge.request("/"), edge.request("/"));
    let third = edge.request("/");
    let refused = r#"["Durable Object is overloaded. Too many requests queued.",true]"#;
    assert_eq!(edge.outcome(third).unwrap().unwrap(), refused);
    edge.pass(1000);
    assert_eq!(edge.outcome(last).unwrap().unwrap(), "1");
    let _ = beyond;
}

#[test]
fn objects_in_which_nothing_goes_on_rest_after_a_while() {
    let mut edge = with(
        "ok() { return 1; } slow() { return scheduler.wait(60000); }",
        "return json(await stub[url.pathname.slice(1)]());",
    );
    let dropped =
        |edge: &Edge| edge.seen.iter().filter(|effect| matches!(effect, Effect::Dropped(_))).count();
    edge.get("/ok");
    edge.pass(9_000);
    edge.request("/slow?id=two");
    edge.give(Event::Rest { idle_ms: 10_000 });
    assert_eq!(dropped(&edge), 0);
    edge.pass(1_000);
    edge.give(Event::Rest { idle_ms: 10_000 });
    assert_eq!(dropped(&edge), 1);
    edge.pass(20_000);
    edge.give(Event::Rest { idle_ms: 10_000 });
    assert_eq!(dropped(&edge), 1, "one that waits for something goes on");
    assert_eq!(edge.get("/ok"), "1");
}

#[test]
fn a_reset_takes_back_nothing_that_has_not_left() {
    let mut edge = with(
        "async go() { fetch('http://a.example/sent'); await this.ctx.storage.put('a', 1); fetch('http://a.example/held').catch(() => {}); }",
        "return json(await caught(() => stub.go()));",
    );
    edge.prompt = false;
    edge.request("/");
    let sent: Vec<_> = edge.asked().into_iter().map(|(op, _)| op).collect();
    let id = edge.only().0;
    edge.give(Event::CommitFailed(id, 1));
    let cancelled: Vec<_> = edge
        .seen
        .iter()
        .filter_map(|effect| if let Effect::Cancel(op) = effect { Some(*op) } else { None })
        .collect();
    assert!(edge.seen.iter().any(|effect| matches!(effect, Effect::Reset(..))));
    assert_eq!((sent.len(), cancelled), (1, sent));
}
