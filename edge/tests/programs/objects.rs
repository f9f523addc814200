//! Durable Objects of programs: what they keep is there after every end of their process or of the edge, their alarms come, and they
//! reach each other wherever they are.

use std::collections::BTreeSet;

use berth_common::ids::ScheduleId;
use berth_common::spec::AppSpec;
use berth_store::{Schedules, SledStore, StateChange, States, Write};
use futures_util::future::join_all;
use http::StatusCode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{REACHED, Setup, programmed, set_up};
use crate::support::{client, soon};

/// Counts in keys and in SQL, calls others, and is called by alarms.
const SOURCE: &str = r#"
import { DurableObject } from 'cloudflare:workers';
export class Counter extends DurableObject {
    constructor(ctx, env) { super(ctx, env); this.since = 0; ctx.storage.sql.exec('CREATE TABLE IF NOT EXISTS t (n INTEGER)'); }
    async add() {
        const count = ((await this.ctx.storage.get('count')) ?? 0) + 1;
        await this.ctx.storage.put('count', count);
        this.ctx.storage.sql.exec('INSERT INTO t VALUES (?)', count);
        this.since += 1;
        return count;
    }
    async look() {
        const rows = this.ctx.storage.sql.exec('SELECT count(*) AS rows, max(n) AS most FROM t').one();
        return [(await this.ctx.storage.get('count')) ?? 0, rows.rows, rows.most ?? 0];
    }
    async who() { return [this.ctx.id.name ?? null, this.since]; }
    async both(other) {
        const stub = this.env.COUNTERS.getByName(other);
        const answer = await stub.fetch('http://other/echo', { method: 'POST', body: 'x'.repeat(200000) });
        return [await stub.add(), (await answer.text()).length, answer.headers.get('x-name')];
    }
    async fetch(request) {
        return new Response(request.body, { headers: { 'x-name': this.ctx.id.name } });
    }
    /** Writes more at once than a commit takes, again and again. */
    async fill(times) {
        for (let time = 0; time < times; time += 1) {
            for (let n = 0; n < 9; n += 1) this.ctx.storage.put(`v${n}`, 'x'.repeat(2000000));
            await new Promise((resolve) => setTimeout(resolve, 1));
        }
    }
    /** Writes in turn after turn, and fails. */
    async breaks() {
        const { storage } = this.ctx;
        storage.put('before', 1);
        await this.ctx.blockConcurrencyWhile(async () => {
            for (let n = 1; n <= 20; n += 1) {
                storage.put('within', n);
                await new Promise((resolve) => setTimeout(resolve, 1));
            }
            storage.put('last', 1);
            throw new Error('broken');
        });
    }
    async kept() { return [...await this.ctx.storage.list()]; }
    /** Writes as many small values at once. */
    async sprinkle(count) {
        for (let n = 0; n < count; n += 1) this.ctx.storage.put(`s${n}`, n);
        await this.ctx.storage.sync();
    }
    async arm(ms, fails) { await this.ctx.storage.put({ fails, seen: [] }); await this.ctx.storage.setAlarm(Date.now() + ms); }
    async seen() { return [await this.ctx.storage.get('seen'), await this.ctx.storage.getAlarm()]; }
    async alarm({ isRetry, retryCount }) {
        const [fails, seen] = [await this.ctx.storage.get('fails'), await this.ctx.storage.get('seen')];
        console.log('alarm', this.ctx.id.name, retryCount);
        if (retryCount < fails) throw new Error(`fails ${retryCount}`);
        if (fails < 0) await new Promise((resolve) => setTimeout(resolve, 600000));
        await this.ctx.storage.put('seen', [...seen, retryCount]);
    }
}
export default { async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    const [, id, method, ...args] = pathname.split('/');
    try {
        const value = await env.COUNTERS.getByName(id)[method](...args.map((arg) => /^-?\d+$/.test(arg) ? Number(arg) : arg));
        return Response.json(value ?? null);
    } catch (error) { return new Response(`${error}`, { status: 599 }); }
} };"#;

fn counters(source: &str) -> AppSpec {
    let more = json!({
        "classes": ["Counter"], "object_classes": {"Counter": "Counter"}, "durable_objects": {"COUNTERS": "Counter"},
    });
    let mut app = programmed("a", &[("index.js", source)], more);
    let builtin = json!({ "builtin": "cloudflare:workers" });
    let entry = &mut app.program.as_mut().unwrap().modules[0];
    entry.imports.insert("cloudflare:workers".to_owned(), serde_json::from_value(builtin).unwrap());
    app
}

