//! What a request costs in here, in CPU time, by hand:
//!
//! ```text
//! npm install --prefix DIR @cloudflare/containers@0.3.7
//! BERTH_CONTAINERS_PACKAGE=DIR cargo test -p berth-script --profile measure --lib cost -- --ignored --nocapture
//! ```

use super::package::World;
use crate::message::{BodyRef, Destination, Effect, Event, HostBody, Response};
use nix::time::{ClockId, clock_gettime};

fn rounds() -> u32 { std::env::var("COST_ROUNDS").map_or(20_000, |rounds| rounds.parse().unwrap()) }

fn cpu_us() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    time.tv_sec() as f64 * 1e6 + time.tv_nsec() as f64 / 1e3
}

#[test]
#[ignore = "needs the npm package"]
fn cost_of_routes() {
    for path in std::env::var("COST_PATHS").map_or_else(|_| vec!["/worker".to_owned(), "/object".to_owned(), "/container".to_owned()], |paths| paths.split(',').map(str::to_owned).collect()) {
        let mut world = World::listening();
        world.get("/container", 1000);
        for _ in 0..rounds() / 10 { one(&mut world, &path); }
        let begun = cpu_us();
        for _ in 0..rounds() { one(&mut world, &path); }
        eprintln!("{path}: {:.1} us", (cpu_us() - begun) / f64::from(rounds()));
    }
}

fn one(world: &mut World, path: &str) {
    world.edge.seen.clear();
    world.reset();
    let event = world.edge.request_with(path, &HEADERS);
    let asked = world.edge.seen.iter().find_map(|effect| match effect {
        Effect::Fetch { op, destination: Destination::Port { .. }, .. } => Some(*op),
        _ => None,
    });
    if let Some(op) = asked {
        let headers = [("content-type", "text/plain"), ("date", "today"), ("content-length", "5")];
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let response = Response { status: 200, status_text: "OK".to_owned(), headers, body: BodyRef::Host(HostBody(event.0)) };
        world.edge.give(Event::Completed { op, outcome: Ok(response) });
    }
    let done = world.edge.seen.iter().any(|effect| matches!(effect, Effect::Responded(of, response) if *of == event && response.status == 200));
    assert!(done, "{:?}", world.edge.seen);
    world.edge.commits.clear();
}

const HEADERS: [(&str, &str); 6] = [("host", "a.example"), ("user-agent", "wrk"), ("cf-connecting-ip", "127.0.0.1"), ("x-forwarded-for", "127.0.0.1"), ("x-forwarded-proto", "http"), ("cf-ray", "0123456789abcdef")];

#[test]
#[ignore = "by hand"]
fn cost_of_parts() {
    const PARTS: &[(&str, &str)] = &[
        ("empty loop", ""),
        ("literal 12", "({ a: 1, b: 2, c: 3, d: 4, e: 5, f: 6, g: 7, h: 8, i: 9, j: 10, k: 11, l: 12 })"),
        ("literal null 6", "({ __proto__: null, a: 1, b: 2, c: 3, d: 4, e: 5, f: 6 })"),
        ("literal 6", "({ a: 1, b: 2, c: 3, d: 4, e: 5, f: 6 })"),
        ("spread 6", "({ ...six })"),
        ("class6", "new Six(1, 2, 3, 4, 5, 6)"),
        ("array 2", "[1, 2]"),
        ("closure", "(() => i)"),
        ("closures 5", "(() => i), (() => i), (() => i), (() => i), (() => i)"),
        ("super", "new Q(1)"),
        ("super + private", "new R(1)"),
        ("private in", "isP(one)"),
        ("uncurried", "u('abc', 'a')"),
        ("method", "'abc'.indexOf('a')"),
        ("native atob", "atob('')"),
        ("proxy get", "px.foo"),
        ("then", "th(pr, f)"),
        ("async call", "as()"),
        ("async await", "await as()"),
        ("new Promise", "new Promise((a, b) => {})"),
        ("destructuring", "const {a, b, c} = six"),
        ("storage", "0"),
        ("regexp", "rx.exec('')"),
        ("template", "`${six.a}`"),
        ("string+", "'' + six.a"),
        ("new Headers()", "new Headers()"),
        ("new Headers(request.headers)", "new Headers(request.headers)"),
        ("new Response('x')", "new Response('x')"),
        ("new Response(null)", "new Response(null)"),
        ("new Request(url)", "new Request('http://a.example/b')"),
        ("new Request(url, request)", "new Request('http://a.example/b', request)"),
        ("new IdentityTransformStream", "new IdentityTransformStream()"),
        ("new ReadableStream", "new ReadableStream()"),
        ("getByName", "env.A.getByName('one')"),
        ("new URL().pathname", "new URL(request.url).pathname"),
    ];
    let arms: String = PARTS.iter().enumerate().map(|(at, (_, code))| format!("case {at}: for (let i = 0; i < 10000; i++) {{ {code} }} break;")).collect();
    let mut load = super::edge::app(&format!(
        "class Six {{ constructor(a, b, c, d, e, f) {{ this.a = a; this.b = b; this.c = c; this.d = d; this.e = e; this.f = f; }} }}
        const six = {{ a: 1, b: 2, c: 3, d: 4, e: 5, f: 6 }}; class Q0 {{ constructor(a) {{ this.a = a; }} }} class Q extends Q0 {{ constructor(a) {{ super(a); }} }} class R0 {{ #a; constructor(a) {{ this.#a = a; }} }} class R extends R0 {{ #b; constructor(a) {{ super(a); this.#b = a; }} }}
        let isP; const px = new Proxy({{}}, {{ get(t, n) {{ return n; }} }}); const u = Function.prototype.bind.bind(Function.prototype.call)(String.prototype.indexOf);
        const th = Function.prototype.bind.bind(Function.prototype.call)(Promise.prototype.then); const pr = Promise.resolve(); const f = () => {{}}; const as = async () => {{}}; const rx = /^[a-z]*$/;
        class P {{ static {{ isP = (v) => #v in v; }} #v; constructor(v) {{ this.#v = v; }} get v() {{ return this.#v; }} }}
        import {{ DurableObject }} from 'cloudflare:workers';
        export class A extends DurableObject {{}}
        export class B extends DurableObject {{}}
        const one = new P(1); export default {{ async fetch(request, env) {{ switch (+new URL(request.url).pathname.slice(1)) {{ {arms} }} return new Response('x'); }} }}"));
    load.limits.cpu_ms = 1_000_000;
    let mut edge = super::edge::Edge::of(load);
    for (at, (name, _)) in PARTS.iter().enumerate() {
        let begun = cpu_us();
        edge.seen.clear();
        edge.request_with(&format!("/{at}"), &HEADERS);
        eprintln!("{name}: {:.2} us {}", (cpu_us() - begun) / 10000.0, edge.seen.len());
    }
}
