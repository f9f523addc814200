//! What can be seen from inside the container: environment, host name, disk and network.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use nix::time::{ClockId, clock_gettime};
use tokio::net::TcpStream;

use crate::answer::{Body, text};
use crate::settings::Settings;

/// Where `PUT .../file` writes: a fresh instance does not have it.
const FILE: &str = "/tmp/file";
/// How long `.../connect/HOST/PORT` waits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The flag of an interface that is up (`IFF_UP`).
const FLAG_UP: u32 = 1;

/// How many notes are kept, and the longest of them in bytes: this is an example and not a store.
const MAX_NOTES: usize = 10_000;
const MAX_NOTE_BYTES: usize = 64 * 1024;

static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps the headers and the body of a callback from Berth for as long as the process lives.
pub(crate) async fn note(request: Request<Incoming>) -> Response<Body> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
    let about =
        format!("{} {} {}", header("berth-callback"), header("berth-scheduled-ms"), header("berth-attempt"));
    let body = Limited::new(request.into_body(), MAX_NOTE_BYTES).collect().await;
    let Ok(body) = body.map(|body| body.to_bytes()) else {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "the note is too long\n");
    };
    let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    if notes.len() < MAX_NOTES {
        notes.push(format!("{about} {}\n", String::from_utf8_lossy(&body).replace('\n', " ")));
    }
    text(StatusCode::CREATED, "noted\n")
}

/// All notes, one a line: callback, its moment, which try it was, and the body.
pub(crate) fn notes() -> String {
    NOTES.lock().unwrap_or_else(PoisonError::into_inner).concat()
}

/// The page for every other path: the instance, and its environment, one variable a line.
pub(crate) fn page(settings: &Settings) -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let Settings { message, instance, boot, .. } = settings;
    let mut page = format!("{message}\n\ninstance: {instance}\nboot: {boot}\nhost: {}\n\n", host.trim_end());
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let mut env: Vec<_> =
        std::env::vars_os().map(|(name, value)| format!("{}={}\n", lossy(name), lossy(value))).collect();
    env.sort();
    page.extend(env);
    page
}

/// How long the machine has been running, in seconds with two digits behind the point.
pub(crate) fn uptime() -> String {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Has this process use so much CPU time.
pub(crate) fn burn(ms: u64) -> Response<Body> {
    let end = cpu_time() + Duration::from_millis(ms);
    while cpu_time() < end {
        // Reading the time again and again is work enough.
    }
    text(StatusCode::OK, format!("used {ms} ms of CPU time\n"))
}

/// CPU time that this process has used.
fn cpu_time() -> Duration {
    // Every Linux has this clock.
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Writes a body to the file.
pub(crate) async fn write_file(body: Incoming) -> Response<Body> {
    match save(body).await {
        Ok(bytes) => text(StatusCode::CREATED, format!("wrote {bytes} bytes to {FILE}\n")),
        Err(error) => text(StatusCode::INSUFFICIENT_STORAGE, format!("writing {FILE} failed: {error}\n")),
    }
}

async fn save(mut body: Incoming) -> io::Result<usize> {
    // An image made of one binary has no /tmp.
    fs::create_dir_all("/tmp")?;
    let (mut file, mut bytes) = (File::create(FILE)?, 0);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
            file.write_all(&data)?;
            bytes += data.len();
        }
    }
    Ok(bytes)
}

/// Writes so many bytes to the file, to see how large the disk is.
pub(crate) fn fill_file(bytes: u64) -> Response<Body> {
    let fill = || -> io::Result<u64> {
        fs::create_dir_all("/tmp")?;
        io::copy(&mut io::repeat(7).take(bytes), &mut File::create(FILE)?)
    };
    match fill() {
        Ok(bytes) => text(StatusCode::OK, format!("wrote {bytes} bytes to {FILE}\n")),
        Err(error) => text(StatusCode::INSUFFICIENT_STORAGE, format!("writing {FILE} failed: {error}\n")),
    }
}

/// The file's content, or 404.
pub(crate) fn read_file() -> Response<Body> {
    match fs::read(FILE) {
        Ok(content) => text(StatusCode::OK, content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            text(StatusCode::NOT_FOUND, format!("no {FILE} yet\n"))
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("reading {FILE} failed: {error}\n")),
    }
}

/// Network interfaces, one a line: name, and whether it is up.
pub(crate) fn interfaces() -> String {
    // This file is always that of the reader's own network namespace; /sys may be another's.
    let list = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let names = list.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    names.map(|name| format!("{name} {}\n", up_or_down(name))).collect()
}

fn up_or_down(name: &str) -> &'static str {
    let flags = fs::read_to_string(format!("/sys/class/net/{name}/flags")).unwrap_or_default();
    match u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16) {
        Ok(flags) if flags & FLAG_UP != 0 => "up",
        Ok(_) => "down",
        Err(_) => "unknown",
    }
}

/// Tries a TCP connection and returns the result as text.
pub(crate) async fn connect(host: &str, port: u16) -> String {
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => format!("connected to {host} port {port}\n"),
        Ok(Err(error)) => format!("failed: {error}\n"),
        Err(_) => format!("failed: no answer within {} s\n", CONNECT_TIMEOUT.as_secs()),
    }
}

/// The host names that it sees: from the kernel, and in `/etc`.
pub(crate) fn names() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    format!("{}{}{}", read("/proc/sys/kernel/hostname"), read("/etc/hostname"), read("/etc/hosts"))
}
