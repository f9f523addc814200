//! The error message and the exit code of a failed command.

use std::io;
use std::process::ExitCode;

use anyhow::Error;

/// Something did not work.
const FAILED: u8 = 1;
/// The input is wrong; the same code as clap's own for a wrong command line.
const BAD_INPUT: u8 = 2;

/// Marks an error as caused by the input: a file, a name, an option.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadInput(pub(crate) String);

/// An error that was reported already, by a program that was called.
#[derive(Debug, thiserror::Error)]
#[error("it was reported")]
pub(crate) struct AlreadyReported;

/// An error of the input, with all its causes in one line.
pub(crate) fn bad_input(error: impl Into<Error>) -> Error {
    BadInput(format!("{:#}", error.into())).into()
}

/// Writes to standard error why a command failed, and returns its exit code.
pub(crate) fn exit_code(outcome: Result<(), Error>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if is_broken_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    if error.is::<AlreadyReported>() {
        return ExitCode::from(FAILED);
    }
    match error.downcast_ref::<BadInput>() {
        Some(BadInput(text)) => {
            crate::output::note!("{text}");
            ExitCode::from(BAD_INPUT)
        }
        None => {
            crate::output::note!("error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// The reader of our output has closed the pipe (`berth containers list | head -1`).
fn is_broken_pipe(error: &Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
