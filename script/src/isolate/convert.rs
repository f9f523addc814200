//! Heads and bodies between messages and the plain objects that the web classes give and take.

use rquickjs::convert::List;
use rquickjs::{Array, Coerced, Ctx, Exception, Function, IntoJs, Object, Result, Value};
use serde_bytes::ByteBuf;

use super::abandon::{abandon_body, refused};
use super::limits::{ERROR_BYTES, HEAD_BYTES, cut};
use super::ops::{self, adopt};
use super::sockets;
use super::state::State;
pub(crate) use super::values::{bare, bytes, id, number, text};
use crate::message::{
    Argument, BodyRef, ErrorFlags, EventId, Headers, HostBody, INLINE_BODY_BYTES, Piece, Request, Response,
    ScriptBody, ScriptError,
};
use crate::raw;

/// What was thrown, as an error that can be told.
pub(crate) fn error<'js>(ctx: &Ctx<'js>, state: &State, thrown: &Value<'js>) -> ScriptError {
    let described = ops::glue(ctx, state)
        .and_then(|glue| glue.get::<_, Function<'js>>("describe"))
        .and_then(|describe| describe.call::<_, List<(String, String, String)>>((thrown.clone(),)));
    match described {
        Ok(List((name, message, stack))) => ScriptError {
            name: cut(name, 256),
            message: cut(message, ERROR_BYTES),
            stack: cut(stack, ERROR_BYTES),
            flags: ErrorFlags::default(),
            thrown: None,
        },
        Err(_) => {
            ctx.catch();
            ScriptError::new("Error", "an error that cannot be described")
        }
    }
}

/// Gives an object the lists of the names and of the values of headers, names in lower case.
fn set_headers<'js>(ctx: &Ctx<'js>, object: &Object<'js>, headers: Headers) -> Result<()> {
    let (names, values) = (Array::new(ctx.clone())?, Array::new(ctx.clone())?);
    for (index, (mut name, value)) in headers.into_iter().enumerate() {
        name.make_ascii_lowercase();
        names.set(index, name)?;
        values.set(index, value)?;
    }
    object.set("names", names)?;
    object.set("values", values)
}

/// The body of a message to this call.
fn body<'js>(ctx: &Ctx<'js>, state: &State, event: EventId, body: BodyRef) -> Result<Value<'js>> {
    match body {
        BodyRef::Bytes(given) => bytes(ctx, &given),
        BodyRef::Host(host) => {
            state.bodies.borrow_mut().arrived(host, event);
            let object = bare(ctx)?;
            object.set("host", number(host.0))?;
            Ok(object.into_value())
        }
        BodyRef::None | BodyRef::Script(_) => Ok(Value::new_null(ctx.clone())),
    }
}

/// A request's head and body, for a handler.
pub(crate) fn request<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    event: EventId,
    request: Request,
) -> Result<(Object<'js>, Value<'js>)> {
    let head = bare(ctx)?;
    head.set("method", request.method)?;
    head.set("url", request.url)?;
    set_headers(ctx, &head, request.headers)?;
    Ok((head, body(ctx, state, event, request.body)?))
}

/// A response, for a script that asked for it.
pub(crate) fn response<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    event: EventId,
    response: Response,
) -> Result<Object<'js>> {
    let object = bare(ctx)?;
    let socket = match &response.body {
        BodyRef::Host(from) if response.has_socket() => Some(sockets::arrive(ctx, state, event, *from)?),
        _ => None,
    };
    object.set("status", response.status)?;
    object.set("statusText", response.status_text)?;
    set_headers(ctx, &object, response.headers)?;
    match socket {
        Some(socket) => {
            object.set("body", Value::new_null(ctx.clone()))?;
            object.set("webSocket", number(socket))?;
        }
        None => {
            object.set("body", body(ctx, state, event, response.body)?)?;
            object.set("webSocket", Value::new_null(ctx.clone()))?;
        }
    }
    Ok(object)
}

