//! Instances that come back elsewhere by themselves once their nodes are gone.

use berth_common::outcome::{ExitReason, Outcome};
use berth_common::spec::{ClassSpec, OnNodeGone};
use berth_common::wire::call::Phase;
use berth_engine::{Effect, EndOrder, Input, PublicState, Refused, WaiterId};

use crate::desk::{Desk, class, node, object, persist, refused, silence};

/// One that serves, held by nobody, of a class that wants it back.
fn serving() -> Desk {
    Desk::served(ClassSpec { on_node_gone: OnNodeGone::Restart, ..class() })
}

/// Its node is lost, and that is durable: what it asks for.
fn lost(desk: &mut Desk) -> Vec<Effect> {
    let ended = desk.input(Input::NodeLost { node: node(), silence: silence(0) });
    desk.persisted(persist(&ended))
}

fn asks_patiently(effects: &[Effect]) -> Option<bool> {
    effects.iter().find_map(|effect| match effect {
        Effect::Reserve(demand) => Some(demand.is_patient),
        _ => None,
    })
}

#[test]
fn it_is_started_elsewhere_though_nobody_waits_and_only_once() {
    let mut desk = serving();
    assert_eq!(asks_patiently(&lost(&mut desk)), Some(true));
    let write = persist(&desk.reserved(2, Ok(2)));
    assert!(matches!(&desk.persisted(write)[..], [Effect::Start { .. }]));
    desk.status(2, 2, Phase::Ready);
    assert_eq!(desk.view().state, PublicState::Healthy);
    let ended = desk.status(2, 2, Phase::Exited(Outcome::exited(0)));
    assert_eq!(asks_patiently(&desk.persisted(persist(&ended))), None, "an end of its own is for good");
}

#[test]
fn who_comes_meanwhile_is_served_as_any_other_and_it_waits_on_without_them() {
    let mut desk = serving();
    lost(&mut desk);
    assert_eq!(desk.acquire(2), [Effect::Withdraw { object: object() }]);
    assert_eq!(asks_patiently(&desk.reserved(2, Err(Refused::NoTurn))), Some(false));
    let full = desk.reserved(2, Err(Refused::NoCapacity { what: "memory".to_owned() }));
    assert_eq!(refused(&full).len(), 1);
    assert_eq!(asks_patiently(&full), Some(true), "it still waits for room");
    let write = persist(&desk.reserved(2, Ok(2)));
    assert!(matches!(&desk.persisted(write)[..], [Effect::Start { .. }]));
}

#[test]
fn it_is_forgotten_where_too_many_wait_or_it_is_ended_on_order() {
    let mut desk = serving();
    lost(&mut desk);
    assert_eq!(desk.reserved(2, Err(Refused::NoTurn)), []);
    assert_eq!(desk.engine.views().len(), 0, "it has left memory");

    let mut desk = serving();
    lost(&mut desk);
    let order = Input::End { object: object(), order: EndOrder::Destroy, waiter: WaiterId(9) };
    let effects = desk.input(order);
    assert!(effects.contains(&Effect::Withdraw { object: object() }), "{effects:?}");
    assert_eq!(desk.reserved(2, Err(Refused::NoTurn)), []);
    assert_eq!(desk.engine.views().len(), 0);
}

#[test]
fn a_drain_counts_as_well_and_other_ends_do_not() {
    let mut desk = serving();
    let drained = Phase::Exited(Outcome::because(ExitReason::Drained, "the node is drained"));
    let ended = desk.status(1, 1, drained);
    assert_eq!(asks_patiently(&desk.persisted(persist(&ended))), Some(true));

    let mut desk = serving();
    let ended = desk.status(1, 1, Phase::Exited(Outcome::exited(3)));
    assert_eq!(asks_patiently(&desk.persisted(persist(&ended))), None);
}
