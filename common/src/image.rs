//! The names of images: digests, repositories, tags and references; and the architectures that they run on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// Longest name of a repository, in bytes: clients of registries accept no longer ones.
pub const MAX_REPOSITORY_BYTES: usize = 255;
/// Longest tag, in bytes, by the OCI distribution specification.
pub const MAX_TAG_BYTES: usize = 128;
/// The name of Docker's registry in references, and the host that serves it.
pub const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// The namespace of Docker's official images.
const DOCKER_LIBRARY: &str = "library";
/// The tag of a reference that has none.
const DEFAULT_TAG: &str = "latest";

/// Why a text is not a valid digest or name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageNameError {
    /// Not a digest.
    #[error("is not a digest: `sha256:` and 64 hexadecimal digits, or `sha512:` and 128, are expected")]
    Digest,
    /// Not the name of a repository.
    #[error(
        "is not the name of a repository: lower-case letters and digits with `.`, `_`, `-` between them and `/` between \
         parts are expected, 255 bytes at most"
    )]
    Repository,
    /// Not a tag.
    #[error(
        "is not a tag: up to 128 letters, digits, `_`, `.` and `-` are expected, the first no `.` or `-`"
    )]
    Tag,
    /// Not the name of a registry.
    #[error(
        "is not the name of a registry: a host such as registry.example.com or localhost:5000 is expected"
    )]
    Registry,
}

/// The digest of some content: its algorithm's name, a colon, and lower-case hexadecimal digits, as `sha256:...`.
///
/// Berth makes SHA-256 digests; SHA-512 ones come with the images of others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(Sum);

/// The bytes of a digest. The order is that of the digests' texts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Sum {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

/// How a digest is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256, which every registry understands.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Its name before the colon of a digest's text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

/// Computes the digest of content that comes piece by piece.
#[derive(Debug, Clone)]
pub struct Hasher(Hashing);

#[derive(Debug, Clone)]
enum Hashing {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => Hashing::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hashing::Sha512(Sha512::new()),
        })
    }

    /// Takes more content.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Hashing::Sha256(hash) => hash.update(bytes),
            Hashing::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest of all that came.
    pub fn digest(self) -> Digest {
        Digest(match self.0 {
            Hashing::Sha256(hash) => Sum::Sha256(hash.finalize().into()),
            Hashing::Sha512(hash) => Sum::Sha512(hash.finalize().into()),
        })
    }
}

impl Digest {
    /// The SHA-256 digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::with(Algorithm::Sha256, bytes)
    }

    /// The digest of these bytes by this algorithm.
    pub fn with(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.digest()
    }

    /// Whether it is the digest of these bytes.
    pub fn fits(&self, bytes: &[u8]) -> bool {
        Self::with(self.algorithm(), bytes) == *self
    }

    /// How it was computed.
    pub const fn algorithm(&self) -> Algorithm {
        match self.0 {
            Sum::Sha256(_) => Algorithm::Sha256,
            Sum::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Its bytes, 32 or 64.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Sum::Sha256(bytes) => bytes,
            Sum::Sha512(bytes) => bytes,
        }
    }

    /// Its hexadecimal digits: the name of a file. The number of digits tells the algorithm.
    pub fn hex(&self) -> String {
        match &self.0 {
            Sum::Sha256(bytes) => hex::encode(bytes),
            Sum::Sha512(bytes) => hex::encode(bytes),
        }
    }

    /// The digest with these hexadecimal digits.
    pub fn from_hex(digits: &str) -> Result<Self, ImageNameError> {
        // Upper case is refused, so that a digest has only one text: file names are made from it.
        if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ImageNameError::Digest);
        }
        let (mut short, mut long) = ([0; 32], [0; 64]);
        if hex::decode_to_slice(digits, &mut short).is_ok() {
            Ok(Self(Sum::Sha256(short)))
        } else if hex::decode_to_slice(digits, &mut long).is_ok() {
            Ok(Self(Sum::Sha512(long)))
        } else {
            Err(ImageNameError::Digest)
        }
    }
}

