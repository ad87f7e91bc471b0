//! Damaged directories of Prometheus end an import with an error that says where, or lose nothing that counts.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::storage::{ImportOptions, Importer, Storage, StorageOptions};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/prometheus-tsdb");

fn importer(dir: &Path) -> (Storage, Importer) {
    let o = StorageOptions { dir: Some(dir.to_owned()), ..StorageOptions::default() };
    let storage = Storage::open(o).unwrap();
    let options = ImportOptions {
        latest: Timestamp::MAX,
        kept_from: Timestamp::MIN,
        block_ms: 3_600_000,
        buffer_samples: 500,
    };
    let importer = storage.importer(options).unwrap();
    (storage, importer)
}

fn copy(from: &Path, to: &Path) -> Vec<PathBuf> {
    fs::create_dir_all(to).unwrap();
    let mut files = Vec::new();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            files.extend(copy(&path, &target));
        } else {
            fs::copy(&path, &target).unwrap();
            files.push(target);
        }
    }
    files.sort();
    files
}

#[test]
fn runs_of_one_piece_are_merged_on_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, mut importer) = importer(dir.path());
    let done = import(&Path::new(GOLDEN).join("block"), &mut importer, |_| ()).unwrap();
    assert!(done.series > 20 && done.samples > 1000 && done.deleted > 0, "{done:?}");
    let imported = importer.finish(|_, _| ()).unwrap();
    assert_eq!((imported.samples, imported.repeated, imported.conflicting), (done.samples, 0, 0));
    assert_eq!((imported.blocks_new, storage.stats().block_samples), (1, done.samples));
    assert!(!dir.path().join("import").exists());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_no_panic(
        is_block: bool,
        file in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
        cut: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let files = copy(&Path::new(GOLDEN).join(if is_block { "block" } else { "data" }), &dir.path().join("from"));
        let path = file.get(&files);
        let mut bytes = fs::read(path).unwrap();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= flip;
        }
        fs::write(path, bytes).unwrap();
        let (storage, mut importer) = importer(&dir.path().join("to"));
        match import(&dir.path().join("from"), &mut importer, |_| ()) {
            Ok(done) => {
                importer.finish(|_, _| ()).unwrap();
                prop_assert_eq!(storage.stats().block_samples, done.samples);
            }
            Err(error) => {
                drop(importer);
                prop_assert!(error.to_string().contains("from"), "{}", error);
                prop_assert_eq!(storage.stats().blocks, 0);
            }
        }
    }

    #[test]
    fn garbage_in_chunks_is_no_panic(
        encoding in 0u8..5,
        count in 0u16..200,
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let body = [&count.to_be_bytes()[..], &bytes].concat();
        let _either = chunks::decode(encoding, &body, &mut Samples::default());
    }

    #[test]
    fn garbage_in_records_is_no_panic(kind in 0u8..20, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let record = [&[kind][..], &bytes].concat();
        let _either = records::each_series(&record, |_, _| ());
        let _either = records::read_record(&record, &mut |_| Ok(()));
    }
}

#[test]
fn exemplars_of_the_wal_are_read() {
    let mut record = vec![4u8];
    record.extend(7u64.to_be_bytes());
    record.extend(1000u64.to_be_bytes());
    // The series after the one in front of all, 5 ms later: 0.5, with one label.
    record.extend([2, 10]);
    record.extend(0.5f64.to_bits().to_be_bytes());
    record.extend(b"\x01\x08trace_id\x01t");
    let mut found = Vec::new();
    records::read_record(&record, &mut |r| {
        if let records::Record::Exemplar(series, e) = r {
            found.push((series, e.ts, e.value, e.labels.to_string()));
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(found, [(8, 1005, 0.5, "{trace_id=\"t\"}".to_owned())]);
}
