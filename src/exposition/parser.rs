//! Parses a body line by line into entries that borrow from it.
//!
//! Both formats share their shape and differ in strictness: text allows blanks nearly everywhere and blank lines,
//! OpenMetrics exactly one space, a known set of comments, and `# EOF` at the end. A quoted label value may hold a
//! raw newline in text, so lines cannot be found by splitting.
//!
//! Source: Prometheus `model/textparse` (the observable grammar), the OpenMetrics 1.0 specification.

use std::borrow::Cow;
use std::ops::Range;

use super::error::ParseError;
use super::format::Format;
use super::number::{decimal_prefix, parse_float};
use crate::model::{METRIC_NAME, MetricType, Timestamp};

/// One line of a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a> {
    Type {
        family: Cow<'a, str>,
        metric_type: MetricType,
    },
    Help {
        family: Cow<'a, str>,
        text: Cow<'a, str>,
    },
    Unit {
        family: Cow<'a, str>,
        unit: &'a str,
    },
    Comment,
    /// [`Parser::labels`] gives its labels.
    Sample(Sample<'a>),
}

/// A sample's line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// Name and braces as they stand in the body: equal bytes mean equal labels.
    pub series: &'a [u8],
    pub value: f64,
    /// In ms, if the line states one.
    pub ts: Option<Timestamp>,
    pub exemplar: Option<Exemplar<'a>>,
}

/// An exemplar: its labels as they stand between the braces, checked but not decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar<'a> {
    pub labels: &'a [u8],
    pub value: f64,
    /// In ms.
    pub ts: Option<Timestamp>,
}

impl Exemplar<'_> {
    /// The labels, decoded; names may come twice, values be empty.
    #[must_use]
    pub fn label_pairs(&self) -> Vec<(String, String)> {
        let mut body = self.labels.to_vec();
        body.push(b'}');
        let mut parser = Parser::new(Format::OpenMetrics, &body);
        // They were read once already.
        if parser.label_pairs(true).is_err() {
            return Vec::new();
        }
        let owned = |p: &Piece| parser.text(p).into_owned();
        parser.pairs.iter().map(|(n, v)| (owned(n), owned(v))).collect()
    }
}

/// A piece of the body, and whether it has backslashes that stand for something.
#[derive(Clone, Debug, Default)]
struct Piece {
    range: Range<usize>,
    escaped: bool,
}

/// Walks over a body. After an error it must not be asked again.
#[derive(Debug)]
pub struct Parser<'a> {
    body: &'a [u8],
    pos: usize,
    openmetrics: bool,
    /// The last sample's name; `None` before one is seen.
    name: Option<Piece>,
    /// Names and values of the last sample's labels.
    pairs: Vec<(Piece, Piece)>,
}

impl<'a> Parser<'a> {
    #[must_use]
    pub fn new(format: Format, body: &'a [u8]) -> Self {
        Parser { body, pos: 0, openmetrics: format.is_openmetrics(), name: None, pairs: Vec::new() }
    }

    /// Where the next entry begins.
    #[must_use]
    pub fn position(&self) -> usize {
        self.pos
    }

