//! One thread of a script process: takes events from its socket one after the other, runs them and due timers in its isolate,
//! and writes what they came to in one go.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::rc::Rc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::machine::Machine;
use super::outbox::Outbox;
use crate::isolate::{Host, Isolate, Web};
use crate::message::{Effect, Event, Inbound};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

/// How long a thread does nothing before it collects garbage, in microseconds.
const IDLE_US: u64 = 1_000_000;

/// Memory that an isolate may leave behind when it goes, in bytes. With more the process ends, and the system takes it back.
const LEFT_BEHIND_BYTES: usize = 4 << 20;

/// Runs on a socket that does not block, until the edge closes it, which ends the process.
pub(super) fn run(socket: File, web: Web) -> ! {
    if let Err(error) = Lane::new(socket, web).work() {
        // A message that is none, or a socket that fails: there is no going on.
        panic!("a thread's socket: {error}");
    }
    std::process::exit(0);
}

struct Lane {
    socket: Rc<File>,
    web: Web,
    machine: Rc<Machine>,
    outbox: Rc<Outbox>,
    inbound: Inbound<Event>,
    isolate: Option<Isolate>,
    /// Whether something ran since garbage was last collected.
    used: bool,
}

impl Lane {
    fn new(socket: File, web: Web) -> Self {
        let socket = Rc::new(socket);
        let outbox = Rc::new(Outbox::new(Rc::clone(&socket)));
        let machine = Rc::new(Machine::new(Rc::clone(&outbox)));
        Self { socket, web, machine, outbox, inbound: Inbound::default(), isolate: None, used: false }
    }

    fn work(&mut self) -> std::io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            self.outbox.flush()?;
            self.wait()?;
            match (&*self.socket).read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => self.inbound.extend(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
            while let Some(event) = self.inbound.next_message().map_err(std::io::Error::other)? {
                self.take(event);
            }
            self.run_due();
        }
    }

    /// Waits for the socket or the next timer. With nothing to do, collects garbage once.
    fn wait(&mut self) -> std::io::Result<()> {
        let now_us = self.machine.monotonic_us();
        let due_us = self.isolate.as_ref().and_then(Isolate::next_due_us);
        let idle_us = self.used.then(|| now_us + IDLE_US);
        let until_us = due_us.into_iter().chain(idle_us).min();
        let ready = self.poll(until_us.map(|until| until.saturating_sub(now_us)))?;
        if !ready && self.used && due_us.is_none_or(|due| due > self.machine.monotonic_us()) {
            self.used = false;
            self.isolate.iter_mut().for_each(Isolate::collect);
        }
        self.machine.rest();
        Ok(())
    }

    /// Waits for the socket, at most so long; whether it can be read.
    fn poll(&self, wait_us: Option<u64>) -> std::io::Result<bool> {
        // Rounded up: a timer is never early.
        let wait = wait_us.map(|us| i32::try_from(us.div_ceil(1000)).unwrap_or(i32::MAX));
        let timeout =
            wait.map_or(PollTimeout::NONE, |ms| PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX));
        let mut files = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut files, timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(nix::Error::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Ping(number) => return self.outbox.push(&Effect::Pong(number)),
            Event::Load(load) => {
                self.let_go();
                let host: Rc<dyn Host> = Rc::clone(&self.machine) as Rc<dyn Host>;
                let (isolate, effects) = Isolate::load(*load, host, self.web);
                self.isolate = isolate;
                effects.iter().for_each(|effect| self.outbox.push(effect));
                // Until it knows, the edge is more patient; what comes next may be a native that does not return.
                self.outbox.flush_some();
            }
            // After an isolate is lost, events may be under way that were sent before the edge knew.
            event => {
                if let Some(isolate) = &mut self.isolate {
                    isolate.deliver(event);
                }
            }
        }
        self.used = true;
        self.tell();
    }

    fn run_due(&mut self) {
        let due = self.isolate.as_ref().and_then(Isolate::next_due_us);
        if due.is_some_and(|due| due <= self.machine.monotonic_us()) {
            self.used = true;
            self.isolate.iter_mut().for_each(Isolate::run_due);
            self.tell();
        }
    }

    /// Hands over what there is to tell; lets a lost isolate go.
    fn tell(&mut self) {
        let Some(isolate) = &mut self.isolate else { return };
        isolate.take_effects().iter().for_each(|effect| self.outbox.push(effect));
        if isolate.condemned().is_some() {
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        let left = self.isolate.take().map_or(0, Isolate::end);
        assert!(left <= LEFT_BEHIND_BYTES, "an isolate left {left} bytes behind");
    }
}
