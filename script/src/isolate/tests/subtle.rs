//! `crypto.subtle` in an isolate: what is calculated in Rust takes time, and chance is the host's.

use super::harness::{Bench, answer, failure, is_done, with_web};
use crate::isolate::{CPU_EXCEEDED, Host};
use crate::message::BodyRef;

fn handler(body: &str) -> Bench {
    with_web(&format!(
        "const bytes = (text) => new TextEncoder().encode(text);
        export default {{ async fetch(request) {{
            if (request.url.endsWith('/good')) return new Response('good');
            {body}
        }} }}"
    ))
}

#[test]
fn what_is_calculated_ends_with_its_call() {
    /// Many times the call's CPU time, and far less than the engine lets pass before it looks again, in microseconds.
    const SOON_US: u64 = 20_000_000;
    let calculations = [
        "const algorithm = { name: 'RSA-PSS', hash: 'SHA-256', modulusLength: 4096, publicExponent: new Uint8Array([1, 0, 1]) };
        for (;;) try { await crypto.subtle.generateKey(algorithm, true, ['sign']); } catch {}",
        "const key = await crypto.subtle.importKey('raw', bytes('x'), 'PBKDF2', false, ['deriveBits']);
        const algorithm = { name: 'PBKDF2', hash: 'SHA-512', salt: bytes('x'), iterations: 10000 };
        for (;;) try { crypto.subtle.deriveBits(algorithm, key, 512).catch(() => {}); } catch {}",
    ];
    for body in calculations {
        let mut bench = handler(body);
        let begun_us = bench.clock.cpu_us();
        let (event, effects) = bench.request("http://x/", BodyRef::None);
        assert_eq!(failure(&effects), format!("Error: {CPU_EXCEEDED}"), "{body}");
        assert!(is_done(&effects, event), "{body}");
        let used_us = bench.clock.cpu_us() - begun_us;
        assert!(used_us < SOON_US, "{used_us} µs of {body}");
        assert_eq!(answer(&bench.get("http://x/good")).1, "good", "{body}");
    }
}

#[test]
fn keys_are_made_of_the_hosts_chance() {
    let mut bench = handler(
        "const pair = await crypto.subtle.generateKey('Ed25519', true, ['sign']);
        return Response.json([
            await crypto.subtle.exportKey('jwk', pair.privateKey),
            await crypto.subtle.exportKey('jwk', await crypto.subtle.generateKey({ name: 'AES-GCM', length: 128 }, true, ['encrypt'])),
        ].map((key) => key.d ?? key.k));",
    );
    let (_, first) = answer(&bench.get("http://x/"));
    // The host of the tests has none: what it gives is always the same.
    assert_eq!(answer(&bench.get("http://x/")).1, first);
    assert!(first.contains("\"BwcHBwcHBwcHBwcHBwcHBw\""), "{first}");
}
