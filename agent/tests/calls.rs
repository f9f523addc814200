//! The calls of edges to an agent, over real QUIC: lives of instances, sessions, ownership, refusals, broken peers.
#![allow(clippy::unwrap_used, reason = "what fails in a test's own machinery fails the test")]

mod support;

use std::time::Duration;

use berth_agent::launch::LaunchError;
use berth_agent::runtime::{Adopted, AdoptedState};
use berth_certs::{Authority, Role, SERVER_NAME, Validity, client_config};
use berth_common::metering::Metered;
use berth_common::outcome::{ExitReason, Outcome};
use berth_common::wire::call::{Answer, Call, Forget, Phase, RefusalCode, Renew, Stop};
use berth_common::wire::{STREAM_CALL, STREAM_TUNNEL, close, frame};
use berth_shim::metering::{Carried, Ended};
use quinn::TransportConfig;
use quinn::crypto::rustls::QuicClientConfig;
use support::{CAPACITY, Edge, World, hello, launch, run, start};
use tokio::net::TcpListener;

#[test]
fn an_instance_lives_from_start_to_forget() {
    run(async {
        let world = World::new().await;
        let edge = world.connect("e1").await;
        let welcome = edge.hello("e1", 1, 0, 1).await;
        assert_eq!((welcome.node.as_str(), welcome.capacity, welcome.draining), ("n1", CAPACITY, false));
        let (there, mut watch) = edge.watch().await;
        assert!(there.is_empty());

        let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let asked = start(1, reserved.port());
        edge.start(&asked).await;
        let status = watch.next().await;
        assert_eq!(
            (status.instance, status.object, status.generation),
            (asked.instance, asked.object.id(), asked.generation)
        );
        assert_eq!(status.phase, Phase::Starting);
        world.fake.started(asked.instance).await;
        assert_eq!(watch.phase().await, Phase::Running);
        let _listener = TcpListener::bind(reserved).await.unwrap();
        assert_eq!(watch.phase().await, Phase::Ready);

        assert_eq!(edge.stop(asked.instance, 15, 60_000).await, Answer::Done);
        assert_eq!(watch.phase().await, Phase::Stopping);
        let (instance, signal, grace) = world.fake.stopped().await;
        assert_eq!((instance, signal), (asked.instance, 15));
        assert!(grace <= Duration::from_secs(60) && grace > Duration::from_secs(50), "{grace:?}");

        let outcome = Outcome::exited(3);
        world.fake.exited(asked.instance, outcome.clone()).await;
        assert_eq!(watch.phase().await, Phase::Exited(outcome.clone()));
        let (there, _watch) = world_watch(&world, 2).await;
        assert_eq!(there, [Phase::Exited(outcome)], "it is told again until it is forgotten");
    });
}

/// The reports on a further connection of the edge.
async fn world_watch(world: &World, session: u64) -> (Vec<Phase>, Edge) {
    let edge = world.connect("e1").await;
    edge.hello("e1", 1, 0, session).await;
    let (there, _) = edge.watch().await;
    (there.into_iter().map(|status| status.phase).collect(), edge)
}

#[test]
fn an_ended_instance_is_reported_until_it_is_forgotten() {
    run(async {
        let world = World::new().await;
        let edge = world.edge().await;
        let asked = start(1, 1);
        edge.start(&asked).await;
        let alive = edge.refused(&Call::Forget(Forget { instances: vec![asked.instance] })).await;
        assert_eq!(alive, RefusalCode::Invalid);
        let (_, mut watch) = edge.watch().await;
        world.fake.exited(asked.instance, Outcome::exited(0)).await;
        watch.until(asked.instance, &Phase::Exited(Outcome::exited(0))).await;
        assert_eq!(edge.forget(asked.instance).await, Answer::Done);
        assert_eq!(*world.fake.forgotten.borrow(), [asked.instance]);
        assert_eq!(edge.forget(asked.instance).await, Answer::Done, "again is as good");
        assert!(world_watch(&world, 2).await.0.is_empty());
    });
}

