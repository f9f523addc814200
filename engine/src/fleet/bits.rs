//! Sets of nodes, a bit each.

/// A set of small numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn set(&mut self, index: usize, is_in: bool) {
        let (word, bit) = (index / 64, 1u64 << (index % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        if is_in { self.0[word] |= bit } else { self.0[word] &= !bit }
    }

    pub(super) fn has(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// Becomes what is in the first two sets and in the third, if there is one, but not in any of the others. In one pass,
    /// since every choice does this.
    pub(super) fn fill(
        &mut self,
        [first, second]: [&Self; 2],
        third: Option<&Self>,
        without: [Option<&Self>; 3],
    ) {
        self.0.clear();
        let word =
            |bits: Option<&Self>, index: usize| bits.and_then(|bits| bits.0.get(index)).copied().unwrap_or(0);
        for (index, (first, second)) in first.0.iter().zip(&second.0).enumerate() {
            let third = if third.is_some() { word(third, index) } else { u64::MAX };
            let without = without.iter().fold(0, |all, bits| all | word(*bits, index));
            self.0.push(first & second & third & !without);
        }
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own |= other);
    }

    /// Keeps what is in the other set as well.
    pub(super) fn keep(&mut self, other: &Self) {
        self.0.truncate(other.0.len());
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own &= other);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The number in the set that has so many smaller ones in it.
    pub(super) fn nth(&self, mut smaller: usize) -> Option<usize> {
        for (index, word) in self.0.iter().enumerate() {
            let ones = word.count_ones() as usize;
            if smaller < ones {
                let rest = (0..smaller).fold(*word, |rest, _| rest & (rest - 1));
                return Some(index * 64 + rest.trailing_zeros() as usize);
            }
            smaller -= ones;
        }
        None
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        let ones = |(index, word): (usize, &u64)| {
            let base = index * 64;
            std::iter::successors(Some(*word), |rest| Some(rest & rest.wrapping_sub(1)))
                .take_while(|rest| *rest != 0)
                .map(move |rest| base + rest.trailing_zeros() as usize)
        };
        self.0.iter().enumerate().flat_map(ones)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_what_was_put_into_them() {
        let members = [0, 3, 63, 64, 130, 999];
        let mut bits = Bits::default();
        members.iter().for_each(|member| bits.set(*member, true));
        bits.set(5, true);
        bits.set(5, false);
        assert_eq!(bits.iter().collect::<Vec<_>>(), members);
        assert_eq!(bits.count(), members.len());
        let by_place: Vec<_> = (0..7).map(|place| bits.nth(place)).collect();
        assert_eq!(by_place, [Some(0), Some(3), Some(63), Some(64), Some(130), Some(999), None]);
        assert!(bits.has(130) && !bits.has(131) && !bits.has(100_000));
    }

    #[test]
    fn sets_of_unlike_lengths_go_together() {
        let of = |members: &[usize]| {
            let mut bits = Bits::default();
            members.iter().for_each(|member| bits.set(*member, true));
            bits
        };
        let mut kept = of(&[1, 2, 200]);
        kept.keep(&of(&[2, 3]));
        assert_eq!(kept.iter().collect::<Vec<_>>(), [2]);
        let mut rest = of(&[7, 900]);
        rest.fill(
            [&of(&[1, 2, 3, 70]), &of(&[1, 2, 3])],
            Some(&of(&[1, 3, 300])),
            [None, Some(&of(&[3, 300])), None],
        );
        assert_eq!(rest.iter().collect::<Vec<_>>(), [1]);
        rest.add_all(&of(&[300]));
        assert_eq!(rest.iter().collect::<Vec<_>>(), [1, 300]);
        rest.keep(&Bits::default());
        assert!(rest.is_empty());
    }
}