async fn deploy(setup: &Setup, source: &str) {
    setup.send(&[("index.js", source)]).await;
    let (status, answer) = setup.put(&counters(source)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

async fn get(setup: &Setup, path: &str) -> String {
    let (status, text) = setup.ask("a", path).await;
    assert_eq!(status, StatusCode::OK, "{path}: {text}");
    text
}

/// Asks until there is an answer: a process that keeps being killed is not started again at once.
async fn get_soon(setup: &Setup, path: &str) -> String {
    let asks = async {
        loop {
            let (status, text) = setup.ask("a", path).await;
            if status == StatusCode::OK {
                return text;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    soon(path, asks).await
}

#[tokio::test]
async fn objects_keep_what_they_are_told_apart_from_each_other_and_over_restarts() {
    let mut setup = set_up().await;
    deploy(&setup, SOURCE).await;
    for expected in 1..=3 {
        assert_eq!(get(&setup, "/one/add").await, expected.to_string());
    }
    assert_eq!(get(&setup, "/two/add").await, "1");
    // Names whose objects are on both threads, so that calls go over the edge from wherever they come.
    let names: Vec<String> = (0..8).map(|n| format!("n{n}")).collect();
    let asked = &setup;
    let called =
        join_all(names.iter().map(|name| async move { get(asked, &format!("/{name}/both/one")).await }));
    let counts: BTreeSet<String> = called.await.into_iter().collect();
    let expected = (4..12).map(|n| format!("[{n},200000,\"one\"]")).collect();
    assert_eq!(counts, expected);
    assert_eq!(get(&setup, "/one/look").await, "[11,11,11]");
    assert_eq!(get(&setup, "/two/who").await, "[\"two\",1]");

    setup.edge.terminate().await;
    setup.edge = setup.site.start_with(&REACHED).await;
    assert_eq!(get(&setup, "/one/look").await, "[11,11,11]");
    assert_eq!(get(&setup, "/two/who").await, "[\"two\",0]");
    // A new version has the objects of the one before.
    deploy(&setup, &SOURCE.replace("this.since = 0", "this.since = 100")).await;
    assert_eq!(get_soon(&setup, "/two/who").await, "[\"two\",100]");
    assert_eq!(get(&setup, "/two/add").await, "2");
}

#[tokio::test]
async fn nothing_that_was_answered_is_lost_whatever_is_killed() {
    let mut setup = set_up().await;
    deploy(&setup, SOURCE).await;
    let mut answered = 0_u64;
    for round in 0..6 {
        let before: u64 = get_soon(&setup, "/one/add").await.parse().unwrap();
        assert!(before > answered, "round {round}: {before} after {answered}");
        let adds = join_all((0..40).map(|_| async {
            let (status, text) = setup.ask("a", "/one/add").await;
            if status == StatusCode::OK { text.parse::<u64>().unwrap() } else { 0 }
        }));
        let edge = Pid::from_raw(i32::try_from(setup.edge.pid()).unwrap());
        let [process] = setup.processes()[..] else { panic!("one process") };
        let kills = async {
            tokio::time::sleep(std::time::Duration::from_millis(5 * round)).await;
            if round % 2 == 0 {
                kill(Pid::from_raw(process), Signal::SIGKILL).unwrap();
            }
        };
        let (counts, ()) = tokio::join!(adds, kills);
        answered = counts.into_iter().chain([before]).max().unwrap();
        if round % 2 == 1 {
            kill(edge, Signal::SIGKILL).unwrap();
            setup.edge = setup.site.start_with(&REACHED).await;
        }
        let look = get_soon(&setup, "/one/look").await;
        let [count, rows, most]: [u64; 3] = serde_json::from_str(&look).unwrap();
        assert!(count >= answered, "round {round}: {look} after {answered}");
        assert_eq!((rows, most), (count, count), "what is written together stays together");
    }
}

#[tokio::test]
async fn commits_that_are_too_large_fail_alone_however_many_wait() {
    let setup = set_up().await;
    deploy(&setup, SOURCE).await;
    let names: Vec<String> = (0..4).map(|n| format!("large{n}")).collect();
    for name in &names {
        assert_eq!(get(&setup, &format!("/{name}/add")).await, "1");
    }
    for name in &names {
        let (status, text) = setup.ask("a", &format!("/{name}/fill/6")).await;
        assert_eq!(status.as_u16(), 599, "{text}");
        assert!(text.contains("caused object to be reset"), "{text}");
        assert_eq!(get_soon(&setup, &format!("/{name}/look")).await, "[1,1,1]");
    }
    // However small its values are.
    get(&setup, "/many/sprinkle/15000").await;
    let (status, text) = setup.ask("a", "/many/sprinkle/17000").await;
    assert_eq!(status.as_u16(), 599, "{text}");
    assert!(text.contains("caused object to be reset"), "{text}");
    assert_eq!(get_soon(&setup, "/many/look").await, "[0,0,0]");
    for (name, expected) in names.iter().map(|name| (name, "2")).chain([(&"other".to_owned(), "1")]) {
        assert_eq!(get_soon(&setup, &format!("/{name}/add")).await, expected);
    }
}

#[tokio::test]
async fn what_was_written_in_turns_before_an_object_fails_is_kept() {
    let setup = set_up().await;
    deploy(&setup, SOURCE).await;
    for round in 0..5 {
        let (status, text) = setup.ask("a", &format!("/o{round}/breaks")).await;
        assert!(status.as_u16() == 599 && text.contains("broken"), "{text}");
        let kept = get_soon(&setup, &format!("/o{round}/kept")).await;
        assert_eq!(kept, r#"[["before",1],["within",20]]"#);
    }
}

#[tokio::test]
async fn alarms_come_at_least_once_again_when_they_fail_and_after_a_restart() {
    let mut setup = set_up().await;
    deploy(&setup, SOURCE).await;
    get(&setup, "/once/arm/1/0").await;
    assert_eq!(setup.logged("a", "alarm once").await, "stdout alarm once 0");
    get(&setup, "/twice/arm/1/1").await;
    setup.logged("a", "alarm twice 1").await;
    let done = async {
        while get(&setup, "/twice/seen").await != "[[1],null]"
            || get(&setup, "/once/seen").await != "[[0],null]"
        {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    soon("the ends of the alarms", done).await;
    assert!(setup.logged("a", "fails 0").await.contains("Error: fails 0"));
    // Handlers that go on for long keep nobody else's from beginning.
    let long = join_all((0..70).map(|n| {
        let setup = &setup;
        async move { get(setup, &format!("/long{n}/arm/1/-1")).await }
    }));
    long.await;
    get(&setup, "/last/arm/1/0").await;
    setup.logged("a", "alarm last 0").await;
    // One that had begun when the edge ended begins again.
    get(&setup, "/begun/arm/1/-1").await;
    setup.logged("a", "alarm begun 0").await;
    let edge = Pid::from_raw(i32::try_from(setup.edge.pid()).unwrap());
    kill(edge, Signal::SIGKILL).unwrap();
    setup.edge = setup.site.start_with(&REACHED).await;
    setup.logged("a", "alarm begun 0").await;
}

#[tokio::test]
async fn a_damaged_value_is_its_objects_only_and_a_purge_leaves_nothing() {
    let mut setup = set_up().await;
    deploy(&setup, SOURCE).await;
    for name in ["one", "two"] {
        assert_eq!(get(&setup, &format!("/{name}/add")).await, "1");
    }
    get(&setup, "/two/arm/3600000/0").await;
    setup.edge.terminate().await;
    let store = SledStore::open(&setup.site.state("store")).unwrap();
    let heads = store.states(None, 9).unwrap();
    let one = heads.iter().find(|head| head.name.as_deref() == Some("one")).unwrap();
    let mut state = store.state(one.key.id()).unwrap().unwrap();
    state.values[0].1 = vec![0xff; 3];
    let broken = Write::State(Box::new(StateChange::whole(state)));
    berth_store::commit(&store, vec![broken]).await.unwrap();
    store.close();
    drop(store);
    setup.edge = setup.site.start_with(&REACHED).await;
    let (status, text) = setup.ask("a", "/one/look").await;
    assert_eq!(status.as_u16(), 599, "{text}");
    assert_eq!(get(&setup, "/two/look").await, "[1,1,1]");

    let asked = client::request("DELETE", "/v1/apps/a", "");
    let (status, text) = client::whole(client::stream_admin(&setup.edge.admin, asked).await).await;
    assert!(status.is_success(), "{text}");
    let asked = client::request("POST", "/v1/apps/a/purge", "{}");
    let (status, purged) = client::admin(&setup.edge.admin, asked).await;
    assert_eq!((status, &purged["values"]), (StatusCode::OK, &json!(2)), "{purged}");
    setup.edge.terminate().await;
    let store = SledStore::open(&setup.site.state("store")).unwrap();
    assert!(store.states(None, 9).unwrap().is_empty());
    assert!(heads.iter().all(|head| store.schedule(head.key.id(), ScheduleId::ALARM).unwrap().is_none()));
}

#[tokio::test]
async fn a_class_that_is_not_there_is_refused_when_it_is_deployed() {
    let setup = set_up().await;
    let source = "export default {};";
    setup.send(&[("index.js", source)]).await;
    let (status, answer) = setup.put(&counters(source)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    assert!(answer.to_string().contains("exports no class `Counter`"), "{answer}");
}
