//! Structured clones: values of JavaScript as bytes, in a format of our own that is versioned, canonical and trusts nothing.
//! Storage, calls between objects and `structuredClone` all use it. What only JavaScript can do (read a `Date`, make a
//! `Map`) is done by *tools*: an object of functions that the web classes make before any user code runs.

mod decode;
mod encode;
mod format;

use rquickjs::{Ctx, Object, Result, Value};

pub use format::Malformed;

use crate::raw;

/// The classes of the engine that a clone can hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Plain,
    Array,
    Date,
    RegExp,
    Map,
    Set,
    Buffer,
    View,
    Error,
    DomException,
    Boxed,
    /// Functions, promises, weak collections and all that is left.
    Other,
}

/// How a runtime numbers those classes: found by looking at one sample of each.
pub(crate) struct Kinds(Vec<(u32, Kind)>);

impl Kinds {
    /// Looks at `tools.samples`: an object of arrays, by the kind's name.
    pub(crate) fn find(tools: &Object<'_>) -> Result<Kinds> {
        let samples: Object<'_> = tools.get("samples")?;
        let mut found = Vec::new();
        for (name, kind) in [
            ("plain", Kind::Plain),
            ("array", Kind::Array),
            ("date", Kind::Date),
            ("regexp", Kind::RegExp),
            ("map", Kind::Map),
            ("set", Kind::Set),
            ("buffer", Kind::Buffer),
            ("view", Kind::View),
            ("error", Kind::Error),
            ("dom", Kind::DomException),
            ("boxed", Kind::Boxed),
        ] {
            let list: Vec<Value<'_>> = samples.get(name)?;
            found.extend(list.iter().map(|sample| (raw::class_id(sample), kind)));
        }
        Ok(Kinds(found))
    }

    fn of(&self, object: &Value<'_>) -> Kind {
        let class = raw::class_id(object);
        self.0.iter().find(|(id, _)| *id == class).map_or(Kind::Other, |(_, kind)| *kind)
    }
}

/// The value's clone. Runs getters of the value. Throws `DataCloneError` where something cannot be cloned.
pub(crate) fn serialize<'js>(
    ctx: &Ctx<'js>,
    kinds: &Kinds,
    tools: &Object<'js>,
    value: Value<'js>,
) -> Result<Vec<u8>> {
    encode::Encoder::new(ctx, kinds, tools).whole(value)
}

/// The value of a clone. Bytes that are none throw an `Error` with the text of [`Malformed`]; runs no user code.
pub(crate) fn deserialize<'js>(ctx: &Ctx<'js>, tools: &Object<'js>, bytes: &[u8]) -> Result<Value<'js>> {
    decode::Decoder::new(ctx, tools, bytes).whole()
}

/// The name of the error that a value cannot be cloned, thrown by the tools.
fn refuse<'js, T>(tools: &Object<'js>, text: &str) -> Result<T> {
    let fail: rquickjs::Function<'js> = tools.get("fail")?;
    fail.call::<_, ()>((text,))?;
    Err(rquickjs::Error::Unknown)
}
