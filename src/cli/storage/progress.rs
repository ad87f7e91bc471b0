//! A line on standard error that says how far the work is, if a person is looking.

use std::io::{IsTerminal, Write};

/// Parts of a thousand shown so far; drawn anew when that changes.
pub struct Progress {
    what: &'static str,
    shown: Option<u64>,
    is_terminal: bool,
}

impl Progress {
    pub fn new(what: &'static str) -> Self {
        Progress { what, shown: None, is_terminal: std::io::stderr().is_terminal() }
    }

    /// Says that `done` of `all` is done; an `all` of 0 means that nobody knows.
    pub fn at(&mut self, done: u64, all: u64) {
        if !self.is_terminal {
            return;
        }
        let part = done.min(all).saturating_mul(1000).checked_div(all);
        let now = part.unwrap_or(done >> 20);
        if self.shown == Some(now) {
            return;
        }
        self.shown = Some(now);
        let mut err = std::io::stderr().lock();
        let _nobody_looks = if all == 0 {
            write!(err, "\r\x1b[K{} {}", self.what, super::bytes(done))
        } else {
            let bar = "#".repeat((now / 25) as usize);
            write!(err, "\r\x1b[K{} [{bar:<40}] {:.1} %", self.what, now as f64 / 10.0)
        };
        let _nobody_looks = err.flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
