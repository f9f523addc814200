//! Tests of the table, without a network or a runtime.

use super::*;
use berth_common::ids::Epoch;
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::wire::call::Answer;

const CAPACITY: Capacity = Capacity { memory_bytes: 300, cpu_sixteenths: 30, instances: 3 };

fn table() -> Instances<()> {
    Instances::new(CAPACITY, CancellationToken::new())
}

fn launch(owner: &str, id: u8, object: &str, generation: u64) -> Launch {
    let start = serde_json::json!({
        "instance": InstanceId::from_bytes([id; 16]), "object": {"app": "a", "class": "c", "name": object},
        "generation": generation, "term_ms": 1000, "image": {"repository": "x", "digest": format!("sha256:{}", "0".repeat(64))},
        "resources": {"cpu_sixteenths": 10, "memory_bytes": 100, "disk_bytes": 1},
        "enable_internet": false, "ready_port": 80,
    });
    let start = serde_json::from_value(start).unwrap();
    Launch { start, owner: owner.parse().unwrap(), epoch: Epoch(1) }
}

fn code<T>(refused: Result<T, Refusal>) -> RefusalCode {
    refused.err().map(|refusal| refusal.code).expect("was not refused")
}

fn is_new(admitted: Result<Admitted, Refusal>) -> bool {
    matches!(admitted, Ok(Admitted::New(_)))
}

fn end(table: &Instances<()>, launch: &Launch) {
    let outcome = Outcome::because(ExitReason::Exit, "over");
    table.advance(launch.start.instance, Phase::Exited(outcome));
}

#[test]
fn capacity_is_never_exceeded_and_comes_back_at_the_end() {
    let table = table();
    let first = launch("e", 1, "1", 1);
    assert!(is_new(table.admit(&first, || Ok(()))));
    assert!(is_new(table.admit(&launch("e", 2, "2", 1), || Ok(()))));
    assert!(is_new(table.admit(&launch("f", 3, "3", 1), || Ok(()))));
    let fourth = launch("e", 4, "4", 1);
    assert_eq!(code(table.admit(&fourth, || Ok(()))), RefusalCode::Capacity);
    end(&table, &first);
    assert!(is_new(table.admit(&fourth, || Ok(()))));
}

#[test]
fn each_kind_of_capacity_counts() {
    for resources in [(31, 1), (1, 301), (u32::MAX, u64::MAX)] {
        let table = table();
        let mut big = launch("e", 1, "1", 1);
        (big.start.recipe.resources.cpu_sixteenths, big.start.recipe.resources.memory_bytes) = resources;
        assert_eq!(code(table.admit(&big, || Ok(()))), RefusalCode::Capacity);
    }
}

#[test]
fn a_start_that_comes_again_changes_nothing() {
    let table = table();
    let first = launch("e", 1, "1", 1);
    assert!(is_new(table.admit(&first, || Ok(()))));
    assert!(matches!(table.admit(&first, || Ok(())), Ok(Admitted::Known)));
    end(&table, &first);
    assert!(matches!(table.admit(&first, || Ok(())), Ok(Admitted::Known)));
    assert_eq!(code(table.admit(&launch("e", 1, "1", 2), || Ok(()))), RefusalCode::Invalid);
    assert_eq!(code(table.admit(&launch("f", 1, "1", 1), || Ok(()))), RefusalCode::NotOwner);
}

#[test]
fn an_object_never_has_two_instances_nor_goes_back() {
    let table = table();
    let first = launch("e", 1, "1", 5);
    assert!(is_new(table.admit(&first, || Ok(()))));
    assert_eq!(code(table.admit(&launch("e", 2, "1", 6), || Ok(()))), RefusalCode::Invalid);
    end(&table, &first);
    assert_eq!(code(table.admit(&launch("e", 2, "1", 5), || Ok(()))), RefusalCode::Stale);
    assert!(is_new(table.admit(&launch("e", 2, "1", 6), || Ok(()))));
    assert!(
        is_new(table.admit(&launch("f", 3, "1", 1), || Ok(()))),
        "another edge's object is another object"
    );
}

