//! Polling for a condition, with a deadline and a reason when it does not come true.

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::Instant;

/// Pause between two polls: short against everything that is waited for, long against the cost of a poll.
const PAUSE: Duration = Duration::from_millis(25);

/// Polls until it succeeds. Past the deadline, the error of the last poll says what was missing.
pub async fn until<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        let missing = match tokio::time::timeout_at(deadline, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(missing)) => missing,
            Err(_) => anyhow!("the last look did not return"),
        };
        if Instant::now() >= deadline {
            return Err(missing.context(format!("waited {within:?} in vain for {what}")));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_reason_is_reported() {
        let error = until::<()>("rain", Duration::from_millis(60), async || Err(anyhow!("no cloud"))).await;
        assert_eq!(format!("{:#}", error.unwrap_err()), "waited 60ms in vain for rain: no cloud");
    }

    #[tokio::test]
    async fn what_comes_about_is_returned() {
        let mut looks = 0;
        let found = until("three", Duration::from_secs(9), async || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(anyhow!("{looks}")) }
        });
        assert_eq!(found.await.unwrap(), 3);
    }
}
