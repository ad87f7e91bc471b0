//! Full chunks in a file that fails: the WAL has their samples.

use super::*;
use crate::storage::disk::Disk as _;
use crate::storage::wal::replay::scan;

const SERIES: i64 = 6;

/// A storage with its full chunks in a file, of which the first write cannot be read: the first full chunks of all series but
/// the last one, which gets no sample in the batch that ends their window.
fn damaged() -> World {
    let mut world = World::new(FsyncPolicy::Never, IN_FILE);
    world.options.window_ms = 1000;
    world.options.wal_segment_bytes = 1 << 20;
    world.open();
    for ts in [0, 300, 600, 900] {
        assert!(world.send(ts, 0..SERIES, ts));
    }
    let at = world.disk.operations();
    world.disk.fail(Fault { at, times: 100, kind: Kind::BadSector });
    assert!(world.send(1200, 0..SERIES - 1, 1200));
    assert_eq!(world.disk.scratch_faults(), 1);
    world.disk.restart();
    assert!(world.send(1500, 0..SERIES, 1500));
    world
}

/// The floats of full chunks that cannot be read: each fourth series has histograms, which lie elsewhere.
const UNREADABLE: i64 = 4 * (SERIES - 1 - 1);

fn wal_bytes(world: &World) -> usize {
    let files = world.disk.files(&Path::new(DIR).join("wal"));
    let segments = files.iter().filter(|p| p.extension().is_some_and(|e| e == "wal"));
    segments.map(|p| world.disk.read(p).unwrap().len()).sum()
}

#[test]
fn a_query_gives_the_rest_and_says_so_until_maintenance_heals() {
    let mut world = damaged();
    let attempted = world.attempted.clone();
    let (rest, partial) = held(world.storage());
    assert!(partial && rest.iter().all(|(key, v)| attempted[key] == *v));
    assert_eq!(rest.len() as i64, attempted.len() as i64 - UNREADABLE);
    assert_eq!(world.storage().maintain(0), Maintained::default());
    assert_eq!(held(world.storage()), (attempted.clone(), false));
    let counts = |world: &World| (world.metrics.damaged.get(), world.metrics.lost_samples.get());
    assert_eq!(counts(&world), (SERIES as u64 - 2, 0));
    // Once, and not each time.
    assert_eq!(world.storage().maintain(0), Maintained::default());
    world.check(Kind::BadSector, "later");
    assert_eq!(counts(&world), (SERIES as u64 - 2, 0));
    let stats = world.storage().stats();
    assert_eq!(stats.head_samples, attempted.len() as u64);
    world.storage().seal_all().unwrap();
    assert_eq!(held(world.storage()), (attempted, false));
    assert_eq!(world.storage().stats().head_chunks, 0, "chunks are counted as they come and go");
}

#[test]
fn a_seal_and_a_snapshot_heal_what_they_meet() {
    for snapshot in [false, true] {
        let mut world = damaged();
        let attempted = world.attempted.clone();
        if snapshot {
            let path = world.storage().snapshot("copy", false).unwrap();
            let options = StorageOptions { dir: Some(path), ..world.options.clone() };
            let metrics = StorageMetrics::default();
            let copy = Storage::open_on(Arc::new(world.disk.clone()), options, metrics).unwrap();
            assert_eq!(held(&copy), (attempted.clone(), false));
        } else {
            world.storage().seal_all().unwrap();
        }
        assert_eq!(world.metrics.damaged.get(), SERIES as u64 - 2);
        world.check(Kind::BadSector, "healed");
        world.storage = None;
        world.open();
        assert_eq!(held(world.storage()), (attempted, false));
    }
}

#[test]
fn what_the_wal_has_lost_too_is_counted_and_the_rest_is_sealed() {
    let world = damaged();
    let attempted = world.attempted.clone();
    let files = world.disk.files(&Path::new(DIR).join("wal"));
    let path = files.iter().find(|p| p.extension().is_some_and(|e| e == "wal")).unwrap();
    world.disk.damage(path, |bytes| {
        let frames = scan(bytes).payloads;
        // The batch of 300 ms: the one before has its series once more in a frame of their own.
        assert_eq!(frames.len(), 5);
        bytes[frames[2].start] ^= 1;
    });
    world.storage().seal_all().unwrap();
    let lost = |(id, ts): &(i64, Timestamp)| *ts == 300 && *id < SERIES - 1 && id % 4 != 3;
    let rest: Written = attempted.iter().filter(|(key, _)| !lost(key)).map(|(k, v)| (*k, *v)).collect();
    assert_eq!(held(world.storage()), (rest.clone(), false));
    assert_eq!(world.metrics.lost_samples.get(), (attempted.len() - rest.len()) as u64);
    assert_eq!(world.storage().stats().blocks, 2);
}

#[test]
fn a_wal_that_cannot_be_read_holds_the_seal_up_and_is_kept() {
    let world = damaged();
    let attempted = world.attempted.clone();
    let wal = wal_bytes(&world);
    world.disk.fail_reads(true);
    world.storage().seal_all().unwrap_err();
    let failure = world.storage().maintain(0).failure.unwrap();
    assert!(failure.contains("cannot be taken from the WAL"), "{failure}");
    world.disk.fail_reads(false);
    assert_eq!((world.metrics.damaged.get(), wal_bytes(&world)), (0, wal), "nothing is given up");
    world.storage().seal_all().unwrap();
    assert_eq!(held(world.storage()), (attempted, false));
    assert_eq!((world.metrics.damaged.get(), world.metrics.lost_samples.get()), (SERIES as u64 - 2, 0));
    assert!(wal_bytes(&world) < wal);
}

#[test]
fn samples_come_while_it_is_healed() {
    let mut world = World::new(FsyncPolicy::Never, IN_FILE);
    world.options.wal_segment_bytes = 1 << 20;
    world.open();
    for n in 0..30 {
        let at = world.disk.operations() + n as u64;
        world.disk.fail(Fault { at, times: 3, kind: Kind::BadSector });
        let storage = world.storage().clone();
        let (ended, end) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // A series whose full chunks have become more meanwhile is left for the next time.
                while end.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                    let _damage_is_noted = held(&storage);
                    assert_eq!(storage.maintain(0).failure, None);
                }
            });
            for i in 0..30 {
                let ts = n * 3000 + i * 100;
                assert!(world.send(ts, 0..SERIES, ts));
            }
            drop(ended);
        });
    }
    world.disk.restart();
    world.storage().seal_all().unwrap();
    assert_eq!(held(world.storage()), (world.attempted.clone(), false));
    assert!(world.metrics.damaged.get() > 0);
    assert_eq!(world.metrics.lost_samples.get(), 0);
}