impl FromStr for Digest {
    type Err = ImageNameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (algorithm, digits) = text.split_once(':').ok_or(ImageNameError::Digest)?;
        let digest = Self::from_hex(digits)?;
        if digest.algorithm().name() == algorithm { Ok(digest) } else { Err(ImageNameError::Digest) }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of a repository: `lower-case/parts`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository(String);

/// The tag of an image in its repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

/// A registry: a host, with a port if it is not the default one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Registry(String);

impl Repository {
    /// Placeholder for the repository of an image that has none.
    pub fn none() -> Self {
        Self("none".to_owned())
    }
}

macro_rules! text_type {
    ($name:ident, $check:path, $error:expr) => {
        impl $name {
            /// Its text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ImageNameError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = ImageNameError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                if $check(&text) { Ok(Self(text)) } else { Err($error) }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type!(Repository, is_repository, ImageNameError::Repository);
text_type!(Tag, is_tag, ImageNameError::Tag);
text_type!(Registry, is_registry, ImageNameError::Registry);

impl TryFrom<String> for Digest {
    type Error = ImageNameError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

fn is_repository(text: &str) -> bool {
    text.len() <= MAX_REPOSITORY_BYTES && text.split('/').all(is_repository_part)
}

/// Letters and digits, between them one `.`, one or two `_`, or any number of `-`.
fn is_repository_part(part: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = part.bytes().next().is_some_and(word) && part.bytes().next_back().is_some_and(word);
    let mut separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends && separators.all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|byte| byte == b'-'))
}

fn is_tag(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    first && text.len() <= MAX_TAG_BYTES && text.bytes().all(rest)
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let sound = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.len() <= 253 && host.bytes().all(name),
    };
    sound && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
}

/// Selects an image of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pick {
    /// The one with this tag at the time.
    Tag(Tag),
    /// The one with this digest.
    Digest(Digest),
}

impl fmt::Display for Pick {
    /// As in a reference, with its separator: `:tag` or `@sha256:...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, ":{tag}"),
            Self::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

/// An image in a repository: `repository:tag` or `repository@sha256:...`; without either, the tag `latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Named {
    /// The repository.
    pub repository: Repository,
    /// Which of its images.
    pub pick: Pick,
}

impl FromStr for Named {
    type Err = ImageNameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((name, digest)) = text.split_once('@') {
            // A tag before a digest is redundant, but must be valid.
            let name = match name.rsplit_once(':') {
                Some((name, tag)) => tag.parse::<Tag>().map(|_| name)?,
                None => name,
            };
            return Ok(Self { repository: name.parse()?, pick: Pick::Digest(digest.parse()?) });
        }
        let (name, tag) = text.rsplit_once(':').unwrap_or((text, DEFAULT_TAG));
        Ok(Self { repository: name.parse()?, pick: Pick::Tag(tag.parse()?) })
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.repository, self.pick)
    }
}

/// An image in some registry: `host/repository:tag` or `host/repository@sha256:...`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    /// The registry, as users name it (`docker.io`).
    pub registry: Registry,
    /// The image in it.
    pub image: Named,
}

impl Reference {
    /// Whether a text starts with a registry's host, and is not a path.
    pub fn names_a_registry(text: &str) -> bool {
        let first = text.split_once('/').map(|(first, _)| first);
        let host = |part: &str| part.contains(['.', ':']) || part == "localhost";
        first.is_some_and(|first| !first.starts_with('.') && host(first) && is_registry(first))
    }
}

