//! The life of objects: opened, constructed, called, committed, reset, dropped.

use std::collections::HashSet;
use std::rc::Rc;

use serde_bytes::ByteBuf;

use super::container::Container;
use super::{ALARM_US, Admitted, Deadline, Due, Entry, Instance, Objects, Run, SECTION_US, Section};
use crate::isolate::loopback::is_local;
use crate::isolate::state::{Scope, State};
use crate::isolate::{Isolate, convert, ops};
use crate::message::{
    CHANGES_BYTES, Changes, Effect, ErrorFlags, Event, EventId, Object, ObjectId, OpId, Opened, Piece,
    STATE_PIECE_BYTES, ScriptBody, ScriptError, Target,
};

/// What a section fails with that takes too long.
const SECTION_TEXT: &str = "A call to blockConcurrencyWhile() waited for too long. The call was canceled and the Durable Object was \
    reset.";

/// What an object fails with whose changes cannot be made durable.
const COMMIT_TEXT: &str = "Internal error in Durable Object storage write caused object to be reset.";

/// The call that an event of an object begins, and the object.
fn call_of(event: &Event) -> Option<(EventId, &Object)> {
    match event {
        Event::Fetch { event, target: Target::Object(object), .. }
        | Event::Rpc { event, object, .. }
        | Event::Alarm { event, object, .. } => Some((*event, object)),
        _ => None,
    }
}

impl Objects {
    /// Takes bytes of an opening object's state; whether there may be as many.
    fn part(&mut self, id: ObjectId, part: &[u8]) -> bool {
        let Some(Entry::Opening { stored, .. }) = self.entries.get_mut(&id) else { return true };
        let fits = stored.len() + part.len() <= CHANGES_BYTES;
        if fits {
            stored.extend_from_slice(part);
        }
        fits
    }

    /// What waits for an object that was asked for, and what is stored of it. `entry` stands for it from now on.
    fn asked(&mut self, id: ObjectId, entry: Option<Entry>) -> Option<(Object, Vec<u8>, Vec<Event>)> {
        if !matches!(self.entries.get(&id), Some(Entry::Opening { .. })) {
            return None;
        }
        let before = match entry {
            Some(entry) => self.entries.insert(id, entry),
            None => self.entries.remove(&id),
        };
        match before {
            Some(Entry::Opening { object, stored, waiting }) => Some((object, stored, waiting)),
            _ => None,
        }
    }

    /// Objects that have written something since they last committed, and may commit now.
    fn take_written(&mut self) -> Vec<Instance> {
        let live = &self.live;
        let (open, may) = std::mem::take(&mut self.written)
            .into_iter()
            .partition(|one| live.get(one).is_some_and(|live| live.kept.in_transaction()));
        self.written = open;
        may
    }

    /// The object's next commit, if there is anything in it; otherwise what waited for it need not.
    fn commit(&mut self, instance: Instance) -> Option<(ObjectId, u64, Changes)> {
        let live = self.sound(instance)?;
        live.unsent = false;
        let mut changes = live.kept.take_changes();
        let paged = live.sql.as_mut().map_or(Ok(()), |database| database.take_changes(&mut changes));
        // Only now is it known how large the database has become.
        self.weigh(instance);
        if paged.is_err() {
            self.doom(instance, ScriptError::new("Error", COMMIT_TEXT));
        }
        let live = self.sound(instance)?;
        if changes.is_empty() {
            live.out.nothing_sent();
            // Who waited for the next commit waits for the last.
            let last = live.out.newest(false);
            live.syncs.iter_mut().for_each(|(sequence, _)| *sequence = last.min(*sequence));
            return None;
        }
        Some((live.object.id, live.out.send(), changes))
    }
}

