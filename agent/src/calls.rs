//! Answers the calls of an edge. The table (`instances`) decides; `follow` does what takes time.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use berth_common::ids::{EdgeId, InstanceId};
use berth_common::wire::call::{
    Answer, AskUsage, Call, Capacity, Forget, Refusal, RefusalCode, Renew, Renewed, Resume, Room, Signal,
    Start, Stop,
};
use berth_common::wire::frame::{self, FrameError};
use berth_protocol::node::SIGNALS;
use berth_shim::terms::Slot;
use quinn::SendStream;

use crate::connected::{Carries, Connected};
use crate::instances::Admitted;
use crate::launch::Launch;
use crate::metrics::Census;
use crate::runtime::Runtime;
use crate::stream::{Breach, StreamEnd, answer};
use crate::watchers::Watch;
use crate::{follow, logs};

/// How long the record of one instance may take to be removed: an edge that has no answer in time ends the session, which
/// must not happen because of one instance.
const FORGET_TIMEOUT: Duration = Duration::from_secs(3);

/// Serves one call to its end.
pub(crate) async fn serve<R: Runtime + 'static>(
    connected: &Rc<Connected<R>>,
    call: Result<Call, FrameError>,
    mut send: SendStream,
) -> Result<(), StreamEnd> {
    let answered = match call {
        Ok(Call::Hello(_) | Call::Deliver(_) | Call::Attach(_)) => {
            return Err(Breach::Protocol("the connection was introduced twice".to_owned()).into());
        }
        Ok(call) if connected.carries == Carries::Data && !is_question(&call) => {
            return Err(Breach::Protocol("orders belong on the session's own connection".to_owned()).into());
        }
        Ok(Call::Watch) => return watch(connected, send).await,
        Ok(_) if !connected.session.is_current() => Err(stale()),
        Ok(Call::Logs(call)) => return logs::serve(connected, call, send).await,
        Ok(Call::Start(call)) => connected.start(*call),
        Ok(Call::Stop(call)) => connected.stop(&call),
        Ok(Call::Signal(call)) => connected.signal(&call).await,
        Ok(Call::Forget(call)) => connected.forget(&call).await,
        Ok(Call::Usage(call)) => connected.usage(&call).await,
        Ok(Call::Room) => Ok(Answer::Room(connected.room())),
        Ok(Call::Prepare(call)) => {
            connected.agent.runtime.prepare(&connected.session.edge, call.stocks);
            Ok(Answer::Done)
        }
        Ok(Call::Renew(call)) => connected.renew(&call),
        Ok(Call::Resume(call)) => connected.resume(&call).await,
        Err(_) => Err(unknown_call()),
    };
    answer(&mut send, &answered.unwrap_or_else(Answer::Refused)).await
}

/// Whether a call is about one instance or the output of some: people ask such, and as often as they like.
fn is_question(call: &Call) -> bool {
    matches!(call, Call::Logs(_) | Call::Usage(_) | Call::Signal(_))
}

fn stale() -> Refusal {
    Refusal {
        code: RefusalCode::Stale,
        message: "a newer session of this edge's shard has taken over".to_owned(),
    }
}

fn unknown_call() -> Refusal {
    let version = env!("CARGO_PKG_VERSION");
    let message =
        format!("this agent (version {version}) does not understand the call: is the edge's version newer?");
    Refusal { code: RefusalCode::Invalid, message }
}

/// Reports the state of all the edge's instances, and then each change.
async fn watch<R: Runtime + 'static>(
    connected: &Connected<R>,
    mut send: SendStream,
) -> Result<(), StreamEnd> {
    if connected.watching.replace(true) {
        let message = "this connection watches already".to_owned();
        return answer(&mut send, &Answer::Refused(Refusal { code: RefusalCode::Invalid, message })).await;
    }
    let watch = connected.agent.instances.watch(&connected.session.edge);
    let behind = watch.behind.clone();
    let ended = tokio::select! {
        ended = send_updates(watch, &mut send) => ended,
        () = behind.cancelled() => Err(Breach::Slow.into()),
    };
    connected.watching.set(false);
    ended
}

async fn send_updates(mut watch: Watch, send: &mut SendStream) -> Result<(), StreamEnd> {
    let mut stopped = pin!(send.stopped());
    for status in watch.now {
        frame::write(send, &Answer::Update(status)).await?;
    }
    frame::write(send, &Answer::Synced).await?;
    frame::write(send, &Answer::Draining(watch.draining)).await?;
    loop {
        let update = tokio::select! {
            update = watch.updates.recv() => update.ok_or(Breach::Slow)?,
            _ = &mut stopped => return Err(StreamEnd::Gone),
        };
        frame::write(send, &update).await?;
    }
}

