//! What JavaScript calls for its WebSockets, and how it is told what comes.

use rquickjs::{Array, Ctx, Exception, Function, Object, Persistent, Result, Value};

use super::{Given, Heard, Listener, Next, Socket};
use crate::isolate::abandon::abandon_socket;
use crate::isolate::ops::{adopt, make_body, name_bodies, sent_out};
use crate::isolate::state::{Scope, State};
use crate::isolate::values::{bytes, id, number, text};
use crate::message::{
    BodyRef, Effect, EventId, HostBody, MAX_SOCKETS, MESSAGE_BYTES, Piece, REASON_BYTES, SocketMessage,
};
use crate::raw;

/// WebSocketPairs that one event may make.
const PAIRS: u32 = 1000;

fn too_many(ctx: &Ctx<'_>) -> rquickjs::Error {
    Exception::throw_range(ctx, &format!("More than {MAX_SOCKETS} WebSockets of this script are open."))
}

/// Whether there may be one more; those that are made and those that the script writes to are counted, as they end apart.
fn admit(ctx: &Ctx<'_>, state: &State) -> Result<()> {
    let full = state.sockets.borrow().is_full() || state.bodies.borrow().sockets() >= MAX_SOCKETS;
    if full { Err(too_many(ctx)) } else { Ok(()) }
}

/// Counts a WebSocketPair that an event makes.
pub(crate) fn count_pair(ctx: &Ctx<'_>, state: &State) -> Result<()> {
    let Some(scope) = state.current.get() else { return Ok(()) };
    let mut calls = state.calls.borrow_mut();
    let Some(call) = calls.get(scope.event) else { return Ok(()) };
    call.pairs = call.pairs.saturating_add(1);
    let many = call.pairs > PAIRS;
    drop(calls);
    if many {
        return Err(Exception::throw_range(
            ctx,
            &format!("An event can make at most {PAIRS} WebSocketPairs."),
        ));
    }
    Ok(())
}

/// The number of a new one, whose other end is to be given away.
pub(crate) fn make(ctx: &Ctx<'_>, state: &State) -> Result<f64> {
    let event = state.event(ctx)?;
    admit(ctx, state)?;
    let to = make_body(ctx, state, event, true)?;
    Ok(number(state.sockets.borrow_mut().made(event, to)))
}

/// The number of one of the edge's that came to this call.
pub(crate) fn arrive(ctx: &Ctx<'_>, state: &State, event: EventId, from: HostBody) -> Result<u64> {
    let number = state.sockets.borrow_mut().arrived(event, from);
    if state.sockets.borrow().len() > MAX_SOCKETS {
        abandon_socket(ctx, state, number)?;
        return Err(too_many(ctx));
    }
    Ok(number)
}

/// Where what runs now is: `[event, instance, section]`, for what is to go on there.
pub(crate) fn accepted_in<'js>(ctx: &Ctx<'js>, state: &State) -> Result<Array<'js>> {
    let list = Array::new(ctx.clone())?;
    for (index, one) in state.scope(ctx)?.numbers().into_iter().enumerate() {
        list.set(index, number(one))?;
    }
    Ok(list)
}

/// What such a list says.
fn scope_of(given: &Array<'_>) -> Result<Scope> {
    Ok(Scope::of_numbers([id(given.get(0)?), id(given.get(1)?), id(given.get(2)?)]))
}

/// Has something run where a WebSocket was accepted, if that is still there; whether it is. `None`: that is where this runs.
pub(crate) fn wake<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    accepted: &Array<'js>,
    run: Option<Function<'js>>,
) -> Result<Option<bool>> {
    let scope = scope_of(accepted)?;
    if state.calls.borrow_mut().get(scope.event).is_none() {
        return Ok(Some(false));
    }
    if state.current.get() == Some(scope) {
        return Ok(None);
    }
    if let Some(run) = run {
        state.later.borrow_mut().push_back((scope, Persistent::save(ctx, run)));
    }
    Ok(Some(true))
}

/// What waits for the other side of one, in bytes.
pub(crate) fn unsent(state: &State, number: u64) -> usize {
    let to = state.sockets.borrow().get(number).and_then(|socket| socket.to);
    to.map_or(0, |to| state.bodies.borrow().unsent_of(to))
}

