//! Two images to pull: four layers each of about the same size, of which they share three. What is in them is Debian
//! with Node.js, every file in one of the layers: thousands of small files, and some large ones.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::image::{self, Layout, TAR_GZIP, architecture};
use crate::{debian, machine};

/// Layers of an image.
pub const LAYERS: usize = 4;
/// The names of the two images.
pub const NAMES: [&str; 2] = ["first", "second"];

/// The two images, each in a layout of its own.
#[derive(Debug)]
pub struct SampleImages {
    /// Their layouts.
    pub layouts: [PathBuf; 2],
    /// Bytes of one, as it is pulled.
    pub compressed_bytes: u64,
    /// Bytes of one, as archives.
    pub archive_bytes: u64,
    /// Files, directories and links of one.
    pub entries: u64,
}

/// A layer in the making.
struct Part {
    tar: Builder<File>,
    path: PathBuf,
    bytes: u64,
    directories: HashMap<PathBuf, ()>,
}

/// A layer that is made: what names it, and the digest of its archive.
#[derive(Clone)]
struct Made {
    descriptor: Value,
    diff_id: Value,
    archive_bytes: u64,
    file: PathBuf,
}

impl SampleImages {
    /// Makes them in this directory.
    pub fn make(directory: &Path) -> Result<Self> {
        let base = base_layer(&debian::layout()?)?;
        let (mut parts, mut entries) = (Vec::new(), 0);
        for index in 0..=LAYERS {
            parts.push(Part::create(directory.join(format!("layer-{index}.tar")))?);
        }
        spread(&base, &mut parts, &mut entries)?;
        let made = compress(parts)?;
        let layouts = NAMES.map(|name| directory.join(name));
        // The last of the second image is like that of the first, and another layer: all its files are a second
        // younger.
        for (layout, last) in layouts.iter().zip([LAYERS - 1, LAYERS]) {
            let layers: Vec<Made> = made[..LAYERS - 1].iter().chain([&made[last]]).cloned().collect();
            write(layout, &layers)?;
        }
        let size = |made: &Made| made.descriptor["size"].as_u64().unwrap_or_default();
        let first = &made[..LAYERS];
        let archive_bytes = first.iter().map(|made| made.archive_bytes).sum();
        made.iter().try_for_each(|made| fs::remove_file(&made.file))?;
        Ok(Self { layouts, compressed_bytes: first.iter().map(size).sum(), archive_bytes, entries })
    }
}

/// The compressed file of the image's lowest layer.
fn base_layer(layout: &Path) -> Result<PathBuf> {
    let read = |digest: &Value| -> Result<PathBuf> {
        let digest = digest.as_str().context("no digest")?;
        Ok(layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:")))
    };
    let json = |path: PathBuf| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let index = json(layout.join("index.json"))?;
    let manifest = json(read(&index["manifests"][0]["digest"])?)?;
    read(&manifest["layers"][0]["digest"])
}

/// Puts every entry of an archive into the layer that has the least so far, and the last layer's into one more.
fn spread(base: &Path, parts: &mut [Part], entries: &mut u64) -> Result<()> {
    let mut unzip = Command::new("gzip").arg("-dc").arg(base).stdout(Stdio::piped()).spawn()?;
    let mut archive = tar::Archive::new(unzip.stdout.take().context("gzip has an output")?);
    let (mut headers, mut placed) = (HashMap::new(), HashMap::new());
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let header = entry.header().clone();
        *entries += 1;
        if header.entry_type() == EntryType::Directory {
            headers.insert(path, header);
            continue;
        }
        let link = entry.link_name()?.map(std::borrow::Cow::into_owned);
        let target = link.as_ref().filter(|_| header.entry_type() == EntryType::Link);
        let least = (0..LAYERS).min_by_key(|index| parts[*index].bytes).unwrap_or_default();
        // A hard link is where its target is.
        let index = target.and_then(|target| placed.get(target).copied()).unwrap_or(least);
        placed.insert(path.clone(), index);
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        let twins = if index == LAYERS - 1 { &[LAYERS - 1, LAYERS][..] } else { &[index] };
        for (age, index) in twins.iter().enumerate() {
            let part = &mut parts[*index];
            part.directories_of(&path, &headers)?;
            part.add(&path, &header, link.as_deref(), &bytes, age as u64)?;
        }
    }
    ensure!(unzip.wait()?.success(), "{} is damaged", base.display());
    Ok(())
}

impl Part {
    fn create(path: PathBuf) -> Result<Self> {
        let tar = Builder::new(File::create(&path)?);
        Ok(Self { tar, path, bytes: 0, directories: HashMap::new() })
    }

    /// The parent directories of a path, with their owners and modes: each layer has entries for all that it needs.
    fn directories_of(&mut self, path: &Path, headers: &HashMap<PathBuf, Header>) -> Result<()> {
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.reverse();
        for directory in above {
            let Some(header) = headers.get(directory) else { continue };
            if self.directories.insert(directory.to_owned(), ()).is_none() {
                self.add(directory, header, None, &[], 0)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, old: &Header, link: Option<&Path>, bytes: &[u8], age: u64) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(old.entry_type());
        header.set_mode(old.mode()?);
        header.set_uid(old.uid()?);
        header.set_gid(old.gid()?);
        header.set_mtime(old.mtime()? + age);
        header.set_size(bytes.len() as u64);
        self.bytes += bytes.len() as u64;
        match link {
            Some(link) => self.tar.append_link(&mut header, path, link)?,
            None => self.tar.append_data(&mut header, path, bytes)?,
        }
        Ok(())
    }
}

/// Compresses all at once, as long as there are processors.
fn compress(parts: Vec<Part>) -> Result<Vec<Made>> {
    let mut running: Vec<(PathBuf, Child)> = Vec::new();
    for part in parts {
        drop(part.tar.into_inner()?);
        let child = Command::new("gzip").args(["--no-name", "--keep", "-6"]).arg(&part.path).spawn()?;
        running.push((part.path, child));
    }
    running.into_iter().map(|(path, child)| made(&path, child)).collect()
}

fn made(path: &Path, mut gzip: Child) -> Result<Made> {
    ensure!(gzip.wait()?.success(), "gzip failed");
    let archive = fs::read(path)?;
    fs::remove_file(path)?;
    let file = path.with_extension("tar.gz");
    let bytes = fs::read(&file)?;
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
    let descriptor = json!({"mediaType": TAR_GZIP, "digest": digest, "size": bytes.len()});
    let (diff_id, archive_bytes) = (json!(image::digest(&archive)), archive.len() as u64);
    Ok(Made { descriptor, diff_id, archive_bytes, file })
}

fn write(directory: &Path, layers: &[Made]) -> Result<()> {
    machine::remove_directory(directory)?;
    let layout = Layout::create(directory)?;
    for layer in layers {
        let digest = layer.descriptor["digest"].as_str().unwrap_or_default();
        fs::copy(&layer.file, layout.path(digest))?;
    }
    let descriptors: Vec<Value> = layers.iter().map(|layer| layer.descriptor.clone()).collect();
    let diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let config = json!({"Entrypoint": ["/usr/bin/node"]});
    let image = layout.image_of(&descriptors, diff_ids, &config, architecture())?;
    layout.finish(&image).map(drop)
}
