//! What leads to a start: room on a node, for which an object may wait for its turn, and the order to its node.

use std::sync::Arc;

use berth_common::ids::{InstanceId, NodeId, ObjectId};
use berth_common::spec::Secrets as Bindings;
use berth_common::wire::call::{Phase, Refusal, RefusalCode, Start};
use berth_engine::fleet::{Demand, TICK, Turn};
use berth_engine::{Input, Refused};

use super::{Mailbox, Objects, whole_ms};
use crate::nodes::Nodes;
use crate::shard::link::Command;
use crate::shard::shard_of;

/// Has each object told that its turn has come, on its shard. `mailboxes`: those of all shards.
pub(crate) fn deliver_turns(nodes: &Arc<Nodes>, mailboxes: Vec<Mailbox>) {
    tokio::spawn(keep_time(Arc::clone(nodes)));
    nodes.on_turn(move |turn| mailboxes[shard_of(turn.object, mailboxes.len())].input(answer(turn)));
}

/// A start that takes long holds up no other.
async fn keep_time(nodes: Arc<Nodes>) {
    loop {
        tokio::time::sleep(TICK).await;
        nodes.tick();
    }
}

fn answer(Turn { object, generation, result }: Turn) -> Input {
    let result = result.map(|node| (node, InstanceId::random()));
    Input::Reserved { object, generation, result }
}

impl Objects {
    pub(super) fn reserve(&mut self, demand: Demand) {
        self.starts.wanted(&demand);
        let (object, generation) = (demand.object, demand.generation);
        if let Some(result) = self.deps.nodes.ask(demand) {
            self.note_unplaced(object, &result);
            self.handle(answer(Turn { object, generation, result }));
        }
    }

    pub(super) fn withdraw(&mut self, object: ObjectId) {
        if let Some(Demand { generation, .. }) = self.deps.nodes.withdraw(object) {
            self.handle(answer(Turn { object, generation, result: Err(Refused::NoTurn) }));
        }
    }

    /// Whatever has started or ended gives its turn on its node to another.
    pub(super) fn note_started(&self, input: &Input) {
        if let Input::Status { status, .. } = input
            && !matches!(status.phase, Phase::Starting)
        {
            self.deps.nodes.started(status.object, status.generation);
        }
    }

    /// Adds when it may be worth trying again, where only this edge's knowledge of the node tells.
    pub(super) fn with_time(&self, refused: Refused) -> Refused {
        match refused {
            Refused::NodeUnreachable { node, retry_ms: None } => {
                let retry_ms = self.deps.nodes.given_up_in(&node).map(whole_ms);
                Refused::NodeUnreachable { node, retry_ms }
            }
            refused => refused,
        }
    }

    /// Sends a node the start of an instance, with its secrets, which are decrypted only here. If they cannot be, the
    /// instance is not started, which counts as a refusal by the node.
    pub(super) fn start(&mut self, node: &NodeId, mut start: Box<Start>, secrets: &Bindings) {
        self.starts.sent(&start);
        let env = &mut start.recipe.env;
        env.extend(self.envs.get(&start.object.id()).into_iter().flatten().cloned());
        let Err(error) = self.deps.secrets.add_to(env, &start.object.app, secrets) else {
            return self.send_command(node, Command::Start(start));
        };
        let (object, instance) = (start.object.id(), start.instance);
        tracing::warn!(object = %start.object, %instance, %error, "instance not started");
        let refusal = Refusal { code: RefusalCode::Invalid, message: error.to_string() };
        let refused = Input::StartRefused { object, instance, refusal };
        self.starts.note_input(&refused);
        self.handle(refused);
    }
}
