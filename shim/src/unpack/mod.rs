//! Unpacks one image layer, as the root of a user namespace: files get the owners that the image says.
//!
//! ```text
//! open the spool ─▶ user namespace ─▶ open directories (as the agent's user) ─▶ become root inside
//!   ─▶ bind, or mount the lower layers with this one above ─▶ Landlock ─▶ chroot ─▶ unpack ─▶ digests
//! ```
//!
//! Runs as a separate process (hidden mode `unpack`), which may begin while the layer is still being fetched. Images
//! are not trusted: `berth_images::layer` limits a layer and stays in its directory; should that fail, this process can
//! access little else. Its result may only be used if it succeeds.

mod spool;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use berth_common::image::{Digest, Hasher};
use berth_images::layer::{self, Form, Limits, Owners, Summary, Target};
use nix::sys::stat::Mode;

use self::spool::Spool;
use crate::landlock::{self, Files};
use crate::{helpers, namespaces, process, stage, subordinate_ids, sys};

/// What is to be unpacked, and where.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Directory to make, for the layer in `fs`
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// File with the layer, which may still grow: its length so far is told on standard input, as 8 bytes, big-endian
    #[arg(long, value_name = "FILE")]
    blob: PathBuf,
    /// Bytes of the whole layer
    #[arg(long, value_name = "BYTES")]
    length: u64,
    /// Digest of the layer
    #[arg(long)]
    digest: Digest,
    /// Digest of the layer without compression
    #[arg(long)]
    diff_id: Option<Digest>,
    /// Directory of an unpacked lower layer, the topmost first: the layer is unpacked over these
    #[arg(long = "parent", value_name = "DIR")]
    parents: Vec<PathBuf>,
}

/// Entry of the hidden `unpack` mode. Prints a [`Summary`], as one line of JSON.
pub fn main(options: &Options) -> anyhow::Result<()> {
    process::refuse_root()?;
    helpers::become_one()?;
    let blob = File::open(&options.blob).with_context(|| format!("open {}", options.blob.display()))?;
    let prepared = LayerDirectory::prepare(&options.directory, &options.parents)?;
    let mut layer = Hashed {
        from: Spool::new(blob, io::stdin().lock(), options.length),
        hash: Hasher::new(options.digest.algorithm()),
    };
    let unpacked = layer::unpack(
        &mut layer,
        &prepared.target,
        &Limits::default(),
        options.diff_id.map(|diff| diff.algorithm()),
    );
    let summary = checked(&mut layer, unpacked, options)?;
    prepared.finish()?;
    println!("{}", serde_json::to_string(&summary)?);
    Ok(())
}

/// Checks the digests. If the layer is damaged, that is reported rather than errors that follow from the damage.
fn checked(
    layer: &mut Hashed<impl Read>,
    unpacked: Result<Summary, layer::LayerError>,
    options: &Options,
) -> anyhow::Result<Summary> {
    // Bytes after the archive are part of the digest too.
    io::copy(layer, &mut io::sink())?;
    let (found, expected) = (layer.digest(), options.digest);
    ensure!(found == expected, "the layer has the digest {found}, not {expected}: the image is damaged");
    let summary = unpacked?;
    if let (Some(expected), Some(found)) = (options.diff_id, summary.diff_id) {
        ensure!(
            found == expected,
            "the layer without compression has the digest {found}, and the image's configuration says {expected}: \
             build the image again"
        );
    }
    Ok(summary)
}

/// A reader that computes the digest of what it reads.
struct Hashed<R> {
    from: R,
    hash: Hasher,
}

impl<R> Hashed<R> {
    fn digest(&self) -> Digest {
        self.hash.clone().digest()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(into)?;
        self.hash.update(&into[..n]);
        Ok(n)
    }
}

/// The layer's directory, as seen after the chroot.
struct LayerDirectory {
    target: Target,
    /// The created directory, with `fs` and perhaps `work` in it.
    directory: File,
}

impl LayerDirectory {
    /// Creates the directory, and moves the process into it. Afterwards it is root in a user namespace, and sees only
    /// the root of the layer.
    fn prepare(path: &Path, parents: &[PathBuf]) -> anyhow::Result<Self> {
        let (uids, gids) = subordinate_ids::of_this_user()?;
        DirBuilder::new().mode(0o700).create(path).with_context(|| format!("make {}", path.display()))?;
        // World-writable, because the namespace's root is a user that this process cannot name outside; the parent
        // directory keeps all others out.
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
        namespaces::enter_user_namespace(uids, gids)?;
        let opened =
            stage::open_directories(std::iter::once(path).chain(parents.iter().map(PathBuf::as_path)))?;
        sys::become_root()?;
        sys::set_dumpable(true)?;
        stage::mount_stage()?;
        let (own, lower) = opened.split_first().context("a directory was opened")?;
        let directory = stage::bind_in_stage(own, "layer")?;
        let fs = directory.join("fs");
        let root =
            if lower.is_empty() { alone(&fs)? } else { over(&stage::bind_layers(lower)?, &directory, fs)? };
        Self::enter(&directory, &root, if lower.is_empty() { Form::Overlay } else { Form::Merged })
    }

    fn enter(directory: &Path, root: &Path, form: Form) -> anyhow::Result<Self> {
        landlock::keep_to(&Files { own: &[directory, root], read: &[] })
            .context("keep the unpacker to its directory")?;
        let directory = File::open(directory)?;
        nix::unistd::chroot(root).context("make the layer's directory the root")?;
        nix::unistd::chdir("/")?;
        nix::sys::stat::umask(Mode::S_IWGRP | Mode::S_IWOTH);
        Ok(Self { target: Target::open(Path::new("/"), form, Owners::Said)?, directory })
    }

    /// Removes everything but the layer. The caller syncs it to disk.
    fn finish(self) -> anyhow::Result<()> {
        drop(self.target);
        Ok(layer::remove(&self.directory, "work")?)
    }
}

/// The root for a layer that is unpacked alone.
fn alone(fs: &Path) -> io::Result<PathBuf> {
    DirBuilder::new().mode(0o755).create(fs)?;
    Ok(fs.to_owned())
}

/// The root for a layer that is unpacked over others; its changes are in `fs`.
fn over(lower: &[PathBuf], directory: &Path, fs: PathBuf) -> io::Result<PathBuf> {
    let root = stage::make_in_stage("root")?;
    stage::Overlay { lower, upper: fs, work: directory.join("work") }.mount(&root)?;
    Ok(root)
}
