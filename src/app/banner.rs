//! The summary that a start prints: what runs, and the URLs to open.

use std::net::SocketAddr;

/// What the summary tells.
#[derive(Debug)]
pub struct Banner<'a> {
    pub version: &'a str,
    /// Addresses that were bound.
    pub bound: &'a [SocketAddr],
    /// `--web.route-prefix` without a final slash; empty for none.
    pub prefix: &'a str,
    pub config_file: Option<&'a str>,
    pub host_metrics: bool,
    pub targets: usize,
    pub rules: usize,
    pub receivers: usize,
    pub data: &'a str,
    pub retention: &'a str,
}

impl Banner<'_> {
    /// Some lines of plain text.
    #[must_use]
    pub fn text(&self) -> String {
        let base = match self.bound.first() {
            Some(a) if a.ip().is_unspecified() => format!("http://127.0.0.1:{}{}", a.port(), self.prefix),
            Some(a) => format!("http://{a}{}", self.prefix),
            None => self.prefix.to_owned(),
        };
        let watched = match (self.host_metrics, self.targets) {
            (true, 0) => "this machine and itself".to_owned(),
            (true, n) => format!("this machine and {}", count(n, "scrape job")),
            (false, n) => count(n, "scrape job"),
        };
        let told = match self.receivers {
            0 => {
                "alerts are shown on the dashboard; name receivers with --alertmanager.config.file".to_owned()
            }
            n => format!("alerts go to {}", count(n, "receiver")),
        };
        format!(
            "StreamGate {} watches {watched} with {} rules; {told}\n  \
             dashboard  {base}/\n  \
             metrics    {base}/metrics\n  \
             query      {base}/api/v1/query?query=up\n  \
             alerts     {base}/api/v1/dashboard/alerts\n  \
             config     {}\n  \
             data       {} (kept for {})",
            self.version,
            self.rules,
            self.config_file.unwrap_or("none: no file is read"),
            self.data,
            self.retention,
        )
    }
}

/// `1 receiver`, `2 receivers`.
fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// A warning for addresses that others can reach: there is no authentication yet.
#[must_use]
pub fn exposure_warning(bound: &[SocketAddr]) -> Option<String> {
    let open: Vec<String> =
        bound.iter().filter(|a| !a.ip().is_loopback()).map(SocketAddr::to_string).collect();
    (!open.is_empty()).then(|| {
        format!(
            "WITHOUT AUTHENTICATION everyone who reaches {} can read all metrics, push samples, and acknowledge and \
             resolve alerts: listen on 127.0.0.1, or put a proxy that authenticates in front",
            open.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_others_reach_are_warned_of() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(exposure_warning(&[at("127.0.0.1:9090"), at("[::1]:9090")]), None);
        assert!(exposure_warning(&[at("0.0.0.0:9090")]).unwrap().contains("0.0.0.0:9090"));
    }
}
