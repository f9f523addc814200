//! What a call of a script costs: a message each way, over the socket of a real process. Prints JSON.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::stage::{app, stage};

const CALLS: u32 = 20_000;

/// One call after the other, and 32 at once.
pub(crate) async fn run() {
    let stage = stage();
    let code = app("bench", "");
    for at_once in [1, 32] {
        round(&stage, &code, at_once, 1000).await;
        let (wall, cpu) = round(&stage, &code, at_once, CALLS).await;
        let per_call = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(CALLS);
        println!(
            "{{\"at_once\":{at_once},\"calls\":{CALLS},\"us_a_call\":{:.1},\"edge_cpu_us_a_call\":{:.1}}}",
            per_call(wall),
            per_call(cpu)
        );
    }
}

async fn round(
    stage: &crate::stage::Stage,
    code: &std::sync::Arc<crate::script::Code>,
    at_once: u32,
    calls: u32,
) -> (Duration, Duration) {
    let (begun, before) = (Instant::now(), own_cpu());
    let one = async || {
        for _ in 0..calls / at_once {
            assert_eq!(stage.text(code, "/good").await, "good");
        }
    };
    futures_util::future::join_all((0..at_once).map(|_| one())).await;
    (begun.elapsed(), own_cpu() - before)
}

fn own_cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let time = |value: TimeVal| {
        let us = value.tv_sec() * 1_000_000 + value.tv_usec();
        Duration::from_micros(u64::try_from(us).unwrap())
    };
    time(usage.user_time()) + time(usage.system_time())
}