#[test]
fn a_repeated_order_only_shortens_the_grace_and_signals_the_app_once() {
    run(async {
        let world = World::new().await;
        let edge = world.edge().await;
        let asked = start(1, 1);
        edge.start(&asked).await;
        world.fake.started(asked.instance).await;
        assert_eq!(edge.stop(asked.instance, 15, 60_000).await, Answer::Done);
        assert_eq!(world.fake.stopped().await.1, 15);
        assert_eq!(edge.stop(asked.instance, 15, 200).await, Answer::Done);
        assert_eq!(world.fake.stopped().await, (asked.instance, 9, Duration::ZERO), "no second SIGTERM");
    });
}

#[test]
fn an_edge_hears_what_is_taken_of_the_node() {
    run(async {
        let world = World::new().await;
        let edge = world.edge().await;
        let asked = start(1, 1);
        edge.start(&asked).await;
        let Answer::Room(room) = edge.call(&Call::Room).await else { panic!("no answer about room") };
        let resources = asked.recipe.resources;
        assert_eq!((room.used.instances, room.used.memory_bytes), (1, resources.memory_bytes));
        assert_eq!(room.slots.len(), 1);
    });
}

#[test]
fn an_order_to_end_reaches_an_instance_that_is_still_starting() {
    run(async {
        let world = World::new().await;
        world.fake.held.set(true);
        let edge = world.edge().await;
        let (_, mut watch) = edge.watch().await;
        let asked = start(1, 1);
        edge.start(&asked).await;
        assert_eq!(watch.phase().await, Phase::Starting);
        assert_eq!(edge.stop(asked.instance, 9, 0).await, Answer::Done);
        assert_eq!(watch.phase().await, Phase::Stopping);
        assert!(!world.fake.was_stopped());
        world.fake.release();
        assert_eq!(world.fake.stopped().await, (asked.instance, 9, Duration::ZERO));
        world.fake.started(asked.instance).await;
        world.fake.exited(asked.instance, Outcome::signalled(9)).await;
        assert_eq!(
            watch.phase().await,
            Phase::Exited(Outcome::signalled(9)),
            "it never counts as running again"
        );
    });
}

#[test]
fn a_start_that_fails_says_why() {
    run(async {
        let world = World::new().await;
        *world.fake.failure.borrow_mut() = Some(LaunchError::new(RefusalCode::Image, "no such image: /x"));
        let edge = world.edge().await;
        let (_, mut watch) = edge.watch().await;
        edge.start(&start(1, 1)).await;
        assert_eq!(watch.phase().await, Phase::Starting);
        let expected = Outcome::because(ExitReason::StartFailed, "no such image: /x");
        assert_eq!(watch.phase().await, Phase::Exited(expected));
        *world.fake.failure.borrow_mut() = None;
        for id in 2..5 {
            edge.start(&start(id, 1)).await;
        }
    });
}

#[test]
fn the_same_start_twice_starts_once_and_capacity_is_kept() {
    run(async {
        let world = World::new().await;
        let edge = world.edge().await;
        for id in [1, 2, 3, 2, 1] {
            edge.start(&start(id, 1)).await;
        }
        assert_eq!(edge.refused(&Call::Start(Box::new(start(4, 1)))).await, RefusalCode::Capacity);
        world.fake.wait_for(|fake| fake.launched.borrow().len() == 3).await;
        let (_, mut watch) = edge.watch().await;
        world.fake.exited(start(1, 1).instance, Outcome::exited(0)).await;
        watch.until(start(1, 1).instance, &Phase::Exited(Outcome::exited(0))).await;
        edge.start(&start(4, 1)).await;
        let launched: Vec<_> = world.fake.launched.borrow().iter().map(|l| l.owner.to_string()).collect();
        assert!(launched.len() <= 4 && launched.iter().all(|owner| owner == "e1"));
    });
}

