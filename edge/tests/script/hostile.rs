//! Scripts that use up what there is: their own calls fail, another app's go on.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stage::{app, processes, stage, until};

const DIED: &str = "The script's process ended unexpectedly, and all that it was doing with it.";

pub(crate) async fn what_a_script_uses_up_is_its_own() {
    const CPU: &str = "Worker exceeded CPU time limit.";
    const MEMORY: &str = "Durable Object's isolate exceeded its memory limit and was reset.";
    const SILENT: &str = "The script's process did not react, and was ended.";
    let cases = [
        ("for (;;) {}", CPU),
        ("for (;;) /(a*)*b/.test('a'.repeat(30))", CPU),
        // A native that asks nobody whether to go on.
        ("'a'.repeat(5e6).indexOf('a'.repeat(25e5) + 'b')", SILENT),
        ("Array.prototype.indexOf.call({ length: 2 ** 53 - 1 }, 1)", CPU),
        ("const all = []; for (;;) all.push(new Uint8Array(1 << 20))", MEMORY),
        (
            "const all = []; for (let size = 1e10; all.length < 1e6; size = Math.max(size / 2, 1e6)) try { all.push(new ArrayBuffer(size)); } catch {}",
            MEMORY,
        ),
        (
            "const swallow = () => { for (let i = 0; i < 100; i++); }; Error.prepareStackTrace = swallow; for (;;) try { throw new Error('x'); } catch {}",
            CPU,
        ),
        ("JSON.stringify(new Array(1e7).fill({ a: 'b'.repeat(100) }))", MEMORY),
        ("new Array(1e8).fill('x').join('yy')", MEMORY),
        (
            "const go = () => { Promise.resolve().then(go); }; for (let i = 0; i < 10; i++) go(); await new Promise(() => {})",
            CPU,
        ),
        (
            "const go = () => { Promise.resolve().then(go); Promise.resolve().then(go); }; go(); await new Promise(() => {})",
            MEMORY,
        ),
        (
            "const f = () => f() + 1; try { f(); } catch (error) { return { body: bytes(error.name) } }",
            "RangeError",
        ),
        ("const all = []; for (;;) all.push('x'.repeat(1e5) + all.length)", MEMORY),
    ];
    let stage = stage();
    let other = app("other", "");
    for (index, (body, expected)) in cases.into_iter().enumerate() {
        let code = app(&format!("hostile-{index}"), body);
        let begun = Instant::now();
        let others = async {
            let mut slowest = Duration::ZERO;
            for _ in 0..50 {
                let asked = Instant::now();
                assert_eq!(stage.text(&other, "/good").await, "good", "{body}");
                slowest = slowest.max(asked.elapsed());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            slowest
        };
        // Two calls at once: what ends the isolate ends both, what ends one call leaves the other.
        let waits = stage.text(&code, "/good");
        let (failed, waited, slowest) = tokio::join!(stage.text(&code, "/bad"), waits, others);
        assert!(failed == expected || failed == format!("Error: {expected}"), "{body}: {failed}");
        assert!(["good", expected].contains(&waited.as_str()), "{body}: {waited}");
        assert!(slowest < Duration::from_secs(5), "{body}: {slowest:?}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{body}");
        // Where the isolate could not be left, the process ends behind its last word, and a call may just meet that.
        let next = stage.text(&code, "/good").await;
        assert!(
            next == "good" || next == DIED && stage.text(&code, "/good").await == "good",
            "{body}: {next}"
        );
        stage.host.retire(&code.key);
    }
}

pub(crate) async fn a_killed_process_is_started_again_but_not_for_ever() {
    let stage = stage();
    let code = app("a", "console.log('waits'); await new Promise(() => {})");
    let other = app("other", "");
    for round in 1..=3 {
        let waits = stage.text(&code, "/");
        let kills = async {
            until(|| stage.lines().len() == round).await;
            let killed = processes();
            assert_eq!(killed.len(), 1);
            kill(Pid::from_raw(killed[0]), Signal::SIGKILL).unwrap();
        };
        let (failed, ()) = tokio::join!(waits, kills);
        assert_eq!(failed, DIED);
        until(|| processes().is_empty()).await;
    }
    let waits = stage.text(&code, "/good").await;
    assert_eq!(waits, "The app's script ended too often, and is started again in 1 s.");
    assert_eq!(stage.text(&other, "/good").await, "good");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(stage.text(&code, "/good").await, "good");
}

pub(crate) async fn too_many_calls_are_refused() {
    let stage = stage();
    let code =
        app("a", "await new Promise((done) => setTimeout(done, 1000)); return { body: bytes('late') };");
    let calls = join_all((0..1100).map(|_| stage.text(&code, "/"))).await;
    let answered = calls.iter().filter(|text| *text == "late").count();
    let refused = calls.iter().filter(|text| text.contains("Too many requests queued.")).count();
    assert_eq!((answered, refused), (1000, 100));
    assert_eq!(stage.text(&code, "/good").await, "good");
}
