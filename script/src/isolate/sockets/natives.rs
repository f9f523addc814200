//! What JavaScript calls for its WebSockets, and how it is told what comes.

use rquickjs::{Ctx, Exception, Function, Object, Persistent, Result, Value};

use super::{Given, Heard, Listener, Next};
use crate::isolate::ops::{adopt, make_body, name_bodies, sent_out};
use crate::isolate::state::State;
use crate::isolate::values::{bytes, number, text};
use crate::message::{BodyRef, Effect, EventId, MESSAGE_BYTES, Piece, REASON_BYTES, SocketMessage};
use crate::raw;

/// The number of a new one, whose other end is to be given away.
pub(crate) fn make(ctx: &Ctx<'_>, state: &State) -> Result<f64> {
    let event = state.event(ctx)?;
    let to = make_body(state, event);
    Ok(number(state.sockets.borrow_mut().made(event, to)))
}

/// Has what comes be heard from now on.
pub(crate) fn open<'js>(ctx: &Ctx<'js>, state: &State, number: u64, given: &Object<'js>) -> Result<()> {
    let scope = state.scope(ctx)?;
    let function =
        |name| Ok::<_, rquickjs::Error>(Persistent::save(ctx, given.get::<_, Function<'js>>(name)?));
    let listener = Listener {
        scope,
        message: function("message")?,
        close: function("close")?,
        error: function("error")?,
    };
    let unopened = state.sockets.borrow_mut().listen(number, listener);
    if let Some((event, from)) = unopened {
        let to = make_body(state, event);
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
    state.room(ctx, record.len())?;
    let sent = state.bodies.borrow_mut().write(to, record, None);
    sent_out(ctx, state, sent)
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
    match listener.scope.place {
        Some(_) => state.calls.borrow_mut().refresh(listener.scope.event),
        None => state.calls.borrow_mut().change(listener.scope.event, |call| call.cpu_us = 0),
    }
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
