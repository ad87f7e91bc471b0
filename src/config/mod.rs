//! The whole configuration: gathers each module's own section, loads and checks it.
//!
//! [`Config::load`] reads a file in Prometheus's format and the files that it names, and gives either checked values
//! or every problem with its place. The sections of our own stand beside Prometheus's keys: `host_metrics`,
//! `shipped_rules`, `export`, `indicators`, `reports`.
//!
//! Invariants: a key that nobody knows is an error, and so is one that upstream knows and this version does not; a
//! relative path counts from the folder of the file that names it; what is loaded is whole or not at all.

mod expand;
mod export;
mod file;
mod global;
#[cfg(test)]
mod golden_tests;
mod storage;

pub use export::Export;
pub use file::{Config, LoadOptions, folder_of};
pub use global::GlobalSection;
pub use storage::StorageSettings;
