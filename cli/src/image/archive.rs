//! A tar archive, indexed by name. Nothing is unpacked, so no entry can write outside; and memory is bounded by the
//! constants here, whatever the headers say.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;
use tar::{EntryType, PaxExtensions};
use tempfile::NamedTempFile;

use super::part::Part;
use super::scratch;
use crate::stop::Stop;

/// Most entries: a few for each layer.
const MAX_ENTRIES: usize = 16_384;
/// Longest name, and longest block of names and the like, in bytes: an archive of images needs a hundred.
const MAX_NAME_BYTES: u64 = 4096;
const MAX_EXTENSION_BYTES: u64 = 64 << 10;
/// How many links may be followed from one name: `docker save` makes one.
const MAX_LINKS: usize = 4;
/// Largest archive that is compressed as a whole, in bytes after decompression.
const MAX_INFLATED_BYTES: u64 = 64 << 30;
/// What is decompressed at once, in bytes.
const BLOCK_BYTES: usize = 1 << 20;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What is where.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    /// Where its bytes really are, if it was compressed.
    inflated: Option<NamedTempFile>,
    entries: HashMap<String, Entry>,
}

#[derive(Debug, Clone)]
enum Entry {
    File {
        offset: u64,
        length: u64,
    },
    /// The name that it stands for.
    Link(String),
}

/// Whether a file is compressed as a whole.
pub(crate) fn is_compressed(path: &Path) -> Result<bool> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    ensure!(file.metadata()?.is_file(), "{} is no file; expected an archive of an image", path.display());
    let mut magic = [0; GZIP_MAGIC.len()];
    Ok(file.read_exact(&mut magic).is_ok() && magic == GZIP_MAGIC)
}

impl Archive {
    /// Indexes an archive, which may be compressed by gzip.
    pub(crate) fn open(path: &Path, stop: &Stop) -> Result<Self> {
        let inflated = if is_compressed(path)? { Some(inflate(path, stop)?) } else { None };
        let bytes = inflated.as_ref().map_or(path, |file| file.path());
        let entries = index(bytes, stop).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Self { path: path.to_owned(), inflated, entries })
    }

    /// The archive's own file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The entry with this name, if any; links are followed within the archive.
    pub(super) fn find(&self, name: &str) -> Result<Option<Part>> {
        let mut name = name.to_owned();
        for _ in 0..=MAX_LINKS {
            match self.entries.get(&name) {
                None => return Ok(None),
                Some(Entry::Link(target)) => name.clone_from(target),
                Some(Entry::File { offset, length }) => {
                    let path = self.inflated.as_ref().map_or(&*self.path, |file| file.path());
                    return Ok(Some(Part::stretch(path, *offset, *length)));
                }
            }
        }
        bail!("{}: more than {MAX_LINKS} links lead on from one another", self.path.display())
    }
}

fn inflate(path: &Path, stop: &Stop) -> Result<NamedTempFile> {
    let mut from = MultiGzDecoder::new(File::open(path)?).take(MAX_INFLATED_BYTES + 1);
    let mut file = tempfile::Builder::new().prefix(".berth-archive-").tempfile_in(scratch())?;
    let mut block = vec![0; BLOCK_BYTES];
    let mut total = 0;
    loop {
        stop.check()?;
        let read = from.read(&mut block).with_context(|| format!("cannot decompress {}", path.display()))?;
        if read == 0 {
            return Ok(file);
        }
        total += u64::try_from(read)?;
        ensure!(total <= MAX_INFLATED_BYTES, "{} has more than {MAX_INFLATED_BYTES} bytes", path.display());
        file.write_all(&block[..read])?;
    }
}

/// Values from extension headers, which override those of an entry's own header.
#[derive(Default)]
struct Extensions {
    name: Option<String>,
    link: Option<String>,
}

fn index(path: &Path, stop: &Stop) -> Result<HashMap<String, Entry>> {
    let mut file = File::open(path)?;
    let end = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut archive = tar::Archive::new(file);
    let mut entries = HashMap::new();
    let mut extensions = Extensions::default();
    for (count, entry) in archive.entries_with_seek()?.raw(true).enumerate() {
        stop.check()?;
        ensure!(count < MAX_ENTRIES, "it has more than {MAX_ENTRIES} entries");
        let mut entry = entry.context("it is no tar archive, or damaged")?;
        if extend(&mut extensions, &mut entry)? {
            continue;
        }
        if let Some((name, entry)) = what_is(&entry, std::mem::take(&mut extensions), end)? {
            entries.insert(name, entry);
        }
    }
    Ok(entries)
}

/// The name and kind of an entry; `None` for kinds that are not indexed. The archive ends at `end`.
fn what_is<R: Read>(
    entry: &tar::Entry<'_, R>,
    extensions: Extensions,
    end: u64,
) -> Result<Option<(String, Entry)>> {
    let (offset, length) = (entry.raw_file_position(), entry.header().entry_size()?);
    ensure!(offset.checked_add(length).is_some_and(|last| last <= end), "it ends before its last entry does");
    let name = extensions.name.map_or_else(|| text(&entry.path_bytes()), Ok)?;
    let Some(name) = within("", &name) else { return Ok(None) };
    let link = || extensions.link.map_or_else(|| text(&entry.link_name_bytes().unwrap_or_default()), Ok);
    let entry = match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => Entry::File { offset, length },
        EntryType::Link => Entry::Link(within("", &link()?).context("a link leads out of it")?),
        EntryType::Symlink => {
            let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
            Entry::Link(within(directory, &link()?).context("a link leads out of it")?)
        }
        EntryType::Directory => return Ok(None),
        kind => bail!("{name} is of a kind ({kind:?}) that no image's archive holds"),
    };
    Ok(Some((name, entry)))
}

