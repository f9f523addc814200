//! The natives: the internal object `host` that the web classes are made over, and what the glue calls. Each is small; none
//! is reachable by the app's code.

use std::rc::Rc;

use rquickjs::{Array, Ctx, Exception, Function, Object, Persistent, Result, Value};

use super::abandon::{abandon, abandon_body, refused};
use super::bodies::Read;
use super::convert::{self, bare, bytes, id, number, text};
use super::limits::TIMERS;
use super::objects;
use super::ops::{add_op, admit, make_body, named, sent_out};
use super::sockets;
use super::state::{Scope, Settle, State, Timer};
use crate::message::{
    Destination, Effect, EventId, Headers, HostBody, Level, MESSAGE_BYTES, OpId, Piece, RPC_BYTES,
    SOCKET_UNSENT_BYTES, ScriptBody,
};
use crate::raw;

/// Sets a function of an object.
macro_rules! natives {
    ($ctx:ident, $state:ident, $object:ident: $($name:literal => $function:expr,)*) => {$({
        let state = Rc::clone($state);
        let make = $function;
        $object.set($name, Function::new($ctx.clone(), make(state))?.with_name($name)?)?;
    })*};
}

/// What the glue calls.
pub(crate) fn for_glue<'js>(ctx: &Ctx<'js>, state: &Rc<State>) -> Result<Object<'js>> {
    let table = bare(ctx)?;
    natives! { ctx, state, table:
        "wait" => |state: Rc<State>| move |event: f64| {
            state.calls.borrow_mut().change(EventId(id(event)), |call| call.waits = call.waits.saturating_add(1));
        },
        "waited" => |state: Rc<State>| move |event: f64| {
            state.calls.borrow_mut().change(EventId(id(event)), |call| call.waits = call.waits.saturating_sub(1));
        },
        "uncaught" => |state: Rc<State>| move |ctx: Ctx<'js>, event: f64, error: Value<'js>| {
            uncaught(&ctx, &state, Some(EventId(id(event))), "Uncaught (in promise)", &error);
        },
        "settled" => |state: Rc<State>| move |ctx: Ctx<'js>, event: f64, value: Value<'js>| {
            settled(&ctx, &state, EventId(id(event)), &value);
        },
        "failed" => |state: Rc<State>| move |ctx: Ctx<'js>, event: f64, error: Value<'js>| {
            failed(&ctx, &state, EventId(id(event)), &error);
        },
        "returned" => |state: Rc<State>| move |ctx: Ctx<'js>, event: f64, value: Value<'js>| {
            returned(&ctx, &state, EventId(id(event)), &value);
        },
    }
    Ok(table)
}