impl Isolate {
    /// A call of an object.
    pub(in crate::isolate) fn call_object(&mut self, event: Event) {
        let Some((id, object)) = call_of(&event) else { return };
        let object = object.clone();
        let answers = !matches!(event, Event::Alarm { .. });
        self.state.calls.borrow_mut().begin(id, answers);
        let admitted = self.state.objects.borrow_mut().admit(&object, event);
        match admitted {
            Admitted::Here(instance, event) => self.enter(instance, event),
            Admitted::Asks => self.state.tell(Effect::Open(Box::new(object))),
            Admitted::Waits => {}
            Admitted::Refused(error) => self.refuse(id, error),
        }
    }

    /// Fails a call that has not begun.
    fn refuse(&mut self, event: EventId, error: ScriptError) {
        self.state.release(Effect::Failed(event, error));
        self.end_call(event);
    }

    /// An edge's answer to `Open`.
    pub(in crate::isolate) fn opened(&mut self, id: ObjectId, opened: Opened) {
        match opened {
            Opened::Part(part) => {
                if !self.state.objects.borrow_mut().part(id, &part) {
                    self.not_opened(id, &ScriptError::new("Error", "The object keeps more than it may."));
                }
            }
            Opened::Whole { life, rest, running } => self.construct(id, life, &rest, running),
            Opened::Elsewhere => {
                let asked = self.state.objects.borrow_mut().asked(id, Some(Entry::Elsewhere));
                for event in asked.into_iter().flat_map(|(_, _, waiting)| waiting) {
                    self.send_on(event);
                }
            }
            Opened::Failed(error) => self.not_opened(id, &error),
        }
    }

    /// A call that waited for an object that is elsewhere: one of this isolate goes there.
    fn send_on(&mut self, event: Event) {
        let Some((id, _)) = call_of(&event) else { return };
        if is_local(id) {
            self.state.calls.borrow_mut().end(id);
            self.state.send_on(event);
        } else {
            self.refuse(id, ScriptError::new("Error", "Durable Object is not on this thread."));
        }
    }

    fn not_opened(&mut self, id: ObjectId, error: &ScriptError) {
        let asked = self.state.objects.borrow_mut().asked(id, None);
        for event in asked.into_iter().flat_map(|(_, _, waiting)| waiting) {
            if let Some((event, _)) = call_of(&event) {
                self.refuse(event, error.clone());
            }
        }
    }

    fn construct(&mut self, id: ObjectId, life: EventId, rest: &[u8], running: bool) {
        let fits = self.state.objects.borrow_mut().part(id, rest);
        let asked = self.state.objects.borrow_mut().asked(id, None);
        let Some((object, stored, waiting)) = asked else { return };
        let stored = if fits { Changes::from_bytes(&stored).ok() } else { None };
        let stored = stored.and_then(|mut stored| {
            let pages = super::sql::image_of(std::mem::take(&mut stored.pages))?;
            Some((stored, pages))
        });
        let broken = stored.is_none();
        let (stored, pages) = stored.unwrap_or_default();
        let kept = super::kept::Kept::of(stored);
        let contained = self.state.has_container(&object.class);
        let container = contained.then(|| Container::new(running));
        let instance = self.state.objects.borrow_mut().begin(
            object.clone(),
            life,
            (kept, pages),
            container,
            self.state.host.monotonic_us(),
        );
        self.state.calls.borrow_mut().begin_life(life, instance);
        self.state.weigh();
        if broken {
            let text = "What is stored of the Durable Object cannot be read.";
            self.state.objects.borrow_mut().doom(instance, ScriptError::new("Error", text));
        }
        self.state.enqueue(instance, life, move |ctx, state| {
            let number = convert::number(instance.0);
            let args = (number, object.class, object.id.to_string(), object.name);
            if ops::call_glue(ctx, state, "construct", args).is_err() {
                let error = convert::error(ctx, state, &ctx.catch());
                state.objects.borrow_mut().doom(instance, error);
            }
            Ok(())
        });
        waiting.into_iter().for_each(|event| self.enter(instance, event));
        self.reset_doomed();
    }

