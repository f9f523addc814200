//! The least of web classes: handlers get plain objects and give such, and find the internal object as a global. For tests and
//! benches of what is below the web classes; never for an app.

use rquickjs::{Ctx, Function, Object, Result};

/// Makes them over `host`.
pub(crate) fn load<'js>(ctx: &Ctx<'js>, host: Object<'js>) -> Result<Object<'js>> {
    ctx.eval::<Function<'js>, _>(include_str!("plain.js"))?.call((host,))
}
