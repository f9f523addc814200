//! How an image comes together: its manifest and configuration first, then its layers side by side, then those that need
//! what is below them.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use berth_common::image::{Architecture, Digest};
use berth_common::wire::images::ReadBlob;
use berth_images::manifest::{Config, Descriptor, ImageManifest, MAX_DOCUMENT_BYTES, Manifest};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::layers::{LayerName, Unpacked, chain_of};
use super::modes::{Job, Unpacker};
use super::spool::{Spool, Transfer, lacking};
use super::{Failure, Image, Images, LAYERS_AT_ONCE};

/// How long a manifest or configuration may take, with the wait for an edge that has it.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest image, in bytes as they are fetched: what its manifest says is believed only up to here.
const MAX_IMAGE_BYTES: u64 = 64 << 30;

/// How far an image is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Each layer's bytes, and those of them that are there.
    layers: RefCell<Vec<(u64, Rc<Cell<u64>>)>>,
    names: RefCell<Vec<LayerName>>,
}

impl Progress {
    /// Bytes that are there, and bytes in all: 0 while that is not known.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let layers = self.layers.borrow();
        layers.iter().fold((0, 0), |(done, total), (size, here)| (done + here.get().min(*size), total + size))
    }

    /// The layers that it has, as far as they are known.
    pub(super) fn names(&self) -> Vec<LayerName> {
        self.names.borrow().clone()
    }
}

/// A layer of an image, and what is known of it.
#[derive(Debug, Clone)]
struct Layer {
    blob: Descriptor,
    diff: Digest,
    /// Of it and all below it.
    chain: Digest,
}

/// A manifest with its configuration.
struct Plan {
    config: Config,
    layers: Vec<Layer>,
}

impl Plan {
    fn of(manifest: &ImageManifest, config: Config) -> Result<Self, Failure> {
        let parts = manifest.layers_of(&config).map_err(|error| Failure::lasting(error.to_string()))?;
        if config.architecture != Architecture::HERE {
            let (image, here) = (config.architecture, Architecture::HERE);
            return Err(Failure::lasting(format!(
                "it is for linux/{image}, and this node runs linux/{here}"
            )));
        }
        let bytes = manifest.bytes();
        if bytes > MAX_IMAGE_BYTES {
            return Err(Failure::lasting(format!(
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
                return Err(Failure::lasting(text));
            }
            let whole = if alone.summary.needs_parents && !below.is_empty() {
                self.layer(layer.clone(), LayerName::chained(&layer.chain), below.clone()).await?
            } else {
                alone
            };
            // The topmost first.
            below.insert(0, whole.files);
        }
        for layer in &plan.layers {
            self.layers.drop_spool(&layer.blob.digest, &layer.diff)?;
        }
        Ok(Rc::new(describe(below, plan.config)))
    }

    /// An image of which all is there.
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

    /// The documents that an image is described by, as far as they are there.
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
                .ok_or_else(|| Failure::lasting(format!("it has nothing for linux/{here}")))?;
            manifest = self.manifest(&chosen.digest).await?;
        }
        let Manifest::Image(image) = manifest else {
            return Err(Failure::lasting("its indexes are nested too deeply".to_owned()));
        };
        let config = self.document(&image.config.digest).await?;
        let config =
            Config::read(&config).map_err(|error| Failure::lasting(format!("its configuration: {error}")))?;
        Plan::of(&image, config)
    }

