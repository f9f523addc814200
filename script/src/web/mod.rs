//! The web classes: what an app's code finds as globals, in thin JavaScript over small natives. Knows nothing of where
//! requests come from or go to: it is given an internal object `host` (see `js/README.md`) and gives back a table of functions.
//!
//! User code reaches neither. The JavaScript keeps copies of all that it uses of the engine's own classes, so that an app
//! that changes `Array.prototype.push` or `Promise.prototype.then` neither breaks nor overhears it.

mod form;
mod natives;
mod subtle;
#[cfg(test)]
mod tests;
mod text;
mod url;
mod whole;

use rquickjs::context::EvalOptions;
use rquickjs::{Ctx, Function, Module, Object, Result};

/// The parts, in the order in which they run; each is a function of the internal object, which those before it have filled.
const PARTS: &[(&str, &str)] = &[
    ("primordials", include_str!("js/primordials.js")),
    ("errors", include_str!("js/errors.js")),
    ("inspect", include_str!("js/inspect.js")),
    ("console", include_str!("js/console.js")),
    ("events", include_str!("js/events.js")),
    ("abort", include_str!("js/abort.js")),
    ("timers", include_str!("js/timers.js")),
    ("clone", include_str!("js/clone.js")),
    ("encoding", include_str!("js/encoding.js")),
    ("crypto", include_str!("js/crypto.js")),
    ("cryptokey", include_str!("js/cryptokey.js")),
    ("pairs", include_str!("js/pairs.js")),
    ("subtle", include_str!("js/subtle.js")),
    ("url", include_str!("js/url.js")),
    ("headers", include_str!("js/headers.js")),
    ("strategies", include_str!("js/strategies.js")),
    ("readable", include_str!("js/readable.js")),
    ("bytes", include_str!("js/bytes.js")),
    ("tee", include_str!("js/tee.js")),
    ("writable", include_str!("js/writable.js")),
    ("digests", include_str!("js/digests.js")),
    ("transform", include_str!("js/transform.js")),
    ("identity", include_str!("js/identity.js")),
    ("pipe", include_str!("js/pipe.js")),
    ("blob", include_str!("js/blob.js")),
    ("form", include_str!("js/form.js")),
    ("body", include_str!("js/body.js")),
    ("websocket", include_str!("js/websocket.js")),
    ("request", include_str!("js/request.js")),
    ("response", include_str!("js/response.js")),
    ("fetch", include_str!("js/fetch.js")),
    ("dispatch", include_str!("js/dispatch.js")),
    ("secrets", include_str!("js/secrets.js")),
    ("container", include_str!("js/container.js")),
    ("storage", include_str!("js/storage.js")),
    ("objects", include_str!("js/objects.js")),
    ("install", include_str!("js/install.js")),
];

/// Makes the web classes over `host` and gives the table of functions that the isolate calls. Nothing is global yet:
/// `table.install(globalThis, flags)` does that. To be called once a context, before anything else runs in it.
pub fn load<'js>(ctx: &Ctx<'js>, host: Object<'js>) -> Result<Object<'js>> {
    let internal = Object::new(ctx.clone())?;
    internal.set_prototype(None)?;
    internal.set("host", host)?;
    internal.set("natives", natives::table(ctx)?)?;
    for &(name, source) in PARTS {
        let mut options = EvalOptions::default();
        options.filename = Some(format!("berth:{name}"));
        let part: Function<'js> = ctx.eval_with_options(source, options)?;
        part.call::<_, ()>((internal.clone(),))?;
    }
    let dispatch: Object<'js> = internal.get("dispatch")?;
    modules(ctx, &dispatch)?;
    Ok(dispatch)
}

/// What a module of the platform gives, taken from a global that is there only while this module runs.
const WORKERS: &str = "export const { DurableObject, WorkerEntrypoint, WorkflowEntrypoint, RpcTarget, env } = globalThis.__workers;";

/// Makes the module `cloudflare:workers`, before any code runs that could look at how.
fn modules<'js>(ctx: &Ctx<'js>, dispatch: &Object<'js>) -> Result<()> {
    let workers: Object<'js> = dispatch.get("workers")?;
    ctx.globals().set("__workers", workers)?;
    Module::declare(ctx.clone(), "cloudflare:workers", WORKERS)?.eval()?.1.finish::<()>()?;
    ctx.globals().remove("__workers")
}
