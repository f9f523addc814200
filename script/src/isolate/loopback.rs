//! Calls between what runs in one isolate: what one lets leave comes in at the other as an event, as if it had gone by way of the edge,
//! which never hears of it. Ids of such calls and bodies have a range of their own.

use std::collections::{HashMap, HashSet, VecDeque};

use super::state::State;
use crate::message::{
    Argument, BodyRef, Destination, Effect, Event, EventId, HostBody, Object, OpId, Piece, Request, Response,
    ScriptBody, Target,
};

/// What is said of a body that the edge has dropped.
pub(crate) const LOST_TEXT: &str = "The event of the body has ended.";

/// Ids from here on are of this isolate: those of an edge are counted up, and stay far below. Exact as a number of JavaScript.
const LOCAL: u64 = 1 << 52;

/// What is under way within the isolate.
#[derive(Default)]
pub(crate) struct Loopback {
    last: u64,
    events: HashMap<EventId, OpId>,
    ops: HashMap<OpId, EventId>,
    bodies: HashSet<ScriptBody>,
    coming: VecDeque<Event>,
}

impl Loopback {
    /// The next event that comes from here.
    pub(crate) fn next(&mut self) -> Option<Event> {
        self.coming.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.coming.is_empty()
    }

    /// Begins a call that was asked for as `op`.
    fn call(&mut self, op: OpId) -> EventId {
        self.last += 1;
        let event = EventId(LOCAL + self.last);
        self.events.insert(event, op);
        self.ops.insert(op, event);
        event
    }

    /// The call is answered: what was asked for.
    fn answer(&mut self, event: EventId) -> Option<OpId> {
        let op = self.events.remove(&event)?;
        self.ops.remove(&op);
        Some(op)
    }

    /// Whether a body of the script's is on its way to another call in here.
    pub(crate) fn makes(&self, body: ScriptBody) -> bool {
        self.bodies.contains(&body)
    }

    /// Whether a call in here was asked for as `op`.
    pub(crate) fn asks(&self, op: OpId) -> bool {
        self.ops.contains_key(&op)
    }

    /// A body of the edge's is broken: who waits for it hears of that.
    pub(crate) fn lost(&mut self, body: HostBody) {
        self.coming.push_back(Event::Body(body, Piece::Failed(LOST_TEXT.to_owned())));
    }

    /// The edge has dropped a body that one made and another passed on: whatever is still to come of it stays in here.
    pub(crate) fn returned(&mut self, body: ScriptBody) {
        self.bodies.insert(body);
        self.coming.push_back(Event::Cancelled(body));
    }

    /// A body as the other side gets it.
    fn body(&mut self, body: &mut BodyRef) {
        if let BodyRef::Script(made) = *body {
            self.bodies.insert(made);
            *body = BodyRef::Host(HostBody(LOCAL + made.0));
        }
    }

    /// The end of a body that is under way to its reader.
    fn take_end(&mut self, body: HostBody) -> Option<Piece> {
        let is_end = |event: &Event| matches!(event, Event::Body(of, piece) if *of == body && !matches!(piece, Piece::Data(_)));
        let at = self.coming.iter().position(is_end)?;
        match self.coming.remove(at)? {
            Event::Body(_, piece) => Some(piece),
            _ => None,
        }
    }
}

/// The script's body that a body of the edge's is in truth.
fn own(body: HostBody) -> Option<ScriptBody> {
    body.0.checked_sub(LOCAL).map(ScriptBody)
}

/// The body of an argument.
fn body_in(argument: &mut Argument) -> Option<&mut BodyRef> {
    match argument {
        Argument::Value(_) => None,
        Argument::Request(request) => Some(&mut request.body),
        Argument::Response(response) => Some(&mut response.body),
    }
}

/// The bodies that an effect names.
fn bodies_in(effect: &mut Effect) -> Vec<&mut BodyRef> {
    match effect {
        Effect::Responded(_, response) => vec![&mut response.body],
        Effect::Fetch { request, .. } => vec![&mut request.body],
        Effect::Returned(_, value) => body_in(value).into_iter().collect(),
        Effect::Rpc { args, .. } => args.iter_mut().filter_map(body_in).collect(),
        _ => Vec::new(),
    }
}

/// Whether a body is made in this isolate.
pub(crate) fn is_local_body(body: HostBody) -> bool {
    own(body).is_some()
}

/// Whether a call came from this isolate.
pub(crate) fn is_local(event: EventId) -> bool {
    event.0 > LOCAL
}

