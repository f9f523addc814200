//! Retries transient errors, with growing pauses and a limit.

use std::time::Duration;

use super::error::RemoteError;

/// Most failed tries in a row without progress.
const MAX_TRIES: u32 = 5;
/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause, unless the registry asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Counts failed tries.
#[derive(Debug, Default)]
pub(super) struct Retry {
    tries: u32,
}

impl Retry {
    /// Progress was made: later errors count from one again.
    pub(super) fn progressed(&mut self) {
        self.tries = 0;
    }

    /// After an error: waits until the next try, or returns the error if there is none.
    pub(super) async fn again(&mut self, error: RemoteError) -> Result<(), RemoteError> {
        self.tries += 1;
        let Some(wanted) = error.retry_pause().filter(|_| self.tries < MAX_TRIES) else { return Err(error) };
        let pause = FIRST_PAUSE.saturating_mul(1 << (self.tries - 1)).min(LONGEST_PAUSE);
        // Jitter, so that transfers stopped by one fault do not all retry at once.
        let pause = pause.max(wanted).mul_f64(1.0 + fastrand::f64() / 4.0);
        tracing::debug!(%error, tries = self.tries, "trying a registry again");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
