//! Scripts that use up what there is, and scripts that change what everybody uses.

use super::harness::{Bench, answer, code, failure, is_done, load, running};
use crate::isolate::CPU_EXCEEDED;
use crate::isolate::Host;
use crate::message::{BodyRef, Condemned, Effect, Limits};

const GOOD: &str = "if (request.url === '/good') return { statusText: 'good' };";

fn handler(body: &str) -> Bench {
    running(&format!(
        "const bytes = (text) => Uint8Array.from([...text].map((c) => c.charCodeAt(0)));
        export default {{ async fetch(request, env, ctx) {{ {GOOD} {body} }} }}"
    ))
}

fn is_good(bench: &mut Bench) -> bool {
    bench
        .get("/good")
        .iter()
        .any(|effect| matches!(effect, Effect::Responded(_, response) if response.status_text == "good"))
}

#[test]
fn an_endless_loop_fails_its_call_and_the_isolate_lives() {
    let loops = [
        "for (;;) {}",
        "try { for (;;) {} } catch {} finally { for (;;) {} }",
        "for (;;) { try { for (;;) {} } catch {} }",
        "const f = () => f(); for (;;) try { f(); } catch {}",
        "/(a*)*b/.test('a'.repeat(40)); for (;;) /(a*)*b/.test('a'.repeat(40))",
        "setTimeout(() => { for (;;) {} }, 0); await new Promise(() => {})",
    ];
    for body in loops {
        let mut bench = handler(body);
        let (event, mut effects) = bench.request("/", BodyRef::None);
        effects.extend(bench.pass(0));
        assert_eq!(failure(&effects), format!("Error: {CPU_EXCEEDED}"), "{body}");
        assert!(is_done(&effects, event), "{body}");
        assert_eq!(bench.isolate.condemned(), None, "{body}");
        assert!(is_good(&mut bench), "{body}");
    }
}

#[test]
fn a_changed_length_of_views_harms_nobody() {
    for length in ["get() { return 'x' }", "get() { throw 1 }", "value: 1e9"] {
        let mut bench = handler(&format!(
            "Object.defineProperty(Object.getPrototypeOf(Uint8Array.prototype), 'length', {{ {length}, configurable: true }});
            const view = new Uint8Array(8); host.random(view); return {{ body: bytes(String(view.byteLength)) }};"
        ));
        bench.request("/", BodyRef::None);
        assert!(is_good(&mut bench), "{length}");
    }
}

#[test]
fn cpu_time_adds_up_over_the_turns_of_a_call() {
    let mut bench = handler(
        "for (;;) { const until = Date.now() + 40; while (Date.now() < until) {} await new Promise((done) => setTimeout(done, 0)); }",
    );
    let (_, mut effects) = bench.request("/", BodyRef::None);
    let mut turns = 0;
    while effects.iter().all(|effect| matches!(effect, Effect::Used(_))) && turns < 1000 {
        effects = bench.pass(0);
        turns += 1;
    }
    assert_eq!(failure(&effects), format!("Error: {CPU_EXCEEDED}"));
    assert!(turns >= 2, "{turns}");
}

#[test]
fn promises_without_end_condemn_the_isolate() {
    let mut bench = handler(
        "const go = () => { Promise.resolve().then(go); }; for (let i = 0; i < 10; i++) go(); await new Promise(() => {})",
    );
    let effects = bench.get("/");
    assert_eq!(failure(&effects), format!("Error: {CPU_EXCEEDED}"));
    assert_eq!(effects.last(), Some(&Effect::Condemned(Condemned::Cpu)));
    assert_eq!(bench.isolate.condemned(), Some(Condemned::Cpu));
    assert!(bench.get("/good").is_empty());
}

#[test]
fn too_much_memory_condemns_the_isolate_also_if_the_script_catches_it() {
    let bodies = [
        "const all = []; for (;;) all.push(new Uint8Array(1 << 20));",
        "const all = []; try { for (;;) all.push(new Uint8Array(1 << 20)); } catch { all.length = 0; return { statusText: 'caught' }; }",
        "new Uint8Array(1.9e9)",
        "try { new ArrayBuffer(1.9e9); } catch { return {}; }",
        "const all = []; for (;;) all.push('x'.repeat(1e5) + all.length);",
        "const go = () => { Promise.resolve().then(go); Promise.resolve().then(go); }; go(); await new Promise(() => {})",
        "let list = null; for (;;) list = { list };",
        "new Array(1e8).fill(1).map(String).join()",
    ];
    for body in bodies {
        let source = format!("export default {{ async fetch(request, env, ctx) {{ {GOOD} {body} }} }}");
        let mut roomy = code(&[("index.js", &source)]);
        roomy.limits = Limits { cpu_ms: 60_000, memory_bytes: 24 << 20, ..Limits::default() };
        let (mut bench, _) = load(roomy).ok().unwrap();
        let effects = bench.get("/");
        assert_eq!(effects.last(), Some(&Effect::Condemned(Condemned::Memory)), "{body}: {effects:?}");
        assert!(bench.isolate.memory_bytes() <= 24 << 20, "{body}");
        assert!(bench.get("/good").is_empty());
    }
}

