//! Which series do matchers select: in the head and in a sealed block, asked for the first time, again, and again after
//! new series came.
//!
//! Data: 1,000,000 series (or `SERIES=100000`), each with a value of its own of the label `path`, of some 26 bytes; one
//! in a thousand ends with `foo`, one in a thousand begins with `x`. The patterns select a thousand series or fewer, so
//! that what is measured is the index and not the result.
//!
//! `cargo bench --profile fast --bench storage_select`
#![allow(clippy::unwrap_used, reason = "it fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]

use std::time::Instant;

use streamgate::model::{Labels, MatchOp, Matcher};
use streamgate::storage::{Need, Storage, StorageOptions};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TS: i64 = 1_700_000_000_000;

fn main() {
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let n = std::env::var("SERIES").ok().and_then(|s| s.parse().ok()).unwrap_or(1_000_000);
    let dir = tempfile::tempdir().unwrap();
    let storage =
        Storage::open(StorageOptions { dir: Some(dir.path().to_owned()), ..StorageOptions::default() })
            .unwrap();
    add(&storage, 0..n);
    println!("{:<52} {:>8} {:>9} {:>9} {:>9}", "ms", "selected", "first", "again", "+1000 new");
    report(&storage, "head", Some(n));
    storage.seal_all().unwrap();
    report(&storage, "block", None);
}

fn add(storage: &Storage, series: std::ops::Range<usize>) {
    for from in series.clone().step_by(1000) {
        let mut a = storage.appender();
        for i in from..series.end.min(from + 1000) {
            let s = a.series(&labels(i)).unwrap();
            a.append(s, TS, i as f64).unwrap();
        }
        a.commit().unwrap();
    }
}

fn labels(i: usize) -> Labels {
    let begin = if i % 1000 == 7 { "x" } else { "api" };
    let end = if i % 1000 == 3 { "foo" } else { "bar" };
    // The numbers are mixed, so that the order of the values is not that of the series.
    let number = (i as u32).wrapping_mul(0x9e37_79b1);
    Labels::from_pairs([
        ("__name__", "requests_total".to_owned()),
        ("instance", format!("host-{:05}:9100", i / 100)),
        ("job", "node".to_owned()),
        ("path", format!("/{begin}/{number:08x}/items/{end}")),
    ])
}

fn report(storage: &Storage, place: &str, new_from: Option<usize>) {
    use MatchOp::{NotRegex, Regex};
    let narrow = Matcher::equal("instance", "host-00042:9100");
    let path = |op, pattern: &str| Matcher::new(op, "path", pattern).unwrap();
    let cases = [
        vec![path(Regex, ".*foo")],
        vec![path(Regex, "/x.*")],
        vec![path(Regex, "/a.*o")],
        vec![path(Regex, ".*/00abc.*")],
        vec![path(Regex, ".*/[0-9]{8}/.*foo")],
        vec![path(NotRegex, "/[a-w].*")],
        vec![narrow.clone(), path(Regex, ".*foo")],
        vec![narrow.clone(), path(NotRegex, ".*/[0-9a-f]+/items/bar")],
        vec![narrow.clone(), path(Regex, ".+")],
    ];
    let mut next = new_from;
    for matchers in cases {
        let name = matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let time = || {
            let begin = Instant::now();
            let selected =
                storage.reader().selection(&matchers, (i64::MIN, i64::MAX), Need::Newest, &|| false);
            (begin.elapsed().as_secs_f64() * 1e3, selected.len())
        };
        let (first, selected) = time();
        let again = (0..3).map(|_| time().0).fold(f64::MAX, f64::min);
        let mut after = String::new();
        if let Some(from) = next {
            add(storage, from..from + 1000);
            next = Some(from + 1000);
            after = format!("{:9.3}", time().0);
        }
        println!("{:<52} {selected:>8} {first:9.3} {again:9.3} {after}", format!("{place} {{{name}}}"));
    }
}
