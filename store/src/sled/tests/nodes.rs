//! What an edge keeps of its nodes, and of what they measure once they are back.

use super::*;

#[test]
fn the_window_of_the_last_process_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let window = Window { boot: BootId::from_bytes([7; 16]), until_ms: 9, length_ms: 5 };
    let store = SledStore::open(directory.path()).unwrap();
    assert_eq!(store.window().unwrap(), None);
    commit(&store, vec![Write::Window(window)]);
    drop(store);
    assert_eq!(SledStore::open(directory.path()).unwrap().window().unwrap(), Some(window));
}

#[test]
fn who_keeps_terms_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    let [a, b] = ["a", "b"].map(|name| name.parse::<NodeId>().unwrap());
    let keeps = [&a, &b].map(|node| Write::KeepsTerms(node.clone(), true));
    commit(&store, keeps.into());
    commit(&store, vec![Write::KeepsTerms(b, false)]);
    assert_eq!(store.keeping_terms().unwrap(), [a]);
}

#[test]
fn what_is_measured_after_all_takes_the_place_of_an_estimate_once() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    let estimate = UsageRecord { estimated: true, ..life(1, 50_000) };
    let other = life(2, 60_000);
    commit(&store, vec![Write::Usage(Box::new(estimate.clone())), Write::Usage(Box::new(other.clone()))]);
    let metered = Metered { cpu_us: 77, lived_cs: 900, ..Metered::estimate(49_000, Duration::ZERO) };
    let metered = Metered { estimated: false, ..metered };
    let measured =
        |instance, metered: &Metered| Write::Measured { instance, metered: Box::new(metered.clone()) };
    commit(&store, vec![measured(estimate.instance, &metered), measured(other.instance, &metered)]);
    // The same again, as after a lost answer, and worse.
    let later = Metered { cpu_us: 0, ..metered.clone() };
    commit(&store, vec![measured(estimate.instance, &later)]);
    let known = store.usage(None, 10).unwrap();
    let replaced = UsageRecord {
        started_ms: 49_000,
        lived_cs: 900,
        cpu_us: 77,
        sent_bytes: metered.sent_bytes,
        received_bytes: metered.received_bytes,
        estimated: false,
        ..estimate
    };
    assert_eq!(known, [replaced, other]);
    commit(&store, vec![Write::RemoveUsage(known.iter().map(UsageKey::of).collect())]);
    assert_eq!(store.usage(None, 10).unwrap(), []);
}