    /// Has an object's handler called, as soon as its gate lets that pass.
    fn enter(&mut self, instance: Instance, event: Event) {
        let Some((id, _)) = call_of(&event) else { return };
        // It may have been ended while it waited.
        let waits =
            self.state.calls.borrow_mut().get(id).map(|call| call.instance = Some(instance)).is_some();
        let now_us = self.state.host.monotonic_us();
        let life = self.state.objects.borrow_mut().live.get_mut(&instance).map(|live| {
            live.used_us = now_us;
            live.life
        });
        let Some(life) = life.filter(|_| waits) else { return };
        self.state.enqueue(instance, life, move |ctx, state| {
            let begun = state.calls.borrow_mut().get(id).map(|call| {
                call.begun = true;
                call.aborted
            });
            let Some(aborted) = begun else { return Ok(()) };
            state.refresh(Scope { event: life, place: Some((instance, Section::ROOT)) });
            let (number, event_number) = (convert::number(instance.0), convert::number(id.0));
            match event {
                Event::Fetch { request, .. } => {
                    let (head, body) = convert::request(ctx, state, id, *request)?;
                    ops::call_glue(ctx, state, "objectFetch", (number, event_number, head, body))?;
                }
                Event::Rpc { method, args, .. } => {
                    let args = convert::arguments(ctx, state, id, args)?;
                    ops::call_glue(ctx, state, "objectCall", (number, event_number, method, args))?;
                }
                Event::Alarm { scheduled_ms, retry, .. }
                    if begin_alarm(state, instance, id, scheduled_ms, retry) =>
                {
                    let args = (number, event_number, convert::number(scheduled_ms), retry);
                    ops::call_glue(ctx, state, "objectAlarm", args)?;
                }
                _ => {}
            }
            if aborted { ops::abort(ctx, state, event_number) } else { Ok(()) }
        });
    }

    /// An object's commit is durable: what waited for it leaves, and who waited for it goes on.
    pub(in crate::isolate) fn committed(&mut self, id: ObjectId, sequence: u64) {
        let here = self.state.objects.borrow().here(id);
        let Some(instance) = here else { return };
        if let Some(live) = self.state.objects.borrow_mut().sound(instance) {
            live.out.committed(sequence);
        }
        self.let_out(instance);
    }

    /// An object's commit cannot be made durable.
    pub(in crate::isolate) fn commit_failed(&mut self, id: ObjectId) {
        let here = self.state.objects.borrow().here(id);
        let Some(instance) = here else { return };
        self.state.objects.borrow_mut().doom(instance, ScriptError::new("Error", COMMIT_TEXT));
        self.reset_doomed();
    }

    /// Lets out what waits for nothing any more.
    fn let_out(&mut self, instance: Instance) {
        loop {
            let next = self.state.objects.borrow_mut().sound(instance).and_then(|live| live.out.next());
            let Some(effect) = next else { break };
            self.state.release(effect);
        }
        loop {
            let mut objects = self.state.objects.borrow_mut();
            let Some(live) = objects.sound(instance) else { return };
            let durable = live.out.durable();
            if live.syncs.front().is_none_or(|(sequence, _)| *sequence > durable) {
                return;
            }
            let synced = live.syncs.pop_front();
            drop(objects);
            let Some((_, settle)) = synced else { return };
            self.go_on(settle.scope, move |ctx, _| settle.resolve(ctx, rquickjs::Undefined));
        }
    }

    /// Commits what was written in this turn, each object's as one.
    pub(in crate::isolate) fn commit_written(&mut self) {
        let written = self.state.objects.borrow_mut().take_written();
        for instance in written {
            let commit = self.state.objects.borrow_mut().commit(instance);
            match commit {
                Some((object, sequence, changes)) => self.send_commit(object, sequence, &changes),
                None => self.let_out(instance),
            }
        }
        self.state.weigh();
        self.reset_doomed();
    }

    fn send_commit(&mut self, object: ObjectId, sequence: u64, changes: &Changes) {
        let Ok(bytes) = changes.to_bytes() else { return self.commit_failed(object) };
        let pieces = bytes.chunks(STATE_PIECE_BYTES);
        let last = pieces.len() - 1;
        for (at, piece) in pieces.enumerate() {
            let piece = ByteBuf::from(piece);
            self.state.tell(Effect::Commit { object, sequence, piece, last: at == last });
        }
    }

