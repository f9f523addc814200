//! Server-sent events, as an edge sends them: each with a name and one line of data.

use std::collections::VecDeque;

use super::{Client, ClientError, Lines};
use crate::events::ObjectEvent;

/// A stream of events.
#[derive(Debug)]
pub struct Events {
    lines: Lines,
    /// The lines of the stream, names and data in turn.
    parts: VecDeque<Vec<u8>>,
    /// The name of the event whose data comes next.
    name: String,
}

impl Client {
    /// Watches objects: those of an app, one object, or all, depending on the query
    /// ([`crate::events::WatchParameters`]).
    pub async fn watch(&self, query: &str) -> Result<Events, ClientError> {
        let lines = self.lines(&format!("/v1/events?{query}")).await?;
        Ok(Events { lines, parts: VecDeque::new(), name: String::new() })
    }
}

impl Events {
    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<ObjectEvent>, ClientError> {
        loop {
            while let Some(line) = self.parts.pop_front() {
                if let Some(event) = self.take(&line)? {
                    return Ok(Some(event));
                }
            }
            let Some(lines) = self.lines.next().await? else { return Ok(None) };
            self.parts.extend(lines);
        }
    }

    /// Takes a line; returns an event once its data is there. Comment lines only keep the connection alive.
    fn take(&mut self, line: &[u8]) -> Result<Option<ObjectEvent>, ClientError> {
        if let Some(name) = field(line, b"event:") {
            self.name = String::from_utf8_lossy(name).into_owned();
        }
        let Some(data) = field(line, b"data:") else { return Ok(None) };
        let wrong = |source| ClientError::Unexpected { what: format!("the event {}", self.name), source };
        ObjectEvent::read(&self.name, data).map_err(wrong)
    }
}

/// The value of a field, if the line has that field.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(name).map(|value| value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_names_and_values() {
        assert_eq!(field(b"event: ready", b"event:"), Some(&b"ready"[..]));
        assert_eq!(field(b"data:{}", b"data:"), Some(&b"{}"[..]));
        assert_eq!(field(b":", b"data:"), None);
    }
}
