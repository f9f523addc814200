//! What older samples for the package for containers use, and no published version of it has: a call that fails when it is made, and
//! a property that says nothing. Looks at one module.

use oxc::ast::ast::{Class, ClassElement, Expression};

/// A method of objects with containers.
const METHOD: &str = "startContainer";
/// A property of their classes.
const PROPERTY: &str = "manualStart";

/// What one module has of them.
#[derive(Debug, Default)]
pub(super) struct Absent {
    /// Where the method is called.
    pub(super) calls: Vec<usize>,
    /// Where a class that extends another has the property.
    pub(super) properties: Vec<usize>,
    /// Whether a class has a method of that name itself.
    pub(super) has_method: bool,
    /// Whether something looks at the property.
    pub(super) reads_property: bool,
}

impl Absent {
    /// Looks at what is called.
    pub(super) fn call(&mut self, callee: &Expression<'_>) {
        if let Expression::StaticMemberExpression(member) = callee
            && member.property.name == METHOD
        {
            self.calls.push(member.property.span.start as usize);
        }
    }

    /// Looks at a member of something, by its name.
    pub(super) fn member(&mut self, name: &str) {
        self.reads_property |= name == PROPERTY;
    }

    /// Looks at what a class has.
    pub(super) fn class(&mut self, class: &Class<'_>) {
        for element in &class.body.body {
            match element {
                ClassElement::MethodDefinition(method) => {
                    self.has_method |= method.key.static_name().is_some_and(|name| name == METHOD);
                }
                ClassElement::PropertyDefinition(field) => {
                    let name = field.key.static_name();
                    self.has_method |= name.as_deref() == Some(METHOD);
                    if name.as_deref() == Some(PROPERTY) && class.heritage.is_some() {
                        self.properties.push(field.span.start as usize);
                    }
                }
                _ => {}
            }
        }
    }
}
