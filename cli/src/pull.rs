//! Has an edge pull or copy an image between registries, with what the user's Docker configuration knows of those, and
//! shows how far it is.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use berth_common::image::{Digest, Reference, Repository};
use berth_common::spec::ImageRef;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::docker_config::{self, Credentials};
use crate::progress::{Transfer, Transfers, bytes};
use crate::push::short;

/// What images of the edge begin with.
pub(crate) const HERE: &str = "berth:";

/// A line of the answer.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Done { done: Moved },
    Failed { error: Failure },
    Step(Step),
}

/// How far a blob is.
#[derive(Debug, Deserialize)]
struct Step {
    phase: String,
    blob: Digest,
    done: u64,
    total: u64,
}

/// Why a transfer failed.
#[derive(Debug, Deserialize)]
struct Failure {
    title: String,
    #[serde(default)]
    detail: String,
}

/// Where an image has come to.
#[derive(Debug, Deserialize)]
pub(crate) struct Moved {
    /// A repository of the edge, or of another registry, whose name it begins with then.
    pub(crate) repository: String,
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

impl Moved {
    /// In a few words.
    pub(crate) fn describe(&self) -> String {
        format!("{}@{} ({})", self.repository, self.digest, bytes(self.bytes))
    }
}

/// Has the image pulled that a reference means now; with its tag, it stays although no app uses it.
pub(crate) async fn pull(admin: &Admin, reference: &Reference, tag: bool) -> Result<Moved> {
    let credentials = known(reference).await;
    let order = json!({ "reference": reference, "credentials": credentials, "tag": tag });
    let moved = transfer(admin, "/v1/images/pull", &order).await;
    moved.with_context(|| format!("cannot pull {reference}"))
}

/// The same, for a version of an app, which holds it by its digest.
pub(crate) async fn image(admin: &Admin, reference: &Reference) -> Result<ImageRef> {
    let moved = pull(admin, reference, false).await?;
    eprintln!("{reference}: {}", moved.describe());
    let repository: Repository = moved.repository.parse()?;
    Ok(ImageRef { name: Some(reference.to_string()), ..ImageRef::new(repository, moved.digest) })
}

/// Has an image copied: each side one of the edge (`berth:` before its name) or of another registry.
pub(crate) async fn copy(admin: &Admin, from: &str, to: &str) -> Result<Moved> {
    let order = json!({
        "from": from, "from_credentials": known_for(from).await?,
        "to": to, "to_credentials": known_for(to).await?,
    });
    transfer(admin, "/v1/images/copy", &order).await.with_context(|| format!("cannot copy {from} to {to}"))
}

async fn known_for(side: &str) -> Result<Option<Credentials>> {
    if side.starts_with(HERE) {
        return Ok(None);
    }
    let reference: Reference = side.parse().with_context(|| format!("{side:?}"))?;
    Ok(known(&reference).await)
}

/// The edge may know a user itself, or need none: what is wrong with files here is no reason to give up.
async fn known(reference: &Reference) -> Option<Credentials> {
    let found = docker_config::credentials(reference).await;
    found.unwrap_or_else(|error| {
        eprintln!("warning: no credentials for {} from this machine: {error:#}", reference.registry);
        None
    })
}

async fn transfer(admin: &Admin, path: &str, order: &Value) -> Result<Moved> {
    let mut lines = admin.lines_of_order(path, order).await?;
    let mut board = Board { shown: Transfers::new(), bars: BTreeMap::new() };
    while let Some(next) = lines.next().await? {
        for line in next {
            match serde_json::from_slice(&line).context("the answer is not what this version expects")? {
                Line::Done { done } => return Ok(done),
                Line::Failed { error: Failure { title, detail } } if detail.is_empty() => bail!("{title}"),
                Line::Failed { error: Failure { title, detail } } => bail!("{title}: {detail}"),
                Line::Step(step) => board.show(&step),
            }
        }
    }
    bail!("the answer broke off; what has arrived stays, and doing it again goes on from there")
}

struct Board {
    shown: Transfers,
    bars: BTreeMap<(String, Digest), Transfer>,
}

impl Board {
    fn show(&mut self, step: &Step) {
        let key = (step.phase.clone(), step.blob);
        let new = !self.bars.contains_key(&key);
        let begin = || self.shown.begin(&short(&step.blob), step.total);
        let bar = self.bars.entry(key.clone()).or_insert_with(begin);
        bar.set(step.done);
        if step.done >= step.total
            && let Some(bar) = self.bars.remove(&key)
        {
            bar.done(match step.phase.as_str() {
                // Also what came faster than anybody could be told.
                _ if new => "there",
                "push" => "pushed",
                _ => "pulled",
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_steps_and_an_end() {
        let digest = Digest::of(b"x");
        let read = |text: String| serde_json::from_str::<Line>(&text).unwrap();
        let step = format!(r#"{{"phase":"pull","blob":"{digest}","done":1,"total":2}}"#);
        assert!(matches!(read(step), Line::Step(Step { done: 1, .. })));
        let done = format!(r#"{{"done":{{"repository":"r.example/a","digest":"{digest}","bytes":3}}}}"#);
        assert!(matches!(read(done), Line::Done { done: Moved { bytes: 3, .. } }));
        let failed = r#"{"error":{"title":"no","status":502,"type":"about:blank"}}"#;
        assert!(matches!(read(failed.to_owned()), Line::Failed { .. }));
    }
}
