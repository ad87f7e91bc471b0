//! A server in a scratch folder, a scrape target whose body can be changed, a webhook that remembers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What a call answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|e| panic!("no JSON ({e}): {} {}", self.head, self.body))
    }
}

/// One HTTP/1.1 call to 127.0.0.1; the connection is closed after it. Status 0 stands for "no answer".
pub fn call(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    try_call(port, method, path, headers, body).unwrap_or_else(|e| Answer {
        status: 0,
        head: e.to_string(),
        body: String::new(),
    })
}

fn try_call(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    // A server that refuses a large body may close before it has read all of it.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
    let Some(end) = end else { return Err(read.err().unwrap_or_else(|| std::io::Error::other("no answer"))) };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut body = bytes[end + 4..].to_vec();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = dechunk(&body);
    }
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Ok(Answer { status, head, body: String::from_utf8_lossy(&body).into_owned() })
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap().trim(), 16).unwrap_or(0);
        if size == 0 || bytes.len() < end + 2 + size {
            break;
        }
        out.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[(end + 4 + size).min(bytes.len())..];
    }
    out
}

/// Asks again until there is an answer or the time is up.
pub fn until<T>(seconds: u64, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// The binary in a scratch folder, with the port that it printed.
pub struct Server {
    pub dir: tempfile::TempDir,
    pub port: u16,
    args: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// Writes `files` into the folder and starts the binary there with `args`, on a free port. Ready on return.
    pub fn start(args: &[&str], files: &[(&str, &str)]) -> Server {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let mut server =
            Server { dir, port: 0, args: args.iter().map(|a| (*a).to_owned()).collect(), child: None };
        server.start_again();
        server
    }

    /// Starts the binary over the same folder, after [`Server::kill`] or [`Server::stop`].
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_streamgate"))
            .args(&self.args)
            .arg("--web.listen-address=127.0.0.1:0")
            .current_dir(self.dir.path())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let found = lines.find_map(|line| {
            let line = line.unwrap();
            let rest = line.split_once("http://127.0.0.1:")?.1;
            rest.split('/').next()?.parse::<u16>().ok()
        });
        self.child = Some(child);
        self.port = found.unwrap_or_else(|| panic!("it did not say where it listens: {}", self.log()));
        // The pipe is read to its end, so that the server never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        let port = self.port;
        until(20, || (call(port, "GET", "/-/ready", &[], b"").status == 200).then_some(()))
            .unwrap_or_else(|| panic!("not ready: {}", self.log()));
    }

    /// Starts the binary and kills it so long after.
    pub fn start_and_kill(&self, after: Duration) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_streamgate"))
            .args(&self.args)
            .arg("--web.listen-address=127.0.0.1:0")
            .current_dir(self.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::park_timeout(after);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// SIGTERM; gives the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        let mut child = self.child.take().unwrap();
        let code = until(20, || child.try_wait().unwrap());
        if code.is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        code.and_then(|c| c.code())
    }

    pub fn get(&self, path: &str) -> Answer {
        call(self.port, "GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        call(self.port, "POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        call(self.port, method, path, headers, body)
    }

    /// The result of an instant query.
    pub fn query(&self, expr: &str) -> Vec<Value> {
        let answer = self.get(&format!("/api/v1/query?query={}", encode(expr)));
        assert_eq!(answer.status, 200, "{expr}: {}", answer.body);
        answer.json()["data"]["result"].as_array().unwrap().clone()
    }

    /// The only value of an instant query, if there is just one.
    pub fn value(&self, expr: &str) -> Option<f64> {
        match self.query(expr).as_slice() {
            [one] => one["value"][1].as_str()?.parse().ok(),
            _ => None,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the server\n{}", self.log());
        }
    }
}

/// Percent-encodes everything but letters and digits.
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// Reads one request; gives its first line, headers in lower case, and body.
fn read_request(stream: &TcpStream) -> Option<(String, String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let (mut headers, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 || line == "\r\n" {
            break;
        }
        let line = line.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        headers.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    (!first.is_empty()).then(|| (first.trim().to_owned(), headers, body))
}

fn listen(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || answer(stream));
        }
    });
    port
}

