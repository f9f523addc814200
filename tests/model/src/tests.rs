//! The design keeps its promises in every state, and without any one of its rules it does not.
//!
//! `BERTH_SOAK=1` looks at larger worlds: some minutes.

use stateright::{Checker, HasDiscoveries, Model};

use super::*;

/// The next process of the edge, after one that ended on purpose or was killed.
const NEXT_PROCESS: Rules = Rules {
    window: 2,
    succession: Succession::NextProcess,
    sessions: [1, 1],
    all_nodes: false,
    early: 0,
    ..Rules::ONE_EDGE
};

/// Another edge, which may be wrong about the first. The licence is longer than what the margin would make good.
const OTHER_EDGE: Rules = Rules { licence: 2, window: 0, succession: Succession::OtherEdge, ..NEXT_PROCESS };

fn soaks() -> bool {
    std::env::var("BERTH_SOAK").is_ok_and(|value| value == "1")
}

/// Visits every state: none breaks a promise, and everything comes about that should.
fn holds(what: &str, rules: Rules) {
    let checker = rules.checker().threads(2).spawn_bfs().join();
    println!("{what}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    assert!(checker.is_done());
    for property in rules.properties() {
        let found = checker.discovery(property.name).map(|path| path.into_actions());
        let is_expected = found.is_some() == (property.expectation == stateright::Expectation::Sometimes);
        assert!(is_expected, "{what}: {}: {found:#?}", property.name);
    }
}

/// The fewest moves that break a promise.
fn fewest_moves_to_break(rules: Rules) -> Option<usize> {
    let checker = rules.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let ways = checker.discoveries().into_values().map(|path| path.into_actions());
    let shortest = ways.min_by_key(Vec::len)?;
    println!("{:?}: {shortest:#?}", rules.flaw);
    Some(shortest.len())
}

/// A world in which a missing rule matters, and the fewest moves that break a promise in it.
fn breaks(flaw: Flaw) -> (Rules, usize) {
    match flaw {
        Flaw::TermFromReceipt => (Rules::ONE_EDGE, 7),
        Flaw::StartWithoutTerm | Flaw::ResumeWithoutTerm => (Rules::ONE_EDGE, 11),
        Flaw::NoMargin => (Rules::ONE_EDGE, 5),
        Flaw::RenewalThaws => (Rules::ONE_EDGE, 7),
        Flaw::StrangersResumed => (Rules::ONE_EDGE, 8),
        Flaw::AbsenceIsEnd | Flaw::OldWordsObeyed => (Rules::ONE_EDGE, 11),
        Flaw::AgentForgets => (Rules::ONE_EDGE, 5),
        Flaw::NextProcessWaitsForNothing | Flaw::WindowNotWritten => (NEXT_PROCESS, 7),
        Flaw::NoWaitForLicence => (OTHER_EDGE, 8),
        Flaw::NoLicence => (OTHER_EDGE, 15),
    }
}

#[test]
fn one_edge_keeps_the_promises() {
    holds("one edge", Rules::ONE_EDGE);
}

#[test]
fn the_next_process_of_an_edge_keeps_the_promises() {
    holds("next process", Rules { messages: 1, early: 1, ..NEXT_PROCESS });
}

#[test]
fn an_edge_that_takes_over_keeps_the_promises() {
    holds("other edge", Rules { messages: 1, ..OTHER_EDGE });
}

#[test]
fn nodes_that_boot_break_no_promise() {
    holds("nodes that boot", Rules { messages: 1, boots: 1, ..Rules::ONE_EDGE });
}

#[test]
fn no_rule_can_be_left_out() {
    for flaw in Flaw::ALL {
        let (rules, moves) = breaks(flaw);
        assert_eq!(fewest_moves_to_break(rules.without(flaw)), Some(moves), "without {flaw:?}");
    }
}

#[test]
fn words_order_the_orders_of_edges_too() {
    // With one edge, the words that matter are those of its sessions; here they are those of two edges.
    assert_eq!(fewest_moves_to_break(OTHER_EDGE.without(Flaw::OldWordsObeyed)), Some(11));
}

#[test]
fn larger_worlds_keep_the_promises() {
    if !soaks() {
        return;
    }
    holds("a longer term", Rules { term: 2, ..Rules::ONE_EDGE });
    holds("nodes that boot, more messages", Rules { boots: 1, ..Rules::ONE_EDGE });
    holds("next process, more messages", Rules { early: 1, ..NEXT_PROCESS });
    holds("other edge, more messages", OTHER_EDGE);
}
