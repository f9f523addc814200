//! The gates: what runs when, and what leaves when.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::edge::{Edge, with};
use crate::message::{Effect, Event};

#[test]
fn the_order_is_that_of_the_reference() {
    let mut edge = with(
        "constructor(ctx, env) { super(ctx, env); console.log('constructor'); ctx.blockConcurrencyWhile(async () => { await scheduler.wait(1); console.log('init'); }); }
        async run(name) { console.log(name + 1); await this.ctx.storage.get('k'); console.log(name + 2); await scheduler.wait(1); console.log(name + 3); }",
        "const a = stub.run('a'); const b = env.A.getByName('one').run('b'); await Promise.all([a, b]); return json(1);",
    );
    edge.request("/");
    assert_eq!(edge.lines(), ["constructor"]);
    edge.pass(1);
    edge.pass(1);
    assert_eq!(edge.lines(), ["constructor", "init", "a1", "a2", "b1", "b2", "a3", "b3"]);
}

#[test]
fn a_section_holds_events_and_what_was_begun_outside_it() {
    let mut edge = with(
        "async run(name) { console.log(name); const outside = scheduler.wait(1).then(() => console.log('outside'));
            await this.ctx.blockConcurrencyWhile(async () => { console.log('begun'); await scheduler.wait(2); console.log('inner');
                await this.ctx.blockConcurrencyWhile(async () => { await scheduler.wait(2); console.log('innermost'); }); console.log('ended'); });
            console.log('after'); await outside; }
        async other() { console.log('other'); }",
        "const a = stub.run('a'); const b = stub.other(); await Promise.all([a, b]); return json(1);",
    );
    edge.request("/");
    for _ in 0..6 {
        edge.pass(1);
    }
    assert_eq!(edge.lines(), ["a", "begun", "inner", "innermost", "ended", "after", "other", "outside"]);
}

