//! Has an edge pull or copy an image between registries, with the credentials from the user's Docker configuration, and
//! shows the progress.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use berth_api::client::ClientError;
use berth_api::registries::Credentials;
use berth_api::transfers::{CopyOrder, Done, Phase, PullOrder, Step, TransferLine};
use berth_common::image::{Digest, Reference, Repository};
use berth_common::spec::ImageRef;
use serde::Serialize;

use crate::admin::Admin;
use crate::docker_config;
use crate::progress::{Transfer, Transfers, bytes};
use crate::push::{at_least, passes, short};

/// The prefix of references to images of the edge.
pub(crate) const HERE: &str = "berth:";

/// One line: the image, and where it was written.
pub(crate) fn describe(moved: &Done) -> String {
    format!("{}@{} ({})", moved.repository, moved.digest, bytes(moved.bytes))
}

/// Has the image pulled that a reference means now; with its tag, it stays although no app uses it.
pub(crate) async fn pull(admin: &Admin, reference: &Reference, tag: bool) -> Result<Done> {
    let credentials = known(reference).await;
    let order = PullOrder { reference: reference.to_string(), credentials, platform: None, tag };
    let moved = transfer(admin, "/v1/images/pull", &order).await;
    moved.with_context(|| format!("cannot pull {reference}"))
}

/// The same, for a version of an app, which holds it by its digest.
pub(crate) async fn image(admin: &Admin, reference: &Reference) -> Result<ImageRef> {
    let moved = pull(admin, reference, false).await?;
    crate::output::note!("{reference}: {}", describe(&moved));
    let repository: Repository = moved.repository.parse()?;
    Ok(ImageRef { name: Some(reference.to_string()), ..ImageRef::new(repository, moved.digest) })
}

/// Has an image copied: each side one of the edge (`berth:` before its name) or of another registry.
pub(crate) async fn copy(admin: &Admin, from: &str, to: &str) -> Result<Done> {
    let order = CopyOrder {
        from: from.to_owned(),
        to: to.to_owned(),
        from_credentials: known_for(from).await?,
        to_credentials: known_for(to).await?,
    };
    transfer(admin, "/v1/images/copy", &order).await.with_context(|| format!("cannot copy {from} to {to}"))
}

async fn known_for(side: &str) -> Result<Option<Credentials>> {
    if side.starts_with(HERE) {
        return Ok(None);
    }
    let reference: Reference = side.parse().with_context(|| format!("{side:?}"))?;
    Ok(known(&reference).await)
}

/// The edge may have credentials itself, or need none: an error in the files here does not end the command.
async fn known(reference: &Reference) -> Option<Credentials> {
    let found = docker_config::credentials(reference).await;
    found.unwrap_or_else(|error| {
        crate::output::note!(
            "warning: no credentials for {} from this machine: {error:#}",
            reference.registry
        );
        None
    })
}

/// How often a transfer is taken up again whose edge went away, and the wait before each: longer in all than the restart
/// of an edge takes.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_millis(1500),
    Duration::from_millis(3000),
    Duration::from_millis(5000),
    Duration::from_millis(10_000),
];

const WENT_AWAY: &str = "the edge went away in the middle of it; taking it up again ...";
const NOT_READY: &str = "the edge takes no orders at the moment; waiting for it ...";

/// Has the edge do it. If the edge goes away in the middle, the same is ordered again: it goes on with what has arrived.
async fn transfer(admin: &Admin, path: &str, order: &impl Serialize) -> Result<Done> {
    let mut progress = ProgressBars { shown: Transfers::new(), bars: BTreeMap::new() };
    let (mut lost, mut begun) = match attempt(admin, path, order, &mut progress).await {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(lost)) => (lost, true),
        // Where no edge is reached at all, that is told at once.
        Err(error) if asked_to_wait(&error).is_some() => (error, false),
        Err(error) => return Err(error),
    };
    for pause in PAUSES {
        crate::output::note!("{}", if begun { WENT_AWAY } else { NOT_READY });
        let pause = at_least(pause, asked_to_wait(&lost));
        // In tests the edge breaks off on purpose: no need to wait.
        tokio::time::sleep(if cfg!(test) { Duration::ZERO } else { pause }).await;
        match attempt(admin, path, order, &mut progress).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(again)) => (lost, begun) = (again, true),
            Err(error) if may_be_starting(&error) => lost = error,
            Err(error) => return Err(error),
        }
    }
    if !begun {
        return Err(lost);
    }
    Err(lost.context("the answer broke off; what has arrived stays, and doing it again goes on from there"))
}

/// How long the edge asks to wait, if it has refused for the moment only, as one does that ends or starts.
fn asked_to_wait(error: &Error) -> Option<Duration> {
    let refusal = error.downcast_ref::<ClientError>()?.refusal()?;
    passes(refusal.status).then(|| refusal.retry_after.unwrap_or_default())
}

/// Whether an edge that was there may just be starting.
fn may_be_starting(error: &Error) -> bool {
    let not_reached = |error: &ClientError| !error.is_refusal();
    asked_to_wait(error).is_some() || error.downcast_ref().is_some_and(not_reached)
}

/// One order. The inner error is that of an answer that broke off.
async fn attempt(
    admin: &Admin,
    path: &str,
    order: &impl Serialize,
    progress: &mut ProgressBars,
) -> Result<Result<Done, Error>> {
    let mut lines = admin.lines_of_order(path, order).await?;
    loop {
        let next = match lines.next().await {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(Err(anyhow!("the edge has closed the connection"))),
            Err(error) => return Ok(Err(error.into())),
        };
        for line in next {
            match serde_json::from_slice(&line).context("the answer is not what this version expects")? {
                TransferLine::Done { done } => return Ok(Ok(done)),
                TransferLine::Failed { error } => bail!("{error}"),
                TransferLine::Step(step) => progress.show(&step),
            }
        }
    }
}

#[cfg(test)]
mod tests;

struct ProgressBars {
    shown: Transfers,
    bars: BTreeMap<(Phase, Digest), Transfer>,
}

impl ProgressBars {
    fn show(&mut self, step: &Step) {
        let key = (step.phase, step.blob);
        let new = !self.bars.contains_key(&key);
        let begin = || self.shown.begin(&short(&step.blob), step.total);
        let bar = self.bars.entry(key).or_insert_with(begin);
        bar.set(step.done);
        if step.done >= step.total
            && let Some(bar) = self.bars.remove(&key)
        {
            bar.done(match step.phase {
                // Also bytes that arrived after the last report.
                _ if new => "there",
                Phase::Push => "pushed",
                Phase::Pull => "pulled",
            });
        }
    }
}
