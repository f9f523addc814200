//! What becomes of something that an object was to do at a time, and that failed. Pure.

use berth_store::Schedule;

/// Seconds before each further try, as the reference has it: 2, doubled each time.
const PAUSES_S: [u64; 6] = [2, 4, 8, 16, 32, 64];

/// Shortest and longest pause before something is tried again that no node could do, in milliseconds: a quarter of how late
/// it is already, so that a node that comes back soon does it soon, and many that wait for long cost little.
const PUT_OFF_MS: std::ops::RangeInclusive<u64> = 5_000..=300_000;
/// How late something may be, in milliseconds, for that not to count as a try: a day.
const MAX_PUT_OFF_MS: u64 = 24 * 60 * 60 * 1_000;

/// After a try that failed: with the time of the next one, or without where there is none.
#[must_use]
pub(crate) fn failed(mut schedule: Schedule, error: String, now_ms: u64) -> Schedule {
    let pause = usize::try_from(schedule.attempts).ok().and_then(|tries| PAUSES_S.get(tries));
    schedule.due_ms = pause.map(|pause_s| now_ms.saturating_add(pause_s * 1_000));
    schedule.attempts = schedule.attempts.saturating_add(1);
    schedule.last_error = Some(error);
    schedule
}

/// Nobody could try: no node was there, or none had room. That is no fault of what is to be done.
#[must_use]
pub(crate) fn put_off(schedule: Schedule, error: String, now_ms: u64) -> Schedule {
    let late_ms = now_ms.saturating_sub(schedule.scheduled_ms);
    if late_ms > MAX_PUT_OFF_MS {
        return failed(schedule, error, now_ms);
    }
    let pause_ms = (late_ms / 4).clamp(*PUT_OFF_MS.start(), *PUT_OFF_MS.end());
    Schedule { due_ms: Some(now_ms.saturating_add(pause_ms)), last_error: Some(error), ..schedule }
}

#[cfg(test)]
mod tests {
    use berth_common::spec::Action;
    use berth_store::What;
    use berth_store::fixtures::schedule;

    use super::*;

    #[test]
    fn it_is_tried_six_times_more_and_then_kept_as_failed() {
        let mut tried = schedule("o", 1, 100);
        let mut tries = 0;
        while let Some(due_ms) = tried.due_ms {
            tries += 1;
            tried = failed(tried, "no".to_owned(), due_ms);
        }
        assert_eq!((tries, tried.attempts, tried.scheduled_ms), (7, 7, 100));
        assert!(!tried.is_over() && tried.last_error.is_some());
        tried.what = What::Cron(Action::Hook);
        assert!(tried.is_over());
    }

    #[test]
    fn what_nobody_could_try_is_put_off_for_a_day_and_counts_as_no_try() {
        let (mut waits, mut now_ms, mut times) = (schedule("o", 1, 100), 100, 0);
        loop {
            waits = put_off(waits, "no node".to_owned(), now_ms);
            if waits.attempts > 0 {
                break;
            }
            let due_ms = waits.due_ms.unwrap();
            assert!((5_000..=300_000).contains(&(due_ms - now_ms)));
            (now_ms, times) = (due_ms, times + 1);
        }
        assert!(now_ms > MAX_PUT_OFF_MS && (280..400).contains(&times), "{times} times until {now_ms}");
    }
}
