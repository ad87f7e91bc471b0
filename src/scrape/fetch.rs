//! One request for a target's metrics.

use std::io::Read as _;
use std::sync::Mutex;
use std::sync::PoisonError;

use reqwest::Method;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};

use crate::http::{HttpClient, HttpError, read_body};

/// What a request for metrics says.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub client: HttpClient,
    pub url: url::Url,
    pub accept: String,
    pub compressed: bool,
    pub timeout_ms: i64,
    /// Bytes of the body, before and after decompression.
    pub instance: String,
    pub body_bytes_max: usize,
}

/// A body as it came.
#[derive(Debug)]
pub(super) struct Fetched {
    pub body: Vec<u8>,
    pub gzip: bool,
    pub content_type: Option<String>,
}

/// Why a target gave no body.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0}")]
    Http(#[from] HttpError),
    #[error("server returned HTTP status {0}")]
    Status(reqwest::StatusCode),
    #[error("content encoding {0:?} was not asked for and is not read")]
    Encoding(String),
    #[error("body is no valid gzip: {0}")]
    Gzip(std::io::Error),
    #[error("context deadline exceeded: the answer was not complete within {0} ms")]
    Timeout(i64),
}

impl FetchError {
    /// One word for the counter of failures.
    pub fn reason(&self) -> &'static str {
        match self {
            FetchError::Http(HttpError::TooLarge { .. }) => "body_size_limit",
            FetchError::Http(_) => "connection",
            FetchError::Status(_) => "status",
            FetchError::Encoding(_) | FetchError::Gzip(_) => "encoding",
            FetchError::Timeout(_) => "timeout",
        }
    }
}

impl Request {
    /// Sends the request and reads the body into `buffer`, which is empty. The caller bounds the time.
    ///
    /// # Errors
    /// When the connection or the answer is not as it should be, or the body is too large.
    pub async fn send(&self, mut buffer: Vec<u8>) -> Result<Fetched, FetchError> {
        let seconds = self.timeout_ms as f64 / 1000.0;
        let mut request = self
            .client
            .request(Method::GET, self.url.clone())?
            .header(ACCEPT, &self.accept)
            .header(super::INSTANCE_HEADER, &self.instance)
            .header("X-Prometheus-Scrape-Timeout-Seconds", seconds.to_string());
        request = request.header(ACCEPT_ENCODING, if self.compressed { "gzip" } else { "identity" });
        let mut response = request.send().await.map_err(HttpError::from)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let header =
            |name| response.headers().get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        let content_type = header(CONTENT_TYPE);
        let gzip = match header(CONTENT_ENCODING).as_deref().map(str::trim) {
            None | Some("" | "identity") => false,
            Some(e) if e.eq_ignore_ascii_case("gzip") || e.eq_ignore_ascii_case("x-gzip") => true,
            Some(other) => return Err(FetchError::Encoding(other.to_owned())),
        };
        read_body(&mut response, self.body_bytes_max, &mut buffer).await?;
        Ok(Fetched { body: buffer, gzip, content_type })
    }
}

/// Decompresses into `out`, which is empty and may hold `limit` bytes.
pub(super) fn gunzip(body: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), FetchError> {
    let decoder = flate2::bufread::MultiGzDecoder::new(body);
    // One byte more than allowed tells a body that is too large from one that just fits.
    decoder.take(limit as u64 + 1).read_to_end(out).map_err(FetchError::Gzip)?;
    if out.len() > limit { Err(HttpError::TooLarge { limit }.into()) } else { Ok(()) }
}

/// Buffers for bodies. Only a few scrapes run at any one moment, so that a few buffers serve all targets.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
}

/// How many buffers wait for their next use, and how large one may be that does.
const FREE_MAX: usize = 8;
const FREE_BYTES_MAX: usize = 4 << 20;

impl Buffers {
    /// An empty buffer.
    pub fn take(&self) -> Vec<u8> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub fn put(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < FREE_MAX && buffer.capacity() <= FREE_BYTES_MAX {
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_is_read_up_to_the_limit() {
        let body = gzip(&[7; 1000]);
        let mut out = Vec::new();
        gunzip(&body, 1000, &mut out).unwrap();
        assert_eq!(out, [7; 1000]);
        for (body, limit, reason) in [
            (&body[..], 999, "body_size_limit"),
            (&body[..20], 1000, "encoding"),
            (b"up 1\n", 1000, "encoding"),
        ] {
            let mut out = Vec::new();
            assert_eq!(gunzip(body, limit, &mut out).unwrap_err().reason(), reason);
        }
    }

    #[test]
    fn a_gzip_bomb_takes_no_more_than_the_limit() {
        let bomb = gzip(&vec![0; 64 << 20]);
        let mut out = Vec::new();
        assert!(gunzip(&bomb, 1 << 20, &mut out).is_err());
        assert!(out.capacity() <= 4 << 20, "{}", out.capacity());
    }
}
