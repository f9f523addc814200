//! Asks for a line on a terminal, with echo or without. Echo is restored in every case.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// A terminal without echo until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> nix::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        quiet.local_flags.insert(LocalFlags::ECHONL);
        // Discards what was typed before the question.
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // An error means that the terminal is gone: there is nothing to restore.
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// The line that is typed, without its newline. Without one, the error says what was not done (`undone`).
pub(crate) async fn ask(question: &str, undone: &str) -> Result<Vec<u8>> {
    // From here on an interrupt ends the question and not the process, which would leave the terminal without echo.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let hidden = Hidden::begin().context("the terminal cannot be kept from showing the value")?;
    crate::output::question(question);
    io::stderr().flush()?;
    let (sender, receiver) = oneshot::channel();
    // A thread of its own, because a read of standard input cannot be cancelled; it ends with the process.
    std::thread::Builder::new().name("prompt".to_owned()).spawn(move || {
        let mut line = Vec::new();
        let read = io::stdin().lock().read_until(b'\n', &mut line);
        // After an interrupt the receiver is gone.
        drop(sender.send(read.map(|_| line)));
    })?;
    let line = tokio::select! {
        line = receiver => line.context("standard input")??,
        _ = interrupts.recv() => {
            drop(hidden);
            crate::output::remark("");
            bail!("interrupted; {undone}");
        }
    };
    drop(hidden);
    let mut line = line;
    strip_newline(&mut line);
    ensure!(!line.is_empty(), "nothing was typed, and {undone}");
    Ok(line)
}

/// A line that is typed, which is shown; `None` without a terminal.
pub(crate) async fn line(question: &str) -> Option<Result<String>> {
    if !io::stdin().is_terminal() {
        return None;
    }
    crate::output::question(question);
    let (sender, receiver) = oneshot::channel();
    // As above: it ends with the process.
    let asking = std::thread::Builder::new().name("prompt".to_owned()).spawn(move || {
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        drop(sender.send(read.map(|_| line)));
    });
    Some(match asking {
        Ok(_) => receiver.await.context("standard input").and_then(|line| Ok(line?)),
        Err(error) => Err(error.into()),
    })
}

/// Removes the line ending that editors, shells and terminals add.
pub(crate) fn strip_newline(value: &mut Vec<u8>) {
    if value.pop_if(|last| *last == b'\n').is_some() {
        value.pop_if(|last| *last == b'\r');
    }
}
