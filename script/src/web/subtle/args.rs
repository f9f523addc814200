//! What an operation is given: a list of values, each asked for as what it must be.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use rquickjs::{Array, Ctx, Exception, FromJs, IntoJs, Result, TypedArray, Value};
use zeroize::Zeroizing;

use super::hash::Hash;
use crate::raw;

pub(super) struct Args<'js> {
    pub(super) ctx: Ctx<'js>,
    list: Vec<Value<'js>>,
}

impl<'js> Args<'js> {
    pub(super) fn new(ctx: Ctx<'js>, list: Vec<Value<'js>>) -> Self {
        Self { ctx, list }
    }

    /// The value, undefined where there is none.
    pub(super) fn value(&self, at: usize) -> Value<'js> {
        self.list.get(at).cloned().unwrap_or_else(|| Value::new_undefined(self.ctx.clone()))
    }

    /// Whether there is one that says something.
    pub(super) fn is_given(&self, at: usize) -> bool {
        let value = self.value(at);
        !value.is_undefined() && !value.is_null()
    }

    pub(super) fn get<T: FromJs<'js>>(&self, at: usize) -> Result<T> {
        T::from_js(&self.ctx, self.value(at))
    }

    /// A copy of the bytes that leaves nothing behind.
    pub(super) fn bytes(&self, at: usize) -> Result<Zeroizing<Vec<u8>>> {
        Ok(Zeroizing::new(raw::copy(&self.get::<TypedArray<'js, u8>>(at)?)))
    }

    pub(super) fn size(&self, at: usize) -> Result<usize> {
        Ok(usize::try_from(self.get::<u32>(at)?).unwrap_or(usize::MAX))
    }

    pub(super) fn hash(&self, at: usize) -> Result<Hash> {
        Hash::named(&self.get::<String>(at)?).ok_or_else(|| self.wrong("hash"))
    }

    /// Chance that follows from the seed.
    pub(super) fn random(&self, at: usize) -> Result<ChaCha20Rng> {
        let seed: Option<Zeroizing<[u8; 32]>> =
            self.bytes(at)?.as_slice().try_into().ok().map(Zeroizing::new);
        seed.map(|seed| ChaCha20Rng::from_seed(*seed)).ok_or_else(|| self.wrong("seed"))
    }

    /// The error that the JavaScript of the web classes has called it wrongly.
    pub(super) fn wrong(&self, what: &str) -> rquickjs::Error {
        Exception::throw_type(&self.ctx, &format!("There is no such {what}."))
    }

    /// Bytes as what an operation gives; null for none.
    pub(super) fn out(&self, bytes: Option<impl AsRef<[u8]>>) -> Result<Value<'js>> {
        match bytes {
            Some(bytes) => Ok(raw::bytes(&self.ctx, bytes.as_ref())?.into_value()),
            None => Ok(Value::new_null(self.ctx.clone())),
        }
    }

    /// A list of bytes.
    pub(super) fn list(&self, parts: &[impl AsRef<[u8]>]) -> Result<Value<'js>> {
        let list = Array::new(self.ctx.clone())?;
        for (at, part) in parts.iter().enumerate() {
            list.set(at, raw::bytes(&self.ctx, part.as_ref())?)?;
        }
        Ok(list.into_value())
    }

    pub(super) fn truth(&self, truth: bool) -> Result<Value<'js>> {
        truth.into_js(&self.ctx)
    }
}
