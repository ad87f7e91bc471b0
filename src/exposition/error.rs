//! Where a body is malformed.

/// A body that is no exposition of its format. Nothing after the place can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} (byte {offset}): {message}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// Bytes from the beginning of the body.
    pub offset: usize,
    pub message: String,
}

impl ParseError {
    /// An error at `offset` of `body`.
    pub(super) fn at(body: &[u8], offset: usize, message: impl Into<String>) -> Self {
        let offset = offset.min(body.len());
        let line = 1 + memchr::memchr_iter(b'\n', &body[..offset]).count();
        ParseError { line, offset, message: message.into() }
    }
}