/// The head of a message from a script, within its bound.
fn headers_of<'js>(ctx: &Ctx<'js>, state: &State, object: &Object<'js>, beside: usize) -> Result<Headers> {
    let mut headers = Headers::new();
    let mut bytes = beside;
    let (names, values): (Array<'js>, Array<'js>) = (object.get("names")?, object.get("values")?);
    for at in 0..names.len() {
        let name = text(ctx, state, &names.get::<rquickjs::String<'js>>(at)?)?;
        let value = text(ctx, state, &values.get::<rquickjs::String<'js>>(at)?)?;
        bytes += name.len() + value.len();
        if bytes > HEAD_BYTES {
            break;
        }
        headers.push((name, value));
    }
    if bytes > HEAD_BYTES {
        let text = format!("URL and headers have more than {} KiB.", HEAD_BYTES >> 10);
        return Err(Exception::throw_type(ctx, &text));
    }
    Ok(headers)
}

/// The body of a message from a script. A long one that is all there becomes one that flows.
fn body_of<'js>(ctx: &Ctx<'js>, state: &State, event: EventId, body: Value<'js>) -> Result<BodyRef> {
    let Some(object) = body.as_object() else { return Ok(BodyRef::None) };
    if let Some(view) = object.as_typed_array::<u8>() {
        let given = raw::copy(view);
        if given.len() <= INLINE_BODY_BYTES {
            return Ok(BodyRef::Bytes(ByteBuf::from(given)));
        }
        state.room(ctx, given.len())?;
        let made = ops::make_body(ctx, state, event, false)?;
        let mut bodies = state.bodies.borrow_mut();
        bodies.write(made, given, None);
        bodies.end(made, Piece::End);
        drop(bodies);
        adopt(ctx, state, event, made)?;
        return Ok(BodyRef::Script(made));
    }
    if let Some(host) = object.get::<_, Option<f64>>("host")? {
        let host = HostBody(id(host));
        let passed = state.bodies.borrow_mut().pass_on(host);
        let ended = passed.map_err(|unusable| Exception::throw_type(ctx, unusable.text()))?;
        return match ended {
            None => Ok(BodyRef::Host(host)),
            Some(Ok(())) => Ok(BodyRef::Bytes(ByteBuf::new())),
            Some(Err(why)) => broken(ctx, state, event, why),
        };
    }
    let script = ScriptBody(id(object.get::<_, f64>("script")?));
    adopt(ctx, state, event, script)?;
    Ok(BodyRef::Script(script))
}

/// A body that breaks off at once.
fn broken(ctx: &Ctx<'_>, state: &State, event: EventId, why: String) -> Result<BodyRef> {
    let made = ops::make_body(ctx, state, event, false)?;
    state.bodies.borrow_mut().end(made, Piece::Failed(why));
    adopt(ctx, state, event, made)?;
    Ok(BodyRef::Script(made))
}

/// An argument or result, as the web classes take it: `{value}`, `{request, body}` or `{response}`.
pub(crate) fn argument<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    event: EventId,
    argument: Argument,
) -> Result<Object<'js>> {
    let object = bare(ctx)?;
    match argument {
        Argument::Value(value) => object.set("value", bytes(ctx, &value)?)?,
        Argument::Request(given) => {
            let (head, body) = request(ctx, state, event, *given)?;
            object.set("request", head)?;
            object.set("body", body)?;
        }
        Argument::Response(given) => object.set("response", response(ctx, state, event, *given)?)?,
    }
    Ok(object)
}

/// A list of arguments.
pub(crate) fn arguments<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    event: EventId,
    args: Vec<Argument>,
) -> Result<Array<'js>> {
    let list = Array::new(ctx.clone())?;
    for (at, one) in args.into_iter().enumerate() {
        list.set(at, argument(ctx, state, event, one)?)?;
    }
    Ok(list)
}

/// An argument or result, as the web classes give it.
pub(crate) fn argument_of<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    event: EventId,
    value: &Value<'js>,
) -> Result<Argument> {
    let object = value.as_object().ok_or(rquickjs::Error::Unknown)?;
    if let Some(given) = object.get::<_, Option<Object<'js>>>("request")? {
        return Ok(Argument::Request(Box::new(request_of(ctx, state, event, &given)?)));
    }
    if let Some(given) = object.get::<_, Option<Value<'js>>>("response")?.filter(Value::is_object) {
        return Ok(Argument::Response(Box::new(response_of(ctx, state, event, &given)?)));
    }
    let given: Object<'js> = object.get("value")?;
    let given = given.as_typed_array::<u8>().map(raw::copy).unwrap_or_default();
    state.charge(ctx, given.len())?;
    Ok(Argument::Value(ByteBuf::from(given)))
}

