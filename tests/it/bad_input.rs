//! What hostile or broken clients and targets send: a clear refusal, and the server goes on.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::util::{Server, encode, until};

#[test]
fn malformed_requests_are_refused_and_harm_nothing() {
    let server = Server::start(&["--query.timeout=5s"], &[]);
    let snappy = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    for body in
        [&b""[..], b"\xff\xff\xff\xff\xff\xff", b"\xfe\xff\xff\xff\x0f", b"plain text that is no snappy"]
    {
        let status = server.send("POST", "/api/v1/write", &snappy, body).status;
        // A length that claims four gigabytes is refused before anything is made for it.
        assert!(status == 400 || status == 413 || (body.is_empty() && status < 300), "{body:?}: {status}");
    }
    for (query, status) in [
        ("rate(", 400),
        ("rate(x)", 400),
        ("x[5m", 400),
        ("{}", 400),
        ("sum(rate(x[5m]))) + 1", 400),
        ("x + on (a) group_left y and", 400),
    ] {
        let answer = server.get(&format!("/api/v1/query?query={}", encode(query)));
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
        assert_eq!(answer.json()["errorType"], "bad_data");
    }
    let deep = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(
        server.send("POST", "/api/v1/query", &form, format!("query={}", encode(&deep)).as_bytes()).status,
        400
    );
    for path in [
        "/api/v1/query",
        "/api/v1/query?query=up&time=yesterday",
        "/api/v1/query_range?query=up&start=0&end=100000&step=1",
        "/api/v1/query_range?query=up&start=100&end=0&step=1",
        "/api/v1/query_range?query=up&start=0&end=100&step=0",
        "/api/v1/series",
        "/api/v1/label/%20/values?match[]={",
        "/federate?match[]=(",
    ] {
        assert_eq!(server.get(path).status, 400, "{path}");
    }
    assert_eq!(server.get("/api/v1/nothing").status, 404);
    assert_eq!(server.send("PUT", "/metrics/job", &[], b"x 1\n").status, 404);
    // A hundred megabytes, refused by their length.
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.write_all(b"PUT /metrics/job/big HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 104857600\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    // A million labels in one sample.
    let labels: String = (0..1_000_000).map(|i| format!("l{i}=\"v\",")).collect();
    let status = server.send("PUT", "/metrics/job/wide", &[], format!("x{{{labels}}} 1\n").as_bytes()).status;
    assert!(status == 400 || status == 413, "{status}");
    // A client that never ends its request does not hold up others.
    let mut slow = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    slow.write_all(b"POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Le").unwrap();
    assert_eq!(server.get("/-/healthy").status, 200);
    assert_eq!(server.value("vector(1)"), Some(1.0));
}

#[test]
fn a_target_that_never_ends_its_answer_is_down_with_the_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n");
                // Until the scraper hangs up.
                while stream.write_all(b"# still at it\n").is_ok() {
                    std::thread::park_timeout(std::time::Duration::from_millis(1));
                }
            });
        }
    });
    let config = format!(
        "scrape_configs:\n- job_name: endless\n  scrape_interval: 1s\n  scrape_timeout: 500ms\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    );
    let server = Server::start(&["--config.file=c.yml"], &[("c.yml", &config)]);
    until(15, || server.value("up").filter(|v| *v == 0.0)).expect("down");
    // The sample can be read a moment before the target's own page has it.
    let reason = || {
        let targets = server.get("/api/v1/targets").json();
        targets["data"]["activeTargets"][0]["lastError"].as_str().filter(|e| !e.is_empty()).map(str::to_owned)
    };
    let reason = until(15, reason).expect("a reason");
    assert!(reason.contains("500 ms"), "{reason}");
}
