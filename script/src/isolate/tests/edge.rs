//! An edge that keeps objects in memory, does what it is told at once or when a test says so, and remembers all it was told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::harness::{Clock, code};
use crate::isolate::Isolate;
use crate::message::{
    BodyRef, Changes, Effect, Event, EventId, Limits, Object, ObjectClass, ObjectId, OpId, Opened, Request,
    Response, ScriptError, Target, Variable,
};

/// What is stored of an object.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) entries: BTreeMap<String, Vec<u8>>,
    pub(super) pages: BTreeMap<u32, Vec<u8>>,
    pub(super) alarm: Option<u64>,
}

impl Stored {
    fn apply(&mut self, changes: Changes) {
        if changes.clear {
            self.entries.clear();
        }
        for (key, value) in changes.entries {
            match value {
                Some(value) => drop(self.entries.insert(key, value.into_vec())),
                None => drop(self.entries.remove(&key)),
            }
        }
        self.pages.extend(changes.pages.into_iter().map(|(at, page)| (at, page.into_vec())));
        if let Some(count) = changes.page_count {
            self.pages.retain(|at, _| *at < count);
        }
        if let Some(alarm) = changes.alarm {
            self.alarm = alarm;
        }
    }

    fn whole(&self) -> Changes {
        let bytes = |bytes: &Vec<u8>| serde_bytes::ByteBuf::from(bytes.as_slice());
        Changes {
            entries: self.entries.iter().map(|(key, value)| (key.clone(), Some(bytes(value)))).collect(),
            pages: self.pages.iter().map(|(at, page)| (*at, bytes(page))).collect(),
            page_count: u32::try_from(self.pages.len()).ok(),
            alarm: Some(self.alarm),
            ..Changes::default()
        }
    }
}

pub(super) struct Edge {
    pub(super) isolate: Isolate,
    pub(super) clock: Rc<Clock>,
    last: u64,
    pub(super) store: BTreeMap<ObjectId, Stored>,
    /// Commits that are not durable yet, whole.
    pub(super) commits: Vec<(ObjectId, u64, Changes)>,
    parts: HashMap<ObjectId, Vec<u8>>,
    /// Whether commits are durable at once.
    pub(super) prompt: bool,
    /// Objects whose containers run when they are opened.
    pub(super) running: BTreeSet<ObjectId>,
    /// Objects that are elsewhere.
    pub(super) elsewhere: bool,
    pub(super) objects: BTreeMap<ObjectId, Object>,
    /// All else that it was told.
    pub(super) seen: Vec<Effect>,
}

/// The modules of an app with the namespaces `A` and `B` of its classes of these names.
pub(super) fn app(source: &str) -> crate::message::Load {
    let mut load = code(&[("index.js", source)]);
    load.compatibility_date = "2026-08-01".to_owned();
    load.limits = Limits { cpu_ms: 2000, ..Limits::default() };
    for (name, key) in [("A", 1), ("B", 2)] {
        load.env.push((name.to_owned(), Variable::Objects(name.to_owned())));
        load.objects.push(ObjectClass { name: name.to_owned(), key: [key; 32], container: false });
    }
    load
}

/// A class `A` with these members, a worker with this handler, and helpers.
pub(super) fn with(members: &str, handler: &str) -> Edge {
    Edge::of(app(&source(members, handler)))
}

/// The same; each object of `A` has a container.
pub(super) fn contained(members: &str, handler: &str) -> Edge {
    let mut load = app(&source(members, handler));
    load.objects[0].container = true;
    Edge::of(load)
}

fn source(members: &str, handler: &str) -> String {
    format!(
        "import {{ DurableObject }} from 'cloudflare:workers';
        export class A extends DurableObject {{ {members} }}
        export class B extends DurableObject {{ async ping() {{ return 'pong'; }} }}
        const caught = async (run) => {{ try {{ return await run(); }} catch (error) {{ return String(error); }} }};
        export default {{ async fetch(request, env, ctx) {{
            const url = new URL(request.url);
            const stub = env.A.getByName(url.searchParams.get('id') ?? 'one');
            const json = (value) => Response.json(value === undefined ? null : value);
            {handler}
        }} }}"
    )
}

/// The key that must be durable before this may leave, as tests write it: `need:KEY.`.
fn needed(effect: &Effect) -> Option<String> {
    let text = match effect {
        Effect::Fetch { request, .. } => request.url.clone(),
        Effect::Responded(_, response) => match &response.body {
            BodyRef::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => return None,
        },
        _ => return None,
    };
    let (_, rest) = text.split_once("need:")?;
    rest.split_once('.').map(|(key, _)| key.to_owned())
}

impl Edge {
    pub(super) fn of(load: crate::message::Load) -> Self {
        let clock = Rc::new(Clock::default());
        let (isolate, effects) = Isolate::load(load, clock.clone(), crate::web::load);
        let isolate = isolate.unwrap_or_else(|| panic!("{effects:?}"));
        Self {
            isolate,
            clock,
            last: 0,
            store: BTreeMap::new(),
            commits: Vec::new(),
            parts: HashMap::new(),
            prompt: true,
            elsewhere: false,
            running: BTreeSet::new(),
            objects: BTreeMap::new(),
            seen: Vec::new(),
        }
    }

    pub(super) fn id(&mut self) -> EventId {
        self.last += 1;
        EventId(self.last)
    }

