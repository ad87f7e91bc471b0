//! Go's text/template as alerts use it; the caller passes in the query function.
