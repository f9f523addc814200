//! An isolate: one app's code in an interpreter of its own, with limits. Takes events, gives effects; what it needs of time and
//! chance is given to it. Knows the web classes only as a function that makes them.
//!
//! ```text
//! load ──▶ running ──(memory refused, or an event's CPU time used up by what it left behind)──▶ condemned
//!   └────▶ LoadFailed
//! ```
//!
//! Everything that runs is a *turn*: one event, completion, piece or timer, and then all jobs that it made ready. A turn belongs
//! to the call that caused it, whose CPU time it uses up. A condemned isolate does nothing any more, and is dropped.

mod abandon;
mod bodies;
mod convert;
mod glue;
mod heap;
mod host;
mod limits;
mod loopback;
mod modules;
mod natives;
mod objects;
mod ops;
mod running;
mod sockets;
mod state;
#[cfg(test)]
mod tests;
mod thrown;
mod timers;
mod values;

use std::rc::Rc;

use rquickjs::{Context, Ctx, Object, Persistent, Result as JsResult, Runtime, Value};

use self::heap::{Heap, Meter};
use self::limits::{AFTERMATH_US, Guard, STACK_BYTES, Stopped, TOLD_US, TURNS_AT_ONCE};
use self::loopback::is_local_body;
use self::state::{Scope, State};
use crate::message::{
    Argument, BodyRef, Condemned, Effect, Event, EventId, HostBody, Load, LoadFailed, OpId, Outcome, Piece,
    Response, ScriptBody, ScriptError, Target,
};

pub use self::host::Host;

/// Makes the web classes over the internal object `host`, and gives the table of functions that an isolate calls.
pub type Web = for<'js> fn(&Ctx<'js>, Object<'js>) -> JsResult<Object<'js>>;

/// What a call fails with that has used up its CPU time.
pub const CPU_EXCEEDED: &str = "Worker exceeded CPU time limit.";

/// An app's code, running.
pub struct Isolate {
    state: Rc<State>,
    meter: Rc<Meter>,
    context: Context,
    runtime: Runtime,
    condemned: Option<Condemned>,
}

impl Isolate {
    /// Runs the top level of an app's modules. The effects begin with the log lines of that, and end with what came of it.
    pub fn load(load: Load, host: Rc<dyn Host>, web: Web) -> (Option<Self>, Vec<Effect>) {
        match Self::bare(&load, host) {
            Ok(isolate) => isolate.start(load, web),
            Err(_) => (None, vec![Effect::LoadFailed(*without_place(no_memory()))]),
        }
    }

    /// An interpreter without anything in it.
    fn bare(load: &Load, host: Rc<dyn Host>) -> JsResult<Self> {
        let meter = Meter::new(usize::try_from(load.limits.memory_bytes).unwrap_or(usize::MAX));
        let runtime = Runtime::new_with_alloc(Heap(Rc::clone(&meter)))?;
        runtime.set_max_stack_size(STACK_BYTES);
        let guard = Guard::new(Rc::clone(&meter), Rc::clone(&host));
        let asked = Rc::clone(&guard);
        runtime.set_interrupt_handler(Some(Box::new(move || asked.must_stop())));
        let context = Context::full(&runtime)?;
        let state = State::new(host, guard, load.limits);
        let tracked = Rc::downgrade(&state);
        runtime.set_host_promise_rejection_tracker(Some(Box::new(move |ctx, promise, reason, handled| {
            if let Some(state) = tracked.upgrade() {
                track(&ctx, &state, &promise, &reason, handled);
            }
        })));
        Ok(Self { state, meter, context, runtime, condemned: None })
    }