/// Reads an extension entry, whose values belong to the next entry. Returns whether it was one.
fn extend<R: Read>(extensions: &mut Extensions, entry: &mut tar::Entry<'_, R>) -> Result<bool> {
    match entry.header().entry_type() {
        EntryType::GNULongName => extensions.name = Some(long(entry)?),
        EntryType::GNULongLink => extensions.link = Some(long(entry)?),
        EntryType::XHeader => {
            let bytes = bounded(entry, MAX_EXTENSION_BYTES)?;
            for record in PaxExtensions::new(&bytes) {
                let record = record?;
                match record.key()? {
                    "path" => extensions.name = Some(text(record.value_bytes())?),
                    "linkpath" => extensions.link = Some(text(record.value_bytes())?),
                    // If header and extension differ, tar readers disagree about where the next entry begins.
                    "size" => bail!("the size of an entry is said twice; expected files of less than 8 GiB"),
                    _ => {}
                }
            }
        }
        EntryType::XGlobalHeader => {}
        _ => return Ok(false),
    }
    Ok(true)
}

fn long<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<String> {
    let bytes = bounded(entry, MAX_NAME_BYTES)?;
    text(bytes.strip_suffix(&[0]).unwrap_or(&bytes))
}

fn bounded<R: Read>(entry: &mut tar::Entry<'_, R>, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(most + 1).read_to_end(&mut bytes)?;
    ensure!(u64::try_from(bytes.len())? <= most, "a header has more than {most} bytes");
    Ok(bytes)
}

fn text(bytes: &[u8]) -> Result<String> {
    ensure!(u64::try_from(bytes.len())? <= MAX_NAME_BYTES, "a name has more than {MAX_NAME_BYTES} bytes");
    let text = std::str::from_utf8(bytes).map_err(io::Error::other);
    Ok(text.context("a name is not UTF-8")?.to_owned())
}

/// A path from a directory in the archive on, without dots; `None` if it leads out of the archive, or is its root.
fn within(directory: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    if path.starts_with('/') {
        return None;
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An archive of these files and, where the name ends with `@`, links.
    pub(crate) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            if let Some(name) = name.strip_suffix('@') {
                header.set_entry_type(EntryType::Symlink);
                header.set_size(0);
                archive.append_link(&mut header, name, std::str::from_utf8(bytes).unwrap()).unwrap();
            } else {
                header.set_size(bytes.len() as u64);
                archive.append_data(&mut header, name, *bytes).unwrap();
            }
        }
        archive.into_inner().unwrap()
    }

    fn open(bytes: &[u8]) -> Result<(tempfile::TempDir, Archive)> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("x.tar");
        std::fs::write(&path, bytes)?;
        let archive = Archive::open(&path, &Stop::default())?;
        Ok((dir, archive))
    }

    fn read(archive: &Archive, name: &str) -> Option<Vec<u8>> {
        archive.find(name).unwrap().map(|part| part.document().unwrap())
    }

    #[test]
    fn files_are_found_by_name_and_by_link() {
        let long = format!("{}/layer.tar", "d".repeat(150));
        let bytes = tar_of(&[
            ("./a", b"first"),
            (&long, b"second"),
            ("x/link@", b"../a"),
            ("x/again@", b"link"),
            ("empty", b""),
        ]);
        let (_dir, archive) = open(&bytes).unwrap();
        assert_eq!(read(&archive, "a").unwrap(), b"first");
        assert_eq!(read(&archive, &long).unwrap(), b"second");
        assert_eq!(read(&archive, "x/link").unwrap(), b"first");
        assert_eq!(read(&archive, "x/again").unwrap(), b"first");
        assert_eq!(read(&archive, "empty").unwrap(), b"");
        assert_eq!(read(&archive, "b"), None);
    }

    #[test]
    fn a_compressed_archive_is_the_same() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar_of(&[("a", b"first")])).unwrap();
        let (_dir, archive) = open(&gzip.finish().unwrap()).unwrap();
        assert_eq!(read(&archive, "a").unwrap(), b"first");
    }

    #[test]
    fn links_stay_within_and_end() {
        for target in ["/etc/passwd", "../../etc/passwd", "../.."] {
            let error = open(&tar_of(&[("x/l@", target.as_bytes())])).unwrap_err();
            assert!(format!("{error:#}").contains("leads out"), "{error:#}");
        }
        let (_dir, archive) = open(&tar_of(&[("a@", b"b"), ("b@", b"a")])).unwrap();
        assert!(archive.find("a").unwrap_err().to_string().contains("links"));
    }

    #[test]
    fn what_is_cut_or_no_archive_is_refused() {
        let bytes = tar_of(&[("a", &[7; 5000])]);
        let error = open(&bytes[..2000]).unwrap_err();
        assert!(format!("{error:#}").contains("ends before"), "{error:#}");
        assert!(open(&[b'x'; 4096]).is_err());
    }

    #[test]
    fn headers_cannot_ask_for_much_memory() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 20);
        header.set_path("x").unwrap();
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(vec![b'a'; 1 << 20]);
        let error = open(&bytes).unwrap_err();
        assert!(format!("{error:#}").contains("more than 4096"), "{error:#}");
    }
}
