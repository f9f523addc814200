//! Files and directories of a disk: as programs see them, and as they are after a power cut. Knows nothing of FUSE.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

use fastrand::Rng;
use nix::errno::Errno;

use super::content::Content;
use super::{Loss, Lost, Syncs};

/// The number of the root directory, as FUSE has it.
pub(super) const ROOT: u64 = 1;

/// Who something belongs to, and what they may do with it. Durable at once: only contents and names are lost here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) access: Access,
    pub(super) changed: SystemTime,
}

#[derive(Debug)]
pub(super) enum Kind {
    File(Content),
    Directory(Directory),
    Socket,
}

#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) names: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
}

/// A change of names that happens as a whole: a rename is one.
type Change = Vec<Step>;

/// What a name in a directory stands for from now on.
#[derive(Debug)]
struct Step {
    directory: u64,
    name: OsString,
    node: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<u64, Node>,
    last: u64,
    syncs: Syncs,
    /// Changes of names that are not durable, in their order: file systems with a journal keep to it.
    unsynced: Vec<Change>,
}

impl Tree {
    pub(super) fn new(access: Access, syncs: Syncs) -> Self {
        let root = Node { kind: Kind::Directory(Directory::default()), access, changed: SystemTime::now() };
        Self { nodes: BTreeMap::from([(ROOT, root)]), last: ROOT, syncs, unsynced: Vec::new() }
    }

    pub(super) fn node(&self, number: u64) -> Result<&Node, Errno> {
        self.nodes.get(&number).ok_or(Errno::ESTALE)
    }

    pub(super) fn change(&mut self, number: u64) -> Result<&mut Node, Errno> {
        let node = self.nodes.get_mut(&number).ok_or(Errno::ESTALE)?;
        node.changed = SystemTime::now();
        Ok(node)
    }

