//! Numbers that name things within one link. Whoever makes a thing counts it up; none is used twice.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);
    };
}

id! {
    /// One call of a handler. Given by the edge.
    EventId
}
id! {
    /// Something that a script has asked of the edge. Given by the script.
    OpId
}
id! {
    /// A body whose bytes the edge has, which a script may read or pass on. Given by the edge.
    HostBody
}
id! {
    /// A body whose bytes a script makes. Given by the script.
    ScriptBody
}
