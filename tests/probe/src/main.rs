//! An app for containers that tries what an app must not be able to do. Each probe runs in a child process, and its
//! result is one word: `ok` if it succeeded, else the error's name, or `killed-by-N`.
//!
//! `GET /container/ID/probe/NAME` runs a probe, `/probes` lists them; see `looks` for what only looks around,
//! `bombs` for what takes a lot of something, `seize` for what keeps it, `vitals` for what a neighbour then gets,
//! `script` for what no good server answers, and `witness` for whether it runs.

mod bombs;
mod looks;
mod probes;
mod script;
mod seize;
mod sys;
mod vitals;
mod witness;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

/// Largest request head, in bytes.
const MAX_HEAD_BYTES: u64 = 16 * 1024;
/// Variable that makes it wait for signals to end without handling them.
const WAITS: &str = "WAIT_FOR_SIGNALS";

/// Where it listens.
static LISTENER: OnceLock<TcpListener> = OnceLock::new();

fn main() -> std::io::Result<()> {
    looks::remember_descriptors()?;
    witness::begin()?;
    if std::env::var_os(WAITS).is_some() {
        return wait_for_signal();
    }
    bombs::take_signals();
    listen()
}

/// The first thread waits for a signal, without a handler, and the others serve.
fn wait_for_signal() -> std::io::Result<()> {
    let mut set = SigSet::empty();
    [Signal::SIGTERM, Signal::SIGQUIT].into_iter().for_each(|signal| set.add(signal));
    set.thread_block()?;
    thread::spawn(listen);
    println!("probe: got signal {}", set.wait()? as i32);
    Ok(())
}

fn listen() -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 8080))?;
    println!("probe: listening");
    for stream in LISTENER.get_or_init(|| listener).incoming().flatten() {
        thread::spawn(move || serve(stream));
    }
    Ok(())
}

fn serve(mut stream: TcpStream) {
    let mut line = String::new();
    let mut reader = BufReader::new((&stream).take(MAX_HEAD_BYTES));
    if reader.read_line(&mut line).is_err() {
        return;
    }
    if line.contains("/script/") {
        // Which limits itself.
        reader.get_mut().set_limit(u64::MAX);
        return script::serve(&stream, reader, line);
    }
    let mut header = String::new();
    while reader.read_line(&mut header).is_ok_and(|n| n > 2) {
        header.clear();
    }
    let path = line.split(' ').nth(1).unwrap_or("/");
    // The argument may be a path, so it is not split at slashes.
    let text = match path.split_once("/look/").and_then(|(_, look)| look.split_once('?')) {
        Some((name, argument)) => looks::look(name, argument),
        None => answer(&path.split('/').collect::<Vec<_>>()),
    };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes()));
}

fn answer(path: &[&str]) -> String {
    match path {
        [.., "probes"] => probes::ALL.iter().map(|(name, _)| format!("{name}\n")).collect(),
        [.., "probe", name] => match probes::ALL.iter().find(|(known, _)| known == name) {
            Some((_, probe)) => sys::in_child(*probe),
            None => "there is no such probe".to_owned(),
        },
        [.., "seize", name] => seize::seize(name),
        [.., "vitals"] => vitals::all(),
        [.., "witness"] => witness::answer(),
        [.., "bomb", name, count] => bombs::drop(name, count.parse().unwrap_or(0)),
        _ => "probe\n".to_owned(),
    }
}
