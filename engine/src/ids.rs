//! Names of what is under way between the engine and its shell, each used once in the life of an engine.

/// One request's claim on a running instance. Drawn by the engine, never twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HoldId(pub u64);

/// One write to the store. Drawn by the engine, never twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersistId(pub u64);

/// One request that waits for an instance. Drawn by the shell, never twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId(pub u64);
