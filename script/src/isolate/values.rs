//! Small values between Rust and JavaScript: ids, bytes, text, plain objects.

use rquickjs::{Ctx, Function, Object, Result, TypedArray, Value};

use super::ops;
use super::state::State;

/// An id as JavaScript has it: ids are counted up and stay far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "ids are small")]
pub(crate) fn number(id: u64) -> f64 {
    id as f64
}

/// An id that JavaScript gave.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates; no such id then"
)]
pub(crate) fn id(number: f64) -> u64 {
    number as u64
}

/// An object without a prototype, so that nothing of the app's is found through it.
pub(crate) fn bare<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set_prototype(None)?;
    Ok(object)
}

/// Bytes as a `Uint8Array`, which counts as the script's.
pub(crate) fn bytes<'js>(ctx: &Ctx<'js>, bytes: &[u8]) -> Result<Value<'js>> {
    Ok(TypedArray::<u8>::new_copy(ctx.clone(), bytes)?.into_value())
}

/// The text of a string, well formed.
pub(crate) fn text<'js>(ctx: &Ctx<'js>, state: &State, string: &rquickjs::String<'js>) -> Result<String> {
    match string.to_string() {
        Ok(text) => Ok(text),
        Err(_) => {
            let glue = ops::glue(ctx, state)?;
            glue.get::<_, Function<'_>>("well")?.call((string.as_value().clone(),))
        }
    }
}
