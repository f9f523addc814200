//! What the statements at the top of a module show: imports, exports, classes. Looks at one program, after types are gone.

use std::collections::{BTreeMap, BTreeSet};

use oxc::ast::ast::{
    BindingPattern, Class, ClassElement, Declaration, ExportDeclaration, ExportDefaultDeclarationKind,
    ExportFromDeclaration, Expression, ImportDeclaration, ImportDeclarationSpecifier, ObjectExpression,
    ObjectPropertyKind, Program, Statement, VariableDeclaration,
};
use oxc::semantic::Scoping;
use oxc::span::{GetSpan, Span};

use super::absent::Absent;

/// All that was seen.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    pub(super) imports: Vec<Import>,
    /// By name.
    pub(super) exports: BTreeMap<String, Exported>,
    /// The modules whose names are all passed on, by specifier.
    pub(super) stars: Vec<String>,
    /// What the names at the top level are, by name.
    pub(super) locals: BTreeMap<String, Local>,
    pub(super) default: DefaultExport,
    /// Where `import(…)` or `require(…)` has something else than a text.
    pub(super) computed: Vec<usize>,
    /// Where `addEventListener("fetch", …)` is called at the top level.
    pub(super) listener: Option<usize>,
    pub(super) commonjs: CommonJs,
    pub(super) absent: Absent,
}

/// An import of a module, by whichever syntax.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) specifier: String,
    /// The offset of the specifier.
    pub(super) at: usize,
    pub(super) how: How,
    pub(super) names: Vec<ImportedName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Import,
    Dynamic,
    Require {
        /// Within `try`: that there is no such module is the program's to handle.
        tried: bool,
    },
}

/// A name that is imported, or exported at once.
#[derive(Debug)]
pub(super) struct ImportedName {
    /// `*` for all of them.
    pub(super) imported: String,
    /// Its name here; empty where it has none.
    local: String,
    pub(super) at: usize,
    /// Whether it is only passed on, and so may be a type.
    pub(super) passed_on: bool,
}

/// What an exported name stands for.
#[derive(Debug)]
pub(super) enum Exported {
    Local(String),
    /// A name of another module, or with `*` all of its names.
    Other {
        specifier: String,
        name: String,
    },
    /// A value that has no name.
    Value,
}

#[derive(Debug, Clone)]
pub(super) enum Local {
    Class(ClassShape),
    Object(Keys),
    Imported { specifier: String, name: String },
    Other,
}

/// The keys of an object that is written out.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    pub(super) names: BTreeSet<String>,
    /// Whether it may have more.
    pub(super) open: bool,
}

/// What a class extends.
#[derive(Debug, Clone)]
pub(super) enum Super {
    Name(String),
    /// A member of a name, such as of a namespace that is imported.
    Member(String, String),
    Unknown,
}

/// A class, as far as syntax shows.
#[derive(Debug, Clone, Default)]
pub(super) struct ClassShape {
    pub(super) extends: Option<Super>,
    pub(super) methods: BTreeSet<String>,
}

/// What `export default` has.
#[derive(Debug, Default)]
pub(super) enum DefaultExport {
    #[default]
    None,
    Object(Keys),
    Class(ClassShape),
    /// The value of a name.
    Name(String),
    Function,
    Unknown,
}

/// What CommonJS exports, as far as syntax shows.
#[derive(Debug, Default)]
pub(super) struct CommonJs {
    pub(super) names: BTreeSet<String>,
    /// Modules all of whose names are passed on.
    pub(super) all_of: BTreeSet<String>,
}

/// Most names that one CommonJS module or object is taken to have.
pub(super) const MAX_NAMES: usize = 10_000;

/// What the statements at the top of a module show.
pub(super) fn module(program: &Program<'_>, scoping: &Scoping) -> Scanned {
    let mut scanned = Scanned::default();
    for statement in &program.body {
        scanned.statement(statement);
    }
    scanned.mark_passed_on(program, scoping);
    scanned
}

pub(super) fn offset(span: Span) -> usize {
    span.start as usize
}

