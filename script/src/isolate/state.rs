//! What an isolate keeps outside its JavaScript: its calls, what it has asked of the edge, timers, effects that wait to be taken.
//! Shared with the natives; nothing here is borrowed while JavaScript runs.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use rquickjs::object::Property;
use rquickjs::{Ctx, Exception, Function, Object, Persistent, Result, Value};

use super::bodies::{Bodies, Forgotten};
use super::host::Host;
use super::limits::{Guard, LOG_LINE_BYTES, LOG_LINES, OUTGOING_BYTES, TOLD_US, WAIT_UNTIL_US, cut};
use super::loopback::{LOST_TEXT, Loopback};
use super::objects::{Deadline, Instance, Objects, Section};
use super::running::Calls;
use super::sockets::Sockets;
use super::timers::Timers;
use crate::message::{Effect, ErrorFlags, EventId, Level, Limits, ObjectClass, OpId, Piece, ScriptError};

/// What something that runs belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The call that it is counted to; in an object, the one that stands for its life.
    pub(crate) event: EventId,
    /// The object, and the critical section in it.
    pub(crate) place: Option<(Instance, Section)>,
}

impl Scope {
    pub(crate) fn instance(self) -> Option<Instance> {
        self.place.map(|(instance, _)| instance)
    }

    /// Its call, and its object and section, as JavaScript may keep them. No instance has the number 0.
    pub(crate) fn numbers(self) -> [u64; 3] {
        let (instance, section) = self.place.unwrap_or((Instance(0), Section::ROOT));
        [self.event.0, instance.0, section.number().into()]
    }

    /// What such numbers say.
    pub(crate) fn of_numbers([event, instance, section]: [u64; 3]) -> Self {
        let section = u32::try_from(section).map_or(Section::ROOT, Section::of_number);
        Self { event: EventId(event), place: (instance > 0).then_some((Instance(instance), section)) }
    }
}

/// What settles a promise.
#[derive(Clone)]
pub(crate) struct Settle {
    /// Where the promise was made: there is gone on.
    pub(crate) scope: Option<Scope>,
    pub(crate) resolve: Persistent<Function<'static>>,
    pub(crate) reject: Persistent<Function<'static>>,
}

impl Settle {
    /// A promise, and what settles it.
    pub(crate) fn new<'js>(ctx: &Ctx<'js>, state: &State) -> Result<(Value<'js>, Self)> {
        let (promise, resolve, reject) = ctx.promise()?;
        let save = |function| Persistent::save(ctx, function);
        let scope = state.current.get();
        Ok((promise.into_value(), Self { scope, resolve: save(resolve), reject: save(reject) }))
    }

    pub(crate) fn resolve<'js>(self, ctx: &Ctx<'js>, value: impl rquickjs::IntoJs<'js>) -> Result<()> {
        self.resolve.restore(ctx)?.call((value,))
    }

    /// Settles with a value, or with what was thrown when it was made.
    pub(crate) fn come_to<'js>(self, ctx: &Ctx<'js>, made: Result<impl rquickjs::IntoJs<'js>>) -> Result<()> {
        match made {
            Ok(value) => self.resolve(ctx, value),
            Err(why) if why.is_exception() => self.reject.restore(ctx)?.call((ctx.catch(),)),
            Err(why) => Err(why),
        }
    }

    /// Rejects with an error of this text.
    pub(crate) fn reject(self, ctx: &Ctx<'_>, error: &ScriptError) -> Result<()> {
        self.reject_with(ctx, error_value(ctx, error)?)
    }

    /// Rejects with this.
    pub(crate) fn reject_with<'js>(self, ctx: &Ctx<'js>, value: Value<'js>) -> Result<()> {
        self.reject.restore(ctx)?.call((value,))
    }
}

/// An error as JavaScript has it, of the global class of its name if there is one of the language.
pub(crate) fn error_value<'js>(ctx: &Ctx<'js>, error: &ScriptError) -> Result<Value<'js>> {
    let message = &error.message;
    let thrown = match error.name.as_str() {
        "TypeError" => Exception::throw_type(ctx, message),
        "RangeError" => Exception::throw_range(ctx, message),
        "SyntaxError" => Exception::throw_syntax(ctx, message),
        "AbortError" | "TimeoutError" => Exception::throw_dom(ctx, &error.name, message),
        _ => Exception::throw_message(ctx, message),
    };
    debug_assert!(thrown.is_exception());
    let value = ctx.catch();
    if let Some(object) = value.as_object() {
        // As in errors that the engine makes, where it is not to be listed.
        object.remove("message")?;
        let text = Property::from(message.as_str()).writable().configurable();
        object.prop("message", text)?;
    }
    flagged(value, error.flags)
}