/// A list of arguments. Of one that cannot be sent nothing is left.
pub(crate) fn arguments_of<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    event: EventId,
    list: &Array<'js>,
) -> Result<Vec<Argument>> {
    let mut args = Vec::with_capacity(list.len());
    for one in list.iter::<Value<'js>>() {
        match one.and_then(|one| argument_of(ctx, state, event, &one)) {
            Ok(argument) => args.push(argument),
            Err(why) => return refused(ctx, why, || abandon_all(ctx, state, &args)),
        }
    }
    Ok(args)
}

/// Nobody reads the bodies of these.
pub(crate) fn abandon_all(ctx: &Ctx<'_>, state: &State, args: &[Argument]) -> Result<()> {
    args.iter().filter_map(body_in).try_for_each(|body| abandon_body(ctx, state, body))
}

/// The body of an argument.
pub(crate) fn body_in(argument: &Argument) -> Option<&BodyRef> {
    match argument {
        Argument::Value(_) => None,
        Argument::Request(request) => Some(&request.body),
        Argument::Response(response) => Some(&response.body),
    }
}

/// The body of the script's that an argument names.
pub(crate) fn body_of_argument(argument: &Argument) -> Option<ScriptBody> {
    body_in(argument).and_then(made)
}

/// The body of the script's that a message names.
pub(crate) fn made(body: &BodyRef) -> Option<ScriptBody> {
    if let BodyRef::Script(body) = body { Some(*body) } else { None }
}

/// A request of a script's.
pub(crate) fn request_of<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    event: EventId,
    object: &Object<'js>,
) -> Result<Request> {
    let method = text(ctx, state, &object.get("method")?)?;
    let url = text(ctx, state, &object.get("url")?)?;
    let headers = headers_of(ctx, state, object, method.len() + url.len())?;
    let body = body_of(ctx, state, event, object.get("body")?)?;
    let inline = if let BodyRef::Bytes(bytes) = &body { bytes.len() } else { 0 };
    let head: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let charged = state.charge(ctx, method.len() + url.len() + head + inline);
    charged.or_else(|why| refused(ctx, why, || abandon_body(ctx, state, &body)))?;
    Ok(Request { method, url, headers, body })
}

/// A response of a handler's.
pub(crate) fn response_of<'js>(
    ctx: &Ctx<'js>,
    state: &State,
    event: EventId,
    value: &Value<'js>,
) -> Result<Response> {
    let not_one = || {
        Exception::throw_type(ctx, "Incorrect type for Promise: the Promise did not resolve to 'Response'.")
    };
    let object = value.as_object().ok_or_else(not_one)?;
    let status = object.get::<_, Coerced<f64>>("status")?.0;
    let socket = object.get::<_, Option<f64>>("webSocket")?;
    let sound = if socket.is_some() { status == 101.0 } else { (200.0..=599.0).contains(&status) };
    let status = sound.then_some(status).ok_or_else(not_one)?;
    let status_text = match object.get::<_, Option<rquickjs::String<'js>>>("statusText")? {
        Some(given) => text(ctx, state, &given)?,
        None => String::new(),
    };
    let headers = headers_of(ctx, state, object, status_text.len())?;
    let body = match socket {
        Some(socket) => sockets::pass(ctx, state, id(socket), event)?,
        None => body_of(ctx, state, event, object.get("body")?)?,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is 101, or between 200 and 599"
    )]
    Ok(Response { status: status as u16, status_text, headers, body })
}

/// A value of `env`; what has `fetch` is made by `table`, that of the web classes.
pub(crate) fn variable<'js>(
    ctx: &Ctx<'js>,
    table: &Object<'js>,
    variable: &crate::message::Variable,
) -> Result<Value<'js>> {
    match variable {
        crate::message::Variable::Assets => table.get::<_, Function<'js>>("fetcher")?.call(("assets",)),
        crate::message::Variable::Text(text) => text.as_str().into_js(ctx),
        crate::message::Variable::Json(json) => ctx.json_parse(json.as_str()),
        crate::message::Variable::Objects(class) => {
            table.get::<_, Function<'js>>("namespace")?.call((class.as_str(),))
        }
        crate::message::Variable::StoreSecret(read) => {
            let read = (read.as_ref().ok().map(String::as_str), read.as_ref().err().map(String::as_str));
            table.get::<_, Function<'js>>("storeSecret")?.call(read)
        }
    }
}