    fn start(self, load: Load, web: Web) -> (Option<Self>, Vec<Effect>) {
        self.state.guard.allow(u64::from(load.limits.startup_ms) * 1000);
        let begun_us = self.state.host.cpu_us();
        let loaded = glue::load(&self.context, &self.runtime, &self.state, load, web);
        self.state.used(None, self.state.host.cpu_us().saturating_sub(begun_us));
        let mut effects = self.state.take_effects();
        let outcome = match (self.state.guard.stopped(), loaded) {
            (Some(Stopped::Memory), _) => Err(without_place(no_memory())),
            (Some(Stopped::Cpu), _) => {
                Err(without_place(ScriptError::new("Error", "Script startup exceeded CPU time limit.")))
            }
            (None, loaded) => loaded,
        };
        match outcome {
            Ok(loaded) => {
                self.state.guard.in_turn.set(true);
                effects.push(Effect::Loaded(loaded));
                (Some(self), effects)
            }
            Err(failed) => {
                effects.push(Effect::Used(self.state.untold_us.take().max(1)));
                effects.push(Effect::LoadFailed(*failed));
                (None, effects)
            }
        }
    }

    /// Whether this isolate is lost.
    pub fn condemned(&self) -> Option<Condemned> {
        self.condemned
    }

    /// Bytes of memory in use.
    pub fn memory_bytes(&self) -> usize {
        self.meter.used()
    }

    /// Ends it. The bytes that it could not give back.
    pub fn end(self) -> usize {
        let meter = Rc::clone(&self.meter);
        drop(self);
        meter.used()
    }

