//! Relabelling: a label set goes in, a label set or nothing comes out.
//!
//! [`RelabelConfig`] mirrors the YAML of one rule; [`resolve`] checks a list of them and compiles it to [`Rules`],
//! which is all that the rest of the program sees. Rules are applied in order, each to the result of the one before.
//!
//! Source: Prometheus `model/relabel` (actions, defaults, validation).

mod config;
mod md5;
mod rules;

#[cfg(test)]
pub(crate) use config::from_yaml;
pub use config::{RelabelConfig, resolve};
pub use rules::{Action, Rule, Rules};