#[test]
fn an_edge_neither_sees_nor_touches_anothers_instances() {
    run(async {
        let world = World::new().await;
        let (owner, stranger) = (world.introduced("e1").await, world.introduced("e2").await);
        let asked = start(1, 1);
        owner.start(&asked).await;
        assert!(stranger.watch().await.0.is_empty());
        let stop = Call::Stop(Stop { instance: asked.instance, signal: 9, grace_ms: 0 });
        let forget = Call::Forget(Forget { instances: vec![asked.instance] });
        for call in [stop, forget, Call::Start(Box::new(asked.clone()))] {
            assert_eq!(stranger.refused(&call).await, RefusalCode::NotOwner);
        }
        assert_eq!(stranger.call(&Call::Renew(Renew { term_ms: 1, until: None })).await, Answer::Done);
        assert_eq!(owner.watch().await.0.len(), 1);
    });
}

#[test]
fn a_newer_session_takes_over_and_an_older_one_is_refused() {
    run(async {
        let world = World::new().await;
        let first = world.edge().await;
        let other_shard = world.connect("e1").await;
        other_shard.hello("e1", 1, 1, 1).await;
        let second = world.connect("e1").await;
        second.hello("e1", 1, 0, 2).await;
        assert_eq!(first.closed().await, close::SUPERSEDED);
        let late = world.connect("e1").await;
        drop(late.open_call(&hello("e1", 1, 0, 2)).await);
        assert_eq!(late.closed().await, close::SUPERSEDED);
        assert!(second.is_served().await && other_shard.is_served().await);

        let restarted = world.connect("e1").await;
        restarted.hello("e1", 2, 0, 1).await;
        assert_eq!(second.closed().await, close::SUPERSEDED);
        assert_eq!(other_shard.closed().await, close::SUPERSEDED);
        assert!(restarted.is_served().await);
    });
}

/// Bytes of a stream that break the protocol.
fn broken_streams() -> Vec<(&'static str, Vec<u8>)> {
    let call = |body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[STREAM_CALL][..], &length, body].concat()
    };
    let hello = frame::encode(&hello("e1", 1, 0, 9)).unwrap();
    let mut tunnel = [0; 28];
    tunnel[0] = STREAM_TUNNEL;
    let mut reserved = tunnel;
    (reserved[1], reserved[3]) = (1, 80);
    vec![
        ("unknown kind", vec![0x7f; 40]),
        ("no kind", vec![]),
        ("an absurd length", [&[STREAM_CALL][..], &[0xff; 4]].concat()),
        ("not JSON", call(b"{nonsense")),
        ("no frame", vec![STREAM_CALL]),
        ("half a frame", call(b"\"watch\"")[..8].to_vec()),
        ("Hello again", [&[STREAM_CALL][..], &hello].concat()),
        ("half a header", tunnel[..20].to_vec()),
        ("port 0", tunnel.to_vec()),
        ("a reserved byte", reserved.to_vec()),
    ]
}

#[test]
fn a_peer_that_breaks_the_protocol_loses_its_own_connection_only() {
    run(async {
        let world = World::new().await;
        let good = world.introduced("e2").await;
        for (session, (what, bytes)) in (1..).zip(broken_streams()) {
            let bad = world.connect("e1").await;
            bad.hello("e1", 1, 0, session).await;
            let _answers = bad.send_raw(&bytes).await;
            assert_eq!(bad.closed().await, close::PROTOCOL, "{what}");
            assert!(good.is_served().await, "{what}");
        }
    });
}

