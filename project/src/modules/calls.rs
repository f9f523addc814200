//! What calls, classes and assignments anywhere in a program show: `import(…)`, `require(…)`, and the names of CommonJS.

use oxc::ast::ast::{
    Argument, AssignmentExpression, AssignmentTarget, CallExpression, Class, Expression, IdentifierReference,
    ImportExpression, Program, StaticMemberExpression, TryStatement,
};
use oxc::ast_visit::{Visit, walk};
use oxc::semantic::Scoping;

use super::kinds::Format;
use super::scan::{How, Import, MAX_NAMES, Scanned, keys, offset};

/// Adds what is seen within statements to what is known of a program.
pub(super) fn visit(program: &Program<'_>, scoping: &Scoping, format: Format, scanned: Scanned) -> Scanned {
    let mut visitor = Visitor { scoping, scanned, tried: 0, format };
    visitor.visit_program(program);
    visitor.scanned
}

struct Visitor<'s> {
    scoping: &'s Scoping,
    scanned: Scanned,
    /// How many `try` blocks are around.
    tried: usize,
    format: Format,
}

impl Visitor<'_> {
    /// Whether a name is none of the program's own.
    fn is_free(&self, id: &IdentifierReference<'_>) -> bool {
        let reference = id.reference_id.get().map(|reference| self.scoping.get_reference(reference));
        reference.is_some_and(|reference| reference.symbol_id().is_none())
    }

    fn is_free_name(&self, expression: &Expression<'_>, name: &str) -> bool {
        matches!(expression, Expression::Identifier(id) if id.name == name && self.is_free(id))
    }

    /// `exports` or `module.exports`.
    fn is_exports(&self, expression: &Expression<'_>) -> bool {
        match expression {
            Expression::StaticMemberExpression(member) => {
                member.property.name == "exports" && self.is_free_name(&member.object, "module")
            }
            other => self.is_free_name(other, "exports"),
        }
    }

    /// The module that `require("…")` names.
    fn required(&self, expression: &Expression<'_>) -> Option<String> {
        let Expression::CallExpression(call) = expression else { return None };
        if !self.is_free_name(&call.callee, "require") {
            return None;
        }
        text(call.arguments.first()?).map(|(text, _)| text)
    }

    fn name(&mut self, name: &str) {
        if self.scanned.commonjs.names.len() < MAX_NAMES {
            self.scanned.commonjs.names.insert(name.to_owned());
        }
    }

    fn require(&mut self, call: &CallExpression<'_>) {
        let found = if call.arguments.len() == 1 { call.arguments.first().and_then(text) } else { None };
        match found {
            Some((specifier, at)) => {
                let how = How::Require { tried: self.tried > 0 };
                self.scanned.imports.push(Import { specifier, at, how, names: Vec::new() });
            }
            None => self.scanned.computed.push(offset(call.span)),
        }
    }

    /// `Object.defineProperty(exports, "name", …)`, and helpers that pass on all of another module.
    fn exporting_call(&mut self, call: &CallExpression<'_>) {
        let arguments: Vec<&Expression<'_>> =
            call.arguments.iter().filter_map(Argument::as_expression).collect();
        match arguments.as_slice() {
            [exports, Expression::StringLiteral(name), ..] if self.is_exports(exports) => {
                self.name(name.value.as_str());
            }
            [other, ..] => {
                let helper = match &call.callee {
                    Expression::Identifier(id) => id.name.as_str(),
                    Expression::StaticMemberExpression(member) => member.property.name.as_str(),
                    _ => "",
                };
                if matches!(helper, "__exportStar" | "__export" | "__reExport") {
                    let of = arguments.iter().find_map(|argument| self.required(argument));
                    self.scanned.commonjs.all_of.extend(of.or_else(|| self.required(other)));
                }
            }
            _ => {}
        }
    }
}

/// A text that is known, and its offset.
fn text(argument: &Argument<'_>) -> Option<(String, usize)> {
    argument.as_expression().and_then(text_of)
}

fn text_of(expression: &Expression<'_>) -> Option<(String, usize)> {
    match expression {
        Expression::StringLiteral(literal) => Some((literal.value.to_string(), offset(literal.span))),
        Expression::TemplateLiteral(template) => {
            let text = template.single_quasi()?;
            Some((text.to_string(), offset(template.span)))
        }
        _ => None,
    }
}

impl<'a> Visit<'a> for Visitor<'_> {
    fn visit_import_expression(&mut self, import: &ImportExpression<'a>) {
        match text_of(&import.source) {
            Some((specifier, at)) => {
                self.scanned.imports.push(Import { specifier, at, how: How::Dynamic, names: Vec::new() });
            }
            None => self.scanned.computed.push(offset(import.span)),
        }
        walk::walk_import_expression(self, import);
    }

    fn visit_class(&mut self, class: &Class<'a>) {
        self.scanned.absent.class(class);
        walk::walk_class(self, class);
    }

    fn visit_static_member_expression(&mut self, member: &StaticMemberExpression<'a>) {
        self.scanned.absent.member(member.property.name.as_str());
        walk::walk_static_member_expression(self, member);
    }

    fn visit_call_expression(&mut self, call: &CallExpression<'a>) {
        self.scanned.absent.call(&call.callee);
        if self.is_free_name(&call.callee, "require") {
            self.require(call);
        } else if self.format == Format::CommonJs {
            self.exporting_call(call);
        } else if self.is_free_name(&call.callee, "addEventListener") {
            self.scanned.listener = self.scanned.listener.or(Some(offset(call.span)));
        }
        walk::walk_call_expression(self, call);
    }

    fn visit_assignment_expression(&mut self, assignment: &AssignmentExpression<'a>) {
        if self.format == Format::CommonJs
            && let AssignmentTarget::StaticMemberExpression(member) = &assignment.left
        {
            let replaces = member.property.name == "exports" && self.is_free_name(&member.object, "module");
            if replaces {
                if let Expression::ObjectExpression(object) = &assignment.right {
                    for name in keys(object).names {
                        self.name(&name);
                    }
                }
                let of = self.required(&assignment.right);
                self.scanned.commonjs.all_of.extend(of);
            } else if self.is_exports(&member.object) {
                self.name(member.property.name.as_str());
            }
        }
        walk::walk_assignment_expression(self, assignment);
    }

    fn visit_try_statement(&mut self, statement: &TryStatement<'a>) {
        self.tried += 1;
        self.visit_block_statement(&statement.block);
        self.tried -= 1;
        if let Some(handler) = &statement.handler {
            self.visit_catch_clause(handler);
        }
        if let Some(finalizer) = &statement.finalizer {
            self.visit_block_statement(finalizer);
        }
    }
}
