//! Takes out of a program what is only for compilers: names that turned out to be types, and what imports say of the kind of
//! their modules, since all that the runtime gets are programs.

use std::collections::BTreeSet;

use oxc::allocator::Vec as ArenaVec;
use oxc::ast::ast::{ExportSpecifier, ImportDeclarationSpecifier, ImportExpression, Program, Statement};
use oxc::ast_visit::{VisitMut, walk_mut};

/// Names that turned out to be types: of which specifier, and which name there.
pub(super) type Dropped = BTreeSet<(String, String)>;

/// Takes out what imports say besides the module's name.
pub(super) fn drop_attributes(program: &mut Program<'_>) {
    for statement in &mut program.body {
        match statement {
            Statement::ImportDeclaration(import) => import.with_clause = None,
            Statement::ExportFromDeclaration(export) => export.with_clause = None,
            Statement::ExportAllDeclaration(export) => export.with_clause = None,
            _ => {}
        }
    }
    Attributes.visit_program(program);
}

struct Attributes;

impl<'a> VisitMut<'a> for Attributes {
    fn visit_import_expression(&mut self, import: &mut ImportExpression<'a>) {
        import.options = None;
        walk_mut::walk_import_expression(self, import);
    }
}

/// Takes out the names that turned out to be types.
pub(super) fn drop_types(program: &mut Program<'_>, dropped: &Dropped) {
    let is_dropped = |specifier: &str, name: &str| dropped.contains(&(specifier.to_owned(), name.to_owned()));
    let mut locals = BTreeSet::new();
    for statement in &mut program.body {
        match statement {
            Statement::ImportDeclaration(import) => {
                let specifier = import.source.value.to_string();
                let Some(specifiers) = &mut import.specifiers else { continue };
                specifiers.retain(|one| {
                    let ImportDeclarationSpecifier::ImportSpecifier(one) = one else { return true };
                    let gone = is_dropped(&specifier, &one.imported.name());
                    if gone {
                        locals.insert(one.local.name.to_string());
                    }
                    !gone
                });
            }
            Statement::ExportFromDeclaration(export) => {
                let specifier = export.source.value.to_string();
                export.specifiers.retain(|one| !is_dropped(&specifier, &one.local.name()));
            }
            _ => {}
        }
    }
    for statement in &mut program.body {
        if let Statement::ExportNamedDeclaration(export) = statement {
            retain_others(&mut export.specifiers, &locals);
        }
    }
}

fn retain_others(specifiers: &mut ArenaVec<'_, ExportSpecifier<'_>>, locals: &BTreeSet<String>) {
    specifiers.retain(|one| !locals.contains(one.local.name().as_str()));
}