#[test]
fn the_first_stream_must_be_a_hello_by_the_certificates_holder() {
    run(async {
        let world = World::new().await;
        let early = world.connect("e1").await;
        let _answers = early.open_call(&Call::Watch).await;
        assert_eq!(early.closed().await, close::PROTOCOL);
        let tunnel = world.connect("e1").await;
        let _answers = tunnel.send_raw(&[STREAM_TUNNEL; 28]).await;
        assert_eq!(tunnel.closed().await, close::PROTOCOL);
        let impostor = world.connect("e1").await;
        let _answers = impostor.open_call(&hello("e2", 1, 0, 1)).await;
        assert_eq!(impostor.closed().await, close::FORBIDDEN);
        let silent = world.connect("e1").await;
        assert_eq!(silent.closed().await, close::PROTOCOL);
    });
}

#[test]
fn a_call_of_a_newer_version_is_refused_and_costs_nothing() {
    run(async {
        let world = World::new().await;
        let edge = world.edge().await;
        let mut bytes = vec![STREAM_CALL];
        bytes.extend(frame::encode(&serde_json::json!({"dance": {"steps": 3}})).unwrap());
        let answer: Answer = frame::read(&mut edge.send_raw(&bytes).await).await.unwrap().unwrap();
        assert!(matches!(answer, Answer::Refused(refusal) if refusal.code == RefusalCode::Invalid));
        assert!(edge.is_served().await);
    });
}

#[test]
fn a_connection_watches_once_at_a_time() {
    run(async {
        let world = World::new().await;
        let edge = world.edge().await;
        let (_, watch) = edge.watch().await;
        assert_eq!(edge.refused(&Call::Watch).await, RefusalCode::Invalid);
        drop(watch);
        // The agent notices the stream's end some time later.
        while matches!(edge.call(&Call::Watch).await, Answer::Refused(_)) {}
    });
}

#[test]
fn a_watcher_that_does_not_read_loses_its_connection() {
    run(async {
        let world = World::new().await;
        *world.fake.failure.borrow_mut() = Some(LaunchError::new(RefusalCode::Image, "x".repeat(200)));
        let mut narrow = TransportConfig::default();
        narrow.stream_receive_window(2000_u32.into());
        let slow = Edge::connect(world.directory.path(), "e1", world.address, narrow).await;
        slow.hello("e1", 1, 0, 1).await;
        let _unread = slow.open_call(&Call::Watch).await;
        let busy = world.connect("e1").await;
        busy.hello("e1", 1, 1, 1).await;
        let one = start(1, 1);
        let mut rounds = 0;
        let (_, mut watch) = busy.watch().await;
        while slow.connection.close_reason().is_none() {
            busy.start(&one).await;
            while !matches!(watch.phase().await, Phase::Exited(_)) {}
            assert_eq!(busy.forget(one.instance).await, Answer::Done);
            rounds += 1;
            assert!(rounds < 2000, "it was never closed");
        }
        assert_eq!(slow.closed().await, close::SLOW);
        assert!(busy.is_served().await);
    });
}

#[test]
fn containers_of_an_earlier_agent_are_adopted() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let before = support::fake::Fake::default();
        let (alive, ended) = (start(1, listener.local_addr().unwrap().port()), start(2, 1));
        let (container, events) = before.container(alive.instance);
        let carried = Carried { received_bytes: 5, sent_bytes: 6 };
        let metered = Metered { sent_bytes: 100, ..Metered::estimate(7, Duration::from_secs(2)) };
        let over = Ended { outcome: Outcome::exited(7), metered: Some(metered.clone()) };
        let world = World::with(vec![
            Adopted {
                launch: launch("e1", &alive),
                state: AdoptedState::Running { container, events },
                carried,
            },
            Adopted { launch: launch("e1", &ended), state: AdoptedState::Exited(over), carried },
        ])
        .await;
        let edge = world.edge().await;
        let (mut there, mut watch) = edge.watch().await;
        there.sort_by_key(|status| status.instance);
        let phases: Vec<_> = there.iter().map(|status| (status.instance, status.phase.clone())).collect();
        let expected =
            [(alive.instance, Phase::Starting), (ended.instance, Phase::Exited(Outcome::exited(7)))];
        assert_eq!(phases, expected);
        let region = Some("local".to_owned());
        let told = Metered { received_bytes: 5, sent_bytes: 106, region, ..metered };
        assert_eq!((&there[0].metered, &there[1].metered), (&None, &Some(told)), "with the tunnel's bytes");
        before.started(alive.instance).await;
        assert_eq!(watch.phase().await, Phase::Running);
        assert_eq!(watch.phase().await, Phase::Ready);
        edge.start(&alive).await;
        assert!(world.fake.launched.borrow().is_empty(), "it runs: nothing is started");
        assert_eq!(edge.stop(alive.instance, 15, 0).await, Answer::Done);
        assert_eq!(before.stopped().await.0, alive.instance);
        assert_eq!(edge.forget(ended.instance).await, Answer::Done);
        assert_eq!(*world.fake.forgotten.borrow(), [ended.instance]);
    });
}