/// What the web classes are made over.
pub(crate) fn for_web<'js>(ctx: &Ctx<'js>, state: &Rc<State>) -> Result<Object<'js>> {
    let host = bare(ctx)?;
    natives! { ctx, state, host:
        "now" => |state: Rc<State>| move || state.host.now_ms(),
        "perf" => |state: Rc<State>| move || number(state.host.monotonic_us()) / 1000.0,
        "random" => |state: Rc<State>| move |ctx: Ctx<'js>, view: Object<'js>| random(&ctx, &state, &view),
        "goOn" => |state: Rc<State>| move |ctx: Ctx<'js>| if state.guard.must_stop() { Err(raw::stop(&ctx)) } else { Ok(()) },
        "log" => |state: Rc<State>| move |ctx: Ctx<'js>, level: String, line: rquickjs::String<'js>| -> Result<()> {
            state.log(state.current.get().map(|scope| scope.event), level_of(&level), text(&ctx, &state, &line)?);
            Ok(())
        },
        "timer" => |state: Rc<State>| move |ctx: Ctx<'js>, ms: f64, call: Function<'js>| timer(&ctx, &state, ms, call),
        "clearTimer" => |state: Rc<State>| move |timer: f64| {
            let cleared = state.timers.borrow_mut().clear(id(timer));
            drop(cleared);
        },
        "fetch" => |state: Rc<State>| move |ctx: Ctx<'js>, request: Object<'js>| fetch(&ctx, &state, &request),
        "cancel" => |state: Rc<State>| move |ctx: Ctx<'js>, op: f64, reason: Value<'js>| -> Result<()> {
            let op = OpId(id(op));
            let Some(cancelled) = state.take_op(op) else { return Ok(()) };
            state.push(Effect::Cancel(op));
            cancelled.settle.reject_with(&ctx, reason)
        },
        "bodyRead" => |state: Rc<State>| move |ctx: Ctx<'js>, body: f64| read(&ctx, &state, HostBody(id(body))),
        "bodyCancel" => |state: Rc<State>| move |ctx: Ctx<'js>, body: f64| -> Result<()> {
            let cancelled = state.bodies.borrow_mut().cancel(HostBody(id(body)));
            let Some((effect, waiting)) = cancelled else { return Ok(()) };
            state.push(effect);
            waiting.map_or(Ok(()), |settle| settle.resolve(&ctx, Value::new_null(ctx.clone())))
        },
        "bodyNew" => |state: Rc<State>| move |ctx: Ctx<'js>| -> Result<f64> {
            let event = state.event(&ctx)?;
            Ok(number(make_body(&ctx, &state, event, false)?.0))
        },
        "bodyWrite" => |state: Rc<State>| move |ctx: Ctx<'js>, body: f64, view: Object<'js>| {
            write(&ctx, &state, ScriptBody(id(body)), &view)
        },
        "bodyEnd" => |state: Rc<State>| move |ctx: Ctx<'js>, body: f64| -> Result<()> {
            let sent = state.bodies.borrow_mut().end(ScriptBody(id(body)), Piece::End);
            sent_out(&ctx, &state, sent)
        },
        "wsNew" => |state: Rc<State>| move |ctx: Ctx<'js>| sockets::make(&ctx, &state),
        "wsPair" => |state: Rc<State>| move |ctx: Ctx<'js>| sockets::count_pair(&ctx, &state),
        "wsPlace" => |state: Rc<State>| move |ctx: Ctx<'js>| sockets::accepted_in(&ctx, &state),
        "wsWake" => |state: Rc<State>| move |ctx: Ctx<'js>, place: Array<'js>, run: Option<Function<'js>>| {
            sockets::wake(&ctx, &state, &place, run)
        },
        "wsOpen" => |state: Rc<State>| move |ctx: Ctx<'js>, socket: f64, listener: Object<'js>, place: Array<'js>| {
            sockets::open(&ctx, &state, id(socket), &listener, &place)
        },
        "wsUnsent" => |state: Rc<State>| move |socket: f64| sockets::unsent(&state, id(socket)),
        "abandon" => |state: Rc<State>| move |ctx: Ctx<'js>, given: Object<'js>| abandon(&ctx, &state, &given),
        "wsSend" => |state: Rc<State>| move |ctx: Ctx<'js>, socket: f64, data: Value<'js>| {
            sockets::send(&ctx, &state, id(socket), &data)
        },
        "wsClose" => |state: Rc<State>| move |ctx: Ctx<'js>, socket: f64, code: u16, reason: rquickjs::String<'js>| {
            sockets::close(&ctx, &state, id(socket), code, &reason)
        },
        "bodyFail" => |state: Rc<State>| move |ctx: Ctx<'js>, body: f64, why: rquickjs::String<'js>| -> Result<()> {
            let why = super::limits::cut(text(&ctx, &state, &why)?, super::limits::ERROR_BYTES);
            let sent = state.bodies.borrow_mut().end(ScriptBody(id(body)), Piece::Failed(why));
            sent_out(&ctx, &state, sent)
        },
    }
    host.set("wsMessageBytes", MESSAGE_BYTES)?;
    host.set("wsUnsentBytes", SOCKET_UNSENT_BYTES)?;
    host.set("objects", objects::for_web(ctx, state)?)?;
    Ok(host)
}

fn level_of(name: &str) -> Level {
    match name {
        "debug" => Level::Debug,
        "info" => Level::Info,
        "warn" => Level::Warn,
        "error" => Level::Error,
        _ => Level::Log,
    }
}

/// Logs an error that nobody caught.
pub(crate) fn uncaught<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    event: Option<EventId>,
    how: &str,
    error: &Value<'js>,
) {
    let error = convert::error(ctx, state, error);
    let text = if error.stack.is_empty() { error.to_string() } else { error.stack };
    state.log(event, Level::Error, format!("{how} {text}"));
}