    pub(super) fn give(&mut self, event: Event) {
        self.isolate.deliver(event);
        self.absorb();
    }

    /// Does what the isolate says, until it says nothing more.
    fn absorb(&mut self) {
        for _ in 0..100_000 {
            let effects = self.isolate.take_effects();
            if effects.is_empty() {
                if self.isolate.next_due_us() != Some(0) {
                    return;
                }
                self.isolate.run_due();
                continue;
            }
            effects.into_iter().for_each(|effect| self.take(effect));
        }
        panic!("it does not come to rest");
    }

    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Open(object) => self.open(*object),
            Effect::Commit { object, sequence, piece, last } => {
                let part = self.parts.entry(object).or_default();
                part.extend_from_slice(&piece);
                if last {
                    let changes = Changes::from_bytes(&self.parts.remove(&object).unwrap()).unwrap();
                    self.commits.push((object, sequence, changes));
                    if self.prompt {
                        self.commit();
                    }
                }
            }
            other => {
                if let Some(key) = needed(&other) {
                    let durable = self.store.values().any(|stored| stored.entries.contains_key(&key));
                    assert!(durable, "{key} was not durable when {other:?} left");
                }
                self.seen.push(other);
            }
        }
    }

    fn open(&mut self, object: Object) {
        let id = object.id;
        self.objects.insert(id, object);
        if self.elsewhere {
            return self.isolate.deliver(Event::Opened(id, Opened::Elsewhere));
        }
        let bytes = self.store.entry(id).or_default().whole().to_bytes().unwrap();
        let life = self.id();
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        self.isolate.deliver(Event::Opened(id, Opened::Part(serde_bytes::ByteBuf::from(first))));
        let rest = serde_bytes::ByteBuf::from(rest);
        self.isolate
            .deliver(Event::Opened(id, Opened::Whole { life, rest, running: self.running.contains(&id) }));
    }

    /// Makes the oldest commit durable, and tells of it.
    pub(super) fn commit(&mut self) {
        let (object, sequence, changes) = self.commits.remove(0);
        self.store.entry(object).or_default().apply(changes);
        self.isolate.deliver(Event::Committed(object, sequence));
        if !self.prompt {
            self.absorb();
        }
    }

    pub(super) fn request_with(&mut self, url: &str, headers: &[(&str, &str)]) -> EventId {
        let event = self.id();
        let url = format!("http://a.example{url}");
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let request = Request { method: "GET".to_owned(), url, headers, body: BodyRef::None };
        self.give(Event::Fetch { event, target: Target::Worker, request: Box::new(request) });
        event
    }

    pub(super) fn request(&mut self, url: &str) -> EventId {
        let event = self.id();
        let url = format!("http://a.example{url}");
        let request = Request { method: "GET".to_owned(), url, headers: Vec::new(), body: BodyRef::None };
        self.give(Event::Fetch { event, target: Target::Worker, request: Box::new(request) });
        event
    }

    /// What a call has come to, if it has: the body of its answer, or its error.
    pub(super) fn outcome(&self, of: EventId) -> Option<Result<String, ScriptError>> {
        self.seen.iter().find_map(|effect| match effect {
            Effect::Responded(event, response) if *event == of => match &response.body {
                BodyRef::Bytes(bytes) => Some(Ok(String::from_utf8_lossy(bytes).into_owned())),
                BodyRef::None => Some(Ok(String::new())),
                other => Some(Ok(format!("{other:?}"))),
            },
            Effect::Failed(event, error) if *event == of => Some(Err(error.clone())),
            _ => None,
        })
    }

    /// The body of the answer to this request.
    pub(super) fn get(&mut self, url: &str) -> String {
        let event = self.request(url);
        let outcome = self.outcome(event);
        outcome
            .unwrap_or_else(|| panic!("no answer: {:?}", self.seen))
            .unwrap_or_else(|error| error.to_string())
    }

    pub(super) fn lines(&self) -> Vec<&str> {
        super::harness::lines(&self.seen)
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.clock.us.set(self.clock.us.get() + ms * 1000);
        self.isolate.run_due();
        self.absorb();
    }

    /// The only object that is kept.
    pub(super) fn only(&self) -> (ObjectId, &Stored) {
        assert_eq!(self.store.len(), 1);
        let (id, stored) = self.store.iter().next().unwrap();
        (*id, stored)
    }

    /// Has the alarm of the only object called, as many times as it has failed before.
    pub(super) fn alarm(&mut self, retry: u32) -> EventId {
        let (id, stored) = self.only();
        let scheduled_ms = stored.alarm.expect("an alarm");
        let event = self.id();
        let object = Box::new(self.objects[&id].clone());
        self.give(Event::Alarm { event, object, scheduled_ms, retry });
        event
    }

    /// The requests that wait for an answer, by the path of their URL.
    pub(super) fn asked(&self) -> Vec<(OpId, String)> {
        let asked = self.seen.iter().filter_map(|effect| match effect {
            Effect::Fetch { op, request, .. } => Some((*op, request.url.clone())),
            _ => None,
        });
        asked.collect()
    }

    pub(super) fn answer(&mut self, op: OpId, text: &str) {
        let body = BodyRef::Bytes(serde_bytes::ByteBuf::from(text.as_bytes()));
        let response = Response { status: 200, status_text: String::new(), headers: Vec::new(), body };
        self.give(Event::Completed { op, outcome: Ok(response) });
    }
}
