//! What a `tsconfig.json` says of how its programs are compiled.

use std::sync::Arc;

use oxc_resolver::TsConfig;

use crate::config::Build;

/// How a program is compiled.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    /// What JSX is imported from; None where it calls functions that are there.
    pub(super) import_source: Option<String>,
    pub(super) factory: Option<String>,
    pub(super) fragment: Option<String>,
    /// Whether imports that are not used stay.
    pub(super) keep_imports: bool,
    /// Whether fields without a value are made.
    pub(super) define_fields: bool,
    /// Whether decorators are told of types.
    pub(super) metadata: bool,
}

impl Options {
    /// Without any configuration of TypeScript's own.
    pub(super) fn of_build(build: &Build) -> Self {
        let (factory, fragment) = (build.jsx.factory.clone(), build.jsx.fragment.clone());
        Self { factory, fragment, define_fields: true, ..Self::default() }
    }

    pub(super) fn of(tsconfig: Option<&Arc<TsConfig>>, build: &Build) -> Self {
        let base = Self::of_build(build);
        let Some(given) = tsconfig.map(|tsconfig| &tsconfig.compiler_options) else { return base };
        let automatic = matches!(given.jsx.as_deref(), Some("react-jsx" | "react-jsxdev"));
        let source = given.jsx_import_source.clone().unwrap_or_else(|| "react".to_owned());
        let modern =
            given.target.as_deref().is_none_or(|target| defines_fields(&target.to_ascii_lowercase()));
        Self {
            import_source: automatic.then_some(source),
            factory: base.factory.or_else(|| given.jsx_factory.clone()),
            fragment: base.fragment.or_else(|| given.jsx_fragment_factory.clone()),
            keep_imports: given.verbatim_module_syntax == Some(true)
                || given.preserve_value_imports == Some(true),
            define_fields: given.use_define_for_class_fields.unwrap_or(modern),
            metadata: given.emit_decorator_metadata == Some(true),
        }
    }
}

/// Whether classes of this version of the language make their fields themselves.
fn defines_fields(target: &str) -> bool {
    let year = target.strip_prefix("es").and_then(|year| year.parse::<u32>().ok());
    year.is_none_or(|year| year >= 2022)
}
