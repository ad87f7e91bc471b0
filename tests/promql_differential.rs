//! The same data and random expressions in a real Prometheus and in this engine: values, errors and annotations must be
//! the same.
//!
//! `$STREAMGATE_PROMETHEUS` names a folder with the binaries `prometheus` and `promtool`; without it the test skips, and
//! says so. `$STREAMGATE_DIFFERENTIAL_CASES` and `$STREAMGATE_DIFFERENTIAL_SEED` choose how many cases and which.

#![allow(clippy::unwrap_used)] // A test stops at what it cannot do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use streamgate::clock::Clock;
use streamgate::model::Labels;
use streamgate::promql::{Engine, EngineOptions, Features, PointValue, QueryRequest, Value, parse_with};
use streamgate::storage::{Storage, StorageOptions};

/// The first sample's time (ms), on a block boundary.
const START: i64 = 1_760_004_000_000 / 7_200_000 * 7_200_000;
const END: i64 = START + 2 * 3_600_000;

/// xorshift64*: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

type Series = (Labels, Vec<(i64, f64)>);

/// Counters with resets, gauges, classic histograms, gaps, special values.
fn data() -> Vec<Series> {
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut out = Vec::new();
    let mut add =
        |pairs: &[(&str, &str)], step: i64, value: &mut dyn FnMut(usize, &mut Random) -> Option<f64>| {
            let labels = Labels::from_pairs(pairs.iter().copied());
            let mut samples = Vec::new();
            let mut ts = START + random.below(step as usize) as i64;
            let mut i = 0;
            while ts <= END {
                if let Some(v) = value(i, &mut random) {
                    samples.push((ts, v));
                }
                i += 1;
                ts += step;
            }
            out.push((labels, samples));
        };
    for job in ["api", "db"] {
        for instance in ["0", "1", "2"] {
            for code in ["200", "500"] {
                let mut v = 0.0;
                let name = ("__name__", "requests_total");
                add(&[name, ("job", job), ("instance", instance), ("code", code)], 15_000, &mut |_, r| {
                    v = if r.below(150) == 0 { 0.0 } else { v + r.below(10) as f64 };
                    (r.below(30) != 0).then_some(v)
                });
            }
            add(&[("__name__", "memory"), ("job", job), ("instance", instance)], 30_000, &mut |_, r| {
                Some((r.below(20_000) as f64 - 5_000.0) / 16.0)
            });
            add(
                &[("__name__", "target_info"), ("job", job), ("instance", instance), ("version", "v1")],
                30_000,
                &mut |_, _| Some(1.0),
            );
            let mut counts = [0.0; 5];
            let mut columns: Vec<Vec<f64>> = vec![Vec::new(); 5];
            let mut steps = Random(77 + instance.len() as u64 * 13 + job.len() as u64);
            for _ in 0..=480 {
                for c in 0..5 {
                    let grown = steps.below(4) as f64;
                    counts[c..].iter_mut().for_each(|v| *v += grown);
                }
                columns.iter_mut().zip(counts).for_each(|(column, v)| column.push(v));
            }
            for (le, column) in ["0.1", "0.5", "1", "5", "+Inf"].into_iter().zip(&columns) {
                let name = ("__name__", "latency_bucket");
                add(&[name, ("job", job), ("instance", instance), ("le", le)], 15_000, &mut |i, _| {
                    column.get(i).copied()
                });
            }
        }
        add(&[("__name__", "sparse"), ("job", job)], 60_000, &mut |i, r| {
            (i % 25 < 12).then(|| r.below(7) as f64)
        });
        add(&[("__name__", "special"), ("job", job), ("zone", "x-1")], 60_000, &mut |_, r| {
            Some(
                [0.0, -0.0, 1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -3.0, 1e300, 7.25, 2.0]
                    [r.below(10)],
            )
        });
    }
    add(&[("__name__", "lonely")], 60_000, &mut |i, _| Some(i as f64 * 0.5 - 20.0));
    out
}

