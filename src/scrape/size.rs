//! Sizes such as `512MB`.

/// Units with their powers of 1024.
const UNITS: [(char, i32); 6] = [('K', 1), ('M', 2), ('G', 3), ('T', 4), ('P', 5), ('E', 6)];

/// Bytes of a size such as `512MB`, `1.5GiB` or `100B`; a unit is a power of 1024 and required, `0` alone is fine.
/// Source: alecthomas/units, `Base2Bytes`.
///
/// # Errors
/// When the text is no size, has no unit or does not fit.
pub fn parse_size(text: &str) -> Result<u64, String> {
    if text == "0" {
        return Ok(0);
    }
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| format!("not a valid size: {text:?}"))?;
    let prefix = unit.strip_suffix('B').ok_or_else(|| format!("a size needs a unit such as MB: {text:?}"))?;
    let prefix = prefix.strip_suffix('i').filter(|p| !p.is_empty()).unwrap_or(prefix);
    let power = match prefix {
        "" => 0,
        p => UNITS.iter().find(|(c, _)| p.chars().eq([*c])).map(|u| u.1).ok_or_else(|| {
            format!("unknown unit {unit:?} in {text:?}: it must be B, KB, MB, GB, TB, PB or EB")
        })?,
    };
    let bytes = number * 1024f64.powi(power);
    // 2^63: what Go's int64 holds, and far below where f64 is exact for whole units.
    if bytes < 9.3e18 { Ok(bytes as u64) } else { Err(format!("size out of range: {text:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_with_a_unit() {
        for (text, bytes) in
            [("0", 0), ("1B", 1), ("512MB", 512 << 20), ("1.5GB", 3 << 29), ("2KiB", 2048), ("1TB", 1 << 40)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "5", "MB", "5M", "5XB", "-1B", "1..5KB", "9EiBB", "99EB", "5 MB", "iB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
