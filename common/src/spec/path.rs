//! Paths with parameters, which routes are matched by.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A path with parameters: `/container/{id}` matches `/container/7`; with `/*` at its end also all paths below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern {
    segments: Vec<Segment>,
    prefix: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter(String),
}

/// Why a text is not a path pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It does not start with a slash.
    #[error("must start with `/`")]
    NoSlash,
    /// `*` elsewhere than as the last segment.
    #[error("`*` is only allowed as the last part, as in `/files/*`")]
    Star,
    /// Braces that do not enclose a whole segment.
    #[error("`{0}`: a parameter is a whole part in braces, as in `/container/{{id}}`")]
    Braces(String),
    /// A parameter's name twice.
    #[error("the parameter `{0}` appears twice")]
    Twice(String),
    /// A character that is not allowed in a path.
    #[error("holds the character {0:?}, which a path cannot hold")]
    Character(char),
}

impl PathPattern {
    /// Parses a pattern.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let rest = text.strip_prefix('/').ok_or(PatternError::NoSlash)?;
        if let Some(c) = rest.chars().find(|c| c.is_control() || c.is_whitespace() || "?#".contains(*c)) {
            return Err(PatternError::Character(c));
        }
        let (rest, prefix) = match rest.strip_suffix("/*") {
            Some(before) => (before, true),
            None if rest == "*" => return Ok(Self { segments: Vec::new(), prefix: true }),
            None => (rest, false),
        };
        let mut segments: Vec<Segment> = Vec::new();
        for part in rest.split('/') {
            let segment = Segment::new(part)?;
            if matches!(&segment, Segment::Parameter(name) if segments.contains(&segment) && !name.is_empty())
            {
                return Err(PatternError::Twice(part.to_owned()));
            }
            segments.push(segment);
        }
        Ok(Self { segments, prefix })
    }

    /// Whether a parameter with this name is in the pattern.
    pub fn has_parameter(&self, name: &str) -> bool {
        self.segments.iter().any(|s| matches!(s, Segment::Parameter(known) if known == name))
    }

    /// Whether it ends with `/*`.
    pub fn is_prefix(&self) -> bool {
        self.prefix
    }

    /// A path that the pattern matches, with another prefix in place of what comes before the part that `/*` matches.
    pub fn rewrite(&self, path: &str, text: &str) -> String {
        let rest: Vec<&str> = path.split('/').skip(1 + self.segments.len()).collect();
        let text = text.trim_end_matches('/');
        if rest.is_empty() && !text.is_empty() {
            text.to_owned()
        } else {
            format!("{text}/{}", rest.join("/"))
        }
    }

    /// The parameters' raw (percent-encoded) values if the pattern matches this path.
    pub fn captures<'p, 'a>(&'p self, path: &'a str) -> Option<Vec<(&'p str, &'a str)>> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let mut captured = Vec::new();
        for segment in &self.segments {
            let part = parts.next()?;
            match segment {
                Segment::Literal(text) if text == part => {}
                Segment::Parameter(name) if !part.is_empty() => captured.push((name.as_str(), part)),
                _ => return None,
            }
        }
        (self.prefix || parts.next().is_none()).then_some(captured)
    }
}

impl Segment {
    fn new(part: &str) -> Result<Self, PatternError> {
        if part.contains('*') {
            return Err(PatternError::Star);
        }
        let inner = part.strip_prefix('{').and_then(|p| p.strip_suffix('}'));
        match inner {
            Some(name) if !name.is_empty() && !name.contains(['{', '}']) => {
                Ok(Self::Parameter(name.to_owned()))
            }
            None if !part.contains(['{', '}']) => Ok(Self::Literal(part.to_owned())),
            _ => Err(PatternError::Braces(part.to_owned())),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::Parameter(name) => write!(f, "/{{{name}}}")?,
            }
        }
        if self.prefix { f.write_str("/*") } else { Ok(()) }
    }
}

impl TryFrom<String> for PathPattern {
    type Error = PatternError;
    fn try_from(text: String) -> Result<Self, PatternError> {
        Self::new(&text)
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> String {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> PathPattern {
        PathPattern::new(text).unwrap()
    }

    #[test]
    fn patterns_take_what_they_say() {
        let exact = pattern("/container/{id}");
        assert_eq!(exact.captures("/container/7"), Some(vec![("id", "7")]));
        assert_eq!(exact.captures("/container/7/"), None);
        assert_eq!(exact.captures("/container/"), None);
        let below = pattern("/container/{id}/*");
        assert_eq!(below.captures("/container/7"), Some(vec![("id", "7")]));
        assert_eq!(below.captures("/container/7/a/b"), Some(vec![("id", "7")]));
        assert_eq!(below.captures("/other/7"), None);
        assert!(pattern("/*").captures("/").is_some());
        assert!(pattern("/").captures("/").is_some());
        assert!(pattern("/").captures("/a").is_none());
    }

    #[test]
    fn what_comes_before_the_star_is_rewritten() {
        let below = pattern("/container/{id}/*");
        assert_eq!(below.rewrite("/container/7/a/b", "/"), "/a/b");
        assert_eq!(below.rewrite("/container/7", "/"), "/");
        assert_eq!(below.rewrite("/container/7/", "/v1"), "/v1/");
        assert_eq!(below.rewrite("/container/7", "/v1/"), "/v1");
        assert_eq!(pattern("/*").rewrite("/a//b", "/x"), "/x/a//b");
    }

    #[test]
    fn patterns_keep_their_text() {
        for text in ["/", "/*", "/a/{b}/c", "/a/{b}/*"] {
            assert_eq!(pattern(text).to_string(), text);
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        assert_eq!(PathPattern::new("a"), Err(PatternError::NoSlash));
        assert_eq!(PathPattern::new("/*/a"), Err(PatternError::Star));
        assert!(matches!(PathPattern::new("/a{b}"), Err(PatternError::Braces(_))));
        assert!(matches!(PathPattern::new("/{a}/{a}"), Err(PatternError::Twice(_))));
        assert_eq!(PathPattern::new("/a?b"), Err(PatternError::Character('?')));
    }
}
