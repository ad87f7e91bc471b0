//! Reading an answer without taking more memory than allowed.

use super::HttpError;

/// Appends the body of `response` to `into`, which may hold at most `limit` bytes then.
///
/// # Errors
/// When the connection breaks, or as soon as the body, or the length that it announces, is over the limit.
pub async fn read_body(
    response: &mut reqwest::Response,
    limit: usize,
    into: &mut Vec<u8>,
) -> Result<(), HttpError> {
    let announced = response.content_length().unwrap_or(0);
    let room = limit.saturating_sub(into.len());
    if usize::try_from(announced).is_ok_and(|n| n > room) {
        return Err(HttpError::TooLarge { limit });
    }
    // What is announced is not yet sent: room is made ahead for a moderate part of it only.
    into.reserve(usize::try_from(announced).unwrap_or(0).min(RESERVE_MAX));
    while let Some(chunk) = response.chunk().await? {
        if chunk.len() > limit.saturating_sub(into.len()) {
            return Err(HttpError::TooLarge { limit });
        }
        into.extend_from_slice(&chunk);
    }
    Ok(())
}

/// The most bytes of room that are made for a body before it arrives.
const RESERVE_MAX: usize = 4 << 20;
