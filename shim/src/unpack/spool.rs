//! A file that another process is still writing, and that reports its length so far.

use std::fs::File;
use std::io::{self, Read};

/// Size of one reported length, in bytes.
const TOTAL_BYTES: usize = 8;
/// Most bytes of reports read at once: only the last report counts.
const TOTALS_BYTES: usize = 512 * TOTAL_BYTES;

/// Reads a file to its final length, and waits for bytes that are not written yet.
pub(super) struct Spool<T> {
    file: File,
    totals: T,
    /// Bytes of an incomplete report.
    begun: Vec<u8>,
    at: u64,
    there: u64,
    length: u64,
}

impl<T: Read> Spool<T> {
    /// The file, the reports of its length so far, and its final length.
    pub(super) fn new(file: File, totals: T, length: u64) -> Self {
        Self { file, totals, begun: Vec::new(), at: 0, there: 0, length }
    }

    /// Waits until more is written.
    fn wait(&mut self) -> io::Result<()> {
        let mut totals = [0; TOTALS_BYTES];
        let read = self.totals.read(&mut totals)?;
        if read == 0 {
            return Err(io::Error::other("the agent that fetches the layer is gone"));
        }
        self.begun.extend_from_slice(&totals[..read]);
        let whole = self.begun.len() / TOTAL_BYTES * TOTAL_BYTES;
        if let Some(last) = self.begun[..whole].last_chunk::<TOTAL_BYTES>() {
            self.take(u64::from_be_bytes(*last))?;
            self.begun.drain(..whole);
        }
        Ok(())
    }

    fn take(&mut self, total: u64) -> io::Result<()> {
        if total < self.there || total > self.length {
            let (there, length) = (self.there, self.length);
            return Err(io::Error::other(format!(
                "after {there} of the layer's {length} bytes the agent tells of {total}"
            )));
        }
        self.there = total;
        Ok(())
    }
}

impl<T: Read> Read for Spool<T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.length || into.is_empty() {
            return Ok(0);
        }
        while self.at == self.there {
            self.wait()?;
        }
        let most = usize::try_from(self.there - self.at).map_or(into.len(), |there| there.min(into.len()));
        let read = self.file.read(&mut into[..most])?;
        if read == 0 {
            return Err(io::Error::other("the file with the layer is shorter than the agent says"));
        }
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn spool<T: Read>(bytes: &[u8], totals: T, length: u64) -> Spool<T> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Spool::new(file.reopen().unwrap(), totals, length)
    }

    fn totals(of: &[u64]) -> Vec<u8> {
        of.iter().flat_map(|total| total.to_be_bytes()).collect()
    }

    fn read(bytes: &[u8], totals: &[u8], length: u64) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        let done = spool(bytes, totals, length).read_to_end(&mut all);
        done.map(|_| all).map_err(|error| error.to_string())
    }

    #[test]
    fn only_what_is_there_is_read() {
        assert_eq!(read(b"layer", &totals(&[5]), 5).unwrap(), b"layer");
        assert_eq!(read(b"layer", &totals(&[0, 2, 2, 5]), 5).unwrap(), b"layer");
        assert_eq!(read(b"", b"", 0).unwrap(), b"");
        let two = totals(&[2]);
        let mut early = spool(b"layer", &*two, 5);
        let mut some = [0; 5];
        assert_eq!(early.read(&mut some).unwrap(), 2);
    }

    #[test]
    fn a_reader_waits_for_what_is_not_there() {
        let (from, mut to) = io::pipe().unwrap();
        let mut spool = spool(b"layer", from, 5);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            spool.read_to_end(&mut all).map(|_| all)
        });
        // A total may come in pieces.
        for piece in totals(&[1, 3, 5]).chunks(3) {
            to.write_all(piece).unwrap();
        }
        assert_eq!(reader.join().unwrap().unwrap(), b"layer");
    }

    #[test]
    fn what_does_not_come_or_fit_is_told() {
        assert!(read(b"layer", &totals(&[3]), 5).unwrap_err().contains("gone"));
        assert!(read(b"layer", &totals(&[5])[..7], 5).unwrap_err().contains("gone"));
        assert!(read(b"layer", &totals(&[6]), 5).unwrap_err().contains("tells of 6"));
        assert!(read(b"lay", &totals(&[5]), 5).unwrap_err().contains("shorter"));
        let (first, second) = (totals(&[3]), totals(&[2]));
        let mut back = spool(b"layer", Read::chain(&*first, &*second), 5);
        assert!(back.read_to_end(&mut Vec::new()).unwrap_err().to_string().contains("tells of 2"));
    }
}
