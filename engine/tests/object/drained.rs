//! Stories of an object whose node is to be emptied.

use berth_common::outcome::{ExitReason, Outcome};
use berth_common::wire::call::Phase;
use berth_engine::{Effect, Input, PublicState, RecordState};

use crate::desk::{Desk, class, instance, node, persist, placed, refused, stops};

const SIGTERM: i32 = 15;

fn drain(desk: &mut Desk, even_held: bool) -> Vec<Effect> {
    desk.input(Input::Drain { node: node(), even_held })
}

/// What an instance gets that is drained.
fn end() -> (berth_common::ids::InstanceId, i32, u64) {
    (instance(1), SIGTERM, u64::try_from(class().stop_grace.as_millis()).unwrap())
}

#[test]
fn an_instance_ends_once_nobody_holds_it_and_who_asks_then_gets_another_one() {
    let mut desk = Desk::new();
    let hold = desk.healthy();
    assert_eq!(drain(&mut desk, false), [], "it is held");
    desk.release(hold);
    let write = persist(&drain(&mut desk, false));
    assert_eq!(drain(&mut desk, false), [], "once");
    assert_eq!(stops(&desk.persisted(write)), [end()]);
    assert_eq!(desk.acquire(2), [], "it waits");
    let ended = desk.status(1, 1, Phase::Exited(Outcome::exited(0)));
    let Some(Effect::Persist { record, .. }) =
        ended.iter().find(|effect| matches!(effect, Effect::Persist { .. }))
    else {
        panic!("{ended:?}")
    };
    let RecordState::Stopped { outcome: Some(outcome), .. } = &record.state else { panic!("{record:?}") };
    assert_eq!((outcome.reason, outcome.code), (ExitReason::Drained, Some(0)));
    let next = desk.persisted(persist(&ended));
    assert!(matches!(&next[..], [Effect::Forget { .. }, Effect::Reserve(_)]), "{next:?}");
}

#[test]
fn one_that_is_held_for_ever_or_never_answers_ends_too() {
    let mut desk = Desk::new();
    desk.healthy();
    let write = persist(&drain(&mut desk, true));
    assert_eq!(stops(&desk.persisted(write)), [end()]);

    let mut desk = Desk::new();
    desk.starting();
    assert_eq!(drain(&mut desk, false), [], "somebody waits for it");
    let effects = drain(&mut desk, true);
    assert_eq!(refused(&effects), []);
    assert_eq!(stops(&desk.persisted(persist(&effects))), [end()]);
}

#[test]
fn one_that_its_node_has_not_told_of_yet_is_left_until_it_has() {
    let mut desk = Desk::new();
    desk.restore(placed(1, 1));
    assert_eq!(drain(&mut desk, true), []);
    desk.status(1, 1, Phase::Ready);
    drain(&mut desk, false);
    assert_eq!(desk.view().state, PublicState::Stopping);
}

#[test]
fn other_nodes_are_not_concerned() {
    let mut desk = Desk::new();
    desk.healthy();
    assert_eq!(desk.input(Input::Drain { node: "other".parse().unwrap(), even_held: true }), []);
}
