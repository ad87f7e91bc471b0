//! Content types: which format a body is in, and which one a reader wants.

/// What a scrape sends as `Accept`, best first.
pub const ACCEPT_HEADER: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// An exposition format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// Text 0.0.4. Names that need quotes are written with underscores.
    #[default]
    Text,
    /// Text 1.0.0: as 0.0.4, and names that need quotes have them.
    TextUtf8,
    /// OpenMetrics 1.0. Names that need quotes are written with underscores.
    OpenMetrics,
    /// OpenMetrics 1.0, and names that need quotes have them.
    OpenMetricsUtf8,
}

/// The `Content-Type` of Prometheus's protobuf, which is also what a scrape asks for.
pub const PROTOBUF_CONTENT_TYPE: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// What a scraped body is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyFormat {
    Text(Format),
    /// Delimited metric families: see [`protobuf`](super::protobuf).
    Protobuf,
}

impl BodyFormat {
    /// As [`Format::from_content_type`], and protobuf.
    ///
    /// # Errors
    /// When it is missing, or names nothing that is read here.
    pub fn from_content_type(content_type: Option<&str>) -> Result<Self, UnsupportedContentType> {
        let (media, parameters) = media_type(content_type.unwrap_or(""));
        let states = |name, wanted| parameter(parameters, name).is_none_or(|stated| stated == wanted);
        if media == PROTOBUF
            && states("proto", "io.prometheus.client.MetricFamily")
            && states("encoding", "delimited")
        {
            return Ok(BodyFormat::Protobuf);
        }
        Format::from_content_type(content_type).map(BodyFormat::Text)
    }

    /// The format a reader with this `Accept` header wants most, protobuf among them.
    #[must_use]
    pub fn negotiate(accept: Option<&str>) -> Self {
        let (mut protobuf, mut others) = (0.0, 0.0);
        for part in accept.unwrap_or("").split(',') {
            let (media, parameters) = media_type(part);
            let weight = parameter(parameters, "q").map_or(1.0, |q| q.parse::<f64>().unwrap_or(0.0));
            if media == PROTOBUF {
                let states = |name, wanted| parameter(parameters, name) == Some(wanted);
                if states("proto", "io.prometheus.client.MetricFamily") && states("encoding", "delimited") {
                    protobuf = f64::max(protobuf, weight);
                }
            } else if matches!(media.as_str(), "text/plain" | "application/openmetrics-text") {
                others = f64::max(others, weight);
            }
        }
        if protobuf > others { BodyFormat::Protobuf } else { BodyFormat::Text(Format::negotiate(accept)) }
    }
}

const PROTOBUF: &str = "application/vnd.google.protobuf";

/// A `Content-Type` that no parser is here for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedContentType {
    #[error(
        "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target"
    )]
    Blank,
    #[error("received unsupported Content-Type {0:?} and no fallback_scrape_protocol specified for target")]
    Unknown(String),
}

impl Format {
    /// The format of a body with this `Content-Type`.
    ///
    /// # Errors
    /// When it is missing or names neither text nor OpenMetrics; the caller may have a fallback.
    pub fn from_content_type(content_type: Option<&str>) -> Result<Self, UnsupportedContentType> {
        let text =
            content_type.map(str::trim).filter(|t| !t.is_empty()).ok_or(UnsupportedContentType::Blank)?;
        let (media, parameters) = media_type(text);
        match media.as_str() {
            "text/plain" if parameter(parameters, "version") == Some("1.0.0") => Ok(Format::TextUtf8),
            "text/plain" => Ok(Format::Text),
            "application/openmetrics-text" => Ok(Format::OpenMetricsUtf8),
            _ => Err(UnsupportedContentType::Unknown(text.chars().take(200).collect())),
        }
    }

