//! The unmodified npm package that programs with containers are written with. It is not in this repository, so these are run by hand:
//!
//! ```text
//! npm install --prefix DIR @cloudflare/containers@0.3.7
//! BERTH_CONTAINERS_PACKAGE=DIR cargo test -p berth-script --lib package -- --ignored
//! ```

use std::path::PathBuf;

use super::edge::{Edge, app};
use crate::message::container::{Change, Ended, NO_INSTANCE, Order, Start, TOO_FAST, not_listening};
use crate::message::{
    BODY_WINDOW, BodyRef, Destination, Effect, Event, EventId, Load, Module, OpId, Piece, Resolution,
    Response, ScriptBody, ScriptError,
};

/// A class over the package that logs what is called of it, and a worker in front.
const APP: &str = "import { Container } from '@cloudflare/containers';
    import { DurableObject } from 'cloudflare:workers';
    // The clock that the test moves.
    Date.now = () => 1_000_000 + performance.now();
    export class A extends Container {
        defaultPort = 8080; sleepAfter = '10s'; envVars = { MESSAGE: 'hi' };
        onStart() { console.log('onStart'); }
        onStop(why) { console.log('onStop ' + JSON.stringify(why)); }
        onError(error) { console.log('onError ' + (error.message ?? error)); throw error; }
        async onActivityExpired() { console.log('onActivityExpired'); await super.onActivityExpired(); }
        later(what) { console.log('later ' + what); }
    }
    export class B extends Container {}
    export class P extends DurableObject { fetch() { return new Response('x'); } }
    export default { async fetch(request, env) {
        const stub = env.A.getByName('one');
        const { pathname } = new URL(request.url);
        if (pathname === '/destroy') { await stub.destroy(); return new Response('destroyed'); }
        if (pathname === '/state') return Response.json((await stub.getState()).status);
        if (pathname === '/start') { await stub.start(); return new Response('started'); }
        if (pathname === '/later') { await stub.schedule(2, 'later', 'this'); return new Response('planned'); }
        if (pathname === '/worker') return new Response('x');
        if (pathname === '/object') return env.P.getByName('one').fetch(request);
        if (pathname === '/unknown') return new Response(String(await env.B.getByName('x').getState().catch((error) => error.message)));
        return stub.fetch(request);
    } }";

/// The package's modules and the app, as a deploy resolves them.
fn load() -> Load {
    let root = std::env::var_os("BERTH_CONTAINERS_PACKAGE").expect("BERTH_CONTAINERS_PACKAGE: see above");
    let root = PathBuf::from(root).join("node_modules/@cloudflare/containers/dist");
    let names = ["index", "lib/container", "lib/utils", "lib/helpers"];
    let mut load = app(APP);
    load.modules.extend(names.iter().map(|name| {
        let source = std::fs::read_to_string(root.join(format!("{name}.js"))).unwrap();
        Module { name: (*name).to_owned(), source }
    }));
    for (importer, specifier, module) in [
        ("index.js", "@cloudflare/containers", "index"),
        ("index", "./lib/container", "lib/container"),
        ("index", "./lib/utils", "lib/utils"),
        ("lib/container", "./helpers", "lib/helpers"),
    ] {
        load.resolutions.push(Resolution {
            importer: importer.to_owned(),
            specifier: specifier.to_owned(),
            module: module.to_owned(),
        });
    }
    load.objects[0].container = true;
    load.env.push(("P".to_owned(), crate::message::Variable::Objects("P".to_owned())));
    load.objects.push(crate::message::ObjectClass { name: "P".to_owned(), key: [3; 32], container: false });
    load
}

/// What becomes of the container.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// It runs, and nothing listens.
    Deaf,
    Listens,
    /// It cannot be started, with this text.
    Refused(&'static str),
    /// It ends with this code as soon as it is asked anything.
    Crashes(i32),
}

/// The fake edge with one container and the object's alarm.
pub(super) struct World {
    pub(super) edge: Edge,
    fate: Fate,
    running: bool,
    /// The alarm's call, while it goes on.
    alarm: Option<EventId>,
    alarms: u32,
    /// How many of what was told have been dealt with.
    dealt: usize,
    orders: Vec<Order>,
    /// URLs that ports were asked for.
    asked: Vec<String>,
}

impl World {
    /// One whose container listens.
    pub(super) fn listening() -> Self {
        Self::new(Fate::Listens)
    }

    /// Forgets all that was told and asked.
    pub(super) fn forget(&mut self) {
        self.edge.seen.clear();
        self.dealt = 0;
        self.asked.clear();
    }

    fn new(fate: Fate) -> Self {
        let edge = Edge::of(load());
        Self {
            edge,
            fate,
            running: false,
            alarm: None,
            alarms: 0,
            dealt: 0,
            orders: Vec::new(),
            asked: Vec::new(),
        }
    }

