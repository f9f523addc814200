//! The rules of terms and of the loss of nodes, each of which can be taken away: the promises must then be found broken.

/// A rule that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A term counts from when the node receives it, not from the node's stamp.
    TermFromReceipt,
    /// A start is judged by the page alone, not by the term that it names.
    StartWithoutTerm,
    /// So is a resume.
    ResumeWithoutTerm,
    /// The edge gives a node up at the end of the term, without the margin.
    NoMargin,
    /// Neither supervisor nor shim freezes.
    NobodyFreezes,
    /// A renewal thaws.
    RenewalThaws,
    /// Whatever a node has frozen is resumed.
    StrangersResumed,
    /// A node's account that lacks the instance ends it, also while its start may be on its way.
    AbsenceIsEnd,
    /// Nodes obey calls of sessions that were superseded.
    OldWordsObeyed,
    /// The agent gives what it finds a whole term when it starts anew.
    AgentForgets,
    /// Moments of different boots are taken for moments of one clock.
    BootsAlike,
    /// A new process takes what it does not reach for gone.
    NextProcessWaitsForNothing,
    /// An edge that ends gives long terms without having written that.
    WindowNotWritten,
    /// An edge that ends again gives shorter terms, and only they are written.
    EarlierWindowForgotten,
    /// Long terms do not allow for clocks that are slow.
    LongTermsAsGiven,
    /// What was to be sent to a lost node is still sent.
    LostOrdersKept,
    /// A lost node gets terms before the loss was carried out.
    PromisedWhileLost,
    /// A node is told to forget before the end is durable.
    ForgetBeforeDurable,
    /// What a node measured of an instance that was given up is not written.
    TruthIgnored,
    /// It is written beside the estimate.
    TruthBesideEstimate,
    /// A renewal that comes too late is refused, and not told the time. `outages` shows what comes of it.
    LateRenewalUnanswered,
    /// What is frozen is killed after some time of that, whether or not its edge was heard of.
    KeptFromTheFreeze,
}

impl Flaw {
    /// Those that break a promise whatever else happens.
    pub(crate) const ALL: [Self; 21] = [
        Self::TermFromReceipt,
        Self::StartWithoutTerm,
        Self::ResumeWithoutTerm,
        Self::NoMargin,
        Self::NobodyFreezes,
        Self::RenewalThaws,
        Self::StrangersResumed,
        Self::AbsenceIsEnd,
        Self::OldWordsObeyed,
        Self::AgentForgets,
        Self::BootsAlike,
        Self::NextProcessWaitsForNothing,
        Self::WindowNotWritten,
        Self::EarlierWindowForgotten,
        Self::LongTermsAsGiven,
        Self::LostOrdersKept,
        Self::PromisedWhileLost,
        Self::ForgetBeforeDurable,
        Self::TruthIgnored,
        Self::TruthBesideEstimate,
        Self::KeptFromTheFreeze,
    ];
}
