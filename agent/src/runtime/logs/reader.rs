//! Reads the logs of an object or an app, merged by time, in batches: existing lines, and with `follow` new ones.
//! Blocks on disk reads; holds no more than a batch and one line of each log.
//!
//! ```text
//!           ┌── has a line ───▶ ahead (by time) ──earliest of all──▶ batch
//! log ──────┤                      ▲
//!           └── nothing yet ▶ idle ┘ checked again with the next batch
//!                               │ its instance has ended, or without `follow`
//!                               └──────────────────▶ done
//! ```

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use berth_common::ids::{EdgeId, InstanceId};
use berth_common::wire::logs::{LogBatch, LogPlace, LogRecord, LogStream, MAX_LOG_PLACES, ReadLogs};
use berth_shim::log::line::unix_ms;

use super::cursor::{Cursor, LogLine, place_of_last};
use super::{LogEntry, Logs};

/// Bytes of text and names after which a batch is full. As JSON with every byte escaped, such a batch and one more line
/// of the greatest length still fit into a frame.
const BATCH_BYTES: usize = 64 * 1024;
/// Most lines of a batch.
const BATCH_LINES: usize = 1000;
/// Most lines read for one batch, including skipped ones, so that an abandoned reader stops soon.
const MAX_LOOKS: usize = 50_000;
/// Resolution of a directory's modification time, with a margin: within it, two changes may have the same time.
const COARSE: Duration = Duration::from_secs(1);

/// What follows a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// More lines are available.
    More,
    /// More lines may be written later.
    Later,
    /// No more lines will come.
    Nothing,
}

/// A reader of merged logs.
#[derive(Debug)]
pub struct Reader {
    logs: Logs,
    owner: EdgeId,
    ask: ReadLogs,
    /// Lines after this time are new: skipped without `follow`, else sent after the existing ones.
    opened_ms: u64,
    /// The offsets where an earlier reader ended.
    after: HashMap<InstanceId, u64>,
    sources: BTreeMap<usize, Source>,
    /// The number of sources so far, used as the key of the next one.
    added: usize,
    /// Sources by the time of their next line, or a lower bound of it.
    ahead: BinaryHeap<Reverse<(u64, usize)>>,
    idle: Vec<usize>,
    /// Lines to skip before the first one that is sent.
    skip: u64,
    caught_up: bool,
    /// The directory's modification time at the last search.
    seen: Option<SystemTime>,
}

/// A log that is being read.
#[derive(Debug)]
struct Source {
    entry: LogEntry,
    cursor: Cursor,
    next: Option<LogLine>,
    /// The offset up to which its lines were sent or skipped.
    place: u64,
    /// No more lines will come.
    done: bool,
    /// Lines before this time are skipped.
    since_ms: u64,
}

impl Reader {
    /// A reader of this owner's logs.
    pub fn open(logs: &Logs, owner: &EdgeId, ask: ReadLogs) -> io::Result<Self> {
        let mut reader = Self::new(logs, owner, ask.clone());
        if let Some(tail) = ask.tail {
            let whole = Self::new(logs, owner, ReadLogs { follow: false, ..ask });
            reader.skip = whole.count()?.saturating_sub(u64::from(tail));
        }
        Ok(reader)
    }

    fn new(logs: &Logs, owner: &EdgeId, ask: ReadLogs) -> Self {
        let after = ask.after.iter().map(|place| (place.instance, place.at)).collect();
        Self {
            logs: logs.clone(),
            owner: owner.clone(),
            ask,
            opened_ms: unix_ms(SystemTime::now()),
            after,
            sources: BTreeMap::new(),
            added: 0,
            ahead: BinaryHeap::new(),
            idle: Vec::new(),
            skip: 0,
            caught_up: false,
            seen: None,
        }
    }

    /// Counts the lines. Lines after a resume offset do not count: all of them are sent.
    fn count(mut self) -> io::Result<u64> {
        let mut count = 0;
        loop {
            let (batch, rest) = self.batch(&HashSet::new())?;
            let free = batch.records.iter().filter(|record| !self.after.contains_key(&record.instance));
            count += free.filter(|record| record.stream != LogStream::Berth).count() as u64;
            if rest != Rest::More {
                return Ok(count);
            }
        }
    }

    /// The next lines. `alive`: the instances that may still write, determined before this call.
    pub fn batch(&mut self, alive: &HashSet<InstanceId>) -> io::Result<(LogBatch, Rest)> {
        self.look_for_logs()?;
        let mut looks = 0;
        for index in std::mem::take(&mut self.idle) {
            self.advance(index, alive, &mut looks)?;
        }
        let (mut records, mut bytes) = (Vec::new(), 0);
        while looks < MAX_LOOKS && records.len() < BATCH_LINES && bytes < BATCH_BYTES {
            let Some(Reverse((_, index))) = self.ahead.pop() else { break };
            for record in self.take(index) {
                bytes += record.text.len() + record.object.name.as_str().len();
                records.push(record);
            }
            self.advance(index, alive, &mut looks)?;
        }
        let behind = self.ahead.peek().is_some_and(|Reverse((time_ms, _))| *time_ms <= self.opened_ms);
        let caught_up = (!behind && !self.caught_up).then(|| self.places());
        self.caught_up |= !behind;
        let rest = match (!self.ahead.is_empty(), self.ask.follow) {
            (true, _) => Rest::More,
            (false, true) => Rest::Later,
            (false, false) => Rest::Nothing,
        };
        Ok((LogBatch { records, caught_up }, rest))
    }