    fn ended(&mut self, how: Ended) {
        self.running = false;
        let id = self.edge.only().0;
        self.edge.give(Event::Container(id, Change::Ended(how)));
    }

    /// Deals with all that was told.
    fn deal(&mut self) {
        while self.dealt < self.edge.seen.len() {
            let effect = self.edge.seen[self.dealt].clone();
            self.dealt += 1;
            match effect {
                Effect::Container(_, order) => self.order(order),
                Effect::Fetch { op, destination: Destination::Port { port, .. }, request, .. } => {
                    self.asked.push(request.url.clone());
                    self.port(op, port);
                }
                Effect::Responded(_, response) => {
                    if let BodyRef::Script(body) = response.body {
                        self.edge.give(Event::Credit(body, BODY_WINDOW));
                    }
                }
                Effect::Done { event, .. } if self.alarm == Some(event) => self.alarm = None,
                _ => {}
            }
        }
    }

    fn order(&mut self, order: Order) {
        self.orders.push(order.clone());
        match (order, self.fate) {
            (Order::Start(_), Fate::Refused(text)) => self.ended(Ended::NotStarted(text.to_owned())),
            (Order::Start(_), _) => self.running = true,
            (Order::Signal(15), _) if self.running => self.ended(Ended::Exited(0)),
            (Order::Destroy, _) if self.running => self.ended(Ended::Signalled(9)),
            _ => {}
        }
    }

    fn port(&mut self, op: OpId, port: u16) {
        let text = match self.fate {
            Fate::Listens => return self.edge.answer(op, "hello"),
            Fate::Deaf => not_listening("10.0.0.1", port),
            Fate::Refused(text) => text.to_owned(),
            Fate::Crashes(code) => {
                self.ended(Ended::Exited(code));
                not_listening("10.0.0.1", port)
            }
        };
        self.edge.give(Event::Completed { op, outcome: Err(ScriptError::new("Error", text)) });
    }

    /// Has the alarm called when it is due and its handler does not run.
    fn ring(&mut self) {
        let now_ms = 1_000_000 + self.edge.clock.us.get() / 1000;
        let due = self.edge.store.values().find_map(|stored| stored.alarm).is_some_and(|due| due <= now_ms);
        if due && self.alarm.is_none() {
            self.alarms += 1;
            self.alarm = Some(self.edge.alarm(0));
            self.deal();
        }
    }

    /// Lets time go by.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.edge.pass(100);
            self.deal();
            self.ring();
        }
    }

    /// Asks, and waits so long for the answer: its status and text.
    pub(super) fn get(&mut self, path: &str, most_ms: u64) -> (u16, String) {
        let event = self.edge.request(path);
        self.deal();
        for _ in 0..most_ms / 100 {
            if let Some(answer) = self.answer(event) {
                return answer;
            }
            self.pass(100);
        }
        panic!("no answer: {:?}", self.edge.seen.last_chunk::<8>());
    }

    fn answer(&self, of: EventId) -> Option<(u16, String)> {
        self.edge.seen.iter().find_map(|effect| match effect {
            Effect::Responded(event, response) if *event == of => {
                Some((response.status, self.text(response)?))
            }
            Effect::Failed(event, error) if *event == of => Some((0, error.to_string())),
            _ => None,
        })
    }

    fn text(&self, response: &Response) -> Option<String> {
        match &response.body {
            BodyRef::None => Some(String::new()),
            BodyRef::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            BodyRef::Script(body) => self.flowed(*body),
            BodyRef::Host(_) => None,
        }
    }

    fn flowed(&self, of: ScriptBody) -> Option<String> {
        let mut text = String::new();
        for effect in &self.edge.seen {
            match effect {
                Effect::Body(body, Piece::Data(bytes)) if *body == of => {
                    text += &String::from_utf8_lossy(bytes);
                }
                Effect::Body(body, Piece::End) if *body == of => return Some(text),
                _ => {}
            }
        }
        None
    }

    fn starts(&self) -> usize {
        self.orders.iter().filter(|order| matches!(order, Order::Start(_))).count()
    }
}

fn ok() -> (u16, String) {
    (200, "hello".to_owned())
}

