//! Limits, and what is given back.

mod placement;
mod turns;

use std::collections::BTreeSet;

use super::*;

const GIB: u64 = 1 << 30;

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn demand(object: u8, max_instances: Option<u32>) -> Demand {
    Demand {
        object: ObjectId::from_bytes([object; 16]),
        generation: Generation(1),
        resources: Resources { cpu_sixteenths: 4, memory_bytes: GIB, disk_bytes: 0, disk_in_memory: false },
        class: ("app".parse().unwrap(), "Class".parse().unwrap()),
        max_instances,
        limits: AppLimits::default(),
        image: Digest::of(b"image"),
        constraints: Constraints::default(),
        spread: None,
        last_node: None,
        refused_by: BTreeSet::new(),
        is_patient: false,
    }
}

fn runs_on(architecture: Architecture) -> Constraints {
    Constraints { architectures: [architecture].into(), ..Constraints::default() }
}

fn fleet(names: &[&str]) -> Fleet {
    let mut fleet = Fleet::new();
    for name in names {
        fleet.node_up(
            node(name),
            Capacity { memory_bytes: 2 * GIB, cpu_sixteenths: 32, instances: 10 },
            DiskCapacity::default(),
            false,
        );
    }
    fleet
}

#[test]
fn an_app_takes_no_more_than_its_limits() {
    let mut fleet = fleet(&["a"]);
    let mut one = demand(1, None);
    one.limits.cpu_sixteenths = one.resources.cpu_sixteenths;
    fleet.reserve(&one).unwrap();
    let mut two = demand(2, None);
    two.limits = one.limits;
    assert!(matches!(fleet.reserve(&two), Err(Refused::AppLimit { .. })));
    // What it takes itself is not counted twice.
    fleet.reserve(&one).unwrap();
    fleet.release(one.object, one.generation);
    fleet.reserve(&two).unwrap();
}

#[test]
fn holders_of_the_image_come_first_as_long_as_they_have_room() {
    let mut fleet = fleet(&["a", "b"]);
    fleet.node_holds(&node("b"), Digest::of(b"image"), true);
    let placed: Vec<_> = (0..3).map(|n| fleet.reserve(&demand(n, None)).unwrap()).collect();
    assert_eq!(placed, [node("b"), node("b"), node("a")]);
    fleet.node_holds(&node("b"), Digest::of(b"image"), false);
    fleet.release(demand(2, None).object, Generation(1));
    fleet.release(demand(0, None).object, Generation(1));
    assert_eq!(fleet.reserve(&demand(4, None)), Ok(node("a")));
}

#[test]
fn images_only_go_where_they_run() {
    let mut fleet = fleet(&["a", "b"]);
    fleet.node_is(&node("a"), Some(Architecture::Amd64));
    fleet.node_is(&node("b"), Some(Architecture::Arm64));
    let made_for = |n, architecture| Demand { constraints: runs_on(architecture), ..demand(n, None) };
    assert_eq!(fleet.reserve(&made_for(1, Architecture::Arm64)), Ok(node("b")));
    assert_eq!(fleet.reserve(&made_for(2, Architecture::Arm64)), Ok(node("b")));
    fleet.node_is(&node("b"), Some(Architecture::Amd64));
    let Err(Refused::NoCapacity { what }) = fleet.reserve(&made_for(3, Architecture::Arm64)) else {
        panic!("was placed")
    };
    assert!(what.contains("linux/arm64"), "{what}");
}

#[test]
fn instances_spread_and_stop_at_capacity() {
    let mut fleet = fleet(&["a", "b"]);
    let placed: Vec<_> = (0..4).map(|n| fleet.reserve(&demand(n, None)).unwrap()).collect();
    assert_eq!(placed, [node("a"), node("b"), node("a"), node("b")]);
    assert_eq!(fleet.reserve(&demand(9, None)), Err(Refused::NoCapacity { what: "memory".to_owned() }));
    fleet.release(demand(1, None).object, Generation(1));
    assert_eq!(fleet.reserve(&demand(9, None)), Ok(node("b")));
    assert_eq!((fleet.instances_on(&node("a")), fleet.instances_on(&node("b"))), (2, 2));
}