    /// Resets the objects that are to be.
    pub(in crate::isolate) fn reset_doomed(&mut self) {
        loop {
            let doomed = self.state.objects.borrow_mut().doomed.pop();
            let Some(instance) = doomed else { return };
            self.reset(instance);
            // Others may have waited for nothing but its bodies.
            self.end_done();
        }
    }

    /// Has an object reset that used up its CPU time or is to go for another reason from outside its own turn.
    pub(in crate::isolate) fn doom(&mut self, instance: Instance, why: ScriptError) {
        self.state.objects.borrow_mut().doom(instance, why);
    }

    /// Ends an object: whatever waits for it fails, nothing of it leaves any more.
    fn reset(&mut self, instance: Instance) {
        let mut objects = self.state.objects.borrow_mut();
        let Some(mut live) = objects.remove(instance) else { return };
        drop(objects);
        let why = live
            .doomed
            .take()
            .unwrap_or_else(|| State::reset_error("Durable Object has been reset.".to_owned()));
        self.state.deadlines.borrow_mut().retain(|deadline| deadline.instance != instance);
        self.call_js("reset", instance, Some(&why), &live.object.id);
        let held = live.out.take();
        let calls = self.state.calls.borrow().of(instance);
        self.break_bodies(&calls, live.life, &held, &why);
        for event in calls {
            let told = self.state.calls.borrow_mut().get(event).is_some_and(|call| {
                // From here on its end is that of no object's.
                call.instance = None;
                call.told
            });
            if !told {
                self.state.release(Effect::Failed(event, why.clone()));
            }
            self.end_call(event);
        }
        self.fail_held(&held, &why);
        self.end_life(live.life, &held);
        self.state.tell(Effect::Reset(live.object.id, why));
        // Only now: what it holds may be the last of JavaScript objects.
        drop((live, held));
        self.state.weigh();
    }

    /// Calls that had ended, but whose answer was held back, have failed.
    fn fail_held(&mut self, held: &[Effect], why: &ScriptError) {
        for effect in held {
            match effect {
                // Those that went on are told already.
                Effect::Responded(event, _) | Effect::Returned(event, _) | Effect::Failed(event, _)
                    if is_done(held, *event) =>
                {
                    self.state.release(Effect::Failed(*event, why.clone()));
                }
                Effect::Done { .. } => self.state.release(effect.clone()),
                _ => {}
            }
        }
    }

    /// Breaks off the bodies that a script process has begun to send of an object.
    fn break_bodies(&mut self, calls: &[EventId], life: EventId, held: &[Effect], why: &ScriptError) {
        let mut of: Vec<EventId> = calls.to_vec();
        of.push(life);
        let mut broken = self.state.bodies.borrow().named_of(&of);
        // Those that have ended, but whose last pieces were held back.
        broken.extend(held.iter().filter_map(|effect| match effect {
            Effect::Body(body, _) => Some(*body),
            _ => None,
        }));
        broken.sort_unstable();
        broken.dedup();
        let unheard: Vec<ScriptBody> = held.iter().flat_map(names).flatten().collect();
        for body in broken.into_iter().filter(|body| !unheard.contains(body)) {
            self.state.release(Effect::Body(body, Piece::Failed(why.message.clone())));
        }
    }

    /// Ends the call that stands for an object's life. `held` has not left, and has not to be taken back.
    fn end_life(&mut self, life: EventId, held: &[Effect]) {
        let ended = self.state.calls.borrow_mut().end(life);
        self.state.used(None, ended.map_or(0, |call| call.untold_us));
        let op = |effect: &Effect| match effect {
            Effect::Fetch { op, .. } | Effect::Rpc { op, .. } => Some(*op),
            _ => None,
        };
        let unsent: HashSet<OpId> = held.iter().filter_map(op).collect();
        let ops = self.state.ops_of(life);
        ops.into_iter()
            .filter(|op| !unsent.contains(op) && !self.state.loopback.borrow().asks(*op))
            .for_each(|op| self.state.release(Effect::Cancel(op)));
        self.state.forget(life);
        self.state.dropped_with(life);
    }

