//! Follows one instance from its start to its end: has it started, reports when its ports are open, carries out the
//! orders to end it, and reports how it ended. One task per instance; when the agent ends, the container runs on.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use berth_common::ids::InstanceId;
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::wire::call::{Phase, Start};
use berth_protocol::node::StopOrder;
use berth_shim::metering::{Carried, Ended};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::instances::StopOrders;
use crate::launch::Launch;
use crate::ports::Sockets;
use crate::runtime::{Adopted, AdoptedState, Container, Event, Events, Runtime};

/// Number of SIGKILL.
const SIGKILL: i32 = 9;
/// In place of a signal, for an order that sends none.
const NO_SIGNAL: i32 = 0;
/// How often the tunnel's byte counts are saved if they changed: counts of this interval may be lost with a killed
/// agent.
const NOTE_EVERY: Duration = Duration::from_secs(2);
/// How often they are saved in any case: this much of an instance's life may be lost when its machine is switched off.
const SIGN_EVERY: Duration = Duration::from_secs(60);

/// Starts an instance that is entered in the table, and follows it.
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

/// Enters an instance of an earlier agent into the table, and follows it.
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

/// The task ends with the agent; the container runs on.
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

/// What must answer before an instance is ready.
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
        self.agent.instances.attach(self.instance, Rc::clone(&sockets));
        let (started, has_started) = oneshot::channel();
        let never = tokio::select! {
            ended = self.until_end(events, started) => return self.end(ended.with(sockets.carried(), self.agent.region.as_deref())),
            never = self.report_ready(&container, &sockets, has_started, orders.clone()) => never,
            never = self.obey(&container, orders) => never,
            never = self.save_usage(&sockets) => never,
        };
        match never {}
    }

    async fn until_end(&self, mut events: Events, started: oneshot::Sender<()>) -> Ended {
        let mut started = Some(started);
        while let Some(event) = events.recv().await {
            match event {
                Event::Started => {
                    self.agent.instances.advance(self.instance, Phase::Running);
                    // The receiver lives as long as this future.
                    let _ = started.take().map(|started| started.send(()));
                }
                Event::Frozen(frozen) => {
                    tracing::info!(instance = %self.instance, frozen, "the term of an instance is over, or begins again");
                    self.agent.instances.freeze(self.instance, frozen);
                }
                Event::Exited(ended) => return ended,
            }
        }
        let message = "the container's shim ended without a report";
        Outcome::because(ExitReason::RuntimeLost, message).into()
    }

    /// Waits for the ports once the app has started, unless an order to end comes first.
    async fn report_ready(
        &self,
        container: &R::Container,
        sockets: &Rc<Sockets<R::Container>>,
        started: oneshot::Receiver<()>,
        mut orders: StopOrders,
    ) -> Infallible {
        let open = async {
            // Fails only when the instance has ended; then this future is dropped.
            let _ = started.await;
            self.readiness.wait(sockets).await;
        };
        tokio::select! {
            () = open => {
                self.agent.instances.advance(self.instance, Phase::Ready);
                // A failure is harmless: the start boost also ends by itself, a little later.
                let _ = container.ready().await;
            }
            _ = orders.wait_for(Option::is_some) => {}
        }
        std::future::pending().await
    }

    /// Carries out orders to end it, including those from before the container existed. An app gets the same signal once:
    /// many take the second for impatience. A repeated order, as after a lost connection, only shortens the grace; that of a
    /// drain also says that the drain ordered it.
    async fn obey(&self, container: &R::Container, mut orders: StopOrders) -> Infallible {
        orders.mark_changed();
        let mut passed: Option<StopOrder> = None;
        loop {
            let order = tokio::select! {
                changed = orders.changed() => match changed {
                    Ok(()) => *orders.borrow_and_update(),
                    Err(_) => std::future::pending().await,
                },
                order = self.overdue(passed) => order,
            };
            let Some(order) = order else { continue };
            let signal = signal_to_pass(passed, order);
            passed = Some(order);
            let Some(signal) = signal else { continue };
            let grace = self.agent.instances.clock().until(order.deadline);
            if let Err(error) = container.stop(signal, grace, order.drained).await {
                // It may have ended just now; its events will say so.
                tracing::warn!(instance = %self.instance, %error, "cannot pass an order to end on to the shim");
            }
        }
    }

    /// Waits until the grace of an order is over, which may have become shorter since it was passed on.
    async fn overdue(&self, passed: Option<StopOrder>) -> Option<StopOrder> {
        let order = match passed {
            Some(order) if order.signal != SIGKILL => order,
            _ => std::future::pending().await,
        };
        tokio::time::sleep(self.agent.instances.clock().until(order.deadline)).await;
        Some(StopOrder { signal: SIGKILL, ..order })
    }

    /// Saves the instance's usage regularly, for a later agent or for an estimate if the shim is lost.
    async fn save_usage(&self, sockets: &Rc<Sockets<R::Container>>) -> Infallible {
        let (mut carried, mut at) = (sockets.carried(), Instant::now());
        loop {
            tokio::time::sleep(NOTE_EVERY).await;
            if sockets.carried() == carried && at.elapsed() < SIGN_EVERY {
                continue;
            }
            (carried, at) = (sockets.carried(), Instant::now());
            // It may be ending just now; its events will say so.
            let Ok(seen) = sockets.seen().await else { continue };
            if let Err(error) = self.agent.runtime.note(self.instance, &seen) {
                tracing::warn!(instance = %self.instance, %error, "cannot save the usage of an instance");
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

/// The signal with which an order is passed on after another one, if the container must hear of it at all.
fn signal_to_pass(before: Option<StopOrder>, order: StopOrder) -> Option<i32> {
    let Some(before) = before.filter(|before| before.signal == order.signal) else {
        return Some(order.signal);
    };
    (order.drained && !before.drained).then_some(NO_SIGNAL)
}

#[cfg(test)]
mod tests {
    use berth_protocol::Moment;

    use super::*;

    #[test]
    fn an_app_gets_a_signal_once_and_its_shim_hears_of_a_drain_that_follows_a_stop() {
        let order = |signal, drained| StopOrder { signal, deadline: Moment::at(Duration::ZERO), drained };
        let (stop, drain, kill) = (order(15, false), order(15, true), order(SIGKILL, true));
        assert_eq!(signal_to_pass(None, stop), Some(15));
        assert_eq!(signal_to_pass(None, drain), Some(15));
        assert_eq!(signal_to_pass(Some(stop), stop), None);
        assert_eq!(signal_to_pass(Some(stop), drain), Some(NO_SIGNAL));
        assert_eq!(signal_to_pass(Some(drain), drain), None);
        assert_eq!(signal_to_pass(Some(drain), kill), Some(SIGKILL));
    }
}
