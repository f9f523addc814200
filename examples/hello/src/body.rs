//! Streaming bodies: responses with a known pattern or slow ones, requests through a checksum. None is held in memory
//! whole.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use sha2::{Digest, Sha256};

use crate::answer::{Body, text};

/// Most bytes of a body made here: enough to run for minutes at full speed.
const MAX_PATTERN_BYTES: u64 = 10 << 30;
/// The pattern: the byte at offset `i` is `i mod 251`. 251 is a prime, so that no power of two divides its period
/// and a block that is lost, doubled or moved shows.
const PERIOD: u8 = 251;
/// Repetitions of the pattern in one chunk: chunks of 64 KB.
const CHUNK_PERIODS: usize = 256;
/// Most seconds of a slow body.
const MAX_SLOW_SECONDS: u64 = 3600;

/// `count` bytes of the pattern.
pub(crate) fn pattern(count: u64) -> Response<Body> {
    if count > MAX_PATTERN_BYTES {
        return text(StatusCode::BAD_REQUEST, format!("at most {MAX_PATTERN_BYTES} bytes\n"));
    }
    let chunk: Bytes = (0..PERIOD).collect::<Vec<_>>().repeat(CHUNK_PERIODS).into();
    let chunks = stream::iter(cuts(count, chunk.len())).map(move |length| frame(chunk.slice(..length)));
    let mut response = streamed(StreamBody::new(chunks).boxed_unsync());
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(count));
    response
}

/// Lengths of the chunks that make up `count` bytes: all but the last whole, so that each starts a new period.
fn cuts(count: u64, chunk: usize) -> impl Iterator<Item = usize> {
    let mut left = count;
    std::iter::from_fn(move || {
        let length = usize::try_from(left).unwrap_or(chunk).min(chunk);
        left -= length as u64;
        (length > 0).then_some(length)
    })
}

/// One byte a second.
pub(crate) fn slow(seconds: u64) -> Response<Body> {
    if seconds > MAX_SLOW_SECONDS {
        return text(StatusCode::BAD_REQUEST, format!("at most {MAX_SLOW_SECONDS} seconds\n"));
    }
    let bytes = stream::iter(0..seconds).then(|_| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        frame(Bytes::from_static(b"."))
    });
    streamed(StreamBody::new(bytes).boxed_unsync())
}

fn frame(bytes: Bytes) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(bytes))
}

fn streamed(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

/// Reads a body and returns its length and checksum.
pub(crate) async fn sink(mut body: Incoming) -> Response<Body> {
    let (mut bytes, mut hash) = (0, Sha256::new());
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => {
                bytes += data.len();
                hash.update(&data);
            }
            Ok(Err(_trailers)) => {}
            Err(error) => return text(StatusCode::BAD_REQUEST, format!("the body broke off: {error}\n")),
        }
    }
    let sha256: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let json = format!("{{\"bytes\":{bytes},\"sha256\":\"{sha256}\"}}\n");
    let mut response = text(StatusCode::OK, json);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn whole(count: u64) -> Bytes {
        pattern(count).into_body().collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn every_byte_is_its_offset_modulo_the_period() {
        for count in [0, 1, 250, 251, 252, 64_255, 64_256, 64_257, 200_000] {
            let bytes = whole(count).await;
            assert_eq!(bytes.len() as u64, count);
            assert!(bytes.iter().enumerate().all(|(i, byte)| usize::from(*byte) == i % 251), "{count}");
        }
    }

    #[test]
    fn too_much_is_refused() {
        assert_eq!(pattern(MAX_PATTERN_BYTES + 1).status(), StatusCode::BAD_REQUEST);
        assert_eq!(slow(MAX_SLOW_SECONDS + 1).status(), StatusCode::BAD_REQUEST);
    }
}