fn open_metrics(series: &[Series]) -> String {
    let mut out = String::new();
    for (labels, samples) in series {
        let pairs: Vec<String> =
            labels.iter().filter(|(n, _)| *n != "__name__").map(|(n, v)| format!("{n}=\"{v}\"")).collect();
        for (ts, v) in samples {
            let v = if v.is_nan() {
                "NaN".to_owned()
            } else if v.is_infinite() {
                if *v > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
            } else {
                format!("{v:e}")
            };
            let seconds = *ts as f64 / 1000.0;
            writeln!(out, "{}{{{}}} {v} {seconds:.3}", labels.metric_name(), pairs.join(",")).unwrap();
        }
    }
    out + "# EOF\n"
}

/// Expressions that are mostly valid and mostly have results.
struct Generator(Random);

impl Generator {
    fn selector(&mut self) -> String {
        let r = &mut self.0;
        let name = r.pick(&[
            "requests_total",
            "requests_total",
            "memory",
            "memory",
            "latency_bucket",
            "sparse",
            "special",
            "lonely",
            "target_info",
            "{__name__=~\"memory|sparse\"}",
            "nothing",
        ]);
        if name.starts_with('{') {
            return name.to_owned();
        }
        let matcher = r.pick(&[
            "",
            "",
            "",
            "{job=\"api\"}",
            "{job!=\"api\"}",
            "{instance=~\"0|1\"}",
            "{instance!~\"0.*\"}",
            "{code=\"200\"}",
            "{job=\"api\",instance=\"1\"}",
            "{zone=\"\"}",
        ]);
        format!("{name}{matcher}")
    }

    fn shift(&mut self) -> String {
        let r = &mut self.0;
        match r.below(12) {
            0 => " offset 5m".into(),
            1 => " offset -3m".into(),
            2 => format!(" @ {}", (START / 1000) + 1800),
            3 => " @ end()".into(),
            4 => " @ start() offset 1m".into(),
            _ => String::new(),
        }
    }

    fn range(&mut self, depth: usize) -> String {
        let window = self.0.pick(&["1m", "2m", "5m", "10m", "25m", "1h", "20s"]);
        if depth > 0 && self.0.chance(25) {
            let inner = self.vector(depth - 1);
            let step = self.0.pick(&["", "30s", "1m", "77s"]);
            let shift = self.shift();
            return format!("({inner})[{window}:{step}]{shift}");
        }
        let selector = self.selector();
        let shift = self.shift();
        format!("{selector}[{window}]{shift}")
    }

    fn number(&mut self) -> String {
        self.0
            .pick(&[
                "0", "1", "2", "-1", "0.5", "3.7", "100", "1e3", "NaN", "Inf", "-Inf", "0.9", "0x1F", "5m",
            ])
            .to_owned()
    }

