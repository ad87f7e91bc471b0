//! Reading a file of the log back: which frames are whole, what is damaged, where a torn end begins.

use std::io;
use std::ops::Range;
use std::path::Path;

use super::frame::{Counts, HEADER_BYTES, Header, MAGIC_COMMON};
use super::log::{FILE_MAGIC, FILE_MAGICS_BEFORE};
use crate::storage::disk::Disk;

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The payloads of whole frames, in order.
    pub payloads: Vec<Range<usize>>,
    /// Pieces in front of, or between, whole frames that are none.
    pub damaged: Vec<Damage>,
    /// What follows the last whole frame.
    pub torn: Option<Torn>,
}

/// A piece of a file that is no whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub bytes: Range<usize>,
    pub lost: Lost,
}

/// What is lost with a piece: the sum of the headers that are whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    pub samples: u64,
    /// Series that are named there; each is named in another frame too.
    pub series: u64,
    /// Whether all frames of the piece say what they hold; if not, it may be more.
    pub exact: bool,
}

/// The end of a file after its last whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    pub at: usize,
    /// What damaged frames of full length held. They were written, and so they may be acknowledged.
    pub lost: Lost,
    /// What the frame would have held that the end of the file cuts off; nothing is known if it has no header.
    pub cut: Option<Counts>,
    /// Whether it may be the beginning of a frame and nothing else, as the end of a process leaves it in the middle of a
    /// write.
    pub is_write: bool,
}

impl Lost {
    /// Nothing yet.
    pub const NOTHING: Lost = Lost { samples: 0, series: 0, exact: true };

    fn add(&mut self, counts: Counts) {
        self.samples += u64::from(counts.samples);
        self.series += u64::from(counts.series);
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at_least = if self.exact { "" } else { "at least " };
        write!(f, "{at_least}{} samples and {} names of series", self.samples, self.series)
    }
}

