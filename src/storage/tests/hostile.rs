//! What a sender, an operator or a disk does that nobody should, and that must cost only what it concerns.

use super::*;
use crate::model::{Span, stale_marker};
use crate::storage::wal::replay::scan;

/// Late samples and deletions of small windows.
fn small(dir: &Path) -> StorageOptions {
    StorageOptions { window_ms: 1000, retention_ms: 1 << 50, ..options(dir) }
}

fn times(storage: &Storage, i: usize) -> Vec<Timestamp> {
    let found = query(storage, &[Matcher::equal("id", i.to_string())], ALWAYS.0, ALWAYS.1);
    found.into_iter().flat_map(|(_, s)| s.ts).collect()
}

/// A sample of each of these series every 100 ms.
fn rounds(storage: &Storage, series: std::ops::Range<usize>, rounds: std::ops::Range<i64>) {
    rounds.for_each(|t| assert_eq!(scrape(storage, series.clone(), t * 100, 1.0).refused(), 0));
}

/// Maintenance for so long that what is over is sealed.
fn turn(storage: &Storage, now: Timestamp) {
    (0..4).for_each(|n| assert_eq!(storage.maintain(now + n * 200).failure, None));
}

fn samples(storage: &Storage) -> usize {
    query(storage, &[], ALWAYS.0, ALWAYS.1).iter().map(|s| s.1.len()).sum()
}

#[test]
fn a_sender_from_the_far_future_blocks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let now = 100 * HOUR;
    let o = StorageOptions { now: Some(now), exemplars_max: 10, ..options(dir.path()) };
    // Also before maintenance has said what time it is.
    let storage = Storage::open(o).unwrap();
    let mut a = storage.appender();
    let series = a.series(&labels(0)).unwrap();
    let exemplar = |ts| Exemplar { labels: Labels::empty(), value: 1.0, ts };
    for ts in [now + 600_001, now + 1000 * HOUR, Timestamp::MAX] {
        assert_eq!(a.append(series, ts, 1.0), Err(AppendError::TooFarAhead));
        assert_eq!(a.append_exemplar(series, exemplar(ts)), Err(ExemplarError::TooFarAhead));
        let value = SampleValue::Histogram(histogram(1));
        assert_eq!(a.append_with_start(series, ts, Timestamp::MAX, value), Err(AppendError::TooFarAhead));
    }
    assert_eq!(a.append(series, Timestamp::MIN, 1.0), Err(AppendError::TooOld));
    a.append_exemplar(series, exemplar(now)).unwrap();
    a.append_with_start(series, now, Timestamp::MAX, SampleValue::Float(1.0)).unwrap();
    assert_eq!(a.commit().unwrap().samples, 1);
    assert_eq!(storage.stats().max_ts, Some(now));
    assert_eq!(storage.maintain(now).failure, None);
    storage.seal_all().unwrap();
    let found = query(&storage, &[], ALWAYS.0, ALWAYS.1);
    assert_eq!((found[0].1.ts.clone(), found[0].1.starts.clone()), (vec![now], vec![Timestamp::MAX]));
}

#[test]
fn a_staleness_marker_that_makes_no_sense_as_a_histogram_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(small(dir.path())).unwrap();
    // Spans of buckets that are not there, which no reader would take.
    let marker = FloatHistogram {
        sum: stale_marker(),
        count: -1.0,
        schema: 99,
        positive_spans: vec![Span { offset: 0, length: 7 }],
        ..FloatHistogram::default()
    };
    let whole = FloatHistogram { count: 3.0, sum: 1.5, ..FloatHistogram::default() };
    let mut a = storage.appender();
    for i in 0..3 {
        let series = a.series(&labels(i)).unwrap();
        a.append_histogram(series, 10, Arc::new(marker.clone())).unwrap();
        a.append_with_start(series, 20, 5, SampleValue::Histogram(Arc::new(marker.clone()))).unwrap();
        a.append_with_start(series, 30, 5, SampleValue::Histogram(Arc::new(whole.clone()))).unwrap();
    }
    assert_eq!(a.commit().unwrap().samples, 9);
    let check = |storage: &Storage| {
        for (_, s) in query(storage, &[], ALWAYS.0, ALWAYS.1) {
            assert_eq!(s.hist_ts, [10, 20, 30]);
            let bare = FloatHistogram { sum: stale_marker(), ..FloatHistogram::default() };
            assert!(s.hists[..2].iter().all(|h| crate::storage::chunk::histograms::same_bits(h, &bare)));
            assert_eq!((s.hists[2].count, s.hists[2].sum), (3.0, 1.5));
        }
        assert_eq!((storage.stats().damaged, samples(storage)), (0, 9));
    };
    check(&storage);
    drop(storage);
    let storage = Storage::open(small(dir.path())).unwrap();
    check(&storage);
    storage.seal_all().unwrap();
    check(&storage);
    drop(storage);
    check(&Storage::open(small(dir.path())).unwrap());
    assert_eq!(verify(dir.path(), |p| panic!("{p}"), |_, _| ()).unwrap().problems, 0);
}

