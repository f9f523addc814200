//! What `crypto.subtle` calculates. Keys stay here: the JavaScript has a function for each, which runs the key's operations by
//! name, and no way to the key itself. Which key may do what, and the texts of errors, are the JavaScript's (`js/subtle.js`): an
//! operation that cannot be done gives null here, or the name of the reason.
//!
//! All of it is calculated by the crates of RustCrypto and dalek: they have every algorithm, in Rust alone, and take keys in parts. What
//! `ring` has of these, it has not with other lengths of salts and tags, and aws-lc-rs takes its own chance from the system (`deny.toml`).
//!
//! Chance comes in as a seed of the host's with each operation that needs some: nothing here asks the system for any.

mod aes;
mod args;
mod ec;
mod hash;
mod key;
mod kinds;
mod okp;
mod rsa;
mod secret;

use std::rc::Rc;

use rquickjs::{Ctx, Function, Object, Result, TypedArray};
use subtle::ConstantTimeEq;

use self::key::Room;
use crate::raw;

type Bytes<'js> = TypedArray<'js, u8>;

/// Adds the natives, as an object of their own.
pub(super) fn add<'js>(ctx: &Ctx<'js>, table: &Object<'js>) -> Result<()> {
    let natives = Object::new(ctx.clone())?;
    natives.set_prototype(None)?;
    natives.set("digest", Function::new(ctx.clone(), hash::digest)?)?;
    natives.set("hasher", Function::new(ctx.clone(), hash::hasher)?)?;
    natives.set("same", Function::new(ctx.clone(), same)?)?;
    natives.set("wipe", Function::new(ctx.clone(), |bytes: Bytes<'js>| wipe(&bytes))?)?;
    key::add(ctx, &natives, &Rc::new(Room::default()))?;
    table.set("subtle", natives)
}

/// Whether the bytes are the same, in a time that says nothing of where they differ. Both are equally many.
fn same<'js>(one: Bytes<'js>, other: Bytes<'js>) -> bool {
    let other = raw::copy(&other);
    raw::with_bytes(&one, move |one| one.ct_eq(&other).into())
}

/// Overwrites what was a key.
fn wipe(bytes: &Bytes<'_>) {
    raw::write(bytes, &vec![0; raw::len(bytes)]);
}
