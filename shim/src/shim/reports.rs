//! The reports of a builder, read from its pipe.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use nix::unistd::Pid;

use crate::app::Report;

/// Longest report of the builder, in bytes; longer ones are cut.
const MAX_REPORT_BYTES: usize = 8 * 1024;

/// The shim's end of the pipe, and the bytes read so far.
pub(super) struct Reports {
    pipe: Option<File>,
    bytes: Vec<u8>,
}

impl Reports {
    pub(super) fn new(pipe: File) -> Self {
        Self { pipe: Some(pipe), bytes: Vec::new() }
    }

    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(File::as_fd)
    }

    /// Reads the available bytes. True if the other ends are closed; then this one is closed too.
    pub(super) fn read(&mut self) -> io::Result<bool> {
        let Some(pipe) = &mut self.pipe else { return Ok(false) };
        let mut chunk = [0; 1024];
        loop {
            match pipe.read(&mut chunk) {
                Ok(0) => {
                    self.pipe = None;
                    return Ok(true);
                }
                Ok(n) => {
                    let room = MAX_REPORT_BYTES.saturating_sub(self.bytes.len());
                    self.bytes.extend_from_slice(&chunk[..n.min(room)]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = Report> {
        self.bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
    }

    /// The pid of the container's first process, once created.
    pub(super) fn created(&self) -> Option<Pid> {
        self.all().find_map(|r| if let Report::Created { pid } = r { Some(Pid::from_raw(pid)) } else { None })
    }

    /// Why the container could not be made or started, if reported: a failure, or else the first logged error.
    pub(super) fn failure(&self) -> Option<String> {
        let told =
            self.all().find_map(|r| if let Report::Failed { message } = r { Some(message) } else { None });
        let logged = self
            .all()
            .find_map(|r| if let Report::Logged { fields } = r { Some(sentence(&fields)) } else { None });
        match (told, logged) {
            (Some(told), Some(logged)) if !told.contains(&logged) => Some(format!("{logged} ({told})")),
            (told, logged) => told.or(logged),
        }
    }
}

fn sentence(fields: &BTreeMap<String, serde_json::Value>) -> String {
    let shown = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let message = fields.get("message").map(shown).unwrap_or_default();
    let others = fields.iter().filter(|(name, _)| *name != "message");
    others.fold(message, |text, (name, value)| format!("{text}, {name}: {}", shown(value)))
}
