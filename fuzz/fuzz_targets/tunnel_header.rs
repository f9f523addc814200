//! Tunnel headers: any bytes are a header, which then has exactly these bytes, or refused. Answers likewise.

#![no_main]

use berth_common::wire::tunnel::{HEADER_BYTES, TunnelAnswer, TunnelHeader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(header) = bytes.first_chunk::<HEADER_BYTES>()
        && let Ok(decoded) = TunnelHeader::decode(header)
    {
        assert_ne!(decoded.port, 0);
        assert_eq!(decoded.encode(), *header);
    }
    if let Some(code) = bytes.first()
        && let Some(answer) = TunnelAnswer::from_code(*code)
    {
        assert_eq!(answer as u8, *code);
    }
});
