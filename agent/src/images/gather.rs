//! Assembles an image: fetches its manifest and configuration, then its layers concurrently, then merges the layers
//! that depend on those below them.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use berth_common::image::{Architecture, Digest};
use berth_common::wire::images::ReadBlob;
use berth_images::manifest::{Config, Descriptor, ImageManifest, MAX_DOCUMENT_BYTES, Manifest};
use berth_shim::signals;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::layers::{LayerName, Unpacked, chain_of, spool_name};
use super::modes::{Job, Unpacker};
use super::spool::{Spool, Transfer, not_fetched};
use super::turns::Turn;
use super::{Failure, Image, Images, LAYERS_AT_ONCE};

/// How long a manifest or configuration may take, including the wait for an edge that has it.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest image, in compressed bytes as its manifest declares them.
const MAX_IMAGE_BYTES: u64 = 64 << 30;

/// The progress of an image.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The size of each layer, and how many of its bytes were fetched.
    layers: RefCell<Vec<(u64, Rc<Cell<u64>>)>>,
    names: RefCell<Vec<LayerName>>,
}

impl Progress {
    /// Fetched bytes and total bytes; the total is 0 while not known.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let layers = self.layers.borrow();
        layers.iter().fold((0, 0), |(done, total), (size, here)| (done + here.get().min(*size), total + size))
    }

    /// Its layers, as far as they are known.
    pub(super) fn names(&self) -> Vec<LayerName> {
        self.names.borrow().clone()
    }
}

/// A layer of an image.
#[derive(Debug, Clone)]
struct Layer {
    blob: Descriptor,
    diff: Digest,
    /// The chain id of it and all layers below it.
    chain: Digest,
}

/// What a layer is unpacked to.
struct LayerTarget<'a> {
    name: &'a LayerName,
    /// The layers that it is unpacked onto.
    below: &'a [PathBuf],
    /// The turn at its spool file.
    turn: &'a Turn,
}

/// Why a layer is not there, and what of it was tried.
#[derive(Debug, Clone)]
pub(super) struct LayerFailure {
    digest: Digest,
    size: u64,
    failure: Failure,
}

impl LayerFailure {
    fn is_of(&self, blob: &Descriptor) -> bool {
        (self.digest, self.size) == (blob.digest, blob.size)
    }
}

/// A manifest with its configuration.
struct Plan {
    config: Config,
    layers: Vec<Layer>,
}

impl Plan {
    fn of(manifest: &ImageManifest, config: Config) -> Result<Self, Failure> {
        let parts = manifest.layers_of(&config).map_err(|error| Failure::permanent(error.to_string()))?;
        if config.architecture != Architecture::HERE {
            let (image, here) = (config.architecture, Architecture::HERE);
            return Err(Failure::permanent(format!(
                "it is for linux/{image}, and this node runs linux/{here}"
            )));
        }
        let bytes = manifest.bytes();
        if bytes > MAX_IMAGE_BYTES {
            return Err(Failure::permanent(format!(
                "it has {bytes} bytes; at most {MAX_IMAGE_BYTES} are allowed"
            )));
        }
        let mut chain = None;
        let layers = parts.into_iter().map(|(blob, diff)| {
            let with = chain_of(chain.as_ref(), diff);
            chain = Some(with);
            Layer { blob: blob.clone(), diff: *diff, chain: with }
        });
        let layers = layers.collect();
        Ok(Self { layers, config })
    }
}

impl Images {
    pub(super) async fn gather(
        self: &Rc<Self>,
        digest: &Digest,
        progress: &Progress,
    ) -> Result<Rc<Image>, Failure> {
        let plan = self.plan(digest).await?;
        self.begin_progress(&plan, progress);
        let fetched = stream::iter(plan.layers.clone()).map(|layer| {
            let images = Rc::clone(self);
            let name = LayerName::alone(&layer.diff);
            async move { images.layer(layer, name, Vec::new()).await }
        });
        let fetched: Vec<Unpacked> = fetched.buffered(LAYERS_AT_ONCE).try_collect().await?;
        let mut below: Vec<PathBuf> = Vec::new();
        for (layer, alone) in plan.layers.iter().zip(fetched) {
            if below.is_empty() && alone.summary.dangling > 0 {
                let text = format!(
                    "its lowest layer {} has hard links to files that it does not have",
                    layer.blob.digest
                );
                return Err(Failure::permanent(text));
            }
            let whole = if alone.summary.needs_parents && !below.is_empty() {
                self.layer(layer.clone(), LayerName::chained(&layer.chain), below.clone()).await?
            } else {
                alone
            };
            // The topmost layer comes first.
            below.insert(0, whole.files);
        }
        for Layer { blob, diff, .. } in &plan.layers {
            // Another image may be unpacking it onto other layers.
            if !self.turns.are_wanted(&spool_name(&blob.digest, diff)) {
                self.layers.drop_spool(&blob.digest, diff)?;
            }
        }
        Ok(Rc::new(describe(below, plan.config)))
    }

