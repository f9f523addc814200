//! Writes an image's one layer as a tar archive that depends only on the files: sorted names, no
//! times, no names of users. Extended attributes are left out: instances could not use them.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tar::{Builder, EntryType, Header};

/// The path of a lone binary in its image.
pub(crate) const BINARY_DIRECTORY: &str = "app";
/// Prefix of whiteouts: files with such names would delete others when the layer is unpacked.
const WHITEOUT: &[u8] = b".wh.";
/// Permission bits that an archive keeps.
const MODE_BITS: u32 = 0o7777;

/// Writes a lone binary as `/app/NAME`, with an empty `/tmp`.
pub(crate) fn write_binary<W: Write>(archive: &mut Builder<W>, binary: &Path, name: &str) -> Result<()> {
    let directory = format!("{BINARY_DIRECTORY}/");
    archive.append_data(&mut header(EntryType::Directory, 0o755), &directory, io::empty())?;
    let file = File::open(binary).with_context(|| format!("cannot open {}", binary.display()))?;
    let size = file.metadata()?.len();
    let mut entry = header(EntryType::Regular, 0o755);
    entry.set_size(size);
    archive.append_data(&mut entry, format!("{directory}{name}"), Exactly { file, left: size })?;
    archive.append_data(&mut header(EntryType::Directory, 0o1777), "tmp/", io::empty())?;
    Ok(())
}

/// Writes a directory as the root of the image, with owners and permissions as they are.
pub(crate) fn write_directory<W: Write>(archive: &mut Builder<W>, root: &Path) -> Result<()> {
    let mut walk = Walk { archive, root, linked: HashMap::new() };
    walk.directory(Path::new(""))
}

struct Walk<'a, W: Write> {
    archive: &'a mut Builder<W>,
    root: &'a Path,
    /// The first name of each file that has several, by device and inode.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Walk<'_, W> {
    fn directory(&mut self, within: &Path) -> Result<()> {
        for name in sorted_names(&self.root.join(within))? {
            let path = within.join(&name);
            let full = self.root.join(&path);
            if name.as_bytes().starts_with(WHITEOUT) {
                bail!(
                    "{}: names that start with .wh. delete files in an image; rename or remove it",
                    full.display()
                );
            }
            self.entry(&path, &full).with_context(|| format!("cannot pack {}", full.display()))?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, full: &Path) -> Result<()> {
        let metadata = fs::symlink_metadata(full)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            let mut name = path.as_os_str().to_owned();
            name.push("/");
            self.archive.append_data(&mut owned(EntryType::Directory, &metadata), &name, io::empty())?;
            return self.directory(path);
        }
        if kind.is_symlink() {
            let target = fs::read_link(full)?;
            let mut entry = owned(EntryType::Symlink, &metadata);
            return Ok(self.archive.append_link(&mut entry, path, target)?);
        }
        if kind.is_file() {
            return self.file(path, full, &metadata);
        }
        bail!("it is a {}: an image holds files, directories and links only; remove it", special(&metadata))
    }

    fn file(&mut self, path: &Path, full: &Path, metadata: &Metadata) -> Result<()> {
        if metadata.nlink() > 1 {
            let identity = (metadata.dev(), metadata.ino());
            if let Some(first) = self.linked.get(&identity) {
                let mut entry = owned(EntryType::Link, metadata);
                return Ok(self.archive.append_link(&mut entry, path, first)?);
            }
            self.linked.insert(identity, path.to_owned());
        }
        let mut entry = owned(EntryType::Regular, metadata);
        entry.set_size(metadata.len());
        let file = File::open(full)?;
        Ok(self.archive.append_data(&mut entry, path, Exactly { file, left: metadata.len() })?)
    }
}

fn sorted_names(directory: &Path) -> Result<Vec<std::ffi::OsString>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut names: Vec<_> = entries.map(|entry| entry.map(|e| e.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

fn special(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_socket() {
        "socket"
    } else if kind.is_fifo() {
        "named pipe"
    } else {
        "device"
    }
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header.set_mtime(0);
    header
}

fn owned(kind: EntryType, metadata: &Metadata) -> Header {
    let mut header = header(kind, metadata.mode() & MODE_BITS);
    header.set_uid(u64::from(metadata.uid()));
    header.set_gid(u64::from(metadata.gid()));
    header
}

/// A reader that gives exactly the length in the header: a file that grows or shrinks while it is read would break the
/// archive.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = (&mut self.file).take(self.left).read(buffer)?;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was packed",
            ));
        }
        self.left -= u64::try_from(read).map_err(io::Error::other)?;
        Ok(read)
    }
}
