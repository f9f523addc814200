//! Which requests a route matches, and where it finds the object's name in them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::PathPattern;
use crate::ids::{ClassName, ObjectName};

/// Most interchangeable objects of a route: each may have an instance.
pub const MAX_INTERCHANGEABLE: u32 = 10_000;
/// Longest name of a host, in bytes, as DNS has it.
const MAX_HOST_BYTES: usize = 253;

/// Which requests go to which object.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSpec {
    /// The hosts it takes; all where there are none.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub hosts: Vec<HostPattern>,
    /// The methods it takes; all where there are none.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The paths it takes.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub path: PathPattern,
    /// The class of the object.
    #[cfg_attr(feature = "schema", schema(value_type = String, max_length = 63, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub class: ClassName,
    /// The object's name.
    pub object: NameSource,
    /// The port, where it is not the class's default.
    #[serde(default)]
    pub port: Option<u16>,
    /// What the container sees in place of all of the path that comes before what `/*` takes.
    #[serde(default)]
    pub rewrite: Option<String>,
}

/// Where a route finds the object's name in a request.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameSource {
    /// The path part at the parameter with this name, percent-decoded.
    PathParameter(String),
    /// The host's label at the parameter with this name, in small letters.
    HostParameter(String),
    /// The value of this header, of which the request must have one.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
    /// The value of this parameter of the query, decoded.
    Query(String),
    /// One of so many interchangeable objects, named 0, 1, 2 and so on, drawn at random for each request.
    Random(u32),
    /// One of so many interchangeable objects, named 0, 1, 2 and so on: the less busy of two drawn at random.
    LeastLoaded(u32),
    /// Always this name.
    Constant(ObjectName),
}

/// A host pattern whose first label may be a wildcard or parameter: `example.com`, `*.example.com`,
/// `{room}.example.com`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    first: Option<FirstLabel>,
    /// In small letters.
    rest: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum FirstLabel {
    Any,
    Parameter(String),
}

/// Why a text is not a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// It is too long, or a label is empty or has characters that are not allowed in host names.
    #[error("{0:?} is not the name of a host, without a port")]
    Name(String),
}

impl HostPattern {
    /// Parses a pattern.
    pub fn new(text: &str) -> Result<Self, HostError> {
        let (label, after) = text.split_once('.').unwrap_or((text, ""));
        let parameter = label.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let first = match parameter {
            Some(name) if !name.is_empty() && !name.contains(['{', '}']) => {
                Some(FirstLabel::Parameter(name.to_owned()))
            }
            _ => (label == "*").then_some(FirstLabel::Any),
        };
        let rest = if first.is_some() { after } else { text };
        let sound = |label: &str| {
            !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        };
        if rest.len() > MAX_HOST_BYTES || !rest.split('.').all(sound) {
            return Err(HostError::Name(text.to_owned()));
        }
        Ok(Self { first, rest: rest.to_ascii_lowercase() })
    }

    /// Whether its first label is a parameter with this name.
    pub fn has_parameter(&self, name: &str) -> bool {
        matches!(&self.first, Some(FirstLabel::Parameter(known)) if known == name)
    }

    /// The host's label that the first one of the pattern stands for (empty if that is fixed), if the pattern matches
    /// it.
    pub fn capture<'h>(&self, host: &'h str) -> Option<&'h str> {
        if self.first.is_none() {
            return host.eq_ignore_ascii_case(&self.rest).then_some("");
        }
        let (label, rest) = host.split_once('.')?;
        (!label.is_empty() && rest.eq_ignore_ascii_case(&self.rest)).then_some(label)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.first {
            None => f.write_str(&self.rest),
            Some(FirstLabel::Any) => write!(f, "*.{}", self.rest),
            Some(FirstLabel::Parameter(name)) => write!(f, "{{{name}}}.{}", self.rest),
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = HostError;
    fn try_from(text: String) -> Result<Self, HostError> {
        Self::new(&text)
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> String {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture<'h>(pattern: &str, host: &'h str) -> Option<&'h str> {
        HostPattern::new(pattern).unwrap().capture(host)
    }

    #[test]
    fn hosts_match_without_regard_to_case_and_by_whole_labels() {
        assert_eq!(capture("Example.com", "eXample.COM"), Some(""));
        assert_eq!(capture("example.com", "a.example.com"), None);
        assert_eq!(capture("*.example.com", "a.example.com"), Some("a"));
        assert_eq!(capture("*.example.com", "a.b.example.com"), None);
        assert_eq!(capture("*.example.com", "example.com"), None);
        assert_eq!(capture("*.example.com", ".example.com"), None);
        assert_eq!(capture("{room}.example.com", "Blue.example.com"), Some("Blue"));
        assert_eq!(capture("*.example.com", "a.badexample.com"), None);
    }

    #[test]
    fn bad_patterns_are_refused_and_good_ones_keep_their_text() {
        for bad in ["", "*", "*.", "a..b", "a.*.b", "{}.a", "{a.b", "a:80", "ä.de", "*.{x}.de"] {
            assert!(HostPattern::new(bad).is_err(), "{bad}");
        }
        for good in ["localhost", "*.a.de", "{x}.a.de"] {
            assert_eq!(HostPattern::new(good).unwrap().to_string(), good);
        }
    }
}
