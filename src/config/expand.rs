//! Environment variables in external labels.

/// `text` with `$NAME` and `${NAME}` replaced by what `variable` gives for them, and `$$` by `$`. What is no name is
/// left out, as Go's `os.Expand` does.
pub(super) fn expand(text: &str, mut variable: impl FnMut(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (name, len) = name(rest);
        match name {
            Some("$") => out.push('$'),
            Some(name) => out.push_str(&variable(name)),
            // A dollar before what can be no name stays; one with a broken brace goes.
            None if len == 0 => out.push('$'),
            None => {}
        }
        rest = &rest[len..];
    }
    out + rest
}

/// The name at the beginning of what follows a dollar, and how many bytes it takes.
fn name(rest: &str) -> (Option<&str>, usize) {
    let special = |b: u8| b"*#$@!?-0123456789".contains(&b);
    let word = |b: u8| b == b'_' || b.is_ascii_alphanumeric();
    let bytes = rest.as_bytes();
    match bytes.first() {
        Some(b'{') => match rest.find('}') {
            Some(1) => (None, 2),
            Some(end) => (Some(&rest[1..end]), end + 1),
            None => (None, 1),
        },
        Some(b) if special(*b) => (Some(&rest[..1]), 1),
        _ => match bytes.iter().take_while(|b| word(**b)).count() {
            0 => (None, 0),
            n => (Some(&rest[..n]), n),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_as_go_does() {
        let variable = |name: &str| if name == "HOST" { "h1".to_owned() } else { String::new() };
        for (text, expected) in [
            ("plain", "plain"),
            ("$HOST", "h1"),
            ("${HOST}.x", "h1.x"),
            ("a-$HOST-b", "a-h1-b"),
            ("$HOSTS", ""),
            ("$$HOST", "$HOST"),
            ("${NONE}x", "x"),
            ("5$", "5$"),
            ("$ x", "$ x"),
            ("${}x", "x"),
            ("${x", "x"),
            ("$1x", "x"),
        ] {
            assert_eq!(expand(text, variable), expected, "{text}");
        }
    }
}
