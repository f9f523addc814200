//! Looks at layers before they are sent, for what would make every node refuse them. Knows nothing of edges.

use std::io::{self, Read};

use anyhow::{Context, Result, ensure};
use berth_common::image::{Digest, Hasher};
use berth_images::layer::{Limits, check};

use super::part::Part;
use crate::stop::Stop;

/// Reads a layer whole. `digest` is what it must have.
pub(crate) fn layer(part: &Part, digest: &Digest, stop: &Stop) -> Result<()> {
    let shown = part.path().display();
    let file = part.open().with_context(|| format!("cannot read {shown}"))?;
    let mut layer = Hashed { from: file, hash: Hasher::new(digest.algorithm()), stop };
    let checked = check(&mut layer, &Limits::default());
    // Bytes after the archive are part of the digest too.
    io::copy(&mut layer, &mut io::sink()).with_context(|| format!("cannot read {shown}"))?;
    let sound = layer.hash.digest() == *digest;
    ensure!(sound, "{shown} is damaged: what is there has not the digest {digest}");
    checked.with_context(|| format!("no node could use the layer {digest}"))
}

/// A reader that computes the digest of what it reads, until the work is given up.
struct Hashed<'a, R> {
    from: R,
    hash: Hasher,
    stop: &'a Stop,
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stop.check()?;
        let count = self.from.read(into)?;
        self.hash.update(&into[..count]);
        Ok(count)
    }
}