    /// Takes what there is to tell the edge.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        self.state.take_effects()
    }

    /// When there is something to run without an event, on the host's monotonic clock: a timer, or what was left for later.
    pub fn next_due_us(&self) -> Option<u64> {
        if self.has_more() {
            return Some(0);
        }
        let timers = self.state.timers.borrow().next_due_us();
        let ends = self.state.ends.borrow().next_due_us();
        let deadlines = self.state.deadlines.borrow().next_due_us();
        timers.into_iter().chain(ends).chain(deadlines).min()
    }

    /// Whether objects may go on that have not.
    fn has_more(&self) -> bool {
        self.condemned.is_none()
            && (!self.state.loopback.borrow().is_empty()
                || !self.state.later.borrow().is_empty()
                || self.state.sockets.borrow().is_ready()
                || self.state.objects.borrow().is_ready())
    }

    /// Collects garbage; for when there is nothing else to do.
    pub fn collect(&mut self) {
        self.counted(|isolate| isolate.runtime.run_gc());
    }

    /// Carries out an event, and what it leads to in here. `Load` and `Ping` are not for the isolate.
    pub fn deliver(&mut self, event: Event) {
        self.counted(|isolate| {
            isolate.carry_out(event);
            isolate.go_on_inside();
        });
    }

    /// Counts the CPU time of what is not a turn, and tells what long calls have used: they do not end soon.
    fn counted(&mut self, run: impl FnOnce(&mut Self)) {
        let begun_us = self.state.host.cpu_us();
        let turns_us = self.state.turns_us.replace(0);
        debug_assert_eq!(turns_us, 0, "nothing is counted within what is counted");
        run(self);
        let all_us = self.state.host.cpu_us().saturating_sub(begun_us);
        self.state.used(None, all_us.saturating_sub(self.state.turns_us.take()));
        if self.state.untold_us.get() >= TOLD_US && self.condemned.is_none() {
            self.state.tell(Effect::Used(self.state.untold_us.take()));
        }
    }

    fn carry_out(&mut self, event: Event) {
        match event {
            Event::Fetch { event, target: Target::Worker, request } => {
                self.begin(event, true, move |ctx, state| {
                    let (head, body) = convert::request(ctx, state, event, *request)?;
                    let args = (convert::number(event.0), head, body);
                    ops::call_glue(ctx, state, "fetch", args).map(drop)
                });
            }
            Event::Fetch { .. } | Event::Rpc { .. } | Event::Alarm { .. } => self.call_object(event),
            Event::Scheduled { event, cron, time_ms } => self.begin(event, false, move |ctx, state| {
                let args = (convert::number(event.0), cron, convert::number(time_ms));
                ops::call_glue(ctx, state, "scheduled", args).map(drop)
            }),
            Event::Aborted(event) => self.abort(event),
            Event::Completed { op, outcome } => self.complete(op, outcome),
            Event::Returned { op, outcome } => self.returned(op, outcome),
            Event::Body(body, piece) => self.piece(body, piece),
            Event::Credit(body, bytes) => self.credit(body, bytes),
            Event::Cancelled(body) => self.unread(body),
            Event::Opened(object, opened) => self.opened(object, opened),
            Event::Committed(object, sequence) => self.committed(object, sequence),
            Event::CommitFailed(object, _) => self.commit_failed(object),
            Event::Drop(object, why) => self.drop_object(object, why),
            Event::Rest { idle_ms } => self.drop_resting(idle_ms),
            Event::Container(object, change) => self.container_changed(object, change),
            Event::Socket(made, given) => self.plugged(made, given),
            Event::Load(_) | Event::Ping(_) => {}
        }
    }

    /// Runs what events have led to between objects, as much as is run at once.
    fn go_on_inside(&mut self) {
        for _ in 0..TURNS_AT_ONCE {
            if self.condemned.is_some() {
                return;
            }
            let coming = self.state.loopback.borrow_mut().next();
            if let Some(event) = coming {
                self.carry_out(event);
                continue;
            }
            let heard = self.state.sockets.borrow_mut().next_ready();
            if let Some((number, scope)) = heard {
                self.go_on(Some(scope), move |ctx, state| sockets::hear(ctx, state, number));
                continue;
            }
            let later = self.state.later.borrow_mut().pop_front();
            if let Some((scope, run)) = later {
                self.go_on(Some(scope), move |ctx, _| run.restore(ctx)?.call(()));
                continue;
            }
            let next = self.state.objects.borrow_mut().next();
            let Some((instance, section, event, run)) = next else {
                // What has left by now may have been all that a call was waiting for.
                self.end_done();
                if self.state.loopback.borrow().is_empty() {
                    return;
                }
                continue;
            };
            self.turn(Scope { event, place: Some((instance, section)) }, run);
        }
    }

    /// Runs the timers that are due, and what was left for later.
    pub fn run_due(&mut self) {
        self.counted(Self::run_all_due);
    }

    fn run_all_due(&mut self) {
        let now_us = self.state.host.monotonic_us();
        let before = self.state.timers.borrow().next_id();
        while self.condemned.is_none() {
            let due = self.state.timers.borrow_mut().take_due(now_us, before);
            let Some(timer) = due else { break };
            self.go_on(Some(timer.scope), |ctx, _| timer.call.restore(ctx)?.call(()));
        }
        self.end_overdue(now_us);
        self.end_late_objects(now_us);
        self.go_on_inside();
    }

    /// Ends calls whose time to wait for more is over.
    fn end_overdue(&mut self, now_us: u64) {
        loop {
            let overdue = self.state.ends.borrow_mut().take_due(now_us, u64::MAX);
            let Some(event) = overdue else { return };
            let text = "waitUntil() tasks did not complete within the allowed time after invocation end and have been \
                cancelled.";
            self.state.log(Some(event), crate::message::Level::Warn, text.to_owned());
            self.end_call(event);
        }
    }

    fn begin(
        &mut self,
        event: EventId,
        answers: bool,
        run: impl for<'js> FnOnce(&Ctx<'js>, &State) -> JsResult<()>,
    ) {
        self.state.calls.borrow_mut().begin(event, answers);
        self.state.calls.borrow_mut().change(event, |call| call.worker = true);
        self.turn(Scope { event, place: None }, run);
    }

    /// Nobody waits for a call's answer any more. One of the worker's own ends with that, but for the promises that it wants to have
    /// waited for, and what it asked of objects in here is not wanted any more. Others go on for a while: those of objects, and those
    /// with WebSockets, which end by themselves.
    fn abort(&mut self, event: EventId) {
        let alone = self.state.calls.borrow_mut().get(event).map(|call| call.worker);
        let Some(alone) = alone else { return };
        self.state.end_in_time(event);
        if self.state.calls.borrow().is_before_its_beginning(event) {
            // It takes no second place before the gate of its object.
            self.state.calls.borrow_mut().change(event, |call| call.aborted = true);
        } else {
            let number = convert::number(event.0);
            self.go_on(Some(self.state.scope_of(event)), move |ctx, state| ops::abort(ctx, state, number));
        }
        if alone && !self.state.sockets.borrow().has(event) {
            self.state.calls.borrow_mut().change(event, |call| call.gone = true);
            self.end_done();
        }
    }

    fn complete(&mut self, op: OpId, outcome: Outcome) {
        let completed = self.state.take_op(op);
        // Its call may have ended meanwhile.
        let Some(op) = completed else { return self.refuse_body(outcome.as_ref().ok()) };
        self.go_on(Some(op.scope), move |ctx, state| match outcome {
            Ok(response) => op.settle.come_to(ctx, convert::response(ctx, state, op.scope.event, response)),
            Err(error) => op.settle.reject_with(ctx, thrown::caught(ctx, state, &error)?),
        });
    }

    fn returned(&mut self, op: OpId, outcome: Result<Argument, ScriptError>) {
        let completed = self.state.take_op(op);
        let Some(op) = completed else {
            if let Ok(Argument::Response(response)) = &outcome {
                self.refuse_body(Some(response));
            }
            return;
        };
        self.go_on(Some(op.scope), move |ctx, state| match outcome {
            Ok(value) => op.settle.come_to(ctx, convert::argument(ctx, state, op.scope.event, value)),
            Err(error) => op.settle.reject_with(ctx, thrown::caught(ctx, state, &error)?),
        });
    }

    /// Nobody reads the body that came from another call in here, if the response has one.
    fn refuse_body(&mut self, response: Option<&Response>) {
        if let Some(BodyRef::Host(body)) = response.map(|response| &response.body)
            && (is_local_body(*body) || self.state.bodies.borrow_mut().give_back(*body))
        {
            self.state.release(Effect::Cancelled(*body));
        }
    }

    /// A WebSocket that was given away has another side now.
    fn plugged(&mut self, made: ScriptBody, given: HostBody) {
        let lent = self.state.bodies.borrow().calls_of(made);
        let calls = |event| if lent.is_empty() { vec![event] } else { lent };
        let came = self.state.sockets.borrow_mut().plugged(made, given, calls);
        for call in self.state.sockets.borrow().calls_of(given) {
            self.state.calls.borrow_mut().change(call, |call| call.bodies = call.bodies.saturating_add(1));
        }
        self.came(came);
    }

    /// Tells the edge what has come of something that came over a WebSocket.
    fn came(&self, came: sockets::Came) {
        if let Some(effect) = came.effect {
            self.state.push_from(came.scope.and_then(Scope::instance), effect);
        }
    }

    fn piece(&mut self, body: HostBody, piece: Piece) {
        let came = self.state.sockets.borrow_mut().piece(body, &piece);
        if let Some(came) = came {
            self.came(came);
            return self.state.weigh();
        }
        let waiting = self.state.bodies.borrow_mut().piece(body, piece);
        let Some(settle) = waiting else { return };
        self.go_on(settle.scope, move |ctx, state| {
            let read = state.bodies.borrow_mut().read(body);
            let Ok((Some(read), credit)) = read else { return Ok(()) };
            credit.into_iter().for_each(|credit| state.push(credit));
            natives::hand_over(ctx, settle, read)
        });
    }

    fn credit(&mut self, body: ScriptBody, bytes: u32) {
        let event = self.state.bodies.borrow().event_of(body);
        let Some(event) = event else { return };
        let mut sent = self.state.bodies.borrow_mut().credit(body, bytes);
        let written = std::mem::take(&mut sent.written);
        let from = self.state.instance_of(event);
        sent.effects.into_iter().for_each(|effect| self.state.push_from(from, effect));
        for settle in written {
            self.go_on(settle.scope, |ctx, _| settle.resolve(ctx, rquickjs::Undefined));
        }
        if let Some(event) = sent.ended {
            self.body_ended(event);
        }
    }

    /// One body less is made by a call, which may be done by that.
    fn body_ended(&mut self, event: EventId) {
        self.state.calls.borrow_mut().change(event, |call| call.bodies = call.bodies.saturating_sub(1));
        self.end_done();
    }

    fn unread(&mut self, body: ScriptBody) {
        let hears = self.state.sockets.borrow_mut().unread(body);
        if let Some(event) = hears {
            self.state.calls.borrow_mut().change(event, |call| call.bodies = call.bodies.saturating_add(1));
        }
        let unread = self.state.bodies.borrow_mut().unread(body);
        let Some((event, writers)) = unread else { return };
        self.state.push_from(self.state.instance_of(event), Effect::Body(body, Piece::End));
        for settle in writers {
            self.go_on(settle.scope, |ctx, _| {
                let text = "The readable side was closed: nobody reads this body any more.";
                settle.reject(ctx, &ScriptError::new("TypeError", text))
            });
        }
        self.body_ended(event);
    }

    /// Goes on with something, in an object as soon as its gate lets that pass.
    fn go_on(
        &mut self,
        scope: Option<Scope>,
        run: impl for<'js> FnOnce(&Ctx<'js>, &State) -> JsResult<()> + 'static,
    ) {
        let Some(scope) = scope else { return };
        match scope.place {
            None if self.state.calls.borrow_mut().get(scope.event).is_none() => {}
            None => self.turn(scope, run),
            Some((instance, section)) => {
                self.state.objects.borrow_mut().enqueue(instance, section, scope.event, Box::new(run));
            }
        }
    }

    /// Runs something of a call, and all jobs that become ready by it.
    fn turn(&mut self, scope: Scope, run: impl for<'js> FnOnce(&Ctx<'js>, &State) -> JsResult<()>) {
        if self.condemned.is_some() {
            return;
        }
        let state = Rc::clone(&self.state);
        let event = scope.event;
        let used = state.calls.borrow_mut().get(event).map(|call| call.cpu_us);
        let limit_us = u64::from(state.limits.cpu_ms) * 1000;
        let begun_us = state.host.cpu_us();
        state.guard.allow(limit_us.saturating_sub(used.unwrap_or(0)));
        state.current.set(Some(scope));
        self.context.with(|ctx| {
            let entered = ops::set_event(&ctx, &state, convert::number(event.0));
            if entered.and_then(|()| run(&ctx, &state)).is_err() {
                let thrown = ctx.catch();
                if state.guard.stopped().is_none() {
                    natives::uncaught(&ctx, &state, Some(event), "Uncaught", &thrown);
                }
            }
            drain(&ctx, &state);
        });
        let cpu_us = state.host.cpu_us().saturating_sub(begun_us);
        state.calls.borrow_mut().change(event, |call| call.cpu_us += cpu_us);
        state.turns_us.set(state.turns_us.get() + cpu_us);
        state.used(Some(event), cpu_us);
        self.judge(scope);
        self.reset_doomed();
        self.commit_written();
        self.end_done();
        state.current.set(None);
    }

    /// What a turn has come to, if the interpreter had to be stopped.
    fn judge(&mut self, scope: Scope) {
        match self.state.guard.stopped() {
            None => {}
            Some(Stopped::Memory) => self.condemn(Condemned::Memory),
            Some(Stopped::Cpu) => self.over_time(scope),
        }
    }

    /// Fails a call that has used up its CPU time. If what it left behind does not come to an end, the isolate is lost.
    fn over_time(&mut self, scope: Scope) {
        if let Some(instance) = scope.instance() {
            self.doom(instance, ScriptError::new("Error", CPU_EXCEEDED));
            self.reset_doomed();
        } else {
            let event = scope.event;
            let failed = self.state.calls.borrow_mut().get(event).is_some_and(|call| !call.settled);
            if failed {
                self.state.push(Effect::Failed(event, ScriptError::new("Error", CPU_EXCEEDED)));
            }
            self.end_call(event);
        }
        self.state.guard.allow(AFTERMATH_US);
        let state = Rc::clone(&self.state);
        self.context.with(|ctx| drain(&ctx, &state));
        match self.state.guard.stopped() {
            None => {}
            Some(Stopped::Memory) => self.condemn(Condemned::Memory),
            Some(Stopped::Cpu) => self.condemn(Condemned::Cpu),
        }
    }

    fn condemn(&mut self, why: Condemned) {
        self.condemned = Some(why);
        let untold_us = self.state.untold_us.take() + self.state.calls.borrow_mut().take_untold();
        if untold_us > 0 {
            self.state.tell(Effect::Used(untold_us));
        }
        // No gate holds it back: what waits there is lost as well.
        self.state.tell(Effect::Condemned(why));
    }

    /// Ends a call whatever it waits for.
    fn end_call(&mut self, event: EventId) {
        let ended = self.state.calls.borrow_mut().end(event);
        if let Some(call) = ended {
            self.done(event, &call);
        }
    }

    /// Forgets a call, and tells of its end.
    fn done(&self, event: EventId, call: &running::Call) {
        self.state.forget(event);
        let life = call.instance.and_then(|instance| self.state.objects.borrow().life_of(instance));
        let cpu_us = call.untold_us + self.state.take_untold(life);
        self.state.push_from(call.instance, Effect::Done { event, cpu_us });
        self.context.with(|ctx| {
            if ops::call_glue(&ctx, &self.state, "done", (convert::number(event.0),)).is_err() {
                ctx.catch();
            }
        });
    }

    /// Tells the edge of calls that are done, and gives those that only wait for something a moment to end at.
    pub(in crate::isolate) fn end_done(&mut self) {
        if self.condemned.is_some() {
            return;
        }
        let changed = self.state.calls.borrow_mut().take_changed();
        for (event, done) in changed {
            if let Some(call) = done {
                self.done(event, &call);
            } else if self.state.calls.borrow_mut().get(event).is_some_and(|call| call.only_waits()) {
                self.state.end_in_time(event);
            }
        }
    }
}

