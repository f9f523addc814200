//! What older samples for the package for containers use, and no published version of it has: a call that fails when it is made, and
//! a property that says nothing. Knows which these are, and what takes their place; the rest is the program's.

use oxc::ast::ast::{Class, ClassElement, Expression};

use super::graph::{Graph, Node};
use super::scan::offset;
use super::surface::PACKAGE;
use crate::report::Report;

/// A method of objects with containers.
const METHOD: &str = "startContainer";
/// A property of their classes.
const PROPERTY: &str = "manualStart";
/// Where modules are that others wrote.
const OF_OTHERS: &str = "node_modules/";

/// What one module has of them.
#[derive(Debug, Default)]
pub(super) struct Absent {
    /// Where the method is called.
    calls: Vec<usize>,
    /// Where a class that extends another has the property.
    properties: Vec<usize>,
    /// Whether a class has a method of that name itself.
    has_method: bool,
    /// Whether something looks at the property.
    reads_property: bool,
}

impl Absent {
    /// Looks at what is called.
    pub(super) fn call(&mut self, callee: &Expression<'_>) {
        if let Expression::StaticMemberExpression(member) = callee
            && member.property.name == METHOD
        {
            self.calls.push(offset(member.property.span));
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
                        self.properties.push(offset(field.span));
                    }
                }
                _ => {}
            }
        }
    }
}

/// Warns of them, in programs that use the package, where the program does not have them itself.
pub(super) fn check(report: &mut Report, graph: &Graph) {
    if !graph.nodes.keys().any(|name| name.contains(PACKAGE)) {
        return;
    }
    let own: Vec<(&Node, &Absent)> = graph.nodes.iter().filter_map(own).collect();
    let has_method = own.iter().any(|(_, absent)| absent.has_method);
    let reads_property = own.iter().any(|(_, absent)| absent.reads_property);
    for (node, absent) in own {
        for at in absent.calls.iter().filter(|_| !has_method) {
            let message = "no version of `@cloudflare/containers` has `startContainer()`, and the call fails; \
                expected `start({ envVars: { … } })`, or `startAndWaitForPorts()` where a port is to listen";
            report.warn(&node.source, *at, message);
        }
        for at in absent.properties.iter().filter(|_| !reads_property) {
            let message = "no version of `@cloudflare/containers` has `manualStart`, and it says nothing: \
                a container starts with `start()` or with a request to it, not with `get()`; leave it out";
            report.warn(&node.source, *at, message);
        }
    }
}

/// A module that is the project's own.
fn own<'g>((name, node): (&'g String, &'g Node)) -> Option<(&'g Node, &'g Absent)> {
    let compiled = node.compiled().filter(|_| !name.contains(OF_OTHERS))?;
    Some((node, &compiled.scanned.absent))
}