    fn scalar(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.number();
        }
        match self.0.below(8) {
            0 => "time()".into(),
            1 => "pi()".into(),
            2 | 3 => format!("scalar({})", self.vector(depth - 1)),
            4 => {
                let op =
                    self.0.pick(&["+", "-", "*", "/", "%", "^", "atan2", "== bool", "> bool", "<= bool"]);
                format!("({} {op} {})", self.scalar(depth - 1), self.scalar(depth - 1))
            }
            _ => self.number(),
        }
    }

    /// A scalar that no parentheses surround: Prometheus 3.5 points annotations at those, later versions inside.
    fn param(&mut self) -> String {
        match self.0.below(5) {
            0 => "time()".into(),
            1 => format!("scalar({})", self.selector()),
            _ => self.number(),
        }
    }

    fn grouping(&mut self) -> String {
        self.0
            .pick(&[
                "",
                " by (job)",
                " by (instance)",
                " by (job, code)",
                " without (instance)",
                " without (job, code, le)",
                " by ()",
                " by (le)",
                " by (__name__)",
            ])
            .to_owned()
    }

    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            let selector = self.selector();
            let shift = self.shift();
            return selector + &shift;
        }
        let d = depth - 1;
        match self.0.below(30) {
            0..=5 => {
                let f = self.0.pick(&[
                    "rate",
                    "increase",
                    "delta",
                    "irate",
                    "idelta",
                    "deriv",
                    "changes",
                    "resets",
                    "avg_over_time",
                    "min_over_time",
                    "max_over_time",
                    "sum_over_time",
                    "count_over_time",
                    "last_over_time",
                    "present_over_time",
                    "stddev_over_time",
                    "stdvar_over_time",
                    "absent_over_time",
                ]);
                format!("{f}({})", self.range(d))
            }
            6 => format!("quantile_over_time({}, {})", self.param(), self.range(d)),
            7 => format!("predict_linear({}, {})", self.range(d), self.scalar(d.min(1))),
            // NaN among the samples counts since 3.5.
            8 if self.0.chance(30) => {
                format!("mad_over_time(requests_total[{}])", self.0.pick(&["5m", "1h"]))
            }
            8 => format!("double_exponential_smoothing({}, 0.3, 0.6)", self.range(d)),
            9..=12 => {
                let op = self.0.pick(&["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"]);
                let (grouping, inner) = (self.grouping(), self.vector(d));
                format!("{op}{grouping} ({inner})")
            }
            13 => {
                let op = self.0.pick(&["topk", "bottomk", "quantile", "limitk", "limit_ratio"]);
                // Of equal values the first is taken, and the order of nested expressions is random in Prometheus.
                let inner = if op == "bottomk" || op == "topk" { self.selector() } else { self.vector(d) };
                let grouping = self.grouping();
                let param = match op {
                    "quantile" => self.number(),
                    // Which series come first is up to the storage.
                    "limitk" => self.0.pick(&["0", "100"]).to_owned(),
                    "limit_ratio" => self.0.pick(&["0.5", "-0.3", "1"]).to_owned(),
                    _ => self.0.pick(&["1", "2", "5", "0"]).to_owned(),
                };
                format!("{op}{grouping} ({param}, {inner})")
            }
            14 => {
                // Values that rounding does not touch: they become labels.
                let inner =
                    self.0.pick(&["requests_total", "sparse", "special", "lonely > 0", "ceil(memory)"]);
                let grouping = self.grouping();
                format!("count_values{grouping} (\"value\", {inner})")
            }
            15..=17 => {
                let op = self.0.pick(&[
                    "+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<=", "> bool",
                    "== bool",
                ]);
                let matching = self.0.pick(&[
                    "",
                    "",
                    "",
                    "on (job, instance)",
                    "on (job) group_left",
                    "on (job, instance) group_right",
                    "ignoring (code, le)",
                    "ignoring (code) group_left",
                    "on (job, instance) group_left (version)",
                    "on ()",
                ]);
                format!("({} {op} {matching} {})", self.vector(d), self.vector(d))
            }
            18 | 19 => {
                let op =
                    self.0.pick(&["+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", ">= bool", "atan2"]);
                if self.0.chance(30) {
                    format!("({} {op} {})", self.scalar(d.min(1)), self.vector(d))
                } else {
                    format!("({} {op} {})", self.vector(d), self.scalar(d.min(1)))
                }
            }
            20 | 21 => {
                let op = self.0.pick(&["and", "or", "unless"]);
                let matching =
                    self.0.pick(&["", "on (job)", "ignoring (instance, code)", "on (job, instance)"]);
                format!("({} {op} {matching} {})", self.vector(d), self.vector(d))
            }
            22 | 23 => {
                let f = self.0.pick(&[
                    "abs",
                    "ceil",
                    "floor",
                    "exp",
                    "sqrt",
                    "ln",
                    "log2",
                    "log10",
                    "sgn",
                    "asin",
                    "acos",
                    "atan",
                    "sinh",
                    "cosh",
                    "tanh",
                    "asinh",
                    "acosh",
                    "atanh",
                    "deg",
                    "rad",
                    "round",
                    "timestamp",
                    "hour",
                    "minute",
                    "month",
                    "year",
                    "day_of_week",
                    "day_of_month",
                    "day_of_year",
                    "days_in_month",
                    "sort",
                    "sort_desc",
                    "absent",
                    "-",
                    "histogram_count",
                ]);
                if self.0.chance(10) {
                    // Of large numbers, the last digit decides.
                    let f = self.0.pick(&["sin", "cos", "tan"]);
                    return format!("{f}(clamp({}, -50, 50))", self.selector());
                }
                format!("{f}({})", self.vector(d))
            }
            24 => match self.0.below(4) {
                0 => format!("clamp({}, {}, {})", self.vector(d), self.number(), self.number()),
                1 => format!("clamp_min({}, {})", self.vector(d), self.scalar(d.min(1))),
                2 => format!("clamp_max({}, {})", self.vector(d), self.scalar(d.min(1))),
                _ => format!("round({}, {})", self.vector(d), self.number()),
            },
            25 => format!("vector({})", self.scalar(d)),
            26 => {
                let inner = self.vector(d);
                match self.0.below(3) {
                    0 => format!("label_replace({inner}, \"dst\", \"$1-x\", \"job\", \"(.).*\")"),
                    1 => format!("label_replace({inner}, \"job\", \"\", \"instance\", \"[01]\")"),
                    _ => format!("label_join({inner}, \"dst\", \"/\", \"job\", \"instance\")"),
                }
            }
            27 => {
                let q = self.param();
                let by = self.0.pick(&["le", "le, job", "le, job, instance"]);
                let window = self.0.pick(&["5m", "1m"]);
                format!("histogram_quantile({q}, sum by ({by}) (rate(latency_bucket[{window}])))")
            }
            // Prometheus 3.5 gives NaN where a bound lies in the lowest bucket of a classic histogram.
            28 => {
                let (lower, upper) =
                    (self.0.pick(&["0.1", "0.3", "2"]), self.0.pick(&["0.7", "3", "Inf", "NaN"]));
                format!("histogram_fraction({lower}, {upper}, latency_bucket)")
            }
            _ => match self.0.below(2) {
                0 => format!("sort_by_label({}, \"instance\")", self.vector(d)),
                _ => self.selector(),
            },
        }
    }
}

struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(bin: &Path, series: &[Series]) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("data.om");
        std::fs::write(&text, open_metrics(series)).unwrap();
        let tsdb = dir.path().join("data");
        let imported = Command::new(bin.join("promtool"))
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&text, &tsdb])
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(imported.success());
        let config = dir.path().join("prometheus.yml");
        std::fs::write(&config, "global: {}\n").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(bin.join("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", tsdb.display()))
            .arg("--storage.tsdb.retention.time=100y")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--enable-feature=promql-experimental-functions")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Server { child, port, _dir: dir };
        for _ in 0..200 {
            if server.get("/-/ready").is_some_and(|(status, _)| status == 200) {
                return server;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the server did not get ready");
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        // HTTP/1.0, so that the answer is not chunked.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }
}

/// What a query answers, in a form that can be compared.
#[derive(Debug, PartialEq)]
enum Answer {
    Error(String),
    Series(BTreeMap<String, Vec<(i64, f64)>>),
    Scalar(f64),
}

fn number(v: &serde_json::Value) -> f64 {
    match v.as_str().unwrap() {
        "NaN" => f64::NAN,
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().unwrap(),
    }
}

fn sample(v: &serde_json::Value) -> (i64, f64) {
    ((v[0].as_f64().unwrap() * 1000.0).round() as i64, number(&v[1]))
}

fn theirs(body: &str) -> (Answer, Vec<String>) {
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    let texts = |key: &str| -> Vec<String> {
        json[key]
            .as_array()
            .map_or(Vec::new(), |a| a.iter().map(|v| v.as_str().unwrap().to_owned()).collect())
    };
    let mut notes = texts("warnings");
    notes.extend(texts("infos"));
    notes.sort();
    if json["status"] != "success" {
        return (Answer::Error(json["error"].as_str().unwrap_or("").to_owned()), Vec::new());
    }
    let result = &json["data"]["result"];
    let answer = match json["data"]["resultType"].as_str().unwrap() {
        "scalar" => Answer::Scalar(number(&result[1])),
        kind => Answer::Series(
            result
                .as_array()
                .unwrap()
                .iter()
                .map(|s| {
                    let labels: Vec<(String, String)> = s["metric"]
                        .as_object()
                        .unwrap()
                        .iter()
                        .map(|(n, v)| (n.clone(), v.as_str().unwrap().to_owned()))
                        .collect();
                    let points = match kind {
                        "vector" => vec![sample(&s["value"])],
                        _ => s["values"].as_array().unwrap().iter().map(sample).collect(),
                    };
                    (Labels::from_pairs(labels).to_string(), points)
                })
                .collect(),
        ),
    };
    (answer, notes)
}

fn ours(engine: &Engine, storage: &Storage, query: &str, request: &QueryRequest) -> (Answer, Vec<String>) {
    let expr = match parse_with(query, engine.options().features) {
        Ok(expr) => expr,
        Err(e) => return (Answer::Error(e.to_string()), Vec::new()),
    };
    let result = match engine.evaluate(query, &expr, request, &storage.reader()) {
        Ok(result) => result,
        Err(e) => return (Answer::Error(e.to_string()), Vec::new()),
    };
    let mut notes = result.annotations.warnings;
    notes.extend(result.annotations.infos);
    notes.sort();
    let answer = match result.value {
        Value::Scalar { value, .. } => Answer::Scalar(value),
        Value::String { .. } => Answer::Error("a string".into()),
        Value::Vector(v) => Answer::Series(
            v.into_iter()
                .map(|s| {
                    let v = if let PointValue::Float(v) = s.value { v } else { f64::NAN };
                    (s.labels.to_string(), vec![(s.ts, v)])
                })
                .collect(),
        ),
        Value::Matrix(m) => Answer::Series(m.into_iter().map(|s| (s.labels.to_string(), s.floats)).collect()),
    };
    (answer, notes)
}

fn close(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan())
        || a == b
        || (a - b).abs() <= 1e-9 * (a.abs() + b.abs())
        || (a - b).abs() < 1e-11
}

