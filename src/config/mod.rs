//! The whole configuration: gathers each module's own section, loads and checks it.