impl<R: Runtime + 'static> Connected<R> {
    /// Synchronous up to the instance's entry in the table: so the session is still current when its start takes
    /// effect.
    fn start(self: &Rc<Self>, start: Start) -> Result<Answer, Refusal> {
        let owner = self.session.edge.clone();
        // One that was admitted before is there, whether or not this comes in time.
        let known = self.agent.instances.is_known(start.instance);
        let term_slot = if known { None } else { self.first_term(&owner, &start)? };
        let launch = Launch { start, owner, epoch: self.session.epoch, term_slot };
        let reserve = || self.agent.runtime.reserve(&launch.start);
        let admitted = self.agent.instances.admit(&launch, reserve).inspect_err(|refusal| {
            tracing::warn!(instance = %launch.start.instance, object = %launch.start.object, %refusal, "start refused");
            self.agent.instances.counts().refused();
        })?;
        if let Admitted::New(orders) = admitted {
            tracing::info!(instance = %launch.start.instance, object = %launch.start.object,
                generation = launch.start.generation.0, edge = %launch.owner, "starting an instance");
            follow::start(&self.agent, launch, orders);
        }
        Ok(Answer::Accepted)
    }

    /// One that came too late prolongs nothing, and is told the time all the same: else an edge whose last stamp is older than a
    /// term, as after both machines slept, would never give a term again on this connection.
    fn renew(&self, renew: &Renew) -> Result<Answer, Refusal> {
        let edge = &self.session.edge;
        match self.agent.terms.prolong(edge, renew.until) {
            Ok(_) => self.agent.instances.heard(edge),
            Err(refusal) if refusal.code == RefusalCode::Lapsed => {
                tracing::debug!(%edge, %refusal, "a renewal came too late");
            }
            Err(refusal) => return Err(refusal),
        }
        // An older edge, which has sent no stamp, knows no such answer.
        let stamp = renew.until.and_then(|_| self.agent.terms.stamp());
        Ok(stamp.map_or(Answer::Done, |stamp| Answer::Renewed(Renewed { stamp })))
    }

    /// The shims look at the time again: this process may be stopped in between.
    async fn resume(&self, resume: &Resume) -> Result<Answer, Refusal> {
        self.agent.terms.check(resume.until)?;
        for instance in &resume.instances {
            let Ok(sockets) = self.agent.instances.sockets(&self.session.edge, *instance) else { continue };
            tracing::info!(%instance, "resuming an instance");
            if let Err(error) = sockets.resume(resume.until.ms).await {
                // It is ending just now, or is told of again.
                tracing::warn!(%instance, %error, "cannot resume an instance");
            }
        }
        Ok(Answer::Done)
    }

    fn first_term(&self, owner: &EdgeId, start: &Start) -> Result<Option<Slot>, Refusal> {
        self.agent.terms.prolong(owner, start.until).inspect_err(|refusal| {
            tracing::warn!(instance = %start.instance, object = %start.object, %refusal, "start refused");
            self.agent.instances.counts().refused();
        })
    }

    fn stop(&self, stop: &Stop) -> Result<Answer, Refusal> {
        tracing::info!(instance = %stop.instance, signal = stop.signal, grace_ms = stop.grace_ms, "stopping an instance");
        self.agent.instances.stop(&self.session.edge, stop).map(|()| Answer::Done)
    }

    async fn signal(&self, call: &Signal) -> Result<Answer, Refusal> {
        if !SIGNALS.contains(&call.signal) {
            let message = format!("{} is not the number of a signal", call.signal);
            return Err(Refusal { code: RefusalCode::Invalid, message });
        }
        let sockets = self.agent.instances.sockets(&self.session.edge, call.instance)?;
        tracing::info!(instance = %call.instance, signal = call.signal, "sending an instance a signal");
        sockets.signal(call.signal).await.map(|()| Answer::Done).map_err(|error| Refusal {
            code: RefusalCode::Other,
            message: format!("cannot send {} a signal: {error}", call.instance),
        })
    }

    async fn usage(&self, ask: &AskUsage) -> Result<Answer, Refusal> {
        let sockets = self.agent.instances.sockets(&self.session.edge, ask.instance)?;
        sockets.usage().await.map(Answer::Usage).map_err(|error| Refusal {
            code: RefusalCode::Other,
            message: format!("cannot read what {} takes: {error}", ask.instance),
        })
    }

    fn room(&self) -> Room {
        let Census { memory_bytes, cpu_sixteenths, .. } = self.agent.instances.census();
        let instances = u32::try_from(self.agent.instances.alive().len()).unwrap_or(u32::MAX);
        Room {
            used: Capacity { memory_bytes, cpu_sixteenths, instances },
            prepared: u32::try_from(self.agent.runtime.prepared()).unwrap_or(u32::MAX),
            slots: self.agent.runtime.slots(),
        }
    }

    async fn forget(&self, forget: &Forget) -> Result<Answer, Refusal> {
        for instance in self.agent.instances.forgettable(&self.session.edge, &forget.instances)? {
            self.forget_one(instance).await?;
        }
        Ok(Answer::Done)
    }

    /// An instance stays in the table until its record is removed from disk: else the next agent would adopt it again.
    async fn forget_one(&self, instance: InstanceId) -> Result<(), Refusal> {
        let forgotten = tokio::time::timeout(FORGET_TIMEOUT, self.agent.runtime.forget(instance)).await;
        forgotten.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|error| {
            tracing::error!(%instance, %error, "cannot remove the record of an ended instance");
            Refusal {
                code: RefusalCode::Other,
                message: format!("cannot remove the record of {instance}: {error}"),
            }
        })?;
        self.agent.instances.forget(instance);
        Ok(())
    }
}