/// A scrape target whose body can be changed.
pub struct Target {
    pub port: u16,
    body: Arc<Mutex<String>>,
    hits: Arc<AtomicUsize>,
}

impl Target {
    pub fn new(body: &str) -> Target {
        let body = Arc::new(Mutex::new(body.to_owned()));
        let hits = Arc::new(AtomicUsize::new(0));
        let (shared, count) = (Arc::clone(&body), Arc::clone(&hits));
        let port = listen(move |mut stream| {
            while read_request(&stream).is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                let body = shared.lock().unwrap().clone();
                let format = if body.ends_with("# EOF\n") {
                    "application/openmetrics-text; version=1.0.0"
                } else {
                    "text/plain; version=0.0.4"
                };
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: {format}\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).is_err()
                {
                    return;
                }
            }
        });
        Target { port, body, hits }
    }

    pub fn set(&self, body: &str) {
        body.clone_into(&mut self.body.lock().unwrap());
    }

    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

/// One notification that arrived.
#[derive(Clone, Debug)]
pub struct Notification {
    pub path: String,
    pub headers: String,
    pub body: Value,
}

/// A webhook receiver that remembers, and answers with a status that can be changed.
pub struct Hook {
    pub port: u16,
    status: Arc<AtomicU16>,
    got: Arc<Mutex<Vec<Notification>>>,
}

impl Hook {
    pub fn new() -> Hook {
        let status = Arc::new(AtomicU16::new(200));
        let got: Arc<Mutex<Vec<Notification>>> = Arc::default();
        let (answer, list) = (Arc::clone(&status), Arc::clone(&got));
        let port = listen(move |mut stream| {
            while let Some((first, headers, body)) = read_request(&stream) {
                let path = first.split(' ').nth(1).unwrap_or("").to_owned();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                list.lock().unwrap().push(Notification { path, headers, body });
                let head =
                    format!("HTTP/1.1 {} Answer\r\nContent-Length: 0\r\n\r\n", answer.load(Ordering::SeqCst));
                if stream.write_all(head.as_bytes()).is_err() {
                    return;
                }
            }
        });
        Hook { port, status, got }
    }

    pub fn answer_with(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn got(&self) -> Vec<Notification> {
        self.got.lock().unwrap().clone()
    }

    /// Alerts with this status that arrived at this path, in order.
    pub fn alerts(&self, path: &str, status: &str) -> Vec<Value> {
        let got = self.got();
        let here = got.iter().filter(|n| n.path == path);
        let alerts = here.flat_map(|n| n.body["alerts"].as_array().cloned().unwrap_or_default());
        alerts.filter(|a| a["status"] == status).collect()
    }
}

pub const WRITE_HEADERS: [(&str, &str); 2] =
    [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];

/// A message of remote write 1.0.
#[derive(Default)]
pub struct WriteBody(Vec<u8>);

impl WriteBody {
    /// Adds a sample of the series `NAME{i="…"}`.
    pub fn add(&mut self, name: &str, i: u64, ts: i64, value: f64) {
        let mut series = Vec::new();
        for (name, value) in [("__name__", name), ("i", i.to_string().as_str())] {
            let mut label = Vec::new();
            put_field(&mut label, 1, name.as_bytes());
            put_field(&mut label, 2, value.as_bytes());
            put_field(&mut series, 1, &label);
        }
        let mut sample = vec![1 << 3 | 1];
        sample.extend_from_slice(&value.to_le_bytes());
        sample.push(2 << 3);
        put_varint(&mut sample, ts as u64);
        put_field(&mut series, 2, &sample);
        put_field(&mut self.0, 1, &series);
    }

    /// In snappy's block format, all of it literals.
    pub fn snappy(&self) -> Vec<u8> {
        let mut snappy = Vec::new();
        put_varint(&mut snappy, self.0.len() as u64);
        for piece in self.0.chunks(60) {
            snappy.push((piece.len() as u8 - 1) << 2);
            snappy.extend_from_slice(piece);
        }
        snappy
    }
}

fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn put_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
