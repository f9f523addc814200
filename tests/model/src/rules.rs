//! The lengths of the design, the bounds of the search, and the rules that can be taken away.

/// Lengths and bounds. Times are in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How long an instance is in service after its node's stamp.
    pub term: i8,
    /// How long an edge may give terms after the store has last confirmed it.
    pub licence: i8,
    /// How much longer than that an edge waits before it takes an instance for frozen.
    pub margin: i8,
    /// A node may freeze up to one tick less than this too late: its clock and the freeze together.
    pub late: i8,
    /// A node may freeze this much too early.
    pub early: i8,
    /// The term that an edge gives before it ends on purpose. It tells the store first. 0: it gives none.
    pub window: i8,
    /// Who comes after the first edge.
    pub succession: Succession,
    /// Whether the instance runs from the start; else there is none yet.
    pub placed: bool,
    /// Whether an edge hears of, and gives terms to, a node also while the instance is on the other, as real edges do.
    pub all_nodes: bool,
    /// How often each node may start anew.
    pub boots: u8,
    /// Messages under way, at most.
    pub messages: usize,
    /// Sessions of an edge with each node, at most.
    pub sessions: [u8; 2],
    /// Generations of the object, at most.
    pub generations: u8,
    /// The rule that is missing, if any.
    pub flaw: Option<Flaw>,
}

/// Who comes after the first edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Succession {
    /// Nobody: there is one edge, which lives.
    Nobody,
    /// Its next process, once the one before has ended.
    NextProcess,
    /// Another edge, once the store says that the first is gone. It may live on, and know nothing of that.
    OtherEdge,
}

/// A rule that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A term counts from when the node receives it, not from the node's stamp.
    TermFromReceipt,
    /// A start is judged by the page alone, not by the term that it names.
    StartWithoutTerm,
    /// So is a resume.
    ResumeWithoutTerm,
    /// The edge gives a node up at the end of the term, without the margin.
    NoMargin,
    /// A renewal thaws.
    RenewalThaws,
    /// Whatever a node still has is resumed.
    StrangersResumed,
    /// A node's account that lacks the instance ends it, also while its start may be on its way.
    AbsenceIsEnd,
    /// Nodes obey words that are older than the newest that they know.
    OldWordsObeyed,
    /// The agent forgets words and terms when it starts anew, and gives what it finds a whole term.
    AgentForgets,
    /// A new process takes what it does not reach for gone.
    NextProcessWaitsForNothing,
    /// An edge that ends gives long terms without having told the store.
    WindowNotWritten,
    /// Who takes over waits for a term, not for the licence before it.
    NoWaitForLicence,
    /// An edge gives terms without a licence.
    NoLicence,
}

impl Flaw {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::TermFromReceipt,
        Self::StartWithoutTerm,
        Self::ResumeWithoutTerm,
        Self::NoMargin,
        Self::RenewalThaws,
        Self::StrangersResumed,
        Self::AbsenceIsEnd,
        Self::OldWordsObeyed,
        Self::AgentForgets,
        Self::NextProcessWaitsForNothing,
        Self::WindowNotWritten,
        Self::NoWaitForLicence,
        Self::NoLicence,
    ];
}

impl Rules {
    /// One edge that lives.
    pub const ONE_EDGE: Self = Self {
        term: 1,
        licence: 0,
        margin: 1,
        late: 1,
        early: 1,
        window: 0,
        succession: Succession::Nobody,
        placed: true,
        all_nodes: true,
        boots: 0,
        messages: 2,
        sessions: [2, 2],
        generations: 2,
        flaw: None,
    };

    /// The same with this rule missing.
    pub fn without(self, flaw: Flaw) -> Self {
        Self { flaw: Some(flaw), ..self }
    }

    pub(crate) fn lacks(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    pub(crate) fn margin(&self) -> i8 {
        if self.lacks(Flaw::NoMargin) { 0 } else { self.margin }
    }

    /// How long a predecessor can have given terms, seen from a take-over.
    pub(crate) fn longest_term_of_predecessor(&self) -> i8 {
        if self.lacks(Flaw::NoWaitForLicence) { self.term } else { self.licence + self.term }
    }

    /// The ticks left to a moment that is over for all purposes.
    pub(crate) fn over(&self) -> i8 {
        -self.late.max(self.margin)
    }

    /// The ticks left to a stamp from which no term can be given any more.
    pub(crate) fn oldest_stamp(&self) -> i8 {
        self.over() - self.term.max(self.window)
    }
}
