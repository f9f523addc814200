//! A server that answers byte for byte what the request's path says, however wrong that is, and tells what it was sent.
//!
//! * `…/script/keep/HEX` sends these bytes, and reads the next request; `close` and `reset` end the connection after them.
//! * `…/script/vanish/HEX` sends them, and closes the connection without an answer when the next request has come.
//! * `…/script/received` tells which request of its connection this is, its body's length, and its head.
//! * `…/script/times/NAME` counts how often it was asked.
//! * `…/script/end` ends the program, without an answer.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};

use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};

/// Largest body that is read, in bytes.
const MAX_BODY_BYTES: u64 = 16 << 20;

/// How often each name was asked for.
static TIMES: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

/// What becomes of the connection.
enum Then {
    Keep,
    Close,
    Reset,
    Vanish,
}

/// Serves a connection whose first line was read.
pub(crate) fn serve(stream: &TcpStream, mut reader: BufReader<impl Read>, mut line: String) {
    let (mut count, mut vanish) = (0, false);
    loop {
        count += 1;
        let Some((head, body)) = rest(&mut reader) else { return };
        if vanish {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or("/");
        let (_, script) = path.split_once("/script/").unwrap_or_default();
        let (bytes, then) = answer(script, || format!("{count} {body}\n{line}{head}"));
        let mut out = stream;
        if out.write_all(&bytes).is_err() {
            return;
        }
        match then {
            Then::Keep => {}
            Then::Vanish => vanish = true,
            Then::Close => return,
            Then::Reset => return reset(stream),
        }
        line.clear();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
    }
}

fn answer(script: &str, received: impl Fn() -> String) -> (Vec<u8>, Then) {
    match script.split('/').collect::<Vec<_>>().as_slice() {
        ["keep", hex] => (decode(hex), Then::Keep),
        ["close", hex] => (decode(hex), Then::Close),
        ["reset", hex] => (decode(hex), Then::Reset),
        ["vanish", hex] => (decode(hex), Then::Vanish),
        ["times", name] => (times(name), Then::Keep),
        ["end"] => end(),
        _ => (text(&received()), Then::Keep),
    }
}

/// Takes no more connections, then ends the program.
fn end() -> ! {
    if let Some(listener) = crate::LISTENER.get() {
        // Fails only if it does not listen any more.
        let _ = shutdown(listener.as_raw_fd(), Shutdown::Both);
    }
    std::process::exit(0)
}

fn text(text: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()).into_bytes()
}

fn times(name: &str) -> Vec<u8> {
    let mut times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    let count = times.get_or_insert_default().entry(name.to_owned()).or_default();
    *count += 1;
    text(&count.to_string())
}

/// The rest of a head, and the length of its body.
fn rest(reader: &mut impl BufRead) -> Option<(String, u64)> {
    let (mut head, mut length, mut chunked) = (String::new(), 0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line.trim().is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        chunked |= lower.starts_with("transfer-encoding:") && lower.contains("chunked");
        head.push_str(&line);
    }
    let body = if chunked { chunks(reader)? } else { skip(reader, length)? };
    Some((head, body))
}

fn chunks(reader: &mut impl BufRead) -> Option<u64> {
    let mut total = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let size = u64::from_str_radix(line.trim(), 16).ok()?;
        total += skip(reader, size)?;
        line.clear();
        reader.read_line(&mut line).ok()?;
        if size == 0 {
            return Some(total);
        }
    }
}

fn skip(reader: &mut impl BufRead, bytes: u64) -> Option<u64> {
    let bytes = bytes.min(MAX_BODY_BYTES);
    let skipped = std::io::copy(&mut reader.take(bytes), &mut std::io::sink()).ok()?;
    (skipped == bytes).then_some(bytes)
}

fn decode(hex: &str) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| pair.iter().filter_map(digit).fold(0, |byte, digit| byte << 4 | digit);
    hex.as_bytes().chunks(2).map(byte).collect()
}

/// Ends the connection by a reset.
fn reset(stream: &TcpStream) {
    // Fails only if it has ended already.
    let _ = setsockopt(stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
}