impl State {
    /// What has passed the gates goes to the edge, or to where it is meant for in here.
    pub(crate) fn release(&self, effect: Effect) {
        match effect {
            Effect::Fetch { op, event, destination: Destination::Object(object), request } => {
                if self.objects.borrow().is_elsewhere(object.id) {
                    let destination = Destination::Object(object);
                    self.tell_of(event, Effect::Fetch { op, event, destination, request });
                } else {
                    self.fetch_here(op, object, request);
                }
            }
            Effect::Rpc { op, event, object, method, args } => {
                if self.objects.borrow().is_elsewhere(object.id) {
                    self.tell_of(event, Effect::Rpc { op, event, object, method, args });
                } else {
                    self.call_here(op, object, method, args);
                }
            }
            fetch @ Effect::Fetch { event, .. } => self.tell_of(event, fetch),
            Effect::Responded(event, response) => self.responded(event, response),
            Effect::Returned(event, value) => self.returned(event, value),
            Effect::Failed(event, error) => {
                self.mark_told(event);
                if !is_local(event) {
                    return self.tell(Effect::Failed(event, error));
                }
                let mut loopback = self.loopback.borrow_mut();
                if let Some(op) = loopback.answer(event) {
                    loopback.coming.push_back(Event::Completed { op, outcome: Err(error) });
                }
            }
            Effect::Done { event, cpu_us } if is_local(event) => {
                self.loopback.borrow_mut().answer(event);
                // The edge does not know the call, and is told with another.
                self.used(None, cpu_us);
            }
            Effect::Done { event, cpu_us } => self.done_outside(event, cpu_us),
            other => self.release_flow(other),
        }
    }

    /// Tells the edge that a call is done, unless it is still to get bodies of others that this one has passed on: with the call it drops
    /// these, and those that it gave to it.
    fn done_outside(&self, event: EventId, cpu_us: u64) {
        if self.bodies.borrow().is_lender(event) {
            self.almost_done.borrow_mut().insert(event, cpu_us);
            return;
        }
        self.tell(Effect::Done { event, cpu_us });
        self.dropped_with(event);
    }

    /// The edge drops the bodies that it gave to a call, or an object's life, that is over.
    pub(crate) fn dropped_with(&self, event: EventId) {
        let lost = self.bodies.borrow_mut().lose(event);
        lost.into_iter().for_each(|body| self.loopback.borrow_mut().lost(body));
    }

    /// Tells the edge something in which bodies are named. Those that are made in here go there as what they are.
    fn tell_of(&self, event: EventId, mut effect: Effect) {
        let mut ends = Vec::new();
        // What a WebSocket sends is no body that is read.
        let socket = matches!(&effect, Effect::Responded(_, response) if response.has_socket());
        for body in bodies_in(&mut effect) {
            let broken = if socket { None } else { self.give_back(body) };
            ends.extend(broken.or_else(|| self.body_for_edge(body, event)));
        }
        self.tell(effect);
        ends.into_iter().for_each(|end| self.tell(end));
    }

    /// The edge gets a body of its own again; in place of one that it has dropped meanwhile, one that is broken.
    fn give_back(&self, body: &mut BodyRef) -> Option<Effect> {
        let BodyRef::Host(host) = *body else { return None };
        let mut bodies = self.bodies.borrow_mut();
        if is_local_body(host) || bodies.give_back(host) {
            return None;
        }
        let made = bodies.number();
        *body = BodyRef::Script(made);
        Some(Effect::Body(made, Piece::Failed(LOST_TEXT.to_owned())))
    }

    /// Makes of a body what it is to the edge. If it has ended by now, what follows.
    fn body_for_edge(&self, body: &mut BodyRef, event: EventId) -> Option<Effect> {
        let BodyRef::Host(host) = *body else { return None };
        let made = own(host)?;
        *body = BodyRef::Script(made);
        let ended = self.bodies.borrow_mut().pass_on(host).ok().flatten();
        let mut loopback = self.loopback.borrow_mut();
        if !loopback.bodies.remove(&made) {
            let ended = ended.map(|end| end.map_or_else(Piece::Failed, |()| Piece::End));
            let lost = || Piece::Failed("The body has ended, and nobody read it.".to_owned());
            let ended = ended.or_else(|| loopback.take_end(host)).unwrap_or_else(lost);
            return Some(Effect::Body(made, ended));
        }
        drop(loopback);
        self.bodies.borrow_mut().lend(made, event);
        self.calls.borrow_mut().change(event, |call| call.bodies = call.bodies.saturating_add(1));
        None
    }