#[test]
fn a_class_has_its_limit() {
    let mut fleet = fleet(&["a"]);
    assert!(fleet.reserve(&demand(1, Some(1))).is_ok());
    assert_eq!(fleet.reserve(&demand(2, Some(1))), Err(Refused::ClassLimit { limit: 1 }));
    // The same object's next generation takes the place of its last.
    assert!(fleet.reserve(&Demand { generation: Generation(2), ..demand(1, Some(1)) }).is_ok());
}

#[test]
fn absent_and_draining_nodes_get_nothing() {
    let mut fleet = fleet(&["a"]);
    fleet.node_down(&node("a"));
    assert_eq!(fleet.reserve(&demand(1, None)), Err(Refused::NoNode));
    fleet.node_up(
        node("a"),
        Capacity { memory_bytes: GIB, cpu_sixteenths: 32, instances: 10 },
        DiskCapacity::default(),
        true,
    );
    assert_eq!(fleet.reserve(&demand(1, None)), Err(Refused::NoNode));
}

#[test]
fn what_a_node_has_counts_even_before_it_is_connected() {
    let mut fleet = Fleet::new();
    fleet.restore(&demand(1, None), &node("a"));
    fleet.node_up(
        node("a"),
        Capacity { memory_bytes: GIB, cpu_sixteenths: 32, instances: 10 },
        DiskCapacity::default(),
        false,
    );
    assert!(fleet.reserve(&demand(2, None)).is_err());
    fleet.release(demand(1, None).object, Generation(1));
    assert!(fleet.reserve(&demand(2, None)).is_ok());
}

#[test]
fn a_late_release_of_an_older_generation_gives_nothing_back() {
    let mut fleet = fleet(&["a"]);
    let newer = Demand { generation: Generation(5), ..demand(1, None) };
    fleet.reserve(&newer).unwrap();
    fleet.release(newer.object, Generation(4));
    assert_eq!(fleet.instances_on(&node("a")), 1);
}

fn up(fleet: &mut Fleet, name: &str, capacity: Capacity) {
    fleet.node_up(node(name), capacity, DiskCapacity::default(), false);
}

const ROOMY: Capacity = Capacity { memory_bytes: 100 * GIB, cpu_sixteenths: 3200, instances: 100 };

#[test]
fn each_limit_of_a_node_holds_by_its_name() {
    let limits = [
        ("memory", Capacity { memory_bytes: GIB, ..ROOMY }),
        ("CPU", Capacity { cpu_sixteenths: 7, ..ROOMY }),
        ("instances", Capacity { instances: 1, ..ROOMY }),
    ];
    for (what, capacity) in limits {
        let mut fleet = Fleet::new();
        up(&mut fleet, "a", capacity);
        assert_eq!(fleet.reserve(&demand(1, None)), Ok(node("a")));
        assert_eq!(fleet.reserve(&demand(2, None)), Err(Refused::NoCapacity { what: what.to_owned() }));
    }
}

#[test]
fn the_emptier_of_two_is_taken_whatever_came_before() {
    let mut fleet = Fleet::new();
    ["b", "a"].iter().for_each(|name| up(&mut fleet, name, ROOMY));
    let placed: Vec<_> = (0..6).map(|n| fleet.reserve(&demand(n, None)).unwrap()).collect();
    assert_eq!(placed, ["a", "b", "a", "b", "a", "b"].map(node));
    // Two leave b: it takes the next two, and only then is it a's turn again.
    fleet.release(demand(1, None).object, Generation(1));
    fleet.release(demand(3, None).object, Generation(1));
    let placed: Vec<_> = (6..9).map(|n| fleet.reserve(&demand(n, None)).unwrap()).collect();
    assert_eq!(placed, ["b", "b", "a"].map(node));
}

