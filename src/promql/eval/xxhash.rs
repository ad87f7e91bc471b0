//! xxHash64, by which `limit_ratio` draws its lots: the same series are drawn as in Prometheus.
//!
//! Source: the xxHash specification, <https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>.

use crate::model::Labels;

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

fn round(acc: u64, lane: u64) -> u64 {
    acc.wrapping_add(lane.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |w, b| (w << 8) | u64::from(*b))
}

/// The hash of `bytes` with seed 0.
pub(super) fn xxh64(bytes: &[u8]) -> u64 {
    let mut rest = bytes;
    let mut h = if bytes.len() >= 32 {
        let mut acc = [P1.wrapping_add(P2), P2, 0, 0u64.wrapping_sub(P1)];
        while rest.len() >= 32 {
            for (i, a) in acc.iter_mut().enumerate() {
                *a = round(*a, word(&rest[i * 8..i * 8 + 8]));
            }
            rest = &rest[32..];
        }
        let rotated = [1, 7, 12, 18].iter().zip(acc).map(|(r, a)| a.rotate_left(*r));
        let merged = rotated.fold(0u64, u64::wrapping_add);
        acc.iter().fold(merged, |h, a| (h ^ round(0, *a)).wrapping_mul(P1).wrapping_add(P4))
    } else {
        P5
    };
    h = h.wrapping_add(bytes.len() as u64);
    while rest.len() >= 8 {
        h = (h ^ round(0, word(&rest[..8]))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
        rest = &rest[8..];
    }
    if rest.len() >= 4 {
        h = (h ^ word(&rest[..4]).wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        rest = &rest[4..];
    }
    for b in rest {
        h = (h ^ u64::from(*b).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    h = (h ^ (h >> 33)).wrapping_mul(P2);
    h = (h ^ (h >> 29)).wrapping_mul(P3);
    h ^ (h >> 32)
}

/// The hash of a label set as Prometheus packs it: each text behind its length (one byte, or 0xff and three bytes).
pub(super) fn label_hash(labels: &Labels) -> u64 {
    let mut packed = Vec::with_capacity(128);
    for (name, value) in labels.iter() {
        for text in [name, value] {
            if text.len() < 255 {
                packed.push(text.len() as u8);
            } else {
                packed.push(255);
                packed.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
            }
            packed.extend_from_slice(text.as_bytes());
        }
    }
    xxh64(&packed)
}

#[cfg(test)]
mod tests {
    use super::xxh64;

    #[test]
    fn known_answers() {
        assert_eq!(xxh64(b""), 0xEF46_DB37_51D8_E999);
        assert_eq!(xxh64(b"a"), 0xD24E_C4F1_A98C_6E5B);
        assert_eq!(xxh64(b"abc"), 0x44BC_2CF5_AD77_0999);
        assert_eq!(xxh64(b"Nobody inspects the spammish repetition"), 0xFBCE_A83C_8A37_8BF1);
    }
}
