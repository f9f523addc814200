//! One test file in a context of its own: an isolate with a clock that goes on when nothing else does, and a host that answers what is
//! fetched with files of the checkout.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use berth_script::isolate::{Host, Isolate};
use berth_script::message::{
    BODY_WINDOW, BodyRef, Condemned, Effect, Event, EventId, HostBody, Limits, Load, Module, OpId, Piece,
    Request, Response, ScriptError, Target,
};
use nix::time::{ClockId, clock_gettime};
use rquickjs::context::EvalOptions;
use rquickjs::{Ctx, Function, Object, Result as JsResult, Value};
use serde_bytes::ByteBuf;

use crate::files::{self, Case};

/// How long a file's tests may wait, in milliseconds of their own clock, which passes at once when nothing is to be done: as long as
/// the tests' own runner gives those that are called long.
const BOUND_MS: u32 = 60_000;

/// The CPU time that a file may use, in milliseconds.
const CPU_MS: u32 = 60_000;

/// The stack of the thread, in bytes: as script processes have it, and room for natives that are not optimised.
const STACK_BYTES: usize = 16 << 20;

/// Bytes of a body in one piece.
const PIECE_BYTES: usize = 64 << 10;

/// Where the tests are, as they see it.
const SITE: &str = "http://web-platform.test:8000/";

/// What came of one test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Passed,
    Failed,
    TimedOut,
    /// It asks for something that is optional and not there.
    NotMeant,
}

/// One test of a file.
#[derive(Debug)]
pub(crate) struct Subtest {
    pub(crate) name: String,
    pub(crate) status: Status,
    pub(crate) message: String,
}

/// What came of a file.
#[derive(Default)]
pub(crate) struct Ran {
    pub(crate) subtests: Vec<Subtest>,
    /// What it logged.
    pub(crate) lines: Vec<String>,
}

/// What the driver's functions share with the runner: the engine gives them nothing to keep it in.
struct Shared {
    case: Case,
    ran: Ran,
    finished: bool,
}