impl Scanned {
    fn statement(&mut self, statement: &Statement<'_>) {
        match statement {
            Statement::ImportDeclaration(import) => self.import(import),
            Statement::ExportDeclaration(export) => self.export_declaration(export),
            Statement::ExportNamedDeclaration(export) => {
                for specifier in &export.specifiers {
                    let local = specifier.local.name().to_string();
                    self.export(&specifier.exported.name(), Exported::Local(local));
                }
            }
            Statement::ExportFromDeclaration(export) => self.export_from(export),
            Statement::ExportAllDeclaration(export) => {
                let specifier = export.source.value.to_string();
                self.import_of(&specifier, offset(export.source.span), Vec::new());
                match &export.exported {
                    Some(name) => {
                        self.export(&name.name(), Exported::Other { specifier, name: "*".to_owned() });
                    }
                    None => self.stars.push(specifier),
                }
            }
            Statement::ExportDefaultDeclaration(export) => self.export_default(&export.declaration),
            Statement::ClassDeclaration(class) => self.class(class),
            Statement::FunctionDeclaration(function) => {
                if let Some(id) = &function.id {
                    self.locals.insert(id.name.to_string(), Local::Other);
                }
            }
            Statement::VariableDeclaration(variables) => self.variables(variables),
            _ => {}
        }
    }

    fn export(&mut self, name: &str, of: Exported) {
        self.exports.insert(name.to_owned(), of);
    }

    fn import_of(&mut self, specifier: &str, at: usize, names: Vec<ImportedName>) {
        self.imports.push(Import { specifier: specifier.to_owned(), at, how: How::Import, names });
    }

    fn import(&mut self, import: &ImportDeclaration<'_>) {
        let specifier = import.source.value.to_string();
        let mut names = Vec::new();
        for one in import.specifiers.iter().flatten() {
            let (imported, local) = match one {
                ImportDeclarationSpecifier::ImportSpecifier(one) => {
                    (one.imported.name().to_string(), &one.local)
                }
                ImportDeclarationSpecifier::ImportDefaultSpecifier(one) => ("default".to_owned(), &one.local),
                ImportDeclarationSpecifier::ImportNamespaceSpecifier(one) => ("*".to_owned(), &one.local),
            };
            let local_of = Local::Imported { specifier: specifier.clone(), name: imported.clone() };
            self.locals.insert(local.name.to_string(), local_of);
            names.push(ImportedName {
                imported,
                local: local.name.to_string(),
                at: offset(one.span()),
                passed_on: false,
            });
        }
        self.import_of(&specifier, offset(import.source.span), names);
    }

    fn export_declaration(&mut self, export: &ExportDeclaration<'_>) {
        let mut names = Vec::new();
        match &export.declaration {
            Declaration::VariableDeclaration(variables) => {
                self.variables(variables);
                for one in &variables.declarations {
                    bound_names(&one.id, &mut names);
                }
            }
            Declaration::FunctionDeclaration(function) => {
                names.extend(function.id.as_ref().map(|id| id.name.to_string()));
            }
            Declaration::ClassDeclaration(class) => {
                self.class(class);
                names.extend(class.id.as_ref().map(|id| id.name.to_string()));
            }
            _ => {}
        }
        for name in names {
            self.locals.entry(name.clone()).or_insert(Local::Other);
            self.export(&name, Exported::Local(name.clone()));
        }
    }

    fn export_from(&mut self, export: &ExportFromDeclaration<'_>) {
        let specifier = export.source.value.to_string();
        let mut names = Vec::new();
        for one in &export.specifiers {
            let imported = one.local.name().to_string();
            self.export(
                &one.exported.name(),
                Exported::Other { specifier: specifier.clone(), name: imported.clone() },
            );
            names.push(ImportedName {
                imported,
                local: String::new(),
                at: offset(one.span),
                passed_on: true,
            });
        }
        self.import_of(&specifier, offset(export.source.span), names);
    }