/// A WAL of several segments with seven samples in each frame.
fn several_segments(dir: &Path) -> (StorageOptions, Vec<PathBuf>) {
    let o = StorageOptions { wal_segment_bytes: 2000, ..options(dir) };
    let storage = Storage::open(o.clone()).unwrap();
    for t in 0..200 {
        scrape(&storage, 0..7, t * 1000, t as f64);
    }
    drop(storage);
    let segments = files(&dir.join("wal"), "wal");
    assert!(segments.len() > 4);
    (o, segments)
}

#[test]
fn a_segment_that_was_cut_between_two_frames_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (o, segments) = several_segments(dir.path());
    let bytes = fs::read(&segments[1]).unwrap();
    let frames = scan(&bytes).payloads;
    let at = frames[frames.len() - 3].end;
    fs::write(&segments[1], &bytes[..at]).unwrap();
    let mut problems = Vec::new();
    verify(dir.path(), |p| problems.push(p.to_string()), |_, _| ()).unwrap();
    let missing = bytes.len() - at;
    let told = format!("{}: its last {missing} bytes are missing", segments[1].display());
    assert!(problems.len() == 1 && problems[0].starts_with(&told), "{problems:?}");
    let storage = Storage::open(o.clone()).unwrap();
    assert_eq!(samples(&storage), 1400 - 14);
    let stats = storage.stats();
    assert_eq!(
        (stats.damaged, stats.lost_samples, stats.damaged_uncounted, stats.damaged_bytes),
        (1, 0, 1, missing as u64)
    );
    // It goes on, and what comes now is not mistaken for a loss.
    scrape(&storage, 0..7, 300_000, 1.0);
    drop(storage);
    let storage = Storage::open(o).unwrap();
    assert_eq!((samples(&storage), storage.stats().damaged), (1400 - 14 + 7, 1));
}

#[test]
fn a_segment_that_is_gone_is_noticed_and_one_that_was_superfluous_is_not_missed() {
    let dir = tempfile::tempdir().unwrap();
    let (o, segments) = several_segments(dir.path());
    fs::remove_file(&segments[2]).unwrap();
    let storage = Storage::open(o.clone()).unwrap();
    assert!(samples(&storage) < 1400);
    assert_eq!((storage.stats().damaged, storage.stats().damaged_uncounted), (1, 1));
    drop(storage);

    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { wal_segment_bytes: 700, ..small(dir.path()) };
    let storage = Storage::open(o.clone()).unwrap();
    for t in 0..80 {
        scrape(&storage, 0..3, t * 100, 1.0);
        assert_eq!(storage.maintain(t * 100).failure, None);
    }
    assert!(storage.stats().blocks > 2);
    assert!(!files(&dir.path().join("wal"), "wal")[0].ends_with("00000001.wal"));
    drop(storage);
    let storage = Storage::open(o).unwrap();
    assert_eq!((samples(&storage), storage.stats().damaged), (240, 0));
}

#[test]
fn what_is_damaged_is_kept_once_however_often_it_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (o, segments) = several_segments(dir.path());
    let mut bytes = fs::read(&segments[1]).unwrap();
    let at = scan(&bytes).payloads[3].start;
    bytes[at] ^= 1;
    fs::write(&segments[1], bytes).unwrap();
    for _ in 0..4 {
        drop(Storage::open(o.clone()).unwrap());
        assert_eq!(fs::read_dir(dir.path().join("quarantine")).unwrap().count(), 1);
    }
}

/// Flips a bit in the footer of the newest block.
fn damage_newest_block(dir: &Path) {
    let mut blocks = files(&dir.join("blocks"), "block");
    let end = |path: &PathBuf| -> i64 {
        path.file_stem().unwrap().to_str().unwrap().rsplit('-').next().unwrap().parse().unwrap()
    };
    blocks.sort_by_key(end);
    let newest = blocks.pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    fs::write(newest, bytes).unwrap();
}

/// Blocks up to 3000, and a sample at 5000 that keeps the only segment of the WAL, which has all others as well.
fn with_all_in_the_wal(storage: &Storage) {
    scrape(storage, 9..10, 5000, 1.0);
    rounds(storage, 0..3, 0..24);
}

