//! Reading a file of the log back: which frames are whole, what is damaged, where a torn end begins.

use std::io;
use std::ops::Range;
use std::path::Path;

use super::frame::{self, HEADER_BYTES, MAGIC};
use super::log::{FILE_MAGIC, FILE_MAGIC_BEFORE};
use crate::storage::disk::Disk;

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The payloads of whole frames, in order.
    pub payloads: Vec<Range<usize>>,
    /// Pieces in front of, or between, whole frames that are none.
    pub damaged: Vec<Range<usize>>,
    /// Where the whole frames end, if something follows: a write that the end of the process cut short.
    pub torn: Option<usize>,
}

/// Finds the frames of a segment or checkpoint.
#[must_use]
pub fn scan(bytes: &[u8]) -> Scan {
    let mut scan = Scan::default();
    let mut at = 0;
    if bytes.starts_with(&FILE_MAGIC) || bytes.starts_with(&FILE_MAGIC_BEFORE) {
        at = FILE_MAGIC.len();
    }
    let mut whole_until = at;
    while at < bytes.len() {
        if let Some(payload) = frame::payload(&bytes[at..]) {
            if at > whole_until {
                scan.damaged.push(whole_until..at);
            }
            let start = at + HEADER_BYTES;
            at = start + payload.len();
            scan.payloads.push(start..at);
            whole_until = at;
        } else {
            // The next place where a frame may begin; the length in between cannot be trusted.
            match memchr::memmem::find(&bytes[at + 1..], &MAGIC) {
                Some(next) => at += 1 + next,
                None => break,
            }
        }
    }
    if whole_until < bytes.len() {
        scan.torn = Some(whole_until);
    }
    scan
}

/// Reads a file that was just written.
///
/// # Errors
/// When it cannot be read, or not all of it is frames.
pub fn verify_whole(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let found = scan(&disk.read(path)?);
    let whole = found.damaged.is_empty() && found.torn.is_none();
    whole.then_some(()).ok_or_else(|| io::Error::other("it does not read back as it was written"))
}

#[cfg(test)]
mod tests {
    use super::super::FrameBuilder;
    use super::*;
    use crate::storage::SeriesRef;

    fn file(frames: usize) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = FILE_MAGIC.to_vec();
        let mut ends = vec![bytes.len()];
        for i in 0..frames {
            let mut b = FrameBuilder::default();
            b.begin_floats();
            (0..10).for_each(|s| b.float(SeriesRef(s), i as i64, (i as f64).to_bits()));
            b.end_floats();
            bytes.extend_from_slice(b.finish());
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn every_cut_leaves_the_frames_before_it() {
        let (bytes, ends) = file(4);
        for cut in FILE_MAGIC.len()..=bytes.len() {
            let found = scan(&bytes[..cut]);
            let whole = ends.iter().filter(|e| **e <= cut).count() - 1;
            assert_eq!(found.payloads.len(), whole, "cut at {cut}");
            assert_eq!(found.torn, (!ends.contains(&cut)).then_some(ends[whole]));
            assert!(found.damaged.is_empty());
        }
    }

    #[test]
    fn every_flipped_bit_costs_one_frame() {
        let (bytes, ends) = file(4);
        for at in FILE_MAGIC.len()..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let found = scan(&damaged);
            assert_eq!(found.payloads.len(), 3, "flipped at {at}");
            let last = at >= ends[3];
            assert_eq!(
                (found.damaged.len(), found.torn.is_some()),
                if last { (0, true) } else { (1, false) }
            );
        }
    }
}
