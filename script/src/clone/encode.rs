//! From values to bytes.

use std::collections::HashMap;

use rquickjs::function::IntoArgs;
use rquickjs::object::Filter;
use rquickjs::{Array, Ctx, FromJs, Function, Object, Result, TypedArray, Value};

use super::format::{MAX_BYTES, MAX_DEPTH, VERSION, Writer, tag};
use super::{Kind, Kinds, refuse};
use crate::raw;

/// An array is written place by place if it has at most this many holes for each value.
const HOLES_A_VALUE: usize = 4;

pub(super) struct Encoder<'a, 'js> {
    ctx: &'a Ctx<'js>,
    kinds: &'a Kinds,
    tools: &'a Object<'js>,
    out: Writer,
    /// The numbers of the objects so far. Keeps them alive, so that no other takes the place of one in memory.
    seen: HashMap<Value<'js>, u64>,
    depth: usize,
    /// Bytes of the objects around the one that is being written.
    outside: usize,
}

impl<'a, 'js> Encoder<'a, 'js> {
    pub(super) fn new(ctx: &'a Ctx<'js>, kinds: &'a Kinds, tools: &'a Object<'js>) -> Self {
        Self { ctx, kinds, tools, out: Writer::default(), seen: HashMap::new(), depth: 0, outside: 0 }
    }

    pub(super) fn whole(mut self, value: Value<'js>) -> Result<Vec<u8>> {
        self.out.tag(VERSION);
        self.value(value)?;
        Ok(self.out.0)
    }

    fn tool<A: IntoArgs<'js>, R: FromJs<'js>>(&self, name: &str, args: A) -> Result<R> {
        let tool: Function<'js> = self.tools.get(name)?;
        tool.call(args)
    }

    fn value(&mut self, value: Value<'js>) -> Result<()> {
        if let Some(number) = value.as_number() {
            self.out.double(number);
        } else if value.is_string() {
            self.text(&value)?;
        } else if let Some(truth) = value.as_bool() {
            self.out.tag(if truth { tag::TRUE } else { tag::FALSE });
        } else if value.is_undefined() {
            self.out.tag(tag::UNDEFINED);
        } else if value.is_null() {
            self.out.tag(tag::NULL);
        } else if value.is_big_int() {
            let digits: String = self.tool("digits", (value,))?;
            self.out.tag(tag::BIGINT);
            self.out.bytes(digits.as_bytes());
        } else if value.is_object() {
            return self.object(value);
        } else {
            return self.refused(value);
        }
        Ok(())
    }

    fn text(&mut self, text: &Value<'js>) -> Result<()> {
        let units = raw::units(self.ctx, text)?;
        self.room(units.len())?;
        self.out.text(&units);
        Ok(())
    }

    /// Whether so many bytes more are few enough.
    fn room(&self, more: usize) -> Result<()> {
        if self.outside + self.out.0.len() + more > MAX_BYTES {
            return refuse(self.tools, "The value is too large to be cloned.");
        }
        Ok(())
    }

    fn refused(&self, value: Value<'js>) -> Result<()> {
        self.tool("refuse", (value,))
    }

    fn object(&mut self, value: Value<'js>) -> Result<()> {
        if let Some(number) = self.seen.get(&value) {
            self.out.tag(tag::REFERENCE);
            self.out.number(*number);
            return Ok(());
        }
        if self.depth == MAX_DEPTH {
            return refuse(self.tools, "The value is nested too deeply to be cloned.");
        }
        let Some(object) = value.as_object().cloned() else { return self.refused(value) };
        let kind = self.kinds.of(&value);
        if kind == Kind::Other || raw::is_proxy(&value) {
            return self.refused(value);
        }
        if kind == Kind::Plain
            && let Some(blob) = self.tool::<_, Option<Array<'js>>>("plain", (value.clone(),))?
        {
            return self.blob(value, &blob);
        }
        self.depth += 1;
        self.content(kind, value, object)?;
        self.depth -= 1;
        Ok(())
    }

    /// Gives the object its number. A view's buffer has its own before it, as it is written first.
    fn remember(&mut self, value: Value<'js>) {
        let number = self.seen.len() as u64;
        self.seen.insert(value, number);
    }

    fn content(&mut self, kind: Kind, value: Value<'js>, object: Object<'js>) -> Result<()> {
        if kind == Kind::View {
            return self.view(value);
        }
        self.remember(value.clone());
        match kind {
            Kind::Array => self.array(object),
            Kind::Date => {
                self.out.tag(tag::DATE);
                let time: f64 = self.tool("time", (value,))?;
                self.out.plain_double(time);
                Ok(())
            }
            Kind::RegExp => {
                self.out.tag(tag::REGEXP);
                self.parts("regexp", value)
            }
            Kind::Map => self.collection(tag::MAP, 2, value),
            Kind::Set => self.collection(tag::SET, 1, value),
            Kind::Buffer => self.buffer(value),
            Kind::Error => self.error(value, object),
            Kind::DomException => {
                self.out.tag(tag::DOM_EXCEPTION);
                self.parts("exception", value)
            }
            Kind::Boxed => {
                let inner: Value<'js> = self.tool("unbox", (value,))?;
                self.out.tag(tag::BOXED);
                self.value(inner)
            }
            Kind::Plain | Kind::View | Kind::Other => self.properties(tag::OBJECT, &object),
        }
    }

