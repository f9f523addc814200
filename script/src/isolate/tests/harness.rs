//! An isolate over a clock that tests move, with the least of web classes.

use std::cell::Cell;
use std::rc::Rc;

use nix::time::{ClockId, clock_gettime};
use serde_bytes::ByteBuf;

use crate::isolate::{Host, Isolate};
use crate::message::{
    BodyRef, Condemned, Effect, Event, EventId, Limits, Load, LoadFailed, Module, Request, Resolution,
    Response, Target,
};

/// Time that only tests move, but for CPU time, and no chance.
#[derive(Default)]
pub(super) struct Clock {
    pub(super) us: Cell<u64>,
}

impl Host for Clock {
    fn now_ms(&self) -> f64 {
        1_000_000.0 + self.perf_ms()
    }

    fn monotonic_us(&self) -> u64 {
        self.us.get()
    }

    fn cpu_us(&self) -> u64 {
        let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
        u64::try_from(time.tv_sec() * 1_000_000 + time.tv_nsec() / 1000).unwrap()
    }

    fn random(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }

    fn calculating(&self) {}

    fn hopeless(&self, why: Option<Condemned>) -> ! {
        panic!("hopeless: {why:?}")
    }
}

impl Clock {
    fn perf_ms(&self) -> f64 {
        crate::isolate::convert::number(self.us.get()) / 1000.0
    }
}

/// The code of one module, or of several with the first as entry; each imports the others as `./name`.
pub(super) fn code(modules: &[(&str, &str)]) -> Load {
    let importers = modules.iter().map(|(name, _)| *name);
    let pairs = importers.flat_map(|importer| modules.iter().map(move |(name, _)| (importer, *name)));
    Load {
        resolutions: pairs
            .map(|(importer, name)| Resolution {
                importer: importer.to_owned(),
                specifier: format!("./{name}"),
                module: name.to_owned(),
            })
            .collect(),
        modules: modules
            .iter()
            .map(|(name, source)| Module { name: (*name).to_owned(), source: (*source).to_owned() })
            .collect(),
        entry: modules[0].0.to_owned(),
        env: Vec::new(),
        compatibility_date: "2026-01-31".to_owned(),
        flags: Vec::new(),
        objects: Vec::new(),
        limits: Limits { cpu_ms: 300, ..Limits::default() },
    }
}

pub(super) struct Bench {
    pub(super) isolate: Isolate,
    pub(super) clock: Rc<Clock>,
    last: u64,
}

/// Why it does not load, and what it said before.
type Refused = Box<(LoadFailed, Vec<Effect>)>;

pub(super) fn load(load: Load) -> Result<(Bench, Vec<Effect>), Refused> {
    let clock = Rc::new(Clock::default());
    let (isolate, mut effects) = Isolate::load(load, clock.clone(), super::plain::load);
    match (isolate, effects.pop()) {
        (Some(isolate), Some(last @ Effect::Loaded(_))) => {
            effects.push(last);
            Ok((Bench { isolate, clock, last: 0 }, effects))
        }
        (None, Some(Effect::LoadFailed(failed))) => Err(Box::new((failed, effects))),
        (_, other) => panic!("{other:?}"),
    }
}

/// An isolate with this as its only module.
pub(super) fn running(source: &str) -> Bench {
    load(code(&[("index.js", source)])).map_err(|failed| format!("{failed:?}")).unwrap().0
}

/// The same over the web classes.
pub(super) fn with_web(source: &str) -> Bench {
    let clock = Rc::new(Clock::default());
    let (isolate, _) = Isolate::load(code(&[("index.js", source)]), clock.clone(), crate::web::load);
    Bench { isolate: isolate.expect("it loads"), clock, last: 0 }
}

pub(super) fn refused(source: &str) -> LoadFailed {
    load(code(&[("index.js", source)])).err().expect("it does not load").0
}

impl Bench {
    pub(super) fn give(&mut self, event: Event) -> Vec<Effect> {
        self.isolate.deliver(event);
        self.isolate.take_effects()
    }

    pub(super) fn request(&mut self, url: &str, body: BodyRef) -> (EventId, Vec<Effect>) {
        self.last += 1;
        let event = EventId(self.last);
        let request = Request { method: "GET".to_owned(), url: url.to_owned(), headers: Vec::new(), body };
        let effects = self.give(Event::Fetch { event, target: Target::Worker, request: Box::new(request) });
        (event, effects)
    }

    pub(super) fn get(&mut self, url: &str) -> Vec<Effect> {
        self.request(url, BodyRef::None).1
    }

    /// Lets time go by, and timers run.
    pub(super) fn pass(&mut self, ms: u64) -> Vec<Effect> {
        self.clock.us.set(self.clock.us.get() + ms * 1000);
        self.isolate.run_due();
        self.isolate.take_effects()
    }
}

/// Status and body of the response among these effects.
pub(super) fn answer(effects: &[Effect]) -> (u16, String) {
    let response = effects.iter().find_map(|effect| match effect {
        Effect::Responded(_, response) => Some(response),
        _ => None,
    });
    let response = response.unwrap_or_else(|| panic!("no response in {effects:?}"));
    let body = match &response.body {
        BodyRef::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    };
    (response.status, body)
}

/// The error of the call that failed among these effects.
pub(super) fn failure(effects: &[Effect]) -> String {
    let failed = effects.iter().find_map(|effect| match effect {
        Effect::Failed(_, error) => Some(error.to_string()),
        _ => None,
    });
    failed.unwrap_or_else(|| panic!("no failure in {effects:?}"))
}

pub(super) fn lines(effects: &[Effect]) -> Vec<&str> {
    let lines = effects.iter().filter_map(|effect| match effect {
        Effect::Log { text, .. } => Some(text.as_str()),
        _ => None,
    });
    lines.collect()
}

pub(super) fn is_done(effects: &[Effect], event: EventId) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Done { event: done, .. } if *done == event))
}

pub(super) fn text_body(text: &str) -> BodyRef {
    BodyRef::Bytes(ByteBuf::from(text.as_bytes()))
}

pub(super) fn ok(body: BodyRef) -> Response {
    Response { status: 200, status_text: String::new(), headers: Vec::new(), body }
}
