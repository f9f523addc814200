//! Whom placement chooses among many, and why.

use proptest::prelude::*;

use super::*;

fn numbered(number: usize) -> NodeId {
    format!("n{number}").parse().unwrap()
}

fn many(nodes: usize, seed: u64) -> Fleet {
    let mut fleet = Fleet::with_seed(seed);
    (0..nodes).for_each(|number| fleet.node_up(numbered(number), ROOMY, DiskCapacity::default(), false));
    fleet
}

fn of_object(object: u32) -> Demand {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&object.to_le_bytes());
    let mut demand = demand(0, None);
    demand.object = ObjectId::from_bytes(bytes);
    demand.limits = AppLimits { memory_bytes: u64::MAX, cpu_sixteenths: u32::MAX, disk_bytes: u64::MAX };
    demand
}

#[test]
fn a_thousand_nodes_are_taken_evenly() {
    const NODES: usize = 1_000;
    const EACH: u32 = 100;
    let mut fleet = Fleet::with_seed(7);
    let roomy = Capacity { memory_bytes: 400 * GIB, cpu_sixteenths: 6400, instances: 400 };
    (0..NODES).for_each(|number| up(&mut fleet, numbered(number).as_str(), roomy));
    (0..EACH * 1_000).for_each(|object| drop(fleet.reserve(&of_object(object)).unwrap()));
    let on: Vec<u32> = (0..NODES).map(|number| fleet.instances_on(&numbered(number))).collect();
    let (least, most) = (*on.iter().min().unwrap(), *on.iter().max().unwrap());
    assert!(least >= EACH * 9 / 10 && most <= EACH * 11 / 10, "{least} to {most} instances, {EACH} if even");
}

