//! The optional parts of the language.

/// Which optional parts of the language are on; the names are Prometheus's `--enable-feature` values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    pub experimental_functions: bool,
    pub duration_expressions: bool,
    pub extended_range_selectors: bool,
    pub binop_fill_modifiers: bool,
    pub delayed_name_removal: bool,
    /// Queries may ask for samples by step.
    pub per_step_stats: bool,
    /// Rates and `resets` take the start times of samples into account.
    pub use_start_timestamps: bool,
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
        name: "promql-duration-expr",
        doc: "durations that are calculated: `[5m * 2]`, `step()`, `range()`, `min_of`, `max_of`",
        switch: |f| &mut f.duration_expressions,
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
        name: "use-start-timestamps",
        doc: "rates and `resets` take the start times of samples into account",
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
