//! From bytes to values. The bytes may be anybody's.

use rquickjs::function::IntoArgs;
use rquickjs::{Array, BigInt, Ctx, Exception, FromJs, Function, Object, Result, Value};

use super::format::{MAX_DEPTH, Malformed, Reader, VERSION, tag};
use crate::raw;

pub(super) struct Decoder<'a, 'js> {
    ctx: &'a Ctx<'js>,
    tools: &'a Object<'js>,
    rest: Reader<'a>,
    /// The objects so far, by their number; a hole while one is not made yet.
    made: Vec<Option<Value<'js>>>,
    depth: usize,
}

/// The names of the views that there are; no other is looked for.
const VIEWS: [&str; 13] = [
    "Uint8Array",
    "Uint8ClampedArray",
    "Int8Array",
    "Uint16Array",
    "Int16Array",
    "Uint32Array",
    "Int32Array",
    "BigUint64Array",
    "BigInt64Array",
    "Float16Array",
    "Float32Array",
    "Float64Array",
    "DataView",
];

impl<'a, 'js> Decoder<'a, 'js> {
    pub(super) fn new(ctx: &'a Ctx<'js>, tools: &'a Object<'js>, bytes: &'a [u8]) -> Self {
        Self { ctx, tools, rest: Reader(bytes), made: Vec::new(), depth: 0 }
    }

