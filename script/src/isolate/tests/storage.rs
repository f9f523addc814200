//! What objects keep: keys and values, transactions, alarms.

use super::edge::with;
use crate::message::{Effect, Event};

/// Runs this in a method of an object, and gives what it returns.
fn inside(body: &str) -> String {
    let mut edge = with(
        &format!(
            "async run() {{ const {{ storage }} = this.ctx; const caught = async (run) => {{ try {{ return await run(); }} catch (error) {{ return String(error); }} }}; {body} }} alarm() {{}}"
        ),
        "return json(await stub.run());",
    );
    edge.get("/")
}

#[test]
fn several_keys_come_in_their_order_and_misses_are_absent() {
    let said = inside(
        "await storage.put({ b: 2, a: 1, '\\u{1f600}': 4, '\\uffff': 3 });
        const got = await storage.get(['\\u{1f600}', 'b', 'none', '\\uffff', 'a']);
        return [got instanceof Map, [...got], await storage.get('none') === undefined, await storage.delete('a'), await storage.delete('a'), await storage.delete(['b', 'x', '\\uffff']), [...await storage.list()]];",
    );
    assert_eq!(
        said,
        "[true,[[\"a\",1],[\"b\",2],[\"\u{ffff}\",3],[\"\u{1f600}\",4]],true,true,false,2,[[\"\u{1f600}\",4]]]"
    );
}

#[test]
fn lists_have_ranges() {
    let said = inside(
        "for (const key of ['a', 'b', 'ba', 'bb', 'c']) await storage.put(key, key);
        const keys = async (options) => [...(await storage.list(options)).keys()].join();
        return [await keys({ prefix: 'b' }), await keys({ start: 'b', end: 'c' }), await keys({ startAfter: 'b', limit: 2 }), await keys({ reverse: true, limit: 2 }), await keys({ end: 'a' }),
            await caught(() => storage.list({ limit: 0 })), await caught(() => storage.list({ start: 'a', startAfter: 'b' }))];",
    );
    assert_eq!(
        said,
        r#"["b,ba,bb","b,ba,bb","ba,bb","c,bb","","TypeError: List limit must be positive.","TypeError: list() cannot be called with both start and startAfter values."]"#
    );
}

#[test]
fn values_are_clones_taken_at_the_call() {
    let said = inside(
        "const value = { n: -0, u: undefined, m: new Map([['k', new Map([[1, 2]])]]), e: new RangeError('r', { cause: 1 }), d: new Date(5), big: 10n };
        value.self = value;
        const put = storage.put('k', value);
        value.n = 1;
        await put;
        const got = await storage.get('k');
        return [Object.is(got.n, -0), 'u' in got, got.m.get('k').get(1), got.e instanceof RangeError, got.e.message, got.e.cause, got.d.getTime(), String(got.big), got.self === got, got !== value,
            await caught(() => storage.put('x', undefined)), await caught(() => storage.put('x', () => 1)), await caught(() => storage.put('x', Symbol('s'))), await storage.get('x') === undefined];",
    );
    assert_eq!(
        said,
        r#"[true,true,2,true,"r",1,5,"10",true,true,"TypeError: put() called with undefined value.","DataCloneError: () => 1 could not be cloned.","DataCloneError: Symbol(s) could not be cloned.",true]"#
    );
}

#[test]
fn what_is_too_much_is_refused_by_name() {
    let said = inside(
        "return [await caught(() => storage.put('k'.repeat(2049), 1)), await caught(() => storage.put('k', 'x'.repeat(2 << 20))), await caught(() => storage.get(Array(129).fill('a'))),
            await caught(async () => { for (let i = 0; ; i++) await storage.put(`k${i}`, new Uint8Array(1 << 20)); }), (await storage.list({ prefix: 'k1' })).size > 5];",
    );
    assert_eq!(
        said,
        r#"["RangeError: Keys cannot be larger than 2048 bytes.","RangeError: Values cannot be larger than 2 MiB.","RangeError: Maximum number of keys is 128.","Error: An object cannot keep more than 32 MiB.",true]"#
    );
}