/// Why two answers differ.
fn difference(theirs: &Answer, ours: &Answer) -> Option<String> {
    match (theirs, ours) {
        (Answer::Error(_), Answer::Error(_)) => None,
        (Answer::Scalar(a), Answer::Scalar(b)) if close(*a, *b) => None,
        (Answer::Series(a), Answer::Series(b)) => {
            if a.keys().ne(b.keys()) {
                let only = |a: &BTreeMap<String, _>, b: &BTreeMap<String, _>| {
                    a.keys().filter(|k| !b.contains_key(*k)).take(3).cloned().collect::<Vec<_>>()
                };
                return Some(format!("only theirs {:?}, only ours {:?}", only(a, b), only(b, a)));
            }
            a.iter().zip(b.values()).find_map(|((labels, a), b)| {
                if a.len() != b.len() {
                    return Some(format!("{labels}: {} points, ours {}", a.len(), b.len()));
                }
                let pair = a.iter().zip(b).find(|(a, b)| a.0 != b.0 || !close(a.1, b.1));
                pair.map(|(a, b)| format!("{labels}: theirs {a:?}, ours {b:?}"))
            })
        }
        (a, b) => {
            let short = |a: &Answer| format!("{a:?}").chars().take(200).collect::<String>();
            Some(format!("theirs {}, ours {}", short(a), short(b)))
        }
    }
}

fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() {
            out.push(char::from(b))
        } else {
            write!(out, "%{b:02X}").unwrap()
        }
        out
    })
}

/// Since the fill modifiers, a comparison that drops its result takes part in the check for unique matches.
fn is_stricter(theirs: &Answer, ours: &Answer) -> bool {
    let many = |a: &Answer| matches!(a, Answer::Error(e) if e.starts_with("multiple matches for labels"));
    many(ours) && !matches!(theirs, Answer::Error(_))
}

/// Annotations that are newer than the Prometheus that is compared with, or have another text there.
fn is_known(theirs: &[String], ours: &[String]) -> bool {
    let newer = |n: &&String| {
        !n.contains("sort is ineffective") && !n.contains("needed to be fixed for monotonicity")
    };
    theirs.iter().filter(newer).eq(ours.iter().filter(newer))
}