    fn export_default(&mut self, declaration: &ExportDefaultDeclarationKind<'_>) {
        self.default = match declaration {
            ExportDefaultDeclarationKind::ClassDeclaration(class) => {
                self.class(class);
                DefaultExport::Class(shape(class))
            }
            ExportDefaultDeclarationKind::FunctionDeclaration(_) => DefaultExport::Function,
            other => other.as_expression().map_or(DefaultExport::Unknown, default_of),
        };
        let of = match &self.default {
            DefaultExport::Name(name) => Exported::Local(name.clone()),
            _ => Exported::Value,
        };
        self.export("default", of);
    }

    fn class(&mut self, class: &Class<'_>) {
        if let Some(id) = &class.id {
            self.locals.insert(id.name.to_string(), Local::Class(shape(class)));
        }
    }

    fn variables(&mut self, variables: &VariableDeclaration<'_>) {
        for one in &variables.declarations {
            let mut names = Vec::new();
            bound_names(&one.id, &mut names);
            let local = match one.init.as_ref() {
                // So it is with decorators, and with what other compilers have made.
                Some(Expression::ClassExpression(class)) => Local::Class(shape(class)),
                Some(Expression::ObjectExpression(object)) => Local::Object(keys(object)),
                _ => Local::Other,
            };
            for name in names {
                self.locals.insert(name, local.clone());
            }
        }
    }

    /// Finds out which imported names are only exported again: these may be types.
    fn mark_passed_on(&mut self, program: &Program<'_>, scoping: &Scoping) {
        let mut exported = BTreeSet::new();
        for statement in &program.body {
            if let Statement::ExportNamedDeclaration(export) = statement {
                exported.extend(export.specifiers.iter().map(|one| one.local.name().to_string()));
            }
        }
        for name in self.imports.iter_mut().flat_map(|import| import.names.iter_mut()) {
            if exported.contains(&name.local) {
                let symbol = scoping.get_root_binding(name.local.as_str().into());
                let uses = symbol.map(|symbol| scoping.get_resolved_reference_ids(symbol).len());
                // One use is the export itself.
                name.passed_on = uses.is_some_and(|uses| uses <= 1);
            }
        }
    }
}

fn bound_names(pattern: &BindingPattern<'_>, names: &mut Vec<String>) {
    for id in pattern.get_binding_identifiers() {
        names.push(id.name.to_string());
    }
}

fn default_of(expression: &Expression<'_>) -> DefaultExport {
    match expression {
        Expression::ObjectExpression(object) => DefaultExport::Object(keys(object)),
        Expression::ClassExpression(class) => DefaultExport::Class(shape(class)),
        Expression::Identifier(id) => DefaultExport::Name(id.name.to_string()),
        Expression::ArrowFunctionExpression(_) | Expression::FunctionExpression(_) => DefaultExport::Function,
        _ => DefaultExport::Unknown,
    }
}

pub(super) fn keys(object: &ObjectExpression<'_>) -> Keys {
    let mut found = Keys::default();
    for property in &object.properties {
        let name = match property {
            ObjectPropertyKind::ObjectProperty(property) => {
                property.key.static_name().filter(|_| !property.computed)
            }
            ObjectPropertyKind::SpreadProperty(_) => None,
        };
        match name {
            Some(name) if found.names.len() < MAX_NAMES => drop(found.names.insert(name.into_owned())),
            _ => found.open = true,
        }
    }
    found
}

fn shape(class: &Class<'_>) -> ClassShape {
    let extends = class.heritage.as_ref().map(|heritage| match &heritage.expression {
        Expression::Identifier(id) => Super::Name(id.name.to_string()),
        Expression::StaticMemberExpression(member) => match &member.object {
            Expression::Identifier(id) => {
                Super::Member(id.name.to_string(), member.property.name.to_string())
            }
            _ => Super::Unknown,
        },
        _ => Super::Unknown,
    });
    let methods = class.body.body.iter().filter_map(|element| match element {
        ClassElement::MethodDefinition(method) if !method.r#static => method.key.static_name(),
        ClassElement::PropertyDefinition(field) if !field.r#static => field.key.static_name(),
        _ => None,
    });
    ClassShape { extends, methods: methods.take(MAX_NAMES).map(|name| name.into_owned()).collect() }
}
