//! How long a reservation takes in fleets of 10 and of 1,000 nodes. `bench-placement [ROUNDS]`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use berth_common::ids::{Generation, NodeId, ObjectId};
use berth_common::image::Digest;
use berth_common::spec::{AppLimits, Resources};
use berth_common::wire::call::{Capacity, DiskCapacity};
use berth_engine::fleet::{Constraints, Demand, Fleet};
use berth_tests::bench::report::Report;
use berth_tests::bench::samples::Samples;

/// Sizes of fleets.
const NODES: [u32; 2] = [10, 1_000];
/// Rounds: in each, both fleets have their reservations once.
const ROUNDS: usize = 9;
/// Reservations that are timed together, each of an object of its own: a clock is read twice for all of them.
const RESERVATIONS: u32 = 20_000;
/// Objects that have an instance all along, on each node.
const SETTLED_A_NODE: u32 = 20;

fn main() -> Result<()> {
    let rounds = std::env::args()
        .nth(1)
        .map_or(Ok(ROUNDS), |word| word.parse())
        .context("bench-placement [ROUNDS]")?;
    ensure!(rounds > 0, "bench-placement [ROUNDS]: at least one");
    let mut fleets = NODES.map(|nodes| (nodes, fleet(nodes), Samples::default()));
    for _ in 0..rounds {
        for (nodes, fleet, samples) in &mut fleets {
            samples.add(reserve_us(fleet, *nodes)?);
        }
    }
    let mut report = Report::new("placement");
    for (nodes, _, samples) in &fleets {
        report.value(format!("reserve_us_{nodes}"), samples.median());
    }
    report.remark("a reservation and its release, by a demand with a region, a label and an image that a third of the nodes hold");
    report.finish()
}

/// Nodes in three regions and all bands of distance; one in three has the image, one in two the label.
fn fleet(nodes: u32) -> Fleet {
    let capacity = Capacity { memory_bytes: 1 << 40, cpu_sixteenths: 1 << 20, instances: 1 << 16 };
    let mut fleet = Fleet::with_seed(1);
    for number in 0..nodes {
        let id = node(number);
        fleet.node_up(id.clone(), capacity, DiskCapacity::default(), false);
        let region = ["eu", "us", "asia"][number as usize % 3].to_owned();
        let labels = BTreeMap::from([("disk".to_owned(), ["ssd", "hdd"][number as usize % 2].to_owned())]);
        fleet.node_described(&id, Some(region), labels);
        fleet.node_measured(&id, 300 << (number % 10));
        fleet.node_holds(&id, Digest::of(b"image"), number % 3 == 1);
    }
    (0..nodes * SETTLED_A_NODE).for_each(|object| drop(fleet.reserve(&demand(u32::MAX - object))));
    fleet
}

fn node(number: u32) -> NodeId {
    format!("node-{number}").parse().expect("is a name")
}

fn demand(object: u32) -> Demand {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&object.to_le_bytes());
    Demand {
        object: ObjectId::from_bytes(bytes),
        generation: Generation(1),
        resources: Resources {
            cpu_sixteenths: 4,
            memory_bytes: 1 << 28,
            disk_bytes: 1 << 30,
            disk_in_memory: false,
        },
        class: ("app".parse().expect("is a name"), "Class".parse().expect("is a name")),
        max_instances: None,
        limits: AppLimits { memory_bytes: u64::MAX, cpu_sixteenths: u32::MAX, disk_bytes: u64::MAX },
        image: Digest::of(b"image"),
        constraints: Constraints {
            regions: ["eu".to_owned(), "us".to_owned()].into(),
            labels: [("disk".to_owned(), "ssd".to_owned())].into(),
            ..Constraints::default()
        },
        spread: None,
        last_node: None,
        refused_by: [].into(),
        is_patient: false,
    }
}

/// Microseconds that a reservation takes with its release.
fn reserve_us(fleet: &mut Fleet, nodes: u32) -> Result<f64> {
    let demands: Vec<Demand> = (0..RESERVATIONS).map(demand).collect();
    let began = Instant::now();
    for demand in &demands {
        let reserved = black_box(fleet.reserve(black_box(demand)));
        reserved.with_context(|| format!("reserve on one of {nodes} nodes"))?;
        fleet.release(demand.object, demand.generation);
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(RESERVATIONS))
}
