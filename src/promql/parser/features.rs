//! The optional parts of the language.

/// Which optional parts of the language are on; the names are Prometheus's `--enable-feature` values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    pub experimental_functions: bool,
    pub duration_expressions: bool,
    pub extended_range_selectors: bool,
    pub binop_fill_modifiers: bool,
    pub delayed_name_removal: bool,
    /// Rates and `resets` take the start times of samples into account.
    pub use_start_timestamps: bool,
}

impl Features {
    /// Everything on.
    #[must_use]
    pub fn all() -> Self {
        Features {
            experimental_functions: true,
            duration_expressions: true,
            extended_range_selectors: true,
            binop_fill_modifiers: true,
            delayed_name_removal: true,
            use_start_timestamps: true,
        }
    }

    /// Turns on the feature that `--enable-feature` calls `name`; false if the language has none of that name.
    pub fn enable(&mut self, name: &str) -> bool {
        let flag = match name {
            "promql-experimental-functions" => &mut self.experimental_functions,
            "promql-duration-expr" => &mut self.duration_expressions,
            "promql-extended-range-selectors" => &mut self.extended_range_selectors,
            "promql-binop-fill-modifiers" => &mut self.binop_fill_modifiers,
            "promql-delayed-name-removal" => &mut self.delayed_name_removal,
            "use-start-timestamps" => &mut self.use_start_timestamps,
            _ => return false,
        };
        *flag = true;
        true
    }
}
