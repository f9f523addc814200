//! Work whose panic must not be the end of what waits for it. Does not know what the work is.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

/// The result of the work, or `None` if it panicked; the panic is in the log, with its place, like any other.
pub(crate) async fn guarded<T>(work: impl Future<Output = T>) -> Option<T> {
    // What the work shares is behind locks that survive a panic, or in the store.
    AssertUnwindSafe(work).catch_unwind().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_result() {
        assert_eq!(guarded(async { 1 }).await, Some(1));
        let fails = async {
            tokio::task::yield_now().await;
            panic!("on purpose");
        };
        assert_eq!(guarded::<u8>(fails).await, None);
    }
}
