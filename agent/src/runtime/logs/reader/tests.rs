//! Readers of real files, which the real writer makes.

use std::path::PathBuf;

use berth_common::ids::{Generation, ObjectKey};
use berth_common::spec::LogSpec;
use berth_common::wire::logs::LogsOf;
use berth_shim::log::{Lines, Log};

use super::*;

struct World {
    directory: tempfile::TempDir,
    logs: Logs,
    alive: HashSet<InstanceId>,
}

struct Writer {
    log: Log,
    lines: Lines,
}

impl Writer {
    fn say(&mut self, text: &str) {
        self.lines.push(format!("{text}\n").as_bytes(), &mut self.log);
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { app: "a".parse().unwrap(), class: "C".parse().unwrap(), name: name.parse().unwrap() }
}

fn id(number: u8) -> InstanceId {
    InstanceId::from_bytes([number; 16])
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::at(directory.path());
        Self { directory, logs, alive: HashSet::new() }
    }

    fn start(&mut self, number: u8, name: &str, bytes: u64) -> Writer {
        self.start_at(number, name, bytes, unix_ms(SystemTime::now()))
    }

    fn start_at(&mut self, number: u8, name: &str, bytes: u64, started_ms: u64) -> Writer {
        let spec = LogSpec { bytes, ..LogSpec::default() };
        let entry = LogEntry {
            instance: id(number),
            object: key(name),
            generation: Generation(1),
            owner: "e1".parse().unwrap(),
            started_ms,
            retention_ms: u64::try_from(spec.retention.as_millis()).unwrap(),
        };
        self.logs.enter(&entry).unwrap();
        self.alive.insert(id(number));
        Writer { log: Log::create(&self.path(number), &spec).unwrap(), lines: Lines::new(LogStream::Stdout) }
    }

    fn path(&self, number: u8) -> PathBuf {
        self.directory.path().join(format!("{}.log", id(number)))
    }

    /// A log with lines of these seconds since 1970, each with its second as text.
    fn write_old(&mut self, number: u8, name: &str, seconds: &[u64]) {
        drop(self.start_at(number, name, 1 << 20, seconds[0] * 1000));
        let line = |second: &u64| {
            let time = std::time::UNIX_EPOCH + Duration::from_secs(*second);
            format!("{} stdout {second}\n", humantime::format_rfc3339_millis(time))
        };
        fs::write(self.path(number), seconds.iter().map(line).collect::<String>()).unwrap();
        self.alive.remove(&id(number));
    }

    fn open(&self, ask: ReadLogs) -> Reader {
        Reader::open(&self.logs, &"e1".parse().unwrap(), ask).unwrap()
    }

    /// All texts that a reader gives before it has to wait.
    fn read(&self, reader: &mut Reader) -> Vec<String> {
        self.records(reader).into_iter().map(|record| record.text).collect()
    }

    fn records(&self, reader: &mut Reader) -> Vec<LogRecord> {
        let mut records = Vec::new();
        loop {
            let (batch, rest) = reader.batch(&self.alive).unwrap();
            records.extend(batch.records);
            if rest != Rest::More {
                return records;
            }
        }
    }
}

fn ask(of: LogsOf) -> ReadLogs {
    ReadLogs { of, since_ms: 0, tail: None, follow: false, after: Vec::new() }
}

fn app() -> ReadLogs {
    ask(LogsOf::App("a".parse().unwrap()))
}

/// Recent seconds, as texts and numbers are easier to read from 1 on.
fn recent(seconds: &[u64]) -> Vec<u64> {
    let now = unix_ms(SystemTime::now()) / 1000 - 1000;
    seconds.iter().map(|second| now + second).collect()
}

fn texts(seconds: &[u64]) -> Vec<String> {
    recent(seconds).iter().map(ToString::to_string).collect()
}

#[test]
fn logs_of_an_app_are_merged_by_time() {
    let mut world = World::new();
    world.write_old(1, "x", &recent(&[1, 4, 5, 9]));
    world.write_old(2, "y", &recent(&[2, 3, 8]));
    assert_eq!(world.read(&mut world.open(app())), texts(&[1, 2, 3, 4, 5, 8, 9]));
    let only = ask(LogsOf::Object(key("y").id()));
    assert_eq!(world.read(&mut world.open(only)), texts(&[2, 3, 8]));
    let stranger = Reader::open(&world.logs, &"e2".parse().unwrap(), app());
    assert!(world.read(&mut stranger.unwrap()).is_empty(), "another edge's");
}