#[test]
fn a_full_node_is_passed_over() {
    let mut fleet = Fleet::new();
    up(&mut fleet, "a", Capacity { instances: 0, ..ROOMY });
    up(&mut fleet, "b", ROOMY);
    assert_eq!(fleet.reserve(&demand(1, None)), Ok(node("b")));
    assert_eq!(fleet.reserve(&demand(2, None)), Ok(node("b")));
}

#[test]
fn what_is_reserved_outlives_the_connection() {
    let mut fleet = Fleet::new();
    up(&mut fleet, "a", Capacity { instances: 1, ..ROOMY });
    fleet.reserve(&demand(1, None)).unwrap();
    fleet.node_down(&node("a"));
    up(&mut fleet, "a", Capacity { instances: 1, ..ROOMY });
    assert!(matches!(fleet.reserve(&demand(2, None)), Err(Refused::NoCapacity { .. })));
}

#[test]
fn restored_instances_count_once_and_for_their_class() {
    let mut fleet = fleet(&["a"]);
    fleet.restore(&demand(1, Some(1)), &node("a"));
    fleet.restore(&demand(1, Some(1)), &node("a"));
    assert_eq!(fleet.instances_on(&node("a")), 1);
    assert_eq!(fleet.reserve(&demand(2, Some(1))), Err(Refused::ClassLimit { limit: 1 }));
    // More than the class may have by now, or the node: what lives is counted all the same.
    fleet.restore(&demand(3, Some(1)), &node("a"));
    assert_eq!(fleet.instances_on(&node("a")), 2);
}

#[test]
fn absurd_demands_are_refused_and_not_wrapped() {
    let mut fleet = Fleet::new();
    up(&mut fleet, "a", ROOMY);
    fleet.reserve(&demand(1, None)).unwrap();
    let most = Resources {
        cpu_sixteenths: u32::MAX,
        memory_bytes: u64::MAX,
        disk_bytes: u64::MAX,
        disk_in_memory: false,
    };
    assert!(fleet.reserve(&Demand { resources: most, ..demand(2, None) }).is_err());
}

#[test]
fn disks_find_slots_that_are_large_enough() {
    let slots = |bytes, count| DiskSlots { bytes, count };
    let disk = DiskCapacity {
        limit: DiskLimit::Loop,
        in_memory: true,
        slots: vec![slots(2, 1), slots(4, 2)],
        broken: 0,
    };
    let mut fleet = Fleet::new();
    let capacity = Capacity { memory_bytes: 9 * GIB, cpu_sixteenths: 99, instances: 10 };
    fleet.node_up(node("a"), capacity, disk, false);
    let wants = |object, disk_bytes, disk_in_memory| {
        let mut demand = demand(object, None);
        demand.resources = Resources { memory_bytes: 1, disk_bytes, disk_in_memory, ..demand.resources };
        demand
    };
    for object in 1..=2 {
        fleet.reserve(&wants(object, 2, false)).unwrap();
    }
    fleet.reserve(&wants(3, 3, false)).unwrap();
    let lacking = Refused::NoCapacity { what: "disk slots of 1 bytes".to_owned() };
    assert_eq!(fleet.reserve(&wants(4, 1, false)), Err(lacking));
    fleet.reserve(&wants(5, 9, true)).unwrap();
    fleet.release(demand(3, None).object, Generation(u64::MAX));
    fleet.reserve(&wants(4, 1, false)).unwrap();
    assert!(fleet.reserve(&wants(6, 5, false)).is_err(), "no slot is that large");
}