fn seal_up_to(storage: &Storage, end: Timestamp) {
    turn(storage, 6000);
    assert_eq!(storage.block_stats().last().unwrap().range.1, end);
    assert_eq!(storage.stats().wal_segments, 1);
}

#[test]
fn what_was_deleted_stays_deleted_if_its_block_is_lost() {
    // Deleted in memory, before it was sealed; or in the block.
    for sealed_first in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let o = small(dir.path());
        let storage = Storage::open(o.clone()).unwrap();
        with_all_in_the_wal(&storage);
        if sealed_first {
            seal_up_to(&storage, 3000);
        }
        storage.delete_series(&[vec![Matcher::equal("id", "1")]], 0, 2250).unwrap();
        if !sealed_first {
            seal_up_to(&storage, 3000);
        }
        assert_eq!(times(&storage, 1), [2300]);
        drop(storage);
        damage_newest_block(dir.path());
        let storage = Storage::open(o.clone()).unwrap();
        assert_eq!(storage.stats().damaged, 1);
        assert_eq!((times(&storage, 1), times(&storage, 9)), (vec![], vec![5000]), "{sealed_first}");
        assert_eq!(times(&storage, 2).len(), 20);
        // The next block says where the blocks end, and then nobody has to remember.
        rounds(&storage, 0..3, 30..62);
        turn(&storage, 7000);
        assert_eq!(storage.block_stats().last().unwrap().range.1, 5000);
        storage.clean_tombstones().unwrap();
        drop(storage);
        assert!(!dir.path().join("tombstones").exists());
        let storage = Storage::open(o).unwrap();
        assert_eq!(times(&storage, 1), (30..62).map(|t| t * 100).collect::<Vec<_>>());
    }
}

#[test]
fn a_lost_block_of_which_nothing_was_deleted_is_read_from_the_wal_as_far_as_that_goes() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(small(dir.path())).unwrap();
    with_all_in_the_wal(&storage);
    seal_up_to(&storage, 3000);
    // Of another time.
    storage.delete_series(&[vec![Matcher::equal("id", "1")]], 4000, 4500).unwrap();
    drop(storage);
    damage_newest_block(dir.path());
    let storage = Storage::open(small(dir.path())).unwrap();
    assert_eq!(storage.stats().damaged, 1);
    assert_eq!(times(&storage, 1), (0..24).map(|t| t * 100).collect::<Vec<_>>());
}

#[test]
fn a_block_that_somebody_put_among_others_is_set_aside() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (dir, shift, n) in [(&dir, 0, 30), (&other, 50, 12)] {
        let storage = Storage::open(small(dir.path())).unwrap();
        for t in 0..n {
            scrape(&storage, 0..3, t * 100 + shift, 1.0);
        }
        storage.seal_all().unwrap();
    }
    let names = |dir: &Path| files(&dir.join("blocks"), "block");
    let before = names(dir.path());
    let put = names(other.path()).pop().unwrap();
    fs::copy(&put, dir.path().join("blocks").join(put.file_name().unwrap())).unwrap();
    assert_eq!(names(dir.path()).len(), before.len() + 1);
    let storage = Storage::open(small(dir.path())).unwrap();
    assert_eq!((samples(&storage), storage.stats().damaged), (90, 1));
    assert_eq!(names(dir.path()), before);
    assert_eq!(files(&dir.path().join("quarantine"), "block").len(), 1);
}

#[test]
fn a_series_without_labels_does_not_hide_those_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(small(dir.path())).unwrap();
    let mut a = storage.appender();
    let nameless = a.series(&Labels::empty()).unwrap();
    for t in [1, 2] {
        a.append(nameless, t, 1.0).unwrap();
    }
    a.commit().unwrap();
    scrape(&storage, 0..3, 1, 2.0);
    scrape(&storage, 0..3, 2, 2.0);
    storage.seal_all().unwrap();
    storage.delete_series(&[vec![Matcher::equal("id", "1")]], 2, 2).unwrap();
    assert_eq!(storage.clean_tombstones().unwrap().blocks_rewritten, 1);
    assert_eq!((samples(&storage), query(&storage, &[], ALWAYS.0, ALWAYS.1).len()), (7, 4));
}

