//! The app's output: read from its pipes and written to the log by line. The app never waits longer than for this.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use berth_common::spec::LogSpec;
use berth_common::wire::logs::LogStream;

use crate::log::{Lines, Log};
use crate::wait::wait;

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long output is read after the end, in case another process still has the pipe open.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause after a chunk that was kept: many small writes are read together.
const PAUSE: Duration = Duration::from_millis(1);
/// Pause after a chunk that was dropped: an app that writes more than it may log costs at most 200 reads a second, however
/// small its writes are.
const FLOOD_PAUSE: Duration = Duration::from_millis(5);

/// Both streams of one app.
pub(super) struct Output {
    /// Set before the app runs.
    log: Option<Log>,
    streams: [Source; 2],
    /// Nothing is read until then.
    paused: Option<Instant>,
    /// What is read goes here first.
    chunk: Vec<u8>,
}

struct Source {
    pipe: Option<OwnedFd>,
    lines: Lines,
}

impl Output {
    pub(super) fn new() -> Self {
        let source = |stream| Source { pipe: None, lines: Lines::new(stream) };
        let streams = [source(LogStream::Stdout), source(LogStream::Stderr)];
        Self { log: None, streams, paused: None, chunk: vec![0; CHUNK_BYTES] }
    }

    /// Sets the log, which the spec may disable; output is read in any case.
    pub(super) fn write_to(&mut self, log: &Path, spec: &LogSpec) -> io::Result<()> {
        self.log = Some(Log::create(log, spec)?);
        Ok(())
    }

    /// The shim's ends of the pipes, which do not block.
    pub(super) fn attach(&mut self, stdout: OwnedFd, stderr: OwnedFd) {
        self.streams[0].pipe = Some(stdout);
        self.streams[1].pipe = Some(stderr);
    }

    /// When a pause ends.
    pub(super) fn pause_end(&self) -> Option<Instant> {
        self.paused.filter(|until| *until > Instant::now())
    }

    /// The descriptors to wait for; pass the result to `read`. None before there is a log, and in a pause.
    pub(super) fn sources(&self) -> [Option<BorrowedFd<'_>>; 2] {
        if self.log.is_none() || self.pause_end().is_some() {
            return [None, None];
        }
        [&self.streams[0], &self.streams[1]].map(|source| source.pipe.as_ref().map(OwnedFd::as_fd))
    }

    /// Reads a chunk of each that is ready.
    pub(super) fn read(&mut self, ready: &[bool]) {
        let Some(log) = &mut self.log else { return };
        if !ready.contains(&true) {
            return;
        }
        let mut kept = true;
        for (source, ready) in self.streams.iter_mut().zip(ready) {
            if *ready {
                kept &= source.read(log, &mut self.chunk);
            }
        }
        self.paused = Some(Instant::now() + if kept { PAUSE } else { FLOOD_PAUSE });
    }

    /// Writes a remark of Berth's to the log.
    pub(super) fn remark(&mut self, text: &str) {
        if let Some(log) = &mut self.log {
            log.remark(text);
        }
    }

    /// Reads the rest of the output after the end.
    pub(super) fn drain(&mut self) {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        loop {
            // The rest is in the pipes: it comes to an end.
            self.paused = None;
            if self.sources().iter().all(Option::is_none) || Instant::now() >= deadline {
                break;
            }
            let Ok(ready) = wait(&self.sources(), Some(deadline)) else { break };
            self.read(&ready);
        }
        let Some(log) = &mut self.log else { return };
        for source in &mut self.streams {
            source.lines.finish(log);
        }
        log.finish();
    }
}

impl Source {
    /// False if what was read had to be dropped.
    fn read(&mut self, log: &mut Log, chunk: &mut [u8]) -> bool {
        let Some(pipe) = &self.pipe else { return true };
        match nix::unistd::read(pipe, chunk) {
            Ok(0) => {
                self.lines.finish(log);
                self.pipe = None;
                true
            }
            Ok(n) => self.lines.push(&chunk[..n], log),
            Err(_) => true,
        }
    }
}
