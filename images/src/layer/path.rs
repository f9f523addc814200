//! Parses names in an archive as paths below the root of the image. Pure: does not access the file system.

use super::error::{Name, Problem};

/// Longest path of an entry and longest target of a link, in bytes: the kernel's limit (PATH_MAX).
pub(super) const MAX_PATH_BYTES: usize = 4095;
/// Most components of a path, each of which may create a directory. Deep package trees have some dozens.
pub(super) const MAX_DEPTH: usize = 256;
/// A file whose name starts with this hides the lower layers' file with the rest of the name.
const WHITEOUT: &[u8] = b".wh.";
/// A file of this name makes its directory hide what lower layers have in it.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Prefix of AUFS's own metadata, which is not part of an image.
const BOOKKEEPING: &[u8] = b".wh..wh.";

/// A normalized path without `.`, `..` and redundant slashes, relative to the root. Empty for the root itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Clean(Vec<u8>);

impl Clean {
    /// Parses a name of an archive. Absolute names are relative to the root of the image too.
    pub(super) fn new(name: &[u8]) -> Result<Self, Problem> {
        if name.len() > MAX_PATH_BYTES {
            return Err(Problem::TooLong(MAX_PATH_BYTES));
        }
        if name.contains(&0) {
            return Err(Problem::Nul);
        }
        let mut parts = Vec::new();
        for part in name.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => parts.pop().map(|_| ()).ok_or(Problem::LeadsOut)?,
                part => parts.push(part),
            }
        }
        if parts.len() > MAX_DEPTH {
            return Err(Problem::TooDeep(MAX_DEPTH));
        }
        Ok(Self(parts.join(&b'/')))
    }

    /// From a path that is known to be normalized.
    pub(super) fn of_parts(parts: &[&[u8]]) -> Self {
        Self(parts.join(&b'/'))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Its parent directory and its name there. `None` for the root.
    pub(super) fn split(&self) -> Option<(Self, &[u8])> {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => Some((Self(self.0[..slash].to_vec()), &self.0[slash + 1..])),
            None if self.is_root() => None,
            None => Some((Self::default(), &self.0)),
        }
    }

    /// The child with this name.
    pub(super) fn join(&self, name: &[u8]) -> Self {
        if self.is_root() { Self(name.to_vec()) } else { Self([&self.0, &b"/"[..], name].concat()) }
    }

    pub(super) fn parts(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
    }

    /// Its ancestors, the nearest first, without the root.
    pub(super) fn ancestors(&self) -> impl Iterator<Item = &[u8]> {
        let slashes = self.0.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/');
        slashes.map(|(at, _)| &self.0[..at])
    }
}

/// The meaning of an entry's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// A file, directory or link of the image.
    Content,
    /// A whiteout: hides this name of lower layers.
    Whiteout(&'a [u8]),
    /// An opaque whiteout: hides the contents of the directory in lower layers.
    Opaque,
    /// Metadata that is not part of the image.
    Bookkeeping,
}

impl Clean {
    /// The meaning of its name.
    pub(super) fn meaning(&self) -> Result<Meaning<'_>, Problem> {
        let mut parts = self.parts();
        let name = parts.next_back().unwrap_or_default();
        for above in parts {
            if above.starts_with(BOOKKEEPING) {
                return Ok(Meaning::Bookkeeping);
            }
            if above.starts_with(WHITEOUT) {
                return Err(Problem::InWhiteout);
            }
        }
        match name.strip_prefix(WHITEOUT) {
            None => Ok(Meaning::Content),
            Some(_) if name == OPAQUE => Ok(Meaning::Opaque),
            Some(_) if name.starts_with(BOOKKEEPING) => Ok(Meaning::Bookkeeping),
            Some(b"" | b"." | b"..") => Err(Problem::Whiteout),
            Some(hidden) => Ok(Meaning::Whiteout(hidden)),
        }
    }

    /// It, to be shown.
    pub(super) fn name(&self) -> Name {
        Name::new(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clean(name: &str) -> Option<String> {
        Clean::new(name.as_bytes()).ok().map(|path| String::from_utf8(path.0).unwrap())
    }

    #[test]
    fn names_lead_below_the_root_or_nowhere() {
        for (name, expected) in [
            ("a/b", Some("a/b")),
            ("/a//b/", Some("a/b")),
            ("./a/./b", Some("a/b")),
            ("a/../b", Some("b")),
            ("", Some("")),
            ("/", Some("")),
            ("./", Some("")),
            ("a/..", Some("")),
            ("..", None),
            ("/..", None),
            ("a/../../b", None),
            ("a\0b", None),
        ] {
            assert_eq!(clean(name).as_deref(), expected, "{name:?}");
        }
        assert!(matches!(Clean::new(&[b'x'; 4096]), Err(Problem::TooLong(_))));
        assert!(matches!(Clean::new("d/".repeat(257).as_bytes()), Err(Problem::TooDeep(_))));
        assert!(Clean::new("d/".repeat(256).as_bytes()).is_ok());
    }

    #[test]
    fn whiteouts_have_names() {
        let meaning =
            |name: &str| Clean::new(name.as_bytes()).unwrap().meaning().ok().map(|m| format!("{m:?}"));
        assert_eq!(Clean::new(b"a/.wh.b").unwrap().meaning().unwrap(), Meaning::Whiteout(b"b"));
        assert_eq!(meaning("a/.wh..wh..opq").as_deref(), Some("Opaque"));
        assert_eq!(meaning(".wh..wh.plnk/1.2").as_deref(), Some("Bookkeeping"));
        assert_eq!(meaning("a/.wh..wh.aufs").as_deref(), Some("Bookkeeping"));
        assert_eq!(meaning("a/.whx").as_deref(), Some("Content"));
        assert_eq!(meaning("a/.wh....").as_deref(), Some("Whiteout([46, 46, 46])"));
        for refused in [".wh.", "a/.wh..", "a/.wh...", ".wh.a/b"] {
            assert_eq!(meaning(refused), None, "{refused}");
        }
    }

    proptest! {
        #[test]
        fn a_clean_path_has_no_way_up(name in proptest::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), any::<u8>()], 0..60)) {
            if let Ok(path) = Clean::new(&name) {
                prop_assert!(path.parts().all(|part| part != b"." && part != b".." && !part.contains(&0)));
                prop_assert_eq!(&Clean::new(path.bytes()).unwrap(), &path);
                if let Some((above, name)) = path.split() {
                    prop_assert_eq!(above.join(name), path);
                }
            }
        }
    }
}