#[test]
fn answers_are_prometheus_answers() {
    let Some(bin) = std::env::var_os("STREAMGATE_PROMETHEUS").map(PathBuf::from) else {
        eprintln!("SKIPPED: set STREAMGATE_PROMETHEUS to a folder with prometheus and promtool");
        return;
    };
    let from_env =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let cases = from_env("STREAMGATE_DIFFERENTIAL_CASES", 2000);
    let seed = from_env("STREAMGATE_DIFFERENTIAL_SEED", 1);
    let series = data();
    let server = Server::start(&bin, &series);
    let options =
        StorageOptions { retention_ms: i64::MAX / 4, window_ms: i64::MAX / 4, ..StorageOptions::default() };
    let storage = Storage::open(options).unwrap();
    let mut appender = storage.appender();
    for (labels, samples) in &series {
        let series = appender.series(labels).unwrap();
        for (ts, v) in samples {
            appender.append(series, *ts, *v).unwrap();
        }
    }
    appender.commit().unwrap();
    let features = Features { experimental_functions: true, ..Features::default() };
    let engine = Engine::new(EngineOptions { features, ..EngineOptions::default() }, Clock::system());
    let mut generator = Generator(Random(0x9E37_79B9_7F4A_7C15 ^ (seed << 17 | seed)));
    let (mut differ, mut empty, mut errors, mut stricter) = (Vec::new(), 0, 0, 0);
    for _ in 0..cases {
        let depth = 1 + generator.0.below(4);
        let query = if generator.0.chance(5) { generator.scalar(depth) } else { generator.vector(depth) };
        let at = START + 1_800_000 + generator.0.below(4_000_000) as i64 / 1000 * 1000;
        let encoded = escaped(&query);
        let (path, request) = if generator.0.chance(50) {
            let path = format!("/api/v1/query?query={encoded}&time={}", at / 1000);
            (path, QueryRequest::instant(at))
        } else {
            let step = [15_000, 60_000, 300_000][generator.0.below(3)];
            let end = at + 1_200_000;
            let (from, to) = (at / 1000, end / 1000);
            let path =
                format!("/api/v1/query_range?query={encoded}&start={from}&end={to}&step={}", step / 1000);
            (path, QueryRequest::range(at, end, step))
        };
        let (_, body) = server.get(&path).expect("the server answers");
        let (their_answer, their_notes) = theirs(&body);
        let (our_answer, our_notes) = ours(&engine, &storage, &query, &request);
        match &their_answer {
            Answer::Error(_) => errors += 1,
            Answer::Series(s) if s.is_empty() => empty += 1,
            _ => {}
        }
        let kind = if request.step_ms == 0 { "instant" } else { "range" };
        if is_stricter(&their_answer, &our_answer) {
            stricter += 1;
        } else if let Some(why) = difference(&their_answer, &our_answer) {
            differ.push(format!("{kind} {at} {query}\n    {why}"));
        } else if their_notes != our_notes && their_notes.len() < 10 && !is_known(&their_notes, &our_notes) {
            differ
                .push(format!("{kind} {at} {query}\n    notes: theirs {their_notes:?}, ours {our_notes:?}"));
        } else if let (Answer::Error(a), Answer::Error(b)) = (&their_answer, &our_answer)
            && std::env::var_os("STREAMGATE_DIFFERENTIAL_ERRORS").is_some()
            && !b.contains(a.as_str())
            && !a.contains(b.as_str())
        {
            println!("error texts: {query}\n    theirs {a}\n    ours   {b}");
        }
    }
    println!(
        "{cases} cases: {errors} errors, {empty} empty, {stricter} stricter here, {} differ\n{}",
        differ.len(),
        differ.join("\n")
    );
    assert!(differ.is_empty());
}

