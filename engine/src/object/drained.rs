//! An object whose node is to be emptied by this edge: its instance ends in good order, and whoever asks for the object then gets
//! another one elsewhere.
//!
//! What fails, and what happens then:
//! * It is not known yet what its node makes of it, or its start is still to be sent: it ends when the order comes again.
//! * It is held for ever: it ends all the same, once `even_held` says so.

use berth_common::outcome::ExitReason;

use super::Object;
use super::live::Stage;
use crate::context::Context;

impl Object {
    /// Its node is to be emptied.
    pub(crate) fn drain(&mut self, even_held: bool, cx: &mut Context<'_>) {
        let live = self.state.live();
        let ends = match live.stage {
            Stage::Healthy { .. } => even_held || live.holds.is_empty(),
            // Somebody waits for it.
            Stage::Starting { .. } | Stage::Running { .. } => even_held,
            Stage::Placing { .. } | Stage::Refused { .. } | Stage::Stopping { .. } | Stage::Recovering => {
                false
            }
        };
        if ends {
            self.stop(ExitReason::Drained, cx);
        }
    }
}
