//! Edges that read the output of instances, over real QUIC and from real files.
#![allow(clippy::unwrap_used, reason = "what fails in a test's own machinery fails the test")]

mod support;

use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use berth_agent::runtime::logs::{LogEntry, Logs};
use berth_common::ids::InstanceId;
use berth_common::outcome::Outcome;
use berth_common::wire::call::{Answer, Call, Phase, RefusalCode, Start};
use berth_common::wire::frame;
use berth_common::wire::logs::{LogPlace, LogStream, LogsOf, MAX_LOG_PLACES, MAX_LOG_TAIL, ReadLogs};
use quinn::{RecvStream, VarInt};
use support::{Edge, World, launch, run, start};

/// How soon a follower must have a line that was written.
const LIVE_WITHIN: Duration = Duration::from_millis(200);

fn enter(world: &World, owner: &str, start: &Start) {
    Logs::at(world.fake.logs()).enter(&LogEntry::of(&launch(owner, start))).unwrap();
}

/// Writes as a shim does.
fn write(world: &World, instance: InstanceId, text: &[u8]) {
    let path = world.fake.logs().join(format!("{instance}.log"));
    let mut line = format!("{} stderr ", humantime::format_rfc3339_millis(SystemTime::now())).into_bytes();
    line.extend_from_slice(text);
    line.push(b'\n');
    OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(&line).unwrap();
}

fn of_object(start: &Start, follow: bool) -> ReadLogs {
    let of = LogsOf::Object(start.object.id());
    ReadLogs { of, since_ms: 0, tail: None, follow, after: Vec::new() }
}

struct Reader {
    answers: RecvStream,
    places: Vec<LogPlace>,
}

impl Reader {
    async fn open(edge: &Edge, ask: ReadLogs) -> Self {
        Self { answers: edge.open_call(&Call::Logs(ask)).await, places: Vec::new() }
    }

    /// The next texts, or none at the end.
    async fn next(&mut self) -> Option<Vec<String>> {
        match frame::read(&mut self.answers).await.unwrap()? {
            Answer::Logs(batch) => {
                self.places.extend(batch.caught_up.unwrap_or_default());
                assert!(batch.records.iter().all(|record| record.stream == LogStream::Stderr));
                Some(batch.records.into_iter().map(|record| record.text).collect())
            }
            other => panic!("not logs: {other:?}"),
        }
    }

    async fn until(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            texts.extend(self.next().await.expect("it ended"));
        }
        texts
    }

    async fn rest(mut self) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(more) = self.next().await {
            texts.extend(more);
        }
        texts
    }
}

#[test]
fn output_is_read_by_its_owner_alone_also_after_the_end() {
    run(async {
        let world = World::new().await;
        let (edge, stranger) = (world.edge().await, world.introduced("e2").await);
        let ended = start(1, 1);
        enter(&world, "e1", &ended);
        write(&world, ended.instance, b"one");
        write(&world, ended.instance, b"t\xffo");
        assert_eq!(Reader::open(&edge, of_object(&ended, false)).await.rest().await, ["one", "t\u{fffd}o"]);
        assert!(Reader::open(&stranger, of_object(&ended, false)).await.rest().await.is_empty());
        let app =
            ReadLogs { of: LogsOf::App("a".parse().unwrap()), tail: Some(1), ..of_object(&ended, false) };
        assert_eq!(Reader::open(&edge, app).await.rest().await, ["t\u{fffd}o"]);
        assert!(Reader::open(&edge, of_object(&start(2, 1), false)).await.rest().await.is_empty());
    });
}

#[test]
fn a_follower_has_lines_at_once_and_the_next_instances_too() {
    run(async {
        let world = World::new().await;
        let edge = world.edge().await;
        let first = start(1, 1);
        enter(&world, "e1", &first);
        edge.start(&first).await;
        let mut reader = Reader::open(&edge, of_object(&first, true)).await;
        assert_eq!(reader.until(0).await.len(), 0);
        let mut waits = Vec::new();
        for round in 0..10 {
            let written = Instant::now();
            write(&world, first.instance, round.to_string().as_bytes());
            assert_eq!(reader.until(1).await, [round.to_string()]);
            waits.push(written.elapsed());
        }
        waits.sort();
        assert!(waits[5] < LIVE_WITHIN, "they took {waits:?}");
        write(&world, first.instance, b"the last");
        let (_, mut watch) = edge.watch().await;
        world.fake.exited(first.instance, Outcome::exited(0)).await;
        watch.until(first.instance, &Phase::Exited(Outcome::exited(0))).await;
        assert_eq!(reader.until(1).await, ["the last"]);
        let mut second = Start { generation: first.generation.next(), ..first.clone() };
        second.instance = InstanceId::from_bytes([9; 16]);
        edge.start(&second).await;
        enter(&world, "e1", &second);
        write(&world, second.instance, b"again");
        assert_eq!(reader.until(1).await, ["again"]);
    });
}

#[test]
fn a_reader_that_resumes_gets_the_lines_after_its_offsets() {
    run(async {
        let world = World::new().await;
        let edge = world.edge().await;
        let asked = start(1, 1);
        enter(&world, "e1", &asked);
        edge.start(&asked).await;
        write(&world, asked.instance, b"one");
        write(&world, asked.instance, b"two");
        let mut reader = Reader::open(&edge, ReadLogs { tail: Some(1), ..of_object(&asked, true) }).await;
        assert_eq!(reader.until(1).await, ["two"]);
        while reader.places.is_empty() {
            reader.next().await.unwrap();
        }
        edge.connection.close(VarInt::from_u32(0), b"");
        write(&world, asked.instance, b"three");
        let edge = world.connect("e1").await;
        edge.hello("e1", 1, 0, 2).await;
        let again = ReadLogs { after: reader.places, ..of_object(&asked, false) };
        assert_eq!(Reader::open(&edge, again).await.rest().await, ["three"]);
    });
}

#[test]
fn readers_are_bounded_and_release_their_permits() {
    run(async {
        let world = World::new().await;
        let edge = world.edge().await;
        let asked = start(1, 1);
        let mut readers = Vec::new();
        for _ in 0..16 {
            let mut reader = Reader::open(&edge, of_object(&asked, true)).await;
            reader.next().await.unwrap();
            readers.push(reader);
        }
        let call = Call::Logs(of_object(&asked, false));
        assert_eq!(edge.refused(&call).await, RefusalCode::Capacity);
        readers.pop().unwrap().answers.stop(VarInt::from_u32(0)).unwrap();
        while matches!(edge.call(&call).await, Answer::Refused(_)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(edge.is_served().await);
    });
}

#[test]
fn invalid_requests_are_refused() {
    run(async {
        let world = World::new().await;
        let edge = world.edge().await;
        let usual = of_object(&start(1, 1), false);
        let place = LogPlace { instance: InstanceId::from_bytes([1; 16]), at: 0 };
        let many = ReadLogs { after: vec![place; MAX_LOG_PLACES + 1], ..usual.clone() };
        let long = ReadLogs { tail: Some(MAX_LOG_TAIL + 1), ..usual };
        for ask in [many, long] {
            assert_eq!(edge.refused(&Call::Logs(ask)).await, RefusalCode::Invalid);
        }
    });
}
