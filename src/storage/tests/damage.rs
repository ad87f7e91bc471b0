//! What is damaged is set aside and told; the rest serves.

use super::*;

#[test]
fn a_flipped_bit_in_the_wal_costs_one_batch() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(options(dir.path())).unwrap();
    for t in 0..20 {
        scrape(&storage, 0..3, t * 1000, t as f64);
    }
    drop(storage);
    let wal = files(&dir.path().join("wal"), "wal").remove(0);
    let mut bytes = fs::read(&wal).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&wal, bytes).unwrap();
    let storage = Storage::open(options(dir.path())).unwrap();
    assert!(query(&storage, &[], ALWAYS.0, ALWAYS.1).iter().all(|s| s.1.ts.len() == 19));
    assert_eq!(fs::read_dir(dir.path().join("quarantine")).unwrap().count(), 1);
}

#[test]
fn a_damaged_block_is_set_aside_and_the_others_serve() {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { window_ms: HOUR, ..options(dir.path()) };
    let storage = Storage::open(o.clone()).unwrap();
    fill(&storage, 20, 6);
    drop(storage);
    let blocks = files(&dir.path().join("blocks"), "block");
    assert!(blocks.len() >= 4);
    let damage = |path: &Path, at: usize| {
        let mut bytes = fs::read(path).unwrap();
        let at = if at > bytes.len() { bytes.len() - 20 } else { at };
        bytes[at] ^= 0x20;
        fs::write(path, bytes).unwrap();
    };
    // One in the data, one in the index, one in the footer.
    damage(&blocks[0], 100);
    let index = fs::metadata(&blocks[1]).unwrap().len() as usize - 400;
    damage(&blocks[1], index);
    damage(&blocks[2], usize::MAX);
    let storage = Storage::open(o).unwrap();
    assert_eq!(storage.stats().blocks, blocks.len() as u64 - 1);
    let found = query(&storage, &[], ALWAYS.0, ALWAYS.1);
    assert_eq!(found.len(), 20);
    assert!(found.iter().any(|s| s.1.ts.len() == 60 * 6 - 3 * 60));
    assert!(found.iter().all(|s| s.1.ts.len() >= 60 * 6 - 3 * 60));
    assert_eq!(storage.maintain(6 * HOUR).blocks_set_aside, 2);
    assert_eq!(storage.stats().blocks, blocks.len() as u64 - 3);
    assert_eq!(files(&dir.path().join("quarantine"), "block").len(), 3);
    assert!(query(&storage, &[], ALWAYS.0, ALWAYS.1).iter().all(|s| s.1.ts.len() == 60 * 6 - 3 * 60));
}

#[test]
fn a_damaged_checkpoint_is_no_reason_not_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(StorageOptions { window_ms: 10_000, ..options(dir.path()) }).unwrap();
    for t in 0..15 {
        scrape(&storage, 0..3, t * 1000, t as f64);
        storage.maintain(t * 1000);
    }
    assert_eq!(storage.stats().blocks, 1);
    drop(storage);
    let checkpoint = files(&dir.path().join("wal"), "checkpoint").remove(0);
    let mut bytes = fs::read(&checkpoint).unwrap();
    let at = bytes.len() - 3;
    bytes[at] ^= 1;
    fs::write(&checkpoint, bytes).unwrap();
    let storage = Storage::open(options(dir.path())).unwrap();
    assert!(query(&storage, &[], ALWAYS.0, ALWAYS.1).iter().all(|s| s.1.ts.len() == 15));
}

#[test]
fn an_answer_that_leaves_out_what_is_damaged_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { window_ms: HOUR, ..options(dir.path()) };
    let storage = Storage::open(o.clone()).unwrap();
    for i in 0..50 {
        put(&storage, HOUR + i, i as f64 / 7.0);
    }
    storage.seal_all().unwrap();
    put(&storage, 3 * HOUR, 1.0);
    let read = |storage: &Storage| {
        let reader = storage.reader();
        let mut samples = Samples::default();
        for series in reader.select(&[], ALWAYS.0, ALWAYS.1) {
            series.read(ALWAYS.0, ALWAYS.1, &mut samples);
        }
        (samples.ts.len(), reader.is_partial())
    };
    assert_eq!(read(&storage), (51, false));
    drop(storage);
    let block = files(&dir.path().join("blocks"), "block").remove(0);
    let mut bytes = fs::read(&block).unwrap();
    bytes[40] ^= 1;
    fs::write(&block, bytes).unwrap();
    let storage = Storage::open(o).unwrap();
    let (samples, partial) = read(&storage);
    assert!(partial && samples < 51, "{samples} {partial}");
}
