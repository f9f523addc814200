//! A model of terms and fences: who may have an instance of one object in service, when messages are lost or late and
//! clocks are wrong. `stateright` visits every state that can come about within the bounds of [`Rules`]; the tests hold
//! the design to its promises in all of them, and find what breaks once a rule is taken away.
//!
//! ```text
//!                         store: fence, record (none, or a generation on a node), promised windows
//!                           ▲ each write names the writer's fence, and does nothing if that is not the newest
//!        first edge ────────┴──────── second edge        a successor: it may take the object over, under a higher fence
//!          │   ▲                        │   ▲
//!    Claim, Renew, Start,        Stamp, Account          under way: lost, or late, in any order
//!    Resume, Stop                       │   │
//!          ▼   │                        ▼   │
//!         node 0                       node 1            page: highest word, term
//!
//!  an instance on a node:
//!
//!                 Start, before the term it names is over
//!       none ─────────────────────────────────────────────▶ in service
//!         ▲                                                  │      ▲
//!         │ Stop, reboot                     its term is over │      │ Resume, before the term it names is over
//!         │                                                  ▼      │
//!         └────────────────────────────────────────────── frozen ───┘
//!
//!  its record:
//!                         placed, durable; then Start
//!       none ─────────────────────────────────────────────▶ on a node
//!         ▲                                                  │
//!         └──────────────────────────────────────────────────┘
//!            the node was silent until all terms given to it were over, with the margin; or it said, in a session
//!            later than that of the start, that it has no such instance
//! ```
//!
//! What fails, and what happens then:
//! * A message is lost: the edge opens a new session with the node, which refuses what is left of older ones.
//! * A message is late: the term that it names is a moment of the node's own clock, so it prolongs nothing.
//! * An edge does not reach a node, or the other way around: the node freezes the instance when its term is over, and
//!   the edge gives the node up a margin later, never before.
//! * The node is back: its account is asked for. The instance of the record is resumed, any other is stopped.
//! * An edge ends, or is thought to have ended: its successor adopts what it reaches, and waits for as long as any term
//!   could run that its predecessor has given, or had promised to give.
//! * A node starts anew: nothing runs on it, and no order that was meant for it before takes effect.
//!
//! Modelled: one object; two nodes; one edge whose process ends and returns, or a second edge that takes over while the
//! first may live on; sessions, stamps, terms, licences, the margin; messages lost or late; the freeze, early or late.
//! Time is whole ticks, and goes on for ever. That a node's clock is wrong shows in when it freezes: early by up to
//! [`Rules::early`], late by less than [`Rules::late`], which the margin has to cover.
//!
//! Not modelled: writes whose outcome is unknown; instances that end by themselves; supervisor and shim apart (the
//! freeze is one thing, done in time); streams into an instance (that it is in service stands for them); edges' clocks that
//! disagree (their part is in the margin); more than one take-over; objects handed over by agreement; a third generation.

mod moves;
mod network;
mod rules;
mod steps;
mod world;

pub use moves::Move;
pub use network::Message;
pub use rules::{Flaw, Rules, Succession};
pub use world::World;

#[cfg(test)]
mod tests;
