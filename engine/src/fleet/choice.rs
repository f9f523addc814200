//! The choice of a node.
//!
//! ```text
//!  all nodes ─▶ connected, not draining, not refused ─▶ constraints ─▶ the last node, if it is as good as any
//!                                                                    │
//!               heard of, steady, not full by its own account first, then all│
//!                 where the fewest of the class are, if it spreads    │
//!                   image held and near ... not held and far          ▼
//!                     two at random with room ─▶ the one with the larger free share
//! ```
//!
//! Two at random, and not the best of all: several edges that choose at the same time do not all choose the same one.

use std::collections::BTreeMap;

use super::bits::Bits;
use super::demand::Demand;
use super::dice::Dice;
use super::distance::BANDS;
use super::nodes::Nodes;

/// How many nodes are drawn before all are looked at, to find two with room.
const DRAWS: usize = 8;

/// Image and distance together, the best first: whether the image is held, and the band. To fetch it costs as much as one
/// band more, but less than two.
const ORDER: [(bool, usize); 2 * BANDS] = [
    (true, 0),
    (true, 1),
    (false, 0),
    (true, 2),
    (false, 1),
    (true, 3),
    (false, 2),
    (true, 4),
    (false, 3),
    (false, 4),
];

/// How a node was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) node: usize,
    /// It had the object's last instance.
    pub(super) is_last: bool,
    /// The other one that was drawn.
    pub(super) other: Option<usize>,
}

/// How many instances of a class are on each node.
pub(super) type OnNodes = BTreeMap<usize, u32>;

/// One choice.
pub(super) struct Choice<'a> {
    pub(super) nodes: &'a Nodes,
    pub(super) demand: &'a Demand,
    /// Those that take instances and meet the constraints.
    pub(super) candidates: &'a Bits,
}

impl Choice<'_> {
    /// Chooses, if any candidate has room. `levels`: parts of the candidates, those first that are to be taken first.
    pub(super) fn make(&self, levels: &[Bits], dice: &mut Dice) -> Option<Chosen> {
        if let Some(node) = self.last_node() {
            return Some(Chosen { node, is_last: true, other: None });
        }
        let mut group = Bits::default();
        for is_last_resort in [false, true] {
            for level in levels {
                for (holds, band) in ORDER {
                    if self.fill(&mut group, level, holds, band, is_last_resort)
                        && let Some(chosen) = self.of_two(&group, is_last_resort, dice)
                    {
                        return Some(chosen);
                    }
                }
            }
        }
        None
    }

    /// The node of the object's last instance, where nothing speaks against it.
    fn last_node(&self) -> Option<usize> {
        let number = self.nodes.number(self.demand.last_node.as_ref()?)?;
        let holds = self.nodes.holders(&self.demand.image).is_some_and(|holders| holders.has(number));
        let is_steady = !self.nodes.unsteady.has(number) && !self.nodes.silent.has(number);
        let is_good = self.demand.spread.is_none() && holds && is_steady && self.candidates.has(number);
        (is_good && self.fits(number, false)).then_some(number)
    }

    /// Makes `group` the nodes of a level with the image or without, in this band; false if there are none.
    fn fill(&self, group: &mut Bits, level: &Bits, holds: bool, band: usize, is_last_resort: bool) -> bool {
        let holders = self.nodes.holders(&self.demand.image);
        if holds && holders.is_none() {
            return false;
        }
        let (with, without) = if holds { (holders, None) } else { (None, holders) };
        let better = |worse| (!is_last_resort).then_some(worse);
        let (unsteady, silent) = (better(&self.nodes.unsteady), better(&self.nodes.silent));
        group.fill([&self.nodes.bands[band], level], with, [without, unsteady, silent]);
        !group.is_empty()
    }

    /// Whether a node has room, and one more may start there now. One that says that it has no room is a last resort: what it says
    /// may be old.
    fn fits(&self, number: usize, is_last_resort: bool) -> bool {
        let (node, wanted) = (self.nodes.get(number), &self.demand.resources);
        let is_sure = is_last_resort || !node.says_that_it_is_full(wanted);
        is_sure && node.has_turn(&self.demand.class.0) && node.lacks(wanted).is_none()
    }

    fn of_two(&self, group: &Bits, is_last_resort: bool, dice: &mut Dice) -> Option<Chosen> {
        let [first, second] = self.draw(group, is_last_resort, dice);
        let first = first?;
        let Some(second) = second else {
            return Some(Chosen { node: first, is_last: false, other: None });
        };
        let (one, two) = (self.nodes.get(first), self.nodes.get(second));
        let order = two.free_share().total_cmp(&one.free_share()).then_with(|| one.id.cmp(&two.id));
        let (node, other) = if order.is_gt() { (second, first) } else { (first, second) };
        Some(Chosen { node, is_last: false, other: Some(other) })
    }

    /// Two nodes with room, at random; one, if no second is found soon; none, if there is none.
    fn draw(&self, group: &Bits, is_last_resort: bool, dice: &mut Dice) -> [Option<usize>; 2] {
        let count = group.count();
        let mut found = [None; 2];
        if count > DRAWS {
            for _ in 0..DRAWS {
                let drawn = group.nth(dice.below(count));
                let Some(number) = drawn.filter(|_| drawn != found[0]) else { continue };
                if !self.fits(number, is_last_resort) {
                    continue;
                }
                let place = usize::from(found[0].is_some());
                found[place] = drawn;
                if place == 1 {
                    return found;
                }
            }
        }
        if found[0].is_some() { found } else { self.draw_of_all(group, is_last_resort, dice) }
    }

    /// The same by looking at all: each that has room is as likely to be one of the two.
    fn draw_of_all(&self, group: &Bits, is_last_resort: bool, dice: &mut Dice) -> [Option<usize>; 2] {
        let mut found = [None; 2];
        let fitting = group.iter().filter(|number| self.fits(*number, is_last_resort));
        for (seen, number) in fitting.enumerate() {
            let place = if seen < 2 { seen } else { dice.below(seen + 1) };
            if let Some(place) = found.get_mut(place) {
                *place = Some(number);
            }
        }
        found
    }
}

/// The candidates in parts, those first that have the fewest instances.
pub(super) fn levels_of_nodes(candidates: &Bits, on: &OnNodes) -> Vec<Bits> {
    let mut without = candidates.clone();
    let mut levels = BTreeMap::<u32, Bits>::new();
    for (number, count) in on.iter().filter(|(number, _)| candidates.has(**number)) {
        without.set(*number, false);
        levels.entry(*count).or_default().set(*number, true);
    }
    std::iter::once(without).chain(levels.into_values()).collect()
}

/// The same, where all nodes of a region count as one.
pub(super) fn levels_of_regions(
    candidates: &Bits,
    regions: impl Iterator<Item = Bits>,
    on: &OnNodes,
) -> Vec<Bits> {
    let mut levels = BTreeMap::<u32, Bits>::new();
    for mut region in regions {
        let count = on.iter().filter(|(number, _)| region.has(**number)).map(|(_, count)| count).sum();
        region.keep(candidates);
        levels.entry(count).or_default().add_all(&region);
    }
    levels.into_values().collect()
}