/// A handler has answered.
fn settled<'js>(ctx: &Ctx<'js>, state: &State, event: EventId, value: &Value<'js>) {
    if state.calls.borrow_mut().get(event).is_none_or(|call| call.settled) {
        return;
    }
    if state.calls.borrow_mut().get(event).is_some_and(|call| !call.answers) {
        end_of_handler(state, event);
        return;
    }
    match convert::response_of(ctx, state, event, value) {
        Ok(response) => {
            let body = convert::made(&response.body);
            let from = state.instance_of(event);
            state.push_from(from, Effect::Responded(event, Box::new(response)));
            end_of_handler(state, event);
            if named(ctx, state, body).is_err() {
                ctx.catch();
            }
        }
        Err(_) => not_told(ctx, state, event, value),
    }
}

/// What a handler has come to cannot be told: it has failed, and nobody reads what it gave.
fn not_told<'js>(ctx: &Ctx<'js>, state: &State, event: EventId, value: &Value<'js>) {
    failed(ctx, state, event, &ctx.catch());
    if let Some(given) = value.as_object()
        && abandon(ctx, state, given).is_err()
    {
        ctx.catch();
    }
}

/// A handler has failed. For one whose interpreter was stopped it is told why that was instead, once the turn is over.
fn failed<'js>(ctx: &Ctx<'js>, state: &State, event: EventId, error: &Value<'js>) {
    let settled = state.calls.borrow_mut().get(event).is_none_or(|call| call.settled);
    if settled || state.guard.stopped().is_some() {
        return;
    }
    let from = state.instance_of(event);
    let thrown = from.and_then(|_| super::thrown::thrown(ctx, state, error));
    let mut error = convert::error(ctx, state, error);
    error.flags.remote = from.is_some();
    error.thrown = thrown;
    state.alarm_ended(event, false);
    state.push_from(from, Effect::Failed(event, error));
    end_of_handler(state, event);
}

/// A method has returned.
fn returned<'js>(ctx: &Ctx<'js>, state: &State, event: EventId, value: &Value<'js>) {
    if state.calls.borrow_mut().get(event).is_none_or(|call| call.settled) {
        return;
    }
    match convert::argument_of(ctx, state, event, value) {
        Ok(value) if value.weight() > RPC_BYTES => {
            let text = format!("What a method of an object returns has more than {} KiB.", RPC_BYTES >> 10);
            let thrown = Exception::throw_range(ctx, &text);
            debug_assert!(thrown.is_exception());
            failed(ctx, state, event, &ctx.catch());
            if let Some(body) = convert::body_in(&value)
                && abandon_body(ctx, state, body).is_err()
            {
                ctx.catch();
            }
        }
        Ok(value) => {
            let body = convert::body_of_argument(&value);
            state.push_from(state.instance_of(event), Effect::Returned(event, value));
            end_of_handler(state, event);
            if named(ctx, state, body).is_err() {
                ctx.catch();
            }
        }
        Err(_) => not_told(ctx, state, event, value),
    }
}

fn end_of_handler(state: &State, event: EventId) {
    state.alarm_ended(event, true);
    state.calls.borrow_mut().change(event, |call| call.settled = true);
}

fn random(ctx: &Ctx<'_>, state: &State, view: &Object<'_>) -> Result<()> {
    state.event(ctx)?;
    let Some(view) = view.as_typed_array::<u8>() else { return Ok(()) };
    let mut chance = vec![0; raw::len(view)];
    state.host.random(&mut chance);
    raw::write(view, &chance);
    Ok(())
}

fn timer<'js>(ctx: &Ctx<'js>, state: &State, ms: f64, call: Function<'js>) -> Result<f64> {
    let scope = state.scope(ctx)?;
    if state.timers.borrow().len() >= TIMERS {
        return Err(Exception::throw_range(ctx, &format!("More than {TIMERS} timers are set.")));
    }
    // Not a number, and less than nothing, is now.
    let wait_us = id((ms * 1000.0).clamp(0.0, 1e15));
    let due_us = state.host.monotonic_us().saturating_add(wait_us);
    let timer = Timer { scope, call: Persistent::save(ctx, call) };
    Ok(number(state.timers.borrow_mut().set(due_us, timer)))
}

/// Sends a request; its number, and a promise of what it comes to. Nobody reads the body of one that is refused.
fn fetch<'js>(ctx: &Ctx<'js>, state: &State, object: &Object<'js>) -> Result<Object<'js>> {
    fetch_to(ctx, state, object).or_else(|why| refused(ctx, why, || abandon(ctx, state, object)))
}

