//! Testifies that this instance runs: every few milliseconds the time of the machine's clock, at the end of a file. Whoever opens that
//! file in time can read it when the instance is gone.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Variable that makes it testify.
const SWITCH: &str = "WITNESS";
/// The file, a time in milliseconds of `CLOCK_BOOTTIME` a line.
const FILE: &str = "/witness";
/// Pause between two lines.
const EVERY: Duration = Duration::from_millis(10);

/// How many requests this instance has answered.
static ANSWERED: AtomicU64 = AtomicU64::new(0);

/// Testifies from now on, if that is asked for.
pub(crate) fn begin() -> io::Result<()> {
    if std::env::var_os(SWITCH).is_none() {
        return Ok(());
    }
    let mut file = File::create(FILE)?;
    writeln!(file, "{}", now_ms()?)?;
    thread::spawn(move || testify(file));
    Ok(())
}

fn testify(mut file: File) -> io::Result<()> {
    loop {
        writeln!(file, "{}", now_ms()?)?;
        thread::sleep(EVERY);
    }
}

fn now_ms() -> io::Result<u128> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?).as_millis())
}

/// The instance, and how many requests it has answered with this one.
pub(crate) fn answer() -> String {
    let instance = std::env::var("BERTH_DEPLOYMENT_ID").unwrap_or_default();
    format!("{instance} {}\n", ANSWERED.fetch_add(1, Ordering::Relaxed) + 1)
}
