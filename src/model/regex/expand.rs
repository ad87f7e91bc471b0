//! Go's `$1`, `${1}`, `$name`, `${name}` and `$$`.

use super::engine::Found;

/// Appends `template` with what the groups of a match in `text` captured. A name takes as many letters, digits and
/// underscores as there are, so that `$1x` is the group `1x`, which there is not; what no group captured is empty; a
/// `$` that begins nothing stays.
///
/// Source: Go's `regexp.Expand`.
pub(super) fn expand(template: &str, names: &[(String, usize)], text: &str, found: &Found, out: &mut String) {
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            out.push('$');
            rest = tail;
            continue;
        }
        let Some((name, tail)) = reference(rest) else {
            out.push('$');
            continue;
        };
        rest = tail;
        let span = match number(name) {
            Some(number) => found.group(number),
            // Of groups that share a name the first that captured anything counts.
            None => names.iter().filter(|(n, _)| n == name).find_map(|(_, i)| found.group(*i)),
        };
        out.push_str(span.map_or("", |s| &text[s]));
    }
    out.push_str(rest);
}

/// The name behind a `$`, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (inner, braces) = text.strip_prefix('{').map_or((text, false), |t| (t, true));
    let len = inner.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(inner.len());
    let (name, tail) = inner.split_at(len);
    let tail = if braces { tail.strip_prefix('}')? } else { tail };
    (!name.is_empty()).then_some((name, tail))
}

/// The number of a group, if the name is one.
fn number(name: &str) -> Option<usize> {
    if name.bytes().all(|b| b.is_ascii_digit()) { Some(name.parse().unwrap_or(usize::MAX)) } else { None }
}
