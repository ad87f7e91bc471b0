use super::*;
use crate::clock::ManualClock;
use crate::promql::{EngineOptions, Features};
use crate::rules::{AlertState, RuleHealth, RuleViewKind, file};
use crate::state::SqliteStore;
use crate::storage::StorageOptions;
use crate::telemetry::new_registry;
use crate::yaml::Source;

const START: Timestamp = 1_000_000;

struct Fixture {
    manager: Manager,
    hand: ManualClock,
    clock: Clock,
    storage: Storage,
    store: Arc<SqliteStore>,
    inbox: mpsc::Receiver<Vec<Alert>>,
}

fn manager(
    clock: &Clock,
    storage: &Storage,
    store: &Arc<SqliteStore>,
) -> (Manager, mpsc::Receiver<Vec<Alert>>) {
    let (sender, inbox) = mpsc::channel(4);
    let options = ManagerOptions {
        engine: Engine::new(EngineOptions::default(), clock.clone()),
        storage: storage.clone(),
        store: Arc::clone(store) as Arc<dyn Store>,
        clock: clock.clone(),
        sender,
        metrics: RuleMetrics::register(&mut new_registry()),
        concurrency: 2,
    };
    (Manager::new(options), inbox)
}

impl Fixture {
    fn new() -> Self {
        let (clock, hand) = Clock::manual(START);
        let storage = Storage::open(StorageOptions::default()).unwrap();
        let store = Arc::new(SqliteStore::in_memory().unwrap());
        let (manager, inbox) = manager(&clock, &storage, &store);
        Fixture { manager, hand, clock, storage, store, inbox }
    }

    fn put(&self, value: f64) {
        let mut appender = self.storage.appender();
        let series = appender.series(&Labels::from_pairs([("__name__", "m"), ("i", "1")])).unwrap();
        appender.append(series, self.clock.now_ms(), value).unwrap();
        appender.commit().unwrap();
    }

    async fn apply(&self, rules: &str) {
        let settings = Settings { interval_ms: 5000, ..Settings::default() };
        self.manager.apply(rule_files(rules), settings).await;
    }

    /// Moves the clock second by second; after each, the groups that are due are evaluated.
    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.hand.advance(Duration::from_secs(1));
            let now = self.clock.now_ms();
            let views = self.manager.inner.views.read().unwrap().clone();
            let due = |g: &Arc<GroupShared>| slot(g.hash(), g.interval_ms, now);
            let done = |g: &Arc<GroupShared>| due(g) <= START || g.view().last_evaluation >= Some(due(g));
            // Evaluations run on threads of their own: what is waited for here is their end, and no more than that,
            // except where a full channel holds a group up.
            for _ in 0..300 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                if views.iter().all(done) {
                    break;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    async fn next(&mut self) -> Vec<String> {
        let now = self.clock.now_ms();
        let mut all = Vec::new();
        while let Ok(alerts) = self.inbox.try_recv() {
            let state = |a: &Alert| if a.is_resolved_at(now) { "resolved" } else { "firing" };
            all.extend(alerts.iter().map(|a| format!("{} {}", state(a), a.name())));
        }
        all
    }
}

use crate::model::Labels;

fn rule_files(rules: &str) -> Vec<RuleFile> {
    let text = format!("groups:\n- name: g\n  rules:\n{rules}");
    vec![file::load(&Source::new("r.yml", text), Features::default()).unwrap()]
}

const A: &str = "  - {alert: A, expr: m > 5}\n";
const B: &str = "  - {alert: B, expr: m > 5}\n";

#[test]
fn slots_are_stable_and_spread() {
    assert_eq!(slot(0, 1000, 5999), 5000);
    assert_eq!(slot(1234, 1000, 5233), 4234);
    assert_eq!(slot(1234, 1000, 5234), 5234);
    assert_eq!(slot(7, 60_000, -1), -60_000 + 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_tick_on_their_interval_and_send_what_is_due() {
    let mut f = Fixture::new();
    f.apply(A).await;
    assert_eq!(f.manager.groups()[0].rules[0].health, RuleHealth::Unknown);
    f.put(6.0);
    f.pass(6).await;
    assert_eq!(f.next().await, ["firing A"]);
    let view = &f.manager.groups()[0];
    assert_eq!((view.interval_ms, view.rules[0].health), (5000, RuleHealth::Ok));
    let at = view.last_evaluation.unwrap();
    f.pass(5).await;
    assert_eq!(f.manager.groups()[0].last_evaluation, Some(at + 5000));
    f.put(1.0);
    f.pass(5).await;
    assert_eq!(f.next().await, ["resolved A"]);
    f.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_is_taken_out_has_its_alert_resolved() {
    let mut f = Fixture::new();
    f.apply(&format!("{A}{B}")).await;
    f.put(6.0);
    f.pass(6).await;
    assert_eq!(f.next().await, ["firing A", "firing B"]);
    f.apply(A).await;
    assert_eq!(f.next().await, ["resolved B"]);
    f.pass(5).await;
    assert_eq!(f.next().await, [""; 0]);
    f.manager.apply(Vec::new(), Settings::default()).await;
    assert_eq!(f.next().await, ["resolved A"]);
    assert_eq!(f.store.count(crate::state::Table::Rules).unwrap(), 0);
    assert!(f.manager.groups().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_that_fired_before_a_restart_goes_on_or_is_resolved() {
    let mut f = Fixture::new();
    f.apply(&format!("{A}{B}")).await;
    f.put(6.0);
    f.pass(6).await;
    assert_eq!(f.next().await.len(), 2);
    f.manager.stop().await;
    // Over the restart the value falls, and one of the rules is taken out of the file.
    f.put(1.0);
    (f.manager, f.inbox) = manager(&f.clock, &f.storage, &f.store);
    f.apply(A).await;
    assert_eq!(f.next().await, ["resolved B"]);
    let RuleViewKind::Alerting { state, .. } = f.manager.groups()[0].rules[0].kind.clone() else { panic!() };
    assert_eq!(state, AlertState::Firing);
    f.pass(12).await;
    assert_eq!(f.next().await, ["resolved A"]);
    f.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_changes_nothing_disturbs_nothing() {
    let f = Fixture::new();
    f.apply(A).await;
    f.put(6.0);
    f.pass(6).await;
    let before = f.manager.groups();
    f.apply(A).await;
    assert_eq!(f.manager.groups(), before);
    f.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_that_find_no_room_are_sent_later() {
    let mut f = Fixture::new();
    f.apply(A).await;
    for _ in 0..4 {
        f.manager.inner.options.sender.send(Vec::new()).await.unwrap();
    }
    f.put(6.0);
    // The channel is full: the batch is given up after a while, and due again.
    f.pass(12).await;
    assert!(f.manager.inner.options.metrics.alerts_undelivered.get() >= 1);
    let mut sent = f.next().await;
    f.pass(12).await;
    sent.extend(f.next().await);
    assert_eq!(sent.first().map(String::as_str), Some("firing A"));
    f.manager.stop().await;
}
