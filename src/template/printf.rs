//! Go's `fmt.Sprintf` and `fmt.Sprint`.

use std::fmt::Write as _;

use super::number;
use super::value::Value;

/// The largest width or precision; Go has the same.
const WIDTH_MAX: i64 = 1_000_000;

#[derive(Clone, Copy, Default)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// `fmt.Sprint`: a space between two operands when neither is a string.
pub(super) fn sprint(args: &[Value]) -> String {
    let mut out = String::new();
    let mut before_was_string = true;
    for (i, arg) in args.iter().enumerate() {
        let is_string = matches!(arg, Value::String(_));
        if i > 0 && !is_string && !before_was_string {
            out.push(' ');
        }
        arg.print(&mut out);
        before_was_string = is_string;
    }
    out
}

/// `fmt.Sprintln`: spaces between all operands, and a newline.
pub(super) fn sprintln(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, arg) in args.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        arg.print(&mut out);
    }
    out.push('\n');
    out
}

/// `fmt.Sprintf`. What does not fit is written into the text as Go does (`%!d(string=x)`), never an error; only a
/// text longer than `bytes_max` is one.
pub(super) fn sprintf(format: &str, args: &[Value], bytes_max: usize) -> Result<String, String> {
    let mut out = String::new();
    let mut next = 0usize;
    let mut reordered = false;
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if out.len() > bytes_max {
            return Err(format!("the text grows longer than {bytes_max} bytes"));
        }
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(c) = chars.peek() {
            match c {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                '0' => flags.zero = true,
                _ => break,
            }
            chars.next();
        }
        let mut good_index = true;
        argument_index(&mut chars, &mut next, &mut reordered, &mut good_index, args.len());
        if chars.peek() == Some(&'*') {
            chars.next();
            match star(args, &mut next) {
                Some(w) => {
                    flags.minus |= w < 0;
                    flags.width = Some(w.unsigned_abs() as usize);
                }
                None => out.push_str("%!(BADWIDTH)"),
            }
        } else if let Some(w) = digits(&mut chars) {
            flags.width = Some(w);
        }
        if chars.peek() == Some(&'.') {
            chars.next();
            argument_index(&mut chars, &mut next, &mut reordered, &mut good_index, args.len());
            if chars.peek() == Some(&'*') {
                chars.next();
                match star(args, &mut next) {
                    Some(p) if p >= 0 => flags.precision = Some(p as usize),
                    _ => out.push_str("%!(BADPREC)"),
                }
            } else {
                flags.precision = Some(digits(&mut chars).unwrap_or(0));
            }
        }
        argument_index(&mut chars, &mut next, &mut reordered, &mut good_index, args.len());
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if flags.width.max(flags.precision).is_some_and(|w| w > bytes_max) {
            return Err(format!("the text grows longer than {bytes_max} bytes"));
        }
        if verb == '%' {
            out.push('%');
            continue;
        }
        if !good_index {
            let _ = write!(out, "%!{verb}(BADINDEX)");
            continue;
        }
        match args.get(next) {
            None => {
                let _ = write!(out, "%!{verb}(MISSING)");
            }
            Some(arg) => {
                next += 1;
                print_arg(&mut out, arg, verb, flags);
            }
        }
    }
    if !reordered && next < args.len() {
        out.push_str("%!(EXTRA ");
        for (i, arg) in args[next..].iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            match arg {
                Value::Nil => out.push_str("<nil>"),
                arg => {
                    let _ = write!(out, "{}=", arg.type_name());
                    arg.print(&mut out);
                }
            }
        }
        out.push(')');
    }
    Ok(out)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn digits(chars: &mut Chars<'_>) -> Option<usize> {
    let mut value: Option<usize> = None;
    while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        value = Some(value.unwrap_or(0).saturating_mul(10).saturating_add(d as usize));
    }
    value
}

fn star(args: &[Value], next: &mut usize) -> Option<i64> {
    let value = args.get(*next);
    *next += usize::from(value.is_some());
    match value {
        Some(Value::Int(i)) if i.abs() <= WIDTH_MAX => Some(*i),
        _ => None,
    }
}

