//! Whether an app's code can be loaded: it is, in a process that does nothing else and ends with that.

use std::time::{Duration, Instant};

use berth_script::message::{Effect, Event, Inbound, Load, Loaded, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::Settings;
use super::child::Child;
use super::failure::{Ended, Failure};
use super::ledger::Ledger;

/// Longest time: that of the largest code to be compiled, on a slow machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Bytes that are read at once.
const READ_BYTES: usize = 16 << 10;

/// Loads code, and says what it exports.
pub(super) async fn load(settings: &Settings, load: Load) -> Result<Loaded, Failure> {
    let settings = Settings { lanes: 1, ..settings.clone() };
    let failed = |error: &dyn std::fmt::Display| Failure::Start(error.to_string());
    let mut ledger = Ledger::new(&load, Instant::now());
    let (child, sockets) =
        Child::start(&settings, load.limits.memory_bytes).map_err(|error| failed(&error))?;
    let mut out = Vec::new();
    encode(&Event::Load(Box::new(load)), &mut out).map_err(|error| failed(&error))?;
    let Some(socket) = sockets.into_iter().next() else { return Err(Failure::Ended(Ended::Died)) };
    let socket = UnixStream::from_std(socket).map_err(|error| failed(&error))?;
    ledger.load();
    // The process ends with `child`.
    match tokio::time::timeout(LIMIT, outcome(socket, &out, &mut ledger)).await {
        Ok(Some(outcome)) => outcome,
        Ok(None) => Err(Failure::Ended(child.ended())),
        Err(_) => Err(Failure::Ended(Ended::Silent)),
    }
}

/// What the process says to the code; none if it ends.
async fn outcome(
    mut socket: UnixStream,
    load: &[u8],
    ledger: &mut Ledger,
) -> Option<Result<Loaded, Failure>> {
    socket.write_all(load).await.ok()?;
    let mut inbound = Inbound::<Effect>::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = socket.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        inbound.extend(&buffer[..count]);
        loop {
            let effect = match inbound.next_message() {
                Ok(Some(effect)) => effect,
                Ok(None) => break,
                Err(_) => return Some(Err(Failure::Ended(Ended::Lied))),
            };
            if ledger.judge(&effect, Instant::now()).is_err() {
                return Some(Err(Failure::Ended(Ended::Lied)));
            }
            match effect {
                Effect::Loaded(loaded) => return Some(Ok(loaded)),
                Effect::LoadFailed(failed) => return Some(Err(Failure::Load(Box::new(failed)))),
                _ => {}
            }
        }
    }
}