#[test]
fn sync_storage_is_the_same_storage() {
    let said = inside(
        "const { kv } = storage;
        kv.put('a', 1); kv.put('b', { c: 2 });
        const first = kv.list(); first.next();
        const second = [...kv.list({ reverse: true })];
        return [kv.get('a'), await storage.get('b'), kv.get('x') === undefined, kv.delete('a'), kv.delete('a'), second, await caught(() => first.next()), await caught(() => kv.put('z'))];",
    );
    assert_eq!(
        said,
        r#"[1,{"c":2},true,true,false,[["b",{"c":2}],["a",1]],"Error: kv.list() iterator was invalidated because a new call to kv.list() was started. Only one kv.list() iterator can exist at a time.","TypeError: Failed to execute 'put' on 'SyncKvStorage': parameter 2 is not of type 'Value'."]"#
    );
}

#[test]
fn transactions_take_back_what_fails() {
    let said = inside(
        "await storage.put('k', 1);
        const failed = await caught(() => storage.transaction(async (txn) => { await txn.put('k', 2); await txn.put('l', 2); throw new Error('back'); }));
        const value = await storage.transaction(async (txn) => { await txn.put('k', 3); txn.rollback(); return ['value', await caught(() => txn.get('k'))]; });
        const kept = await storage.transaction(async (txn) => { await txn.put('k', await txn.get('k') + 10); await scheduler.wait(0); return txn.get('k'); });
        const outer = await caught(() => storage.transactionSync(() => { storage.kv.put('k', 50); try { storage.transactionSync(() => { storage.kv.put('k', 60); throw 1; }); } catch {} const seen = storage.kv.get('k'); storage.kv.put('m', seen); throw new Error(seen); }));
        return [failed, value, kept, outer, [...await storage.list()], storage.transactionSync(() => 5), await caught(() => storage.transaction(() => storage.deleteAll()))];",
    );
    assert_eq!(
        said,
        r#"["Error: back",["value","Error: Cannot get() on rolled back transaction"],11,"Error: 50",[["k",11]],5,"Error: Cannot call deleteAll() within a transaction"]"#
    );
}

