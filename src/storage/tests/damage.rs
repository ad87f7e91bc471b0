//! What is damaged is set aside and told; the rest serves.

use super::*;
use crate::storage::wal::replay::scan;

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

/// The storage's account of what was damaged: pieces, samples, and pieces that do not say.
fn losses(storage: &Storage) -> (u64, u64, u64) {
    let stats = storage.stats();
    (stats.damaged, stats.lost_samples, stats.damaged_uncounted)
}

#[test]
fn damage_of_the_wal_is_counted_in_samples() {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { wal_segment_bytes: 64 << 20, ..options(dir.path()) };
    let storage = Storage::open(o.clone()).unwrap();
    for t in 0..20 {
        scrape(&storage, 0..7, t * 1000, t as f64);
    }
    drop(storage);
    let wal = files(&dir.path().join("wal"), "wal").remove(0);
    let whole = fs::read(&wal).unwrap();
    let frames = scan(&whole).payloads;
    let samples = |storage: &Storage| -> usize {
        query(storage, &[], ALWAYS.0, ALWAYS.1).iter().map(|s| s.1.ts.len()).sum()
    };
    let reopened = |bytes: &[u8]| {
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join("wal")).unwrap();
        fs::write(copy.path().join("wal").join(wal.file_name().unwrap()), bytes).unwrap();
        let storage =
            Storage::open(StorageOptions { dir: Some(copy.path().to_owned()), ..o.clone() }).unwrap();
        let found = (samples(&storage), losses(&storage));
        drop(storage);
        // What was set aside is not found again.
        let again = Storage::open(StorageOptions { dir: Some(copy.path().to_owned()), ..o.clone() }).unwrap();
        assert_eq!(samples(&again), found.0);
        found
    };
    let flipped = |places: &[usize]| {
        let mut bytes = whole.clone();
        places.iter().for_each(|at| bytes[*at] ^= 1);
        reopened(&bytes)
    };
    assert_eq!(reopened(&whole), (140, (0, 0, 0)));
    let (middle, last) = (&frames[frames.len() / 2], &frames[frames.len() - 1]);
    assert_eq!(flipped(&[middle.start]), (133, (1, 7, 0)));
    assert_eq!(flipped(&[middle.start - 22]), (133, (1, 0, 1)), "in the header");
    assert_eq!(flipped(&[middle.start, middle.end + 24]), (126, (1, 14, 0)), "two, side by side");
    assert_eq!(flipped(&[last.start]), (133, (1, 7, 0)), "whole in length, so it was acknowledged");
    assert_eq!(flipped(&[last.start - 22]), (133, (1, 0, 1)), "its header as well");
    // As a kill in the middle of a write leaves it: nobody was promised these.
    assert_eq!(reopened(&whole[..last.end - 1]), (133, (0, 0, 0)));
}

#[test]
fn a_segment_that_was_cut_in_the_middle_says_what_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { wal_segment_bytes: 2000, ..options(dir.path()) };
    let storage = Storage::open(o.clone()).unwrap();
    for t in 0..200 {
        scrape(&storage, 0..7, t * 1000, t as f64);
    }
    drop(storage);
    let segments = files(&dir.path().join("wal"), "wal");
    assert!(segments.len() > 2);
    let bytes = fs::read(&segments[1]).unwrap();
    let frames = scan(&bytes).payloads;
    let at = frames.len() - 3;
    fs::write(&segments[1], &bytes[..frames[at].start + 2]).unwrap();
    let storage = Storage::open(o).unwrap();
    let found: usize = query(&storage, &[], ALWAYS.0, ALWAYS.1).iter().map(|s| s.1.ts.len()).sum();
    assert_eq!(found, 1400 - 3 * 7);
    assert_eq!(
        losses(&storage),
        (2, 7, 2),
        "at least the seven of the frame that is cut; what was after it is missing"
    );
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
    // That goes on when the block is set aside, for what is asked of its time.
    assert_eq!(storage.maintain(3 * HOUR).blocks_set_aside, 1);
    assert_eq!(read(&storage), (1, true));
    let asks = |from, to| {
        let (all, names, values) = (storage.reader(), storage.reader(), storage.reader());
        assert!(all.select(&[], from, to).len() <= 1);
        assert!(names.label_names(&[], from, to).len() <= 3);
        assert!(values.label_values("id", &[], from, to).len() <= 1);
        let notes = [all, names, values].map(|r| r.partial_note().is_some());
        assert!(notes.iter().all(|n| *n == notes[0]), "{notes:?}");
        notes[0]
    };
    assert!(asks(HOUR, HOUR + 1));
    assert!(!asks(3 * HOUR, 4 * HOUR));
}

#[test]
fn a_block_without_its_end_is_missed_from_the_start_on() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(options(dir.path())).unwrap();
    put(&storage, -5, 1.0);
    storage.seal_all().unwrap();
    drop(storage);
    let block = files(&dir.path().join("blocks"), "block").remove(0);
    fs::write(block, b"nothing").unwrap();
    let storage = Storage::open(options(dir.path())).unwrap();
    let reader = storage.reader();
    assert!(reader.select(&[], 0, HOUR).is_empty() && !reader.is_partial());
    assert!(reader.select(&[], -10, HOUR).is_empty() && reader.is_partial());
}

#[test]
fn a_snapshot_has_no_block_that_was_damaged_while_the_server_ran() {
    use std::os::unix::fs::FileExt as _;
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(options(dir.path())).unwrap();
    for i in 0..50 {
        put(&storage, HOUR + i, i as f64 / 7.0);
    }
    storage.seal_all().unwrap();
    assert_eq!(query(&storage, &[], ALWAYS.0, ALWAYS.1).remove(0).1.ts.len(), 50);
    storage.snapshot("whole", false).unwrap();
    let block = files(&dir.path().join("blocks"), "block").remove(0);
    // In place, as a disk does it.
    let file = fs::OpenOptions::new().read(true).write(true).open(&block).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 40).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 40).unwrap();
    assert_eq!(storage.verify(), Vec::<PathBuf>::new(), "nobody has looked again");
    let error = storage.snapshot("damaged", false).unwrap_err().to_string();
    assert!(error.contains(block.file_name().unwrap().to_str().unwrap()), "{error}");
    let left: Vec<_> =
        fs::read_dir(dir.path().join("snapshots")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["whole"]);
    assert_eq!(storage.maintain(HOUR).blocks_set_aside, 1);
    storage.snapshot("damaged", false).unwrap();
}
