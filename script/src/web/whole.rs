//! How much may be put together at once.

use rquickjs::{Ctx, Exception, Result};

/// Most bytes that are put together of parts: more than a script's memory has room for, and little enough for a process. One part
/// may be there many times, so that what a script has does not bound it.
const WHOLE_BYTES: usize = 256 << 20;

/// Whether so many bytes may be put together.
pub(super) fn whole(ctx: &Ctx<'_>, bytes: usize) -> Result<()> {
    if bytes <= WHOLE_BYTES {
        return Ok(());
    }
    let text = format!("What is put together has more than {} MiB.", WHOLE_BYTES >> 20);
    Err(Exception::throw_range(ctx, &text))
}
