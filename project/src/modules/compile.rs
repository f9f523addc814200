//! One program, from its text to JavaScript: parsed, checked, TypeScript and JSX taken out, nothing else changed. Knows
//! nothing of other modules.

use std::path::Path;

use oxc::allocator::Allocator;
use oxc::ast::ast;
use oxc::codegen::{Codegen, CodegenOptions};
use oxc::diagnostics::{Diagnostics, OxcDiagnostic};
use oxc::parser::{ParseOptions, Parser};
use oxc::semantic::{Scoping, SemanticBuilder};
use oxc::span::SourceType;
use oxc::transformer::{
    DecoratorOptions, HelperLoaderMode, HelperLoaderOptions, JsxOptions, JsxRuntime, TransformOptions,
    Transformer, TypeScriptOptions,
};
use oxc::transformer_plugins::{ReplaceGlobalDefines, ReplaceGlobalDefinesConfig};

use super::calls;
use super::kinds::{Format, Language, Program};
use super::scan::{self, Scanned};
use super::types::{self, Dropped};
use super::typescript::Options;
use crate::report::{Report, Source};

/// Where the compiler's helpers are imported from.
pub(super) const HELPERS: &str = "berth:runtime";

/// What is compiled, and how.
pub(super) struct Input<'i> {
    pub(super) source: &'i Source,
    /// The module's name, which its map has.
    pub(super) name: &'i str,
    pub(super) program: Program,
    pub(super) options: &'i Options,
    pub(super) defines: Option<&'i ReplaceGlobalDefinesConfig>,
    /// Names that are left out, since they are types after all.
    pub(super) dropped: &'i Dropped,
}

/// A compiled program.
pub(super) struct Compiled {
    pub(super) code: String,
    /// As JSON.
    pub(super) map: String,
    pub(super) format: Format,
    /// Whether it is TypeScript, by its extension or because it could not be read otherwise.
    pub(super) typescript: bool,
    pub(super) scanned: Scanned,
}

/// Compiles a program, or tells why not.
pub(super) fn compile(report: &mut Report, input: &Input<'_>) -> Option<Compiled> {
    let languages: &[Language] = match input.program.language {
        // The reference's own samples have TypeScript in files that end in `.js`.
        Language::JavaScript => &[Language::JavaScript, Language::TypeScript, Language::Tsx],
        Language::TypeScript => &[Language::TypeScript],
        Language::Tsx => &[Language::Tsx],
    };
    let mut first = None;
    for language in languages {
        match compile_as(input, *language) {
            Ok(compiled) => {
                if *language != input.program.language {
                    report.note(
                        input.source,
                        0,
                        "is TypeScript, though its name ends otherwise; it is read as such",
                    );
                }
                return Some(compiled);
            }
            Err(faults) => first = first.or(Some(faults)),
        }
    }
    for (at, message) in first.unwrap_or_default() {
        report.wrong(input.source, at, message);
    }
    None
}

/// Where something is wrong, and what.
type Faults = Vec<(usize, String)>;

/// Most faults that are told of one module: those after are mostly due to those before.
const MAX_FAULTS: usize = 10;

fn faults(diagnostics: &Diagnostics) -> Result<(), Faults> {
    let found: Faults = diagnostics.errors().take(MAX_FAULTS).map(fault).collect();
    if found.is_empty() { Ok(()) } else { Err(found) }
}

fn fault(diagnostic: &OxcDiagnostic) -> (usize, String) {
    let at = diagnostic.labels.first().map_or(0, |label| label.offset() as usize);
    let help = diagnostic.help.as_ref().map(|help| format!("; {help}"));
    (at, format!("{}{}", diagnostic.message, help.unwrap_or_default()).replace('\n', " "))
}

fn compile_as(input: &Input<'_>, language: Language) -> Result<Compiled, Faults> {
    let Some(format) = input.program.format else { return compile_unknown(input, language) };
    compile_in(input, language, format)
}

/// The syntax decides: `import` or `export` is of a module, `require` or `exports` without those of CommonJS.
fn compile_unknown(input: &Input<'_>, language: Language) -> Result<Compiled, Faults> {
    let allocator = Allocator::default();
    let kind = source_type(language).with_unambiguous(true);
    let parsed = Parser::new(&allocator, &input.source.text, kind).with_options(options()).parse();
    if parsed.program.source_type.is_module() || parsed.diagnostics.has_errors() {
        // What can only be in a module, such as `await` outside of functions, is an error in what is none.
        let module = compile_in(input, language, Format::EsModule);
        return match module {
            Err(faults) if !parsed.program.source_type.is_module() => {
                compile_in(input, language, Format::CommonJs).map_err(|_| faults)
            }
            module => module,
        };
    }
    let scoping = SemanticBuilder::new().build(&parsed.program).semantic.into_scoping();
    let free = |name: &str| scoping.root_unresolved_references().keys().any(|free| free.as_str() == name);
    if free("require") || free("exports") || free("module") {
        return compile_in(input, language, Format::CommonJs);
    }
    let module = compile_in(input, language, Format::EsModule);
    module.or_else(|faults| compile_in(input, language, Format::CommonJs).map_err(|_| faults))
}

