//! Directories of version 1, which had no start times, open as they were.

use super::*;

/// Makes files of version 2 without start times into what version 1 wrote: only the version differs.
fn as_version_1(dir: &Path) {
    let is_magic = |bytes: &[u8]| bytes.starts_with(b"SGBLK\0\0") || bytes.starts_with(b"SGWAL\0\0");
    let mut changed = 0;
    for (folder, extension) in [("blocks", "block"), ("wal", "wal"), ("wal", "checkpoint")] {
        for path in files(&dir.join(folder), extension) {
            let mut bytes = fs::read(&path).unwrap();
            assert!(is_magic(&bytes) && bytes[7] == 2, "{}", path.display());
            bytes[7] = 1;
            if extension == "block" {
                let last = bytes.len() - 1;
                assert!(is_magic(&bytes[last - 7..]) && bytes[last] == 2);
                bytes[last] = 1;
            }
            fs::write(&path, bytes).unwrap();
            changed += 1;
        }
    }
    assert!(changed >= 2, "blocks and a WAL");
}

#[test]
fn version_1_is_read_and_written_on() {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { window_ms: HOUR, ..options(dir.path()) };
    let storage = Storage::open(o.clone()).unwrap();
    fill(&storage, 5, 6);
    let before = query(&storage, &[], ALWAYS.0, ALWAYS.1);
    assert!(before.len() == 5 && storage.stats().blocks > 0 && storage.stats().head_samples > 0);
    drop(storage);
    as_version_1(dir.path());
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
