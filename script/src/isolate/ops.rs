//! What the functions of the host have in common: calls into the glue, operations that wait for the edge, and bodies on their way
//! out. Does not know what any of them is for.

use rquickjs::{Ctx, Exception, Function, Object, Result, Value};

use super::bodies::Sent;
use super::state::{Op, Scope, Settle, State};
use crate::message::{EventId, MAX_BODIES, MAX_OPS, MAX_OPS_WEIGHT, OpId, ScriptBody};

/// The functions of the glue.
pub(crate) fn glue<'js>(ctx: &Ctx<'js>, state: &State) -> Result<Object<'js>> {
    let glue = state.glue.borrow().clone();
    glue.ok_or(rquickjs::Error::Unknown)?.restore(ctx)
}

/// Calls a function of the glue.
pub(crate) fn call_glue<'js, A>(ctx: &Ctx<'js>, state: &State, name: &str, args: A) -> Result<Value<'js>>
where
    A: rquickjs::function::IntoArgs<'js>,
{
    glue(ctx, state)?.get::<_, Function<'js>>(name)?.call(args)
}

/// Says whose turn begins: the event as JavaScript has it.
pub(crate) fn set_event(ctx: &Ctx<'_>, state: &State, event: f64) -> Result<()> {
    let set = state.set_event.borrow().clone();
    set.ok_or(rquickjs::Error::Unknown)?.restore(ctx)?.call((event,))
}

/// Tells a call that nobody waits for its answer any more. The event as JavaScript has it.
pub(crate) fn abort(ctx: &Ctx<'_>, state: &State, event: f64) -> Result<()> {
    call_glue(ctx, state, "abort", (event,)).map(drop)
}

/// Something that is asked for from now on; a promise of what it comes to.
pub(crate) fn add_op<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    scope: Scope,
    weight: usize,
) -> Result<(Value<'js>, OpId)> {
    if state.ops_weight.get() + weight > MAX_OPS_WEIGHT {
        let text = format!("More than {} MiB of requests wait for their answer.", MAX_OPS_WEIGHT >> 20);
        return Err(Exception::throw_message(ctx, &text));
    }
    let op = OpId(state.last_op.get() + 1);
    state.last_op.set(op.0);
    let (promise, settle) = Settle::new(ctx, state)?;
    state.ops_weight.set(state.ops_weight.get() + weight);
    state.ops.borrow_mut().insert(op, Op { scope, weight, settle });
    Ok((promise, op))
}

/// The message that names these bodies is on its way.
pub(crate) fn name_bodies(ctx: &Ctx<'_>, state: &State, bodies: &[ScriptBody]) -> Result<()> {
    bodies.iter().try_for_each(|body| named(ctx, state, Some(*body)))
}

/// The message that names a body is on its way: the body may follow.
pub(super) fn named(ctx: &Ctx<'_>, state: &State, body: Option<ScriptBody>) -> Result<()> {
    let Some(body) = body else { return Ok(()) };
    let sent = state.bodies.borrow_mut().named(body);
    sent_out(ctx, state, sent)
}

/// Counts what a call asks of the edge.
pub(crate) fn admit(ctx: &Ctx<'_>, state: &State, event: EventId) -> Result<()> {
    let mut calls = state.calls.borrow_mut();
    let Some(call) = calls.get(event) else { return Ok(()) };
    call.subrequests += 1;
    if call.subrequests > state.limits.subrequests {
        drop(calls);
        return Err(Exception::throw_message(ctx, "Too many subrequests."));
    }
    drop(calls);
    if state.ops.borrow().len() >= MAX_OPS {
        return Err(Exception::throw_message(
            ctx,
            &format!("More than {MAX_OPS} requests wait for their answer."),
        ));
    }
    Ok(())
}

/// A body that a call makes, which may be what goes over a WebSocket.
pub(crate) fn make_body(ctx: &Ctx<'_>, state: &State, event: EventId, socket: bool) -> Result<ScriptBody> {
    let open = state.calls.borrow_mut().get(event).map_or(0, |call| call.bodies);
    if open >= MAX_BODIES {
        let text = format!("More than {MAX_BODIES} bodies and WebSockets of one event are open.");
        return Err(Exception::throw_range(ctx, &text));
    }
    state.calls.borrow_mut().change(event, |call| call.bodies = call.bodies.saturating_add(1));
    Ok(state.bodies.borrow_mut().make(event, socket))
}

/// Carries out what a change to a body came to.
pub(crate) fn sent_out(ctx: &Ctx<'_>, state: &State, sent: Sent) -> Result<()> {
    sent.effects.into_iter().for_each(|effect| state.push(effect));
    if let Some(event) = sent.ended {
        state.calls.borrow_mut().change(event, |call| call.bodies = call.bodies.saturating_sub(1));
    }
    for settle in sent.written {
        settle.resolve(ctx, Value::new_undefined(ctx.clone()))?;
    }
    Ok(())
}

/// Has a body of the script's belong to the call whose message names it, and lasts as long as that.
pub(crate) fn adopt(ctx: &Ctx<'_>, state: &State, event: EventId, body: ScriptBody) -> Result<()> {
    let adopted = state.bodies.borrow_mut().adopt(body, event);
    let before = adopted.map_err(|unusable| Exception::throw_type(ctx, unusable.text()))?;
    if before != event {
        let mut calls = state.calls.borrow_mut();
        calls.change(before, |call| call.bodies = call.bodies.saturating_sub(1));
        calls.change(event, |call| call.bodies = call.bodies.saturating_add(1));
    }
    Ok(())
}
