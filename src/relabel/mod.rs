//! Relabelling: a label set goes in, a label set or nothing comes out.
