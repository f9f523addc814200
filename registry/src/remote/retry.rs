//! Tries again what may pass, later and later, and not for ever.

use std::time::Duration;

use super::error::RemoteError;

/// Most tries in a row that bring nothing.
const MAX_TRIES: u32 = 5;
/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause, unless the registry asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Counts tries.
#[derive(Debug, Default)]
pub(super) struct Retry {
    tries: u32,
}

impl Retry {
    /// Something was achieved: what fails after this is new.
    pub(super) fn progressed(&mut self) {
        self.tries = 0;
    }

    /// After an error: waits until it is time for another try, or gives the error back where there is none.
    pub(super) async fn again(&mut self, error: RemoteError) -> Result<(), RemoteError> {
        self.tries += 1;
        let Some(wanted) = error.may_pass().filter(|_| self.tries < MAX_TRIES) else { return Err(error) };
        let pause = FIRST_PAUSE.saturating_mul(1 << (self.tries - 1)).min(LONGEST_PAUSE);
        // Those whom one fault has stopped do not all come back at once.
        let pause = pause.max(wanted).mul_f64(1.0 + fastrand::f64() / 4.0);
        tracing::debug!(%error, tries = self.tries, "trying a registry again");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
