//! The containers of the objects that are on this thread: their orders and requests go to what looks after each, and what has become
//! of them to the script. Judges nothing.

use berth_script::message::container::{NOT_RUNNING, Order};
use berth_script::message::{Event, EventId, ObjectId, OpId, Request, ScriptError};

use super::super::link::Command;
use super::Actor;

impl Actor {
    /// An object's code wants something of its container.
    pub(super) fn order_container(&mut self, id: ObjectId, order: Order) {
        let here = self.objects.here.get_mut(&id);
        if let Some(container) = here.and_then(|here| here.container.as_mut()) {
            container.order(order);
        }
    }

    /// Something has become of an object's container.
    pub(super) fn container_changed(&mut self, id: ObjectId) {
        let Some(here) = self.objects.here.get(&id) else { return };
        for change in here.container_changes.take() {
            self.ledger.container_changed(id, &change);
            self.tell(&Event::Container(id, change));
        }
    }

    /// A request to a port of an object's container.
    pub(super) fn fetch_port(
        &mut self,
        op: OpId,
        event: EventId,
        id: ObjectId,
        port: u16,
        upgrade: bool,
        request: Request,
    ) {
        let Some(request) = self.request_of(op, event, request) else { return };
        let here = self.objects.here.get_mut(&id);
        let Some(container) = here.and_then(|here| here.container.as_mut()) else {
            let _ =
                self.link.to_itself.send(Command::Completed(op, Err(ScriptError::new("Error", NOT_RUNNING))));
            return;
        };
        let answer = container.fetch(port, upgrade, request);
        self.await_answer(op, event, answer);
    }
}
