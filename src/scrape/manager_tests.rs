use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::clock::ManualClock;
use crate::ingest::IngestLimits;
use crate::model::{Matcher, is_stale_marker};
use crate::scrape::config::RawScrapeConfig;
use crate::scrape::{ScrapeDefaults, TargetHealth};
use crate::storage::{Samples, Storage, StorageOptions};
use crate::yaml::{Mark, Problems, Source};

const START: i64 = 1_700_000_000_000;

/// A target whose answer can be changed; an empty one means that it never answers.
#[derive(Clone)]
struct Exporter {
    address: String,
    answer: Arc<Mutex<Vec<u8>>>,
    asked: Arc<Mutex<String>>,
    scrapes: Arc<AtomicUsize>,
}

impl Exporter {
    async fn start(body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let exporter = Exporter {
            address: listener.local_addr().unwrap().to_string(),
            answer: Arc::new(Mutex::new(ok(body))),
            asked: Arc::default(),
            scrapes: Arc::default(),
        };
        let serving = exporter.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let exporter = serving.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 8192];
                    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                        *exporter.asked.lock().unwrap() =
                            String::from_utf8_lossy(&buffer[..n]).to_lowercase();
                        exporter.scrapes.fetch_add(1, Ordering::SeqCst);
                        let answer = exporter.answer.lock().unwrap().clone();
                        if answer.is_empty() {
                            return std::future::pending().await;
                        }
                        if stream.write_all(&answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        exporter
    }

    fn set(&self, answer: Vec<u8>) {
        *self.answer.lock().unwrap() = answer;
    }
}

fn ok(body: &str) -> Vec<u8> {
    answer("200 OK", "content-type: text/plain; version=0.0.4\r\n", body.as_bytes())
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut out =
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len()).into_bytes();
    out.extend_from_slice(body);
    out
}

struct World {
    manager: ScrapeManager,
    storage: Storage,
    hand: ManualClock,
    clock: Clock,
}

impl World {
    fn new() -> Self {
        let storage = Storage::open(StorageOptions { dir: None, ..StorageOptions::default() }).unwrap();
        let mut registry = crate::telemetry::new_registry();
        let ingest = Ingest::new(storage.clone(), IngestLimits::default(), Arc::default());
        let (clock, hand) = Clock::manual(START);
        let metrics = ScrapeMetrics::register(&mut registry);
        let manager = ScrapeManager::new(ingest, clock.clone(), ClientPool::new(), metrics, String::new());
        World { manager, storage, hand, clock }
    }

    fn apply(&self, jobs: &[&str]) {
        self.manager.apply(jobs.iter().map(|text| job(text)).collect());
    }

    /// Moves the clock second by second until all targets were scraped after now, or `seconds` are over.
    async fn scrape(&self, seconds: u64) {
        let before = self.clock.now_ms();
        for _ in 0..seconds {
            self.settle().await;
            self.hand.advance(Duration::from_secs(1));
        }
        let scraped = || self.manager.targets().iter().all(|t| t.last_scrape.is_some_and(|s| s > before));
        self.until(scraped).await;
    }

    /// Lets the tasks run until nothing is left to do but wait for the clock or the network.
    async fn settle(&self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    /// Waits for what happens by itself: the network, not the clock. The bound only ends a test that hangs; a busy machine
    /// took more than ten seconds.
    async fn until(&self, done: impl Fn() -> bool) {
        let waiting = async {
            while !done() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), waiting).await.expect("it happens");
    }

    /// The newest value of each series with this name, by its labels; NaN for one that is stale.
    fn newest(&self, name: &str) -> BTreeMap<String, f64> {
        let matcher = Matcher::equal("__name__", name);
        let mut out = BTreeMap::new();
        for series in self.storage.reader().select(&[matcher], START, i64::MAX) {
            let mut samples = Samples::default();
            series.read(START, i64::MAX, &mut samples);
            let Some(value) = samples.vs.last() else { continue };
            let value = if is_stale_marker(*value) { f64::NAN } else { *value };
            out.insert(series.labels().get("x").unwrap_or("").to_owned(), value);
        }
        out
    }

    fn one(&self, name: &str) -> f64 {
        let all = self.newest(name);
        assert_eq!(all.len(), 1, "{name}: {all:?}");
        all.into_values().next().unwrap()
    }
}

