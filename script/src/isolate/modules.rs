//! The modules of an app: which import means which, and their sources. Nothing else can be imported.

use std::collections::HashMap;

use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Exception, Module, Result};

use crate::message::{Load, Module as Source, Resolution};

/// How the names of the platform's own modules begin.
const PLATFORM: &str = "cloudflare:";

/// Importer and specifier, and the module that is meant.
pub(crate) struct Resolutions(HashMap<String, HashMap<String, String>>);

/// The sources of modules that have not been imported yet, by name.
pub(crate) struct Sources(HashMap<String, String>);

/// Splits what an app's modules are into what the engine asks for.
pub(crate) fn of(load: &mut Load) -> (Resolutions, Sources) {
    let mut resolutions = HashMap::<String, HashMap<String, String>>::new();
    for Resolution { importer, specifier, module } in std::mem::take(&mut load.resolutions) {
        resolutions.entry(importer).or_default().insert(specifier, module);
    }
    let sources = std::mem::take(&mut load.modules).into_iter().map(|Source { name, source }| (name, source));
    (Resolutions(resolutions), Sources(sources.collect()))
}

impl Resolver for Resolutions {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        match self.0.get(base).and_then(|imports| imports.get(name)) {
            Some(module) => Ok(module.clone()),
            // Those that the web classes have declared; others are not found later.
            None if name.starts_with(PLATFORM) => Ok(name.to_owned()),
            None => Err(Exception::throw_message(
                ctx,
                &format!("No such module \"{name}\", imported from \"{base}\"."),
            )),
        }
    }
}

impl Loader for Sources {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        // The engine keeps what it has compiled, and asks once.
        match self.0.remove(name) {
            Some(source) => declare(ctx, name, source),
            None => Err(Exception::throw_message(ctx, &format!("No such module \"{name}\"."))),
        }
    }
}

impl Sources {
    /// The source of a module, which is then not here any more.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }
}

/// Compiles a module.
pub(crate) fn declare<'js>(ctx: &Ctx<'js>, name: &str, source: String) -> Result<Module<'js, Declared>> {
    if source.contains('\0') || name.contains('\0') {
        return Err(Exception::throw_syntax(ctx, &format!("the module \"{name}\" contains a NUL character")));
    }
    Module::declare(ctx.clone(), name, source)
}
