//! Programs that loop, die, or are replaced: their own requests get a short reason, and others' go on.

use futures_util::future::join_all;
use http::StatusCode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::{request, set_up};
use crate::support::{client, soon};

#[tokio::test]
async fn an_endless_loop_is_one_apps_own() {
    let setup = set_up().await;
    let source = "export default { fetch(request) { if (request.url.endsWith('/loop')) for (;;); return new Response('well'); } };";
    setup.deploy("bad", &[("index.js", source)], json!({"limits": {"cpu_ms": 500}})).await;
    setup.deploy_one("good", "export default { fetch: () => new Response('good') };").await;
    let loops = join_all((0..4).map(|_| setup.ask("bad", "/loop")));
    let others = join_all((0..50).map(|_| setup.ask("good", "/")));
    let (looped, answered) = tokio::join!(loops, others);
    for (status, text) in looped {
        assert_eq!(status.as_u16() / 100, 5, "{text}");
        assert!(text.contains("(error ") && !text.contains("CPU"), "{text}");
    }
    assert!(answered.into_iter().all(|answer| answer == (StatusCode::OK, "good".to_owned())));
    setup.logged("bad", "Worker exceeded CPU time limit.").await;
    assert_eq!(setup.ask("good", "/").await.1, "good");
}

#[tokio::test]
async fn a_killed_process_fails_its_calls_and_is_started_again() {
    let setup = set_up().await;
    let source = "export default { async fetch(request) {
        if (!request.url.endsWith('/wait')) return new Response('here');
        console.log('waits');
        await new Promise(() => setTimeout(() => {}, 1e6));
    } };";
    setup.deploy_one("a", source).await;
    setup.deploy_one("other", "export default { fetch: () => new Response('other') };").await;
    assert_eq!(setup.ask("a", "/").await.1, "here");
    let [process] = setup.processes()[..] else { panic!("one process") };
    let waits = setup.ask("a", "/wait");
    let kills = async {
        setup.logged("a", "waits").await;
        kill(Pid::from_raw(process), Signal::SIGKILL).unwrap();
    };
    let ((status, text), ()) = tokio::join!(waits, kills);
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
    assert!(text.starts_with("the app's program ended before it answered (error "), "{text}");
    assert_eq!(setup.ask("other", "/").await.1, "other");
    assert_eq!(setup.ask("a", "/").await.1, "here");
    assert!(!setup.processes().contains(&process));
}

#[tokio::test]
async fn a_new_version_answers_from_now_on_and_the_old_one_ends_what_it_began() {
    let setup = set_up().await;
    let source = |version: u32| {
        format!(
            "export default {{ async fetch(request) {{
                if (request.url.endsWith('/slow')) {{ console.log('begun'); await request.text(); await scheduler.wait(1500); }}
                return new Response('{version}');
            }} }};"
        )
    };
    setup.deploy_one("a", &source(1)).await;
    let slow = client::stream(setup.edge.address, request("a", "GET", "/slow", ""));
    let deploys = async {
        setup.logged("a", "begun").await;
        setup.deploy_one("a", &source(2)).await;
        // Whoever asks from now on.
        let answers = join_all((0..20).map(|_| setup.ask("a", "/"))).await;
        assert!(answers.into_iter().all(|answer| answer == (StatusCode::OK, "2".to_owned())));
    };
    let (slow, ()) = tokio::join!(slow, deploys);
    assert_eq!(client::whole(slow).await, (StatusCode::OK, "1".to_owned()));
    let one_left = async {
        while setup.processes().len() > 1 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    soon("the end of the old version's process", one_left).await;
    let back = client::request("POST", "/v1/apps/a/rollback", "{}");
    let (status, answer) = client::admin(&setup.edge.admin, back).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(setup.ask("a", "/").await.1, "1");
}