impl FromStr for Reference {
    type Err = ImageNameError;
    /// Parses Docker's short form too: `alpine` is `docker.io/library/alpine:latest`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (registry, rest) = match text.split_once('/') {
            Some((registry, rest)) if Self::names_a_registry(text) => (registry, rest.to_owned()),
            Some(_) => (DOCKER_HUB.0, text.to_owned()),
            None => (DOCKER_HUB.0, format!("{DOCKER_LIBRARY}/{text}")),
        };
        let bare = registry == DOCKER_HUB.0 && !rest.contains('/');
        let rest = if bare { format!("{DOCKER_LIBRARY}/{rest}") } else { rest };
        Ok(Self { registry: registry.parse()?, image: rest.parse()? })
    }
}

impl TryFrom<String> for Reference {
    type Error = ImageNameError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.image)
    }
}

/// What a machine understands.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Architecture {
    /// The architecture of this program.
    pub const HERE: Self = if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 };

    /// The architecture with this name in image manifests.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "amd64" => Some(Self::Amd64),
            "arm64" => Some(Self::Arm64),
            _ => None,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_cannot_lead_elsewhere() {
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(good.parse::<Digest>().unwrap().to_string(), good);
        for bad in
            ["sha256:../../etc", "md5:00", &good.to_uppercase(), &format!("sha256:{}/", "a".repeat(63))]
        {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        let upper = format!("sha256:{}", "0A".repeat(32));
        assert!(upper.parse::<Digest>().is_err());
        let long = format!("sha512:{}", "0a".repeat(64));
        assert_eq!(long.parse::<Digest>().unwrap().to_string(), long);
        for bad in [long.replace("512", "256"), good.replace("256", "512"), good.replace("sha256", "")] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn content_is_known_by_either_algorithm() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Digest::with(algorithm, b"content");
            assert!(digest.fits(b"content") && !digest.fits(b"other"));
            assert_eq!(Digest::from_hex(&digest.hex()), Ok(digest));
        }
        // FIPS 180-4's example.
        assert!(Digest::with(Algorithm::Sha512, b"abc").hex().starts_with("ddaf35a193617aba"));
    }

    #[test]
    fn repositories_and_tags_are_as_the_specification_has_them() {
        for good in ["a", "a/b", "docker.io/library/alpine", "a__b/c--d", "localhost_5000/x", "0"] {
            assert!(good.parse::<Repository>().is_ok(), "{good}");
        }
        for bad in
            ["", "/", "a/", "/a", "a//b", "A", "a..b", "a/../b", ".a", "a.", "a___b", "a b", &"a".repeat(256)]
        {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
        assert!("v1.0-rc_2".parse::<Tag>().is_ok() && "_".parse::<Tag>().is_ok());
        for bad in ["", ".a", "-a", "a/b", "a:b", &"a".repeat(129)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn references_are_read_as_docker_reads_them() {
        let read = |text: &str| text.parse::<Reference>().map(|reference| reference.to_string());
        assert_eq!(read("alpine").unwrap(), "docker.io/library/alpine:latest");
        assert_eq!(read("docker.io/alpine:3").unwrap(), "docker.io/library/alpine:3");
        assert_eq!(read("me/app").unwrap(), "docker.io/me/app:latest");
        assert_eq!(read("localhost:5000/a/b:c").unwrap(), "localhost:5000/a/b:c");
        assert_eq!(read("[::1]:5000/a").unwrap(), "[::1]:5000/a:latest");
        let digest = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(read(&format!("ghcr.io/a/b:1@{digest}")).unwrap(), format!("ghcr.io/a/b@{digest}"));
        let no_tag = format!("ghcr.io/a:b/c@{digest}");
        for bad in ["", "a:b:c", "Upper/x", "host.example/", "host.example:0/a", "a@sha256:00", &no_tag] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_name_no_registry() {
        for path in ["./a.b/c", "../x/y", "root", "dir/file", "/abs.olute/x"] {
            assert!(!Reference::names_a_registry(path), "{path}");
        }
        assert!(Reference::names_a_registry("localhost/x") && Reference::names_a_registry("r.example/x"));
    }
}
