//! Queries that are made to harm: each is refused with the limit's name, or answered, and the server goes on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::util::{Server, encode, until};

const FORM: [(&str, &str); 1] = [("Content-Type", "application/x-www-form-urlencoded")];

fn start(more: &[&str]) -> Server {
    let features = "--enable-feature=promql-experimental-functions";
    let server = Server::start(&[&["--query.timeout=20s", features], more].concat(), &[]);
    let text: String = (0..200).map(|i| format!("x{{n=\"{i}\"}} {i}.5\n")).collect();
    assert_eq!(server.send("PUT", "/metrics/job/a", &[], text.as_bytes()).status, 200);
    until(10, || server.value("count(x)").filter(|n| *n == 200.0)).expect("what was pushed is stored");
    server
}

#[test]
fn queries_that_attack_are_refused_or_answered() {
    let server = start(&["--query.max-memory=64MB"]);
    let nested = |open: &str, n: usize, core: &str, close: &str| open.repeat(n) + core + &close.repeat(n);
    let doubling = nested("label_replace(", 60, "x", ", \"n\", \"$1$1\", \"n\", \"(.*)\")");
    let alternatives: Vec<String> = (0..20_000).map(|i| format!("x{i}.*y")).collect();
    let alternatives = format!("{{__name__=~\"{}\"}}", alternatives.join("|"));
    let groups = format!("x{{n=~\"{}\"}}", nested("(", 900, "1", ")?"));
    let cases: Vec<(&str, u16, &str)> = vec![
        ("rate(x[290y])", 200, ""),
        ("x offset 292y + x offset -292y", 200, ""),
        ("x offset 99999999999y", 400, "duration out of range"),
        ("x @ 9223372036854775", 400, "timestamp out of bounds"),
        ("x[2^1000]", 422, "duration is out of range"),
        ("x[2^40]", 422, "duration is out of range"),
        ("x[2^33]", 200, ""),
        ("x[5m/step()]", 422, "division by zero"),
        ("count_over_time(x[100y:1ms])", 422, "--query.max-samples"),
        ("max_over_time(max_over_time(x[1d:1ms])[1d:1ms])", 422, "--query.max-"),
        ("{__name__=~\"(a|b)*c(a|b)*d.*.*.*.*=.*\"}", 200, ""),
        ("{__name__=~\"((a{0,500}){0,500})*\"}", 400, "error parsing regexp"),
        (&alternatives, 200, ""),
        (&groups, 200, ""),
        ("count_values(\"v\", max_over_time(x[1m]))", 200, ""),
        ("label_replace(x, \"a\", \"$1\", \"n\", \"(\")", 422, "regular expression"),
        ("quantile(NaN, x) or quantile(Inf, x) or quantile(-Inf, x)", 200, ""),
        ("topk(NaN, x)", 422, "NaN"),
        ("limitk(1e308, x)", 422, "overflows"),
        ("limit_ratio(NaN, x)", 422, "NaN"),
        ("histogram_quantile(NaN, x)", 200, ""),
        ("round(x, 0) + clamp(x, Inf, -Inf)", 200, ""),
        ("days_in_month(vector(1e300)) + month(vector(NaN)) + year(vector(-Inf))", 200, ""),
        ("predict_linear(x[5m], Inf)", 200, ""),
        ("double_exponential_smoothing(x[5m], NaN, Inf)", 422, "factor. Expected"),
    ];
    for (query, status, text) in cases {
        let answer =
            server.send("POST", "/api/v1/query", &FORM, format!("query={}", encode(query)).as_bytes());
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
        assert!(answer.body.contains(text), "{query}: {}", answer.body);
    }
    for (query, text) in [
        (nested("(", 10_000, "1", ")"), "nests deeper than 128 levels"),
        ("-".repeat(10_000) + "1", "nests deeper than"),
        ("1".to_owned() + &"+1".repeat(10_000), "nests deeper than 400 levels"),
        ("x".to_owned() + &"[5m:]".repeat(10_000), "nests deeper than"),
        ("a".repeat(1_000_000), "--query.max-expression-length"),
        (format!("{{__name__=~\"{}\"}}", r"\\pL".repeat(60_000)), "expression too large"),
        (format!("{{__name__=~\"{}\"}}", "(".repeat(10_000)), "nests too deeply"),
    ] {
        let answer =
            server.send("POST", "/api/v1/query", &FORM, format!("query={}", encode(&query)).as_bytes());
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.body.contains(text), "{}", answer.body);
        assert!(answer.body.len() < 2_000, "the refusal does not repeat what was sent");
    }
    // A label value that doubles sixty times, and one row for each step.
    let answer =
        server.send("POST", "/api/v1/query", &FORM, format!("query={}", encode(&doubling)).as_bytes());
    assert!(answer.status == 422 && answer.body.contains("more than 65536 bytes"), "{}", answer.body);
    let bomb = encode("2 * count_values(\"v\", vector(time()))");
    let answer = server.get(&format!("/api/v1/query_range?query={bomb}&start=0&end=10999&step=1"));
    assert!(answer.status == 422 && answer.body.contains("--query.max-"), "{}", answer.body);
    assert_eq!(server.query("x").len(), 200, "the server goes on");
}

