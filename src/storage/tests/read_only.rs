//! Looking at a data directory leaves it as it is.

use std::collections::BTreeMap;

use super::*;

/// Every file below a directory, with its bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    all
}

#[test]
fn nothing_is_written_moved_or_cut() {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { window_ms: HOUR, ..options(dir.path()) };
    let storage = Storage::open(o.clone()).unwrap();
    fill(&storage, 5, 6);
    let before = query(&storage, &[], ALWAYS.0, ALWAYS.1);
    drop(storage);
    // A damaged block, a damaged piece of the WAL, a torn end, and a file that was never finished.
    let block = files(&dir.path().join("blocks"), "block").remove(0);
    let mut bytes = fs::read(&block).unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    fs::write(&block, bytes).unwrap();
    let segment = files(&dir.path().join("wal"), "wal").pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes.extend_from_slice(b"SGW1 cut short");
    fs::write(&segment, bytes).unwrap();
    fs::write(dir.path().join("blocks/1-2.block.tmp"), "x").unwrap();
    let was = contents(dir.path());

    let read_only = StorageOptions { read_only: true, ..o.clone() };
    let storage = Storage::open(read_only.clone()).unwrap();
    let found = query(&storage, &[], ALWAYS.0, ALWAYS.1);
    assert_eq!(found.len(), 5);
    assert_eq!(found[0].1.ts.last(), before[0].1.ts.last());
    assert!(found[0].1.ts.len() < before[0].1.ts.len());
    let mut a = storage.appender();
    let series = a.series(&labels(0)).unwrap();
    a.append(series, 7 * HOUR, 1.0).unwrap();
    assert!(matches!(a.commit(), Err(StorageError::ReadOnly)));
    storage.set_metadata("m", Metadata::default());
    assert_eq!(storage.maintain(100 * 24 * HOUR), Maintained::default());
    assert!(storage.seal_all().is_err());
    // Several may look at once.
    let other = Storage::open(read_only.clone()).unwrap();
    assert_eq!(query(&other, &[], ALWAYS.0, ALWAYS.1), found);
    // And nobody may write meanwhile.
    assert!(Storage::open(o).is_err());
    drop((storage, other));
    assert_eq!(contents(dir.path()), was);
}

#[test]
fn what_is_in_use_or_no_data_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let read_only = StorageOptions { read_only: true, ..options(dir.path()) };
    let refused = |o: &StorageOptions| Storage::open(o.clone()).unwrap_err().to_string();
    assert!(refused(&read_only).contains("neither blocks nor a WAL"));
    assert!(
        refused(&StorageOptions { dir: Some(dir.path().join("x")), ..read_only.clone() }).contains("no such")
    );
    let storage = Storage::open(options(dir.path())).unwrap();
    scrape(&storage, 0..3, 1000, 1.0);
    let reason = refused(&read_only);
    assert!(reason.contains("a server has it open") && reason.contains("snapshot"), "{reason}");
    // A copy has a lock file that nobody holds, or none.
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    fs::remove_file(copy.path().join("lock")).unwrap();
    let o = StorageOptions { dir: Some(copy.path().to_owned()), ..read_only };
    assert_eq!(query(&Storage::open(o).unwrap(), &[], ALWAYS.0, ALWAYS.1).len(), 3);
    assert!(!copy.path().join("lock").exists());
}
