//! Lines on standard output.

use std::fmt::Arguments;
use std::io::{self, Write as _};

/// Prints a line. Whoever read the lines may have gone (`| head -1`), which is no reason to break off what is being done.
pub(super) fn say(line: Arguments<'_>) {
    let _nobody_reads = writeln!(io::stdout().lock(), "{line}");
}