    pub(super) fn directory(&self, number: u64) -> Result<&Directory, Errno> {
        match &self.node(number)?.kind {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn content(&mut self, number: u64) -> Result<&mut Content, Errno> {
        match &mut self.nodes.get_mut(&number).ok_or(Errno::ESTALE)?.kind {
            Kind::File(content) => Ok(content),
            _ => Err(Errno::EISDIR),
        }
    }

    pub(super) fn find(&self, parent: u64, name: &OsStr) -> Result<u64, Errno> {
        self.directory(parent)?.names.get(name).copied().ok_or(Errno::ENOENT)
    }

    pub(super) fn make(
        &mut self,
        parent: u64,
        name: &OsStr,
        kind: Kind,
        access: Access,
    ) -> Result<u64, Errno> {
        if self.directory(parent)?.names.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.last += 1;
        self.nodes.insert(self.last, Node { kind, access, changed: SystemTime::now() });
        self.apply(vec![Step::new(parent, name, Some(self.last))])?;
        Ok(self.last)
    }

    pub(super) fn link(&mut self, node: u64, parent: u64, name: &OsStr) -> Result<(), Errno> {
        if self.directory(parent)?.names.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.apply(vec![Step::new(parent, name, Some(node))])
    }

    /// Removes a name. The node stays for processes that have it open.
    pub(super) fn remove(&mut self, parent: u64, name: &OsStr) -> Result<(), Errno> {
        self.expect_empty(self.find(parent, name)?)?;
        self.apply(vec![Step::new(parent, name, None)])
    }

    fn expect_empty(&self, number: u64) -> Result<(), Errno> {
        match &self.node(number)?.kind {
            Kind::Directory(directory) if !directory.names.is_empty() => Err(Errno::ENOTEMPTY),
            _ => Ok(()),
        }
    }

    pub(super) fn rename(
        &mut self,
        from: (u64, &OsStr),
        to: (u64, &OsStr),
        replace: bool,
    ) -> Result<(), Errno> {
        let moved = self.find(from.0, from.1)?;
        match self.find(to.0, to.1) {
            Ok(_) if !replace => return Err(Errno::EEXIST),
            Ok(there) if there == moved => return Ok(()),
            Ok(there) => self.expect_empty(there)?,
            Err(_) => drop(self.directory(to.0)?),
        }
        self.apply(vec![Step::new(from.0, from.1, None), Step::new(to.0, to.1, Some(moved))])
    }

    pub(super) fn exchange(&mut self, one: (u64, &OsStr), other: (u64, &OsStr)) -> Result<(), Errno> {
        let (first, second) = (self.find(one.0, one.1)?, self.find(other.0, other.1)?);
        self.apply(vec![Step::new(one.0, one.1, Some(second)), Step::new(other.0, other.1, Some(first))])
    }

    fn apply(&mut self, change: Change) -> Result<(), Errno> {
        for step in &change {
            match &mut self.change(step.directory)?.kind {
                Kind::Directory(directory) => step.apply(&mut directory.names),
                _ => return Err(Errno::ENOTDIR),
            }
        }
        self.unsynced.push(change);
        Ok(())
    }

    /// Makes a file's bytes durable, or a directory's names. A file's own name is its directory's matter.
    pub(super) fn sync(&mut self, number: u64) -> Result<(), Errno> {
        if self.syncs == Syncs::Ignored {
            return Ok(());
        }
        match &mut self.nodes.get_mut(&number).ok_or(Errno::ESTALE)?.kind {
            Kind::File(content) => content.sync(),
            Kind::Directory(directory) => {
                directory.durable.clone_from(&directory.names);
                self.unsynced.iter_mut().for_each(|change| change.retain(|step| step.directory != number));
                self.unsynced.retain(|change| !change.is_empty());
            }
            Kind::Socket => {}
        }
        Ok(())
    }

    /// A power cut, and the restart.
    pub(super) fn cut(&mut self, loss: Loss) -> Lost {
        let contents = self.nodes.values().map(|node| match &node.kind {
            Kind::File(content) => content.unsynced(),
            _ => 0,
        });
        let lost = Lost { pages: contents.sum(), names: self.unsynced.len() };
        let mut chance = match loss {
            Loss::Everything => None,
            Loss::Some(seed) => Some(Rng::with_seed(seed)),
        };
        let survivors = chance.as_mut().map_or(0, |chance| chance.usize(..=self.unsynced.len()));
        for step in std::mem::take(&mut self.unsynced).into_iter().take(survivors).flatten() {
            if let Some(Node { kind: Kind::Directory(directory), .. }) = self.nodes.get_mut(&step.directory) {
                step.apply(&mut directory.durable);
            }
        }
        for node in self.nodes.values_mut() {
            match (&mut node.kind, &mut chance) {
                (Kind::File(content), Some(chance)) => content.tear(chance),
                (Kind::File(content), None) => content.drop_unsynced(),
                (Kind::Directory(directory), _) => directory.names.clone_from(&directory.durable),
                (Kind::Socket, _) => {}
            }
        }
        self.forget_the_nameless();
        lost
    }

    /// Removes what no name leads to any more.
    fn forget_the_nameless(&mut self) {
        let mut reached = BTreeSet::new();
        let mut next = vec![ROOT];
        while let Some(number) = next.pop() {
            if reached.insert(number)
                && let Ok(directory) = self.directory(number)
            {
                next.extend(directory.names.values());
            }
        }
        self.nodes.retain(|number, _| reached.contains(number));
    }
}

impl Step {
    fn new(directory: u64, name: &OsStr, node: Option<u64>) -> Self {
        Self { directory, name: name.to_owned(), node }
    }

    fn apply(&self, names: &mut BTreeMap<OsString, u64>) {
        match self.node {
            Some(node) => names.insert(self.name.clone(), node),
            None => names.remove(&self.name),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCESS: Access = Access { mode: 0o755, uid: 0, gid: 0 };

    fn file(tree: &mut Tree, name: &str, bytes: &[u8]) -> u64 {
        let number = tree.make(ROOT, OsStr::new(name), Kind::File(Content::default()), ACCESS).unwrap();
        tree.content(number).unwrap().write(0, bytes);
        number
    }

    fn names(tree: &Tree) -> Vec<&str> {
        tree.directory(ROOT).unwrap().names.keys().filter_map(|name| name.to_str()).collect()
    }

    #[test]
    fn names_are_durable_once_their_directory_is_synced() {
        let mut tree = Tree::new(ACCESS, Syncs::Kept);
        let a = file(&mut tree, "a", b"a");
        tree.sync(a).unwrap();
        tree.sync(ROOT).unwrap();
        let b = file(&mut tree, "b", b"b");
        tree.sync(b).unwrap();
        let root = |name| (ROOT, OsStr::new(name));
        tree.rename(root("a"), root("c"), false).unwrap();
        assert_eq!(names(&tree), ["b", "c"]);
        assert_eq!(tree.cut(Loss::Everything), Lost { pages: 0, names: 2 });
        assert_eq!(names(&tree), ["a"]);
        assert_eq!(tree.content(a).unwrap().read(0, 9), b"a");
        assert!(tree.node(b).is_err());
    }

    #[test]
    fn changes_of_names_survive_in_their_order_and_whole() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let mut tree = Tree::new(ACCESS, Syncs::Kept);
            file(&mut tree, "a", b"");
            file(&mut tree, "b", b"");
            tree.rename((ROOT, OsStr::new("a")), (ROOT, OsStr::new("b")), true).unwrap();
            tree.cut(Loss::Some(seed));
            seen.insert(names(&tree).join(" "));
        }
        assert_eq!(seen, ["", "a", "a b", "b"].map(str::to_owned).into());
    }

    #[test]
    fn a_disk_that_ignores_syncs_loses_everything() {
        let mut tree = Tree::new(ACCESS, Syncs::Ignored);
        let a = file(&mut tree, "a", b"a");
        tree.sync(a).unwrap();
        tree.sync(ROOT).unwrap();
        assert_eq!(tree.cut(Loss::Everything), Lost { pages: 1, names: 1 });
        assert!(names(&tree).is_empty());
    }
}