fn source_type(language: Language) -> SourceType {
    match language {
        Language::JavaScript => SourceType::jsx(),
        Language::TypeScript => SourceType::ts(),
        Language::Tsx => SourceType::tsx(),
    }
}

fn options() -> ParseOptions {
    ParseOptions { parse_regular_expression: true, preserve_parens: false, ..ParseOptions::default() }
}

fn compile_in(input: &Input<'_>, language: Language, format: Format) -> Result<Compiled, Faults> {
    let allocator = Allocator::default();
    let kind = source_type(language);
    let kind = if format == Format::EsModule { kind.with_module(true) } else { kind.with_commonjs(true) };
    let options = ParseOptions { allow_return_outside_function: format == Format::CommonJs, ..options() };
    let parsed = Parser::new(&allocator, &input.source.text, kind).with_options(options).parse();
    faults(&parsed.diagnostics)?;
    let mut program = parsed.program;
    // Within a function, or behind other lines, it would be an error.
    program.hashbang = None;
    let checked = SemanticBuilder::new()
        .with_check_syntax_error(true)
        .with_enum_eval(true)
        .with_excess_capacity(2.0)
        .build(&program);
    faults(&checked.diagnostics)?;
    let scoping = checked.semantic.into_scoping();
    let transform = transform_options(input.options);
    let transformed = Transformer::new(&allocator, Path::new(input.name), &transform)
        .build_with_scoping(scoping, &mut program);
    faults(&transformed.diagnostics)?;
    let scoping = rebuilt(&program);
    let scoping = match input.defines {
        Some(defines) => {
            let _ = ReplaceGlobalDefines::new(&allocator, defines.clone()).build(scoping, &mut program);
            rebuilt(&program)
        }
        None => scoping,
    };
    types::drop_types(&mut program, input.dropped);
    types::drop_attributes(&mut program);
    let top = if format == Format::EsModule { scan::module(&program, &scoping) } else { Scanned::default() };
    let scanned = calls::visit(&program, &scoping, format, top);
    let (code, map) = print(&program, input.name);
    let typescript = language != Language::JavaScript;
    Ok(Compiled { code, map, format, typescript, scanned })
}

fn rebuilt(program: &ast::Program<'_>) -> Scoping {
    SemanticBuilder::new().build(program).semantic.into_scoping()
}

fn transform_options(options: &Options) -> TransformOptions {
    let jsx_pragma = options.factory.clone().unwrap_or_else(|| "React.createElement".to_owned());
    let jsx_pragma_frag = options.fragment.clone().unwrap_or_else(|| "React.Fragment".to_owned());
    let classic = options.import_source.is_none();
    TransformOptions {
        typescript: TypeScriptOptions {
            jsx_pragma: jsx_pragma.clone().into(),
            jsx_pragma_frag: jsx_pragma_frag.clone().into(),
            only_remove_type_imports: options.keep_imports,
            remove_class_fields_without_initializer: !options.define_fields,
            ..TypeScriptOptions::default()
        },
        decorator: DecoratorOptions {
            legacy: true,
            emit_decorator_metadata: options.metadata,
            ..DecoratorOptions::default()
        },
        jsx: JsxOptions {
            runtime: if classic { JsxRuntime::Classic } else { JsxRuntime::Automatic },
            throw_if_namespace: false,
            pure: false,
            display_name_plugin: false,
            import_source: options.import_source.clone(),
            pragma: classic.then_some(jsx_pragma),
            pragma_frag: classic.then_some(jsx_pragma_frag),
            ..JsxOptions::enable()
        },
        helper_loader: HelperLoaderOptions { module_name: HELPERS.into(), mode: HelperLoaderMode::Runtime },
        ..TransformOptions::default()
    }
}

fn print(program: &ast::Program<'_>, name: &str) -> (String, String) {
    let options = CodegenOptions { source_map_path: Some(name.into()), ..CodegenOptions::default() };
    let printed = Codegen::new().with_options(options).build(program);
    (printed.code, printed.map.map(|map| map.to_json_string()).unwrap_or_default())
}

/// Whether a text can be run as a module: what is sloppy in it cannot.
pub(super) fn strict_fault(text: &str) -> Option<String> {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, text, SourceType::mjs()).with_options(options()).parse();
    let checked = |program| SemanticBuilder::new().with_check_syntax_error(true).build(program).diagnostics;
    let found = faults(&parsed.diagnostics).and_then(|()| faults(&checked(&parsed.program)));
    found.err().and_then(|faults| faults.into_iter().next()).map(|(_, message)| message)
}

/// The replacements of expressions, checked: each must be an expression itself.
pub(super) fn defines(pairs: &[(String, String)]) -> Result<ReplaceGlobalDefinesConfig, String> {
    ReplaceGlobalDefinesConfig::new(pairs).map_err(|diagnostics| {
        let first = diagnostics.errors().next().map(|error| error.message.to_string());
        first.unwrap_or_else(|| "cannot be read".to_owned())
    })
}
