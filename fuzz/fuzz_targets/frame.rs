//! Frames and the messages in them: any bytes are split, decoded or refused, and what was decoded survives its way
//! out and in again.

#![no_main]

use berth_common::wire::call::{Answer, Call};
use berth_common::wire::frame::{MAX_FRAME_BYTES, PREFIX_BYTES, decode_body, encode, split};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|bytes: &[u8]| {
    // As a stream of frames, and as a body: a fuzzer seldom finds the length that fits.
    let mut rest = bytes;
    while let Ok(Some((body, after))) = split(rest) {
        assert!(body.len() <= MAX_FRAME_BYTES);
        assert_eq!(PREFIX_BYTES + body.len() + after.len(), rest.len());
        both(body);
        rest = after;
    }
    both(bytes);
});

fn both(body: &[u8]) {
    round_trip::<Call>(body);
    round_trip::<Answer>(body);
}

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(body: &[u8]) {
    let Ok(message) = decode_body::<T>(body) else { return };
    // Escapes may make the text longer than it came, so that it no longer fits.
    let Ok(frame) = encode(&message) else { return };
    let (body, rest) = split(&frame).expect("an encoded frame is legal").expect("an encoded frame is whole");
    assert!(rest.is_empty());
    assert_eq!(decode_body::<T>(body).expect("an encoded message can be decoded"), message);
}
