//! Runs a program's modules in the engine, as the runtime does: each import leads where the program says.

use std::collections::BTreeMap;

use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{CatchResultExt, Context, Ctx, Error, Module, Runtime};

use crate::{Program, Target};

struct Modules(Program);

/// What the runtime has, as little as tests need of it.
const BUILTINS: [(&str, &str); 2] = [
    (
        "cloudflare:workers",
        "export class DurableObject { constructor(ctx, env) { this.ctx = ctx; this.env = env; } }
         export class WorkerEntrypoint {} export class RpcTarget {} export const env = {};",
    ),
    ("node:buffer", "export const Buffer = { of: 'node' }; export default { Buffer };"),
];

impl Resolver for Modules {
    fn resolve<'js>(
        &mut self,
        _ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String, Error> {
        if base.is_empty() {
            return Ok(name.to_owned());
        }
        let target = self.0.modules.get(base).and_then(|module| module.imports.get(name));
        match target {
            Some(Target::Module(name) | Target::Builtin(name)) => Ok(name.clone()),
            None => Err(Error::new_resolving(base, name)),
        }
    }
}

impl Loader for Modules {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>, Error> {
        let builtin: BTreeMap<&str, &str> = BUILTINS.into_iter().collect();
        let own = self.0.modules.get(name).map(|module| module.source.as_str());
        let source = own.or_else(|| builtin.get(name).copied());
        Module::declare(ctx.clone(), name, source.ok_or_else(|| Error::new_loading(name))?)
    }
}

/// What the program has put into the global `out`, as JSON; or the error that it ended with.
pub(super) fn run(program: &Program) -> String {
    let runtime = Runtime::new().unwrap();
    runtime.set_loader(Modules(program.clone()), Modules(program.clone()));
    let context = Context::full(&runtime).unwrap();
    context.with(|ctx| {
        let run = || -> rquickjs::Result<String> {
            Module::import(&ctx, program.entry.clone())?.finish::<()>()?;
            ctx.eval("JSON.stringify(globalThis.out) ?? 'undefined'")
        };
        run().catch(&ctx).unwrap_or_else(|error| format!("failed: {error}"))
    })
}
