//! Nodes start only so many instances at once; the others wait for their turn.

use super::*;

/// Of which one app alone may have two, as each has as much as is still free.
const AT_ONCE: u32 = 4;

fn numbered(object: u32) -> Demand {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&object.to_be_bytes());
    let limits = AppLimits { memory_bytes: u64::MAX, cpu_sixteenths: u32::MAX, disk_bytes: u64::MAX };
    Demand { object: ObjectId::from_bytes(bytes), limits, ..demand(0, None) }
}

fn patient(object: u32) -> Demand {
    Demand { is_patient: true, ..numbered(object) }
}

/// Nodes with room for many that each start some at once.
fn paced(names: &[&str]) -> Fleet {
    let mut fleet = Fleet::new();
    for name in names {
        up(&mut fleet, name, Capacity { memory_bytes: 999 * GIB, cpu_sixteenths: 9_999, instances: 999 });
        fleet.node_starts(&node(name), Some(AT_ONCE));
    }
    fleet.turns();
    fleet
}

fn objects(turns: &[Turn]) -> Vec<ObjectId> {
    turns.iter().map(|turn| turn.object).collect()
}

fn started(fleet: &mut Fleet, demand: &Demand) -> Vec<Turn> {
    fleet.started(demand.object, demand.generation);
    fleet.turns()
}

#[test]
fn what_was_on_a_lost_node_starts_on_three_others_in_order_and_never_too_many_at_once() {
    let mut fleet = paced(&["a", "b", "c"]);
    let all: Vec<Demand> = (0..300).map(numbered).collect();
    let mut starting: Vec<Demand> = Vec::new();
    for demand in &all {
        match fleet.ask(demand.clone()) {
            Some(result) => {
                result.unwrap();
                starting.push(demand.clone());
            }
            None => assert_eq!(starting.len(), 6, "all turns are taken"),
        }
    }
    for served in 0..all.len() {
        let done = starting.remove(0);
        assert_eq!(done.object, all[served].object, "in the order in which they came");
        for turn in started(&mut fleet, &done) {
            assert!(turn.result.is_ok());
            starting.push(all.iter().find(|demand| demand.object == turn.object).unwrap().clone());
        }
        assert_eq!(starting.len(), 6.min(all.len() - 1 - served));
    }
}

#[test]
fn who_is_waited_for_comes_first() {
    let mut fleet = paced(&["a"]);
    (0..2).for_each(|object| assert!(fleet.ask(numbered(object)).unwrap().is_ok()));
    assert_eq!(fleet.ask(patient(10)), None);
    assert_eq!(fleet.ask(numbered(11)), None);
    assert_eq!(objects(&started(&mut fleet, &numbered(0))), [numbered(11).object]);
    assert_eq!(started(&mut fleet, &numbered(0)), [], "once each");
    fleet.release(numbered(11).object, Generation(1));
    assert_eq!(objects(&fleet.turns()), [patient(10).object], "what has ended has started, too");
}

#[test]
fn an_old_report_frees_no_turn() {
    let mut fleet = paced(&["a"]);
    (0..2).for_each(|object| assert!(fleet.ask(numbered(object)).unwrap().is_ok()));
    assert_eq!(fleet.ask(numbered(3)), None);
    fleet.started(numbered(0).object, Generation(9));
    assert_eq!(fleet.turns(), []);
}

#[test]
fn what_is_withdrawn_gets_no_turn() {
    let mut fleet = paced(&["a"]);
    (0..2).for_each(|object| assert!(fleet.ask(numbered(object)).unwrap().is_ok()));
    assert_eq!(fleet.ask(numbered(3)), None);
    assert_eq!(fleet.withdraw(numbered(3).object), Some(numbered(3)));
    assert_eq!(fleet.withdraw(numbered(3).object), None);
    assert_eq!(started(&mut fleet, &numbered(0)), []);
}

#[test]
fn one_without_a_place_does_not_hold_up_those_behind_it() {
    let mut fleet = paced(&["a", "b"]);
    fleet.node_is(&node("a"), Some(Architecture::Amd64));
    fleet.node_is(&node("b"), Some(Architecture::Arm64));
    let on = |object, architecture| Demand { constraints: runs_on(architecture), ..numbered(object) };
    (0..2).for_each(|object| assert!(fleet.ask(on(object, Architecture::Amd64)).unwrap().is_ok()));
    (2..4).for_each(|object| assert!(fleet.ask(on(object, Architecture::Arm64)).unwrap().is_ok()));
    assert_eq!(fleet.ask(on(5, Architecture::Amd64)), None);
    assert_eq!(fleet.ask(on(6, Architecture::Arm64)), None);
    assert_eq!(objects(&started(&mut fleet, &numbered(2))), [numbered(6).object]);
}

