//! The input gate of one object: what may run in it now, and what waits. Knows neither JavaScript nor what waits.
//!
//! Critical sections form a tree, of which at most one chain is open: root, a section begun there, one begun in that … Only work of
//! the innermost open one runs. Work keeps the section that it was begun in; once that has ended, it belongs to what is around it.
//!
//! ```text
//! root ──begin──▶ waits ──(its parent is the innermost)──▶ innermost ──end──▶ its parent is the innermost again
//! ```

use std::collections::{HashMap, VecDeque};

/// Sections that may lie in each other: far more than programs have, and a bound on what is looked through.
pub(crate) const DEPTH: usize = 64;

/// A section of one object. `ROOT` is outside all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Section(u32);

impl Section {
    pub(crate) const ROOT: Self = Self(0);

    pub(crate) fn number(self) -> u32 {
        self.0
    }

    pub(crate) fn of_number(number: u32) -> Self {
        Self(number)
    }
}

/// What is known of a section other than the root.
#[derive(Debug, Clone, Copy)]
struct Known {
    parent: Section,
    depth: usize,
    ended: bool,
}

/// Work that waits.
struct Waiting<W> {
    /// The section that it belongs to.
    of: Section,
    /// The section that begins with it.
    begins: Option<Section>,
    work: W,
}

/// The gate, and all that waits before it.
pub(crate) struct Gate<W> {
    innermost: Section,
    known: HashMap<Section, Known>,
    last: u32,
    /// What goes before all else: the beginnings of sections, and what their ends lead to.
    first: VecDeque<Waiting<W>>,
    queue: VecDeque<Waiting<W>>,
}

impl<W> Default for Gate<W> {
    fn default() -> Self {
        Self {
            innermost: Section::ROOT,
            known: HashMap::new(),
            last: 0,
            first: VecDeque::new(),
            queue: VecDeque::new(),
        }
    }
}

impl<W> Gate<W> {
    /// Puts work of a section at the end.
    pub(crate) fn push(&mut self, of: Section, work: W) {
        self.queue.push_back(Waiting { of, begins: None, work });
    }

    /// Puts work of a section before all that waits for its turn.
    pub(crate) fn push_first(&mut self, of: Section, work: W) {
        self.first.push_back(Waiting { of, begins: None, work });
    }

    /// Has a section begin within another, as soon as that one is the innermost and has no other: with this work, before anything else.
    /// `None`: they lie too deep in each other.
    pub(crate) fn begin(&mut self, within: Section, work: impl FnOnce(Section) -> W) -> Option<Section> {
        let within = self.open(within);
        let depth = self.known.get(&within).map_or(0, |known| known.depth) + 1;
        if depth > DEPTH {
            return None;
        }
        self.last += 1;
        let section = Section(self.last);
        self.known.insert(section, Known { parent: within, depth, ended: false });
        self.first.push_back(Waiting { of: within, begins: Some(section), work: work(section) });
        Some(section)
    }

    /// Ends a section; the one that is around it is the innermost then, even if others are open in this one.
    pub(crate) fn end(&mut self, section: Section) {
        let Some(known) = self.known.get_mut(&section) else { return };
        known.ended = true;
        self.innermost = self.open(self.innermost);
        if self.known.values().all(|known| known.ended) {
            // Everything belongs to the root then, as what is not known does.
            self.known.clear();
        }
    }

    /// Takes the next work that may run now, with the section that it runs in.
    pub(crate) fn next(&mut self) -> Option<(Section, W)> {
        let innermost = self.innermost;
        let known = &self.known;
        let admitted = |waiting: &Waiting<W>| open(known, waiting.of) == innermost;
        if let Some(at) = self.first.iter().position(admitted) {
            let Waiting { begins, work, .. } = self.first.remove(at)?;
            self.innermost = begins.unwrap_or(innermost);
            return Some((self.innermost, work));
        }
        let at = self.queue.iter().position(admitted)?;
        Some((innermost, self.queue.remove(at)?.work))
    }

    /// Whether `next` would give something.
    pub(crate) fn is_ready(&self) -> bool {
        let admitted = |waiting: &Waiting<W>| self.open(waiting.of) == self.innermost;
        self.first.iter().any(admitted) || self.queue.iter().any(admitted)
    }

    /// How much waits.
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.queue.len()
    }

    /// Whether nothing waits and no section is open.
    pub(crate) fn is_idle(&self) -> bool {
        self.len() == 0 && self.innermost == Section::ROOT
    }

    /// The innermost that is still open of this section and those around it.
    fn open(&self, section: Section) -> Section {
        open(&self.known, section)
    }
}

