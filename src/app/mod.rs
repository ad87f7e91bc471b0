//! Setup, reload and lifecycle: builds the parts, connects them, stops them in reverse.