    /// Takes a source's next line, after a remark if bytes before it were missed.
    fn take(&mut self, index: usize) -> Vec<LogRecord> {
        let Some(source) = self.sources.get_mut(&index) else { return Vec::new() };
        let Some(line) = source.next.take() else { return Vec::new() };
        source.place = line.next;
        let missed = source.cursor.take_missed();
        let remark = (missed > 0).then(|| source.remark(&line, missed));
        let free = !self.after.contains_key(&source.entry.instance);
        if free && self.skip > 0 && line.stream != LogStream::Berth {
            self.skip -= 1;
            return Vec::new();
        }
        let record = source.record(line);
        // Skipped lines have no remarks.
        let wanted = self.skip == 0 || !free;
        remark.into_iter().chain([record]).filter(|_| wanted).collect()
    }

    /// Finds a source's next line that is not skipped, and queues the source by its time.
    fn advance(&mut self, index: usize, alive: &HashSet<InstanceId>, looks: &mut usize) -> io::Result<()> {
        let Some(source) = self.sources.get_mut(&index) else { return Ok(()) };
        loop {
            *looks += 1;
            match source.cursor.next()? {
                None => {
                    if self.ask.follow && alive.contains(&source.entry.instance) {
                        self.idle.push(index);
                    } else {
                        source.end();
                    }
                    return Ok(());
                }
                Some(line) if line.time_ms > self.opened_ms && !self.ask.follow => {
                    source.end();
                    return Ok(());
                }
                Some(line) if line.time_ms < source.since_ms => {
                    source.place = line.next;
                    if *looks >= MAX_LOOKS {
                        self.ahead.push(Reverse((line.time_ms, index)));
                        return Ok(());
                    }
                }
                Some(line) => {
                    self.ahead.push(Reverse((line.time_ms, index)));
                    source.next = Some(line);
                    return Ok(());
                }
            }
        }
    }

    /// Adds the matching logs that are not known yet.
    fn look_for_logs(&mut self) -> io::Result<()> {
        if self.seen.is_some() && !self.ask.follow {
            return Ok(());
        }
        let changed = fs::metadata(&self.logs.directory)?.modified()?;
        let settled = SystemTime::now().duration_since(changed).is_ok_and(|age| age > COARSE);
        if self.seen == Some(changed) && settled {
            return Ok(());
        }
        self.seen = Some(changed);
        let known: HashSet<_> = self.sources.values().map(|source| source.entry.instance).collect();
        let listed = self.logs.entries(&known)?;
        // Ended sources are dropped, since a follower may run for months.
        self.sources.retain(|_, source| !source.done || listed.present.contains(&source.entry.instance));
        for entry in listed.new {
            if entry.owner == self.owner && self.ask.of.wants(&entry.object) {
                self.add(entry)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, entry: LogEntry) -> io::Result<()> {
        let path = self.logs.path(entry.instance);
        let now_ms = unix_ms(SystemTime::now());
        let (at, since_ms) = match (self.after.get(&entry.instance), self.ask.tail) {
            (Some(at), _) => (Some(*at), 0),
            // A log that begins later is read from its beginning.
            (None, Some(tail)) if !self.caught_up => (place_of_last(&path, tail.into())?, self.ask.since_ms),
            (None, _) => (None, self.ask.since_ms),
        };
        let since_ms = since_ms.max(now_ms.saturating_sub(entry.retention_ms));
        // A lower bound of its first line's time, unless the clock was set back.
        self.ahead.push(Reverse((entry.started_ms, self.added)));
        let (cursor, place) = (Cursor::new(path, at), at.unwrap_or(0));
        self.sources.insert(self.added, Source { entry, cursor, next: None, place, done: false, since_ms });
        self.added += 1;
        Ok(())
    }

    /// The offset of each log; if there are too many, of the newest ones.
    fn places(&self) -> Vec<LogPlace> {
        let place = |source: &Source| LogPlace { instance: source.entry.instance, at: source.place };
        let mut sources: Vec<_> = self.sources.values().collect();
        sources.sort_by_key(|source| Reverse(source.entry.started_ms));
        sources.into_iter().take(MAX_LOG_PLACES).map(place).collect()
    }
}

impl Source {
    fn end(&mut self) {
        self.cursor.close();
        self.done = true;
    }

    fn record(&self, line: LogLine) -> LogRecord {
        let LogLine { time_ms, stream, text, next } = line;
        let text = String::from_utf8_lossy(&text).into_owned();
        LogRecord {
            time_ms,
            object: self.entry.object.clone(),
            instance: self.entry.instance,
            stream,
            text,
            next,
        }
    }

    fn remark(&self, before: &LogLine, missed: u64) -> LogRecord {
        let text =
            format!("[{missed} bytes of output are missing: they were removed before they could be read]");
        let line =
            LogLine { time_ms: before.time_ms, stream: LogStream::Berth, text: text.into_bytes(), next: 0 };
        self.record(line)
    }
}

#[cfg(test)]
mod tests;