/// An error with the properties by which programs decide what to do.
pub(crate) fn flagged(value: Value<'_>, flags: ErrorFlags) -> Result<Value<'_>> {
    if let Some(object) = value.as_object() {
        for (name, set) in [
            ("durableObjectReset", flags.reset),
            ("remote", flags.remote),
            ("retryable", flags.retryable),
            ("overloaded", flags.overloaded),
        ] {
            if set {
                let property = Property::from(true).writable().enumerable().configurable();
                object.prop(name, property)?;
            }
        }
    }
    Ok(value)
}

/// Something asked of the edge.
pub(crate) struct Op {
    pub(crate) scope: Scope,
    /// What its request weighs, for the bound on all.
    pub(crate) weight: usize,
    pub(crate) settle: Settle,
}

/// A timer.
pub(crate) struct Timer {
    pub(crate) scope: Scope,
    pub(crate) call: Persistent<Function<'static>>,
}

/// Rejected promises that nobody has taken care of yet, with what they were rejected with.
type Rejections = Vec<(Persistent<Value<'static>>, Persistent<Value<'static>>)>;

pub(crate) struct State {
    pub(crate) host: Rc<dyn Host>,
    pub(crate) guard: Rc<Guard>,
    pub(crate) limits: Limits,
    pub(crate) calls: RefCell<Calls>,
    /// What that belongs to that runs now.
    pub(crate) current: Cell<Option<Scope>>,
    /// The classes whose instances are objects.
    pub(crate) classes: RefCell<Vec<ObjectClass>>,
    pub(crate) objects: RefCell<Objects>,
    pub(crate) loopback: RefCell<Loopback>,
    /// Calls that are done, with their CPU time, but for the ends of bodies that they have passed on.
    pub(crate) almost_done: RefCell<HashMap<EventId, u64>>,
    /// When sections and alarms have taken too long.
    pub(crate) deadlines: RefCell<Timers<Deadline>>,
    pub(crate) ops: RefCell<HashMap<OpId, Op>>,
    pub(crate) last_op: Cell<u64>,
    /// What the requests weigh that wait for an answer.
    pub(crate) ops_weight: Cell<usize>,
    pub(crate) timers: RefCell<Timers<Timer>>,
    /// When calls end whatever they still wait for.
    pub(crate) ends: RefCell<Timers<EventId>>,
    pub(crate) bodies: RefCell<Bodies>,
    pub(crate) sockets: RefCell<Sockets>,
    /// What is to run elsewhere than where it was asked for.
    pub(crate) later: RefCell<VecDeque<(Scope, Persistent<Function<'static>>)>>,
    pub(crate) rejections: RefCell<Rejections>,
    /// The functions of the glue.
    pub(crate) glue: RefCell<Option<Persistent<Object<'static>>>>,
    /// The function of the glue that says whose turn it is: each turn begins with it.
    pub(crate) set_event: RefCell<Option<Persistent<Function<'static>>>>,
    effects: RefCell<Vec<Effect>>,
    /// Bytes of the effects that wait to be taken.
    outgoing: Cell<usize>,
    /// Lines that were written outside calls.
    lines_outside: Cell<u16>,
    /// CPU time that was not told and is no call's that goes on.
    pub(crate) untold_us: Cell<u64>,
    /// CPU time of turns since it was last asked for.
    pub(crate) turns_us: Cell<u64>,
}

impl State {
    pub(crate) fn new(host: Rc<dyn Host>, guard: Rc<Guard>, limits: Limits) -> Rc<Self> {
        Rc::new(Self {
            host,
            guard,
            limits,
            calls: RefCell::default(),
            current: Cell::new(None),
            classes: RefCell::default(),
            objects: RefCell::default(),
            loopback: RefCell::default(),
            almost_done: RefCell::default(),
            deadlines: RefCell::default(),
            ops: RefCell::default(),
            last_op: Cell::new(0),
            ops_weight: Cell::new(0),
            timers: RefCell::default(),
            ends: RefCell::default(),
            bodies: RefCell::default(),
            sockets: RefCell::default(),
            later: RefCell::default(),
            rejections: RefCell::default(),
            glue: RefCell::new(None),
            set_event: RefCell::new(None),
            effects: RefCell::default(),
            outgoing: Cell::new(0),
            lines_outside: Cell::new(0),
            untold_us: Cell::new(0),
            turns_us: Cell::new(0),
        })
    }

    /// The call that what runs now belongs to; outside one nothing may be asked for.
    pub(crate) fn event(&self, ctx: &Ctx<'_>) -> Result<EventId> {
        self.scope(ctx).map(|scope| scope.event)
    }

    /// The same, with the object and the section that it is in.
    pub(crate) fn scope(&self, ctx: &Ctx<'_>) -> Result<Scope> {
        let outside = "Disallowed operation called within global scope. Asynchronous I/O (ex: fetch() or connect()), setting a \
            timeout, and generating random values are not allowed within global scope. To fix this error, perform this \
            operation within a handler.";
        let scope = self.current.get().ok_or_else(|| Exception::throw_message(ctx, outside))?;
        // What a call leaves behind that was stopped may still run for a moment.
        match self.calls.borrow_mut().get(scope.event) {
            Some(_) => Ok(scope),
            None => Err(Exception::throw_message(ctx, "The event has ended.")),
        }
    }

    /// CPU time was used, in a call or outside all. What goes on for long is told before its end.
    pub(crate) fn used(&self, event: Option<EventId>, cpu_us: u64) {
        let mut calls = self.calls.borrow_mut();
        let mut rest = cpu_us;
        if let Some(call) = event.and_then(|event| calls.get(event)) {
            call.untold_us += std::mem::take(&mut rest);
            if call.untold_us >= TOLD_US {
                rest = std::mem::take(&mut call.untold_us);
            }
        }
        self.untold_us.set(self.untold_us.get() + rest);
    }

    /// Takes the CPU time that was not told: of no call's, and of this life.
    pub(crate) fn take_untold(&self, life: Option<EventId>) -> u64 {
        let mut calls = self.calls.borrow_mut();
        let of_life =
            life.and_then(|life| calls.get(life)).map_or(0, |call| std::mem::take(&mut call.untold_us));
        self.untold_us.take() + of_life
    }

    /// What runs from here on is an event of its own: what one may use, it may use. To be called before it has used any.
    pub(crate) fn refresh(&self, scope: Scope) {
        let mut calls = self.calls.borrow_mut();
        match scope.place {
            Some(_) => calls.refresh(scope.event),
            None => calls.change(scope.event, |call| (call.cpu_us, call.pairs) = (0, 0)),
        }
        self.guard.allow(u64::from(self.limits.cpu_ms) * 1000);
    }

    /// Lets something leave, from what runs now. All that a script says goes this way; from an object, through its output gate.
    pub(crate) fn push(&self, effect: Effect) {
        self.push_from(self.current.get().and_then(Scope::instance), effect);
    }

    /// Lets something leave from an object, or, without one, from the worker.
    pub(crate) fn push_from(&self, from: Option<Instance>, effect: Effect) {
        let passed = match from {
            Some(instance) => self.objects.borrow_mut().pass(instance, effect),
            None => Some(effect),
        };
        if let Some(effect) = passed {
            self.release(effect);
        }
    }

    /// Tells the edge something, past all gates.
    pub(crate) fn tell(&self, effect: Effect) {
        self.effects.borrow_mut().push(effect);
    }

    /// The object that a call is of.
    pub(crate) fn instance_of(&self, event: EventId) -> Option<Instance> {
        self.calls.borrow_mut().get(event).and_then(|call| call.instance)
    }

    /// Whether so many further bytes may wait on their way to the edge, with those that already do.
    pub(crate) fn room(&self, ctx: &Ctx<'_>, bytes: usize) -> Result<()> {
        let total = self.outgoing.get() + self.bodies.borrow().unsent_bytes() + bytes;
        if total > OUTGOING_BYTES {
            let text = format!("More than {} MiB of this script are on their way out.", OUTGOING_BYTES >> 20);
            return Err(Exception::throw_range(ctx, &text));
        }
        Ok(())
    }

    /// Counts bytes of an effect until it is taken.
    pub(crate) fn charge(&self, ctx: &Ctx<'_>, bytes: usize) -> Result<()> {
        self.room(ctx, bytes)?;
        self.outgoing.set(self.outgoing.get() + bytes);
        Ok(())
    }

    /// What there is to tell the edge since the last time.
    pub(crate) fn take_effects(&self) -> Vec<Effect> {
        self.outgoing.set(0);
        std::mem::take(&mut self.effects.borrow_mut())
    }

    /// Writes a line to the log, as long as there is room for this call's.
    pub(crate) fn log(&self, event: Option<EventId>, level: Level, text: String) {
        let event = event.filter(|event| self.calls.borrow_mut().get(*event).is_some());
        let lines = {
            let mut calls = self.calls.borrow_mut();
            let call = event.and_then(|event| calls.get(event));
            match call {
                Some(call) => {
                    call.log_lines = call.log_lines.saturating_add(1);
                    call.log_lines
                }
                None => {
                    self.lines_outside.set(self.lines_outside.get().saturating_add(1));
                    self.lines_outside.get()
                }
            }
        };
        if lines < LOG_LINES {
            self.tell(Effect::Log { event, level, text: cut(text, LOG_LINE_BYTES) });
        } else if lines == LOG_LINES {
            let text = format!("further lines are left out: an event may write {LOG_LINES}");
            self.tell(Effect::Log { event, level: Level::Warn, text });
        }
    }

    /// Gives a call a moment at which it ends whatever it waits for, if it has none yet.
    pub(crate) fn end_in_time(&self, event: EventId) {
        let first =
            self.calls.borrow_mut().get(event).is_some_and(|call| !std::mem::replace(&mut call.ends, true));
        if !first {
            return;
        }
        let due_us = self.host.monotonic_us() + WAIT_UNTIL_US;
        self.ends.borrow_mut().set(due_us, event);
    }

    /// Takes out what was asked for, once it has come to something or is not wanted any more.
    pub(crate) fn take_op(&self, op: OpId) -> Option<Op> {
        let op = self.ops.borrow_mut().remove(&op)?;
        self.ops_weight.set(self.ops_weight.get() - op.weight);
        Some(op)
    }

    /// Drops all that belongs to a call that has ended.
    pub(crate) fn forget(&self, event: EventId) {
        // What is dropped may be the last of a JavaScript object; that runs no JavaScript.
        let ended = |(id, op): (&OpId, &Op)| (op.scope.event == event).then_some(*id);
        let ops: Vec<OpId> = self.ops.borrow().iter().filter_map(ended).collect();
        for op in ops {
            drop(self.take_op(op));
            // The edge knows that those of its own end with their call.
            if self.loopback.borrow().asks(op) {
                self.release(Effect::Cancel(op));
            }
        }
        self.timers.borrow_mut().retain(|timer| timer.scope.event != event);
        let later = self.later.take();
        *self.later.borrow_mut() = later.into_iter().filter(|(scope, _)| scope.event != event).collect();
        self.ends.borrow_mut().retain(|other| *other != event);
        let Forgotten { unread, cut, unfinished, returned } = self.bodies.borrow_mut().forget(event);
        unread.into_iter().for_each(|body| self.release(Effect::Cancelled(body)));
        // Of others the edge knows that they end with their call.
        let inside = cut.into_iter().filter(|body| self.loopback.borrow().makes(*body));
        for body in inside.chain(unfinished).collect::<Vec<_>>() {
            self.release(Effect::Body(body, Piece::Failed(LOST_TEXT.to_owned())));
        }
        returned.into_iter().for_each(|body| self.loopback.borrow_mut().returned(body));
        let gone = self.sockets.borrow_mut().forget(event);
        for other in gone.others {
            self.calls.borrow_mut().change(other, |call| call.bodies = call.bodies.saturating_sub(1));
        }
        gone.unheard.into_iter().for_each(|body| self.release(Effect::Cancelled(body)));
    }

    /// Drops all that holds JavaScript objects, before the runtime goes.
    pub(crate) fn clear(&self) {
        self.ops.take();
        self.objects.take();
        self.timers.take();
        self.bodies.take();
        self.sockets.take();
        self.later.take();
        self.rejections.take();
        self.glue.take();
        self.set_event.take();
    }
}
