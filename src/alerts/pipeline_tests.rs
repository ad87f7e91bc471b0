use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

use super::*;
use crate::http::ClientPool;
use crate::model::Labels;
use crate::notify::HttpTransport;
use crate::state::{Row, Scan, SqliteStore};
use crate::yaml::Source;

/// A webhook receiver on a port of its own.
struct Hook {
    url: String,
    status: Arc<AtomicU16>,
    got: Arc<Mutex<Vec<Got>>>,
}

#[derive(Clone, Debug)]
struct Got {
    path: String,
    headers: String,
    body: serde_json::Value,
    status: u16,
}

impl Hook {
    fn start() -> Hook {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (status, got) = (Arc::new(AtomicU16::new(200)), Arc::new(Mutex::new(Vec::new())));
        let (answer, record) = (Arc::clone(&status), Arc::clone(&got));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, record) = (Arc::clone(&answer), Arc::clone(&record));
                std::thread::spawn(move || serve(stream.unwrap(), &answer, &record));
            }
        });
        Hook { url, status, got }
    }

    fn told(&self, path: &str, status: &str) -> usize {
        let got = self.got.lock().unwrap();
        got.iter().filter(|g| g.status == 200 && g.path == path && g.body["status"] == status).count()
    }
}

fn serve(mut stream: std::net::TcpStream, answer: &AtomicU16, record: &Mutex<Vec<Got>>) {
    use std::io::{BufRead, BufReader, Read};
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let lower = head.to_ascii_lowercase();
        let length = lower.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let status = answer.load(Ordering::SeqCst);
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let body = serde_json::from_slice(&body).unwrap();
        record.lock().unwrap().push(Got { path, headers: lower, body, status });
        write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nno").unwrap();
    }
}

async fn start(hook: &Hook, store: Arc<dyn Store>, more: &str) -> (Alerts, mpsc::Sender<Vec<Alert>>) {
    let url = &hook.url;
    let text = format!(
        "route: {{receiver: one, group_by: ['...'], group_wait: 0s, group_interval: 1s{more}}}\n\
         receivers:\n- {{name: one, webhook_configs: [{{url: '{url}/one'}}]}}\n\
         - {{name: two, webhook_configs: [{{url: '{url}/two'}}]}}\n\
         escalation_policies: [{{name: p, steps: [{{after: 300ms, receiver: two}}]}}]\n"
    );
    let config = super::super::config::load(&Source::new("am.yml", text), std::path::Path::new("/")).unwrap();
    let mut registry = crate::telemetry::new_registry();
    let options = PipelineOptions {
        config: Arc::new(config),
        store,
        clock: Clock::system(),
        transport: Arc::new(HttpTransport::new(ClientPool::new())),
        external_url: "http://s".to_owned(),
        limits: Limits::default(),
        metrics: AlertsMetrics::register(&mut registry),
        notify_metrics: NotifyMetrics::register(&mut registry),
    };
    let (inbox, rx) = mpsc::channel(16);
    (Pipeline::start(options, rx).await.unwrap(), inbox)
}

