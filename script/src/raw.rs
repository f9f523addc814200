//! The few calls of the engine that `rquickjs` has no safe form of: strings as UTF-16, the bytes of views, the class of an
//! object. The only unsafe code over the engine's values (the allocator below it is in `isolate::heap`); nothing here keeps a pointer beyond its call.
#![allow(unsafe_code)]

use rquickjs::{Ctx, Error, Exception, Result, TypedArray, Value, qjs};

/// The number by which the engine tells classes of objects apart (`Date`, `Map`, …); 0 for what is no object.
/// The numbers are the engine's own: compare them only with those of samples of the same runtime.
pub(crate) fn class_id(value: &Value<'_>) -> u32 {
    // SAFETY: the call reads the value's tag, and the header of a live object that `value` owns.
    unsafe { qjs::JS_GetClassID(value.as_raw()) }
}

/// Whether the object is a Proxy; asks no trap.
pub(crate) fn is_proxy(value: &Value<'_>) -> bool {
    // SAFETY: as in `class_id`.
    unsafe { qjs::JS_IsProxy(value.as_raw()) }
}

/// Whether it is an ArrayBuffer.
pub(crate) fn is_buffer(value: &Value<'_>) -> bool {
    // SAFETY: as in `class_id`.
    unsafe { qjs::JS_IsArrayBuffer(value.as_raw()) }
}

/// The string's UTF-16 units, lone surrogates as they are.
pub(crate) fn units<'js>(ctx: &Ctx<'js>, text: &Value<'js>) -> Result<Vec<u16>> {
    let mut len: qjs::size_t = 0;
    // SAFETY: `text` belongs to `ctx`'s runtime; `len` is a valid place to write to.
    let start = unsafe { qjs::JS_ToCStringLenUTF16(ctx.as_raw().as_ptr(), &mut len, text.as_raw()) };
    if start.is_null() {
        return Err(Error::Exception);
    }
    // SAFETY: the engine gave `len` units at `start`, which stay valid until they are freed below.
    let units = unsafe { std::slice::from_raw_parts(start, usize::try_from(len).unwrap_or(0)) }.to_vec();
    // SAFETY: `start` is from the call above and is freed once.
    unsafe { qjs::JS_FreeCStringUTF16(ctx.as_raw().as_ptr(), start) };
    Ok(units)
}

/// A string of these UTF-16 units.
pub(crate) fn string<'js>(ctx: &Ctx<'js>, units: &[u16]) -> Result<Value<'js>> {
    // SAFETY: the engine copies the units; the value that it gives is owned by nobody else.
    let value = unsafe {
        let raw = qjs::JS_NewStringUTF16(ctx.as_raw().as_ptr(), units.as_ptr(), units.len() as qjs::size_t);
        Value::from_raw(ctx.clone(), raw)
    };
    if value.is_exception() { Err(Error::Exception) } else { Ok(value) }
}

/// Ends the script as the engine itself does when it is told to stop: no JavaScript catches what is thrown.
pub(crate) fn stop(ctx: &Ctx<'_>) -> Error {
    let thrown = Exception::throw_internal(ctx, "interrupted");
    // SAFETY: the exception is taken out, marked, and thrown again, so that it is owned once throughout.
    unsafe {
        let ctx = ctx.as_raw().as_ptr();
        let exception = qjs::JS_GetException(ctx);
        qjs::JS_SetUncatchableError(ctx, exception);
        qjs::JS_Throw(ctx, exception);
    }
    thrown
}

/// Bytes as a `Uint8Array`, in memory of the engine's: it counts as the script's.
pub(crate) fn bytes<'js>(ctx: &Ctx<'js>, bytes: &[u8]) -> Result<TypedArray<'js, u8>> {
    TypedArray::new_copy(ctx.clone(), bytes)
}

/// How many bytes the view shows. The view's own method asks its property `length`, which the app may have changed.
pub(crate) fn len(view: &TypedArray<'_, u8>) -> usize {
    view.as_raw().map_or(0, |bytes| bytes.len())
}

/// A copy of the bytes that the view shows; nothing of a detached one.
pub(crate) fn copy(view: &TypedArray<'_, u8>) -> Vec<u8> {
    // SAFETY: no JavaScript runs while the slice is alive.
    unsafe { view.as_bytes() }.map(<[u8]>::to_vec).unwrap_or_default()
}

/// Runs `read` over the bytes that the view shows. `read` cannot run JavaScript: it is given nothing to do so with.
pub(crate) fn with_bytes<R>(view: &TypedArray<'_, u8>, read: impl FnOnce(&[u8]) -> R + 'static) -> R {
    // SAFETY: `read` captures nothing that lives as short as a context does, so no JavaScript runs meanwhile.
    read(unsafe { view.as_bytes() }.unwrap_or_default())
}

/// Writes `bytes` to the start of the view, as many as it has room for; how many.
pub(crate) fn write(view: &TypedArray<'_, u8>, bytes: &[u8]) -> usize {
    let Some(place) = view.as_raw() else { return 0 };
    let count = bytes.len().min(place.len());
    // SAFETY: `place` is the view's memory, at least `count` long; `bytes` is not the engine's memory; no JavaScript runs.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place.cast::<u8>().as_ptr(), count) };
    count
}
