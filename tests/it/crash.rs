//! SIGKILL at any moment: what was acknowledged is there after the start.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::util::{Server, WRITE_HEADERS, WriteBody, call, until};

const KILLS: u64 = 50;
const SERIES: u64 = 400;
/// From two weeks ago on every batch is a minute after the one before, so that windows come and go.
const BATCH_MS: i64 = 60_000;

/// xorshift: the same kills in each run, as far as the machine allows.
struct Seed(u64);

impl Seed {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// The value of a series in a batch: a whole number, so that sums are exact.
fn value(batch: u64, series: u64) -> u64 {
    (batch * 7919 + series * 104_729) % 1_000_003
}

fn message(batch: u64, ts: i64) -> Vec<u8> {
    let mut message = WriteBody::default();
    (0..SERIES).for_each(|i| message.add("crash", i, ts, value(batch, i) as f64));
    message.snappy()
}

/// A sender as Prometheus is one: in order, and again until it is acknowledged.
struct Sender {
    port: Arc<AtomicU64>,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    refusals: Arc<Mutex<Vec<String>>>,
}

impl Sender {
    fn run(&self, begin: i64) {
        let mut batch = 0;
        let mut body = message(batch, begin);
        while !self.stop.load(Ordering::Acquire) {
            let port = self.port.load(Ordering::Acquire) as u16;
            let answer = call(port, "POST", "/api/v1/write", &WRITE_HEADERS, &body);
            match answer.status {
                204 => {
                    batch += 1;
                    self.acknowledged.store(batch, Ordering::Release);
                    body = message(batch, begin + batch as i64 * BATCH_MS);
                }
                // Killed meanwhile, or still reading its data: later.
                0 | 503 => std::thread::park_timeout(std::time::Duration::from_millis(2)),
                status => {
                    self.refusals.lock().unwrap().push(format!("{status}: {}", answer.body));
                    return;
                }
            }
        }
    }
}

#[test]
fn fifty_kills_lose_nothing_that_was_acknowledged() {
    // With so small a bound windows are sealed, and the WAL is shortened, while it goes on.
    // Nothing else is stored: what is newest is the sender's.
    let args = ["--config.file=c.yml", "--storage.tsdb.retention.size=2MB"];
    let mut server = Server::start(&args, &[("c.yml", "global: {}\n")]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let begin = (now.as_secs() as i64 - 14 * 86_400) * 1000;
    let port = Arc::new(AtomicU64::new(u64::from(server.port)));
    let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let refusals: Arc<Mutex<Vec<String>>> = Arc::default();
    let sender = Sender {
        port: Arc::clone(&port),
        acknowledged: Arc::clone(&acknowledged),
        stop: Arc::clone(&stop),
        refusals: Arc::clone(&refusals),
    };
    let sending = std::thread::spawn(move || sender.run(begin));
    let mut seed = Seed(0x5eed_0f57_ea47_ca7e);
    for kill in 0..KILLS {
        let more = acknowledged.load(Ordering::Acquire) + 1 + seed.below(30);
        until(30, || (acknowledged.load(Ordering::Acquire) >= more).then_some(())).unwrap_or_else(|| {
            panic!("it takes nothing more before kill {kill}: {:?}", refusals.lock().unwrap())
        });
        server.kill();
        let promised = acknowledged.load(Ordering::Acquire);
        if seed.below(4) == 0 {
            // Once more in the middle of the start.
            server.start_and_kill(std::time::Duration::from_micros(seed.below(60_000)));
        }
        server.start_again();
        check(&server, begin, promised, kill);
        port.store(u64::from(server.port), Ordering::Release);
    }
    stop.store(true, Ordering::Release);
    sending.join().unwrap();
    assert_eq!(*refusals.lock().unwrap(), Vec::<String>::new());
    check(&server, begin, acknowledged.load(Ordering::Acquire), KILLS);
    let metrics = server.get("/metrics").body;
    let blocks =
        metrics.lines().find_map(|l| l.strip_prefix("streamgate_storage_blocks ")?.parse::<u64>().ok());
    assert!(blocks.unwrap() > 0, "windows were sealed meanwhile: {metrics}");
}

/// Every batch that was acknowledged is there with its values; one more may be, as far as it came.
fn check(server: &Server, begin: i64, promised: u64, kill: u64) {
    if promised == 0 {
        return;
    }
    let last = (begin + (promised - 1) as i64 * BATCH_MS) as f64 / 1000.0;
    let at = |expr: &str| {
        let path = format!("/api/v1/query?query={}&time={last}", crate::util::encode(expr));
        let answer = server.get(&path);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let text = answer.json()["data"]["result"][0]["value"][1].as_str().unwrap_or("0").to_owned();
        text.parse::<f64>().unwrap()
    };
    let range = "crash[15d]";
    assert_eq!(
        at(&format!("sum(count_over_time({range}))")),
        (promised * SERIES) as f64,
        "after kill {kill}"
    );
    let sum: u64 = (0..promised).flat_map(|b| (0..SERIES).map(move |i| value(b, i))).sum();
    assert_eq!(at(&format!("sum(sum_over_time({range}))")), sum as f64, "after kill {kill}");
}
