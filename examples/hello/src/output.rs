//! Writes to standard output and standard error: given text, numbers at a slow pace, or as much as it can.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Response, StatusCode};

use crate::answer::{Body, text};

/// Pause between two numbers.
const COUNT_PAUSE: Duration = Duration::from_millis(10);
/// Longest flood.
const MAX_FLOOD_S: u64 = 600;
/// Lines of a flood that are written at once.
const FLOOD_LINES: usize = 1000;

/// Writes a request's body as it is.
pub(crate) async fn say(body: Incoming, mut to: impl Write) -> Response<Body> {
    let written = match body.collect().await {
        Ok(body) => to.write_all(&body.to_bytes()).and_then(|()| to.flush()),
        Err(error) => Err(io::Error::other(error)),
    };
    match written {
        Ok(()) => text(StatusCode::OK, "said\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("writing failed: {error}\n")),
    }
}

/// Counts to a number, a line each, after the answer.
pub(crate) fn count(most: u64) -> Response<Body> {
    tokio::spawn(async move {
        for number in 1..=most {
            println!("hello: counting {number}");
            tokio::time::sleep(COUNT_PAUSE).await;
        }
    });
    text(StatusCode::ACCEPTED, format!("counting to {most}\n"))
}

/// Writes lines as fast as they are taken, for so long, and returns how many that were.
pub(crate) async fn flood(seconds: u64) -> Response<Body> {
    let length = Duration::from_secs(seconds.min(MAX_FLOOD_S));
    let flood = move || -> io::Result<u64> {
        let (end, mut lines) = (Instant::now() + length, 0);
        while Instant::now() < end {
            let many: String =
                (lines..).take(FLOOD_LINES).map(|line| format!("hello: flood {line}\n")).collect();
            io::stdout().write_all(many.as_bytes())?;
            lines += FLOOD_LINES as u64;
        }
        Ok(lines)
    };
    match tokio::task::spawn_blocking(flood).await.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(lines) => text(StatusCode::OK, format!("{lines}\n")),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("writing failed: {error}\n")),
    }
}