fn job(text: &str) -> ScrapeJob {
    let source = Source::new("f", text);
    let raw: RawScrapeConfig = source.parse().unwrap();
    let mut problems = Problems::default();
    let folder = std::path::Path::new("/");
    let job = raw.resolve(Mark::default(), &ScrapeDefaults::default(), &source, folder, &mut problems);
    assert!(problems.is_empty(), "{problems}");
    job
}

fn job_of(exporter: &Exporter, more: &str) -> String {
    format!(
        "job_name: j\nscrape_interval: 10s\nscrape_timeout: 5s\nstatic_configs: [{{targets: ['{}']}}]\n{more}",
        exporter.address
    )
}

#[tokio::test]
async fn a_target_is_scraped_and_its_series_stored() {
    let world = World::new();
    let exporter = Exporter::start("m{x=\"1\"} 5\nm{x=\"2\"} 6\n").await;
    world.apply(&[&job_of(&exporter, "params: {q: [a]}\n")]);
    assert_eq!(world.manager.targets()[0].health, TargetHealth::Unknown);
    world.scrape(10).await;
    assert_eq!(world.newest("m"), BTreeMap::from([("1".into(), 5.0), ("2".into(), 6.0)]));
    assert_eq!(
        (world.one("up"), world.one("scrape_samples_scraped"), world.one("scrape_series_added")),
        (1.0, 2.0, 2.0)
    );
    let target = &world.manager.targets()[0];
    assert_eq!((target.health, target.last_error.as_str()), (TargetHealth::Up, ""));
    assert_eq!(target.scrape_url, format!("http://{}/metrics?q=a", exporter.address));
    let asked = exporter.asked.lock().unwrap().clone();
    for header in [
        "get /metrics?q=a http/1.1\r\n",
        "accept: application/openmetrics-text;version=1.0.0",
        "accept-encoding: gzip\r\n",
        "x-prometheus-scrape-timeout-seconds: 5\r\n",
        "user-agent: streamgate/",
    ] {
        assert!(asked.contains(header), "{header}: {asked}");
    }
    exporter.set(ok("m{x=\"1\"} 7\n"));
    world.scrape(10).await;
    let newest = world.newest("m");
    assert_eq!(newest["1"], 7.0);
    assert!(newest["2"].is_nan(), "a series that went away is stale");
}

#[tokio::test]
async fn gzip_is_unpacked_up_to_the_limit() {
    use std::io::Write as _;
    let world = World::new();
    let exporter = Exporter::start("").await;
    let packed = |body: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body.as_bytes()).unwrap();
        answer("200 OK", "content-type: text/plain\r\ncontent-encoding: gzip\r\n", &encoder.finish().unwrap())
    };
    exporter.set(packed("m 1\n"));
    world.apply(&[&job_of(&exporter, "body_size_limit: 100B\n")]);
    world.scrape(10).await;
    assert_eq!(world.one("m"), 1.0);
    exporter.set(packed(&"m 1\n".repeat(100)));
    world.scrape(10).await;
    assert_eq!(world.one("up"), 0.0);
    assert_eq!(world.manager.targets()[0].last_error, "body size limit exceeded: more than 100 bytes");
}

#[tokio::test]
async fn what_goes_wrong_is_down_with_its_reason_and_the_rest_goes_on() {
    let world = World::new();
    let exporter = Exporter::start("").await;
    world.apply(&[&job_of(&exporter, "")]);
    for (reply, said) in [
        (answer("500 Oops", "", b""), "server returned HTTP status 500"),
        (
            answer("200 OK", "content-type: text/plain\r\ncontent-encoding: br\r\n", b"x"),
            "content encoding \"br\"",
        ),
        (answer("200 OK", "content-type: text/plain\r\ncontent-encoding: gzip\r\n", b"x"), "no valid gzip"),
        (ok("m{ 1\n"), ""),
        (b"nonsense\r\n\r\n".to_vec(), "invalid HTTP"),
    ] {
        exporter.set(ok("good 1\n"));
        world.scrape(10).await;
        assert_eq!(world.one("up"), 1.0, "{said}");
        exporter.set(reply);
        world.scrape(10).await;
        let target = &world.manager.targets()[0];
        assert_eq!(target.health, TargetHealth::Down);
        assert!(
            target.last_error.contains(said) && !target.last_error.is_empty(),
            "{said}: {}",
            target.last_error
        );
        assert_eq!(world.one("up"), 0.0, "{said}");
        assert!(world.one("good").is_nan(), "{said}");
    }
}