#[test]
fn more_than_any_array_may_have_is_a_range_error() {
    let mut bench =
        handler("try { new Uint8Array(10e9); } catch (error) { return { body: bytes(error.name) }; }");
    assert_eq!(answer(&bench.get("/")).1, "RangeError");
    assert!(is_good(&mut bench));
}

#[test]
fn recursion_is_a_range_error() {
    let mut bench = handler(
        "const f = (n) => f(n + 1) + 1; try { f(0); } catch (error) { return { body: bytes(error.name) }; }",
    );
    assert_eq!(answer(&bench.get("/")).1, "RangeError");
    let mut bench = handler(
        "let nested = []; for (let i = 0; i < 1e5; i++) nested = [nested]; try { JSON.stringify(nested); } catch (error) { return { body: bytes(error.name) }; }",
    );
    assert_eq!(answer(&bench.get("/")).1, "RangeError");
    let mut bench =
        handler("try { JSON.parse('['.repeat(1e6)); } catch (error) { return { body: bytes(error.name) }; }");
    assert!(["RangeError", "SyntaxError"].contains(&answer(&bench.get("/")).1.as_str()));
}

#[test]
fn waiting_for_another_thread_is_refused() {
    let mut bench = handler(
        "try { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); } catch (error) { return { body: bytes(error.name) }; }",
    );
    assert_eq!(answer(&bench.get("/")).1, "TypeError");
}

#[test]
fn changed_classes_of_the_language_break_and_overhear_nothing() {
    let mut bench = running(
        "const seen = []; const bytes = (text) => new Uint8Array([...text].map((c) => c.charCodeAt(0)));
        const { then } = Promise.prototype; const apply = Reflect.apply;
        Promise.prototype.then = function (...args) { seen.push('then'); return apply(then, this, args); };
        Promise.resolve = () => { seen.push('resolve'); };
        Array.prototype.push = function () { throw new Error('push'); };
        Array.prototype[Symbol.iterator] = function () { throw new Error('iterator'); };
        Function.prototype.call = Function.prototype.apply = () => { throw new Error('call'); };
        String.prototype.startsWith = () => { throw new Error('startsWith'); };
        Object.prototype.get = () => { throw new Error('get'); };
        export default { fetch(request, env, ctx) { ctx.waitUntil(0); return { statusText: seen.length + '', names: request.names, values: request.values }; } }",
    );
    let effects = bench.get("/");
    assert!(
        matches!(&effects[0], Effect::Responded(_, response) if response.status_text == "0"),
        "{effects:?}"
    );
}

#[test]
fn many_calls_leave_nothing_behind() {
    let mut bench = handler(
        "setTimeout(() => {}, 1000); fetch('http://a.example').catch(() => {}); ctx.waitUntil(Promise.resolve()); return { body: new Uint8Array(1000) };",
    );
    let mut after = Vec::new();
    for _ in 0..3 {
        for _ in 0..300 {
            bench.get("/");
        }
        bench.isolate.collect();
        after.push(bench.isolate.memory_bytes());
    }
    assert!(after[2] <= after[1] + 1024, "{after:?}");
    assert_eq!(bench.isolate.next_due_us(), None);
}

#[test]
fn what_a_stopped_call_leaves_behind_asks_for_nothing() {
    let mut bench = handler(
        "Promise.resolve().then(() => { for (;;) {} }).finally(() => {}); for (let i = 0; i < 3; i++) Promise.resolve().then(() => { console.log('later'); fetch('http://a.example'); setTimeout(() => {}, 1); }); await new Promise(() => {})",
    );
    let (event, effects) = bench.request("/", BodyRef::None);
    assert_eq!(failure(&effects), format!("Error: {CPU_EXCEEDED}"));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Fetch { .. })), "{effects:?}");
    let after = effects.iter().skip_while(|effect| !matches!(effect, Effect::Done { .. }));
    assert!(
        after.clone().all(|effect| !matches!(effect, Effect::Log { event: Some(of), .. } if *of == event)),
        "{effects:?}"
    );
    assert!(after.count() > 1, "{effects:?}");
    assert!(is_good(&mut bench));
}

#[test]
fn all_cpu_time_is_told_once() {
    let mut bench = handler(
        "const spin = (ms) => { for (let i = 0; i < ms * 20000; i++); };
        spin(30); ctx.waitUntil(new Promise((done) => setTimeout(() => { spin(10); done(); }, 5))); return {};",
    );
    let begun_us = bench.clock.cpu_us();
    let mut effects = bench.get("/");
    effects.extend(bench.pass(5));
    let used_us = bench.clock.cpu_us() - begun_us;
    effects.extend(bench.get("/"));
    effects.extend(bench.pass(5));
    let all_us = bench.clock.cpu_us() - begun_us;
    let told = effects.iter().map(|effect| match effect {
        Effect::Done { cpu_us, .. } => *cpu_us,
        Effect::Used(us) => *us,
        _ => 0,
    });
    let told_us: u64 = told.sum();
    // What is between two calls is told with the next; beside it there is what the test itself takes.
    assert!(told_us <= all_us + 100_000 && told_us >= used_us / 2, "{told_us} of {all_us}");
}