#[test]
fn phases_never_go_back_and_each_is_told_once() {
    let table = table();
    let one = launch("e", 1, "1", 1);
    let instance = one.start.instance;
    let mut watch = table.watch(&one.owner);
    let mut strangers = table.watch(&"f".parse().unwrap());
    assert!(watch.now.is_empty() && is_new(table.admit(&one, || Ok(()))));
    for phase in [Phase::Ready, Phase::Running, Phase::Ready, Phase::Stopping, Phase::Running] {
        table.advance(instance, phase);
    }
    let updates = std::iter::from_fn(|| watch.updates.try_recv().ok());
    let phase = |update| if let Answer::Update(status) = update { Some(status.phase) } else { None };
    let told: Vec<_> = updates.filter_map(phase).collect();
    assert_eq!(told, [Phase::Starting, Phase::Ready, Phase::Stopping]);
    assert!(strangers.updates.try_recv().is_err());
    assert_eq!(table.watch(&one.owner).now[0].phase, Phase::Stopping);
}

#[tokio::test(start_paused = true)]
async fn a_grace_is_only_ever_shortened_and_a_kill_stays_one() {
    let table = table();
    let one = launch("e", 1, "1", 1);
    let Ok(Admitted::New(orders)) = table.admit(&one, || Ok(())) else { panic!("not admitted") };
    let stop =
        |signal, grace_ms| table.stop(&one.owner, &Stop { instance: one.start.instance, signal, grace_ms });
    let order = |signal, ms| {
        let deadline = Instant::now() + Duration::from_millis(ms);
        Some(StopOrder { signal, deadline, drained: false })
    };
    stop(15, 1000).unwrap();
    assert_eq!(*orders.borrow(), order(15, 1000));
    stop(15, 5000).unwrap();
    assert_eq!(*orders.borrow(), order(15, 1000));
    stop(9, 0).unwrap();
    stop(15, 5000).unwrap();
    assert_eq!(*orders.borrow(), order(9, 0));
    stop(15, u64::MAX).unwrap();
    assert_eq!(code(stop(0, 0)), RefusalCode::Invalid);
    assert_eq!(code(stop(65, 0)), RefusalCode::Invalid);
}

#[test]
fn only_the_owner_may_act_and_only_ended_instances_are_forgotten() {
    let table = table();
    let one = launch("e", 1, "1", 1);
    let (instance, stranger) = (one.start.instance, "f".parse().unwrap());
    assert!(is_new(table.admit(&one, || Ok(()))));
    let stop = Stop { instance, signal: 15, grace_ms: 1 };
    assert_eq!(code(table.stop(&stranger, &stop)), RefusalCode::NotOwner);
    assert_eq!(code(table.forgettable(&stranger, &[instance])), RefusalCode::NotOwner);
    assert_eq!(code(table.forgettable(&one.owner, &[instance])), RefusalCode::Invalid);
    end(&table, &one);
    let unknown = InstanceId::from_bytes([9; 16]);
    assert_eq!(table.forgettable(&one.owner, &[unknown, instance]).unwrap(), [instance]);
    table.forget(instance);
    assert_eq!(code(table.stop(&one.owner, &stop)), RefusalCode::NoInstance);
}

#[test]
fn tunnels_are_led_to_the_right_instance_only() {
    let table = table();
    let one = launch("e", 1, "1", 7);
    assert!(is_new(table.admit(&one, || Ok(()))));
    let header = |generation| TunnelHeader {
        instance: one.start.instance,
        generation: Generation(generation),
        port: 1,
    };
    let reach = |owner: &str, generation| table.reach(&owner.parse().unwrap(), &header(generation)).err();
    assert_eq!(reach("f", 7), Some(TunnelAnswer::NotOwner));
    assert_eq!(reach("e", 6), Some(TunnelAnswer::StaleGeneration));
    assert_eq!(reach("e", 7), Some(TunnelAnswer::Refused), "it has no sockets yet");
    end(&table, &one);
    assert_eq!(reach("e", 7), Some(TunnelAnswer::NoInstance));
}

#[test]
fn a_node_that_stops_takes_nothing_new() {
    let table = table();
    let known = launch("e", 1, "1", 1);
    assert!(is_new(table.admit(&known, || Ok(()))));
    table.drain.cancel();
    assert_eq!(code(table.admit(&launch("e", 2, "2", 1), || Ok(()))), RefusalCode::Draining);
    assert!(matches!(table.admit(&known, || Ok(())), Ok(Admitted::Known)));
}

#[test]
fn what_cannot_be_set_aside_is_not_admitted() {
    let table = table();
    let lacking = || Err(LaunchError::new(RefusalCode::Capacity, "no disk"));
    assert_eq!(code(table.admit(&launch("e", 1, "1", 1), lacking)), RefusalCode::Capacity);
    assert!(is_new(table.admit(&launch("e", 1, "1", 1), || Ok(()))));
}