#[test]
fn late_samples_of_a_series_that_left_the_memory_are_no_loss_once_they_are_in_their_block() {
    let dir = tempfile::tempdir().unwrap();
    let o = StorageOptions { out_of_order_window_ms: 10_000, ..small(dir.path()) };
    let storage = Storage::open(o.clone()).unwrap();
    rounds(&storage, 0..1, 0..11);
    storage.seal_all().unwrap();
    rounds(&storage, 0..1, 12..33);
    // All that it ever had is late, and the segment stays for longer than the series.
    assert_eq!(scrape(&storage, 5..6, 150, 1.0).samples_out_of_order, 1);
    for now in [4000, 4001, 4002, 4200, 4400] {
        assert_eq!(storage.maintain(now).failure, None);
    }
    assert_eq!(storage.block_stats().last().unwrap().range.1, 3000);
    assert_eq!((storage.stats().series, times(&storage, 5)), (1, vec![150]));
    drop(storage);
    let storage = Storage::open(o).unwrap();
    assert_eq!(times(&storage, 5), [150]);
    assert_eq!((storage.stats().damaged, storage.stats().lost_samples), (0, 0));
}

#[test]
fn a_folder_with_the_name_of_a_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (o, _) = several_segments(dir.path());
    let folders = ["blocks/1-2.block", "wal/00000099.wal", "wal/00000099.checkpoint", "blocks/x.tmp"];
    folders.iter().for_each(|f| fs::create_dir_all(dir.path().join(f)).unwrap());
    let storage = Storage::open(o).unwrap();
    assert_eq!((samples(&storage), storage.stats().damaged), (1400, 0));
    drop(storage);
    assert_eq!(verify(dir.path(), |p| panic!("{p}"), |_, _| ()).unwrap().problems, 0);
    assert!(folders.iter().all(|f| dir.path().join(f).is_dir()));
}

#[test]
fn garbage_in_the_place_of_the_last_segment_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (o, segments) = several_segments(dir.path());
    let next = segments[0].with_file_name(format!("{:08}.wal", segments.len() + 1));
    fs::write(&next, [0xa5; 3000]).unwrap();
    let storage = Storage::open(o.clone()).unwrap();
    let stats = storage.stats();
    assert_eq!((samples(&storage), stats.damaged, stats.damaged_bytes), (1400, 1, 3000));
    drop(storage);
    assert_eq!(Storage::open(o).unwrap().stats().damaged, 0, "it was set aside");
}

#[test]
fn a_damaged_checkpoint_costs_no_sample() {
    let dir = tempfile::tempdir().unwrap();
    let o = small(dir.path());
    let storage = Storage::open(o.clone()).unwrap();
    // The segments that named the series first are gone with their blocks.
    for t in 0..80 {
        rounds(&storage, 0..3, t..t + 1);
        assert_eq!(storage.maintain(t * 100).failure, None);
    }
    drop(storage);
    let wal = dir.path().join("wal");
    let checkpoint = files(&wal, "checkpoint").remove(0);
    let whole = fs::read(&checkpoint).unwrap();
    let check = |damaged| {
        let storage = Storage::open(StorageOptions { read_only: true, ..o.clone() }).unwrap();
        let stats = storage.stats();
        assert_eq!((samples(&storage), stats.damaged, stats.lost_samples), (240, damaged, 0));
    };
    check(0);
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 1;
    fs::write(&checkpoint, &bytes).unwrap();
    check(1);
    fs::remove_file(&checkpoint).unwrap();
    check(0);
    // Both: then the series have no name.
    fs::write(&checkpoint, &bytes).unwrap();
    fs::write(files(&wal, "checkpoint2").remove(0), &bytes).unwrap();
    let storage = Storage::open(o.clone()).unwrap();
    assert!(storage.stats().lost_samples > 0 && samples(&storage) < 240);
}

#[test]
fn no_snapshot_is_made_of_a_block_that_is_known_to_be_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(small(dir.path())).unwrap();
    rounds(&storage, 0..3, 0..24);
    storage.seal_all().unwrap();
    drop(storage);
    let block = files(&dir.path().join("blocks"), "block").remove(0);
    let mut bytes = fs::read(&block).unwrap();
    bytes[20] ^= 1;
    fs::write(&block, bytes).unwrap();
    let storage = Storage::open(small(dir.path())).unwrap();
    assert!(samples(&storage) < 72);
    let refused = storage.snapshot("a", false).unwrap_err().to_string();
    assert!(refused.contains(block.to_str().unwrap()) && refused.contains("damaged"), "{refused}");
    assert!(!dir.path().join("snapshots/a").exists() && !dir.path().join("snapshots/a.tmp").exists());
    assert_eq!(storage.maintain(2400).blocks_set_aside, 1);
    let copy = Storage::open(small(&storage.snapshot("a", false).unwrap())).unwrap();
    assert_eq!((samples(&copy), copy.stats().damaged), (samples(&storage), 0));
}