fn fetch_to<'js>(ctx: &Ctx<'js>, state: &State, object: &Object<'js>) -> Result<Object<'js>> {
    let scope = state.scope(ctx)?;
    let wanted = object.get::<_, Value<'js>>("destination")?;
    if let Some(stub) = wanted.as_object() {
        if let Some(port) = stub.get::<_, Option<u16>>("port")? {
            let instance = stub.get("instance")?;
            let destination = objects::port_of(ctx, state, scope, instance, port)?;
            return send(ctx, state, scope, destination, object);
        }
        let stub = objects::object_of(ctx, state, stub)?;
        return send(ctx, state, scope, Destination::Object(Box::new(stub)), object);
    }
    let destination = match wanted.get::<String>()?.as_str() {
        "outside" => Destination::Outside,
        "assets" => Destination::Assets,
        other => {
            let text = format!("Requests to \"{other}\" are not supported by this version of Berth.");
            return Err(Exception::throw_message(ctx, &text));
        }
    };
    send(ctx, state, scope, destination, object)
}

/// Sends a request; its number, and a promise of what it comes to.
fn send<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    scope: Scope,
    mut destination: Destination,
    object: &Object<'js>,
) -> Result<Object<'js>> {
    let event = scope.event;
    admit(ctx, state, event)?;
    let request = Box::new(convert::request_of(ctx, state, event, object)?);
    if let Destination::Port { upgrade, .. } = &mut destination {
        *upgrade = asks_for_socket(&request.headers);
    }
    let added = add_op(ctx, state, scope, request.weight());
    let (promise, op) = added.or_else(|why| refused(ctx, why, || abandon_body(ctx, state, &request.body)))?;
    let body = convert::made(&request.body);
    state.push(Effect::Fetch { op, event, destination, request });
    named(ctx, state, body)?;
    let result = bare(ctx)?;
    result.set("op", number(op.0))?;
    result.set("promise", promise)?;
    Ok(result)
}

/// Whether a request with these header fields asks for a WebSocket.
fn asks_for_socket(headers: &Headers) -> bool {
    let is = |text: &str, other: &str| text.trim().eq_ignore_ascii_case(other);
    headers
        .iter()
        .any(|(name, value)| is(name, "upgrade") && value.split(',').any(|one| is(one, "websocket")))
}

fn read<'js>(ctx: &Ctx<'js>, state: &State, body: HostBody) -> Result<Value<'js>> {
    let (promise, settle) = Settle::new(ctx, state)?;
    let taken = state.bodies.borrow_mut().read(body);
    let (read, credit) = taken.map_err(|unusable| Exception::throw_type(ctx, unusable.text()))?;
    if let Some(credit) = credit {
        state.push(credit);
    }
    match read {
        Some(read) => hand_over(ctx, settle, read)?,
        None => state.bodies.borrow_mut().wait(body, settle),
    }
    Ok(promise)
}

/// Gives a piece to who waits for it.
pub(crate) fn hand_over(ctx: &Ctx<'_>, settle: Settle, read: Read) -> Result<()> {
    match read {
        Read::Data(data) => settle.resolve(ctx, bytes(ctx, &data)?),
        Read::End => settle.resolve(ctx, Value::new_null(ctx.clone())),
        Read::Failed(text) => settle.reject(ctx, &crate::message::ScriptError::new("Error", text)),
    }
}

fn write<'js>(ctx: &Ctx<'js>, state: &State, body: ScriptBody, view: &Object<'js>) -> Result<Value<'js>> {
    if !state.bodies.borrow().is_open(body) {
        return Err(Exception::throw_type(
            ctx,
            "The body takes no more bytes: it has ended, or nobody reads it.",
        ));
    }
    let Some(view) = view.as_typed_array::<u8>() else {
        return Err(Exception::throw_type(ctx, "A body takes bytes."));
    };
    let given = raw::copy(view);
    state.room(ctx, given.len())?;
    let (promise, settle) = Settle::new(ctx, state)?;
    if given.is_empty() {
        settle.resolve(ctx, Value::new_undefined(ctx.clone()))?;
        return Ok(promise);
    }
    let sent = state.bodies.borrow_mut().write(body, given, Some(settle));
    sent_out(ctx, state, sent)?;
    Ok(promise)
}
