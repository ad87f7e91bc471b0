//! The command line: one file per subcommand.
//!
//! `serve` is the default and may be left out; its flags are Prometheus's own ([`flags`]). A flag of Prometheus's that
//! means nothing here is taken out before ([`compat`]) and answered with one warning. What is left becomes
//! [`ServeOptions`], with which `app` starts.
//!
//! Exit codes: 0 done, 1 failed or found a problem, 2 wrong usage.

mod asked;
mod check;
mod compat;
mod fault;
mod flags;
mod options;
mod plan;
mod query;
mod run;
mod say;
mod serve;
mod show;
mod storage;
mod test;

pub use flags::MemoryLimit;
pub use options::ServeOptions;
pub use run::{Command, main, parse};
pub use serve::load;
