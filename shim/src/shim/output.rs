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

/// Both streams of one app.
pub(super) struct Output {
    /// Set before the app runs.
    log: Option<Log>,
    streams: [Source; 2],
}

struct Source {
    pipe: Option<OwnedFd>,
    lines: Lines,
}

impl Output {
    pub(super) fn new() -> Self {
        let source = |stream| Source { pipe: None, lines: Lines::new(stream) };
        Self { log: None, streams: [source(LogStream::Stdout), source(LogStream::Stderr)] }
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

    /// The descriptors to wait for; pass the result to `read`. None before there is a log.
    pub(super) fn sources(&self) -> [Option<BorrowedFd<'_>>; 2] {
        if self.log.is_none() {
            return [None, None];
        }
        [&self.streams[0], &self.streams[1]].map(|source| source.pipe.as_ref().map(OwnedFd::as_fd))
    }

    /// Reads a chunk of each that is ready.
    pub(super) fn read(&mut self, ready: &[bool]) {
        let Some(log) = &mut self.log else { return };
        for (source, ready) in self.streams.iter_mut().zip(ready) {
            if *ready {
                source.read(log);
            }
        }
    }

    /// Reads the rest of the output after the end.
    pub(super) fn drain(&mut self) {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while self.sources().iter().any(Option::is_some) && Instant::now() < deadline {
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
    fn read(&mut self, log: &mut Log) {
        let Some(pipe) = &self.pipe else { return };
        let mut chunk = vec![0; CHUNK_BYTES];
        match nix::unistd::read(pipe, &mut chunk) {
            Ok(0) => {
                self.lines.finish(log);
                self.pipe = None;
            }
            Ok(n) => self.lines.push(&chunk[..n], log),
            Err(_) => {}
        }
    }
}
