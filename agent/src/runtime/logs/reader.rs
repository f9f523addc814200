//! Reads the logs of an object or an app, in the order of time, a batch at a time: what is there, and with `follow`
//! what comes. Blocks for as long as the disk does; holds no more than a batch and a line of each log.
//!
//! ```text
//!           ┌── a line is there ──▶ ahead (by time) ──it is its turn──▶ batch
//! log ──────┤                          ▲
//!           └── nothing yet ──▶ idle ──┘ looked at again at the next batch
//!                                │ its instance has ended, or nobody follows
//!                                └──────────────────▶ done
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

/// Bytes of text and names of a batch, after which no line is added. Written as JSON with every byte escaped, a batch
/// with one more line of the longest kind still fits into a frame.
const BATCH_BYTES: usize = 64 * 1024;
/// Lines of a batch.
const BATCH_LINES: usize = 1000;
/// Lines that are looked at for one batch, wanted or not: a reader that is given up stops soon.
const MAX_LOOKS: usize = 50_000;
/// For how long a directory's time does not tell a change from the one before: file systems count it coarsely.
const COARSE: Duration = Duration::from_secs(1);

/// What there may be after a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// More, at once.
    More,
    /// More, once it is written.
    Later,
    /// Nothing ever.
    Nothing,
}

/// A reader.
#[derive(Debug)]
pub struct Reader {
    logs: Logs,
    owner: EdgeId,
    ask: ReadLogs,
    /// Lines behind this moment are not wanted, or come later.
    opened_ms: u64,
    /// Where an earlier reader came to.
    after: HashMap<InstanceId, u64>,
    sources: BTreeMap<usize, Source>,
    /// Numbers them.
    added: usize,
    /// Those whose next line is known, or that may have one no earlier than this.
    ahead: BinaryHeap<Reverse<(u64, usize)>>,
    idle: Vec<usize>,
    /// Lines to be left out before the first that is wanted.
    skip: u64,
    caught_up: bool,
    /// When the directory was last changed, as far as is known.
    seen: Option<SystemTime>,
}

/// A log that is read.
#[derive(Debug)]
struct Source {
    entry: LogEntry,
    cursor: Cursor,
    next: Option<LogLine>,
    /// How far it was read, or its lines are not wanted.
    place: u64,
    /// Nothing comes any more.
    done: bool,
    /// From which moment on its lines are wanted.
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

    /// How many lines there are. Those behind a place that was named count as none: all of them are wanted.
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

    /// The next lines. `alive` are the instances that may still write: as they were before this was called.
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

    /// Takes a source's next line, with a remark before it where others were missed.
    fn take(&mut self, index: usize) -> Vec<LogRecord> {
        let Some(source) = self.sources.get_mut(&index) else { return Vec::new() };
        let Some(said) = source.next.take() else { return Vec::new() };
        source.place = said.next;
        let missed = source.cursor.take_missed();
        let remark = (missed > 0).then(|| source.remark(&said, missed));
        let free = !self.after.contains_key(&source.entry.instance);
        if free && self.skip > 0 && said.stream != LogStream::Berth {
            self.skip -= 1;
            return Vec::new();
        }
        let record = source.record(said);
        // Before the first line that is wanted, remarks are not either.
        let wanted = self.skip == 0 || !free;
        remark.into_iter().chain([record]).filter(|_| wanted).collect()
    }

    /// Finds a source's next line that is wanted, and gives it its place.
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
                Some(said) if said.time_ms > self.opened_ms && !self.ask.follow => {
                    source.end();
                    return Ok(());
                }
                Some(said) if said.time_ms < source.since_ms => {
                    source.place = said.next;
                    if *looks >= MAX_LOOKS {
                        self.ahead.push(Reverse((said.time_ms, index)));
                        return Ok(());
                    }
                }
                Some(said) => {
                    self.ahead.push(Reverse((said.time_ms, index)));
                    source.next = Some(said);
                    return Ok(());
                }
            }
        }
    }

    /// Takes in the logs that are wanted and not known yet.
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
        // A reader that stays for months meets any number of them.
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
            // What begins later is wanted from its beginning.
            (None, Some(tail)) if !self.caught_up => (place_of_last(&path, tail.into())?, self.ask.since_ms),
            (None, _) => (None, self.ask.since_ms),
        };
        let since_ms = since_ms.max(now_ms.saturating_sub(entry.retention_ms));
        // No line of it is earlier, but for those of a clock that was set back.
        self.ahead.push(Reverse((entry.started_ms, self.added)));
        let (cursor, place) = (Cursor::new(path, at), at.unwrap_or(0));
        self.sources.insert(self.added, Source { entry, cursor, next: None, place, done: false, since_ms });
        self.added += 1;
        Ok(())
    }

    /// Where each log was read to; of too many, the newest.
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

    fn record(&self, said: LogLine) -> LogRecord {
        let LogLine { time_ms, stream, text, next } = said;
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
        let said =
            LogLine { time_ms: before.time_ms, stream: LogStream::Berth, text: text.into_bytes(), next: 0 };
        self.record(said)
    }
}

#[cfg(test)]
mod tests;
