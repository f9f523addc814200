//! An object whose class wants its instance back elsewhere after it was lost or drained with its node, whether or not somebody waits.
//!
//! ```text
//! ended, as its node was lost or drained ──the end is durable──▶ Reserving, patiently: it waits for room as long as it takes
//!                                                                   │ somebody comes: asked for anew, as for any request
//!                                                                   └─▶ Placing ...: it has come back
//! ```
//!
//! What fails, and what happens then:
//! * Too many wait already: it starts when it is asked for.
//! * Its start fails: as with any other, it starts when it is asked for.
//! * The edge is restarted before it has come back: the same.
//! * It is ended on order meanwhile: it does not come back.

use std::sync::Arc;

use berth_common::outcome::ExitReason;
use berth_common::spec::{ClassSpec, OnNodeGone};

use super::{Object, State};
use crate::context::Context;
use crate::effect::Effect;

impl Object {
    /// Its instance ends for this reason.
    pub(super) fn note_comeback(&mut self, reason: ExitReason, class: &Arc<ClassSpec>) {
        let is_gone = matches!(reason, ExitReason::NodeLost | ExitReason::Drained);
        self.comeback = (is_gone && class.on_node_gone == OnNodeGone::Restart).then(|| Arc::clone(class));
    }

    /// Somebody waits by now for what was asked for patiently: that is to be asked for anew.
    pub(super) fn hurry(&mut self, cx: &mut Context<'_>) {
        if let State::Reserving { is_withdrawn, .. } = &mut self.state
            && self.comeback.is_some()
            && self.waiters.len() == 1
            && !std::mem::replace(is_withdrawn, true)
        {
            cx.emit(Effect::Withdraw { object: self.id });
        }
    }

    /// Nobody waits for it any more: it goes on waiting by itself.
    pub(super) fn wait_on(&mut self, cx: &mut Context<'_>) {
        if matches!(self.state, State::Unplaced) {
            self.begin(cx);
        }
    }

    /// It need not come back any more.
    pub(super) fn forgo_comeback(&mut self, cx: &mut Context<'_>) {
        if self.comeback.take().is_some() {
            self.leave_if_unwanted(cx);
        }
    }
}