    /// What is not read yet.
    #[inline]
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        &self.body[self.pos..]
    }

    /// The line that ends at the position, from `begin` on, without leading blanks and its end.
    #[must_use]
    pub fn line_since(&self, begin: usize) -> &'a [u8] {
        let line = self.body.get(begin..self.pos).unwrap_or(&[]);
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let blanks = line.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n')).count();
        &line[blanks..]
    }

    /// Goes back to where an entry began.
    pub fn seek(&mut self, position: usize) {
        self.pos = position.min(self.body.len());
    }

    /// An error at the next entry, for what the caller finds wrong.
    #[must_use]
    pub fn error_here(&self, message: impl Into<String>) -> ParseError {
        ParseError::at(self.body, self.pos, message)
    }

    /// An error at a byte of the body, for what the caller finds wrong.
    #[must_use]
    pub fn error_at(&self, offset: usize, message: impl Into<String>) -> ParseError {
        ParseError::at(self.body, offset, message)
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// Where the body leaves the format's grammar.
    #[allow(clippy::should_implement_trait, reason = "entries borrow from the body, and errors end the walk")]
    pub fn next(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        if self.openmetrics { self.next_openmetrics() } else { self.next_text() }
    }

    /// Reads value and timestamp of a sample whose series is known to be the next `len` bytes. `None` leaves all as
    /// it was: then the line is of a kind that [`Parser::next`] has to look at. The benchmark is `exposition_text`.
    #[inline]
    pub fn sample_after_series(&mut self, len: usize) -> Option<(f64, Option<Timestamp>)> {
        let rest = self.body.get(self.pos + len..)?;
        if *rest.first()? != b' ' {
            return None;
        }
        let (value, digits) = decimal_prefix(&rest[1..])?;
        let end = 1 + digits;
        match rest.get(end) {
            Some(b'\n') => {
                self.pos += len + end + 1;
                Some((value, None))
            }
            Some(b' ') if !self.openmetrics => {
                let stamp = rest[end + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
                let after = end + 1 + stamp;
                if stamp == 0 || stamp > 18 || rest.get(after) != Some(&b'\n') {
                    return None;
                }
                let ts = rest[end + 1..after].iter().fold(0i64, |n, b| n * 10 + i64::from(b - b'0'));
                self.pos += len + after + 1;
                Some((value, Some(ts)))
            }
            _ => None,
        }
    }

    /// Steps over `len` bytes and the line's end, if that is what follows: for a comment known from before.
    #[inline]
    pub fn skip_line(&mut self, len: usize) -> bool {
        let known = self.body.get(self.pos + len) == Some(&b'\n');
        if known {
            self.pos += len + 1;
        }
        known
    }

    /// The labels of the last sample as they are written, `__name__` first; names may come twice, values be empty.
    #[must_use]
    pub fn labels(&self) -> SampleLabels<'a, '_> {
        SampleLabels { parser: self, at: 0 }
    }

    // --- text ---

    fn next_text(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n')) {
            self.pos += 1;
        }
        match self.peek() {
            None => Ok(None),
            Some(b'#') => self.comment_text().map(Some),
            Some(_) => self.sample_text().map(Some),
        }
    }

    fn comment_text(&mut self) -> Result<Entry<'a>, ParseError> {
        self.pos += 1;
        let begin = self.pos;
        self.skip_blanks();
        let keyword = &self.body[self.pos..];
        let is_help = keyword.starts_with(b"HELP");
        let states = self.pos > begin
            && (is_help || keyword.starts_with(b"TYPE"))
            && matches!(keyword.get(4), Some(b' ' | b'\t'));
        if !states {
            let line = self.line();
            self.pos += line.len() + 1;
            self.pos = self.pos.min(self.body.len());
            return Ok(Entry::Comment);
        }
        self.pos += 4;
        self.skip_blanks();
        let family = self.family(if is_help { "HELP" } else { "TYPE" })?;
        let at = self.pos;
        let line = self.line();
        self.pos = (at + line.len() + 1).min(self.body.len());
        let text = line.get(1..).unwrap_or(&[]);
        if is_help {
            return Ok(Entry::Help { family, text: self.help_text(text, at)? });
        }
        let metric_type = match text {
            b"counter" => MetricType::Counter,
            b"gauge" => MetricType::Gauge,
            b"histogram" => MetricType::Histogram,
            b"summary" => MetricType::Summary,
            b"untyped" => MetricType::Unknown,
            _ => return Err(self.invalid_type(text, at)),
        };
        Ok(Entry::Type { family, metric_type })
    }

    fn sample_text(&mut self) -> Result<Entry<'a>, ParseError> {
        let begin = self.pos;
        self.begin_sample();
        self.metric_name()?;
        let mut end = self.pos;
        self.skip_blanks();
        if self.peek() == Some(b'{') {
            self.pos += 1;
            self.label_pairs(false)?;
            end = self.pos;
            self.skip_blanks();
        }
        self.check_named(begin)?;
        let value = self.take_while(|b| !matches!(b, b'{' | b' ' | b'\t' | b'\n'));
        let value = self.value(value, "metric")?;
        self.skip_blanks();
        let mut ts = None;
        if self.peek().is_some_and(|b| b.is_ascii_digit()) {
            let digits = self.take_while(|b| b.is_ascii_digit());
            let parsed =
                digits.iter().try_fold(0i64, |n, b| n.checked_mul(10)?.checked_add(i64::from(b - b'0')));
            ts =
                Some(parsed.ok_or_else(|| self.error_at(self.pos - digits.len(), "timestamp out of range"))?);
            self.skip_blanks();
        }
        match self.peek() {
            None => {}
            Some(b'\n') => self.pos += 1,
            Some(_) if ts.is_some() => return Err(self.unexpected("the end of the line after the timestamp")),
            Some(_) => return Err(self.unexpected("a timestamp or the end of the line")),
        }
        Ok(Entry::Sample(Sample { series: &self.body[begin..end], value, ts, exemplar: None }))
    }

    // --- OpenMetrics ---

    fn next_openmetrics(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        match self.peek() {
            None => Err(self.error_here("data does not end with # EOF")),
            Some(b'#') => self.comment_openmetrics(),
            Some(_) => self.sample_openmetrics().map(Some),
        }
    }

    fn comment_openmetrics(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        let rest = self.rest();
        if let Some(after) = rest.strip_prefix(b"# EOF") {
            self.pos = self.body.len() - after.len();
            if after.is_empty() || after == b"\n" {
                self.pos = self.body.len();
                return Ok(None);
            }
            return Err(self.error_here("unexpected data after # EOF"));
        }
        let keyword = ["HELP", "TYPE", "UNIT"].into_iter().find(|k| {
            rest.strip_prefix(b"# ")
                .and_then(|r| r.strip_prefix(k.as_bytes()))
                .is_some_and(|r| r.first() == Some(&b' '))
        });
        let Some(keyword) = keyword else {
            return Err(self.unexpected("a sample, HELP, TYPE, UNIT or EOF"));
        };
        self.pos += "# HELP ".len();
        let name_at = self.pos;
        let family = self.family(keyword)?;
        let name_end = self.pos - usize::from(self.body[name_at] == b'"');
        let at = self.pos;
        let line = self.line();
        if line.first() != Some(&b' ') || self.body.get(at + line.len()) != Some(&b'\n') {
            return Err(self.error_here(format!("expected text in {keyword}")));
        }
        self.pos = at + line.len() + 1;
        let text = &line[1..];
        Ok(Some(match keyword {
            "HELP" => Entry::Help { family, text: self.help_text(text, at)? },
            "TYPE" => {
                let metric_type = match text {
                    b"counter" => MetricType::Counter,
                    b"gauge" => MetricType::Gauge,
                    b"histogram" => MetricType::Histogram,
                    b"gaugehistogram" => MetricType::GaugeHistogram,
                    b"summary" => MetricType::Summary,
                    b"info" => MetricType::Info,
                    b"stateset" => MetricType::StateSet,
                    b"unknown" => MetricType::Unknown,
                    _ => return Err(self.invalid_type(text, at)),
                };
                Entry::Type { family, metric_type }
            }
            _ => {
                let name = &self.body[name_at..name_end];
                let unit =
                    std::str::from_utf8(text).map_err(|_| self.error_at(at, "unit is not valid UTF-8"))?;
                let suffixes = name.strip_suffix(text).is_some_and(|n| n.ends_with(b"_"));
                if !unit.is_empty() && !suffixes {
                    let message = format!("unit {unit:?} not a suffix of metric {family:?}");
                    return Err(self.error_at(at, message));
                }
                Entry::Unit { family, unit }
            }
        }))
    }

    fn sample_openmetrics(&mut self) -> Result<Entry<'a>, ParseError> {
        let begin = self.pos;
        self.begin_sample();
        self.metric_name()?;
        if self.peek() == Some(b'{') {
            self.pos += 1;
            self.label_pairs(false)?;
        }
        self.check_named(begin)?;
        let series = &self.body[begin..self.pos];
        let value = self.field().ok_or_else(|| self.unexpected("a value after the metric"))?;
        let value = self.value(value, "metric")?;
        let mut ts = None;
        if !self.at_exemplar()
            && let Some(token) = self.field()
        {
            ts = Some(self.seconds(token, "timestamp")?);
        }
        let mut exemplar = None;
        if self.at_exemplar() {
            self.pos += " # {".len();
            let begin = self.pos;
            let (name, own) = (self.name.take(), std::mem::take(&mut self.pairs));
            let checked = self.label_pairs(true);
            (self.name, self.pairs) = (name, own);
            checked?;
            let labels = &self.body[begin..self.pos - 1];
            let value = self.field().ok_or_else(|| self.unexpected("a value after the exemplar's labels"))?;
            let value = self.value(value, "exemplar")?;
            let stamp = match self.field() {
                Some(token) => Some(self.seconds(token, "exemplar timestamp")?),
                None => None,
            };
            exemplar = Some(Exemplar { labels, value, ts: stamp });
        }
        match self.peek() {
            Some(b'\n') => self.pos += 1,
            None => return Err(self.error_here("data does not end with # EOF")),
            Some(_) => return Err(self.unexpected("the end of the line")),
        }
        Ok(Entry::Sample(Sample { series, value, ts, exemplar }))
    }

    /// A space and the token after it; `None`, with nothing read, if there is no such thing.
    fn field(&mut self) -> Option<&'a [u8]> {
        if self.peek() != Some(b' ') || matches!(self.body.get(self.pos + 1), None | Some(b' ' | b'\n')) {
            return None;
        }
        self.pos += 1;
        Some(self.take_while(|b| !matches!(b, b' ' | b'\n')))
    }

    fn at_exemplar(&self) -> bool {
        self.rest().starts_with(b" # {")
    }

    /// Seconds as a float, in ms.
    fn seconds(&self, token: &[u8], what: &str) -> Result<Timestamp, ParseError> {
        let seconds = parse_float(token).filter(|s| s.is_finite());
        let seconds = seconds.ok_or_else(|| {
            self.error_at(self.pos - token.len(), format!("invalid {what} {:?}", lossy(token)))
        })?;
        // Saturates at the ends of the type, as nothing sensible is that far.
        Ok((seconds * 1000.0) as Timestamp)
    }

    // --- shared ---

    fn peek(&self) -> Option<u8> {
        self.body.get(self.pos).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.pos += 1;
        }
    }

    fn take_while(&mut self, mut wanted: impl FnMut(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let len = rest.iter().position(|b| !wanted(*b)).unwrap_or(rest.len());
        self.pos += len;
        &rest[..len]
    }

    /// The rest of the line, without its end; nothing is read.
    fn line(&self) -> &'a [u8] {
        let rest = self.rest();
        &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())]
    }

    fn begin_sample(&mut self) {
        self.name = None;
        self.pairs.clear();
    }

    /// The name before the braces, if there is one; a quoted one stands inside.
    fn metric_name(&mut self) -> Result<(), ParseError> {
        let begin = self.pos;
        let name = self.take_while(is_metric_byte);
        if name.is_empty() && self.peek() == Some(b'{') {
            return Ok(());
        }
        if name.is_empty() || name[0].is_ascii_digit() {
            self.pos = begin;
            return Err(self.unexpected("a metric name or a comment"));
        }
        self.name = Some(Piece { range: begin..self.pos, escaped: false });
        Ok(())
    }

    fn check_named(&self, begin: usize) -> Result<(), ParseError> {
        if self.name.is_some() { Ok(()) } else { Err(self.error_at(begin, "metric name not set")) }
    }

    /// Names and values up to and with the closing brace; the opening one is read.
    fn label_pairs(&mut self, exemplar: bool) -> Result<(), ParseError> {
        loop {
            self.blanks_in_braces();
            match self.peek() {
                Some(b'}') => {
                    self.pos += 1;
                    return Ok(());
                }
                Some(b'"') => {
                    let name = self.quoted("label name")?;
                    self.blanks_in_braces();
                    if !exemplar && matches!(self.peek(), Some(b',' | b'}')) {
                        if self.name.is_some() {
                            return Err(self.error_at(name.range.start, "metric name already set"));
                        }
                        self.name = Some(name);
                    } else {
                        self.label_value(name)?;
                        if self.openmetrics && !matches!(self.peek(), Some(b',' | b'}')) {
                            return Err(self.unexpected("a comma or a closing brace"));
                        }
                    }
                }
                Some(b) if b.is_ascii_alphabetic() || b == b'_' => {
                    let begin = self.pos;
                    self.take_while(|b| b.is_ascii_alphanumeric() || b == b'_');
                    self.label_value(Piece { range: begin..self.pos, escaped: false })?;
                    if self.openmetrics && !matches!(self.peek(), Some(b',' | b'}')) {
                        return Err(self.unexpected("a comma or a closing brace"));
                    }
                }
                _ => return Err(self.unexpected("a label name")),
            }
            self.blanks_in_braces();
            if self.peek() == Some(b',') {
                self.pos += 1;
            }
        }
    }

    /// Text allows blanks between the tokens in braces, OpenMetrics does not.
    fn blanks_in_braces(&mut self) {
        if !self.openmetrics {
            self.skip_blanks();
        }
    }

    fn label_value(&mut self, name: Piece) -> Result<(), ParseError> {
        self.blanks_in_braces();
        if self.peek() != Some(b'=') {
            return Err(self.unexpected("an equals sign after the label name"));
        }
        self.pos += 1;
        self.blanks_in_braces();
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a quoted label value"));
        }
        let value = self.quoted("label value")?;
        self.pairs.push((name, value));
        Ok(())
    }

    /// A quoted string, without its quotes; the position is at the opening one.
    fn quoted(&mut self, what: &str) -> Result<Piece, ParseError> {
        let begin = self.pos + 1;
        let (mut at, mut escaped) = (begin, false);
        loop {
            let rest = self.body.get(at..).unwrap_or(&[]);
            let Some(found) = memchr::memchr3(b'"', b'\\', b'\n', rest) else {
                return Err(self.unexpected(&format!("a {what} with a closing quote")));
            };
            at += found;
            match self.body[at] {
                b'"' => break,
                b'\n' if self.openmetrics => {
                    return Err(self.unexpected(&format!("a {what} with a closing quote")));
                }
                b'\n' => at += 1,
                _ => {
                    escaped = true;
                    at += 2;
                }
            }
        }
        if std::str::from_utf8(&self.body[begin..at]).is_err() {
            return Err(self.error_at(begin, format!("invalid UTF-8 {what}")));
        }
        self.pos = at + 1;
        Ok(Piece { range: begin..at, escaped })
    }

    /// The family that a HELP, TYPE or UNIT line speaks of.
    fn family(&mut self, keyword: &str) -> Result<Cow<'a, str>, ParseError> {
        if self.peek() == Some(b'"') {
            let name = self.quoted("metric name")?;
            return Ok(self.text(&name));
        }
        let begin = self.pos;
        let name = self.take_while(is_metric_byte);
        if name.is_empty() || name[0].is_ascii_digit() {
            self.pos = begin;
            return Err(self.unexpected(&format!("a metric name after {keyword}")));
        }
        Ok(self.text(&Piece { range: begin..self.pos, escaped: false }))
    }

    fn help_text(&self, text: &'a [u8], at: usize) -> Result<Cow<'a, str>, ParseError> {
        let text =
            std::str::from_utf8(text).map_err(|_| self.error_at(at, "help text is not valid UTF-8"))?;
        // OpenMetrics escapes quotes in help, text does not.
        Ok(if text.contains('\\') { unescape(text, self.openmetrics) } else { Cow::Borrowed(text) })
    }

    fn value(&self, token: &[u8], what: &str) -> Result<f64, ParseError> {
        if token.is_empty() {
            return Err(self.unexpected(&format!("a value after the {what}")));
        }
        parse_float(token).ok_or_else(|| {
            self.error_at(self.pos - token.len(), format!("invalid {what} value {:?}", lossy(token)))
        })
    }

    /// A checked piece as a string.
    fn text(&self, piece: &Piece) -> Cow<'a, str> {
        let text = std::str::from_utf8(&self.body[piece.range.clone()])
            .expect("unquoted names are ASCII, quoted strings were checked");
        if piece.escaped { unescape(text, true) } else { Cow::Borrowed(text) }
    }

    fn invalid_type(&self, text: &[u8], at: usize) -> ParseError {
        self.error_at(at, format!("invalid metric type {:?}", lossy(text)))
    }

    fn unexpected(&self, wanted: &str) -> ParseError {
        let got = match self.peek() {
            None => "the end of the data".to_owned(),
            Some(b'\n') => "the end of the line".to_owned(),
            Some(_) => format!("{:?}", lossy(&self.line()[..self.line().len().min(20)])),
        };
        self.error_here(format!("expected {wanted}, got {got}"))
    }
}

