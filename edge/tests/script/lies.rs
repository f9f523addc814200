//! Processes that lie are ended, their calls fail with a text that says so, and another app's go on.

use std::sync::Arc;
use std::time::Duration;

use berth_script::message::ObjectClass;

use crate::script::{Code, Settings};
use crate::stage::{app, processes, resident_kib, settings, stage, stage_with, until};

fn lying(lie: &str) -> Settings {
    let mut settings = settings();
    settings.program = "/proc/self/exe".into();
    settings.arguments = vec!["liar".to_owned(), lie.to_owned()];
    // Only what is to be found silent is waited for; others may take their time on a busy machine.
    let silent = ["deaf", "silent"].contains(&lie);
    settings.silence = if silent { Duration::from_millis(500) } else { Duration::from_secs(5) };
    settings
}

const LIED: &str = "The script's process broke its protocol, and was ended.";
const SILENT: &str = "The script's process did not react, and was ended.";
const DIED: &str = "The script's process ended unexpectedly, and all that it was doing with it.";

fn liar() -> Arc<Code> {
    let mut code = app("liar", "");
    let class = ObjectClass { name: "Room".to_owned(), key: [1; 32], container: false };
    Arc::get_mut(&mut code).unwrap().load.objects.push(class);
    code
}

pub(crate) async fn a_process_that_lies_is_ended() {
    let lies = [
        "garbage",
        "huge",
        "variant",
        "nobody",
        "failed",
        "done",
        "lines",
        "outside lines",
        "beats",
        "pongs",
        "loaded",
        "cancel",
        "credit",
        "piece",
        "bytes",
        "given",
        "opened",
        "switched",
        "words",
    ];
    let ends = lies.map(|lie| (lie, LIED)).into_iter().chain([
        ("deaf", SILENT),
        ("silent", SILENT),
        ("unread", SILENT),
        ("cut", DIED),
        ("gone", DIED),
        ("exit", DIED),
    ]);
    let honest = stage();
    let other = app("other", "");
    for (lie, expected) in ends {
        let stage = stage_with(lying(lie));
        let code = liar();
        let (failed, others) = tokio::join!(stage.text(&code, "/"), honest.text(&other, "/good"));
        let started = lie == "exit" && failed.starts_with("The app's script could not be started");
        assert!(failed == expected || started, "{lie}: {failed}");
        assert_eq!(others, "good", "{lie}");
        // Only the honest one is left.
        until(|| processes().len() == 1).await;
    }
    // More of a body than there is credit for ends it in the middle.
    let stage = stage_with(lying("flow"));
    assert_eq!(stage.text(&app("liar", ""), "/").await, format!("the script's body broke off: {LIED}"));
    // What it says of its isolate is believed once.
    let stage = stage_with(lying("condemned"));
    assert_eq!(
        stage.text(&app("liar", ""), "/").await,
        "Durable Object's isolate exceeded its memory limit and was reset."
    );
    until(|| processes().len() == 1).await;
}

pub(crate) async fn a_flood_takes_no_memory() {
    let before = resident_kib();
    for lie in ["lines", "beats", "piece", "flow", "garbage"] {
        for _ in 0..5 {
            let stage = stage_with(lying(lie));
            stage.text(&app("liar", ""), "/").await;
        }
    }
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB");
}