/// Finds the frames of a segment or checkpoint.
#[must_use]
pub fn scan(bytes: &[u8]) -> Scan {
    let mut scan = Scan::default();
    let mut at = 0;
    // Frames of a version before have to be read to the end to know whether they are any: only where they may be.
    let before = !bytes.starts_with(&FILE_MAGIC);
    if !before || FILE_MAGICS_BEFORE.iter().any(|magic| bytes.starts_with(magic)) {
        at = FILE_MAGIC.len();
    }
    let mut whole_until = at;
    let (mut lost, mut cut) = (Lost::NOTHING, None);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let header = Header::of(rest, before);
        if let Some(header) = header
            && header.payload(rest).is_some()
        {
            if at > whole_until {
                // No end of the file after all, so what lies in between is damage.
                cut.take().into_iter().for_each(|counts| lost.add(counts));
                scan.damaged.push(Damage { bytes: whole_until..at, lost });
            }
            scan.payloads.push(at + header.bytes..at + header.frame_bytes());
            at += header.frame_bytes();
            whole_until = at;
            lost = Lost::NOTHING;
            continue;
        }
        let counted = header.and_then(|h| Some((h.frame_bytes(), h.counts?)));
        match counted {
            Some((frame_bytes, counts)) if frame_bytes <= rest.len() => {
                // The header is whole, so the next frame begins where it says.
                lost.add(counts);
                at += frame_bytes;
                continue;
            }
            Some((_, counts)) => cut = Some(counts),
            None => {}
        }
        lost.exact = false;
        // The next place where a frame may begin; the length in between cannot be trusted.
        match memchr::memmem::find(&rest[1..], &MAGIC_COMMON) {
            Some(next) => at += 1 + next,
            None => break,
        }
    }
    if whole_until < bytes.len() {
        let rest = &bytes[whole_until..];
        // Frames of the versions before do not say whether their header is whole.
        let is_write = match Header::of(rest, before) {
            Some(header) if header.counts.is_some() => header.frame_bytes() > rest.len(),
            _ if before && bytes.starts_with(&FILE_MAGIC[..FILE_MAGIC.len() - 1]) => lost.samples == 0,
            _ => rest.len() < HEADER_BYTES,
        };
        scan.torn = Some(Torn { at: whole_until, lost, cut, is_write });
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
    use super::super::frame::frame_before;
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

    /// The same frames as the version before wrote them.
    fn file_before(frames: usize) -> (Vec<u8>, Vec<usize>) {
        let (bytes, _) = file(frames);
        let mut before = FILE_MAGICS_BEFORE[0].to_vec();
        let mut ends = vec![before.len()];
        for payload in scan(&bytes).payloads {
            before.extend(frame_before(&bytes[payload]));
            ends.push(before.len());
        }
        (before, ends)
    }

    #[test]
    fn every_cut_leaves_the_frames_before_it() {
        for (counted, (bytes, ends)) in [(true, file(4)), (false, file_before(4))] {
            for cut in FILE_MAGIC.len()..=bytes.len() {
                let found = scan(&bytes[..cut]);
                let whole = ends.iter().filter(|e| **e <= cut).count() - 1;
                assert_eq!(found.payloads.len(), whole, "cut at {cut}");
                assert_eq!(found.torn.map(|t| t.at), (!ends.contains(&cut)).then_some(ends[whole]));
                assert!(found.torn.is_none_or(|t| t.is_write), "cut at {cut}");
                assert!(found.damaged.is_empty());
                // As soon as the header is there, it says what is cut off.
                let header = cut - ends[whole] >= HEADER_BYTES && counted;
                let counts = Counts { samples: 10, series: 0 };
                assert_eq!(found.torn.and_then(|t| t.cut), header.then_some(counts), "cut at {cut}");
                assert_eq!(found.torn.map_or(0, |t| t.lost.samples), 0, "it was never whole");
            }
        }
    }

    #[test]
    fn every_flipped_bit_costs_one_frame_and_says_what() {
        for (counted, (bytes, ends)) in [(true, file(4)), (false, file_before(4))] {
            for at in FILE_MAGIC.len()..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x10;
                let found = scan(&damaged);
                assert_eq!(found.payloads.len(), 3, "flipped at {at}");
                let frame = ends.iter().filter(|e| **e <= at).count() - 1;
                // The checksum of the payload is no part of what the header's own checksum covers.
                let header = counted && at - ends[frame] >= HEADER_BYTES - 4;
                let lost = Lost { samples: if header { 10 } else { 0 }, series: 0, exact: header };
                if frame == 3 {
                    let torn = Torn { at: ends[3], lost, cut: None, is_write: !counted };
                    assert_eq!(found.torn, Some(torn), "flipped at {at}");
                    assert!(found.damaged.is_empty());
                } else {
                    let bytes = ends[frame]..ends[frame + 1];
                    assert_eq!(found.damaged, [Damage { bytes, lost }], "flipped at {at}");
                    assert!(found.torn.is_none());
                }
            }
        }
    }

    #[test]
    fn frames_of_a_version_before_are_none_in_a_file_of_this_one() {
        let (bytes, ends) = file(3);
        let mut damaged = bytes.clone();
        let old = frame_before(b"\x05");
        // Where the middle frame was; a sender chooses what texts there are.
        damaged[ends[1]..ends[1] + old.len()].copy_from_slice(&old);
        assert_eq!(scan(&damaged).payloads.len(), 2);
        damaged[7] ^= 1;
        assert_eq!(scan(&damaged).payloads.len(), 3, "where the version is not known they may be some");
    }

    #[test]
    fn neighbours_that_are_damaged_are_counted_together() {
        let (bytes, ends) = file(6);
        let mut damaged = bytes.clone();
        damaged[ends[2] - 1] ^= 1;
        damaged[ends[3] - 1] ^= 1;
        let lost = Lost { samples: 20, series: 0, exact: true };
        assert_eq!(scan(&damaged).damaged, [Damage { bytes: ends[1]..ends[3], lost }]);
        // The header of the second as well: now only the first says what it held.
        damaged[ends[2] + 5] ^= 1;
        let lost = Lost { samples: 10, series: 0, exact: false };
        assert_eq!(scan(&damaged).damaged, [Damage { bytes: ends[1]..ends[3], lost }]);
    }
}
