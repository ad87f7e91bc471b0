//! A segment in memory, before anything of it is in the head.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use crate::storage::disk::Disk;
use crate::storage::head::{id_of, run_of};
use crate::storage::open::at_path;
use crate::storage::wal::frame::{self, FloatsFrom, Section};
use crate::storage::wal::replay::{Scan, scan};

/// Groups take this part of the memory of their section at most: one whose series follow each other in no order stays
/// whole.
const GROUP_BYTES_MIN: usize = size_of::<Group>();
/// A section of series that stands twice is recognised among so many before it.
const RECENT_SERIES: usize = 16;

/// Float samples of series of one run, one after the other in a section.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub run: u32,
    pub from: FloatsFrom,
    pub bytes: Range<u32>,
}

/// Samples, or what is to be known of them, in the order of the segment.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Floats(Group),
    /// A section of any other kind, or of series of very many runs: where it is.
    Section(Range<usize>),
}

/// What was read of a segment.
#[derive(Debug)]
pub(super) struct Loaded {
    pub number: u64,
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub found: Scan,
    /// Sections that name series and the like.
    pub names: Vec<Range<usize>>,
    pub work: Vec<Work>,
    /// The segment before it, and how many bytes that had at least.
    pub before: Option<(u64, u64)>,
    /// Sections that cannot be read though their checksum is right.
    pub unreadable: u64,
}

impl Loaded {
    /// Reads a segment; what it says of series is left out unless `names`. The memory of one that is done with is used
    /// again.
    pub fn read(
        disk: &dyn Disk,
        number: u64,
        path: PathBuf,
        names: bool,
        spare: Option<Loaded>,
    ) -> io::Result<Self> {
        let (mut bytes, mut work) = spare.map_or_else(Default::default, |s| (s.bytes, s.work));
        work.clear();
        disk.read_into(&path, &mut bytes).map_err(|e| at_path(&path, &e))?;
        let found = scan(&bytes);
        let mut loaded =
            Loaded { number, path, bytes, found, names: Vec::new(), work, before: None, unreadable: 0 };
        let mut recent = Recent::default();
        for i in 0..loaded.found.payloads.len() {
            loaded.sort_payload(loaded.found.payloads[i].clone(), names, &mut recent);
        }
        Ok(loaded)
    }

    fn sort_payload(&mut self, payload: Range<usize>, names: bool, recent: &mut Recent) {
        let Loaded { bytes, work, before, unreadable, .. } = self;
        for (place, section) in frame::placed_sections(&bytes[payload.clone()]) {
            let place = payload.start + place.start..payload.start + place.end;
            match section {
                Section::Floats(floats) => {
                    let start = place.end - floats.len();
                    let at = work.len();
                    let group = |series| run_of(id_of(series));
                    let whole = frame::group_floats(floats, group, |run, from, range| {
                        // A segment is far from 4 GiB; what is not is kept whole below.
                        let bytes = (start + range.start) as u32..(start + range.end) as u32;
                        work.push(Work::Floats(Group { run, from, bytes }));
                    });
                    let groups = work.len() - at;
                    let too_many = groups > 1 && groups * GROUP_BYTES_MIN > floats.len();
                    if too_many || u32::try_from(place.end).is_err() {
                        work.truncate(at);
                        work.push(Work::Section(place));
                    } else if whole.is_none() {
                        *unreadable += 1;
                    }
                }
                Section::Histograms(_) | Section::Samples(_) | Section::LateMark { .. } => {
                    work.push(Work::Section(place));
                }
                Section::Exemplars(_) => self.names.push(place),
                Section::Series(_) | Section::SeriesCompressed(_) => {
                    if names && !recent.is_repeated(bytes, &place) {
                        self.names.push(place);
                    }
                }
                Section::Metadata(_) => {
                    if names {
                        self.names.push(place);
                    }
                }
                Section::SegmentBefore { number, bytes } => *before = Some((number, bytes)),
                Section::CheckpointEnd(_) => {}
            }
        }
    }

    /// The section at a place.
    pub fn section(&self, place: &Range<usize>) -> Option<Section<'_>> {
        frame::sections(&self.bytes[place.clone()]).next()
    }
}

/// The sections of series that came last: each is written twice, one soon after the other.
#[derive(Debug, Default)]
struct Recent {
    places: [Range<usize>; RECENT_SERIES],
    next: usize,
}

impl Recent {
    fn is_repeated(&mut self, bytes: &[u8], place: &Range<usize>) -> bool {
        let section = &bytes[place.clone()];
        if self.places.iter().any(|p| p.len() == section.len() && bytes[p.clone()] == *section) {
            return true;
        }
        self.places[self.next] = place.clone();
        self.next = (self.next + 1) % RECENT_SERIES;
        false
    }
}