fn open(known: &HashMap<Section, Known>, mut section: Section) -> Section {
    while section != Section::ROOT {
        match known.get(&section) {
            Some(known) if known.ended => section = known.parent,
            Some(_) => return section,
            None => return Section::ROOT,
        }
    }
    section
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drained(gate: &mut Gate<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| gate.next().map(|(_, work)| work)).collect()
    }

    #[test]
    fn without_sections_work_runs_in_its_order() {
        let mut gate = Gate::default();
        gate.push(Section::ROOT, "a");
        gate.push(Section::ROOT, "b");
        assert_eq!(drained(&mut gate), ["a", "b"]);
        assert!(gate.is_idle());
    }

    #[test]
    fn a_section_goes_first_and_others_wait_for_its_end() {
        let mut gate = Gate::default();
        gate.push(Section::ROOT, "event");
        let section = gate.begin(Section::ROOT, |_| "begin").unwrap();
        assert_eq!(drained(&mut gate), ["begin"]);
        gate.push(Section::ROOT, "older work");
        gate.push(section, "its own");
        assert_eq!(drained(&mut gate), ["its own"]);
        gate.end(section);
        gate.push(section, "left behind");
        gate.push_first(Section::ROOT, "what the end leads to");
        assert_eq!(drained(&mut gate), ["what the end leads to", "event", "older work", "left behind"]);
    }

    #[test]
    fn sections_of_one_parent_follow_each_other_and_inner_ones_go_before_outer() {
        let mut gate = Gate::default();
        let one = gate.begin(Section::ROOT, |_| "one").unwrap();
        let two = gate.begin(Section::ROOT, |_| "two").unwrap();
        assert_eq!(drained(&mut gate), ["one"]);
        let inner = gate.begin(one, |_| "inner").unwrap();
        gate.push(one, "of one");
        assert_eq!(drained(&mut gate), ["inner"]);
        gate.end(inner);
        assert_eq!(drained(&mut gate), ["of one"]);
        gate.end(one);
        assert_eq!(drained(&mut gate), ["two"]);
        gate.end(two);
        assert!(gate.is_idle());
    }

    #[test]
    fn a_section_may_end_before_those_in_it() {
        let mut gate = Gate::default();
        let outer = gate.begin(Section::ROOT, |_| "outer").unwrap();
        gate.next();
        let inner = gate.begin(outer, |_| "inner").unwrap();
        gate.next();
        gate.end(outer);
        gate.push(Section::ROOT, "event");
        gate.push(inner, "of inner");
        assert_eq!(drained(&mut gate), ["of inner"]);
        gate.end(inner);
        assert_eq!(drained(&mut gate), ["event"]);
    }

    #[test]
    fn depth_is_bounded() {
        let mut gate = Gate::default();
        let mut within = Section::ROOT;
        for _ in 0..DEPTH {
            within = gate.begin(within, |_| "deeper").unwrap();
            gate.next();
        }
        assert!(gate.begin(within, |_| "too deep").is_none());
    }

    proptest! {
        /// Whatever happens: what runs belongs to the innermost open section, all that waits runs once sections have ended, once.
        #[test]
        fn only_the_innermost_runs_and_nothing_is_lost(steps in proptest::collection::vec((0..5_u8, any::<prop::sample::Index>()), 0..60)) {
            let mut gate = Gate::default();
            let (mut open, mut made, mut pushed, mut ran) = (vec![Section::ROOT], vec![Section::ROOT], 0, 0);
            for (step, index) in steps {
                let section = made[index.index(made.len())];
                match step {
                    0 => { gate.push(section, None); pushed += 1; }
                    1 => { gate.push_first(section, None); pushed += 1; }
                    2 => if let Some(begun) = gate.begin(section, Some) { made.push(begun); pushed += 1; },
                    3 if open.len() > 1 => gate.end(open.pop().unwrap()),
                    _ => if let Some((section, work)) = gate.next() {
                        ran += 1;
                        if let Some(begun) = work {
                            open.push(begun);
                        }
                        prop_assert_eq!(section, *open.last().unwrap());
                    },
                }
                prop_assert_eq!(gate.len(), pushed - ran);
            }
            for _ in 0..1000 {
                match gate.next() {
                    Some((_, work)) => { ran += 1; open.extend(work); }
                    None if open.len() > 1 => gate.end(open.pop().unwrap()),
                    None => break,
                }
            }
            prop_assert_eq!(pushed, ran);
            prop_assert!(gate.is_idle());
        }
    }
}