#[test]
fn a_rejected_section_resets_the_object_although_it_was_caught() {
    let mut edge = with(
        "async run() { try { await this.ctx.blockConcurrencyWhile(async () => { throw new RangeError('inner'); }); } catch {} return 'went on'; } async ok() { return 1; }",
        "const other = caught(() => stub.ok()); return json([await caught(() => stub.run()), await other, await caught(() => stub.ok()), await env.A.getByName('one').ok()]);",
    );
    assert_eq!(edge.get("/"), r#"["RangeError: inner",1,"RangeError: inner",1]"#);
}

#[test]
fn a_section_has_its_time() {
    let mut edge = with(
        "run() { return this.ctx.blockConcurrencyWhile(() => new Promise(() => {})); }",
        "return json(await caught(() => stub.run()));",
    );
    let event = edge.request("/");
    edge.pass(29_999);
    assert!(edge.outcome(event).is_none());
    edge.pass(1);
    assert_eq!(
        edge.outcome(event).unwrap().unwrap(),
        r#""Error: A call to blockConcurrencyWhile() waited for too long. The call was canceled and the Durable Object was reset.""#
    );
}

#[test]
fn nothing_leaves_before_what_was_written_is_durable() {
    let mut edge = with(
        "async run() { fetch('http://x.example/before'); this.ctx.storage.put('k', 1); fetch('http://x.example/after'); return 1; } async read() { return this.ctx.storage.get('k'); }
        async loose() { this.ctx.storage.put('k', 2, { allowUnconfirmed: true }); return 2; }
        async synced() { this.ctx.storage.put('k', 3); await this.ctx.storage.sync(); console.log('synced'); }",
        "return json(url.pathname === '/read' ? await stub.read() : url.pathname === '/loose' ? await stub.loose() : url.pathname === '/sync' ? await stub.synced() : await stub.run());",
    );
    edge.prompt = false;
    let event = edge.request("/");
    let paths = |edge: &Edge| edge.asked().into_iter().map(|(_, url)| url).collect::<Vec<_>>();
    assert_eq!(paths(&edge), ["http://x.example/before"]);
    assert!(edge.outcome(event).is_none());
    // What only reads waits too, since it may tell of what is not durable.
    let read = edge.request("/read");
    assert!(edge.outcome(read).is_none());
    edge.commit();
    assert_eq!(paths(&edge), ["http://x.example/before", "http://x.example/after"]);
    assert_eq!(
        (edge.outcome(event).unwrap().unwrap(), edge.outcome(read).unwrap().unwrap()),
        ("1".to_owned(), "1".to_owned())
    );
    assert_eq!(edge.get("/read"), "1");
    assert_eq!((edge.get("/loose"), edge.commits.len()), ("2".to_owned(), 1));
    edge.commit();
    edge.request("/sync");
    assert!(edge.lines().is_empty());
    edge.commit();
    assert_eq!(edge.lines(), ["synced"]);
}

#[test]
fn a_sync_after_a_write_that_changes_nothing_comes_back() {
    let mut edge = with(
        "alarm() {} async run() { for (let i = 0; i < 2; i++) { this.ctx.storage.setAlarm(5e9); await this.ctx.storage.sync(); } return 'synced'; }",
        "return json(await stub.run());",
    );
    assert_eq!(edge.get("/"), r#""synced""#);
}

#[test]
fn a_failed_commit_breaks_the_object_and_what_it_had_written_is_gone() {
    let mut edge = with(
        "async put(v) { await this.ctx.storage.put('k', v); return 'put'; } get() { return this.ctx.storage.get('k'); }",
        "return json([await caught(() => stub.put(2)), await caught(() => stub.get()), await env.A.getByName('one').get() ?? 'nothing']);",
    );
    edge.prompt = false;
    let event = edge.request("/");
    let (object, sequence, _) = edge.commits.remove(0);
    edge.give(Event::CommitFailed(object, sequence));
    let text = "Error: Internal error in Durable Object storage write caused object to be reset.";
    assert_eq!(edge.outcome(event).unwrap().unwrap(), format!(r#"["{text}","{text}","nothing"]"#));
    assert!(edge.seen.iter().any(|effect| matches!(effect, Effect::Reset(id, _) if *id == object)));
}

#[test]
fn a_transaction_is_committed_whole_when_it_ends() {
    let mut edge = with(
        "run() { return this.ctx.storage.transaction(async (txn) => { await txn.put('a', 1); await scheduler.wait(5); await txn.put('b', 2); }); } other() { return 'other'; }",
        "return json(url.pathname === '/other' ? await stub.other() : await stub.run());",
    );
    edge.prompt = false;
    let event = edge.request("/");
    let other = edge.request("/other");
    assert!(edge.commits.is_empty() && edge.outcome(other).is_none());
    edge.pass(5);
    assert_eq!((edge.commits.len(), edge.commits[0].2.entries.len()), (1, 2));
    assert!(edge.outcome(event).is_none() && edge.outcome(other).is_none());
    edge.commit();
    assert!(edge.outcome(event).is_some() && edge.outcome(other).is_some());
}

/// Carries out lists of steps, and says so when it runs although a section is open that it is not in.
const ACTOR: &str = "open = []; written = '';
    check(token) { if (this.open.at(-1) !== token) console.log('FOREIGN'); }
    need() { return this.written === '' ? 'none' : `need:${this.written}.`; }
    async steps(list, token, long) {
        const left = [];
        for (const [what, arg] of list) {
            this.check(token);
            if (what === 'get') await this.ctx.storage.get('k');
            else if (what === 'put') { await this.ctx.storage.put(arg, arg); this[long ? 'later' : 'written'] = arg; }
            else if (what === 'wait') await scheduler.wait(arg);
            else if (what === 'fetch') await fetch(`http://x.example/${this.need()}`);
            else if (what === 'leave') left.push(fetch(`http://x.example/${this.need()}`));
            else if (what === 'sync') await this.ctx.storage.sync();
            else if (what === 'section') await this.ctx.blockConcurrencyWhile(() => this.inside(arg, long));
            else if (what === 'transaction') { await this.ctx.storage.transaction(() => this.inside(arg, true)); if (!long && this.later) this.written = this.later; }
            this.check(token);
        }
        await Promise.all(left);
        this.check(token);
    }
    async inside(list, long) { const token = {}; this.open.push(token); await this.steps(list, token, long); this.open.pop(); }
    async run(list) { await this.steps(list, undefined, false); return this.need(); }";

/// A list of steps, as JSON; each key is written once.
fn steps() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("[\"get\"]".to_owned()),
        Just("[\"put\",\"KEY\"]".to_owned()),
        (0..4_u8).prop_map(|ms| format!("[\"wait\",{ms}]")),
        Just("[\"fetch\"]".to_owned()),
        Just("[\"leave\"]".to_owned()),
        Just("[\"sync\"]".to_owned()),
    ];
    let step = leaf.prop_recursive(3, 24, 4, |inner| {
        (any::<bool>(), proptest::collection::vec(inner, 0..4)).prop_map(|(section, list)| {
            let what = if section { "section" } else { "transaction" };
            format!("[\"{what}\",[{}]]", list.join(","))
        })
    });
    proptest::collection::vec(step, 1..6).prop_map(|list| format!("[{}]", list.join(",")))
}

/// What the world does next.
#[derive(Debug, Clone)]
enum World {
    Call(String),
    Commit,
    Answer(prop::sample::Index),
    Pass,
}

fn world() -> impl Strategy<Value = World> {
    prop_oneof![
        3 => steps().prop_map(World::Call),
        2 => Just(World::Commit),
        2 => any::<prop::sample::Index>().prop_map(World::Answer),
        2 => Just(World::Pass),
    ]
}

struct Model {
    edge: Edge,
    keys: u32,
    calls: Vec<crate::message::EventId>,
    answered: BTreeSet<crate::message::OpId>,
}

impl Model {
    fn new() -> Self {
        let handler = "return new Response(await stub.run(JSON.parse(url.searchParams.get('list'))));";
        let mut edge = with(ACTOR, handler);
        edge.prompt = false;
        Self { edge, keys: 0, calls: Vec::new(), answered: BTreeSet::new() }
    }

    fn open(&self) -> Vec<crate::message::OpId> {
        let asked = self.edge.asked().into_iter().map(|(op, _)| op);
        asked.filter(|op| !self.answered.contains(op)).collect()
    }

    fn answer(&mut self, op: crate::message::OpId) {
        self.answered.insert(op);
        self.edge.answer(op, "");
    }

    fn go(&mut self, world: World) {
        match world {
            World::Call(mut list) => {
                while list.contains("KEY") {
                    self.keys += 1;
                    list = list.replacen("KEY", &format!("k{}", self.keys), 1);
                }
                let event = self.edge.request(&format!("/?list={list}"));
                self.calls.push(event);
            }
            World::Commit if !self.edge.commits.is_empty() => self.edge.commit(),
            World::Commit => {}
            World::Answer(index) => {
                let open = self.open();
                if !open.is_empty() {
                    self.answer(open[index.index(open.len())]);
                }
            }
            World::Pass => self.edge.pass(1),
        }
    }

    /// Lets all come to its end.
    fn finish(&mut self) {
        for _ in 0..2000 {
            while !self.edge.commits.is_empty() {
                self.edge.commit();
            }
            for op in self.open() {
                self.answer(op);
            }
            if self.calls.iter().all(|call| self.edge.outcome(*call).is_some()) {
                return;
            }
            self.edge.pass(1);
        }
        panic!("calls hang: {:?}", self.calls);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// No event runs in a foreign critical section, nothing leaves before the commit of what was written before it (of a transaction:
    /// once it has ended), nothing hangs,
    /// and all that was written is kept.
    #[test]
    fn gates_hold_whatever_happens(worlds in proptest::collection::vec(world(), 1..40)) {
        let mut model = Model::new();
        worlds.into_iter().for_each(|world| model.go(world));
        model.finish();
        for call in &model.calls {
            let outcome = model.edge.outcome(*call).unwrap();
            prop_assert!(outcome.is_ok(), "{outcome:?}");
        }
        prop_assert_eq!(model.edge.lines(), Vec::<&str>::new());
        let kept = model.edge.store.values().map(|stored| stored.entries.len()).sum::<usize>();
        prop_assert_eq!(kept, model.keys as usize);
    }
}