/// `[n]`: the next operand is the n-th.
fn argument_index(
    chars: &mut Chars<'_>,
    next: &mut usize,
    reordered: &mut bool,
    good: &mut bool,
    count: usize,
) {
    if chars.peek() != Some(&'[') {
        return;
    }
    *reordered = true;
    chars.next();
    let n = digits(chars);
    let closed = chars.peek() == Some(&']');
    if closed {
        chars.next();
    }
    match n {
        Some(n) if closed && (1..=count).contains(&n) => *next = n - 1,
        _ => *good = false,
    }
}

fn print_arg(out: &mut String, arg: &Value, verb: char, flags: Flags) {
    if verb == 'T' {
        pad(out, &arg.type_name(), flags);
        return;
    }
    let text = match (arg, verb) {
        (Value::Nil, 'v') => "<nil>".to_owned(),
        (Value::Bool(b), 't' | 'v') => b.to_string(),
        (Value::Int(i), _) => return integer(out, *i, verb, flags),
        (Value::Float(f), 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'v') => return float(out, *f, verb, flags),
        (Value::Labels(_) | Value::Map(_), 'v' | 's') => arg.to_text(),
        (Value::List(list), verb) => {
            out.push('[');
            for (i, v) in list.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                print_arg(out, v, verb, flags);
            }
            out.push(']');
            return;
        }
        (Value::Duration(d), 'd') => return integer(out, *d, 'd', flags),
        (
            Value::String(_) | Value::Time(_) | Value::Duration(_) | Value::Object(_),
            'v' | 's' | 'q' | 'x' | 'X',
        ) => {
            let text = arg.to_text();
            match verb {
                'q' | 'v' if verb == 'q' || flags.sharp => quote(&truncate(&text, flags)),
                'x' | 'X' => hex(&truncate_bytes(&text, flags), verb, flags),
                _ => truncate(&text, flags),
            }
        }
        _ => return bad_verb(out, arg, verb, flags),
    };
    pad(out, &text, flags);
}

/// What Go writes for a verb that does not fit: the value is printed with the flags.
fn bad_verb(out: &mut String, arg: &Value, verb: char, flags: Flags) {
    if matches!(arg, Value::Nil) {
        let _ = write!(out, "%!{verb}(<nil>)");
        return;
    }
    let _ = write!(out, "%!{verb}({}=", arg.type_name());
    print_arg(out, arg, 'v', flags);
    out.push(')');
}

fn truncate(text: &str, flags: Flags) -> String {
    match flags.precision {
        Some(p) => text.chars().take(p).collect(),
        None => text.to_owned(),
    }
}

fn truncate_bytes(text: &str, flags: Flags) -> Vec<u8> {
    text.bytes().take(flags.precision.unwrap_or(usize::MAX)).collect()
}

fn hex(bytes: &[u8], verb: char, flags: Flags) -> String {
    let mut out = String::new();
    for (i, b) in bytes.iter().enumerate() {
        if flags.space && i > 0 {
            out.push(' ');
        }
        if flags.sharp && (i == 0 || flags.space) {
            out.push('0');
            out.push(verb);
        }
        let _ = if verb == 'x' { write!(out, "{b:02x}") } else { write!(out, "{b:02X}") };
    }
    out
}

/// Go's `strconv.Quote`.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if u32::from(c) < 0x20 || u32::from(c) == 0x7f => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn pad(out: &mut String, text: &str, flags: Flags) {
    let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    if flags.minus {
        out.push_str(text);
        out.extend(std::iter::repeat_n(' ', missing));
    } else {
        out.extend(std::iter::repeat_n(if flags.zero { '0' } else { ' ' }, missing));
        out.push_str(text);
    }
}

/// Pads a number: zeros go between the sign and the digits.
fn pad_number(out: &mut String, sign: &str, digits: &str, flags: Flags, zero: bool) {
    let missing = flags.width.unwrap_or(0).saturating_sub(sign.len() + digits.chars().count());
    if zero && flags.zero && !flags.minus {
        out.push_str(sign);
        out.extend(std::iter::repeat_n('0', missing));
        out.push_str(digits);
        return;
    }
    pad(out, &format!("{sign}{digits}"), Flags { zero: false, ..flags });
}

fn sign_of(negative: bool, flags: Flags) -> &'static str {
    match (negative, flags.plus, flags.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    }
}

