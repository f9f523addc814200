//! How the table's effects are carried out. Its decisions are tested in `berth_protocol`.

use berth_common::ids::{Epoch, Generation};
use berth_common::outcome::Outcome;
use berth_common::wire::call::Answer;

use super::*;

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
    Launch { start, owner: owner.parse().unwrap(), epoch: Epoch(1), term_slot: None }
}

fn code<T>(refused: Result<T, Refusal>) -> RefusalCode {
    refused.err().map(|refusal| refusal.code).expect("was not refused")
}

fn is_new(admitted: Result<Admitted, Refusal>) -> bool {
    matches!(admitted, Ok(Admitted::New(_)))
}

#[test]
fn only_the_owners_watchers_get_reports() {
    let table = table();
    let one = launch("e", 1, "1", 1);
    let mut watch = table.watch(&one.owner);
    let mut strangers = table.watch(&"f".parse().unwrap());
    assert!(watch.now.is_empty() && is_new(table.admit(&one, || Ok(()))));
    table.advance(one.start.instance, Phase::Ready);
    let updates = std::iter::from_fn(|| watch.updates.try_recv().ok());
    let phase = |update| if let Answer::Update(status) = update { Some(status.phase) } else { None };
    let reported: Vec<_> = updates.filter_map(phase).collect();
    assert_eq!(reported, [Phase::Starting, Phase::Ready]);
    assert!(strangers.updates.try_recv().is_err());
    assert_eq!(table.watch(&one.owner).now[0].phase, Phase::Ready);
}

#[tokio::test(start_paused = true)]
async fn orders_to_end_reach_the_task_that_follows_the_instance() {
    let table = table();
    let one = launch("e", 1, "1", 1);
    let Ok(Admitted::New(orders)) = table.admit(&one, || Ok(())) else { panic!("not admitted") };
    let stop =
        |signal, grace_ms| table.stop(&one.owner, &Stop { instance: one.start.instance, signal, grace_ms });
    let order = |signal, ms| {
        let deadline = table.clock().now().after(Duration::from_millis(ms));
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
}

#[test]
fn an_instance_without_sockets_or_that_has_ended_cannot_be_reached() {
    let table = table();
    let one = launch("e", 1, "1", 7);
    assert!(is_new(table.admit(&one, || Ok(()))));
    let header = TunnelHeader { instance: one.start.instance, generation: Generation(7), port: 1 };
    assert_eq!(table.reach(&one.owner, &header).err(), Some(TunnelAnswer::Refused));
    assert_eq!(code(table.sockets(&one.owner, one.start.instance)), RefusalCode::NoInstance);
    let ended = table.handles.borrow()[&one.start.instance].ended.clone();
    assert!(!ended.is_cancelled());
    table.ended(one.start.instance, Outcome::exited(0).into());
    assert_eq!(table.reach(&one.owner, &header).err(), Some(TunnelAnswer::NoInstance));
    assert!(ended.is_cancelled());
    table.forget(one.start.instance);
    assert!(table.handles.borrow().is_empty());
}

#[test]
fn an_agent_that_is_ending_admits_nothing_new() {
    let table = table();
    let known = launch("e", 1, "1", 1);
    assert!(is_new(table.admit(&known, || Ok(()))));
    table.drain.cancel();
    assert_eq!(code(table.admit(&launch("e", 2, "2", 1), || Ok(()))), RefusalCode::Draining);
    assert!(matches!(table.admit(&known, || Ok(())), Ok(Admitted::Known)));
}

#[test]
fn an_instance_is_not_admitted_if_the_reservation_fails() {
    let table = table();
    let lacking = || Err(LaunchError::new(RefusalCode::Capacity, "no disk"));
    assert_eq!(code(table.admit(&launch("e", 1, "1", 1), lacking)), RefusalCode::Capacity);
    assert!(is_new(table.admit(&launch("e", 1, "1", 1), || Ok(()))));
}
