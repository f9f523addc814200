//! An object whose node is lost: nothing runs there any more, so its instance has ended, and whoever waits gets another one.
//!
//! What fails, and what happens then:
//! * The node comes back: it reports the instance, which is no object's any more, and it is ended there. What it had really used
//!   takes the place of the estimate, and only then is the node to forget it.
//! * The end cannot be written: as with any other end.
//! * Its class has it wait (`node_loss`): it stays as it is, and goes on when the node is back. What was to be
//!   sent there is void for it, too: ends and resumes are ordered anew then, and a start that was not sent has failed.

use berth_common::ids::NodeId;
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::wire::call::{InstanceStatus, Phase, Stop};

use super::live::Stage;
use super::{Object, SIGKILL, State, ms};
use crate::context::Context;
use crate::effect::Effect;
use crate::input::Silence;

impl Object {
    /// Its node is lost. Where its class waits for longer than the node was silent, so does it.
    pub(crate) fn node_lost(&mut self, silence: Silence, cx: &mut Context<'_>) {
        let live = self.state.live();
        if matches!(live.stage, Stage::Refused { .. }) {
            // The node had refused it: nothing of it is there, and another is being sought.
            return;
        }
        if silence.is_waited_out(live.class.node_loss.unwrap_or(cx.config.node_loss)) {
            return;
        }
        let told = format!("its node `{}` was not heard of for longer than its term", live.node);
        let metered = live.vanished(silence.heard_ms, cx.now.wall_ms);
        let deadline_ms = cx.now.mono_ms.saturating_add(ms(live.class.start_timeout));
        self.start_by(deadline_ms, cx);
        self.end(Outcome::because(ExitReason::NodeLost, told), metered, cx);
    }

    /// Its node tells that the instance has ended, whose end is being written. What was measured of one that was lost with its
    /// node is news; the others' is in what is being written, and their `Forget` follows.
    pub(crate) fn returned(&mut self, status: InstanceStatus) {
        let was_lost = self.exit.as_ref().is_some_and(|outcome| outcome.reason == ExitReason::NodeLost);
        if let State::Ending { returned, .. } = &mut self.state
            && was_lost
        {
            *returned = Some(Box::new(status));
        }
    }
}

/// Ends or forgets an instance that belongs to no object, so that an object never has two.
pub(crate) fn dispose(node: NodeId, status: InstanceStatus) -> Effect {
    let measured = status.metered.filter(|metered| !metered.estimated);
    match (status.phase, measured) {
        // Its node may have been given up, and its usage estimated.
        (Phase::Exited(_), Some(metered)) => {
            Effect::Measured { node, instance: status.instance, metered: Box::new(metered) }
        }
        (Phase::Exited(_), None) => Effect::Forget { node, instance: status.instance, ended: None },
        (Phase::Starting | Phase::Running | Phase::Ready | Phase::Stopping, _) => {
            Effect::Stop { node, stop: Stop { instance: status.instance, signal: SIGKILL, grace_ms: 0 } }
        }
    }
}