#[test]
#[ignore = "needs the npm package"]
fn it_starts_waits_fetches_sleeps_and_stops() {
    let mut world = World::new(Fate::Deaf);
    let event = world.edge.request("/a");
    world.deal();
    world.pass(2000);
    assert!(world.answer(event).is_none());
    let env = vec![("MESSAGE".to_owned(), "hi".to_owned())];
    let start = Start { env, enable_internet: true, ..Start::default() };
    assert_eq!(world.orders, [Order::Start(Box::new(start))]);
    assert_eq!(world.asked[..2], ["http://containerstarthealthcheck/", "http://ping/"]);
    world.fate = Fate::Listens;
    world.pass(500);
    assert_eq!((world.answer(event), world.edge.lines()), (Some(ok()), vec!["onStart"]));
    assert_eq!(world.asked.last().unwrap(), "http://a.example/a");
    // Asked again, it is not started again, and no hook is called.
    let asked = world.asked.len();
    assert_eq!(world.get("/b", 1000), ok());
    assert_eq!((world.asked.len(), world.edge.lines()), (asked + 1, vec!["onStart"]));
    assert_eq!(world.get("/state", 1000).1, r#""healthy""#);
    // For as long as it runs, the alarm's handler does.
    world.pass(1500);
    let handler = world.alarm.expect("it runs");
    world.pass(4000);
    assert_eq!(world.alarm, Some(handler));
    world.pass(6000);
    let told = [
        "onStart",
        "onActivityExpired",
        "Activity expired, signalling container to stop",
        r#"onStop {"exitCode":0,"reason":"exit"}"#,
    ];
    assert_eq!(world.edge.lines(), told);
}

#[test]
#[ignore = "needs the npm package"]
fn an_alarm_goes_on_for_as_long_as_it_runs() {
    let mut world = World::new(Fate::Listens);
    assert_eq!(world.get("/", 1000), ok());
    // Something is asked of it each 5 s, so that it never sleeps.
    let mut without = 0;
    for _ in 0..100 {
        assert_eq!(world.get("/", 1000), ok());
        world.pass(5000);
        without += u32::from(world.alarm.is_none());
    }
    assert_eq!((without, world.starts()), (0, 1));
    assert!(world.alarms < 150, "{}", world.alarms);
}

#[test]
#[ignore = "needs the npm package"]
fn destroy_and_crashes_and_losses_are_told() {
    let mut world = World::new(Fate::Listens);
    assert_eq!(world.get("/", 1000), ok());
    assert_eq!(world.get("/destroy", 1000).1, "destroyed");
    world.pass(2000);
    assert_eq!(world.edge.lines(), ["onStart", r#"onStop {"exitCode":137,"reason":"exit"}"#]);
    assert_eq!(world.get("/", 2000), ok());
    world.ended(Ended::Exited(3));
    world.pass(2000);
    assert_eq!(world.edge.lines()[2..], ["onStart", r#"onStop {"exitCode":3,"reason":"exit"}"#]);
    assert_eq!(world.get("/", 2000), ok());
    world.ended(Ended::Stopped(143));
    world.pass(2000);
    assert_eq!(world.edge.lines()[4..], ["onStart", r#"onStop {"exitCode":143,"reason":"exit"}"#]);
    assert_eq!(world.get("/", 2000), ok());
    world.ended(Ended::Lost("The node is gone.".to_owned()));
    world.pass(2000);
    assert_eq!(world.edge.lines()[6..], ["onStart", "onError The node is gone."]);
}

#[test]
#[ignore = "needs the npm package"]
fn what_cannot_start_is_tried_again_and_told() {
    let mut world = World::new(Fate::Refused(NO_INSTANCE));
    let (status, text) = world.get("/", 12_000);
    assert_eq!((status, world.starts()), (503, 27), "{text}");
    assert_eq!(world.edge.lines(), Vec::<&str>::new());
    let mut world = World::new(Fate::Refused(TOO_FAST));
    let (status, _) = world.get("/", 12_000);
    assert_eq!((status, world.edge.lines()), (429, vec![&format!("onError {TOO_FAST}")[..]]));
    let mut world = World::new(Fate::Crashes(7));
    let (status, text) = world.get("/", 30_000);
    assert_eq!(status, 500, "{text}");
    assert!(!world.running);
}

#[test]
#[ignore = "needs the npm package"]
fn an_object_that_is_opened_beside_its_container_goes_on_with_it() {
    let mut world = World::new(Fate::Listens);
    assert_eq!(world.get("/", 1000), ok());
    let id = world.edge.only().0;
    let why = ScriptError::new("Error", "Durable Object reset because its code was updated.");
    world.edge.running.insert(id);
    world.edge.give(Event::Drop(id, Some(why)));
    world.alarm = None;
    assert_eq!((world.get("/", 1000), world.starts()), (ok(), 1));
    world.pass(1000);
    world.ended(Ended::Exited(5));
    world.pass(2000);
    let stops = world.edge.lines().into_iter().filter(|line| line.starts_with("onStop")).collect::<Vec<_>>();
    assert_eq!(stops, [r#"onStop {"exitCode":5,"reason":"exit"}"#]);
}

#[test]
#[ignore = "needs the npm package"]
fn schedules_run_and_a_class_without_containers_is_told() {
    let mut world = World::new(Fate::Listens);
    assert_eq!(world.get("/later", 1000).1, "planned");
    world.pass(4000);
    assert_eq!(world.edge.lines(), ["later this"]);
    let mut world = World::new(Fate::Listens);
    let (_, text) = world.get("/unknown", 1000);
    assert!(text.starts_with("Containers have not been enabled for this Durable Object class."), "{text}");
}
