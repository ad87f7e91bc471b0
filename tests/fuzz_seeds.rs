//! Replays the seeds of the fuzz targets, and mutations of them, with what the fuzzer runs: see `src/fuzzing`.
//!
//! `$STREAMGATE_FUZZ_MUTATIONS` chooses how many mutations each target gets. A finding of the fuzzer is minimised and
//! put among the seeds, beside a test of its own where the fault was.

#![allow(clippy::unwrap_used, reason = "a test stops at what it cannot read")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use streamgate::fuzzing::{TARGETS, Target};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

/// The committed seeds, by name.
fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let dir = folder("seeds").join(target.seeds);
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|p| fs::read(p).unwrap()).collect()
}

/// xorshift64*: the same mutations everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n.max(1)
    }
}

/// A seed with a few bytes changed, pieces left out, doubled, or taken from another seed.
fn mutation(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(12)).min(bytes.len());
        match random.below(6) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            2 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                let piece = other[from..(from + random.below(40)).min(other.len())].to_vec();
                bytes.splice(at..end, piece);
            }
            3 => bytes.insert(at, [0, 1, 0x7f, 0x80, 0xff, b' ', b'\n', b'('][random.below(8)]),
            _ if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
    bytes
}

#[test]
fn every_target_has_its_file_and_its_seeds() {
    let files: BTreeSet<String> = fs::read_dir(folder("fuzz_targets"))
        .unwrap()
        .map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let names: BTreeSet<String> = TARGETS.iter().map(|t| t.name.to_owned()).collect();
    assert_eq!(files, names);
    assert!(TARGETS.is_sorted_by_key(|t| t.name));
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{} is not built", target.name);
        assert!(!seeds(target).is_empty(), "{} has no seeds", target.name);
    }
}

#[test]
fn seeds_and_mutations_find_nothing() {
    let mutations =
        std::env::var("STREAMGATE_FUZZ_MUTATIONS").ok().and_then(|v| v.parse().ok()).unwrap_or(400);
    let (mut total, mut findings) = (0, Vec::new());
    for target in TARGETS {
        let seeds = seeds(target);
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let inputs = seeds.iter().cloned().chain((0..mutations).map(|_| mutation(&seeds, &mut random)));
        for input in inputs.collect::<Vec<_>>() {
            total += 1;
            let found = std::panic::catch_unwind(|| (target.body)(&input));
            if found.is_err() {
                findings.push(format!("{} over {:?}", target.name, String::from_utf8_lossy(&input)));
            }
        }
    }
    println!("fuzz inputs without a finding: {} of {total}", total - findings.len());
    assert!(findings.is_empty(), "what each found stands above:\n{}", findings.join("\n"));
}
