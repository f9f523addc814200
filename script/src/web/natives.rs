//! What the JavaScript of the web classes calls in Rust: each a small function, none of which keeps a value of the engine.

use std::rc::Rc;

use rquickjs::function::Opt;
use rquickjs::promise::PromiseState;
use rquickjs::{Array, Ctx, Function, Object, Promise, Result, TypedArray, Value};

use super::whole::whole;
use super::{form, subtle, text, url};
use crate::clone::{self, Kinds};
use crate::raw;

/// The bytes of one `Uint8Array`.
type Bytes<'js> = TypedArray<'js, u8>;

/// All natives, by name.
pub(super) fn table<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let table = Object::new(ctx.clone())?;
    table.set_prototype(None)?;
    bytes(ctx, &table)?;
    text::add(ctx, &table)?;
    url::add(ctx, &table)?;
    form::add(ctx, &table)?;
    subtle::add(ctx, &table)?;
    looks(ctx, &table)?;
    table.set("cloner", Function::new(ctx.clone(), cloner)?)?;
    Ok(table)
}

fn bytes<'js>(ctx: &Ctx<'js>, table: &Object<'js>) -> Result<()> {
    table.set("concat", Function::new(ctx.clone(), concat)?)?;
    table.set("copy", Function::new(ctx.clone(), copy)?)?;
    table.set(
        "fill",
        Function::new(ctx.clone(), |to: Bytes<'js>, from: Bytes<'js>| raw::write(&to, &raw::copy(&from)))?,
    )?;
    Ok(())
}

/// One array of the bytes of all.
fn concat<'js>(ctx: Ctx<'js>, parts: Vec<Bytes<'js>>) -> Result<Bytes<'js>> {
    let bytes = parts.iter().map(raw::len).sum();
    whole(&ctx, bytes)?;
    let mut whole = Vec::with_capacity(bytes);
    for part in &parts {
        whole.extend_from_slice(&raw::copy(part));
    }
    raw::bytes(&ctx, &whole)
}

fn copy<'js>(ctx: Ctx<'js>, from: Bytes<'js>) -> Result<Bytes<'js>> {
    raw::bytes(&ctx, &raw::copy(&from))
}

/// What `console.log` needs to know of values and no JavaScript can tell.
fn looks<'js>(ctx: &Ctx<'js>, table: &Object<'js>) -> Result<()> {
    table.set("isProxy", Function::new(ctx.clone(), |value: Value<'js>| raw::is_proxy(&value))?)?;
    table.set("isBuffer", Function::new(ctx.clone(), |value: Value<'js>| raw::is_buffer(&value))?)?;
    table.set("classId", Function::new(ctx.clone(), |value: Value<'js>| raw::class_id(&value))?)?;
    table.set("promise", Function::new(ctx.clone(), promise)?)?;
    Ok(())
}

/// `[state, value]` of a promise, its state `pending`, `resolved` or `rejected`.
fn promise<'js>(ctx: Ctx<'js>, promise: Promise<'js>) -> Result<Array<'js>> {
    let seen = Array::new(ctx.clone())?;
    let (state, value) = match promise.state() {
        PromiseState::Pending => ("pending", Value::new_undefined(ctx)),
        PromiseState::Resolved => {
            ("resolved", promise.result::<Value<'js>>().transpose()?.unwrap_or(Value::new_undefined(ctx)))
        }
        PromiseState::Rejected => {
            let thrown = promise.result::<Value<'js>>().is_some_and(|result| result.is_err());
            ("rejected", if thrown { ctx.catch() } else { Value::new_undefined(ctx) })
        }
    };
    seen.set(0, state)?;
    seen.set(1, value)?;
    Ok(seen)
}

/// `[serialize(tools, value) → bytes, deserialize(tools, bytes) → value]`, once the tools are made.
fn cloner<'js>(ctx: Ctx<'js>, tools: Object<'js>) -> Result<Array<'js>> {
    let kinds = Rc::new(Kinds::find(&tools)?);
    let pair = Array::new(ctx.clone())?;
    let serialize = move |ctx: Ctx<'js>, tools: Object<'js>, value: Opt<Value<'js>>| {
        let value = value.0.unwrap_or(Value::new_undefined(ctx.clone()));
        raw::bytes(&ctx, &clone::serialize(&ctx, &kinds, &tools, value)?)
    };
    let deserialize = |ctx: Ctx<'js>, tools: Object<'js>, bytes: Bytes<'js>| {
        clone::deserialize(&ctx, &tools, &raw::copy(&bytes))
    };
    pair.set(0, Function::new(ctx.clone(), serialize)?)?;
    pair.set(1, Function::new(ctx, deserialize)?)?;
    Ok(pair)
}
