//! Knows bytes by 128 bits.

use std::hash::{BuildHasher, Hasher};

/// A hash wide enough to stand for the bytes: among 10^9 different ones, two meet with a chance below 10^-20.
pub(super) type WideHash = [u64; 2];

/// Two hashes with seeds of their own, drawn at random per process, so that no sender can aim for a collision.
#[derive(Clone, Debug, Default)]
pub(super) struct WideHasher {
    first: foldhash::fast::RandomState,
    second: foldhash::quality::RandomState,
}

impl WideHasher {
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> WideHash {
        let (mut a, mut b) = (self.first.build_hasher(), self.second.build_hasher());
        a.write(bytes);
        b.write(bytes);
        // The length tells apart what the hasher pads.
        [a.finish(), b.finish() ^ bytes.len() as u64]
    }
}