fn is_metric_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b':'
}

/// At most 60 bytes of a token, for a message.
fn lossy(token: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&token[..token.len().min(60)])
}

/// Resolves `\\`, `\n` and, if `quotes`, `\"`; any other backslash stands for itself.
fn unescape(text: &str, quotes: bool) -> Cow<'_, str> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        let known = match rest.as_bytes().get(at + 1) {
            Some(b'\\') => Some('\\'),
            Some(b'n') => Some('\n'),
            Some(b'"') if quotes => Some('"'),
            _ => None,
        };
        out.push(known.unwrap_or('\\'));
        rest = &rest[at + 1 + usize::from(known.is_some())..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The labels of a sample; see [`Parser::labels`].
#[derive(Clone, Debug)]
pub struct SampleLabels<'a, 'p> {
    parser: &'p Parser<'a>,
    at: usize,
}

impl<'a> Iterator for SampleLabels<'a, '_> {
    type Item = (Cow<'a, str>, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        self.at += 1;
        if at == 0 {
            let name = self.parser.name.as_ref()?;
            return Some((Cow::Borrowed(METRIC_NAME), self.parser.text(name)));
        }
        let (name, value) = self.parser.pairs.get(at - 1)?;
        Some((self.parser.text(name), self.parser.text(value)))
    }
}

#[cfg(test)]
mod tests;
