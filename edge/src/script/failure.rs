//! Why a call of a script came to nothing, in words that clients and logs get.

use std::time::Duration;

use berth_script::message::{Condemned, ErrorFlags, LoadFailed, ScriptError};

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    /// The handler threw, or came to nothing else that is an answer.
    #[error("{0}")]
    Script(ScriptError),
    /// The app's modules cannot be run.
    #[error("{}", .0.error)]
    Load(Box<LoadFailed>),
    /// What it ran in has ended.
    #[error("{0}")]
    Ended(Ended),
    /// It ended too often, and is not started again yet.
    #[error("The app's script ended too often, and is started again in {} s.", .0.as_secs().max(1))]
    BackOff(Duration),
    /// Too much waits already.
    #[error("Durable Object is overloaded. Too many requests queued.")]
    Overloaded,
    /// No process could be started.
    #[error("The app's script could not be started: {0}")]
    Start(String),
}

impl Failure {
    /// As another script is told of it, which has called this one.
    pub(super) fn into_error(self) -> ScriptError {
        let flags = match &self {
            Self::Script(error) => return error.clone(),
            Self::Overloaded => ErrorFlags { overloaded: true, ..ErrorFlags::default() },
            Self::Ended(_) => ErrorFlags { reset: true, retryable: true, ..ErrorFlags::default() },
            Self::Load(_) | Self::BackOff(_) | Self::Start(_) => ErrorFlags::default(),
        };
        ScriptError::new("Error", self.to_string()).with(flags)
    }
}

/// How what scripts run in came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ended {
    /// More memory than it may have.
    #[error("Durable Object's isolate exceeded its memory limit and was reset.")]
    Memory,
    /// More CPU time than an event may use.
    #[error("Worker exceeded CPU time limit.")]
    Cpu,
    /// The process is gone.
    #[error("The script's process ended unexpectedly, and all that it was doing with it.")]
    Died,
    /// No sign of life.
    #[error("The script's process did not react, and was ended.")]
    Silent,
    /// It said what it cannot have to say.
    #[error("The script's process broke its protocol, and was ended.")]
    Lied,
    /// The version is not run any more.
    #[error("Durable Object reset because its code was updated.")]
    Retired,
}

impl From<Condemned> for Ended {
    fn from(condemned: Condemned) -> Self {
        match condemned {
            Condemned::Memory => Self::Memory,
            Condemned::Cpu => Self::Cpu,
        }
    }
}