    /// The format a reader with this `Accept` header wants most; text 0.0.4 if it says nothing that we have.
    #[must_use]
    pub fn negotiate(accept: Option<&str>) -> Self {
        let mut best = (Format::Text, 0.0);
        for part in accept.unwrap_or("").split(',') {
            let (media, parameters) = media_type(part);
            let utf8 = parameter(parameters, "escaping") == Some("allow-utf-8");
            let version = parameter(parameters, "version");
            let format = match (media.as_str(), version) {
                ("application/openmetrics-text", None | Some("1.0.0")) if utf8 => Format::OpenMetricsUtf8,
                ("application/openmetrics-text", None | Some("1.0.0")) => Format::OpenMetrics,
                ("text/plain", Some("1.0.0")) if utf8 => Format::TextUtf8,
                ("text/plain", None | Some("0.0.4" | "1.0.0")) | ("text/*" | "*/*", _) => Format::Text,
                _ => continue,
            };
            let weight = parameter(parameters, "q").map_or(1.0, |q| q.parse::<f64>().unwrap_or(0.0));
            if weight > best.1 {
                best = (format, weight);
            }
        }
        best.0
    }

    /// The `Content-Type` of a body that we write in this format.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            Format::TextUtf8 => "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            Format::OpenMetrics => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
            }
            Format::OpenMetricsUtf8 => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
            }
        }
    }

    #[must_use]
    pub fn is_openmetrics(self) -> bool {
        matches!(self, Format::OpenMetrics | Format::OpenMetricsUtf8)
    }

    /// Whether names that need quotes may be written, with quotes.
    #[must_use]
    pub fn has_quoted_names(self) -> bool {
        matches!(self, Format::TextUtf8 | Format::OpenMetricsUtf8)
    }
}

/// The media type in lower case, and what follows it.
fn media_type(text: &str) -> (String, &str) {
    let (media, parameters) = text.split_once(';').unwrap_or((text, ""));
    (media.trim().to_ascii_lowercase(), parameters)
}

fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|p| {
        let (n, v) = p.split_once('=')?;
        n.trim().eq_ignore_ascii_case(name).then(|| v.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_name_a_format() {
        for (content_type, expected) in [
            ("text/plain", Some(Format::Text)),
            ("text/plain; version=0.0.4; charset=utf-8", Some(Format::Text)),
            ("Text/Plain;version=1.0.0", Some(Format::TextUtf8)),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", Some(Format::OpenMetricsUtf8)),
            ("text/html", None),
            ("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily", None),
            ("", None),
        ] {
            assert_eq!(Format::from_content_type(Some(content_type)).ok(), expected, "{content_type}");
        }
        assert_eq!(Format::from_content_type(None), Err(UnsupportedContentType::Blank));
    }

    #[test]
    fn protobuf_is_a_format_of_bodies() {
        for (content_type, expected) in [
            (PROTOBUF_CONTENT_TYPE, Some(BodyFormat::Protobuf)),
            ("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text", None),
            ("application/vnd.google.protobuf; proto=other; encoding=delimited", None),
            ("text/plain", Some(BodyFormat::Text(Format::Text))),
        ] {
            assert_eq!(BodyFormat::from_content_type(Some(content_type)).ok(), expected, "{content_type}");
        }
        let text = BodyFormat::Text(Format::Text);
        for (accept, expected) in [
            (format!("{PROTOBUF_CONTENT_TYPE};q=0.6,text/plain;version=0.0.4;q=0.5"), BodyFormat::Protobuf),
            (format!("text/plain;version=0.0.4;q=0.6,{PROTOBUF_CONTENT_TYPE};q=0.5"), text),
            (PROTOBUF_CONTENT_TYPE.to_owned(), BodyFormat::Protobuf),
            ("application/vnd.google.protobuf".to_owned(), text),
            ("*/*".to_owned(), text),
        ] {
            assert_eq!(BodyFormat::negotiate(Some(&accept)), expected, "{accept}");
        }
    }

    #[test]
    fn the_heaviest_format_that_we_have_wins() {
        for (accept, expected) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", Format::Text),
            ("application/openmetrics-text;version=1.0.0", Format::OpenMetrics),
            (
                "text/plain;version=0.0.4;q=0.3, application/openmetrics-text; version=\"1.0.0\";q=0.5",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::Text,
            ),
            (
                "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3",
                Format::TextUtf8,
            ),
            ("application/openmetrics-text;q=nonsense", Format::Text),
            (ACCEPT_HEADER, Format::OpenMetricsUtf8),
        ] {
            assert_eq!(Format::negotiate(Some(accept)), expected, "{accept}");
        }
        assert_eq!(Format::negotiate(None), Format::Text);
    }
}
