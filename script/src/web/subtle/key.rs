//! Keys, and the functions that stand for them.

use std::cell::Cell;
use std::rc::Rc;

use rquickjs::function::Rest;
use rquickjs::{Ctx, Exception, Function, IntoJs, Object, Result, TypedArray, Value};
use zeroize::Zeroizing;

use super::args::Args;
use super::ec::{self, Curve};
use super::kinds::{Kind, Refused};
use super::okp::Okp;
use super::rsa::Rsa;
use super::secret::Secret;
use crate::raw;

type Bytes<'js> = TypedArray<'js, u8>;

/// Bytes of keys that a script may have at once: they lie outside its heap. Thousands of RSA keys.
const KEY_BYTES: usize = 32 << 20;

pub(super) enum Key {
    Secret(Secret),
    Rsa(Rsa),
    Ec(Box<dyn Curve>),
    Okp(Okp),
}

impl Key {
    fn run<'js>(&self, op: &str, args: &Args<'js>) -> Result<Value<'js>> {
        match self {
            Self::Secret(key) => key.run(op, args),
            Self::Rsa(key) => key.run(op, args),
            Self::Ec(key) => ec::run(key.as_ref(), op, args),
            Self::Okp(key) => key.run(op, args),
        }
    }

    /// The public half of a private key.
    fn public(&self) -> Option<Self> {
        match self {
            Self::Secret(_) => None,
            Self::Rsa(key) => Some(Self::Rsa(key.public())),
            Self::Ec(key) => Some(Self::Ec(key.public())),
            Self::Okp(key) => Some(Self::Okp(key.public())),
        }
    }

    /// About as many bytes as it takes.
    fn bytes(&self) -> usize {
        match self {
            Self::Secret(key) => 128 + key.0.len(),
            Self::Rsa(key) => key.bytes(),
            Self::Ec(_) | Self::Okp(_) => 1024,
        }
    }
}

/// How many bytes of keys a script has.
#[derive(Default)]
pub(super) struct Room(Cell<usize>);

/// A key that is counted as long as there is a function for it.
struct Counted {
    key: Key,
    bytes: usize,
    room: Rc<Room>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.room.0.set(self.room.0.get().saturating_sub(self.bytes));
    }
}

pub(super) fn add<'js>(ctx: &Ctx<'js>, natives: &Object<'js>, room: &Rc<Room>) -> Result<()> {
    let own = Rc::clone(room);
    let secret = move |ctx: Ctx<'js>, bytes: Bytes<'js>| {
        handle(&ctx, &own, Key::Secret(Secret(Zeroizing::new(raw::copy(&bytes)))))
    };
    natives.set("secret", Function::new(ctx.clone(), secret)?)?;
    let own = Rc::clone(room);
    let import = move |ctx: Ctx<'js>, kind: String, format: String, data: Rest<Value<'js>>| {
        let kind = named(&ctx, &kind)?;
        made(&ctx, &own, read(kind, &format, &Args::new(ctx.clone(), data.0))?)
    };
    natives.set("import", Function::new(ctx.clone(), import)?)?;
    let own = Rc::clone(room);
    let generate = move |ctx: Ctx<'js>, kind: String, data: Rest<Value<'js>>| {
        let key = begin(named(&ctx, &kind)?, &Args::new(ctx.clone(), data.0))?;
        made(&ctx, &own, key.ok_or(Refused::Malformed))
    };
    natives.set("generate", Function::new(ctx.clone(), generate)?)
}

fn named(ctx: &Ctx<'_>, kind: &str) -> Result<Kind> {
    Kind::named(kind).ok_or_else(|| Exception::throw_type(ctx, "There is no such kind of key."))
}

/// A key of its encoded form, or why there is none: `raw`, `spki` or `pkcs8` and bytes, or `jwk` and the bytes of its members.
fn read(kind: Kind, format: &str, args: &Args<'_>) -> Result<std::result::Result<Key, Refused>> {
    Ok(match (kind, format) {
        (Kind::Rsa, "jwk") => Rsa::of_parts(&parts(args, 8)?).map(Key::Rsa),
        (Kind::Rsa, _) => Rsa::read(format, &args.bytes(0)?).map(Key::Rsa),
        (Kind::Ed25519 | Kind::X25519, "jwk") => Okp::of_parts(kind, &parts(args, 2)?).map(Key::Okp),
        (Kind::Ed25519 | Kind::X25519, _) => Okp::read(kind, format, &args.bytes(0)?).map(Key::Okp),
        (_, "jwk") => ec::of_parts(kind, &parts(args, 3)?).map(Key::Ec),
        _ => ec::read(kind, format, &args.bytes(0)?).map(Key::Ec),
    })
}

/// At most so many members.
fn parts(args: &Args<'_>, most: usize) -> Result<Vec<Zeroizing<Vec<u8>>>> {
    (0..most).take_while(|at| args.is_given(*at)).map(|at| args.bytes(at)).collect()
}

/// A new private key of the seed; for RSA the size and the exponent follow, and what is asked whether to go on.
fn begin(kind: Kind, args: &Args<'_>) -> Result<Option<Key>> {
    let mut random = args.random(0)?;
    Ok(match kind {
        Kind::Rsa => {
            let go_on: Function<'_> = args.get(3)?;
            Rsa::generate(&mut random, args.size(1)?, args.get(2)?, &mut || go_on.call::<_, ()>(()))?
                .map(Key::Rsa)
        }
        Kind::Ed25519 | Kind::X25519 => Some(Key::Okp(Okp::generate(kind, &mut random))),
        _ => ec::generate(kind, &mut random).map(Key::Ec),
    })
}

/// The function, or the reason by its name; the number of bytes that are too many.
fn made<'js>(ctx: &Ctx<'js>, room: &Rc<Room>, key: std::result::Result<Key, Refused>) -> Result<Value<'js>> {
    match key {
        Ok(key) => Ok(handle(ctx, room, key)?.into_value()),
        Err(Refused::Trailing(bytes)) => bytes.into_js(ctx),
        Err(Refused::Malformed) => "malformed".into_js(ctx),
        Err(Refused::Kind) => "kind".into_js(ctx),
        Err(Refused::Curve) => "curve".into_js(ctx),
    }
}

/// A function `(operation, …)` that stands for the key.
fn handle<'js>(ctx: &Ctx<'js>, room: &Rc<Room>, key: Key) -> Result<Function<'js>> {
    let bytes = key.bytes();
    if room.0.get() + bytes > KEY_BYTES {
        let text = format!("More than {} MiB of keys are held.", KEY_BYTES >> 20);
        return Err(Exception::throw_range(ctx, &text));
    }
    room.0.set(room.0.get() + bytes);
    let kept = Counted { key, bytes, room: Rc::clone(room) };
    let run = move |ctx: Ctx<'js>, op: String, data: Rest<Value<'js>>| match (op.as_str(), kept.key.public())
    {
        ("public", Some(public)) => Ok(handle(&ctx, &kept.room, public)?.into_value()),
        (op, _) => kept.key.run(op, &Args::new(ctx, data.0)),
    };
    Function::new(ctx.clone(), run)
}