    /// Bodies, and what is not wanted any more.
    fn release_flow(&self, effect: Effect) {
        let mut loopback = self.loopback.borrow_mut();
        let came = match &effect {
            Effect::Cancel(op) => loopback.ops.get(op).map(|event| Event::Aborted(*event)),
            Effect::Body(body, piece) if loopback.bodies.contains(body) => {
                if !matches!(piece, Piece::Data(_)) {
                    loopback.bodies.remove(body);
                }
                Some(Event::Body(HostBody(LOCAL + body.0), piece.clone()))
            }
            Effect::Credit(body, bytes) => own(*body).map(|body| Event::Credit(body, *bytes)),
            Effect::Cancelled(body) => own(*body).map(Event::Cancelled),
            Effect::Socket(from, to) => own(*from).map(|other| {
                loopback.bodies.insert(*to);
                Event::Socket(other, HostBody(LOCAL + to.0))
            }),
            _ => None,
        };
        match came {
            Some(event) => loopback.coming.push_back(event),
            None => {
                drop(loopback);
                let ends = match &effect {
                    Effect::Body(body, Piece::End | Piece::Failed(_)) => Some(*body),
                    _ => None,
                };
                self.tell(effect);
                ends.into_iter().for_each(|body| self.end_has_left(body));
            }
        }
    }

    /// Who has passed a body on to the edge need not last longer when its end has left.
    fn end_has_left(&self, body: ScriptBody) {
        let lender = self.bodies.borrow_mut().left(body);
        let Some(event) = lender else { return };
        self.calls.borrow_mut().change(event, |call| call.bodies = call.bodies.saturating_sub(1));
        let done = self.almost_done.borrow_mut().remove(&event);
        done.into_iter().for_each(|cpu_us| self.done_outside(event, cpu_us));
    }

    /// A body is on its way to a call in here: it may end before the call gets to see it.
    fn arrives(&self, body: &BodyRef, event: EventId) {
        if let BodyRef::Host(host) = body {
            self.bodies.borrow_mut().arrived(*host, event);
        }
    }

    fn fetch_here(&self, op: OpId, object: Box<Object>, mut request: Box<Request>) {
        let mut loopback = self.loopback.borrow_mut();
        loopback.body(&mut request.body);
        let event = loopback.call(op);
        self.arrives(&request.body, event);
        loopback.coming.push_back(Event::Fetch { event, target: Target::Object(object), request });
    }

    fn call_here(&self, op: OpId, object: Box<Object>, method: String, mut args: Vec<Argument>) {
        let mut loopback = self.loopback.borrow_mut();
        args.iter_mut().filter_map(body_in).for_each(|body| loopback.body(body));
        let event = loopback.call(op);
        args.iter_mut().filter_map(body_in).for_each(|body| self.arrives(body, event));
        loopback.coming.push_back(Event::Rpc { event, object, method, args });
    }

    fn responded(&self, event: EventId, mut response: Box<Response>) {
        self.mark_told(event);
        if !is_local(event) {
            return self.tell_of(event, Effect::Responded(event, response));
        }
        let mut loopback = self.loopback.borrow_mut();
        let Some(op) = loopback.answer(event) else { return };
        loopback.body(&mut response.body);
        let scope = self.ops.borrow().get(&op).map(|op| op.scope);
        match (scope, &response.body) {
            (Some(scope), BodyRef::Host(from)) if response.has_socket() => {
                self.sockets.borrow_mut().arrived(scope.event, *from);
            }
            (Some(scope), body) => self.arrives(body, scope.event),
            (None, _) => {}
        }
        loopback.coming.push_back(Event::Completed { op, outcome: Ok(*response) });
    }

    fn returned(&self, event: EventId, mut value: Argument) {
        self.mark_told(event);
        if !is_local(event) {
            return self.tell_of(event, Effect::Returned(event, value));
        }
        let mut loopback = self.loopback.borrow_mut();
        let Some(op) = loopback.answer(event) else { return };
        if let Some(body) = body_in(&mut value) {
            loopback.body(body);
            if let Some(scope) = self.ops.borrow().get(&op).map(|op| op.scope) {
                self.arrives(body, scope.event);
            }
        }
        loopback.coming.push_back(Event::Returned { op, outcome: Ok(value) });
    }

    fn mark_told(&self, event: EventId) {
        if let Some(call) = self.calls.borrow_mut().get(event) {
            call.told = true;
        }
    }

    /// Sends a call of this isolate's to the edge after all, since its object is elsewhere.
    pub(crate) fn send_on(&self, event: Event) {
        let (Event::Fetch { event: id, .. } | Event::Rpc { event: id, .. }) = &event else { return };
        let asked = self.loopback.borrow_mut().answer(*id);
        // Nobody may wait for it any more.
        let Some(op) = asked else { return };
        let scope = self.ops.borrow().get(&op).map(|op| op.scope);
        let Some(scope) = scope else { return };
        match event {
            Event::Fetch { target: Target::Object(object), request, .. } => {
                let destination = Destination::Object(object);
                let event = scope.event;
                self.tell_of(event, Effect::Fetch { op, event, destination, request });
            }
            Event::Rpc { object, method, args, .. } => {
                let event = scope.event;
                self.tell_of(event, Effect::Rpc { op, event, object, method, args });
            }
            _ => {}
        }
    }
}
