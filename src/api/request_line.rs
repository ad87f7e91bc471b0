//! What Go's server takes in a request's target and the `http` crate does not: raw `"`, `<` and `>`, as in
//! `curl 'localhost:9090/api/v1/query?query=up{job="node"}>0'`. They are escaped before hyper sees them.
//!
//! A connection is followed from request to request by the length of each body. Where that cannot be told (chunks, an
//! upgrade, HTTP/2, a head that hyper will refuse) nothing is touched from there on.

/// The longest header line that matters here: the names are short, and so are numbers.
const LINE_BYTES_MAX: usize = 128;

/// Follows the bytes of one connection.
#[derive(Debug, Default)]
pub(super) struct Targets {
    state: State,
    /// The beginning of the line that is being read.
    line: Vec<u8>,
    /// Of the body that follows the head.
    content_length: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first space of a request.
    #[default]
    Method,
    Target,
    /// Behind the target, to the end of the line.
    Version,
    Head,
    Body(u64),
    Off,
}

impl Targets {
    /// Reads on; calls `escape` with the place of each byte that has to be escaped.
    pub fn scan(&mut self, bytes: &[u8], mut escape: impl FnMut(usize)) {
        let mut at = 0;
        while at < bytes.len() {
            let b = bytes[at];
            match self.state {
                State::Off => return,
                State::Body(left) => {
                    let here = left.min((bytes.len() - at) as u64);
                    at += here as usize;
                    self.state = if left == here { State::Method } else { State::Body(left - here) };
                    continue;
                }
                State::Method => self.method(b),
                State::Target => match b {
                    b'"' | b'<' | b'>' => escape(at),
                    b' ' => self.state = State::Version,
                    b'\n' => self.state = State::Off,
                    _ => {}
                },
                State::Version => {
                    if b == b'\n' {
                        self.state = State::Head;
                        self.line.clear();
                    }
                }
                State::Head => self.head(b),
            }
            at += 1;
        }
    }

    fn method(&mut self, b: u8) {
        match b {
            b' ' if matches!(self.line[..], [] | [b'P', b'R', b'I'] | [b'C', b'O', b'N', b'N', ..]) => {
                self.state = State::Off;
            }
            b' ' => {
                self.line.clear();
                self.state = State::Target;
            }
            // Empty lines may stand before a request.
            b'\r' | b'\n' if self.line.is_empty() => {}
            b'A'..=b'Z' if self.line.len() < 16 => self.line.push(b),
            _ => self.state = State::Off,
        }
    }

    fn head(&mut self, b: u8) {
        if b != b'\n' {
            if self.line.len() < LINE_BYTES_MAX {
                self.line.push(b.to_ascii_lowercase());
            }
            return;
        }
        let line = std::mem::take(&mut self.line);
        let text = line.strip_suffix(b"\r").unwrap_or(&line);
        if text.is_empty() {
            self.state = match self.content_length.take() {
                None | Some(0) => State::Method,
                Some(length) => State::Body(length),
            };
        } else if let Some(value) = text.strip_prefix(b"content-length:") {
            let length = std::str::from_utf8(value).ok().and_then(|v| v.trim().parse().ok());
            match length {
                Some(length) if self.content_length.is_none() => self.content_length = Some(length),
                _ => self.state = State::Off,
            }
        } else if text.starts_with(b"transfer-encoding") || text.starts_with(b"upgrade") || text[0] <= b' ' {
            self.state = State::Off;
        }
        self.line = line;
        self.line.clear();
    }
}

/// `bytes` with those at `places` (ascending) as `%XX`.
pub(super) fn escaped(bytes: &[u8], places: &[usize]) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(bytes.len() + 2 * places.len());
    let mut from = 0;
    for &at in places {
        out.extend_from_slice(&bytes[from..at]);
        let b = bytes[at];
        out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        from = at + 1;
    }
    out.extend_from_slice(&bytes[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out if the bytes arrive in pieces of this size.
    fn passed(input: &str, piece: usize) -> String {
        let mut targets = Targets::default();
        let mut out = Vec::new();
        for bytes in input.as_bytes().chunks(piece) {
            let mut places = Vec::new();
            targets.scan(bytes, |at| places.push(at));
            out.extend(escaped(bytes, &places));
        }
        String::from_utf8(out).unwrap()
    }

    fn check(input: &str, expected: &str) {
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(passed(input, piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn targets_are_escaped_and_nothing_else_is() {
        check(
            "GET /q?query=up{a=\"b\"}>0 HTTP/1.1\r\nX: \"<>\"\r\n\r\nGET /\"< HTTP/1.1\r\n\r\n",
            "GET /q?query=up{a=%22b%22}%3E0 HTTP/1.1\r\nX: \"<>\"\r\n\r\nGET /%22%3C HTTP/1.1\r\n\r\n",
        );
        // A body is not touched, also where it looks like a request; what follows it is.
        check(
            "POST /a HTTP/1.1\r\ncontent-Length: 16\r\n\r\nGET /\" HTTP/1.1\nGET /\" HTTP/1.1\r\n\r\n",
            "POST /a HTTP/1.1\r\ncontent-Length: 16\r\n\r\nGET /\" HTTP/1.1\nGET /%22 HTTP/1.1\r\n\r\n",
        );
    }

    #[test]
    fn what_cannot_be_followed_is_left_alone() {
        let rest = "GET /\" HTTP/1.1\r\n\r\n";
        for head in [
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            "GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\n\r\n",
            "get / HTTP/1.1\r\n\r\n",
            "GET /\r\n",
            "\u{16}\u{3}\u{1} ",
        ] {
            let all = format!("{head}{rest}");
            check(&all, &all);
        }
    }
}
