//! What a program answers with: of its own, passed through, from files, from others; and what it is called for besides requests.

use std::collections::BTreeMap;

use berth_common::ids::{ObjectKey, ScheduleId};
use berth_common::image::Digest;
use berth_common::spec::AssetsSpec;
use berth_store::{Schedule, SledStore, What, Write};
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::{programmed, request, set_up};
use crate::support::app::App;
use crate::support::{client, soon};

#[tokio::test]
async fn a_program_answers_with_all_that_it_is_told() {
    let setup = set_up().await;
    let modules = [
        (
            "index.js",
            "import { greet } from './greet.js';
            import { env } from 'cloudflare:workers';
            export default { async fetch(request, own, ctx) {
                const url = new URL(request.url);
                if (url.pathname === '/env') return Response.json({ own, same: env.LIST[1] === own.LIST[1] });
                if (url.pathname === '/throw') throw new TypeError('it does not work');
                if (url.pathname === '/nothing') return new Response(null, { status: 204 });
                ctx.waitUntil((async () => { await scheduler.wait(1); console.warn('later', request.method); })());
                console.log('asked for', url.pathname);
                return greet(request);
            } };",
        ),
        (
            "greet.js",
            "export const greet = (request) => new Response(`hello ${request.method} ${request.url} ${request.headers.get('x-own')}`,
                { status: 201, headers: { 'x-made': 'here', 'connection': 'close' } });",
        ),
    ];
    let builtin = json!({ "builtin": "cloudflare:workers" });
    let mut app =
        programmed("a", &modules, json!({"vars": {"TEXT": {"text": "t"}, "LIST": {"json": "[1, 2]"}}}));
    let entry = &mut app.program.as_mut().unwrap().modules[0];
    entry.imports.insert("cloudflare:workers".to_owned(), serde_json::from_value(builtin).unwrap());
    setup.send(&modules).await;
    let (status, answer) = setup.put(&app).await;
    assert_eq!(status, StatusCode::OK, "{answer}");

    let mut asked = request("a", "POST", "/x%20y?q=%2F", "");
    asked.headers_mut().insert("x-own", "1".parse().unwrap());
    let answered = client::stream(setup.edge.address, asked).await;
    assert_eq!(answered.response.headers()["x-made"], "here");
    let hello = "hello POST http://a.example/x%20y?q=%2F 1".to_owned();
    assert_eq!(client::whole(answered).await, (StatusCode::CREATED, hello));
    assert_eq!(setup.logged("a", "asked for").await, "stdout asked for /x%20y");
    assert_eq!(setup.logged("a", "later").await, "stderr later POST");

    let (_, env) = setup.ask("a", "/env").await;
    let env: Value = serde_json::from_str(&env).unwrap();
    assert_eq!(env, json!({"own": {"TEXT": "t", "LIST": [1, 2]}, "same": true}));
    assert_eq!(setup.ask("a", "/nothing").await, (StatusCode::NO_CONTENT, String::new()));

    // The public gets a number, and the log has the rest under it.
    let (status, text) = setup.ask("a", "/throw").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let id = text.strip_prefix("the app's program failed (error ").unwrap().strip_suffix(")\n").unwrap();
    let line = setup.logged("a", &format!("(error {id})")).await;
    assert!(line.starts_with("stderr TypeError: it does not work\n    at "), "{line}");
    assert!(line.contains("index.js:6:"), "{line}");
    // Nobody else's requests are its.
    assert_eq!(setup.ask("b", "/").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn bodies_flow_through_a_program_and_its_clients_end_is_told() {
    let setup = set_up().await;
    setup
        .deploy_one(
            "a",
            "export default { async fetch(request) {
                const { pathname } = new URL(request.url);
                if (pathname === '/count') { let count = 0; for await (const piece of request.body) count += piece.length; return new Response(`${count}`); }
                if (pathname === '/endless') {
                    request.signal.addEventListener('abort', () => console.log('gone'));
                    const { readable, writable } = new IdentityTransformStream();
                    const writer = writable.getWriter();
                    (async () => { for (;;) { await writer.write(new Uint8Array(1000)); await scheduler.wait(1); } })().catch(() => console.log('nobody reads'));
                    return new Response(readable);
                }
                return new Response(request.body, { headers: { 'content-type': 'x/y' } });
            } };",
        )
        .await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let echoed = client::stream(setup.edge.address, request("a", "POST", "/echo", sent.clone())).await;
    assert_eq!(echoed.response.headers()["content-type"], "x/y");
    let echoed = soon("a body", echoed.response.into_body().collect()).await.unwrap().to_bytes();
    assert!(echoed[..] == sent[..]);
    assert_eq!(setup.send_to("a", "POST", "/count", sent).await.1, "3000000");

    let mut endless = client::stream(setup.edge.address, request("a", "GET", "/endless", "")).await;
    soon("a piece", endless.response.body_mut().frame()).await.unwrap().unwrap();
    drop(endless);
    setup.logged("a", "gone").await;
}

