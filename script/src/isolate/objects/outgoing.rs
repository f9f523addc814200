//! The output gate of one object: what leaves it waits, in its order, until all that was written before is durable. Does not know
//! what leaves.

use std::collections::VecDeque;

/// The numbers of an object's commits, and what waits for them.
pub(crate) struct Outgoing<T> {
    /// The last commit that was sent.
    sent: u64,
    /// The last that is durable.
    durable: u64,
    /// The commit that must be durable before anything leaves now.
    wanted: u64,
    held: VecDeque<(u64, T)>,
}

impl<T> Default for Outgoing<T> {
    fn default() -> Self {
        Self { sent: 0, durable: 0, wanted: 0, held: VecDeque::new() }
    }
}

impl<T> Outgoing<T> {
    /// Something was written that the next commit has, and for which what leaves from now on waits.
    pub(crate) fn written(&mut self) {
        self.wanted = self.sent + 1;
    }

    /// Takes what leaves; gives it back if it need not wait.
    pub(crate) fn pass(&mut self, what: T) -> Option<T> {
        if self.held.is_empty() && self.wanted <= self.durable {
            return Some(what);
        }
        self.held.push_back((self.wanted, what));
        None
    }

    /// The number of the commit that is sent now.
    pub(crate) fn send(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// There was nothing to commit after all: what waited for the next one waits for the last.
    pub(crate) fn nothing_sent(&mut self) {
        self.wanted = self.wanted.min(self.sent);
        for (wanted, _) in &mut self.held {
            *wanted = (*wanted).min(self.sent);
        }
    }

    /// The commit that has all that is written; with `unsent`, what has not been sent is in the next one.
    pub(crate) fn newest(&self, unsent: bool) -> u64 {
        self.sent + u64::from(unsent)
    }

    /// The last commit that is durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    /// All up to this commit is durable. One that was not sent is not believed.
    pub(crate) fn committed(&mut self, sequence: u64) {
        if sequence <= self.sent {
            self.durable = self.durable.max(sequence);
        }
    }

    /// The next that need not wait any more.
    pub(crate) fn next(&mut self) -> Option<T> {
        let (wanted, _) = self.held.front()?;
        if *wanted > self.durable { None } else { self.held.pop_front().map(|(_, what)| what) }
    }

    /// Takes all that waits, never to leave.
    pub(crate) fn take(&mut self) -> Vec<T> {
        self.held.drain(..).map(|(_, what)| what).collect()
    }

    /// Whether all is durable, and nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.durable == self.sent
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn left(outgoing: &mut Outgoing<u32>) -> Vec<u32> {
        std::iter::from_fn(|| outgoing.next()).collect()
    }

    #[test]
    fn without_writes_nothing_waits() {
        let mut outgoing = Outgoing::default();
        assert_eq!(outgoing.pass(1), Some(1));
    }

    #[test]
    fn what_leaves_after_a_write_waits_for_its_commit_and_for_what_is_before_it() {
        let mut outgoing = Outgoing::default();
        outgoing.written();
        assert_eq!(outgoing.pass(1), None);
        assert_eq!(outgoing.send(), 1);
        assert_eq!(outgoing.pass(2), None);
        outgoing.written();
        assert_eq!(outgoing.pass(3), None);
        assert_eq!(outgoing.send(), 2);
        assert!(left(&mut outgoing).is_empty());
        outgoing.committed(9);
        assert!(left(&mut outgoing).is_empty());
        outgoing.committed(1);
        assert_eq!(left(&mut outgoing), [1, 2]);
        outgoing.committed(2);
        assert_eq!(left(&mut outgoing), [3]);
        assert_eq!(outgoing.pass(4), Some(4));
        assert!(outgoing.is_idle());
    }

    #[test]
    fn what_waited_for_nothing_leaves() {
        let mut outgoing = Outgoing::default();
        outgoing.written();
        assert_eq!(outgoing.pass(1), None);
        outgoing.nothing_sent();
        assert_eq!(left(&mut outgoing), [1]);
    }

    proptest! {
        /// Everything leaves once, in its order, and nothing before the commit of what was written before it.
        #[test]
        fn order_is_kept_and_nothing_leaves_too_early(steps in proptest::collection::vec(0..4_u8, 0..80)) {
            let mut outgoing = Outgoing::default();
            let (mut next, mut unsent, mut sent, mut durable) = (0_u64, false, 0, 0);
            let (mut needs, mut gone) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    0 => { outgoing.written(); unsent = true; }
                    1 => {
                        needs.push(sent + u64::from(unsent));
                        gone.extend(outgoing.pass(next));
                        next += 1;
                    }
                    2 if unsent => { sent = outgoing.send(); unsent = false; }
                    _ => {
                        durable = (durable + 1).min(sent);
                        outgoing.committed(durable);
                        gone.extend(std::iter::from_fn(|| outgoing.next()));
                    }
                }
                prop_assert!(gone.iter().enumerate().all(|(at, what)| at as u64 == *what));
                prop_assert!(gone.iter().all(|what| needs[usize::try_from(*what).unwrap()] <= durable));
            }
            if unsent { sent = outgoing.send(); }
            outgoing.committed(sent);
            gone.extend(std::iter::from_fn(|| outgoing.next()));
            prop_assert_eq!(gone.len() as u64, next);
        }
    }
}
