//! `berth store`: the store of an edge that does not run. The work is done by `berth-edge`.

use std::ffi::OsString;

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::args::Store;
use crate::failure::AlreadyReported;

pub(crate) async fn run(command: &Store) -> Result<()> {
    let program = std::env::current_exe().context("the place of this program")?.with_file_name("berth-edge");
    let status = Command::new(&program).arg("store").args(arguments(command)).status().await;
    let status = status.with_context(|| {
        format!("cannot run {}: berth-edge must be beside berth for this", program.display())
    })?;
    // The program has printed the reason, after which there is nothing to say.
    if status.success() { Ok(()) } else { Err(AlreadyReported.into()) }
}

fn arguments(command: &Store) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut option = |name: &str, value: Option<OsString>| {
        arguments.extend(value.map(|value| [name.into(), value]).into_iter().flatten());
    };
    let (verb, flags) = match command {
        Store::Export { state, output, without_damaged } => {
            option("--state", Some(state.into()));
            option("--output", output.as_ref().map(Into::into));
            ("export", vec![("--without-damaged", *without_damaged)])
        }
        Store::Import { state, input, replace, dry_run } => {
            option("--state", Some(state.into()));
            option("--input", input.as_ref().map(Into::into));
            ("import", vec![("--replace", *replace), ("--dry-run", *dry_run)])
        }
        Store::Verify { state } => {
            option("--state", Some(state.into()));
            ("verify", vec![])
        }
    };
    arguments.insert(0, verb.into());
    arguments.extend(flags.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag.into()));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_passed_on() {
        let import = |replace, dry_run| {
            let input = Some("f".into());
            arguments(&Store::Import { state: "/s".into(), input, replace, dry_run })
        };
        assert_eq!(import(true, false), ["import", "--state", "/s", "--input", "f", "--replace"]);
        assert_eq!(import(false, true), ["import", "--state", "/s", "--input", "f", "--dry-run"]);
        let export =
            |without_damaged| arguments(&Store::Export { state: "/s".into(), output: None, without_damaged });
        assert_eq!(export(false), ["export", "--state", "/s"]);
        assert_eq!(export(true), ["export", "--state", "/s", "--without-damaged"]);
    }
}
