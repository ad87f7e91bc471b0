//! The compression of a request's body.

use std::io::Read;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Snappy's block format, which the specification demands.
    #[default]
    Snappy,
    /// As VictoriaMetrics sends it.
    Zstd,
}

impl Encoding {
    /// By the `Content-Encoding` header; a missing one means snappy. `None` for what we cannot read.
    #[must_use]
    pub fn from_header(header: Option<&str>) -> Option<Self> {
        match header.map(str::trim) {
            None | Some("" | "snappy") => Some(Encoding::Snappy),
            Some("zstd") => Some(Encoding::Zstd),
            Some(_) => None,
        }
    }
}

/// Why a body cannot be decompressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    #[error("the body has more than {limit} bytes when decompressed")]
    TooLarge { limit: usize },
    #[error("the body is no valid {encoding}: {reason}")]
    Corrupt { encoding: &'static str, reason: String },
}

/// Windows above this are refused, so that a few bytes cannot make the decoder reserve more (32 MiB).
const ZSTD_WINDOW_LOG_MAX: u32 = 25;

/// Decompresses `body` into `out`, which is cleared first, if the result has at most `limit` bytes.
///
/// # Errors
/// When the body is corrupt or too large.
pub fn decompress(
    encoding: Encoding,
    body: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    match encoding {
        Encoding::Snappy => {
            let corrupt =
                |e: snap::Error| DecompressError::Corrupt { encoding: "snappy", reason: e.to_string() };
            let len = snap::raw::decompress_len(body).map_err(corrupt)?;
            if len > limit {
                return Err(DecompressError::TooLarge { limit });
            }
            // All of it is written anew, so what stands there from before need neither be cleared nor moved. The next message may
            // be a little longer.
            if len > out.capacity() {
                *out = vec![0; len + len / 8];
            }
            out.resize(len, 0);
            let written = snap::raw::Decoder::new().decompress(body, out).map_err(corrupt)?;
            out.truncate(written);
            Ok(())
        }
        Encoding::Zstd => {
            out.clear();
            let corrupt =
                |e: std::io::Error| DecompressError::Corrupt { encoding: "zstd", reason: e.to_string() };
            let mut decoder = zstd::stream::read::Decoder::new(body).map_err(corrupt)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(corrupt)?;
            decoder.take(limit as u64 + 1).read_to_end(out).map_err(corrupt)?;
            if out.len() > limit { Err(DecompressError::TooLarge { limit }) } else { Ok(()) }
        }
    }
}

/// Compresses a message as remote write 1.0 wants it.
#[must_use]
pub fn compress_snappy(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).expect("a message in memory is shorter than 4 GiB")
}
