//! The optional parts of the language.

use super::{MAX_DEPTH, MAX_NESTING};

/// Which optional parts of the language are on; the names are Prometheus's `--enable-feature` values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    pub experimental_functions: bool,
    pub extended_range_selectors: bool,
    pub binop_fill_modifiers: bool,
    pub delayed_name_removal: bool,
    /// Queries may ask for samples by step.
    pub per_step_stats: bool,
    /// Rates and `resets` take the start times of samples into account.
    pub use_start_timestamps: bool,
    /// Whether a series counts is told by its label `__type__`, not by its name.
    pub type_and_unit_labels: bool,
    /// No part of the language, but a bound on it.
    pub depth: Depth,
    /// Another one.
    pub regexes: RegexMemory,
}

/// How many bytes the compiled regular expressions of one expression may take: `--query.max-regex-memory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegexMemory(pub u64);

impl Default for RegexMemory {
    fn default() -> Self {
        RegexMemory::DEFAULT
    }
}

impl RegexMemory {
    /// Room for the largest pattern that is compiled at all.
    pub const DEFAULT: RegexMemory = RegexMemory(64 << 20);

    /// Counts one more pattern; the reason if it is too much.
    ///
    /// # Errors
    /// When all that were counted take more than this.
    pub fn count(self, used: &mut u64, more: u64) -> Result<(), String> {
        *used += more;
        if *used <= self.0 {
            return Ok(());
        }
        let mib = self.0 >> 20;
        Err(format!(
            "the compiled regular expressions take more than {mib} MiB up to here; raise the limit with --query.max-regex-memory"
        ))
    }
}

/// How deep an expression may be: `--query.max-expression-depth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth(u16);

impl Default for Depth {
    fn default() -> Self {
        Depth::DEFAULT
    }
}

impl Depth {
    /// What holds unless something else is asked for.
    pub const DEFAULT: Depth = Depth(MAX_DEPTH as u16);

    /// The least and the most that can be asked for.
    pub const RANGE: std::ops::RangeInclusive<usize> = 4..=4_000;

    /// Stack for the usual depth, in bytes: what threads have unless they are told otherwise.
    const STACK_BYTES: usize = 2 << 20;

    /// `None` if it is out of [`Depth::RANGE`].
    #[must_use]
    pub fn new(levels: usize) -> Option<Self> {
        Depth::RANGE.contains(&levels).then_some(Depth(levels as u16))
    }

    /// How deep a tree may get; a chain of operators gets deeper by one with each.
    #[must_use]
    pub fn tree(self) -> usize {
        usize::from(self.0)
    }

    /// How many parentheses, calls and signs may stand within each other: the parser takes more stack for a level than
    /// those who walk the tree later.
    #[must_use]
    pub fn nesting(self) -> usize {
        (self.tree() * MAX_NESTING / MAX_DEPTH).max(1)
    }

    /// The stack that threads need which parse and evaluate such expressions, in bytes.
    #[must_use]
    pub fn stack_bytes(self) -> usize {
        (Self::STACK_BYTES * self.tree() / MAX_DEPTH).max(Self::STACK_BYTES)
    }
}

/// A feature: its name, what it allows, and its switch.
#[derive(Clone, Copy, Debug)]
pub struct FeatureSpec {
    /// Prometheus's name.
    pub name: &'static str,
    /// Without a full stop.
    pub doc: &'static str,
    switch: fn(&mut Features) -> &mut bool,
}

/// All features of the language, by name.
pub static FEATURES: &[FeatureSpec] = &[
    FeatureSpec {
        name: "promql-binop-fill-modifiers",
        doc: "`fill`, `fill_left` and `fill_right` behind operators",
        switch: |f| &mut f.binop_fill_modifiers,
    },
    FeatureSpec {
        name: "promql-delayed-name-removal",
        doc: "metric names are dropped at the end of the evaluation instead of in each function",
        switch: |f| &mut f.delayed_name_removal,
    },
    FeatureSpec {
        name: "promql-experimental-functions",
        doc: "the functions and aggregations marked †",
        switch: |f| &mut f.experimental_functions,
    },
    FeatureSpec {
        name: "promql-extended-range-selectors",
        doc: "`anchored` and `smoothed` behind selectors",
        switch: |f| &mut f.extended_range_selectors,
    },
    FeatureSpec {
        name: "promql-per-step-stats",
        doc: "`stats=all` counts the samples of each step",
        switch: |f| &mut f.per_step_stats,
    },
    FeatureSpec {
        name: "type-and-unit-labels",
        doc: "`rate` and `increase` ask the label `__type__` whether a series counts, not its name",
        switch: |f| &mut f.type_and_unit_labels,
    },
    FeatureSpec {
        name: "use-start-timestamps",
        doc: "rates and `resets` take the start times of samples into account, and `start_timestamp` shows them",
        switch: |f| &mut f.use_start_timestamps,
    },
];

impl Features {
    /// Everything on.
    #[must_use]
    pub fn all() -> Self {
        let mut features = Features::default();
        for feature in FEATURES {
            *(feature.switch)(&mut features) = true;
        }
        features
    }

    /// Turns on the feature that `--enable-feature` calls `name`; false if the language has none of that name.
    pub fn enable(&mut self, name: &str) -> bool {
        let Some(feature) = FEATURES.iter().find(|f| f.name == name) else { return false };
        *(feature.switch)(self) = true;
        true
    }

    /// Whether this feature is on.
    #[must_use]
    pub fn has(mut self, feature: &FeatureSpec) -> bool {
        *(feature.switch)(&mut self)
    }
}
