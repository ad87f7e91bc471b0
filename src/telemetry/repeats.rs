//! Lines that a lasting trouble would repeat without end.

/// What was said last is said again only after so long.
const AGAIN_MS: i64 = 60_000;
/// So much of a text tells it from another.
const TEXT_BYTES_MAX: usize = 200;

/// Decides which of the lines that one place writes go into the log: those that say something else than the last one,
/// numbers apart, and one a minute of those that do not.
#[derive(Debug, Default)]
pub struct Repeats {
    last: Option<(String, i64)>,
    held_back: u64,
}

impl Repeats {
    /// If `text` is to be said at `now` (ms): how many lines were held back since the last one.
    pub fn say(&mut self, text: &str, now: i64) -> Option<u64> {
        let shape: String = text.chars().filter(|c| !c.is_ascii_digit()).take(TEXT_BYTES_MAX).collect();
        // A clock that was set back must not silence it.
        let is_again =
            |(said, at): &(String, i64)| *said == shape && (*at..at.saturating_add(AGAIN_MS)).contains(&now);
        if self.last.as_ref().is_some_and(is_again) {
            self.held_back += 1;
            return None;
        }
        self.last = Some((shape, now));
        Some(std::mem::take(&mut self.held_back))
    }

    /// The trouble is over: whether it had been said. The next one is said at once.
    pub fn over(&mut self) -> bool {
        self.held_back = 0;
        self.last.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_trouble_is_said_once_a_minute_and_another_one_at_once() {
        let mut repeats = Repeats::default();
        let said: Vec<(i64, u64)> = (0..10)
            .filter_map(|i| Some((i, repeats.say(&format!("full: {} bytes are free", i * 100), i * 15_000)?)))
            .collect();
        assert_eq!(said, [(0, 0), (4, 3), (8, 3)]);
        assert_eq!(repeats.say("it cannot be read", 140_000), Some(1));
        assert_eq!(repeats.say("full: 7 bytes are free", 141_000), Some(0));
        assert_eq!(repeats.say("full: 7 bytes are free", 100), Some(0), "the clock was set back");
        assert!(repeats.over() && !repeats.over());
        assert_eq!(repeats.say("full: 7 bytes are free", 101), Some(0));
    }
}