#[tokio::test]
async fn files_come_first_and_programs_reach_them() {
    let setup = set_up().await;
    let files = [("/page.html", "page"), ("/404.html", "none"), ("/api/x.txt", "file")];
    setup.send(&files).await;
    let files: BTreeMap<&str, String> =
        files.iter().map(|(path, text)| (*path, Digest::of(text.as_bytes()).to_string())).collect();
    let modules = [(
        "index.js",
        "export default { async fetch(request, env) {
            const { pathname } = new URL(request.url);
            if (pathname === '/api/x.txt') {
                const file = await env.FILES.fetch(request);
                return new Response(`program, ${await file.text()}, ${file.headers.get('content-type')}`);
            }
            return env.FILES.fetch(new URL('/missing', request.url));
        } };",
    )];
    let more = json!({"assets_binding": "FILES", "before_assets": {"paths": ["/api/*"]}});
    let mut app = programmed("site", &modules, more);
    let spec = json!({"files": files, "hosts": [], "not_found": "page"});
    app.assets = Some(serde_json::from_value::<AssetsSpec>(spec).unwrap());
    setup.send(&modules).await;
    let (status, answer) = setup.put(&app).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(setup.ask("site", "/page").await, (StatusCode::OK, "page".to_owned()));
    assert_eq!(setup.ask("site", "/api/x.txt").await.1, "program, file, text/plain");
    assert_eq!(setup.ask("site", "/else").await, (StatusCode::NOT_FOUND, "none".to_owned()));
}

#[tokio::test]
async fn programs_reach_what_they_may_reach() {
    let (setup, server) = (set_up().await, App::start().await);
    setup
        .deploy_one(
            "a",
            "export default { async fetch(request) {
                const { searchParams } = new URL(request.url);
                try {
                    return await fetch(searchParams.get('url'), { method: request.method, body: request.body, headers: { 'x-own': '1', host: 'other' } });
                } catch (error) { return new Response(`${error.name}: ${error.message}`, { status: 299 }); }
            } };",
        )
        .await;
    let url = |path: &str| format!("/?url=http://{}/c/x/{path}", server.address);
    let (_, headers) = setup.ask("a", &url("headers")).await;
    assert!(headers.contains(&format!("host: {}\n", server.address)), "{headers}");
    assert!(headers.contains("x-own: 1\n"), "{headers}");
    assert_eq!(setup.send_to("a", "POST", &url("length"), vec![1; 1 << 20]).await.1, (1 << 20).to_string());
    let (_, downloaded) = {
        let streaming = client::stream(setup.edge.address, request("a", "GET", &url("bytes"), "")).await;
        let body = soon("a download", streaming.response.into_body().collect()).await.unwrap();
        ((), body.to_bytes())
    };
    assert_eq!(downloaded.len(), 8 << 20);

    for closed in ["http://127.0.0.2:1/", "http://localhost.:1/", "http://169.254.169.254/"] {
        let (status, text) = setup.ask("a", &format!("/?url={closed}")).await;
        assert_eq!(status.as_u16(), 299, "{closed}: {text}");
        assert!(text.starts_with("Error: "), "{closed}: {text}");
    }
    let (_, text) = setup.ask("a", "/?url=http://127.0.0.2:1/").await;
    assert!(text.contains("no public address"), "{text}");
}

#[tokio::test]
async fn answers_that_nobody_reads_keep_no_connection_for_ever() {
    let (setup, server) = (set_up().await, App::start().await);
    setup
        .deploy_one(
            "a",
            "export default { async fetch(request) {
                let answered = 0;
                const { searchParams } = new URL(request.url);
                for (let n = 0; n < 200; n += 1) answered += (await fetch(searchParams.get('url'))).ok;
                return new Response(`${answered}`);
            } };",
        )
        .await;
    let url = format!("/?url=http://{}/c/x/bytes", server.address);
    assert_eq!(setup.ask("a", &url).await.1, "200");
}

#[tokio::test]
async fn a_due_cron_calls_the_program_after_a_restart() {
    let mut setup = set_up().await;
    let source = "export default { scheduled(event, env, ctx) { console.log('cron', event.cron, event.scheduledTime); } };";
    setup.deploy("a", &[("index.js", source)], json!({"crons": ["0 0 1 1 *"]})).await;
    setup.edge.terminate().await;
    let key = ObjectKey {
        app: "a".parse().unwrap(),
        class: "program".parse().unwrap(),
        name: "x".parse().unwrap(),
    };
    let schedule = Schedule {
        id: ScheduleId::random(),
        key,
        what: What::Program("0 0 1 1 *".to_owned()),
        payload: Value::Null,
        scheduled_ms: 60_000,
        due_ms: Some(60_000),
        attempts: 0,
        last_error: None,
    };
    let store = SledStore::open(&setup.site.state("store")).unwrap();
    berth_store::commit(&store, vec![Write::Schedule(Box::new(schedule))]).await.unwrap();
    store.close();
    drop(store);
    setup.edge = setup.site.start_with(&super::REACHED).await;
    assert_eq!(setup.logged("a", "cron").await, "stdout cron 0 0 1 1 * 60000");
}
