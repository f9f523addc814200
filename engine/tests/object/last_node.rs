//! The node of the last instance is where the next one is best placed, for a while.

use berth_common::ids::{Generation, NodeId};
use berth_common::outcome::Outcome;
use berth_common::wire::call::Phase;
use berth_engine::{Effect, Input, Record, RecordState};

use crate::desk::{Desk, key, node, persist, silence};

/// The time of day when a desk's own clock says 0.
const WALL_MS: u64 = 1_000_000;
const FIVE_MINUTES_MS: u64 = 5 * 60 * 1_000;

fn last_node(effects: &[Effect]) -> Option<NodeId> {
    let asked = effects.iter().find_map(|effect| match effect {
        Effect::Reserve(demand) => Some(demand.last_node.clone()),
        _ => None,
    });
    asked.unwrap_or_else(|| panic!("no room is sought: {effects:?}"))
}

/// Where an object whose instance ended at this time of day wants to be now.
fn wanted(ended_ms: u64, now_ms: u64) -> Option<NodeId> {
    let mut desk = Desk::new();
    desk.at(now_ms);
    desk.acquire(1);
    let state = RecordState::Stopped { outcome: None, node: Some(node()) };
    let (key, generation) = (key(), Generation(4));
    let record = Record { key, generation, state, last_change_ms: ended_ms, failures: Vec::new() };
    last_node(&desk.loaded(Some(record)))
}

#[test]
fn it_is_preferred_for_five_minutes() {
    assert_eq!(wanted(WALL_MS, FIVE_MINUTES_MS), Some(node()));
    assert_eq!(wanted(WALL_MS, FIVE_MINUTES_MS + 1), None);
}

#[test]
fn it_is_in_the_record_unless_it_was_lost() {
    let mut desk = Desk::new();
    let hold = desk.healthy();
    desk.release(hold);
    let ended = desk.status(1, 1, Phase::Exited(Outcome::exited(0)));
    let kept = ended.iter().find_map(|effect| match effect {
        Effect::Persist { record, .. } => Some(record.state.clone()),
        _ => None,
    });
    assert!(matches!(kept, Some(RecordState::Stopped { node: Some(kept), .. }) if kept == node()));

    let mut desk = Desk::new();
    desk.healthy();
    let ended = desk.input(Input::NodeLost { node: node(), silence: silence(0) });
    desk.acquire(2);
    assert_eq!(last_node(&desk.persisted(persist(&ended))), None);
}