    pub(super) fn whole(mut self) -> Result<Value<'js>> {
        let version = self.rest.tag();
        match self.read(version)? {
            VERSION => {}
            other => return self.malformed(Malformed::Version(other)),
        }
        let value = self.value()?;
        if self.rest.0.is_empty() { Ok(value) } else { self.malformed(Malformed::Trailing) }
    }

    fn malformed<T>(&self, why: Malformed) -> Result<T> {
        Err(Exception::throw_message(self.ctx, &why.to_string()))
    }

    fn read<T>(&self, read: std::result::Result<T, Malformed>) -> Result<T> {
        read.or_else(|why| self.malformed(why))
    }

    fn tool<A: IntoArgs<'js>, R: FromJs<'js>>(&self, name: &str, args: A) -> Result<R> {
        let tool: Function<'js> = self.tools.get(name)?;
        tool.call(args)
    }

    fn value(&mut self) -> Result<Value<'js>> {
        let tag = self.rest.tag();
        let tag = self.read(tag)?;
        self.tagged(tag)
    }

    /// A value, or nothing where a hole may stand.
    fn value_or_hole(&mut self) -> Result<Option<Value<'js>>> {
        let tag = self.rest.tag();
        match self.read(tag)? {
            tag::HOLE => Ok(None),
            tag => self.tagged(tag).map(Some),
        }
    }

    fn tagged(&mut self, tag: u8) -> Result<Value<'js>> {
        let ctx = self.ctx.clone();
        match tag {
            tag::UNDEFINED => Ok(Value::new_undefined(ctx)),
            tag::NULL => Ok(Value::new_null(ctx)),
            tag::FALSE => Ok(Value::new_bool(ctx, false)),
            tag::TRUE => Ok(Value::new_bool(ctx, true)),
            tag::INTEGER => {
                self.rest.integer().or_else(|e| self.malformed(e)).map(|n| Value::new_float(ctx, n))
            }
            tag::DOUBLE => self.double().map(|n| Value::new_float(ctx, n)),
            tag::BIGINT => self.bigint(),
            tag::TEXT => {
                let text = self.rest.utf8();
                Ok(rquickjs::String::from_str(ctx, self.read(text)?)?.into_value())
            }
            tag::UNITS => {
                let units = self.rest.units();
                raw::string(self.ctx, &self.read(units)?)
            }
            tag::REFERENCE => self.reference(),
            tag => self.nested(tag),
        }
    }

    fn double(&mut self) -> Result<f64> {
        let double = self.rest.plain_double();
        self.read(double)
    }

    fn bigint(&mut self) -> Result<Value<'js>> {
        let digits = self.rest.utf8();
        let digits = self.read(digits)?;
        let plain = digits.strip_prefix('-').unwrap_or(digits);
        if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_hexdigit()) {
            return self.malformed(Malformed::Content);
        }
        self.tool::<_, BigInt<'js>>("bigint", (plain, plain.len() < digits.len())).map(BigInt::into_value)
    }

    fn reference(&mut self) -> Result<Value<'js>> {
        let number = self.rest.number();
        let number = usize::try_from(self.read(number)?).unwrap_or(usize::MAX);
        match self.made.get(number) {
            Some(Some(value)) => Ok(value.clone()),
            _ => self.malformed(Malformed::Content),
        }
    }

    fn nested(&mut self, tag: u8) -> Result<Value<'js>> {
        if self.depth == MAX_DEPTH {
            return self.malformed(Malformed::Depth);
        }
        self.depth += 1;
        let value = self.object(tag)?;
        self.depth -= 1;
        Ok(value)
    }

    fn remember(&mut self, value: &Value<'js>) {
        self.made.push(Some(value.clone()));
    }

    fn object(&mut self, tag: u8) -> Result<Value<'js>> {
        match tag {
            tag::OBJECT => {
                let object = Object::new(self.ctx.clone())?;
                self.remember(object.as_value());
                self.properties(&object)?;
                Ok(object.into_value())
            }
            tag::ARRAY => self.array(),
            tag::SPARSE => self.sparse(),
            tag::DATE => {
                let time = self.double()?;
                self.made_by("date", (time,))
            }
            tag::REGEXP => self.made_of("regexpOf", 2),
            tag::MAP => self.collection("map", "put", 2),
            tag::SET => self.collection("set", "add", 1),
            tag::BUFFER => self.buffer(),
            tag::VIEW => self.view(),
            tag::ERROR => self.error(),
            tag::DOM_EXCEPTION => self.made_of("exceptionOf", 3),
            tag::BOXED => self.made_of("box", 1),
            tag::BLOB => self.blob(),
            other => self.malformed(Malformed::Tag(other)),
        }
    }

    fn made_by<A: IntoArgs<'js>>(&mut self, tool: &str, args: A) -> Result<Value<'js>> {
        let value: Value<'js> = self.tool(tool, args)?;
        self.remember(&value);
        Ok(value)
    }

    /// What the tool makes of as many primitives as follow.
    fn made_of(&mut self, tool: &str, count: usize) -> Result<Value<'js>> {
        let at = self.made.len();
        self.made.push(None);
        let parts = Array::new(self.ctx.clone())?;
        for index in 0..count {
            let part = self.value()?;
            if part.is_object() {
                return self.malformed(Malformed::Content);
            }
            parts.set(index, part)?;
        }
        let value: Value<'js> = self.tool(tool, (parts,))?;
        self.made[at] = Some(value.clone());
        Ok(value)
    }

    fn array(&mut self) -> Result<Value<'js>> {
        let array = Array::new(self.ctx.clone())?;
        self.remember(array.as_value());
        let count = self.rest.count(1);
        let count = self.read(count)?;
        for index in 0..count {
            if let Some(value) = self.value_or_hole()? {
                self.tool::<_, ()>("define", (array.clone(), index as f64, value))?;
            }
        }
        self.tool::<_, ()>("extend", (array.clone(), count as f64))?;
        Ok(array.into_value())
    }

    fn sparse(&mut self) -> Result<Value<'js>> {
        let array = Array::new(self.ctx.clone())?;
        self.remember(array.as_value());
        let length = self.rest.number();
        let Ok(length) = u32::try_from(self.read(length)?) else { return self.malformed(Malformed::Content) };
        self.tool::<_, ()>("extend", (array.clone(), f64::from(length)))?;
        self.properties(array.as_object())?;
        Ok(array.into_value())
    }

    fn properties(&mut self, object: &Object<'js>) -> Result<()> {
        let count = self.rest.count(2);
        for _ in 0..self.read(count)? {
            let key = self.value()?;
            if !key.is_string() {
                return self.malformed(Malformed::Content);
            }
            let value = self.value()?;
            self.tool::<_, ()>("define", (object.clone(), key, value))?;
        }
        Ok(())
    }

    fn collection(&mut self, make: &str, put: &str, values: usize) -> Result<Value<'js>> {
        let whole = self.made_by(make, ())?;
        let count = self.rest.count(values);
        for _ in 0..self.read(count)? {
            let key = self.value()?;
            if values == 1 {
                self.tool::<_, ()>(put, (whole.clone(), key))?;
            } else {
                let value = self.value()?;
                self.tool::<_, ()>(put, (whole.clone(), key, value))?;
            }
        }
        Ok(whole)
    }

    fn buffer(&mut self) -> Result<Value<'js>> {
        let bytes = self.rest.bytes();
        let view = raw::bytes(self.ctx, self.read(bytes)?)?;
        let buffer = view.arraybuffer()?.into_value();
        self.remember(&buffer);
        Ok(buffer)
    }

    fn blob(&mut self) -> Result<Value<'js>> {
        let at = self.made.len();
        self.made.push(None);
        let media = self.value()?;
        let bytes = self.rest.bytes();
        let bytes = raw::bytes(self.ctx, self.read(bytes)?)?;
        if !media.is_string() {
            return self.malformed(Malformed::Content);
        }
        let blob: Value<'js> = self.tool("blobOf", (media, bytes))?;
        self.made[at] = Some(blob.clone());
        Ok(blob)
    }

    fn view(&mut self) -> Result<Value<'js>> {
        let name = self.rest.utf8();
        let name = self.read(name)?;
        if !VIEWS.contains(&name) {
            return self.malformed(Malformed::Content);
        }
        let buffer = self.value()?;
        let (start, length) = (self.rest.number(), self.rest.number());
        let (start, length) = (self.read(start)?, self.read(length)?);
        match self.tool::<_, Option<Value<'js>>>("viewOf", (name, buffer, start as f64, length as f64))? {
            Some(view) => {
                self.remember(&view);
                Ok(view)
            }
            None => self.malformed(Malformed::Content),
        }
    }

    fn error(&mut self) -> Result<Value<'js>> {
        let name = self.value()?;
        if !name.is_string() {
            return self.malformed(Malformed::Content);
        }
        let error = self.made_by("errorOf", (name,))?;
        for part in ["message", "stack", "cause"] {
            if let Some(value) = self.value_or_hole()? {
                if part != "cause" && !value.is_string() {
                    return self.malformed(Malformed::Content);
                }
                self.tool::<_, ()>("hide", (error.clone(), part, value))?;
            }
        }
        let object = Object::from_js(self.ctx, error.clone())?;
        self.properties(&object)?;
        Ok(error)
    }
}
