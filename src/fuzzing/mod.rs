//! What the fuzz targets run: one plain function for each parser and codec that sees bytes from outside.
//!
//! `fuzz/fuzz_targets` hands them to libFuzzer; `tests/fuzz_seeds.rs` replays the committed seeds, and mutations of them,
//! on any toolchain. A function takes any bytes at all and panics only if it has found a bug: besides not panicking
//! where it must not, each holds the property of its part, such as that what is written reads back the same.
//!
//! Nothing else in the crate uses this.

mod engine;
mod formats;
mod language;

pub use crate::storage::fuzzing as storage;

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Of its file in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// The folder in `fuzz/seeds` that it starts from.
    pub seeds: &'static str,
    pub body: fn(&[u8]),
}

const fn target(name: &'static str, seeds: &'static str, body: fn(&[u8])) -> Target {
    Target { name, seeds, body }
}

/// All targets, ascending by name.
pub const TARGETS: &[Target] = &[
    target("block", "block", storage::block),
    target("chunk_floats", "chunk_floats", storage::floats),
    target("chunk_histograms", "chunk_histograms", storage::histograms),
    target("chunk_ints", "chunk_ints", storage::ints),
    target("chunk_open", "chunk_open", storage::open_chunk),
    target("duration", "duration", formats::duration),
    target("engine", "promql", engine::answers),
    target("exposition", "exposition", formats::exposition),
    target("index", "index", engine::index),
    target("parser", "promql", language::parser),
    target("postings", "postings", storage::postings),
    target("printer", "promql", language::printer),
    target("protobuf", "protobuf", formats::protobuf),
    target("regex", "regex", formats::regex),
    target("relabel", "relabel", formats::relabel),
    target("remote_write", "remote_write", formats::remote_write),
    target("remote_write_v2", "remote_write_v2", formats::remote_write_v2),
    target("rule_file", "rule_file", formats::rule_file),
    target("starts", "starts", storage::starts),
    target("template", "template", formats::template),
    target("wal", "wal", storage::wal),
];

/// Runs one target over one input.
///
/// # Panics
/// If there is no such target, or it has found a bug.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|t| t.name == name).expect("the target is in the table");
    (target.body)(input);
}
