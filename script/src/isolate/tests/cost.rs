//! What a request costs in an isolate, route by route, by hand. CPU time is printed; on a busy machine instructions say more:
//!
//! ```text
//! npm install --prefix DIR @cloudflare/containers@0.3.7
//! export BERTH_CONTAINERS_PACKAGE=DIR
//! cargo test -p berth-script --profile measure --lib cost -- --ignored --nocapture
//! COST_ROUNDS=400 COST_ROUTE=/container valgrind --tool=callgrind PROGRAM-OF-THE-TESTS cost --ignored
//! ```

use nix::time::{ClockId, clock_gettime};

use super::package::World;
use crate::message::{BodyRef, Destination, Effect, Event, HostBody, OpId, Response};

/// The worker alone, an object behind it, and that object's container.
const ROUTES: [&str; 3] = ["/worker", "/object", "/container"];
/// Requests of each route, where the environment says nothing else.
const ROUNDS: u32 = 20_000;
/// As an edge passes them on.
const ASKED: [(&str, &str); 6] = [
    ("host", "a.example"),
    ("user-agent", "wrk"),
    ("cf-connecting-ip", "127.0.0.1"),
    ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded-proto", "http"),
    ("cf-ray", "0123456789abcdef"),
];
const ANSWERED: [(&str, &str); 3] =
    [("content-type", "text/plain"), ("date", "today"), ("content-length", "5")];

fn cpu_us() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    time.tv_sec() as f64 * 1e6 + time.tv_nsec() as f64 / 1e3
}

#[test]
#[ignore = "needs the npm package"]
fn cost_of_routes() {
    let rounds = std::env::var("COST_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let only = std::env::var("COST_ROUTE").ok();
    for route in ROUTES.iter().filter(|route| only.as_deref().is_none_or(|only| only == **route)) {
        let mut world = World::listening();
        world.get("/container", 1000);
        (0..rounds / 10).for_each(|_| ask(&mut world, route));
        let begun_us = cpu_us();
        (0..rounds).for_each(|_| ask(&mut world, route));
        eprintln!("{route}: {:.1} us", (cpu_us() - begun_us) / f64::from(rounds));
    }
}

/// One request, and its answer. A container's body is the edge's, and passes through.
fn ask(world: &mut World, route: &str) {
    world.forget();
    let event = world.edge.request_with(route, &ASKED);
    if let Some(op) = port_asked(world) {
        let (status_text, body) = ("OK".to_owned(), BodyRef::Host(HostBody(event.0)));
        let headers = ANSWERED.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let response = Response { status: 200, status_text, headers, body };
        world.edge.give(Event::Completed { op, outcome: Ok(response) });
    }
    let answered = |effect: &Effect| matches!(effect, Effect::Responded(of, response) if *of == event && response.status == 200);
    assert!(world.edge.seen.iter().any(answered), "{:?}", world.edge.seen);
}

fn port_asked(world: &World) -> Option<OpId> {
    world.edge.seen.iter().find_map(|effect| match effect {
        Effect::Fetch { op, destination: Destination::Port { .. }, .. } => Some(*op),
        _ => None,
    })
}
