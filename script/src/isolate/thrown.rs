//! Errors on their way from one piece of code to another: what they carry besides name and message.

use rquickjs::{Ctx, Result, Value};
use serde_bytes::ByteBuf;

use super::state::{State, error_value, flagged};
use super::{ops, values};
use crate::message::ScriptError;
use crate::raw;

/// What was thrown, as far as a clone can hold it, for the code that catches it.
pub(crate) fn thrown<'js>(ctx: &Ctx<'js>, state: &State, value: &Value<'js>) -> Option<ByteBuf> {
    let Ok(made) = ops::call_glue(ctx, state, "thrown", (value.clone(),)) else {
        ctx.catch();
        return None;
    };
    let bytes = made.as_object()?.as_typed_array::<u8>()?;
    Some(ByteBuf::from(raw::copy(bytes)))
}

/// An error of other code as it is caught here.
pub(crate) fn caught<'js>(ctx: &Ctx<'js>, state: &State, error: &ScriptError) -> Result<Value<'js>> {
    let plain = error_value(ctx, error)?;
    let Some(thrown) = &error.thrown else { return Ok(plain) };
    let bytes = values::bytes(ctx, thrown)?;
    match ops::call_glue(ctx, state, "caught", (plain.clone(), bytes)) {
        Ok(caught) => flagged(caught, error.flags),
        Err(_) => {
            ctx.catch();
            Ok(plain)
        }
    }
}