    /// The image, if all of it is on disk.
    pub(super) fn assemble(&self, digest: &Digest) -> Option<Rc<Image>> {
        let plan = self.plan_here(digest)?;
        let mut below: Vec<PathBuf> = Vec::new();
        for layer in &plan.layers {
            let alone = self.layers.get(&LayerName::alone(&layer.diff));
            let chained = || self.layers.get(&LayerName::chained(&layer.chain));
            let whole = match alone {
                Some(alone) if !alone.summary.needs_parents || below.is_empty() => alone,
                _ => chained()?,
            };
            below.insert(0, whole.files);
        }
        Some(Rc::new(describe(below, plan.config)))
    }

    /// The digests of an image's manifests and configuration, as far as they are on disk.
    pub(super) fn documents_of(&self, digest: &Digest) -> Vec<Digest> {
        let mut found = vec![*digest];
        let mut manifest = self.documents.read(digest).and_then(|bytes| Manifest::read(&bytes).ok());
        if let Some(Manifest::Index(index)) = &manifest {
            let chosen = index.choose(Architecture::HERE).map(|chosen| chosen.digest);
            found.extend(chosen);
            let read = chosen.and_then(|chosen| self.documents.read(&chosen));
            manifest = read.and_then(|bytes| Manifest::read(&bytes).ok());
        }
        if let Some(Manifest::Image(image)) = manifest {
            found.push(image.config.digest);
        }
        found
    }

    fn begin_progress(&self, plan: &Plan, progress: &Progress) {
        for layer in &plan.layers {
            let done = Rc::clone(self.done.borrow_mut().entry(layer.blob.digest).or_default());
            progress.layers.borrow_mut().push((layer.blob.size, done));
            let names = [LayerName::alone(&layer.diff), LayerName::chained(&layer.chain)];
            progress.names.borrow_mut().extend(names);
        }
    }

    async fn plan(&self, digest: &Digest) -> Result<Plan, Failure> {
        let mut manifest = self.manifest(digest).await?;
        if let Manifest::Index(index) = &manifest {
            let here = Architecture::HERE;
            let chosen = index
                .choose(here)
                .ok_or_else(|| Failure::permanent(format!("it has nothing for linux/{here}")))?;
            manifest = self.manifest(&chosen.digest).await?;
        }
        let Manifest::Image(image) = manifest else {
            return Err(Failure::permanent("its indexes are nested too deeply".to_owned()));
        };
        let config = self.document(&image.config.digest).await?;
        let config = Config::read(&config)
            .map_err(|error| Failure::permanent(format!("its configuration: {error}")))?;
        Plan::of(&image, config)
    }

    /// Like `plan`, but only from documents on disk.
    fn plan_here(&self, digest: &Digest) -> Option<Plan> {
        let read = |digest: &Digest| Manifest::read(&self.documents.read(digest)?).ok();
        let image = match read(digest)? {
            Manifest::Image(image) => image,
            Manifest::Index(index) => match read(&index.choose(Architecture::HERE)?.digest)? {
                Manifest::Image(image) => image,
                Manifest::Index(_) => return None,
            },
        };
        let config = Config::read(&self.documents.read(&image.config.digest)?).ok()?;
        Plan::of(&image, config).ok()
    }

    async fn manifest(&self, digest: &Digest) -> Result<Manifest, Failure> {
        let bytes = self.document(digest).await?;
        Manifest::read(&bytes).map_err(|error| Failure::permanent(format!("its manifest {digest}: {error}")))
    }