    /// Writes each value of the list that the tool gives.
    fn parts(&mut self, tool: &str, value: Value<'js>) -> Result<()> {
        let parts: Vec<Value<'js>> = self.tool(tool, (value,))?;
        parts.into_iter().try_for_each(|part| self.value(part))
    }

    fn collection(&mut self, tag: u8, values: usize, value: Value<'js>) -> Result<()> {
        let list: Vec<Value<'js>> = self.tool("list", (value,))?;
        self.out.tag(tag);
        self.out.number((list.len() / values) as u64);
        list.into_iter().try_for_each(|item| self.value(item))
    }

    fn buffer(&mut self, value: Value<'js>) -> Result<()> {
        let bytes: TypedArray<'js, u8> = self.tool("bytes", (value,))?;
        self.room(raw::len(&bytes))?;
        self.out.tag(tag::BUFFER);
        self.out.bytes(&raw::copy(&bytes));
        Ok(())
    }

    /// The type and the bytes.
    fn blob(&mut self, value: Value<'js>, parts: &Array<'js>) -> Result<()> {
        self.remember(value);
        self.out.tag(tag::BLOB);
        self.value(parts.get(0)?)?;
        let bytes: TypedArray<'js, u8> = parts.get(1)?;
        self.room(raw::len(&bytes))?;
        self.out.bytes(&raw::copy(&bytes));
        Ok(())
    }

    fn view(&mut self, value: Value<'js>) -> Result<()> {
        let (name, buffer, start, length): (String, Value<'js>, usize, usize) = {
            let parts: Object<'js> = self.tool("view", (value.clone(),))?;
            (parts.get("name")?, parts.get("buffer")?, parts.get("start")?, parts.get("length")?)
        };
        self.out.tag(tag::VIEW);
        self.out.bytes(name.as_bytes());
        self.value(buffer)?;
        self.out.number(start as u64);
        self.out.number(length as u64);
        self.remember(value);
        Ok(())
    }

    fn error(&mut self, value: Value<'js>, object: Object<'js>) -> Result<()> {
        let parts: Vec<Value<'js>> = self.tool("error", (value,))?;
        self.out.tag(tag::ERROR);
        // Each part but the name is a list of one value, or empty.
        for part in parts {
            match part.as_array() {
                None => self.value(part)?,
                Some(one) if one.is_empty() => self.out.tag(tag::HOLE),
                Some(one) => self.value(one.get(0)?)?,
            }
        }
        self.counted(&object, keys(&object)?)
    }

    fn properties(&mut self, tag: u8, object: &Object<'js>) -> Result<()> {
        let keys = keys(object)?;
        self.out.tag(tag);
        self.counted(object, keys)
    }

    /// The properties that are still there when their turn comes: getters may have removed some.
    fn counted(&mut self, object: &Object<'js>, keys: Vec<Value<'js>>) -> Result<()> {
        let before = std::mem::take(&mut self.out);
        self.outside += before.0.len();
        let mut count = 0_u64;
        for key in keys {
            if !self.tool::<_, bool>("owns", (object.clone(), key.clone()))? {
                continue;
            }
            self.text(&key)?;
            let value: Value<'js> = object.get(key)?;
            self.value(value)?;
            count += 1;
        }
        self.outside -= before.0.len();
        let content = std::mem::replace(&mut self.out, before);
        self.out.number(count);
        self.out.0.extend_from_slice(&content.0);
        Ok(())
    }

    fn array(&mut self, object: Object<'js>) -> Result<()> {
        let length: usize = object.get("length")?;
        let keys = keys(&object)?;
        let mut places = Vec::with_capacity(keys.len());
        for key in &keys {
            match place(self.ctx, key)?.filter(|place| *place < length) {
                Some(place) => places.push(place),
                None => break,
            }
        }
        if places.len() < keys.len() || length > places.len() * (HOLES_A_VALUE + 1) {
            self.out.tag(tag::SPARSE);
            self.out.number(length as u64);
            return self.counted(&object, keys);
        }
        self.dense(&object, length, &places)
    }

    fn dense(&mut self, object: &Object<'js>, length: usize, places: &[usize]) -> Result<()> {
        self.out.tag(tag::ARRAY);
        self.out.number(length as u64);
        let mut places = places.iter().copied().peekable();
        for place in 0..length {
            if places.next_if_eq(&place).is_none() {
                self.out.tag(tag::HOLE);
                continue;
            }
            let value: Value<'js> = object.get(u32::try_from(place).unwrap_or(u32::MAX))?;
            self.value(value)?;
        }
        Ok(())
    }
}

/// The own enumerable properties with string keys, in their order.
fn keys<'js>(object: &Object<'js>) -> Result<Vec<Value<'js>>> {
    object.own_keys::<Value<'js>>(Filter::default()).collect()
}

/// The place in an array that a key names, if it is one.
fn place<'js>(ctx: &Ctx<'js>, key: &Value<'js>) -> Result<Option<usize>> {
    if let Some(number) = key.as_int() {
        return Ok(usize::try_from(number).ok());
    }
    let text = String::from_utf16_lossy(&raw::units(ctx, key)?);
    Ok(text.parse::<usize>().ok().filter(|place| place.to_string() == text))
}