#[test]
fn where_the_room_is_gone_when_the_turn_comes_it_is_refused() {
    let mut fleet = Fleet::new();
    up(&mut fleet, "a", Capacity { memory_bytes: 2 * GIB, cpu_sixteenths: 99, instances: 9 });
    fleet.node_starts(&node("a"), Some(1));
    assert!(fleet.ask(numbered(1)).unwrap().is_ok());
    assert_eq!(fleet.ask(numbered(2)), None);
    fleet.restore(&numbered(3), &node("a"));
    let turns = started(&mut fleet, &numbered(1));
    assert!(matches!(&turns[..], [Turn { result: Err(Refused::NoCapacity { .. }), .. }]), "{turns:?}");
    assert!(matches!(fleet.ask(numbered(4)), Some(Err(Refused::NoCapacity { .. }))), "and not queued");
}

#[test]
fn who_is_patient_waits_for_room_and_for_nodes() {
    let mut fleet = Fleet::new();
    assert_eq!(fleet.ask(patient(1)), None);
    assert_eq!(fleet.ask(numbered(2)), Some(Err(Refused::NoNode)));
    assert_eq!(fleet.turns(), []);
    up(&mut fleet, "a", Capacity { memory_bytes: GIB, cpu_sixteenths: 99, instances: 9 });
    assert_eq!(objects(&fleet.turns()), [patient(1).object]);
    assert_eq!(fleet.ask(patient(3)), None, "the node is full");
    fleet.release(patient(1).object, Generation(1));
    assert_eq!(objects(&fleet.turns()), [patient(3).object]);
}

#[test]
fn so_many_wait_and_no_more_and_an_app_has_as_much_as_is_still_free() {
    let mut fleet = Fleet::new();
    (0..5_000).for_each(|object| assert_eq!(fleet.ask(patient(object)), None));
    assert_eq!(fleet.ask(patient(5_001)), Some(Err(Refused::NoTurn)));
    assert_eq!(fleet.ask(patient(7)), None, "one that waits already may wait on");
    let other = |object| of_app("other", patient(object));
    (20_000..22_500).for_each(|object| assert_eq!(fleet.ask(other(object)), None));
    assert_eq!(fleet.ask(other(30_000)), Some(Err(Refused::NoTurn)));
}

fn of_app(name: &str, demand: Demand) -> Demand {
    let class = (name.parse().unwrap(), demand.class.1.clone());
    Demand { class, ..demand }
}

#[test]
fn an_app_with_many_that_wait_or_hang_holds_up_no_other() {
    let mut fleet = paced(&["a"]);
    let loud: Vec<Demand> = (0..100).map(numbered).collect();
    let placed = loud.iter().filter(|demand| fleet.ask((*demand).clone()).is_some()).count();
    assert_eq!(placed, 2);
    assert!(fleet.ask(of_app("quiet", numbered(200))).is_some(), "it has a turn at once");
    // Its next ones take turns with the hundred, and are not behind them.
    let quiet: Vec<Demand> = (201..204).map(|object| of_app("quiet", numbered(object))).collect();
    quiet.iter().for_each(|demand| assert_eq!(fleet.ask(demand.clone()), None));
    started(&mut fleet, &of_app("quiet", numbered(200)));
    let next = started(&mut fleet, &loud[0]);
    let of_quiet = |turn: &Turn| quiet.iter().any(|demand| demand.object == turn.object);
    assert!(next.iter().all(|turn| turn.result.is_ok()));
    let there = quiet.iter().filter(|demand| fleet.taken(demand.object).is_some()).count();
    assert!(there == 1, "{next:?}: {}", next.iter().filter(|turn| of_quiet(turn)).count());
}

#[test]
fn a_start_that_hangs_keeps_its_turn_for_seconds_only() {
    let mut fleet = paced(&["a"]);
    (0..2).for_each(|object| assert!(fleet.ask(numbered(object)).unwrap().is_ok()));
    assert_eq!(fleet.ask(numbered(3)), None);
    (0..5).for_each(|_| fleet.tick());
    assert_eq!(fleet.turns(), []);
    fleet.tick();
    assert_eq!(objects(&fleet.turns()), [numbered(3).object]);
    assert_eq!(started(&mut fleet, &numbered(0)), [], "its end frees nothing twice");
}

#[test]
fn a_node_that_does_not_say_how_many_gets_all() {
    let mut fleet = paced(&["a"]);
    fleet.node_starts(&node("a"), None);
    (0..20).for_each(|object| assert!(fleet.ask(numbered(object)).unwrap().is_ok()));
}