    /// The same, of what is there.
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
        Manifest::read(&bytes).map_err(|error| Failure::lasting(format!("its manifest {digest}: {error}")))
    }

    async fn document(&self, digest: &Digest) -> Result<Vec<u8>, Failure> {
        if let Some(bytes) = self.documents.read(digest) {
            return Ok(bytes);
        }
        let ask = ReadBlob { digest: *digest, from: 0 };
        let coming = self.sources.read(&ask, Instant::now() + DOCUMENT_TIMEOUT).await;
        let mut coming = coming.map_err(|error| lacking(&ask, &error))?;
        let bytes =
            tokio::time::timeout(DOCUMENT_TIMEOUT, coming.bytes.read_to_end(MAX_DOCUMENT_BYTES)).await;
        let bytes = bytes
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| Failure::lasting(format!("{digest} did not come whole")))?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(Failure::lasting(format!("{digest} is damaged: its digest is {found}")));
        }
        self.counts.fetched_bytes.add(bytes.len() as u64);
        self.documents.write(digest, &bytes)?;
        Ok(bytes)
    }

    /// A layer by this name, fetched and unpacked once for all that want it: alone, or onto those below it.
    async fn layer(
        self: &Rc<Self>,
        layer: Layer,
        name: LayerName,
        below: Vec<PathBuf>,
    ) -> Result<Unpacked, Failure> {
        let (images, key) = (Rc::clone(self), name.as_str().to_owned());
        self.unpacking.join(key, || Box::pin(images.fly(layer, name, below))).await
    }

    async fn fly(
        self: Rc<Self>,
        layer: Layer,
        name: LayerName,
        below: Vec<PathBuf>,
    ) -> Result<Unpacked, Failure> {
        let done = Rc::clone(self.done.borrow_mut().entry(layer.blob.digest).or_default());
        let brought = match self.layers.get(&name) {
            Some(there) => Ok(there),
            None => self.bring(&layer, &name, &below, &done).await,
        };
        if let Ok(unpacked) = &brought {
            done.set(layer.blob.size);
            self.layers.touch(std::slice::from_ref(&unpacked.files));
        }
        self.done.borrow_mut().remove(&layer.blob.digest);
        brought
    }

    /// Fetches and unpacks, and where that needs room that can be made, does so once more.
    async fn bring(
        &self,
        layer: &Layer,
        name: &LayerName,
        below: &[PathBuf],
        done: &Cell<u64>,
    ) -> Result<Unpacked, Failure> {
        // Never closed.
        let _room = self.room.acquire().await;
        if self.is_full() {
            self.make_room(self.marks.low).await;
        }
        let brought = self.attempt(layer, name, below, done).await;
        if brought.is_err() && self.is_full() && self.make_room(self.marks.low).await {
            return self.attempt(layer, name, below, done).await;
        }
        brought
    }

    /// One try, of which nothing is left where it fails but what came of the layer.
    async fn attempt(
        &self,
        layer: &Layer,
        name: &LayerName,
        below: &[PathBuf],
        done: &Cell<u64>,
    ) -> Result<Unpacked, Failure> {
        let brought = self.try_bring(layer, name, below, done).await;
        if brought.is_err() {
            self.layers.give_up(name).await;
        }
        brought
    }

    async fn try_bring(
        &self,
        layer: &Layer,
        name: &LayerName,
        below: &[PathBuf],
        done: &Cell<u64>,
    ) -> Result<Unpacked, Failure> {
        let Layer { blob, diff, .. } = layer;
        let target = self.layers.begin(name).await?;
        let mut spool = Spool::open(self.layers.spool_of(&blob.digest, diff), blob.size)?;
        let job = Job {
            target: &target,
            blob: spool.path(),
            digest: blob.digest,
            length: blob.size,
            diff: *diff,
            parents: below,
        };
        let mut unpacker = Unpacker::start(&job)?;
        let transfer = Transfer { sources: &self.sources, blob, fetched: &self.counts.fetched_bytes, done };
        transfer.run(&mut spool, &mut unpacker).await?;
        let summary = match unpacker.finish().await {
            Ok(summary) => summary,
            Err(failure) => {
                // Whatever is wrong may be in what was fetched.
                spool.remove()?;
                return Err(Failure::lasting(format!("layer {}: {failure}", blob.digest)));
            }
        };
        let unpacked = self.layers.keep(name, summary)?;
        self.counts.layers.count();
        if below.is_empty() && unpacked.summary.needs_parents {
            // Its bytes may be needed once more.
            return Ok(unpacked);
        }
        spool.remove()?;
        tracing::info!(layer = %blob.digest, bytes = blob.size, "unpacked a layer");
        if unpacked.summary.left_out > 0 {
            tracing::warn!(layer = %blob.digest, entries = unpacked.summary.left_out, notes = ?unpacked.summary.notes,
                "entries of a layer were left out");
        }
        Ok(unpacked)
    }
}

/// An image of these layers, the topmost first. One that is there twice counts once, at its higher place: an overlay takes
/// none twice, and what the lower one says the higher says again.
fn describe(mut layers: Vec<PathBuf>, config: Config) -> Image {
    let mut seen = HashSet::new();
    layers.retain(|layer| seen.insert(layer.clone()));
    let Config { args, env, cwd, user, .. } = config;
    Image { layers, args, env, cwd: PathBuf::from(cwd), user }
}
