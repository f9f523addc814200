//! Messages that do not leave after all: what they would have named is given up, so that nothing waits for it.

use rquickjs::{Ctx, Object, Result, Value};

use super::state::State;
use super::values::id;
use crate::message::{BodyRef, Effect, HostBody, ScriptBody, ScriptError};

/// What those get who read or write a body of such a message.
const UNSENT: &str = "The message with this body was not sent.";

/// A message is refused for this reason, which stays what is thrown; what it held is given up by `clean`.
pub(crate) fn refused<T>(
    ctx: &Ctx<'_>,
    why: rquickjs::Error,
    clean: impl FnOnce() -> Result<()>,
) -> Result<T> {
    let thrown = why.is_exception().then(|| ctx.catch());
    if clean().is_err() {
        ctx.catch();
    }
    Err(thrown.map_or(why, |thrown| ctx.throw(thrown)))
}

/// What a message would have named that does not leave after all, as the web classes gave it: nobody waits for that.
pub(crate) fn abandon<'js>(ctx: &Ctx<'js>, state: &State, given: &Object<'js>) -> Result<()> {
    for of in ["request", "response"] {
        if let Some(given) = given.get::<_, Option<Object<'js>>>(of)? {
            abandon(ctx, state, &given)?;
        }
    }
    if let Some(socket) = given.get::<_, Option<f64>>("webSocket")? {
        abandon_socket(ctx, state, id(socket))?;
    }
    let Some(body) = given.get::<_, Value<'js>>("body")?.into_object() else { return Ok(()) };
    if body.as_typed_array::<u8>().is_some() {
        return Ok(());
    }
    if let Some(host) = body.get::<_, Option<f64>>("host")? {
        abandon_body(ctx, state, &BodyRef::Host(HostBody(id(host))))?;
    }
    match body.get::<_, Option<f64>>("script")? {
        Some(made) => abandon_made(ctx, state, ScriptBody(id(made))),
        None => Ok(()),
    }
}

/// The same of a body that the message has by now.
pub(crate) fn abandon_body(ctx: &Ctx<'_>, state: &State, body: &BodyRef) -> Result<()> {
    match body {
        BodyRef::None | BodyRef::Bytes(_) => Ok(()),
        BodyRef::Host(host) => {
            let reader = state.bodies.borrow_mut().cancel(*host).and_then(|(_, reader)| reader);
            state.bodies.borrow_mut().give_back(*host);
            state.push(Effect::Cancelled(*host));
            reader.map_or(Ok(()), |reader| reader.reject(ctx, &ScriptError::new("TypeError", UNSENT)))
        }
        BodyRef::Script(made) => abandon_made(ctx, state, *made),
    }
}

/// A body of the script's that no message has named, and none will.
pub(crate) fn abandon_made(ctx: &Ctx<'_>, state: &State, made: ScriptBody) -> Result<()> {
    let socket = state.sockets.borrow().of(made);
    if let Some(socket) = socket {
        return abandon_socket(ctx, state, socket);
    }
    let unread = state.bodies.borrow_mut().unread(made);
    let Some((event, writers)) = unread else { return Ok(()) };
    let lender = state.bodies.borrow_mut().left(made);
    for call in std::iter::once(event).chain(lender) {
        state.calls.borrow_mut().change(call, |call| call.bodies = call.bodies.saturating_sub(1));
    }
    writers.into_iter().try_for_each(|settle| settle.reject(ctx, &ScriptError::new("TypeError", UNSENT)))
}

/// A WebSocket that was to be given away in a message that does not leave.
pub(crate) fn abandon_socket(ctx: &Ctx<'_>, state: &State, number: u64) -> Result<()> {
    let gone = state.sockets.borrow_mut().give_up(number);
    let Some((from, to)) = gone else { return Ok(()) };
    from.into_iter().for_each(|from| state.push(Effect::Cancelled(from)));
    to.map_or(Ok(()), |to| abandon_made(ctx, state, to))
}