/// Histograms of odd layouts, floats among them, values that no client sends: whatever the parser accepts gives an
/// answer or an error.
#[test]
fn random_expressions_never_panic() {
    let cases = if std::env::var_os("STREAMGATE_PROMETHEUS").is_some() { 20_000 } else { 2_000 };
    let mut random = Random(0xfeed_beef_1234_5677);
    let storage = Storage::open(StorageOptions {
        retention_ms: i64::MAX / 4,
        window_ms: i64::MAX / 4,
        ..StorageOptions::default()
    })
    .unwrap();
    let mut appender = storage.appender();
    for (labels, samples) in data() {
        let series = appender.series(&labels).unwrap();
        let histograms = random.below(3);
        let custom = random.chance(30);
        for (ts, v) in samples.iter().step_by(4) {
            if histograms == 0 || (histograms == 1 && random.chance(50)) {
                appender.append(series, *ts, *v).unwrap();
            } else {
                let h = odd_histogram(&mut random, custom);
                appender.append_histogram(series, *ts, std::sync::Arc::new(h)).unwrap();
            }
        }
    }
    appender.commit().unwrap();
    let options = EngineOptions { features: Features::all(), ..EngineOptions::default() };
    let engines = [true, false].map(|delayed| {
        let features = Features { delayed_name_removal: delayed, ..Features::all() };
        Engine::new(EngineOptions { features, ..options.clone() }, Clock::system())
    });
    let mut generator = Generator(Random(0x1357_9bdf_0246_8ace));
    let mut answered = 0;
    for i in 0..cases {
        let depth = 1 + generator.0.below(4);
        let mut query = generator.vector(depth);
        match generator.0.below(8) {
            0 => query = format!("histogram_quantile({}, {query})", generator.param()),
            1 => {
                query = format!("histogram_fraction({}, {}, {query})", generator.number(), generator.number())
            }
            2 => query = format!("({query}) </ {}", generator.number()),
            3 => query = format!("({query}) >/ {}", generator.number()),
            4 => query = format!("histogram_quantiles({query}, \"q\", {}, 0.5)", generator.param()),
            5 => {
                let f = generator.0.pick(&["rate", "increase", "delta"]);
                let mode = generator.0.pick(&["anchored", "smoothed"]);
                query = format!("{f}({}[5m] {mode})", generator.selector());
            }
            6 => query = format!("histogram_count(info({query}))"),
            _ => {}
        }
        let at = START + 1_800_000 + generator.0.below(4_000_000) as i64;
        let request = match generator.0.below(4) {
            0 => QueryRequest::range(at, at + 1_200_000, 60_000),
            1 => QueryRequest::instant([i64::MIN, i64::MAX, 0, -1][generator.0.below(4)]),
            _ => QueryRequest::instant(at),
        };
        let (answer, _) = ours(&engines[i % 2], &storage, &query, &request);
        answered += usize::from(matches!(answer, Answer::Series(s) if !s.is_empty()));
    }
    println!("{answered} of {cases} random expressions have a result");
    assert!(answered * 8 > cases);
}

fn odd_histogram(random: &mut Random, custom: bool) -> streamgate::model::FloatHistogram {
    use streamgate::model::{CounterResetHint, FloatHistogram, Span};
    let mut layout = |first: usize| -> (Vec<Span>, Vec<f64>) {
        let spans: Vec<Span> = (0..random.below(4))
            .map(|i| Span {
                offset: if i == 0 {
                    first as i32 - if custom { 0 } else { 3 }
                } else {
                    random.below(3) as i32
                },
                length: random.below(4) as u32,
            })
            .collect();
        let total = spans.iter().map(|s| s.length as usize).sum::<usize>();
        let mut count = || {
            [0.0, 1.0, 3.0, 7.5, f64::NAN, f64::INFINITY, -2.0][random.below(if total > 6 { 7 } else { 4 })]
        };
        let buckets = (0..total).map(|_| count()).collect();
        (spans, buckets)
    };
    let (positive_spans, positive_buckets) = layout(0);
    let (negative_spans, negative_buckets) = if custom { (Vec::new(), Vec::new()) } else { layout(1) };
    let schema = if custom { -53 } else { [0, 1, 3, 8, -4, -2][random.below(6)] };
    FloatHistogram {
        counter_reset_hint: [
            CounterResetHint::Unknown,
            CounterResetHint::Unknown,
            CounterResetHint::Reset,
            CounterResetHint::NotReset,
            CounterResetHint::Gauge,
        ][random.below(5)],
        schema,
        zero_threshold: if custom { 0.0 } else { [0.0, 0.001, 0.5, 3.0][random.below(4)] },
        zero_count: if custom { 0.0 } else { random.below(3) as f64 },
        count: random.below(50) as f64,
        sum: [1.0, -5.0, 100.0, f64::NAN, f64::INFINITY][random.below(5)],
        positive_spans,
        negative_spans,
        positive_buckets,
        negative_buckets,
        custom_values: if custom {
            [vec![1.0, 5.0], vec![], vec![-2.0, 0.0, 3.0]][random.below(3)].clone()
        } else {
            Vec::new()
        },
    }
}
