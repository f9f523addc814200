//! What people give to `berth` and what they get: parts of ids, mistyped names, narrow terminals, and looks before a leap.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::scenario::{Outcome, scenario};

/// Columns that every table fits in.
const COLUMNS: usize = 80;

async fn berth(cluster: &Cluster, words: &[&str]) -> Result<(i32, String)> {
    let Output { status, stdout, stderr } = cluster.berth(words).await?;
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    Ok((status.code().context("a signal")?, text))
}

#[test]
fn mistyped_names_fail_and_parts_of_ids_are_enough() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let long = "a-name-that-is-longer-than-most-terminals-are-wide-".repeat(3);
        cluster.client().get(&format!("/container/{long}")).await?.success()?;

        for words in [
            &["containers", "list", "typo"][..],
            &["containers", "list", "--app", "typo"],
            &["usage", "typo"],
        ] {
            let (code, text) = berth(cluster, words).await?;
            ensure!(
                code == 1 && text.contains("there is no app typo; there are: hello"),
                "{words:?}: {text}"
            );
        }
        for (object, reason) in [("typo/Hello/x", "no app typo"), ("hello/Typo/x", "no class Typo")] {
            let (code, text) = berth(cluster, &["logs", "-f", object]).await?;
            ensure!(code == 1 && text.contains(reason), "{text}");
        }

        let (code, text) = berth(cluster, &["containers", "list", "hello"]).await?;
        let row = text.lines().nth(1).context("no row")?;
        let short = row.split_whitespace().last().context("no id")?;
        ensure!(code == 0 && short.len() == 12 && row.contains(&long), "{text}");
        let (code, text) = berth(cluster, &["containers", "info", short]).await?;
        ensure!(code == 0 && text.contains(&long) && text.contains("starts:"), "{text}");
        ensure!(
            berth(cluster, &["kv", "put", short, "key", "value"]).await?.0 == 0,
            "a part of an id is no object"
        );
        let (code, text) = berth(cluster, &["kv", "delete", short, "key", "--dry-run"]).await?;
        ensure!(code == 0 && text.contains("5 bytes"), "{text}");
        ensure!(berth(cluster, &["kv", "get", short, "key"]).await?.1 == "value", "a dry run deleted it");
        let none = if short.starts_with("0000") { "ffff" } else { "0000" };
        let (code, text) = berth(cluster, &["containers", "info", none]).await?;
        ensure!(code == 1 && text.contains(none), "{text}");
        let (code, text) = berth(cluster, &["containers", "destroy", short, "--dry-run"]).await?;
        ensure!(code == 0 && text.contains("would be killed"), "{text}");
        let (_, wide) = berth(cluster, &["containers", "list", "--wide"]).await?;
        ensure!(
            wide.contains("INSTANCE") && wide.lines().nth(1).is_some_and(|row| row.contains(short)),
            "{wide}"
        );

        let mut command = cluster.command("berth");
        command.args(["containers", "list"]).env("COLUMNS", COLUMNS.to_string());
        command.env("BERTH_ADMIN_SOCKET", cluster.admin().socket());
        let narrow = tokio::task::spawn_blocking(move || command.output()).await??;
        let narrow = String::from_utf8_lossy(&narrow.stdout).into_owned();
        ensure!(narrow.lines().all(|line| line.chars().count() <= COLUMNS), "{narrow}");
        ensure!(narrow.contains("healthy") && narrow.contains(short), "{narrow}");

        ensure!(berth(cluster, &["token", "create", "ci", "--scope", "read"]).await?.0 == 0);
        let (code, text) = berth(cluster, &["token", "revoke", "ci", "--dry-run"]).await?;
        ensure!(code == 0 && text.contains("would be revoked"), "{text}");
        ensure!(berth(cluster, &["token", "revoke", "ci"]).await?.0 == 0, "a name is no token");
        ensure!(berth(cluster, &["token", "revoke", "ci"]).await?.0 == 1, "it was revoked twice");

        let directory = cluster.directory().join("app-hello").display().to_string();
        let (code, text) = berth(cluster, &["check", &directory]).await?;
        ensure!(code == 0 && text.contains("app hello"), "{text}");
        Ok(())
    })
}
