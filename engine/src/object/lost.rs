//! An object whose node is lost: nothing runs there any more, so its instance has ended, and whoever waits gets another one.
//!
//! What fails, and what happens then:
//! * The node comes back: it reports the instance, which is no object's any more, and it is ended there. What it had really used
//!   takes the place of the estimate.
//! * The end cannot be written: as with any other end.

use berth_common::outcome::{ExitReason, Outcome};

use super::live::Stage;
use super::{Object, ms};
use crate::context::Context;

impl Object {
    /// Its node is lost. `heard_ms`: when that was last heard of, in milliseconds since 1970.
    pub(crate) fn node_lost(&mut self, heard_ms: u64, cx: &mut Context<'_>) {
        let live = self.state.live();
        if matches!(live.stage, Stage::Refused { .. }) {
            // The node had refused it: nothing of it is there, and another is being sought.
            return;
        }
        let told = format!("its node `{}` was not heard of for longer than its term", live.node);
        let metered = live.vanished(heard_ms, cx.now.wall_ms);
        let deadline_ms = cx.now.mono_ms.saturating_add(ms(live.class.start_timeout));
        self.start_by(deadline_ms, cx);
        self.end(Outcome::because(ExitReason::NodeLost, told), metered, cx);
    }
}