    fn call_js(&mut self, function: &str, instance: Instance, why: Option<&ScriptError>, id: &ObjectId) {
        let state = Rc::clone(&self.state);
        self.context.with(|ctx| {
            let why = why.and_then(|why| crate::isolate::state::error_value(&ctx, why).ok());
            let args = (convert::number(instance.0), id.to_string(), why);
            if ops::call_glue(&ctx, &state, function, args).is_err() {
                ctx.catch();
            }
        });
    }

    /// An object is to go.
    pub(in crate::isolate) fn drop_object(&mut self, id: ObjectId, why: Option<ScriptError>) {
        let here = self.state.objects.borrow().here(id);
        let Some(instance) = here else { return };
        if let Some(why) = why {
            self.doom(instance, why);
            return self.reset_doomed();
        }
        if !self.is_idle(instance) {
            return;
        }
        let mut objects = self.state.objects.borrow_mut();
        let Some(live) = objects.remove(instance) else { return };
        drop(objects);
        self.call_js("drop", instance, None, &id);
        self.end_life(live.life, &[]);
        drop(live);
        self.state.weigh();
        self.state.tell(Effect::Dropped(id));
    }

    /// Objects in which nothing has begun for so long, and nothing goes on, go.
    pub(in crate::isolate) fn drop_resting(&mut self, idle_ms: u32) {
        let since = self.state.host.monotonic_us().checked_sub(u64::from(idle_ms) * 1000);
        let resting = since.map(|since| self.state.objects.borrow().unused_since(since));
        resting.into_iter().flatten().for_each(|id| self.drop_object(id, None));
    }

    /// Whether nothing goes on in an object: no call, no wait, no timer, no WebSocket, no body that others have, and all is durable.
    fn is_idle(&self, instance: Instance) -> bool {
        let objects = self.state.objects.borrow();
        let Some(live) = objects.live.get(&instance) else { return false };
        let quiet = live.gate.is_idle() && live.out.is_idle() && !live.unsent && live.alarm.is_none();
        let awaited = live.container.as_ref().is_some_and(Container::is_awaited);
        quiet
            && !awaited
            && live.syncs.is_empty()
            && self.state.calls.borrow().of(instance).is_empty()
            && self.state.ops_of(live.life).is_empty()
            && !self.state.sockets.borrow().has(live.life)
            && !self.state.bodies.borrow().lends(live.life)
            && !self.state.timers.borrow().any(|timer| timer.scope.event == live.life)
    }

    /// Resets objects in which something has taken too long.
    pub(in crate::isolate) fn end_late_objects(&mut self, now_us: u64) {
        loop {
            let late = self.state.deadlines.borrow_mut().take_due(now_us, u64::MAX);
            let Some(Deadline { instance, of }) = late else { break };
            let mut objects = self.state.objects.borrow_mut();
            let Some(live) = objects.sound(instance) else { continue };
            let text = match of {
                Due::Section(section) => live.sections.contains_key(&section).then_some(SECTION_TEXT),
                Due::Alarm(event) => (live.alarm == Some(event))
                    .then_some("alarm() exceeded its wall time limit of 15 minutes."),
            };
            if let Some(text) = text {
                objects.doom(instance, ScriptError::new("Error", text));
            }
        }
        self.reset_doomed();
    }
}

/// Whether the end of a call is among these.
fn is_done(held: &[Effect], of: EventId) -> bool {
    held.iter().any(|effect| matches!(effect, Effect::Done { event, .. } if *event == of))
}

/// The script's bodies that an effect is the first to name.
fn names(effect: &Effect) -> Vec<Option<ScriptBody>> {
    match effect {
        Effect::Responded(_, response) => vec![convert::made(&response.body)],
        Effect::Fetch { request, .. } => vec![convert::made(&request.body)],
        Effect::Returned(_, value) => vec![convert::body_of_argument(value)],
        Effect::Rpc { args, .. } => args.iter().map(convert::body_of_argument).collect(),
        Effect::Socket(_, made) => vec![Some(*made)],
        _ => Vec::new(),
    }
}