#[test]
fn the_same_seed_chooses_the_same_nodes_and_another_does_not() {
    let chosen = |seed| {
        let mut fleet = many(100, seed);
        (0..50).map(|object| fleet.reserve(&of_object(object)).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(chosen(1), chosen(1));
    assert_ne!(chosen(1), chosen(2));
}

#[test]
fn the_image_outweighs_one_band_but_not_two() {
    let choose = |with_image_us, without_us| {
        let mut fleet = many(2, 0);
        fleet.node_holds(&numbered(0), Digest::of(b"image"), true);
        fleet.node_measured(&numbered(0), with_image_us);
        fleet.node_measured(&numbered(1), without_us);
        fleet.reserve(&of_object(1)).unwrap()
    };
    assert_eq!(choose(500, 500), numbered(0));
    assert_eq!(choose(3_000, 500), numbered(0));
    assert_eq!(choose(10_000, 500), numbered(1));
    assert_eq!(choose(10_000, 3_000), numbered(0));
}

#[test]
fn near_nodes_are_filled_before_far_ones_and_unsteady_and_silent_ones_come_last() {
    let mut fleet = many(4, 0);
    [(0, 30_000), (1, 500), (2, 400)]
        .iter()
        .for_each(|(number, us)| fleet.node_measured(&numbered(*number), *us));
    fleet.node_unsteady(&numbered(2), true);
    fleet.node_silent(&numbered(3), true);
    let placed: Vec<_> = (0..301).map(|object| fleet.reserve(&of_object(object)).unwrap()).collect();
    assert!(placed[..100].iter().all(|node| *node == numbered(1)));
    assert!(placed[100..200].iter().all(|node| *node == numbered(0)));
    assert!(placed[200..300].iter().all(|node| *node == numbered(2)));
    assert_eq!(placed[300], numbered(3));
    // It is heard of again.
    let gone =
        |fleet: &mut Fleet, object| fleet.release(of_object(object).object, of_object(object).generation);
    gone(&mut fleet, 0);
    fleet.node_silent(&numbered(3), false);
    fleet.node_measured(&numbered(3), 400);
    assert_eq!(fleet.reserve(&of_object(400)), Ok(numbered(3)));
}

#[test]
fn the_last_node_is_preferred_while_it_is_steady_and_has_the_image() {
    let again = |change: &dyn Fn(&mut Fleet)| {
        let mut fleet = many(20, 3);
        (0..20).for_each(|number| fleet.node_holds(&numbered(number), Digest::of(b"image"), true));
        // Its share is the smallest, so chance does not choose it.
        let busy = Capacity { memory_bytes: 90 * GIB, cpu_sixteenths: 1, instances: 1 };
        fleet.node_room(&numbered(11), &Room { used: busy, prepared: 0, slots: Vec::new() });
        change(&mut fleet);
        let demand = Demand { last_node: Some(numbered(11)), ..of_object(1) };
        let node = fleet.reserve(&demand).unwrap();
        assert_eq!(fleet.taken(demand.object).unwrap().is_last, node == numbered(11));
        node == numbered(11)
    };
    assert!(again(&|_| ()));
    assert!(!again(&|fleet| fleet.node_unsteady(&numbered(11), true)));
    assert!(!again(&|fleet| fleet.node_silent(&numbered(11), true)));
    assert!(!again(&|fleet| fleet.node_holds(&numbered(11), Digest::of(b"image"), false)));
    assert!(!again(&|fleet| fleet.node_draining(&numbered(11), true)));
    assert!(!again(&|fleet| fleet.node_down(&numbered(11))));
}

#[test]
fn classes_spread_over_nodes_or_regions() {
    let spread = |spread| {
        let mut fleet = many(6, 5);
        for number in 0..6 {
            // Four in one region, two in the other; the image is on one node only.
            let region = if number < 4 { "eu" } else { "us" };
            fleet.node_described(&numbered(number), Some(region.to_owned()), BTreeMap::new());
        }
        fleet.node_holds(&numbered(0), Digest::of(b"image"), true);
        (0..12).for_each(|object| drop(fleet.reserve(&Demand { spread, ..of_object(object) }).unwrap()));
        (0..6).map(|number| fleet.instances_on(&numbered(number))).collect::<Vec<_>>()
    };
    assert_eq!(spread(None), [12, 0, 0, 0, 0, 0]);
    assert_eq!(spread(Some(Spread::Node)), [2; 6]);
    assert_eq!(spread(Some(Spread::Region))[4..].iter().sum::<u32>(), 6);
}

#[test]
fn what_is_missing_is_named() {
    let mut fleet = many(2, 0);
    fleet.node_described(&numbered(0), Some("eu".to_owned()), [("gpu".to_owned(), "a100".to_owned())].into());
    let asked = |fleet: &mut Fleet, region: &str, gpu: &str| {
        let labels = [("gpu".to_owned(), gpu.to_owned())].into();
        let constraints =
            Constraints { regions: [region.to_owned()].into(), labels, ..Constraints::default() };
        fleet.reserve(&Demand { constraints, ..of_object(1) }).map_err(|refused| refused.to_string())
    };
    assert_eq!(asked(&mut fleet, "eu", "a100"), Ok(numbered(0)));
    assert!(asked(&mut fleet, "us", "a100").unwrap_err().contains("regions of its class (us)"));
    assert!(asked(&mut fleet, "eu", "h100").unwrap_err().contains("gpu=h100"));
    fleet.node_described(&numbered(1), Some("us".to_owned()), [("gpu".to_owned(), "a100".to_owned())].into());
    assert_eq!(asked(&mut fleet, "us", "a100"), Ok(numbered(1)), "what is known of nodes changes");
}

#[test]
fn starts_that_are_under_way_count_as_room() {
    let mut fleet = many(2, 0);
    (0..2).for_each(|number| fleet.node_starts(&numbered(number), Some(8)));
    // One has more room, but soon as many starts of this app as it does at once.
    let used = Capacity { memory_bytes: 50 * GIB, cpu_sixteenths: 0, instances: 0 };
    fleet.node_room(&numbered(1), &Room { used, prepared: 0, slots: Vec::new() });
    let placed: Vec<_> = (0..5).map(|object| fleet.reserve(&of_object(object)).unwrap()).collect();
    assert_eq!(placed, [0, 0, 0, 0, 1].map(numbered), "at half of its starts both have the same free");
    (0..4).for_each(|object| fleet.started(of_object(object).object, Generation(1)));
    assert_eq!(fleet.reserve(&of_object(5)), Ok(numbered(0)));
}

#[test]
fn a_choice_says_what_it_makes_of_each_node() {
    let mut fleet = many(8, 0);
    fleet.node_down(&numbered(0));
    fleet.node_draining(&numbered(1), true);
    fleet.node_described(&numbered(3), Some("us".to_owned()), BTreeMap::new());
    for number in [2, 4, 5, 6, 7] {
        fleet.node_described(&numbered(number), Some("eu".to_owned()), BTreeMap::new());
    }
    fleet.node_up(numbered(4), Capacity { instances: 0, ..ROOMY }, DiskCapacity::default(), false);
    fleet.node_unsteady(&numbered(5), true);
    fleet.node_silent(&numbered(7), true);
    let constraints = Constraints { regions: ["eu".to_owned()].into(), ..Constraints::default() };
    let demand = Demand { refused_by: [numbered(2)].into(), constraints, ..of_object(1) };
    assert_eq!(fleet.reserve(&demand), Ok(numbered(6)));
    fleet.release(demand.object, demand.generation);
    let verdicts: Vec<Verdict> = fleet.look(&demand).into_iter().map(|looked| looked.verdict).collect();
    assert_eq!(verdicts[..3], [Verdict::NotConnected, Verdict::Draining, Verdict::HasRefused]);
    assert!(matches!(&verdicts[3], Verdict::Unmet(what) if what.contains("eu")));
    assert_eq!(verdicts[4], Verdict::Lacks("instances".to_owned()));
    assert_eq!(verdicts[5], Verdict::Unsteady);
    assert_eq!(verdicts[6], Verdict::Able { holds_image: false, band: 4, free_thousandths: 1000 });
    assert_eq!(verdicts[7], Verdict::Silent);
}

/// What a node of a drawn fleet is like.
#[derive(Debug, Clone)]
struct Drawn {
    is_up: bool,
    draining: bool,
    region: u8,
    label: u8,
    holds: bool,
    unsteady: bool,
    instances: u32,
    round_trip_us: u64,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let flags = (any::<bool>(), proptest::bool::weighted(0.2), any::<bool>(), any::<bool>());
    (flags, 0u8..3, 0u8..3, 0u32..4, 0u64..200_000).prop_map(
        |((is_up, draining, holds, unsteady), region, label, instances, round_trip_us)| Drawn {
            is_up,
            draining,
            region,
            label,
            holds,
            unsteady,
            instances,
            round_trip_us,
        },
    )
}

fn fleet_of(drawn: &[Drawn], seed: u64) -> Fleet {
    let mut fleet = Fleet::with_seed(seed);
    for (number, node) in drawn.iter().enumerate() {
        let id = numbered(number);
        let labels = [("label".to_owned(), node.label.to_string())].into();
        fleet.node_described(&id, Some(node.region.to_string()), labels);
        fleet.node_holds(&id, Digest::of(b"image"), node.holds);
        fleet.node_unsteady(&id, node.unsteady);
        if node.is_up {
            let capacity = Capacity { instances: node.instances, ..ROOMY };
            fleet.node_up(id.clone(), capacity, DiskCapacity::default(), node.draining);
            fleet.node_measured(&id, node.round_trip_us);
        }
    }
    fleet
}

proptest! {
    /// Whoever is chosen can have it, and nobody is only if nobody can.
    #[test]
    fn constraints_and_room_are_kept_whatever_the_fleet(
        nodes in proptest::collection::vec(drawn(), 1..40),
        region in proptest::option::of(0u8..3),
        label in proptest::option::of(0u8..3),
        spread in proptest::option::of(prop_oneof![Just(Spread::Node), Just(Spread::Region)]),
        last in 0usize..40,
        seed in any::<u64>(),
    ) {
        let mut fleet = fleet_of(&nodes, seed);
        let constraints = Constraints {
            regions: region.iter().map(u8::to_string).collect(),
            labels: label.iter().map(|label| ("label".to_owned(), label.to_string())).collect(),
            ..Constraints::default()
        };
        let mut on = vec![0; nodes.len()];
        for object in 0..60 {
            let able = |number: usize, on: &[u32]| {
                let node: &Drawn = &nodes[number];
                node.is_up && !node.draining && on[number] < node.instances
                    && region.is_none_or(|region| node.region == region)
                    && label.is_none_or(|label| node.label == label)
            };
            let demand = Demand {
                constraints: constraints.clone(), spread, last_node: Some(numbered(last)), ..of_object(object)
            };
            match fleet.reserve(&demand) {
                Ok(node) => {
                    let number: usize = node.as_str()[1..].parse().unwrap();
                    prop_assert!(able(number, &on), "{node}: {:?}", nodes[number]);
                    let steadier = (0..nodes.len()).any(|other| able(other, &on) && !nodes[other].unsteady);
                    prop_assert!(!nodes[number].unsteady || !steadier, "{node} is unsteady");
                    on[number] += 1;
                }
                Err(_) => prop_assert!((0..nodes.len()).all(|number| !able(number, &on))),
            }
        }
    }
}