    async fn document(&self, digest: &Digest) -> Result<Vec<u8>, Failure> {
        if let Some(bytes) = self.documents.read(digest) {
            return Ok(bytes);
        }
        let ask = ReadBlob { digest: *digest, from: 0 };
        let response = self.sources.read(&ask, Instant::now() + DOCUMENT_TIMEOUT).await;
        let mut response = response.map_err(|error| not_fetched(&ask, &error))?;
        let bytes =
            tokio::time::timeout(DOCUMENT_TIMEOUT, response.bytes.read_to_end(MAX_DOCUMENT_BYTES)).await;
        let bytes = bytes
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| Failure::permanent(format!("{digest} did not come whole")))?;
        if !digest.fits(&bytes) {
            return Err(Failure::permanent(format!("{digest} is damaged: its content has another digest")));
        }
        self.counts.fetched_bytes.add(bytes.len() as u64);
        self.documents.write(digest, &bytes)?;
        Ok(bytes)
    }

    /// Fetches and unpacks a layer, shared with concurrent callers: alone, or onto the layers below it. The failure of
    /// another image's attempt is only shared if both say the same of the layer: else it may have failed for that.
    async fn layer(
        self: &Rc<Self>,
        layer: Layer,
        name: LayerName,
        below: Vec<PathBuf>,
    ) -> Result<Unpacked, Failure> {
        let key = name.as_str().to_owned();
        while let Some(others) = self.unpacking.joined(&key) {
            match others.await {
                Ok(unpacked) => return Ok(unpacked),
                Err(failed) if failed.is_of(&layer.blob) => return Err(failed.failure),
                Err(_) => {}
            }
        }
        let (images, digest, size) = (Rc::clone(self), layer.blob.digest, layer.blob.size);
        let work = async move {
            let fetched = images.fetch_layer(layer, name, below).await;
            fetched.map_err(|failure| LayerFailure { digest, size, failure })
        };
        self.unpacking.join(key, || Box::pin(work)).await.map_err(|failed| failed.failure)
    }

    async fn fetch_layer(
        self: Rc<Self>,
        layer: Layer,
        name: LayerName,
        below: Vec<PathBuf>,
    ) -> Result<Unpacked, Failure> {
        let done = Rc::clone(self.done.borrow_mut().entry(layer.blob.digest).or_default());
        let result = match self.layers.get(&name) {
            Some(there) => Ok(there),
            None => self.fetch_and_unpack(&layer, &name, &below, &done).await,
        };
        if let Ok(unpacked) = &result {
            done.set(layer.blob.size);
            self.layers.touch(std::slice::from_ref(&unpacked.files));
        }
        self.done.borrow_mut().remove(&layer.blob.digest);
        result
    }

    /// Fetches and unpacks a layer; if the disk is full, evicts unused layers and tries once more.
    async fn fetch_and_unpack(
        &self,
        layer: &Layer,
        name: &LayerName,
        below: &[PathBuf],
        done: &Cell<u64>,
    ) -> Result<Unpacked, Failure> {
        // Before the room, which whoever has the turn needs.
        let turn = self.turns.take(spool_name(&layer.blob.digest, &layer.diff)).await;
        // Never closed.
        let _room = self.room.acquire().await;
        if self.is_full() {
            self.make_room(self.marks.low).await;
        }
        let target = LayerTarget { name, below, turn: &turn };
        let result = self.attempt(layer, &target, done).await;
        // What the attempt had unpacked is gone by now: the disk need not be full any more.
        let full = result.as_ref().is_err_and(|failure| failure.full || self.is_full());
        if full && self.make_room(self.marks.low).await {
            return self.attempt(layer, &target, done).await;
        }
        result
    }

    /// One attempt. If it fails, only the fetched bytes stay on disk.
    async fn attempt(
        &self,
        layer: &Layer,
        target: &LayerTarget<'_>,
        done: &Cell<u64>,
    ) -> Result<Unpacked, Failure> {
        let partial = self.layers.begin(target.name).await?;
        let result = self.try_fetch_and_unpack(layer, target, &partial, done).await;
        if result.is_err() {
            self.layers.give_up(&partial).await;
        }
        result
    }

    async fn try_fetch_and_unpack(
        &self,
        layer: &Layer,
        target: &LayerTarget<'_>,
        partial: &Path,
        done: &Cell<u64>,
    ) -> Result<Unpacked, Failure> {
        let Layer { blob, diff, .. } = layer;
        let mut spool = Spool::open(self.layers.spool_of(&blob.digest, diff), blob.size)?;
        let job = Job {
            target: partial,
            blob: spool.path(),
            digest: blob.digest,
            length: blob.size,
            diff: *diff,
            parents: target.below,
        };
        let mut unpacker = Unpacker::start(&job)?;
        let transfer = Transfer { sources: &self.sources, blob, fetched: &self.counts.fetched_bytes, done };
        let work = async {
            transfer.run(&mut spool, &mut unpacker).await?;
            Ok::<_, Failure>(unpacker.finish().await)
        };
        // The unpacking process is killed where it is dropped.
        let finished = tokio::select! {
            finished = work => finished?,
            full = self.until_full() => return Err(full),
        };
        let summary = match finished {
            Ok(summary) => summary,
            Err(failure) => {
                // The fault may be in the fetched bytes: they are not reused.
                spool.remove()?;
                return Err(Failure::permanent(format!("layer {}: {failure}", blob.digest)));
            }
        };
        let unpacked = self.layers.keep(partial, target.name, summary)?;
        self.counts.layers.count();
        // The compressed bytes are needed again if it has to be unpacked onto its parents, or by those who wait.
        if target.below.is_empty() && unpacked.summary.needs_parents || target.turn.is_awaited() {
            return Ok(unpacked);
        }
        spool.remove()?;
        tracing::info!(layer = %blob.digest, bytes = blob.size, "unpacked a layer");
        if unpacked.summary.left_out > 0 {
            tracing::warn!(layer = %blob.digest, entries = unpacked.summary.left_out, notes = ?unpacked.summary.notes,
                "some entries of a layer were not unpacked");
        }
        Ok(unpacked)
    }
}

