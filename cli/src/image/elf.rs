//! Reads the header of an ELF file: its machine, and whether it needs a dynamic linker.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use oci_spec::image::Arch;

const MAGIC: &[u8] = b"\x7fELF";
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: u16 = 56;
const TYPE_EXECUTABLE: u16 = 2;
const TYPE_SHARED: u16 = 3;
const MACHINE_X86_64: u16 = 62;
const MACHINE_AARCH64: u16 = 183;
const SEGMENT_INTERPRETER: u32 = 3;

/// Why a file cannot be the only program of an image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ElfError {
    #[error("cannot read {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{0} is not a Linux program (ELF); expected a static binary, a root directory, a Dockerfile, or oci: and a \
         layout"
    )]
    NotElf(PathBuf),
    #[error("{0} is a library or an object file; expected a program")]
    NotProgram(PathBuf),
    #[error("{path} is for another kind of machine (ELF machine {machine}); expected x86-64 or arm64")]
    Machine { path: PathBuf, machine: u16 },
    #[error(
        "{0} is linked dynamically, and an image made of it alone holds no libraries; expected a static binary. \
         Rust: build with `--target x86_64-unknown-linux-musl`, or RUSTFLAGS='-C target-feature=+crt-static'. \
         Go: CGO_ENABLED=0. C: link with -static. Or give a root directory that holds the libraries"
    )]
    Dynamic(PathBuf),
}

/// What the ELF header of a program says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// The machine it runs on.
    pub(crate) architecture: Arch,
    /// Whether it names a dynamic linker.
    pub(crate) dynamic: bool,
}

/// A program that runs without any other file.
pub(crate) fn require_static(path: &Path) -> Result<Arch, ElfError> {
    let program = inspect(path)?;
    if program.dynamic { Err(ElfError::Dynamic(path.to_owned())) } else { Ok(program.architecture) }
}

/// Whether a file is a program or a library: a text is none.
pub(crate) fn is_program(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == MAGIC
}

/// Reads the head of a program.
pub(crate) fn inspect(path: &Path) -> Result<Program, ElfError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::UnexpectedEof => ElfError::NotElf(path.to_owned()),
        _ => ElfError::Io { path: path.to_owned(), source },
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header).map_err(failed)?;
    if &header[..4] != MAGIC || header[4] != CLASS_64 || header[5] != LITTLE_ENDIAN {
        return Err(ElfError::NotElf(path.to_owned()));
    }
    let entry = u64_at(&header, 24);
    if !matches!(u16_at(&header, 16), TYPE_EXECUTABLE | TYPE_SHARED) || entry == 0 {
        return Err(ElfError::NotProgram(path.to_owned()));
    }
    let architecture = architecture(u16_at(&header, 18), path)?;
    let dynamic = names_interpreter(&mut file, &header).map_err(failed)?;
    Ok(Program { architecture, dynamic })
}

fn architecture(machine: u16, path: &Path) -> Result<Arch, ElfError> {
    match machine {
        MACHINE_X86_64 => Ok(Arch::Amd64),
        MACHINE_AARCH64 => Ok(Arch::ARM64),
        _ => Err(ElfError::Machine { path: path.to_owned(), machine }),
    }
}

fn names_interpreter(file: &mut File, header: &[u8; HEADER_BYTES]) -> io::Result<bool> {
    let (offset, size, count) = (u64_at(header, 32), u16_at(header, 54), u16_at(header, 56));
    if size != PROGRAM_HEADER_BYTES {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    file.seek(SeekFrom::Start(offset))?;
    for _ in 0..count {
        let mut segment = [0; PROGRAM_HEADER_BYTES as usize];
        file.read_exact(&mut segment)?;
        let kind = u32::from_le_bytes([segment[0], segment[1], segment[2], segment[3]]);
        if kind == SEGMENT_INTERPRETER {
            return Ok(true);
        }
    }
    Ok(false)
}

fn u16_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The smallest ELF file that passes for a program, with these kinds of segments.
    pub(crate) fn elf(machine: u16, segments: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[16..18].copy_from_slice(&TYPE_EXECUTABLE.to_le_bytes());
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[24..32].copy_from_slice(&0x40_0000_u64.to_le_bytes());
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&PROGRAM_HEADER_BYTES.to_le_bytes());
        bytes[56..58].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_le_bytes());
        for kind in segments {
            bytes.extend(kind.to_le_bytes());
            bytes.extend([0; 52]);
        }
        bytes
    }

    fn check(bytes: &[u8]) -> Result<Arch, ElfError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, bytes).unwrap();
        require_static(&path)
    }

    #[test]
    fn static_programs_of_both_machines_pass() {
        assert_eq!(check(&elf(MACHINE_X86_64, &[1, 2])).unwrap(), Arch::Amd64);
        assert_eq!(check(&elf(MACHINE_AARCH64, &[])).unwrap(), Arch::ARM64);
    }

    #[test]
    fn dynamic_programs_are_refused_with_advice() {
        let error = check(&elf(MACHINE_X86_64, &[1, SEGMENT_INTERPRETER])).unwrap_err();
        assert!(matches!(error, ElfError::Dynamic(_)));
        for advice in ["musl", "crt-static", "CGO_ENABLED=0"] {
            assert!(error.to_string().contains(advice), "{error}");
        }
        // This very test is a dynamic program.
        let own = std::env::current_exe().unwrap();
        assert!(matches!(require_static(&own), Err(ElfError::Dynamic(_))));
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(matches!(
            check(b"#!/bin/sh\necho hello, this is a script and long enough for a header\n"),
            Err(ElfError::NotElf(_))
        ));
        assert!(matches!(check(b""), Err(ElfError::NotElf(_))));
        assert!(matches!(check(&elf(3, &[])), Err(ElfError::Machine { machine: 3, .. })));
        let mut library = elf(MACHINE_X86_64, &[]);
        library[24..32].fill(0);
        assert!(matches!(check(&library), Err(ElfError::NotProgram(_))));
        let cut = &elf(MACHINE_X86_64, &[1, 2])[..100];
        assert!(matches!(check(cut), Err(ElfError::NotElf(_))));
        assert!(matches!(require_static(Path::new("/nowhere")), Err(ElfError::Io { .. })));
    }
}