fn integer(out: &mut String, i: i64, verb: char, flags: Flags) {
    let u = i.unsigned_abs();
    let (digits, prefix) = match verb {
        'd' | 'v' => (u.to_string(), ""),
        'b' => (format!("{u:b}"), "0b"),
        'o' => (format!("{u:o}"), "0"),
        'O' => (format!("{u:o}"), ""),
        'x' => (format!("{u:x}"), "0x"),
        'X' => (format!("{u:X}"), "0X"),
        'c' | 'q' | 'U' => {
            let c = u32::try_from(i).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
            let text = match verb {
                'c' => c.to_string(),
                'U' if flags.sharp => format!("U+{i:04X} '{c}'"),
                'U' => format!("U+{i:04X}"),
                _ => {
                    let quoted = quote(&c.to_string());
                    format!("'{}'", quoted[1..quoted.len() - 1].replace("\\\"", "\"").replace('\'', "\\'"))
                }
            };
            pad(out, &text, Flags { zero: false, ..flags });
            return;
        }
        _ => return bad_verb(out, &Value::Int(i), verb, flags),
    };
    let mut digits = match flags.precision {
        Some(p) if digits.len() < p => format!("{}{digits}", "0".repeat(p - digits.len())),
        _ => digits,
    };
    let mut sign = sign_of(i < 0, flags).to_owned();
    if flags.sharp {
        sign.push_str(prefix);
    }
    if verb == 'O' {
        sign.push_str("0o");
    }
    if flags.precision == Some(0) && i == 0 {
        digits.clear();
    }
    pad_number(out, &sign, &digits, flags, flags.precision.is_none());
}

fn float(out: &mut String, f: f64, verb: char, flags: Flags) {
    let (go_verb, precision) = match verb {
        'v' | 'g' | 'G' => (if verb == 'v' { 'g' } else { verb }, flags.precision),
        _ => (verb, Some(flags.precision.unwrap_or(6))),
    };
    let text = number::format(f, go_verb, precision);
    let digits = text.trim_start_matches(['-', '+']);
    // Go writes +Inf with its sign only when asked for, or by %v.
    let sign =
        if f.is_infinite() && f > 0.0 && verb == 'v' { "+" } else { sign_of(text.starts_with('-'), flags) };
    pad_number(out, sign, digits, flags, f.is_finite());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_go_does() {
        let s = |text: &str| Value::str(text);
        for (format, args, expected) in [
            ("%v|%5s|%-5s|%q", vec![s("a"), s("b"), s("c"), s("d\"")], "a|    b|c    |\"d\\\"\""),
            (
                "%d %5d|%-5d|%05d %+d %x",
                vec![1.into(), 2.into(), 3.into(), 4.into(), 5.into(), 255.into()],
                "1     2|3    |00004 +5 ff",
            ),
            ("%06.1f %.2f %8.3f|", vec![6.25.into(), 6.25.into(), 1.5.into()], "0006.2 6.25    1.500|"),
            (
                "%d %s %z %v",
                vec![s("x"), 3.5.into(), 1.into()],
                "%!d(string=x) %!s(float64=3.5) %!z(int=1) %!v(MISSING)",
            ),
            ("%d", vec![1.into(), 2.into()], "1%!(EXTRA int=2)"),
            ("%[2]d %[1]d %*d", vec![1.into(), 2.into()], "2 1 %!d(MISSING)"),
            ("100%% %", vec![], "100% %!(NOVERB)"),
            (
                "%t %T %T",
                vec![Value::Bool(true), 1.0.into(), Value::Labels(Default::default())],
                "true float64 map[string]string",
            ),
            ("%.3s|%x|% x|%#x", vec![s("abcdef"), s("hi"), s("hi"), 255.into()], "abc|6869|68 69|0xff"),
            (
                "%e %g %G %5.1f%%",
                vec![1234.5.into(), 1e7.into(), 1e-7.into(), 2.0.into()],
                "1.234500e+03 1e+07 1E-07   2.0%",
            ),
            ("%v %s", vec![Value::Nil, Value::Nil], "<nil> %!s(<nil>)"),
        ] {
            assert_eq!(sprintf(format, &args, 1000).unwrap(), expected, "{format}");
        }
        assert!(sprintf("%999999d", &[1.into()], 1000).is_err());
    }

    #[test]
    fn sprint_puts_spaces_between_what_is_no_string() {
        assert_eq!(sprint(&[1.into(), Value::str("a"), 2.into(), 3.into()]), "1a2 3");
        assert_eq!(sprintln(&[Value::str("a"), 1.into()]), "a 1\n");
    }
}
