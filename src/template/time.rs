//! Times and durations as Go's package time writes them.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike, Timelike, Utc};

use crate::model::Timestamp;

fn utc(t: Timestamp) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(t).unwrap_or_default()
}

/// As `time.Time` prints in UTC: `2015-06-23 13:19:44.128 +0000 UTC`.
pub(super) fn format_time(t: Timestamp) -> String {
    format_layout(t, "2006-01-02 15:04:05.999999999 -0700 MST")
}

/// As `time.Duration` prints: `1h1m1.5s`, `2ms`, `0s`.
pub(super) fn format_duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let u = ns.unsigned_abs();
    if u == 0 {
        return "0s".to_owned();
    }
    let decimal = |value: u64, unit: u64| {
        let (whole, mut rest) = (value / unit, format!("{:0w$}", value % unit, w = digits_of(unit)));
        while rest.ends_with('0') {
            rest.pop();
        }
        if rest.is_empty() { whole.to_string() } else { format!("{whole}.{rest}") }
    };
    if u < 1_000 {
        return format!("{sign}{u}ns");
    }
    if u < 1_000_000 {
        return format!("{sign}{}µs", decimal(u, 1_000));
    }
    if u < 1_000_000_000 {
        return format!("{sign}{}ms", decimal(u, 1_000_000));
    }
    const MINUTE: u64 = 60_000_000_000;
    let (hours, minutes, seconds) = (u / (60 * MINUTE), u / MINUTE % 60, u % MINUTE);
    let mut out = sign.to_owned();
    if hours > 0 {
        let _ = write!(out, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(out, "{minutes}m");
    }
    out + &decimal(seconds, 1_000_000_000) + "s"
}

fn digits_of(unit: u64) -> usize {
    unit.ilog10() as usize
}

/// The elements of a layout, longest first where one is the beginning of another.
const LAYOUT: [&str; 33] = [
    "January",
    "Jan",
    "Monday",
    "Mon",
    "MST",
    "2006",
    "-07:00:00",
    "-070000",
    "-07:00",
    "-0700",
    "-07",
    "Z07:00:00",
    "Z070000",
    "Z07:00",
    "Z0700",
    "Z07",
    "002",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "15",
    "PM",
    "pm",
    "__2",
    "_2",
    "1",
    "2",
    "3",
    "4",
    "5",
];

/// `Time.Format`: the reference time `Mon Jan 2 15:04:05 MST 2006` in `layout` becomes `t`, in UTC.
pub(super) fn format_layout(t: Timestamp, layout: &str) -> String {
    let time = utc(t);
    let nanos = time.nanosecond();
    let mut out = String::new();
    let mut rest = layout;
    'outer: while let Some(first) = rest.chars().next() {
        // A fraction follows a dot or comma: as many zeros (kept) or nines (trailing zeros cut).
        if first == '.' || first == ',' {
            let digit = rest.as_bytes().get(1).copied().unwrap_or(b' ');
            let run = rest.bytes().skip(1).take_while(|b| *b == digit).count();
            let ended = !rest.as_bytes().get(1 + run).is_some_and(u8::is_ascii_digit);
            if (digit == b'0' || digit == b'9') && ended && run <= 9 {
                let mut fraction = format!("{nanos:09}")[..run].to_owned();
                if digit == b'9' {
                    fraction.truncate(fraction.trim_end_matches('0').len());
                }
                if !fraction.is_empty() {
                    out.push(first);
                    out.push_str(&fraction);
                }
                rest = &rest[1 + run..];
                continue;
            }
        }
        for element in LAYOUT {
            let Some(after) = rest.strip_prefix(element) else { continue };
            // "Jan" is no element where it begins another word.
            if matches!(element, "Jan" | "Mon") && after.starts_with(|c: char| c.is_ascii_lowercase()) {
                continue;
            }
            push_element(&mut out, &time, element);
            rest = after;
            continue 'outer;
        }
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    out
}

fn push_element(out: &mut String, t: &DateTime<Utc>, element: &str) {
    let hour12 = t.hour12().1;
    let _ = match element {
        "January" => write!(out, "{}", t.format("%B")),
        "Jan" => write!(out, "{}", t.format("%b")),
        "Monday" => write!(out, "{}", t.format("%A")),
        "Mon" => write!(out, "{}", t.format("%a")),
        "MST" => write!(out, "UTC"),
        "2006" => write!(out, "{:04}", t.year()),
        "06" => write!(out, "{:02}", t.year().rem_euclid(100)),
        "002" => write!(out, "{:03}", t.ordinal()),
        "__2" => write!(out, "{:>3}", t.ordinal()),
        "01" => write!(out, "{:02}", t.month()),
        "1" => write!(out, "{}", t.month()),
        "02" => write!(out, "{:02}", t.day()),
        "_2" => write!(out, "{:>2}", t.day()),
        "2" => write!(out, "{}", t.day()),
        "15" => write!(out, "{:02}", t.hour()),
        "03" => write!(out, "{hour12:02}"),
        "3" => write!(out, "{hour12}"),
        "04" => write!(out, "{:02}", t.minute()),
        "4" => write!(out, "{}", t.minute()),
        "05" => write!(out, "{:02}", t.second()),
        "5" => write!(out, "{}", t.second()),
        "PM" => write!(out, "{}", if t.hour() < 12 { "AM" } else { "PM" }),
        "pm" => write!(out, "{}", if t.hour() < 12 { "am" } else { "pm" }),
        "-07:00:00" => write!(out, "+00:00:00"),
        "-070000" => write!(out, "+000000"),
        "-07:00" => write!(out, "+00:00"),
        "-0700" => write!(out, "+0000"),
        "-07" => write!(out, "+00"),
        _ => write!(out, "Z"),
    };
}

