//! Runs Prometheus's `.test` scripts: data is loaded in a small notation, expressions are evaluated over it, and what
//! they give is compared.
//!
//! `script` cuts a text into commands, `points` reads the notation of samples, `load` keeps what a script has loaded
//! and puts it into a storage, `compare` says how an answer differs, `variants` asks again in other words, `run` goes through it all.
//!
//! Source: the format of Prometheus's `promql/promqltest`.

mod compare;
mod load;
mod points;
mod run;
mod script;
mod variants;

pub use run::{Summary, run, run_thoroughly};
