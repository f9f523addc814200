//! `berth containers`: the objects of all apps and what has become of them.

use std::time::SystemTime;

use anyhow::Result;
use berth_common::outcome::{ExitReason, Outcome};

use crate::admin::{Admin, ContainerView};
use crate::args::Show;
use crate::output;

const HEADINGS: [&str; 7] = ["APP/CLASS/NAME", "STATE", "NODE", "INSTANCE", "SINCE", "END", "ID"];

pub(crate) async fn list(args: &Show) -> Result<()> {
    let admin = Admin::find(&args.admin)?;
    if args.json {
        return output::json(&admin.get::<serde_json::Value>("/v1/containers").await?);
    }
    let now = SystemTime::now();
    let rows = admin.containers().await?.containers.iter().map(|view| row(view, now)).collect();
    Ok(output::table(&HEADINGS, rows)?)
}

fn row(view: &ContainerView, now: SystemTime) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        format!("{}/{}/{}", view.app, view.class, view.name),
        view.state.clone(),
        or_dash(view.node.clone()),
        or_dash(view.instance.map(|id| id.to_string())),
        output::ago(view.last_change_ms, now),
        or_dash(view.exit.as_ref().map(end)),
        view.id.to_string(),
    ]
}

/// How an instance ended, in a few words.
fn end(outcome: &Outcome) -> String {
    let reason = match outcome.reason {
        ExitReason::Exit => "exited",
        ExitReason::Signal => "killed",
        ExitReason::Oom => "out of memory",
        ExitReason::Idle => "idle",
        ExitReason::Stopped => "stopped",
        ExitReason::Drained => "drained",
        ExitReason::Destroyed => "destroyed",
        ExitReason::StartFailed => "start failed",
        ExitReason::RuntimeLost => "runtime lost",
        ExitReason::NodeLost => "node lost",
        ExitReason::Unknown => "unknown",
    };
    match (outcome.code, outcome.signal) {
        (Some(code), _) => format!("{reason} (code {code})"),
        (None, Some(signal)) => format!("{reason} (signal {signal})"),
        (None, None) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_words() {
        assert_eq!(end(&Outcome::exited(3)), "exited (code 3)");
        assert_eq!(end(&Outcome::signalled(9)), "killed (signal 9)");
        assert_eq!(end(&Outcome::because(ExitReason::Idle, "x")), "idle");
    }

    #[test]
    fn an_edges_answer_becomes_a_row() {
        let view: ContainerView = serde_json::from_str(
            r#"{"id":"000102030405060708090a0b0c0d0e0f","app":"a","class":"C","name":"7","state":"stopped",
                "node":null,"instance":null,"generation":2,"last_change_ms":0,
                "exit":{"reason":"idle","code":0},"newer":true}"#,
        )
        .unwrap();
        let row = row(&view, std::time::UNIX_EPOCH);
        assert_eq!(row[..6], ["a/C/7", "stopped", "-", "-", "0s ago", "idle (code 0)"]);
    }
}