/// Has what comes be heard from now on.
pub(crate) fn open<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    number: u64,
    given: &Object<'js>,
    accepted: &Array<'js>,
) -> Result<()> {
    state.scope(ctx)?;
    let scope = scope_of(accepted)?;
    if state.calls.borrow_mut().get(scope.event).is_none() {
        return Err(Exception::throw_message(
            ctx,
            "The event in which the WebSocket was accepted has ended.",
        ));
    }
    let function =
        |name| Ok::<_, rquickjs::Error>(Persistent::save(ctx, given.get::<_, Function<'js>>(name)?));
    let listener = Listener {
        scope,
        message: function("message")?,
        close: function("close")?,
        error: function("error")?,
    };
    if state.sockets.borrow().get(number).is_some_and(Socket::is_unopened) {
        admit(ctx, state)?;
    }
    let unopened = state.sockets.borrow_mut().listen(number, listener);
    if let Some((event, from)) = unopened {
        let to = make_body(ctx, state, event, true)?;
        let adopted = state.bodies.borrow_mut().adopt(to, event);
        adopted.map_err(|unusable| Exception::throw_type(ctx, unusable.text()))?;
        state.calls.borrow_mut().change(event, |call| call.bodies = call.bodies.saturating_add(1));
        state.sockets.borrow_mut().opened(number, to);
        state.push(Effect::Socket(from, to));
        name_bodies(ctx, state, &[to])?;
    }
    let credit = state.sockets.borrow().first_credit(number);
    credit.into_iter().for_each(|credit| state.push(credit));
    Ok(())
}

/// Sends a message: a string or a `Uint8Array`. After the end of the connection it goes nowhere.
pub(crate) fn send<'js>(ctx: &Ctx<'js>, state: &State, number: u64, data: &Value<'js>) -> Result<()> {
    let to = state.sockets.borrow().sends(number);
    let Some(to) = to else { return Ok(()) };
    let message = match data.as_string() {
        Some(string) => SocketMessage::Text(text(ctx, state, string)?),
        None => {
            let view = data.as_object().and_then(Object::as_typed_array::<u8>);
            SocketMessage::Binary(view.map(raw::copy).unwrap_or_default())
        }
    };
    if message.bytes() > MESSAGE_BYTES {
        let text = format!("A message of a WebSocket has at most {} KiB.", MESSAGE_BYTES >> 10);
        return Err(Exception::throw_range(ctx, &text));
    }
    let record = message.to_bytes();
    let admitted = state.bodies.borrow().admits(to, record.len());
    admitted.map_err(|full| Exception::throw_range(ctx, &full.to_string()))?;
    let sent = state.bodies.borrow_mut().write(to, record, None);
    sent_out(ctx, state, sent)?;
    state.weigh();
    Ok(())
}

/// Sends the last message.
pub(crate) fn close<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    number: u64,
    code: u16,
    reason: &rquickjs::String<'js>,
) -> Result<()> {
    let reason = text(ctx, state, reason)?;
    let to = state.sockets.borrow_mut().stop_sending(number);
    let Some(to) = to else { return Ok(()) };
    let reason = if reason.len() <= REASON_BYTES { reason } else { String::new() };
    let record = SocketMessage::Close(code, reason).to_bytes();
    let written = state.bodies.borrow_mut().write(to, record, None);
    sent_out(ctx, state, written)?;
    let ended = state.bodies.borrow_mut().end(to, Piece::End);
    sent_out(ctx, state, ended)?;
    state.sockets.borrow_mut().remove_if_over(number);
    Ok(())
}

/// A WebSocket as a message of this call names it.
pub(crate) fn pass(ctx: &Ctx<'_>, state: &State, number: u64, event: EventId) -> Result<BodyRef> {
    let given = state.sockets.borrow_mut().pass(number, event);
    match given {
        Some(Given::Host(from)) => Ok(BodyRef::Host(from)),
        Some(Given::Script(to)) => {
            adopt(ctx, state, event, to)?;
            Ok(BodyRef::Script(to))
        }
        None => {
            let text = "The WebSocket is not there any more: it was passed on, or its event has ended.";
            Err(Exception::throw_type(ctx, text))
        }
    }
}

/// Tells JavaScript the next that has come.
pub(crate) fn hear(ctx: &Ctx<'_>, state: &State, number: u64) -> Result<()> {
    let next = state.sockets.borrow_mut().take(number);
    let Some(Next { listener, heard, credit, calls }) = next else { return Ok(()) };
    // Each is an event of its own.
    state.refresh(listener.scope);
    let lost = matches!(heard, Heard::Lost(_));
    let called = tell(ctx, &listener, heard);
    credit.into_iter().for_each(|credit| state.push(credit));
    if lost {
        end_sending(ctx, state, number)?;
    }
    for call in calls {
        state.calls.borrow_mut().change(call, |call| call.bodies = call.bodies.saturating_sub(1));
    }
    state.sockets.borrow_mut().remove_if_over(number);
    called
}

fn tell(ctx: &Ctx<'_>, listener: &Listener, heard: Heard) -> Result<()> {
    match heard {
        Heard::Message(SocketMessage::Text(text)) => listener.message.clone().restore(ctx)?.call((text,)),
        Heard::Message(SocketMessage::Binary(data)) => {
            listener.message.clone().restore(ctx)?.call((bytes(ctx, &data)?,))
        }
        Heard::Message(SocketMessage::Close(code, reason)) => {
            listener.close.clone().restore(ctx)?.call((code, reason))
        }
        Heard::Lost(text) => listener.error.clone().restore(ctx)?.call((text,)),
        Heard::Over => Ok(()),
    }
}

/// Nothing more goes to where nothing more comes from.
fn end_sending(ctx: &Ctx<'_>, state: &State, number: u64) -> Result<()> {
    let to = state.sockets.borrow_mut().stop_sending(number);
    let Some(to) = to else { return Ok(()) };
    let ended = state.bodies.borrow_mut().end(to, Piece::Failed(super::LOST.to_owned()));
    sent_out(ctx, state, ended)
}