/// The methods of a time that templates use; `None` for any other.
pub(super) fn call_time(
    t: Timestamp,
    method: &str,
    args: &[super::Value],
) -> Option<Result<super::Value, String>> {
    use super::Value;
    let time = utc(t);
    let value = match (method, args) {
        ("Format", [Value::String(layout)]) => Value::str(format_layout(t, layout)),
        ("UTC" | "Local", []) => Value::Time(t),
        ("String", []) => Value::str(format_time(t)),
        ("Unix", []) => Value::Int(t.div_euclid(1000)),
        ("UnixMilli", []) => Value::Int(t),
        ("UnixNano", []) => Value::Int(t.saturating_mul(1_000_000)),
        ("Year", []) => Value::Int(i64::from(time.year())),
        ("Month", []) => Value::str(time.format("%B").to_string()),
        ("Day", []) => Value::Int(i64::from(time.day())),
        ("YearDay", []) => Value::Int(i64::from(time.ordinal())),
        ("Weekday", []) => Value::str(time.format("%A").to_string()),
        ("Hour", []) => Value::Int(i64::from(time.hour())),
        ("Minute", []) => Value::Int(i64::from(time.minute())),
        ("Second", []) => Value::Int(i64::from(time.second())),
        ("IsZero", []) => Value::Bool(false),
        ("Add", [Value::Duration(d)]) => Value::Time(t.saturating_add(d / 1_000_000)),
        ("Sub", [Value::Time(other)]) => Value::Duration(t.saturating_sub(*other).saturating_mul(1_000_000)),
        ("After", [Value::Time(other)]) => Value::Bool(t > *other),
        ("Before", [Value::Time(other)]) => Value::Bool(t < *other),
        ("Equal", [Value::Time(other)]) => Value::Bool(t == *other),
        (
            "Format" | "UTC" | "Local" | "String" | "Unix" | "UnixMilli" | "UnixNano" | "Year" | "Month"
            | "Day" | "YearDay" | "Weekday" | "Hour" | "Minute" | "Second" | "IsZero" | "Add" | "Sub"
            | "After" | "Before" | "Equal",
            _,
        ) => return Some(Err(format!("wrong arguments for {method}"))),
        _ => return None,
    };
    Some(Ok(value))
}

/// The methods of a duration that templates use; `None` for any other.
pub(super) fn call_duration(ns: i64, method: &str) -> Option<Result<super::Value, String>> {
    use super::Value;
    Some(Ok(match method {
        "Seconds" => Value::Float(ns as f64 / 1e9),
        "Minutes" => Value::Float(ns as f64 / 6e10),
        "Hours" => Value::Float(ns as f64 / 3.6e12),
        "Milliseconds" => Value::Int(ns / 1_000_000),
        "String" => Value::str(format_duration(ns)),
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations_print_as_in_go() {
        assert_eq!(format_time(1_435_065_584_128), "2015-06-23 13:19:44.128 +0000 UTC");
        assert_eq!(format_time(1_435_065_584_500), "2015-06-23 13:19:44.5 +0000 UTC");
        assert_eq!(format_time(1_435_065_584_000), "2015-06-23 13:19:44 +0000 UTC");
        for (ns, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (-1_500_000_000, "-1.5s"),
            (3_661_500_000_000, "1h1m1.5s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(format_duration(ns), text);
        }
    }

    #[test]
    fn layouts_name_the_reference_time() {
        let t = 1_435_065_584_128;
        for (layout, text) in [
            ("2006-01-02T15:04:05Z07:00", "2015-06-23T13:19:44Z"),
            ("Mon, 02 Jan 2006 3:04PM MST", "Tue, 23 Jun 2015 1:19PM UTC"),
            ("15:04:05.000", "13:19:44.128"),
            ("January _2", "June 23"),
            ("02.01.06 -0700", "23.06.15 +0000"),
        ] {
            assert_eq!(format_layout(t, layout), text);
        }
    }
}
