//! When a failed schedule is retried. Pure.

use berth_store::Schedule;

/// Seconds before each retry: 2, doubled each time.
const PAUSES_S: [u64; 6] = [2, 4, 8, 16, 32, 64];

/// Shortest and longest pause before retrying what no node could do, in milliseconds: a quarter of the delay so far, so
/// that a node that returns soon gets it soon, and long waits cost little.
const PUT_OFF_MS: std::ops::RangeInclusive<u64> = 5_000..=300_000;
/// How long a schedule may be put off without counting as a try, in milliseconds: a day.
const MAX_PUT_OFF_MS: u64 = 24 * 60 * 60 * 1_000;

/// Longest error that is kept with a schedule, in bytes: enough to know it again. What a program threw can be as long as it likes, and is
/// in the log whole.
const ERROR_BYTES: usize = 256;

fn cut(mut error: String) -> String {
    error.truncate(error.floor_char_boundary(ERROR_BYTES));
    error
}

/// The schedule after a failed try: with the time of the next one, or without if there is none.
#[must_use]
pub(crate) fn failed(mut schedule: Schedule, error: String, now_ms: u64) -> Schedule {
    let pause = usize::try_from(schedule.attempts).ok().and_then(|tries| PAUSES_S.get(tries));
    schedule.due_ms = pause.map(|pause_s| now_ms.saturating_add(pause_s * 1_000));
    schedule.attempts = schedule.attempts.saturating_add(1);
    schedule.last_error = Some(cut(error));
    schedule
}

/// The schedule after it could not be tried: no node was connected, or none had room. That is not the app's fault.
#[must_use]
pub(crate) fn postpone(schedule: Schedule, error: String, now_ms: u64) -> Schedule {
    let late_ms = now_ms.saturating_sub(schedule.scheduled_ms);
    if late_ms > MAX_PUT_OFF_MS {
        return failed(schedule, error, now_ms);
    }
    let pause_ms = (late_ms / 4).clamp(*PUT_OFF_MS.start(), *PUT_OFF_MS.end());
    Schedule { due_ms: Some(now_ms.saturating_add(pause_ms)), last_error: Some(cut(error)), ..schedule }
}

#[cfg(test)]
mod tests {
    use berth_common::spec::Action;
    use berth_store::What;
    use berth_store::fixtures::schedule;

    use super::*;

    #[test]
    fn it_is_retried_six_times_and_then_kept_as_failed() {
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
    fn of_a_long_error_the_beginning_is_kept() {
        for text in ["x".repeat(300), "é".repeat(200)] {
            let tried =
                [failed(schedule("o", 1, 100), text.clone(), 5), postpone(schedule("o", 1, 100), text, 5)];
            for kept in tried.map(|tried| tried.last_error.unwrap()) {
                assert!((ERROR_BYTES - 1..=ERROR_BYTES).contains(&kept.len()), "{kept}");
            }
        }
    }

    #[test]
    fn what_could_not_be_tried_is_put_off_for_a_day_without_counting() {
        let (mut waits, mut now_ms, mut times) = (schedule("o", 1, 100), 100, 0);
        loop {
            waits = postpone(waits, "no node".to_owned(), now_ms);
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
