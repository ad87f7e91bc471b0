//! Classes with names: `\d`, `[:alpha:]`, `\p{Greek}`.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

/// A class of these ranges.
pub(super) fn ranges(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(ranges.iter().map(|(a, b)| ClassUnicodeRange::new(*a, *b)))
}

/// The class behind a backslash: `d`, `s`, `w` and their opposites, ASCII only.
pub(super) fn perl(letter: char) -> Option<ClassUnicode> {
    let mut class = match letter.to_ascii_lowercase() {
        'd' => ranges(&[('0', '9')]),
        's' => ranges(&[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')]),
        'w' => ranges(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]),
        _ => return None,
    };
    if letter.is_ascii_uppercase() {
        class.negate();
    }
    Some(class)
}

/// The class of a name within `[:` and `:]`; a caret in front means the opposite.
pub(super) fn posix(name: &str) -> Option<ClassUnicode> {
    let (negated, name) = name.strip_prefix('^').map_or((false, name), |n| (true, n));
    let mut class = match name {
        "alnum" => ranges(&[('0', '9'), ('A', 'Z'), ('a', 'z')]),
        "alpha" => ranges(&[('A', 'Z'), ('a', 'z')]),
        "ascii" => ranges(&[('\0', '\x7f')]),
        "blank" => ranges(&[('\t', '\t'), (' ', ' ')]),
        "cntrl" => ranges(&[('\0', '\x1f'), ('\x7f', '\x7f')]),
        "digit" => ranges(&[('0', '9')]),
        "graph" => ranges(&[('!', '~')]),
        "lower" => ranges(&[('a', 'z')]),
        "print" => ranges(&[(' ', '~')]),
        "punct" => ranges(&[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]),
        "space" => ranges(&[('\t', '\r'), (' ', ' ')]),
        "upper" => ranges(&[('A', 'Z')]),
        "word" => ranges(&[('0', '9'), ('A', 'Z'), ('a', 'z'), ('_', '_')]),
        "xdigit" => ranges(&[('0', '9'), ('A', 'F'), ('a', 'f')]),
        _ => return None,
    };
    if negated {
        class.negate();
    }
    Some(class)
}

/// General categories of Unicode by their short and long names, as [`loose`] makes them.
const CATEGORIES: &str = "c other cc control cntrl cf format cn unassigned co privateuse cs surrogate \
     l letter lc casedletter ll lowercaseletter lm modifierletter lo otherletter lt titlecaseletter \
     lu uppercaseletter m mark combiningmark mc spacingmark me enclosingmark mn nonspacingmark \
     n number nd decimalnumber digit nl letternumber no othernumber p punctuation punct \
     pc connectorpunctuation pd dashpunctuation pe closepunctuation pf finalpunctuation \
     pi initialpunctuation po otherpunctuation ps openpunctuation s symbol sc currencysymbol \
     sk modifiersymbol sm mathsymbol so othersymbol z separator zl lineseparator zp paragraphseparator \
     zs spaceseparator any ascii assigned";

/// Scripts whose names have four letters, as the codes of all scripts have, which Go does not know.
const SHORT_SCRIPTS: [&str; 8] = ["ahom", "cham", "kawi", "lisu", "modi", "newa", "thai", "toto"];

/// A name as Go looks it up: without blanks, hyphens, underscores and capitals.
fn loose(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, ' ' | '-' | '_')).map(|c| c.to_ascii_lowercase()).collect()
}

/// The class of a Unicode category or script. Go (from 1.25 on) knows `Any`, `ASCII`, `Assigned`, the categories by both
/// of their names, and the scripts by their long one; it knows neither codes of scripts nor other properties.
pub(super) fn unicode(name: &str) -> Option<ClassUnicode> {
    let name = loose(name);
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase()) {
        return None;
    }
    let property = if CATEGORIES.split(' ').any(|c| c == name) {
        "gc"
    } else if name.starts_with("is") || (name.len() == 4 && !SHORT_SCRIPTS.contains(&name.as_str())) {
        return None;
    } else {
        "sc"
    };
    if matches!(name.as_str(), "cs" | "surrogate") {
        // No text has one.
        return Some(ranges(&[]));
    }
    let hir = regex_syntax::parse(&format!("\\p{{{property}={name}}}")).ok()?;
    match hir.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        _ => None,
    }
}