#[test]
fn a_node_that_limits_no_disk_takes_only_those_in_memory() {
    let disk = DiskCapacity { limit: DiskLimit::None, in_memory: true, slots: Vec::new(), broken: 0 };
    let mut fleet = Fleet::new();
    let capacity = Capacity { memory_bytes: 9 * GIB, cpu_sixteenths: 99, instances: 10 };
    fleet.node_up(node("a"), capacity, disk, false);
    let refused = fleet.reserve(&demand(1, None)).unwrap_err().to_string();
    for way_out in ["prepare --disk-slots", "--disk-limit unenforced", "disk_in_memory"] {
        assert!(refused.contains(way_out), "{refused}");
    }
    let mut in_memory = demand(1, None);
    in_memory.resources.disk_in_memory = true;
    fleet.reserve(&in_memory).unwrap();
}

#[test]
fn news_of_a_node_that_is_not_up_yet_are_kept() {
    let mut fleet = Fleet::new();
    let (early, image) = (node("b"), Digest::of(b"image"));
    fleet.node_holds(&early, image, true);
    fleet.node_is(&early, Some(Architecture::Arm64));
    for name in ["a", "b"] {
        let capacity = Capacity { memory_bytes: 2 * GIB, cpu_sixteenths: 32, instances: 10 };
        fleet.node_up(node(name), capacity, DiskCapacity::default(), false);
    }
    assert_eq!(fleet.reserve(&demand(1, None)), Ok(early.clone()), "it has the image");
    let amd = Demand { constraints: runs_on(Architecture::Amd64), ..demand(2, None) };
    assert_eq!(fleet.reserve(&amd), Ok(node("a")));
    assert_eq!(Fleet::new().instances_on(&early), 0);
}

#[test]
fn a_node_that_says_that_it_is_full_is_asked_last_and_its_broken_slots_are_no_room() {
    let mut fleet = fleet(&["a", "b"]);
    let used = Capacity { memory_bytes: 2 * GIB, cpu_sixteenths: 8, instances: 3 };
    fleet.node_room(&node("a"), &Room { used, prepared: 0, slots: Vec::new() });
    let placed: Vec<_> = (0..3).map(|n| fleet.reserve(&demand(n, None)).unwrap()).collect();
    assert_eq!(placed, [node("b"), node("b"), node("a")], "what it says may be old: it is asked at last");

    let slots = vec![DiskSlots { bytes: 10, count: 2 }];
    let disk = DiskCapacity { limit: DiskLimit::Loop, in_memory: false, slots, broken: 2 };
    let mut fleet = Fleet::new();
    let capacity = Capacity { memory_bytes: 9 * GIB, cpu_sixteenths: 32, instances: 10 };
    fleet.node_up(node("a"), capacity, disk, false);
    let mut one = demand(1, None);
    one.resources.disk_bytes = 10;
    assert_eq!(fleet.reserve(&one), Ok(node("a")));
    fleet.release(one.object, Generation(1));
    fleet.node_room(&node("a"), &Room { used, prepared: 0, slots: Vec::new() });
    assert!(matches!(fleet.reserve(&one), Err(Refused::NoCapacity { .. })));
}

#[test]
fn who_has_refused_is_not_asked_again() {
    let mut fleet = fleet(&["a", "b"]);
    let once = Demand { refused_by: [node("a")].into(), ..demand(1, None) };
    assert_eq!(fleet.reserve(&once), Ok(node("b")));
    let twice = Demand { refused_by: [node("a"), node("b")].into(), ..demand(1, None) };
    assert_eq!(fleet.reserve(&twice), Err(Refused::NoNode));
}

#[test]
fn what_is_reserved_on_a_node_that_nobody_knows_is_told() {
    let mut fleet = fleet(&["a"]);
    assert_eq!(fleet.occupied().count(), 0);
    fleet.restore(&demand(1, None), &node("gone"));
    let occupied: Vec<_> = fleet.occupied().map(|(node, instances)| (node.as_str(), instances)).collect();
    assert_eq!(occupied, [("gone", 1)]);
}
