//! What honest scripts do.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use crate::script::Body;
use crate::stage::{
    app, module, nothing, processes, request, resident_kib, settings, stage, stage_with, text, until, whole,
};

pub(crate) async fn a_handler_answers() {
    let stage = stage();
    let code = app(
        "a",
        "console.log('asked'); return { status: 201, headers: [['x-a', 'b']], body: bytes(request.method + ' ' + request.url) }",
    );
    for lane in [0, 1, 2] {
        let response = stage.fetch(&code, lane, request("/x?y", nothing())).await.unwrap();
        assert_eq!((response.status().as_u16(), &response.headers()["x-a"]), (201, &"b".parse().unwrap()));
        assert_eq!(text(response).await, "POST http://app.example/x?y");
    }
    assert_eq!(stage.lines(), ["a: asked", "a: asked", "a: asked"]);
    assert_eq!(processes().len(), 1);
    let code = app("b", "throw new RangeError('no')");
    assert_eq!(stage.text(&code, "/").await, "RangeError: no");
    let code = app("c", "return { headers: [['a b', 'c']] }");
    assert_eq!(stage.text(&code, "/").await, "TypeError: Invalid header name.");
}

pub(crate) async fn bodies_flow_both_ways() {
    let stage = stage();
    let long = Bytes::from(vec![b'x'; 3 << 20]);
    let code = app(
        "a",
        "if (request.url.endsWith('/pass')) return { body: request.body };
        if (request.url.endsWith('/count')) return { body: bytes(String(await read(request.body.host))) };
        if (request.url.endsWith('/long')) return { body: new Uint8Array(3 << 20).fill(120) };
        const id = host.bodyNew();
        ctx.waitUntil((async () => { for (let i = 0; i < 100; i++) await host.bodyWrite(id, new Uint8Array(30000).fill(120)); host.bodyEnd(id); })());
        return { body: { script: id } };",
    );
    let ask = async |path: &str, body| text(stage.fetch(&code, 0, request(path, body)).await.unwrap()).await;
    assert_eq!(ask("/pass", whole(long.clone())).await.len(), long.len());
    assert_eq!(ask("/count", whole(long.clone())).await, long.len().to_string());
    assert_eq!(ask("/long", nothing()).await.len(), long.len());
    assert_eq!(ask("/", nothing()).await.len(), 3_000_000);
    let broken = stream::iter([Ok(Frame::data(long)), Err("cut".into())]);
    let answer = stage.fetch(&code, 0, request("/count", Body::new(StreamBody::new(broken)))).await;
    assert_eq!(answer.err().unwrap().to_string(), "Error: Network connection lost: cut");
    // A body that nobody reads any more ends the writer's wait, and others go on.
    let response = stage.call(&code, "/").await.unwrap();
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(stage.text(&code, "/good").await, "good");
    stage.logged("nobody reads this body any more").await;
}

pub(crate) async fn a_script_asks_the_world() {
    let stage = stage();
    let code = app(
        "a",
        "try {
            const answer = await fetch('http://b.example/' + request.url.split('/').pop(), { method: 'PUT', body: request.body ?? bytes('text') });
            return { status: answer.status, names: answer.names, values: answer.values, body: answer.body };
        } catch (error) { return { body: bytes(String(error)) }; }",
    );
    let response = stage.call(&code, "/x").await.unwrap();
    assert_eq!(response.headers()["x-method"], "PUT");
    assert_eq!(text(response).await, "text");
    // From the client through the script to the world, and back to the client: no byte crosses.
    let response = stage.fetch(&code, 0, request("/x", whole(vec![b'x'; 1 << 20]))).await.unwrap();
    assert_eq!(text(response).await.len(), 1 << 20);
    assert_eq!(stage.text(&code, "/lost").await, "Error: Network connection lost.");
    let code = app(
        "b",
        "const all = await Promise.all(Array.from({ length: 500 }, (_, i) => fetch('http://b.example/' + i, { body: bytes(String(i)) }))); return { body: bytes(String(all.length)) }",
    );
    assert_eq!(stage.text(&code, "/").await, "500");
    let code = app(
        "c",
        "try { await fetch('http://b.example/ /'); } catch (error) { return { body: bytes(String(error)) } }",
    );
    assert_eq!(stage.text(&code, "/").await, "TypeError: Invalid URL: http://b.example/ /");
}