#[test]
fn an_edge_of_another_authority_is_refused() {
    run(async {
        let world = World::new().await;
        let foreign = tempfile::tempdir().unwrap();
        let authority = Authority::create(foreign.path()).unwrap();
        authority.issue(Role::Edge, "e1", Validity::days(1).unwrap()).unwrap();
        // It trusts our CA, so that it is the agent that has to refuse.
        let own = world.directory.path().join("ca.pem");
        let file = |ending: &str| foreign.path().join(format!("edge-e1.{ending}"));
        let credentials = berth_certs::Credentials::load(&own, &file("pem"), &file("key")).unwrap();
        let tls = QuicClientConfig::try_from(client_config(&credentials, &"n1".parse().unwrap())).unwrap();
        let config = quinn::ClientConfig::new(std::sync::Arc::new(tls));
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        if let Ok(connection) = endpoint.connect_with(config, world.address, SERVER_NAME).unwrap().await {
            // A client's handshake may end before the server has looked at its certificate.
            let reason = connection.closed().await;
            assert!(matches!(reason, quinn::ConnectionError::ConnectionClosed(_)), "{reason:?}");
        }
        assert!(world.edge().await.is_served().await);
    });
}

#[test]
fn an_agent_that_stops_closes_its_connections_and_leaves_containers_running() {
    run(async {
        let world = World::new().await;
        let edge = world.edge().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let asked = start(1, listener.local_addr().unwrap().port());
        edge.start_ready(&world.fake, &asked).await;
        let lifecycle = world.lifecycle.clone();
        lifecycle.drain().cancel();
        let ending = lifecycle.run_until_signal(Duration::from_secs(20)).await.unwrap();
        assert_eq!(ending, berth_common::lifecycle::Ending::Clean);
        assert_eq!(edge.closed().await, close::SHUTDOWN);
        assert!(!world.fake.was_stopped());
    });
}

#[test]
fn a_huge_epoch_of_an_older_certificate_does_not_lock_the_edge_out() {
    run(async {
        let world = World::new().await;
        let thief = world.connect("e1").await;
        thief.hello("e1", u64::MAX, 0, u64::MAX).await;
        let edge = world.connect("e1").await;
        let _refused = edge.open_call(&hello("e1", 5, 0, 1)).await;
        assert_eq!(edge.closed().await, close::SUPERSEDED, "with the certificate that was stolen");

        // The CA dates certificates to the second.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        world.issue_again("e1");
        let edge = world.connect("e1").await;
        edge.hello("e1", 6, 0, 1).await;
        assert_eq!(thief.closed().await, close::SUPERSEDED);
        assert!(edge.is_served().await);
        let again = world.connect("old").await;
        let _refused = again.open_call(&hello("e1", u64::MAX, 1, 1)).await;
        assert_eq!(again.closed().await, close::SUPERSEDED, "an older certificate");
        assert!(edge.is_served().await);
    });
}
