//! The keys that steer `berth dev` on a terminal: `r` rebuilds, `q` leaves.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};
use tokio::sync::mpsc;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// Packs the images again, and ends the containers of what they replace.
    Rebuild,
    /// Ends everything.
    Quit,
}

/// Keys that wait to be handled: more than that were pressed by mistake or impatience, and are dropped.
const QUEUE: usize = 4;

/// The keyboard, which gives each key at once until this is dropped. Without a terminal there are no keys.
pub(crate) struct Keys(Option<Terminal>);

struct Terminal {
    tty: File,
    before: Termios,
    keys: mpsc::Receiver<u8>,
}

impl Keys {
    pub(crate) fn open() -> Self {
        Self(io::stdin().is_terminal().then(|| Terminal::open().ok()).flatten())
    }

    /// Whether there are any.
    pub(crate) fn are_there(&self) -> bool {
        self.0.is_some()
    }

    /// Waits for the next key with a meaning.
    pub(crate) async fn next(&mut self) -> Key {
        let Some(terminal) = &mut self.0 else { return std::future::pending().await };
        loop {
            match terminal.keys.recv().await {
                Some(b'r' | b'R') => return Key::Rebuild,
                Some(b'q' | b'Q') => return Key::Quit,
                Some(_) => {}
                // The terminal is gone; SIGHUP reports that as well.
                None => return std::future::pending().await,
            }
        }
    }
}

impl Terminal {
    fn open() -> io::Result<Self> {
        let tty = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        if tcgetpgrp(&tty)? != getpgrp() {
            // A background process that changes the terminal's settings is stopped by SIGTTOU.
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let before = tcgetattr(&tty)?;
        let mut set = before.clone();
        // Keys arrive one by one and are not echoed; Ctrl-C still sends a signal.
        set.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        tcsetattr(&tty, SetArg::TCSANOW, &set)?;
        let (sender, keys) = mpsc::channel(QUEUE);
        let terminal = Self { before, keys, tty: tty.try_clone()? };
        // A read cannot be cancelled, so it has a thread of its own, which ends with the process.
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || read(tty, &sender))?;
        Ok(terminal)
    }
}

fn read(mut tty: File, keys: &mpsc::Sender<u8>) {
    let mut key = [0];
    while tty.read_exact(&mut key).is_ok() && !keys.is_closed() {
        // If the queue is full, the key is dropped.
        let _ = keys.try_send(key[0]);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // An error means that the terminal is gone: there is nothing to restore.
        let _ = tcsetattr(&self.tty, SetArg::TCSANOW, &self.before);
    }
}