pub(crate) async fn answers_that_nobody_reads_are_few() {
    let stage = stage();
    let code = app(
        "a",
        "const held = () => fetch('http://b.example/held');
        const first = await held();
        for (let i = 0; i < 3000; i++) await held();
        if (request.url.endsWith('/pass')) return { body: first.body };
        let text = 'read';
        try { await read(first.body.host); } catch (error) { text = error.message; }
        return { body: bytes(text + ' ' + await read((await held()).body.host)) };",
    );
    let cancelled =
        "The body was cancelled to make room for others, as nobody read it on: read or cancel() each.";
    assert_eq!(stage.text(&code, "/").await, format!("{cancelled} 4"));
    let passed = stage.text(&code, "/pass").await;
    assert!(passed.ends_with(cancelled), "{passed}");
    let most = stage.world.held.most.load(Ordering::SeqCst);
    assert!((1000..=2001).contains(&most), "{most}");
    until(|| stage.world.held.now() == 0).await;
}

pub(crate) async fn what_nobody_reads_leaves_room_for_others() {
    let mut quick = settings();
    quick.stalled = Duration::from_millis(100);
    let stage = stage_with(quick);
    let code = app(
        "a",
        "const piece = new Uint8Array(200000);
        for (let i = 0; i < 1500; i++) {
            const id = host.bodyNew();
            await fetch('http://b.example/x', { method: 'PUT', body: { script: id } });
            // One that nobody reads may be cancelled before it is sent.
            try { await host.bodyWrite(id, piece); host.bodyEnd(id); } catch {}
        }
        const last = host.bodyNew();
        const answer = await fetch('http://b.example/x', { method: 'PUT', body: { script: last } });
        host.bodyWrite(last, piece);
        host.bodyEnd(last);
        return { body: bytes('read ' + await read(answer.body.host)) };",
    );
    let before = resident_kib();
    let mut most = 0;
    let watching = async {
        loop {
            most = most.max(resident_kib());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let sent = tokio::select! {
        sent = stage.text(&code, "/") => sent,
        () = watching => unreachable!(),
    };
    assert_eq!(sent, "read 200000");
    let grown = most.saturating_sub(before);
    assert!(grown < 110 << 10, "{grown} KiB");
}

pub(crate) async fn a_client_that_goes_is_told() {
    let stage = stage();
    let code = app(
        "a",
        "if (request.url.endsWith('/aborted')) return { body: bytes(JSON.stringify(aborted)) };
        if (request.url.endsWith('/half')) return { body: { script: host.bodyNew() } };
        console.log('waits'); await fetch('http://b.example/never');",
    );
    let waiting = stage.call(&code, "/wait");
    let gone = tokio::time::timeout(Duration::from_secs(2), async {
        tokio::select! { _ = waiting => panic!("it waits"), () = stage.logged("waits") => {} }
    });
    gone.await.unwrap();
    assert_eq!(stage.text(&code, "/aborted").await, "[1]");
    drop(stage.call(&code, "/half").await.unwrap());
    assert_eq!(stage.text(&code, "/aborted").await, "[1,3]");
    // One that had all it wanted has not gone.
    stage.text(&code, "/good").await;
    assert_eq!(stage.text(&code, "/aborted").await, "[1,3]");
}

pub(crate) async fn a_cron_is_called_and_code_that_fails_says_so() {
    let stage = stage();
    let code = app("a", "");
    stage.scheduled(&code, 0, "* * * * *", 60_000).await.unwrap();
    assert_eq!(stage.lines(), ["a: * * * * * 60000"]);
    assert_eq!(stage.scheduled(&code, 0, "bad", 0).await.unwrap_err().to_string(), "Error: bad cron");
    let code = module("b", "export default {};\nthrow new Error('at the top');");
    for _ in 0..2 {
        assert_eq!(stage.text(&code, "/").await, "Error: at the top");
    }
    let code = module("c", "let 1;");
    assert!(stage.text(&code, "/").await.starts_with("SyntaxError: "));
}

pub(crate) async fn a_process_without_calls_ends_and_a_retired_one_too() {
    let mut quick = settings();
    quick.idle = Duration::from_millis(300);
    let patient = stage_with(quick.clone());
    quick.last_calls = Duration::from_millis(100);
    let stage = stage_with(quick);
    let code = app(
        "a",
        "console.log('waits'); await new Promise((done) => setTimeout(done, 1000)); return { body: bytes('late') };",
    );
    // A call keeps it, however long it takes.
    assert_eq!(stage.text(&code, "/").await, "late");
    until(|| processes().is_empty()).await;
    assert_eq!(stage.text(&code, "/good").await, "good");
    let reset = "Durable Object reset because its code was updated.";
    for (stage, lines, expected) in [(&stage, 2, reset), (&patient, 1, "late")] {
        let retire = async {
            until(|| stage.lines().len() == lines).await;
            stage.host.retire(&code.key);
        };
        let (answer, ()) = tokio::join!(stage.text(&code, "/"), retire);
        assert_eq!(answer, expected);
        until(|| processes().is_empty()).await;
    }
    let many = stream::iter(0..20).map(|_| stage.text(&code, "/good")).buffer_unordered(20);
    assert!(many.all(|text| async move { text == "good" }).await);
}