#[tokio::test]
async fn a_target_that_never_answers_is_down_after_its_timeout() {
    let world = World::new();
    let exporter = Exporter::start("").await;
    exporter.set(Vec::new());
    world.apply(&[&job_of(&exporter, "")]);
    for _ in 0..10 {
        world.settle().await;
        world.hand.advance(Duration::from_secs(1));
    }
    world.until(|| exporter.scrapes.load(Ordering::SeqCst) == 1).await;
    world.settle().await;
    world.hand.advance(Duration::from_secs(5));
    world.until(|| world.manager.targets()[0].health == TargetHealth::Down).await;
    assert!(world.manager.targets()[0].last_error.contains("within 5000 ms"));
    assert_eq!(world.one("up"), 0.0);
}

#[tokio::test]
async fn a_reload_keeps_what_did_not_change_and_ends_what_is_gone() {
    let world = World::new();
    let (kept, gone) =
        (Exporter::start("m{x=\"kept\"} 1\n").await, Exporter::start("m{x=\"gone\"} 1\n").await);
    let two = format!("static_configs: [{{targets: ['{}', '{}']}}]\n", kept.address, gone.address);
    let base = "job_name: j\nscrape_interval: 10s\nscrape_timeout: 5s\n";
    world.apply(&[&format!("{base}{two}")]);
    world.scrape(10).await;
    let before = world.manager.targets();
    world.apply(&[&format!("{base}static_configs: [{{targets: ['{}']}}]\n", kept.address)]);
    world.until(|| world.newest("m")["gone"].is_nan()).await;
    assert_eq!(world.newest("m")["kept"], 1.0);
    let after = world.manager.targets();
    assert_eq!(after.len(), 1);
    assert_eq!(Some(&after[0]), before.iter().find(|t| t.scrape_url == after[0].scrape_url));

    // New settings hold from the next scrape on, for the same series.
    let relabel = "metric_relabel_configs: [{target_label: x, replacement: new}]\n";
    world.apply(&[&format!("{base}{relabel}static_configs: [{{targets: ['{}']}}]\n", kept.address)]);
    world.scrape(10).await;
    let newest = world.newest("m");
    assert!(newest["kept"].is_nan() && newest["new"] == 1.0, "{newest:?}");

    world.apply(&[]);
    world.until(|| world.one("up").is_nan()).await;
    assert!(world.manager.targets().is_empty());
}

#[tokio::test]
async fn a_stop_leaves_no_marker() {
    let world = World::new();
    let exporter = Exporter::start("m 1\n").await;
    world.apply(&[&job_of(&exporter, "")]);
    world.scrape(10).await;
    world.manager.stop().await;
    assert_eq!(world.one("m"), 1.0);
    assert!(world.manager.targets().is_empty());
    world.apply(&[&job_of(&exporter, "")]);
    assert!(world.manager.targets().is_empty(), "nothing starts after the stop");
}

#[tokio::test]
async fn too_many_targets_fail_all_of_them() {
    let world = World::new();
    world.apply(&["job_name: j\nscrape_interval: 2s\ntarget_limit: 1\nstatic_configs: [{targets: ['127.0.0.1:1', '127.0.0.1:2']}]\n"]);
    world.scrape(2).await;
    for target in world.manager.targets() {
        assert_eq!(target.last_error, "target_limit exceeded (number of targets: 2, limit: 1)");
    }
}

#[tokio::test]
async fn dropped_targets_are_shown_up_to_their_limit() {
    let world = World::new();
    let job = "job_name: j\nstatic_configs: [{targets: [a, b, c]}]\nrelabel_configs: [{action: drop, source_labels: [__address__], regex: 'a|b'}]\n";
    world.apply(&[job]);
    assert_eq!((world.manager.targets().len(), world.manager.dropped_targets().len()), (1, 2));
    world.apply(&[&format!("{job}keep_dropped_targets: 1\n")]);
    assert_eq!(world.manager.dropped_targets().len(), 1);
}

#[tokio::test]
async fn target_files_are_followed() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.yml");
    std::fs::write(&file, "- targets: [a]\n").unwrap();
    world.apply(&[&format!(
        "job_name: j\nfile_sd_configs: [{{files: ['{}/*.yml']}}]\n",
        folder.path().display()
    )]);
    world.until(|| world.manager.targets().len() == 1).await;
    std::fs::write(&file, "- targets: [a, b]\n").unwrap();
    // The watcher may not have begun to wait yet: it is woken until it looks.
    world
        .until(|| {
            world.hand.advance(Duration::from_secs(1));
            world.manager.targets().len() == 2
        })
        .await;
    world.apply(&["job_name: j\n"]);
    assert!(world.manager.targets().is_empty());
}