thread_local! {
    static SHARED: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

fn shared<T>(look: impl FnOnce(&mut Shared) -> T) -> T {
    SHARED.with_borrow_mut(|shared| look(shared.as_mut().expect("a file that runs")))
}

/// Runs a file, on a thread with the stack that it needs.
pub(crate) fn run(dir: &Path, case: Case) -> Ran {
    let dir = dir.to_owned();
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    thread.spawn(move || run_here(dir, case)).expect("a thread").join().expect("a runner that does not panic")
}

fn run_here(dir: PathBuf, case: Case) -> Ran {
    SHARED.set(Some(Shared { case, ran: Ran::default(), finished: false }));
    let clock = Rc::new(Clock::default());
    let (isolate, effects) = Isolate::load(load(), Rc::<Clock>::clone(&clock), web);
    let isolate = isolate.unwrap_or_else(|| panic!("the driver does not load: {effects:?}"));
    let mut bench = Bench { isolate, clock, dir, feeds: HashMap::new(), last: 0 };
    bench.drive();
    bench.isolate.end();
    SHARED.take().expect("what came of it").ran
}

/// The driver as an app.
fn load() -> Load {
    Load {
        modules: vec![Module { name: "driver.js".to_owned(), source: include_str!("driver.js").to_owned() }],
        resolutions: Vec::new(),
        entry: "driver.js".to_owned(),
        env: Vec::new(),
        compatibility_date: "2026-08-01".to_owned(),
        flags: Vec::new(),
        objects: Vec::new(),
        limits: Limits { cpu_ms: CPU_MS, startup_ms: CPU_MS, ..Limits::default() },
    }
}

/// The web classes, and the driver's functions beside them.
fn web<'js>(ctx: &Ctx<'js>, host: Object<'js>) -> JsResult<Object<'js>> {
    let table = berth_script::web::load(ctx, host)?;
    let own = Object::new(ctx.clone())?;
    let (path, scripts) = shared(|shared| (shared.case.path.clone(), shared.case.scripts.len()));
    own.set("href", format!("{SITE}{path}"))?;
    own.set("crash", path.contains("/crashtests/"))?;
    own.set("scripts", scripts)?;
    own.set("boundMs", BOUND_MS)?;
    own.set("run", Function::new(ctx.clone(), run_script)?)?;
    own.set("report", Function::new(ctx.clone(), report)?)?;
    own.set("finish", Function::new(ctx.clone(), || shared(|shared| shared.finished = true))?)?;
    own.set("collect", Function::new(ctx.clone(), |ctx: Ctx<'js>| ctx.run_gc())?)?;
    ctx.globals().set("__wpt", own)?;
    Ok(table)
}

/// Runs a script as pages do, not as a module.
fn run_script<'js>(ctx: Ctx<'js>, index: usize) -> JsResult<()> {
    let (name, text) = shared(|shared| shared.case.scripts[index].clone());
    let mut options = EvalOptions::default();
    options.strict = false;
    options.filename = Some(name);
    ctx.eval_with_options::<Value<'js>, _>(text, options).map(drop)
}

fn report(name: String, status: u32, message: String) {
    let status = match status {
        0 => Status::Passed,
        2 | 3 => Status::TimedOut,
        4 => Status::NotMeant,
        _ => Status::Failed,
    };
    shared(|shared| shared.ran.subtests.push(Subtest { name, status, message }));
}

/// A body of the host that is on its way.
struct Feed {
    bytes: Vec<u8>,
    sent: usize,
    credit: usize,
}

struct Bench {
    isolate: Isolate,
    clock: Rc<Clock>,
    dir: PathBuf,
    feeds: HashMap<HostBody, Feed>,
    last: u64,
}

impl Bench {
    fn drive(&mut self) {
        let request = Request {
            method: "GET".to_owned(),
            url: SITE.to_owned(),
            headers: Vec::new(),
            body: BodyRef::None,
        };
        let request = Box::new(request);
        self.give(Event::Fetch { event: EventId(1), target: Target::Worker, request });
        while !shared(|shared| shared.finished) && self.isolate.condemned().is_none() {
            let Some(due_us) = self.isolate.next_due_us() else { break };
            self.clock.us.set(self.clock.us.get().max(due_us));
            self.isolate.run_due();
            self.follow();
        }
        if !shared(|shared| shared.finished) {
            report("(file)".to_owned(), 1, "it did not come to its end".to_owned());
        }
    }

    fn give(&mut self, event: Event) {
        self.isolate.deliver(event);
        self.follow();
    }

    /// Does what the script asks for, until it asks for nothing.
    fn follow(&mut self) {
        loop {
            let effects = self.isolate.take_effects();
            if effects.is_empty() {
                return;
            }
            effects.into_iter().for_each(|effect| self.carry_out(effect));
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Fetch { op, request, .. } => self.answer(op, &request),
            Effect::Credit(body, bytes) => self.credit(body, bytes),
            Effect::Cancelled(body) => drop(self.feeds.remove(&body)),
            Effect::Log { text, .. } => shared(|shared| shared.ran.lines.push(text)),
            Effect::Failed(_, error) => report("(file)".to_owned(), 1, error.to_string()),
            Effect::Condemned(why) => report("(file)".to_owned(), 1, format!("the isolate is lost: {why:?}")),
            _ => {}
        }
    }

    /// Answers with a file of the checkout; what only a server can answer fails.
    fn answer(&mut self, op: OpId, request: &Request) {
        let path = request.url.strip_prefix(SITE).and_then(|path| path.split('?').next()).unwrap_or_default();
        let outcome = match files::bytes(&self.dir, path) {
            Ok(bytes) if !path.ends_with(".py") && request.method == "GET" => Ok(self.file(path, bytes)),
            _ => Err(ScriptError::new("Error", "There is no server that could answer this.")),
        };
        self.give(Event::Completed { op, outcome });
    }

    fn file(&mut self, path: &str, bytes: Vec<u8>) -> Response {
        let body = if bytes.len() <= PIECE_BYTES {
            BodyRef::Bytes(ByteBuf::from(bytes))
        } else {
            self.last += 1;
            self.feeds.insert(HostBody(self.last), Feed { bytes, sent: 0, credit: 0 });
            BodyRef::Host(HostBody(self.last))
        };
        let headers = vec![("content-type".to_owned(), media_type(path).to_owned())];
        Response { status: 200, status_text: "OK".to_owned(), headers, body }
    }

    fn credit(&mut self, body: HostBody, bytes: u32) {
        let Some(feed) = self.feeds.get_mut(&body) else { return };
        feed.credit += usize::try_from(bytes.min(BODY_WINDOW)).expect("32 bits");
        while let Some(piece) = self.feeds.get_mut(&body).and_then(Feed::next) {
            if piece == Piece::End {
                self.feeds.remove(&body);
            }
            self.give(Event::Body(body, piece));
        }
    }
}

impl Feed {
    /// What may be sent now.
    fn next(&mut self) -> Option<Piece> {
        let rest = self.bytes.len() - self.sent;
        if rest == 0 {
            return Some(Piece::End);
        }
        let bytes = rest.min(self.credit).min(PIECE_BYTES);
        let piece = &self.bytes[self.sent..self.sent + bytes];
        self.sent += bytes;
        self.credit -= bytes;
        (bytes > 0).then(|| Piece::Data(ByteBuf::from(piece)))
    }
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("json") => "application/json",
        Some("html") => "text/html",
        Some("js") => "text/javascript",
        Some("png") => "image/png",
        _ => "text/plain",
    }
}

/// A clock that is moved to when something is due.
#[derive(Default)]
struct Clock {
    us: Cell<u64>,
    random: Cell<u64>,
}

impl Host for Clock {
    fn now_ms(&self) -> f64 {
        1.8e12 + std::time::Duration::from_micros(self.us.get()).as_secs_f64() * 1000.0
    }

    fn monotonic_us(&self) -> u64 {
        self.us.get()
    }

    fn cpu_us(&self) -> u64 {
        let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock of the thread");
        u64::try_from(time.tv_sec() * 1_000_000 + time.tv_nsec() / 1000).expect("a time after the start")
    }

    /// Different each time, and the same in each run.
    fn random(&self, bytes: &mut [u8]) {
        for byte in bytes {
            self.random.set(self.random.get().wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1));
            *byte = self.random.get().to_be_bytes()[0];
        }
    }

    fn calculating(&self) {}

    fn hopeless(&self, why: Option<Condemned>) -> ! {
        eprintln!("{} cannot be stopped: {why:?}", shared(|shared| shared.case.path.clone()));
        std::process::exit(2)
    }
}