fn alert(name: &str) -> Alert {
    let now = Clock::system().now_ms();
    Alert {
        labels: Labels::from_pairs([("alertname", name), ("severity", "page")]),
        annotations: Labels::empty(),
        starts_at: now,
        ends_at: Some(now + 60_000),
        updated_at: now,
        generator_url: String::new(),
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = Clock::system();
    let begin = clock.monotonic();
    while !holds() {
        assert!(clock.monotonic() - begin < Duration::from_secs(20), "{what}");
        clock.sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_rule_over_an_outage_and_a_crash_to_the_webhook() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let hook = Hook::start();
    hook.status.store(503, Ordering::SeqCst);
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).unwrap());
    let (alerts, inbox) = start(&hook, Arc::clone(&store), ", escalation_policy: p").await;
    inbox.send(vec![alert("a"), alert("b")]).await.unwrap();
    until("an attempt is made", || hook.got.lock().unwrap().len() >= 2).await;
    let id = alerts.list(AlertFilter::default()).await[0].id.clone();
    let view = alerts.acknowledge(&id, "ann", Some("mine")).await.unwrap();
    assert_eq!(view.acknowledged_by.as_deref(), Some("ann"));
    // What a kill leaves behind: the rows, and nothing else.
    drop((alerts, inbox));
    let key = hook.got.lock().unwrap()[0].headers.split("idempotency-key: ").nth(1).unwrap()[..32].to_owned();
    hook.status.store(200, Ordering::SeqCst);
    let (alerts, inbox) = start(&hook, store, ", escalation_policy: p").await;
    until("both fire", || hook.told("/one", "firing") == 2).await;
    let same = |g: &Got| g.status == 200 && g.headers.contains(&key);
    assert!(hook.got.lock().unwrap().iter().any(same), "the key of an attempt stays");
    until("the one that nobody acknowledged is escalated", || hook.told("/two", "firing") == 1).await;
    let mut ended = vec![alert("a"), alert("b")];
    ended.iter_mut().for_each(|a| a.ends_at = Some(a.starts_at));
    inbox.send(ended).await.unwrap();
    until("both are told resolved", || hook.told("/one", "resolved") == 2).await;
    until("so is who was called in", || hook.told("/two", "resolved") == 1).await;
    assert_eq!(hook.told("/two", "firing"), 1, "the acknowledged one is not escalated");
    let page = alerts.history(HistoryQuery { limit: 100, ..HistoryQuery::default() }).await.unwrap();
    assert_eq!(page.events.len(), 6);
    alerts.stop().await;
    assert_eq!(alerts.list(AlertFilter::default()).await, []);
    let got = hook.got.lock().unwrap();
    assert!(got[0].headers.contains("content-type: application/json"), "{}", got[0].headers);
    assert!(got[0].headers.contains("user-agent: streamgate/"), "{}", got[0].headers);
    assert_eq!(got[0].body["version"], "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_at_its_webhook_within_milliseconds() {
    let dir = tempfile::tempdir().unwrap();
    let hook = Hook::start();
    let store = Arc::new(SqliteStore::open(&dir.path().join("state.db")).unwrap());
    let (alerts, inbox) = start(&hook, store, "").await;
    let clock = Clock::system();
    let mut took = Vec::new();
    for i in 0..40 {
        let before = hook.got.lock().unwrap().len();
        let begin = clock.monotonic();
        inbox.send(vec![alert(&format!("n{i}"))]).await.unwrap();
        while hook.got.lock().unwrap().len() == before {
            std::thread::sleep(Duration::from_micros(100));
        }
        took.push(clock.monotonic() - begin);
    }
    took.sort();
    eprintln!("alert to webhook: p50 {:?}, max {:?}", took[20], took[39]);
    // Far above what is usual, for a machine that is busy with other tests.
    assert!(took[20] < Duration::from_millis(250), "{took:?}");
    alerts.stop().await;
}

/// A store whose disk can be full.
#[derive(Debug)]
struct Flaky {
    store: SqliteStore,
    full: std::sync::atomic::AtomicBool,
}

impl Store for Flaky {
    fn commit(&self, ops: Vec<Op>) -> Result<(), StateError> {
        if self.full.load(Ordering::SeqCst) {
            return Err(StateError::Failed("the disk is full".to_owned()));
        }
        self.store.commit(ops)
    }
    fn get(&self, table: Table, key: &str) -> Result<Option<Row>, StateError> {
        self.store.get(table, key)
    }
    fn scan(&self, table: Table, scan: &Scan) -> Result<Vec<Row>, StateError> {
        self.store.scan(table, scan)
    }
    fn count(&self, table: Table) -> Result<u64, StateError> {
        self.store.count(table)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_keeps_nobody_from_being_told_and_is_made_up_for() {
    let hook = Hook::start();
    let full = std::sync::atomic::AtomicBool::new(false);
    let store = Arc::new(Flaky { store: SqliteStore::in_memory().unwrap(), full });
    let shared: Arc<dyn Store> = store.clone();
    let (alerts, inbox) = start(&hook, shared, "").await;
    store.full.store(true, Ordering::SeqCst);
    inbox.send(vec![alert("a")]).await.unwrap();
    until("it is told", || hook.told("/one", "firing") == 1).await;
    let id = alerts.list(AlertFilter::default()).await[0].id.clone();
    let refused = alerts.acknowledge(&id, "ann", None).await.unwrap_err().to_string();
    assert!(refused.contains("disk is full"), "{refused}");
    assert_eq!(store.count(Table::Alerts).unwrap(), 0);
    store.full.store(false, Ordering::SeqCst);
    until("it is made durable", || store.count(Table::Alerts).unwrap() == 1).await;
    assert_eq!(store.count(Table::History).unwrap(), 2);
    alerts.stop().await;
    assert_eq!(store.count(Table::Outbox).unwrap(), 0);
}
