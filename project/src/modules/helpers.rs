//! Modules that compiled programs import of ours.

use super::compile::HELPERS;

/// What CommonJS modules run in.
pub(super) const COMMONJS: &str = "berth:runtime/commonjs";

/// A module by the specifier that compiled programs have: its name and text.
pub(super) fn helper(specifier: &str) -> Option<(String, &'static str)> {
    if specifier == COMMONJS {
        return Some((COMMONJS.to_owned(), include_str!("runtime/commonjs.js")));
    }
    let name = specifier.strip_prefix(HELPERS)?.strip_prefix("/helpers/")?;
    let text = match name {
        "decorate" => include_str!("runtime/decorate.js"),
        "decorateParam" => include_str!("runtime/decorateParam.js"),
        "decorateMetadata" => include_str!("runtime/decorateMetadata.js"),
        _ => return None,
    };
    Some((specifier.to_owned(), text))
}