/// An alarm's handler may begin, unless the alarm was put off or taken back, or is being handled.
fn begin_alarm(state: &State, instance: Instance, event: EventId, scheduled_ms: u64, retry: u32) -> bool {
    let mut objects = state.objects.borrow_mut();
    let Some(live) = objects.sound(instance) else { return false };
    let due = live.kept.alarm() == Some(scheduled_ms) || retry > 0;
    if !due || live.alarm.is_some() {
        let running = live.alarm.is_some();
        drop(objects);
        if running {
            let error = ScriptError::new("Error", "The alarm's handler is running already.");
            state.push_from(Some(instance), Effect::Failed(event, error));
        }
        state.calls.borrow_mut().change(event, |call| call.settled = true);
        return false;
    }
    live.alarm = Some(event);
    live.kept.begin_alarm();
    let deadline = Deadline { instance, of: Due::Alarm(event) };
    drop(objects);
    state.deadlines.borrow_mut().set(state.host.monotonic_us() + ALARM_US, deadline);
    state.calls.borrow_mut().change(event, |call| call.alarm = Some(scheduled_ms));
    true
}

impl State {
    /// Puts something before an object's gate that belongs to its life.
    pub(in crate::isolate) fn enqueue(
        &self,
        instance: Instance,
        life: EventId,
        run: impl for<'js> FnOnce(&rquickjs::Ctx<'js>, &State) -> rquickjs::Result<()> + 'static,
    ) {
        let run: Run = Box::new(run);
        self.objects.borrow_mut().enqueue(instance, Section::ROOT, life, run);
    }

    /// The handler of an alarm has come to its end.
    pub(in crate::isolate) fn alarm_ended(&self, event: EventId, succeeded: bool) {
        let call = self.calls.borrow_mut().get(event).and_then(|call| call.instance.zip(call.alarm));
        let Some((instance, due_ms)) = call else { return };
        let mut objects = self.objects.borrow_mut();
        let Some(live) = objects.sound(instance) else { return };
        live.alarm = None;
        live.kept.end_alarm(due_ms, succeeded);
        objects.touch(instance, false);
        drop(objects);
        self.deadlines.borrow_mut().retain(|deadline| deadline.of != Due::Alarm(event));
    }

    /// Begins to count the time of a section.
    pub(in crate::isolate) fn time_section(&self, instance: Instance, section: Section) {
        let deadline = Deadline { instance, of: Due::Section(section) };
        self.deadlines.borrow_mut().set(self.host.monotonic_us() + SECTION_US, deadline);
    }

    /// Counts what objects keep, and what waits of WebSockets, as memory of the isolate.
    pub(in crate::isolate) fn weigh(&self) {
        let sockets = self.sockets.borrow().held_bytes() + self.bodies.borrow().socket_bytes();
        self.guard.hold(self.objects.borrow().kept_bytes() + sockets);
    }

    /// What a call waits for.
    fn ops_of(&self, event: EventId) -> Vec<OpId> {
        let own = |(id, op): (&OpId, &crate::isolate::state::Op)| (op.scope.event == event).then_some(*id);
        self.ops.borrow().iter().filter_map(own).collect()
    }

    /// The place of a call: its object, outside sections.
    pub(in crate::isolate) fn scope_of(&self, event: EventId) -> Scope {
        let instance = self.instance_of(event);
        let life = instance.and_then(|one| self.objects.borrow().live.get(&one).map(|live| live.life));
        let place = instance.map(|instance| (instance, Section::ROOT));
        Scope { event: life.unwrap_or(event), place }
    }

    /// The reset that an object's code has seen of its own: as all that it was called for fails with.
    pub(in crate::isolate) fn reset_error(text: String) -> ScriptError {
        ScriptError::new("Error", text).with(ErrorFlags { reset: true, ..ErrorFlags::default() })
    }
}
