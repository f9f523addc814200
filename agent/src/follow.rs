//! Looks after one instance from its start to its end: has it started, tells when its port is open, carries out the
//! orders to end it, and tells how it ended. One task an instance; an agent that ends leaves it running.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use berth_common::ids::InstanceId;
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::wire::call::{Phase, Start};
use berth_shim::metering::{Carried, Ended};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::instances::StopOrders;
use crate::launch::Launch;
use crate::ports::Sockets;
use crate::runtime::{Adopted, AdoptedState, Container, Event, Events, Runtime};

/// How often the tunnel's bytes are noted where there were some: what they may lack after an agent was killed.
const NOTE_EVERY: Duration = Duration::from_secs(2);
/// How often an instance is noted in any case: how much of its life may be missing after its machine was switched off.
const SIGN_EVERY: Duration = Duration::from_secs(60);

/// Starts an instance that has its place in the table, and follows it.
pub(crate) fn start<R: Runtime + 'static>(agent: &Rc<Agent<R>>, launch: Launch, orders: StopOrders) {
    let followed = Followed {
        agent: Rc::clone(agent),
        instance: launch.start.instance,
        readiness: Readiness::of(&launch.start),
    };
    spawn(agent, async move {
        match followed.agent.runtime.start(launch).await {
            Ok((container, events)) => {
                followed.follow(container, Carried::default(), events, orders).await;
            }
            Err(error) => followed.end(Outcome::because(ExitReason::StartFailed, error.message).into()),
        }
    });
}

/// Takes an instance of an earlier agent into the table, and follows it.
pub(crate) fn adopt<R: Runtime + 'static>(agent: &Rc<Agent<R>>, adopted: Adopted<R::Container>) {
    let Adopted { launch, state, carried } = adopted;
    let (instance, readiness) = (launch.start.instance, Readiness::of(&launch.start));
    match state {
        AdoptedState::Exited(ended) => {
            drop(agent.instances.adopt(&launch, Some(ended.with(carried, agent.region.as_deref()))));
        }
        AdoptedState::Running { container, events } => {
            tracing::info!(%instance, object = %launch.start.object, "found a running instance");
            let orders = agent.instances.adopt(&launch, None);
            let followed = Followed { agent: Rc::clone(agent), instance, readiness };
            spawn(agent, async move { followed.follow(container, carried, events, orders).await });
        }
    }
}

/// The agent's end ends the task and nothing else: the container goes on.
fn spawn<R: Runtime + 'static>(agent: &Agent<R>, task: impl Future<Output = ()> + 'static) {
    let drain = agent.lifecycle.drain().clone();
    agent.lifecycle.spawn_local(async move {
        tokio::select! {
            () = task => {}
            () = drain.cancelled() => {}
        }
    });
}

struct Followed<R: Runtime> {
    agent: Rc<Agent<R>>,
    instance: InstanceId,
    readiness: Readiness,
}

/// What must answer before an instance counts as ready.
struct Readiness {
    /// The first is the class's default port.
    ports: Vec<u16>,
    /// A path on that one.
    ping: Option<String>,
}

impl Readiness {
    fn of(start: &Start) -> Self {
        let ports = start.ready_port.into_iter().chain(start.required_ports.iter().copied()).collect();
        Self { ports, ping: start.ping_endpoint.clone() }
    }

    /// Waits until all of it answers, for as long as that takes.
    async fn wait<C: Container + 'static>(&self, sockets: &Rc<Sockets<C>>) {
        for port in &self.ports {
            sockets.wait_until_open(*port).await;
        }
        if let Some((port, path)) = self.ports.first().zip(self.ping.as_ref()) {
            sockets.wait_until_answered(*port, path).await;
        }
    }
}

impl<R: Runtime + 'static> Followed<R> {
    async fn follow(&self, container: R::Container, carried: Carried, events: Events, orders: StopOrders) {
        let sockets = Sockets::new(container.clone(), self.agent.lifecycle.clone(), carried);
        self.agent.instances.placed(self.instance, Rc::clone(&sockets));
        let (started, has_started) = oneshot::channel();
        let never = tokio::select! {
            ended = self.until_end(events, started) => return self.end(ended.with(sockets.carried(), self.agent.region.as_deref())),
            never = self.tell_ready(&container, &sockets, has_started, orders.clone()) => never,
            never = self.obey(&container, orders) => never,
            never = self.take_notes(&sockets) => never,
        };
        match never {}
    }

    async fn until_end(&self, mut events: Events, started: oneshot::Sender<()>) -> Ended {
        let mut started = Some(started);
        while let Some(event) = events.recv().await {
            match event {
                Event::Started => {
                    self.agent.instances.advance(self.instance, Phase::Running);
                    // Whoever waits for it lives as long as this does.
                    let _ = started.take().map(|started| started.send(()));
                }
                Event::Exited(ended) => return ended,
            }
        }
        let message = "what looked after the container went away without a word";
        Outcome::because(ExitReason::RuntimeLost, message).into()
    }

    /// Waits for the port once the app has started, unless it is told to end before.
    async fn tell_ready(
        &self,
        container: &R::Container,
        sockets: &Rc<Sockets<R::Container>>,
        started: oneshot::Receiver<()>,
        mut orders: StopOrders,
    ) -> Infallible {
        let open = async {
            // Fails only when the instance has ended, and then nobody waits for this.
            let _ = started.await;
            self.readiness.wait(sockets).await;
        };
        tokio::select! {
            () = open => {
                self.agent.instances.advance(self.instance, Phase::Ready);
                // Without it the boost ends by itself, a little later.
                let _ = container.ready().await;
            }
            _ = orders.wait_for(Option::is_some) => {}
        }
        std::future::pending().await
    }

    /// Carries out orders to end it, those that came before it was there first.
    async fn obey(&self, container: &R::Container, mut orders: StopOrders) -> Infallible {
        orders.mark_changed();
        while orders.changed().await.is_ok() {
            let Some(order) = *orders.borrow_and_update() else { continue };
            let grace = self.agent.instances.clock().until(order.deadline);
            if let Err(error) = container.stop(order.signal, grace, order.drained).await {
                // It may have ended just now, which the events will tell.
                tracing::warn!(instance = %self.instance, %error, "could not pass on the order to end");
            }
        }
        std::future::pending().await
    }

    /// Notes now and then what the instance takes, for whoever comes after this agent.
    async fn take_notes(&self, sockets: &Rc<Sockets<R::Container>>) -> Infallible {
        let (mut carried, mut at) = (sockets.carried(), Instant::now());
        loop {
            tokio::time::sleep(NOTE_EVERY).await;
            if sockets.carried() == carried && at.elapsed() < SIGN_EVERY {
                continue;
            }
            (carried, at) = (sockets.carried(), Instant::now());
            // It may be ending just now, which the events will tell.
            let Ok(seen) = sockets.seen().await else { continue };
            if let Err(error) = self.agent.runtime.note(self.instance, &seen) {
                tracing::warn!(instance = %self.instance, %error, "could not note what the instance takes");
            }
        }
    }

    fn end(&self, ended: Ended) {
        let outcome = &ended.outcome;
        tracing::info!(instance = %self.instance, reason = ?outcome.reason, code = outcome.code, signal = outcome.signal,
            message = outcome.message, "an instance has ended");
        self.agent.instances.ended(self.instance, ended);
    }
}
