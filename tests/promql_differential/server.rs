//! A real Prometheus and the binary of this crate, with the test's data.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use streamgate::exposition::remote_write::{Encoder, compress_snappy};
use streamgate::model::Labels;

use crate::answer::{Full, read};
use crate::data::{self, SLICE_MS, START, Sample};

/// No answer takes so long; a server that hangs fails the test instead of stopping it.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// An instant query where `step_ms` is 0. Times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub start: i64,
    pub end: i64,
    pub step_ms: i64,
}

impl Request {
    pub fn instant(at: i64) -> Request {
        Request { start: at, end: at, step_ms: 0 }
    }
}

/// A server that ends with the value, also when the test fails.
pub struct Server {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Debian's `prometheus` of this folder.
    pub fn prometheus(folder: &Path, features: &str) -> Server {
        Server::start(
            Command::new(folder.join("prometheus")).arg("--web.enable-remote-write-receiver"),
            &format!("native-histograms,{features}"),
        )
    }

    /// The binary of this crate.
    pub fn streamgate(features: &str) -> Server {
        Server::start(&mut Command::new(env!("CARGO_BIN_EXE_streamgate")), features)
    }

    fn start(command: &mut Command, features: &str) -> Server {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("prometheus.yml"), "global: {}\n").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = command
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg("--storage.tsdb.retention.time=100y")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg(format!("--enable-feature={features}"))
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut server = Server { child, port, dir };
        server.wait();
        server.load();
        server
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn wait(&mut self) {
        for _ in 0..600 {
            if self.get("/-/ready").is_some_and(|(status, _)| status == 200) {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "it ended: {}", self.log());
            std::thread::park_timeout(Duration::from_millis(50));
        }
        panic!("not ready: {}", self.log());
    }

    /// Sends the data as remote write, piece by piece: what is much older than the newest is refused, and of one
    /// request Prometheus 3.5 stores all floats of a series before its histograms, and drops what is then too old.
    /// The first request has the first sample of each series, so that both sides have the series in the order of their labels:
    /// which of them `limitk` takes, and the last digit of a variance, depend on it.
    fn load(&self) {
        let all = data::all();
        let mut first = Encoder::new();
        for (labels, samples) in &all {
            add(&mut first, labels, &samples[..1]);
        }
        self.write(&first.finish());
        for slice in 0..=(data::END - START) / SLICE_MS {
            let inside = START + slice * SLICE_MS..START + (slice + 1) * SLICE_MS;
            let mut request = Encoder::new();
            for (labels, samples) in &all {
                let rest = &samples[1..];
                let from = rest.partition_point(|(ts, _)| *ts < inside.start);
                let to = rest.partition_point(|(ts, _)| *ts < inside.end);
                add(&mut request, labels, &rest[from..to]);
            }
            self.write(&request.finish());
        }
    }

    /// Sends a remote-write message.
    fn write(&self, message: &[u8]) {
        let body = compress_snappy(message);
        let head = format!(
            "POST /api/v1/write HTTP/1.0\r\nHost: localhost\r\nContent-Encoding: snappy\r\n\
                 Content-Type: application/x-protobuf\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n\
                 Content-Length: {}\r\n\r\n",
            body.len()
        );
        let (status, answer) = self.exchange(&[head.as_bytes(), &body]).expect("the server answers");
        assert!(status == 204 || status == 200, "{status}: {answer}");
    }

    pub fn ask(&self, query: &str, request: &Request) -> Full {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let (start, end, text) = (seconds(request.start), seconds(request.end), escaped(query));
        let path = match request.step_ms {
            0 => format!("/api/v1/query?query={text}&time={start}"),
            step => {
                format!("/api/v1/query_range?query={text}&start={start}&end={end}&step={}", seconds(step))
            }
        };
        match self.get(&path) {
            Some((_, body)) => read(&body),
            None => panic!("no answer to {query}: {}", self.log()),
        }
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        // HTTP/1.0, so that the answer is not chunked.
        self.exchange(&[format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()])
    }

    fn exchange(&self, request: &[&[u8]]) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(READ_TIMEOUT)).ok()?;
        stream.set_write_timeout(Some(READ_TIMEOUT)).ok()?;
        stream.write_all(&request.concat()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }
}

/// Adds samples of a series, which are all floats or all histograms.
fn add(request: &mut Encoder, labels: &Labels, samples: &[(i64, Sample)]) {
    let (mut floats, mut histograms) = (Vec::new(), Vec::new());
    for (ts, sample) in samples {
        match sample {
            Sample::Float(v) => floats.push((*ts, *v)),
            Sample::Histogram(h) => histograms.push((*ts, h)),
        }
    }
    assert!(floats.is_empty() || histograms.is_empty(), "{labels} has both in one request");
    if !samples.is_empty() {
        request.series(labels, &floats, &histograms);
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