impl Drop for Isolate {
    fn drop(&mut self) {
        // The runtime must outlive all that holds its objects.
        self.state.clear();
    }
}

/// Runs the jobs that are ready, until there are none or the interpreter is stopped.
fn run_jobs(ctx: &Ctx<'_>, state: &State) {
    while state.guard.stopped().is_none() && ctx.execute_pending_job() {}
}

/// Runs the jobs that are ready, and logs rejections that nobody took care of.
fn drain(ctx: &Ctx<'_>, state: &State) {
    run_jobs(ctx, state);
    let rejections = state.rejections.take();
    if state.guard.stopped().is_some() {
        return;
    }
    for (_, reason) in rejections {
        if let Ok(reason) = reason.restore(ctx) {
            let event = state.current.get().map(|scope| scope.event);
            natives::uncaught(ctx, state, event, "Uncaught (in promise)", &reason);
        }
    }
}

/// Most rejections of one turn that are logged.
const REJECTIONS: usize = limits::LOG_LINES as usize;

fn track<'js>(ctx: &Ctx<'js>, state: &State, promise: &Value<'js>, reason: &Value<'js>, handled: bool) {
    let mut rejections = state.rejections.borrow_mut();
    if !handled {
        if rejections.len() < REJECTIONS {
            let save = |value: &Value<'js>| Persistent::save(ctx, value.clone());
            rejections.push((save(promise), save(reason)));
        }
        return;
    }
    let taken_care_of = |saved: &Persistent<Value<'static>>| {
        saved.clone().restore(ctx).is_ok_and(|saved: Value<'js>| saved == *promise)
    };
    if let Some(at) = rejections.iter().position(|(saved, _)| taken_care_of(saved)) {
        let handled = rejections.swap_remove(at);
        drop(rejections);
        drop(handled);
    }
}

fn no_memory() -> ScriptError {
    ScriptError::new("Error", "Worker exceeded memory limit.")
}

fn without_place(error: ScriptError) -> Box<LoadFailed> {
    Box::new(LoadFailed { error, module: None, line: None, column: None })
}