#[test]
fn regular_expressions_are_bounded_together() {
    let server = start(&["--query.max-regex-memory=8MiB"]);
    let one = |i: usize| format!("{{n=~\"\\\\pL{{{i}}}\"}}");
    assert_eq!(server.get(&format!("/api/v1/query?query={}", encode(&one(20)))).status, 200);
    let many: Vec<String> = (20..150).map(one).collect();
    for path in ["query", "format_query", "parse_query", "query_exemplars"] {
        let form = format!("query={}&start=0&end=1", encode(&many.join(" or ")));
        let answer = server.send("POST", &format!("/api/v1/{path}"), &FORM, form.as_bytes());
        assert!(answer.status == 400 && answer.body.contains("--query.max-regex-memory"), "{}", answer.body);
        assert!(answer.body.len() < 2_000, "the refusal does not repeat what was sent");
    }
}

#[test]
fn results_and_steps_are_limited_by_flags() {
    let server = start(&["--query.max-series=100", "--query.max-steps=50", "--query.max-samples=10000"]);
    let range = |query: &str, end: u32| {
        let answer =
            server.get(&format!("/api/v1/query_range?query={}&start=0&end={end}&step=1", encode(query)));
        (answer.status, answer.body)
    };
    let (status, text) = range("1", 51);
    assert!(status == 400 && text.contains("--query.max-steps"), "{text}");
    assert_eq!(range("1", 50).0, 200);
    let answer = server.get("/api/v1/query?timeout=0&query=x");
    assert!(answer.status == 503 && answer.body.contains("its own parameter timeout"), "{}", answer.body);
    let answer = server.get(&format!("/api/v1/query?query={}", encode("x + 1")));
    assert!(answer.status == 422 && answer.body.contains("--query.max-series"), "{}", answer.body);
    assert_eq!(server.query("topk(100, x)").len(), 100);
    let many = encode("count_over_time((x @ end())[100s:1s])");
    let answer = server.get(&format!("/api/v1/query?query={many}"));
    assert!(answer.status == 422 && answer.body.contains("--query.max-samples"), "{}", answer.body);
}

#[test]
fn a_client_that_goes_away_ends_its_query() {
    let server = start(&["--query.max-concurrency=1", "--query.max-queue=1"]);
    // Long enough to never end by itself before its timeout of 20 seconds.
    let slow = encode("sum(quantile_over_time(0.5, (x @ end() * time())[3h:1s]))");
    let now = server.value("vector(time())").unwrap();
    let path = format!("/api/v1/query_range?query={slow}&start={}&end={now}&step=1", now - 10_000.0);
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
            .unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        stream
    };
    // One runs and one waits, whichever come first: the third is told so.
    let mut asked = [ask(), ask(), ask()];
    let mut answers = [const { Vec::new() }; 3];
    until(10, || {
        asked.iter_mut().zip(&mut answers).find_map(|(stream, answer)| {
            // What has come stays in `answer` when no more comes in time.
            let ended = stream.read_to_end(answer).is_ok();
            ended.then(|| String::from_utf8_lossy(answer).into_owned())
        })
    })
    .map(|answer| {
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("--query.max-queue"), "{answer}")
    })
    .expect("the queue is full");
    drop(asked);
    until(10, || (server.get("/api/v1/query?query=1").status == 200).then_some(()))
        .expect("both have ended, long before their timeout");
    // An answer that nobody reads to its end is given up as well.
    let large = encode("x @ end() * time()");
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let path = format!("/api/v1/query_range?query={large}&start={}&end={now}&step=1", now - 10_000.0);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    drop(stream);
    assert_eq!(server.query("count(x)")[0]["value"][1], "200");
}