#[test]
fn what_is_kept_is_there_after_the_object_was_gone() {
    let mut edge = with(
        "async set() { await this.ctx.storage.put({ a: 1, b: 2 }); await this.ctx.storage.delete('b'); await this.ctx.storage.put('big', 'x'.repeat(1 << 20)); } async get() { return [...(await this.ctx.storage.list()).keys()]; } async all() { await this.ctx.storage.deleteAll(); }",
        "if (url.pathname === '/set') await stub.set(); if (url.pathname === '/all') await stub.all(); return json(await stub.get());",
    );
    assert_eq!(edge.get("/set"), r#"["a","big"]"#);
    let id = edge.only().0;
    edge.give(Event::Drop(id, None));
    assert!(edge.seen.contains(&Effect::Dropped(id)));
    assert_eq!(edge.get("/"), r#"["a","big"]"#);
    assert_eq!(edge.get("/all"), "[]");
    assert!(edge.only().1.entries.is_empty());
}

#[test]
fn all_writes_of_a_turn_are_one_commit_whether_it_throws_or_not() {
    let mut edge = with(
        "async two() { const a = this.ctx.storage.put('a', 1); this.ctx.storage.kv.put('b', 2); this.ctx.storage.setAlarm(5000); await a; throw new Error('after'); } alarm() {}",
        "return json(await caught(() => stub.two()));",
    );
    edge.prompt = false;
    let event = edge.request("/");
    assert_eq!((edge.commits.len(), edge.outcome(event).is_none()), (1, true));
    edge.commit();
    assert_eq!(edge.outcome(event).unwrap().unwrap(), r#""Error: after""#);
    let stored = edge.only().1;
    assert_eq!((stored.entries.len(), stored.alarm), (2, Some(5000)));
}

#[test]
fn alarms_are_gone_when_they_have_run_unless_another_was_set() {
    let mut edge = with(
        "async set(time) { await this.ctx.storage.setAlarm(time); return this.ctx.storage.getAlarm(); }
        async alarm(info) { console.log(JSON.stringify(info), await this.ctx.storage.getAlarm()); if (globalThis.mode === 'fail') throw new Error('failed'); if (globalThis.mode === 'again') await this.ctx.storage.setAlarm(new Date(9000)); if (globalThis.mode === 'wait') await scheduler.wait(10); }
        get() { return this.ctx.storage.getAlarm(); }",
        "globalThis.mode = url.searchParams.get('mode'); return json(url.pathname === '/set' ? await stub.set(5000) : await stub.get());",
    );
    assert_eq!(edge.get("/set"), "5000");
    let event = edge.alarm(0);
    assert_eq!(edge.lines(), [r#"{"isRetry":false,"retryCount":0,"scheduledTime":5000} null"#]);
    assert!(super::harness::is_done(&edge.seen, event));
    assert_eq!((edge.only().1.alarm, edge.get("/")), (None, "null".to_owned()));
    edge.get("/set?mode=again");
    edge.alarm(0);
    assert_eq!((edge.only().1.alarm, edge.get("/")), (Some(9000), "9000".to_owned()));
    edge.get("/set?mode=fail");
    let event = edge.alarm(0);
    let Some(Err(error)) = edge.outcome(event) else { panic!("{:?}", edge.seen) };
    assert_eq!(error.to_string(), "Error: failed");
    assert_eq!((edge.only().1.alarm, edge.get("/")), (Some(5000), "5000".to_owned()));
    edge.alarm(3);
    assert!(edge.lines().last().unwrap().starts_with(r#"{"isRetry":true,"retryCount":3"#));
    // It runs once at a time, and requests run meanwhile.
    edge.get("/set?mode=wait");
    let first = edge.alarm(0);
    assert_eq!(edge.get("/?mode=wait"), "null");
    let second = edge.alarm(0);
    assert!(edge.outcome(second).unwrap().unwrap_err().message.contains("running already"));
    edge.pass(10);
    assert!(super::harness::is_done(&edge.seen, first));
    assert_eq!(edge.only().1.alarm, None);
}

#[test]
fn an_alarm_that_was_taken_back_is_not_run_and_one_needs_a_handler() {
    let mut edge = with(
        "async set() { await this.ctx.storage.setAlarm(5000); } async clear() { await this.ctx.storage.deleteAlarm(); return this.ctx.storage.getAlarm(); } alarm() { console.log('ran'); }",
        "return json(url.pathname === '/set' ? await stub.set() : await stub.clear());",
    );
    edge.get("/set");
    let mut late = edge.store.clone();
    assert_eq!(edge.get("/clear"), "null");
    std::mem::swap(&mut late, &mut edge.store);
    let event = edge.alarm(0);
    assert!(super::harness::is_done(&edge.seen, event) && edge.lines().is_empty());
    let mut edge = with(
        "set(t) { return this.ctx.storage.setAlarm(t); }",
        "return json(await caught(() => stub.set(5)));",
    );
    assert_eq!(
        edge.get("/"),
        r#""TypeError: Your Durable Object class must have an alarm() handler in order to call setAlarm()""#
    );
    assert_eq!(
        inside(
            "return [await caught(() => storage.setAlarm(0)), await caught(() => storage.setAlarm(NaN))];"
        ),
        r#"["TypeError: setAlarm() cannot be called with an alarm time <= 0","TypeError: The value cannot be converted because it is not a valid Date."]"#
    );
}

#[test]
fn an_alarm_that_takes_too_long_fails_and_resets() {
    let mut edge = with(
        "async set() { await this.ctx.storage.setAlarm(5000); } async alarm() { await new Promise(() => {}); }",
        "return json(await stub.set());",
    );
    edge.get("/");
    let event = edge.alarm(0);
    edge.pass(14 * 60_000);
    assert!(edge.outcome(event).is_none());
    edge.pass(60_000);
    assert!(edge.outcome(event).unwrap().unwrap_err().message.contains("15 minutes"));
    assert_eq!(edge.only().1.alarm, Some(5000));
}

#[test]
fn delete_all_takes_the_alarm_from_a_date_on() {
    for (date, left) in [("2026-02-23", Some(5000)), ("2026-02-24", None)] {
        let mut load = super::edge::app(
            "import { DurableObject } from 'cloudflare:workers'; export class B {}
            export class A extends DurableObject { async run() { await this.ctx.storage.setAlarm(5000); await this.ctx.storage.put('k', 1); await this.ctx.storage.sync(); await this.ctx.storage.deleteAll(); return this.ctx.storage.getAlarm(); } alarm() {} }
            export default { async fetch(r, env) { return Response.json(await env.A.getByName('x').run()); } }",
        );
        load.compatibility_date = date.to_owned();
        let mut edge = super::edge::Edge::of(load);
        assert_eq!(edge.get("/"), left.map_or("null".to_owned(), |due: u64| due.to_string()));
        assert_eq!((edge.only().1.alarm, edge.only().1.entries.len()), (left, 0));
    }
}