/// An image of these layers, the topmost first. A layer that occurs twice is used once, at its higher position:
/// overlayfs refuses duplicates, and the higher one hides the lower one anyway.
fn describe(mut layers: Vec<PathBuf>, config: Config) -> Image {
    let mut seen = HashSet::new();
    layers.retain(|layer| seen.insert(layer.clone()));
    let Config { args, env, cwd, user, stop_signal, volumes, .. } = config;
    let stop_signal = stop_signal.as_deref().and_then(signals::number_of);
    let volumes = volumes.into_iter().map(PathBuf::from).collect();
    Image { layers, args, env, cwd: PathBuf::from(cwd), user, stop_signal, volumes }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use tokio::task::LocalSet;

    use super::*;
    use crate::images::WaterMarks;

    fn layer(size: u64) -> Layer {
        let digest = Digest::of(b"a layer");
        let blob = Descriptor { media_type: String::new(), digest, size, platform: None };
        Layer { blob, diff: digest, chain: digest }
    }

    #[tokio::test]
    async fn a_failed_layer_fails_for_all_images_that_say_the_same_of_it_and_no_others() {
        let state = tempfile::tempdir().unwrap();
        let images = Images::open(state.path(), WaterMarks { high: 100, low: 100 }).unwrap();
        let (tried, other) = (layer(7), layer(8));
        let name = LayerName::alone(&tried.diff);
        LocalSet::new()
            .run_until(async {
                let failure = Failure::transient("no edge delivers it");
                let failed = LayerFailure { digest: tried.blob.digest, size: 7, failure: failure.clone() };
                let fail = || {
                    let failed = failed.clone();
                    drop(images.unpacking.join(name.as_str().to_owned(), || Box::pin(async { Err(failed) })));
                };
                fail();
                let same = images.layer(tried.clone(), name.clone(), Vec::new()).await;
                assert_eq!(same.err(), Some(failure));
                assert!(!images.unpacking.has(name.as_str()));
                // Whoever has the turn, the other waits for it, and goes no further here.
                let _turn = images.turns.take(spool_name(&other.blob.digest, &other.diff)).await;
                fail();
                let mut tries = std::pin::pin!(images.layer(other, name.clone(), Vec::new()));
                assert!(poll!(&mut tries).is_pending() && images.unpacking.has(name.as_str()));
            })
            .await;
    }
}
