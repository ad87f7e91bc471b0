//! The patterns that were compiled last.
//!
//! Compiling `([^:]+):.*` takes a hundred microseconds, which is more than a small query takes otherwise.

use std::sync::{Mutex, PoisonError};

use super::{GoRegex, RegexError};

/// So many patterns are remembered.
const PATTERNS_MAX: usize = 32;
/// Longer patterns are not: they could be whole lists of hosts.
const PATTERN_BYTES_MAX: usize = 512;
/// Nor patterns whose engine takes more than this.
const ENGINE_BYTES_MAX: usize = 128 * 1024;

/// The one that was asked for last is the last.
static RECENT: Mutex<Vec<GoRegex>> = Mutex::new(Vec::new());

/// The compiled pattern, by `compile` if it is not remembered.
pub(super) fn anchored(
    pattern: &str,
    compile: impl FnOnce(&str) -> Result<GoRegex, RegexError>,
) -> Result<GoRegex, RegexError> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return compile(pattern);
    }
    {
        let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = recent.iter().rposition(|r| r.pattern() == pattern) {
            let found = recent.remove(at);
            recent.push(found.clone());
            return Ok(found);
        }
    }
    let compiled = compile(pattern)?;
    let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    // Some engines are made only when they are needed, so all are looked at again.
    recent.retain(|r| r.engine_bytes() <= ENGINE_BYTES_MAX && r.pattern() != pattern);
    if compiled.engine_bytes() <= ENGINE_BYTES_MAX {
        if recent.len() == PATTERNS_MAX {
            recent.remove(0);
        }
        recent.push(compiled.clone());
    }
    Ok(compiled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remembered_pattern_is_the_same_and_an_error_is_not_remembered() {
        let check = || GoRegex::anchored("recent-(a|b)[0-9]+").unwrap().is_match("recent-a17");
        assert!(check() && check());
        assert!(GoRegex::anchored("recent-(").is_err() && GoRegex::anchored("recent-(").is_err());
        for i in 0..2 * PATTERNS_MAX {
            let pattern = format!("recent-{i}x*");
            assert!(GoRegex::anchored(&pattern).unwrap().is_match(&format!("recent-{i}xx")));
        }
        assert!(RECENT.lock().unwrap().len() <= PATTERNS_MAX);
    }
}
