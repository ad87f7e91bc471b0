//! What compresses the labels of new series, with memory that is used again.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zstd::bulk::Compressor;
use zstd::zstd_safe::compress_bound;

/// Memory to work in that has become larger is given back.
pub const SCRATCH_BYTES_MAX: usize = 1 << 20;

/// The compression of series: labels repeat so much that the fast levels find it too.
const SERIES_LEVEL: i32 = -4;

/// Compresses as [`decompress_series`](super::frame::decompress_series) expects it.
pub struct SeriesCompressor {
    compressor: Compressor<'static>,
    packed: Vec<u8>,
}

impl SeriesCompressor {
    /// One is kept: making one clears more memory than most sections have.
    fn kept() -> MutexGuard<'static, Option<SeriesCompressor>> {
        static KEPT: Mutex<Option<SeriesCompressor>> = Mutex::new(None);
        KEPT.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that is kept, or another.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn take() -> io::Result<Self> {
        let kept = SeriesCompressor::kept().take();
        kept.map_or_else(
            || Ok(SeriesCompressor { compressor: Compressor::new(SERIES_LEVEL)?, packed: Vec::new() }),
            Ok,
        )
    }

    /// Keeps it for the next section.
    pub fn give_back(mut self) {
        if self.packed.capacity() > SCRATCH_BYTES_MAX {
            self.packed = Vec::new();
        }
        *SeriesCompressor::kept() = Some(self);
    }

    /// The bytes, compressed.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn compress(&mut self, raw: &[u8]) -> io::Result<&[u8]> {
        self.packed.clear();
        self.packed.reserve(compress_bound(raw.len()));
        self.compressor.compress_to_buffer(raw, &mut self.packed)?;
        Ok(&self.packed)
    }
}
