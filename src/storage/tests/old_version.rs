//! Directories of the versions before open as they were: 1 had no start times, 2 did not count the samples of a frame.

use super::*;
use crate::storage::wal::frame::{self, frame_before};
use crate::storage::wal::replay::scan;

/// Makes files of this version without start times into what version 1 or 2 wrote: the frames of the WAL have another
/// header, and the version differs.
fn as_version(version: u8, dir: &Path) {
    let mut changed = 0;
    for path in files(&dir.join("blocks"), "block") {
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        for magic in [0, last - 7] {
            assert!(bytes[magic..].starts_with(b"SGBLK\0\0\x02"), "{}", path.display());
            bytes[magic + 7] = version;
        }
        fs::write(&path, bytes).unwrap();
        changed += 1;
    }
    for extension in ["wal", "checkpoint"] {
        for path in files(&dir.join("wal"), extension) {
            let bytes = fs::read(&path).unwrap();
            assert!(bytes.starts_with(b"SGWAL\0\0\x04"), "{}", path.display());
            let mut before = b"SGWAL\0\0".to_vec();
            before.push(version);
            for payload in scan(&bytes).payloads.into_iter().map(|p| &bytes[p]) {
                // They did not say how long the segment before was.
                let says_before =
                    frame::sections(payload).any(|s| matches!(s, frame::Section::SegmentBefore { .. }));
                if !says_before {
                    before.extend(frame_before(payload));
                }
            }
            fs::write(&path, before).unwrap();
            changed += 1;
        }
    }
    assert!(changed >= 2, "blocks and a WAL");
}

#[test]
fn versions_before_are_read_and_written_on() {
    read_and_written_on(1);
    read_and_written_on(2);
}

fn read_and_written_on(version: u8) {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { window_ms: HOUR, ..options(dir.path()) };
    let storage = Storage::open(o.clone()).unwrap();
    fill(&storage, 5, 6);
    let before = query(&storage, &[], ALWAYS.0, ALWAYS.1);
    assert!(before.len() == 5 && storage.stats().blocks > 0 && storage.stats().head_samples > 0);
    drop(storage);
    as_version(version, dir.path());
    let read_only = Storage::open(StorageOptions { read_only: true, ..o.clone() }).unwrap();
    assert_eq!(query(&read_only, &[], ALWAYS.0, ALWAYS.1), before);
    assert_eq!(read_only.stats().damaged, 0);
    drop(read_only);
    let storage = Storage::open(o.clone()).unwrap();
    assert_eq!(query(&storage, &[], ALWAYS.0, ALWAYS.1), before);
    let newest = before[0].1.ts.last().copied().unwrap();
    let mut a = storage.appender();
    let series = a.series(&labels(0)).unwrap();
    a.append_with_start(series, newest + 1000, newest, SampleValue::Float(7.0)).unwrap();
    assert_eq!(a.commit().unwrap().samples, 1);
    storage.seal_all().unwrap();
    drop(storage);
    let storage = Storage::open(o).unwrap();
    let after = query(&storage, &[], ALWAYS.0, ALWAYS.1);
    assert_eq!(after[0].1.ts.len(), before[0].1.ts.len() + 1);
    assert_eq!(after[0].1.starts.last(), Some(&newest));
    assert!(storage.verify().is_empty());
}
