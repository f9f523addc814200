//! Names and numbers that identify things, one type each, so that they cannot be mixed up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Longest object name, in bytes of UTF-8: names come from URLs, whose path segments are rarely longer.
pub const MAX_OBJECT_NAME_BYTES: usize = 1024;
/// Longest app, class, node or edge name, in bytes: they become file names, certificate names and labels.
pub const MAX_LABEL_BYTES: usize = 63;

/// Longest name of a secret or of the variable that it becomes, in bytes.
pub const MAX_VARIABLE_BYTES: usize = 128;

/// Why a name or id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("is empty")]
    Empty,
    /// The text is longer than its kind allows.
    #[error("is {actual} bytes long; at most {limit} are allowed")]
    TooLong {
        /// Length found, in bytes.
        actual: usize,
        /// Longest length allowed, in bytes.
        limit: usize,
    },
    /// A character that its kind does not allow.
    #[error("holds the character {0:?}, which is not allowed")]
    Character(char),
    /// Not the hexadecimal form of an id.
    #[error("is not an id: 32 hexadecimal digits are expected")]
    NotHex,
}

/// Names made of ASCII letters, digits, `-`, `_` and `.`, starting with a letter or digit.
fn check_label(text: &str) -> Result<(), IdError> {
    check_length(text, MAX_LABEL_BYTES)?;
    let bad =
        |(i, c): &(usize, char)| !(c.is_ascii_alphanumeric() || (*i > 0 && matches!(c, '-' | '_' | '.')));
    text.chars().enumerate().find(bad).map_or(Ok(()), |(_, c)| Err(IdError::Character(c)))
}

fn check_object_name(text: &str) -> Result<(), IdError> {
    check_length(text, MAX_OBJECT_NAME_BYTES)?;
    text.chars().find(|c| c.is_control()).map_or(Ok(()), |c| Err(IdError::Character(c)))
}

/// Names that every shell accepts for a variable: ASCII letters, digits and `_`, not starting with a digit.
fn check_variable(text: &str) -> Result<(), IdError> {
    check_length(text, MAX_VARIABLE_BYTES)?;
    let bad =
        |(i, c): &(usize, char)| !(c.is_ascii_alphabetic() || *c == '_' || (*i > 0 && c.is_ascii_digit()));
    text.chars().enumerate().find(bad).map_or(Ok(()), |(_, c)| Err(IdError::Character(c)))
}

fn check_length(text: &str, limit: usize) -> Result<(), IdError> {
    match text.len() {
        0 => Err(IdError::Empty),
        actual if actual > limit => Err(IdError::TooLong { actual, limit }),
        _ => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and takes a text as a name.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                $check(&text)?;
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

name!(
    /// An app: one deployed configuration.
    AppName, check_label
);
name!(
    /// A container class of an app (`class_name`).
    ClassName, check_label
);
name!(
    /// A callback of a class: what alarms and schedules run.
    CallbackName, check_label
);
name!(
    /// A machine that runs containers.
    NodeId, check_label
);
name!(
    /// An edge daemon: the owner of objects.
    EdgeId, check_label
);
name!(
    /// The name of an object within its class: any UTF-8 up to [`MAX_OBJECT_NAME_BYTES`] without control characters.
    ObjectName, check_object_name
);
name!(
    /// A store of secrets that apps share.
    StoreName, check_label
);
name!(
    /// A secret of an app or of a store.
    SecretName, check_variable
);
name!(
    /// An environment variable that a secret becomes.
    VariableName, check_variable
);

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; 16]);

        impl $name {
            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; 16];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError::NotHex)?;
                Ok(Self(bytes))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

id128!(
    /// An object, derived from app, class and name: the same three give the same id on every edge.
    ObjectId
);
id128!(
    /// One running container: random, new at each start and never reused (also its deployment id).
    InstanceId
);

id128!(
    /// A schedule of an object: random, except for the object's one alarm.
    ScheduleId
);

#[cfg(feature = "runtime")]
impl InstanceId {
    /// A new id, from the thread's cryptographically secure generator.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

#[cfg(feature = "runtime")]
impl ScheduleId {
    /// A new id, never that of an alarm.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl ScheduleId {
    /// The id of an object's one alarm.
    pub const ALARM: Self = Self([0; 16]);
}

/// The full name of an object: app, class and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectKey {
    /// The app that declares the class.
    pub app: AppName,
    /// The class, which configures what runs.
    pub class: ClassName,
    /// The name within the class.
    pub name: ObjectName,
}

impl ObjectKey {
    /// The object's id: the first 16 bytes of SHA-256 over app, class and name, each with its length before it.
    pub fn id(&self) -> ObjectId {
        let mut hash = Sha256::new();
        for part in [self.app.as_str(), self.class.as_str(), self.name.as_str()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        ObjectId(bytes)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.app, self.class, self.name)
    }
}

/// How many instances an object has had. Grows by one at each start; a message about an older one is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// How many times an edge has started: counted in its store, larger at each start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// One deployment of an app: counted from 1, never reused. 0 means never deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for ObjectName {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::schema!(String).into()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for ObjectName {}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(app: &str, class: &str, name: &str) -> ObjectKey {
        ObjectKey { app: app.parse().unwrap(), class: class.parse().unwrap(), name: name.parse().unwrap() }
    }

    #[test]
    fn object_ids_depend_on_every_part_and_on_its_limits() {
        assert_eq!(key("a", "b", "c").id(), key("a", "b", "c").id());
        assert_ne!(key("a", "b", "c").id(), key("a", "b", "d").id());
        assert_ne!(key("ab", "c", "d").id(), key("a", "bc", "d").id());
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(NodeId::new(""), Err(IdError::Empty));
        assert_eq!(NodeId::new("../x"), Err(IdError::Character('.')));
        assert_eq!(NodeId::new("a/b"), Err(IdError::Character('/')));
        assert_eq!(ObjectName::new("a\nb"), Err(IdError::Character('\n')));
        assert!(ObjectName::new("größe/日本").is_ok());
        assert_eq!(ObjectName::new("x".repeat(1025)), Err(IdError::TooLong { actual: 1025, limit: 1024 }));
    }

    #[test]
    fn secrets_are_named_like_variables() {
        for good in ["A", "_", "api_key_2", &"x".repeat(MAX_VARIABLE_BYTES)] {
            assert!(SecretName::new(good).is_ok() && VariableName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "2A", "A-B", "A=B", "A B", "Ä", "A\0", &"x".repeat(MAX_VARIABLE_BYTES + 1)] {
            assert!(SecretName::new(bad).is_err() && VariableName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_survive_their_text_form() {
        let id = InstanceId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("zz".parse::<InstanceId>(), Err(IdError::NotHex));
    }
}