#[test]
fn the_last_lines_are_those_of_all_logs_together() {
    let mut world = World::new();
    world.write_old(1, "x", &recent(&[1, 4, 5, 9]));
    world.write_old(2, "y", &recent(&[2, 3, 8]));
    for (tail, expected) in [(0, &[][..]), (1, &[9]), (3, &[5, 8, 9]), (100, &[1, 2, 3, 4, 5, 8, 9])] {
        let mut reader = world.open(ReadLogs { tail: Some(tail), ..app() });
        assert_eq!(world.read(&mut reader), texts(expected), "the last {tail}");
    }
    let since_ms = recent(&[4])[0] * 1000;
    let mut reader = world.open(ReadLogs { since_ms, ..app() });
    assert_eq!(world.read(&mut reader).len(), 4);
    let mut reader = world.open(ReadLogs { since_ms, tail: Some(2), ..app() });
    assert_eq!(world.read(&mut reader), texts(&[8, 9]));
}

#[test]
fn what_is_older_than_it_is_kept_is_not_shown() {
    let mut world = World::new();
    let mut seconds = vec![86_400, 2 * 86_400];
    seconds.extend(recent(&[1]));
    world.write_old(1, "x", &seconds);
    assert_eq!(world.read(&mut world.open(app())), texts(&[1]));
}

#[test]
fn a_follower_sees_what_comes_and_the_objects_next_instance() {
    let mut world = World::new();
    let mut first = world.start(1, "x", 1 << 20);
    first.say("before");
    let mut reader = world.open(ReadLogs { follow: true, ..ask(LogsOf::Object(key("x").id())) });
    assert_eq!(world.read(&mut reader), ["before"]);
    first.say("now");
    assert_eq!(world.read(&mut reader), ["now"]);
    first.say("the last word");
    world.alive.remove(&id(1));
    assert_eq!(world.read(&mut reader), ["the last word"]);
    let mut second = world.start(2, "x", 1 << 20);
    world.start(3, "another", 1 << 20).say("not for this one");
    second.say("again");
    assert_eq!(world.read(&mut reader), ["again"]);
    for path in [world.path(1), world.path(1).with_extension("json")] {
        fs::remove_file(path).unwrap();
    }
    second.say("still");
    assert_eq!(world.read(&mut reader), ["still"]);
    assert_eq!(reader.sources.len(), 1, "what is gone is forgotten");
}

#[test]
fn a_reader_that_was_cut_off_goes_on_without_loss_or_repetition() {
    let mut world = World::new();
    let mut writers = [world.start(1, "x", 1 << 20), world.start(2, "y", 1 << 20)];
    let mut silent = world.start(3, "z", 1 << 20);
    for number in 0..100 {
        writers[number % 2].say(&number.to_string());
    }
    silent.say("long ago");
    let follow = ReadLogs { follow: true, tail: Some(10), ..app() };
    let mut reader = world.open(follow.clone());
    let (batch, _) = reader.batch(&world.alive).unwrap();
    assert_eq!(batch.records.len(), 10);
    let after = batch.caught_up.unwrap();
    assert_eq!(after.len(), 3, "also those of which nothing was wanted");
    for number in 100..200 {
        writers[number % 2].say(&number.to_string());
    }
    world.start(4, "w", 1 << 20).say("new");
    let mut again = world.open(ReadLogs { after, tail: None, ..follow });
    let mut found = world.read(&mut again);
    found.sort_by_key(|text| text.parse().unwrap_or(0));
    let mut expected: Vec<_> = (100..200).map(|number| number.to_string()).collect();
    expected.insert(0, "new".to_owned());
    assert_eq!(found, expected);
}

#[test]
fn a_gap_is_told_with_its_size() {
    let mut world = World::new();
    let mut writer = world.start(1, "x", 4000);
    writer.say("first");
    let mut reader = world.open(ReadLogs { follow: true, ..app() });
    assert_eq!(world.read(&mut reader), ["first"]);
    for number in 0..500 {
        writer.say(&number.to_string());
    }
    let records = world.records(&mut reader);
    let remarks: Vec<_> = records.iter().filter(|record| record.stream == LogStream::Berth).collect();
    assert!(remarks.len() == 1 && remarks[0].text.contains("bytes of output are missing"), "{remarks:?}");
    assert_eq!(records.last().unwrap().text, "499");
}

#[test]
fn a_batch_is_bounded_and_fits_a_frame() {
    let mut world = World::new();
    let mut writer = world.start(1, &"n".repeat(1024), 64 << 20);
    for _ in 0..20 {
        // Every byte of it takes six in JSON.
        writer.say(&"\u{1}".repeat(16_000));
    }
    let mut reader = world.open(app());
    let mut lines = 0;
    loop {
        let (batch, rest) = reader.batch(&world.alive).unwrap();
        lines += batch.records.len();
        let answer = berth_common::wire::call::Answer::Logs(batch);
        berth_common::wire::frame::encode(&answer).unwrap();
        if rest == Rest::Nothing {
            break;
        }
    }
    assert_eq!(lines, 20);
}
