//! From a discovered label set to a target that can be scraped.

use std::hash::{Hash, Hasher};

use super::ScrapeJob;
use super::discovery::check_address;
use crate::model::{Labels, LabelsBuilder, format_duration_ms, parse_duration_ms};

/// One target of a job.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    /// Before relabelling.
    pub discovered: Labels,
    /// What its series carry.
    pub labels: Labels,
    pub url: url::Url,
    pub interval_ms: i64,
    pub timeout_ms: i64,
}

/// By what a target is known: two with the same are scraped once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TargetKey {
    labels: Labels,
    url: String,
}

/// What relabelling made of a discovered label set.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    Target(Box<Target>),
    Dropped(Labels),
}

impl Target {
    pub fn key(&self) -> TargetKey {
        TargetKey { labels: self.labels.clone(), url: self.url.as_str().to_owned() }
    }
}

impl TargetKey {
    /// When in its interval the target is scraped, in ms: the same at each start.
    pub fn offset_ms(&self, interval_ms: i64) -> i64 {
        // FNV-1a: short, and the same on every machine and in every version of the standard library.
        struct Fnv(u64);
        impl Hasher for Fnv {
            fn finish(&self) -> u64 {
                self.0
            }
            fn write(&mut self, bytes: &[u8]) {
                for b in bytes {
                    self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
                }
            }
        }
        let mut hasher = Fnv(self.labels.fingerprint());
        self.url.hash(&mut hasher);
        // The low bits of FNV are weak: fold the high ones in.
        let hash = hasher.finish();
        ((hash ^ (hash >> 32)) % interval_ms.unsigned_abs().max(1)) as i64
    }
}

/// Relabels a discovered label set and reads the target from what comes out.
///
/// # Errors
/// When the labels make no target: no address, an impossible interval.
///
/// Source: prometheus, `scrape/target.go`, `PopulateLabels`.
pub(super) fn build(mut labels: LabelsBuilder, job: &ScrapeJob) -> Result<Outcome, String> {
    let defaults = [
        ("job", job.job_name.as_str()),
        ("__scrape_interval__", &format_duration_ms(job.interval_ms)),
        ("__scrape_timeout__", &format_duration_ms(job.timeout_ms)),
        ("__metrics_path__", &job.metrics_path),
        ("__scheme__", &job.scheme),
    ];
    for (name, value) in defaults {
        if labels.get(name).is_empty() {
            labels.set(name, value);
        }
    }
    for (name, values) in &job.params {
        let label = format!("__param_{name}");
        if let Some(first) = values.first().filter(|_| labels.get(&label).is_empty()) {
            labels.set(&label, first);
        }
    }
    let discovered = labels.build();
    if !job.relabel.apply(&mut labels) {
        return Ok(Outcome::Dropped(discovered));
    }
    let address = labels.get("__address__").to_owned();
    if address.is_empty() {
        return Err("no address".to_owned());
    }
    check_address(&address)?;
    let duration = |name: &str, what: &str| match parse_duration_ms(labels.get(name)) {
        Ok(0) => Err(format!("scrape {what} cannot be 0")),
        Ok(ms) => Ok(ms),
        Err(e) => Err(format!("error parsing scrape {what}: {e}")),
    };
    let interval_ms = duration("__scrape_interval__", "interval")?;
    let timeout_ms = duration("__scrape_timeout__", "timeout")?;
    if timeout_ms > interval_ms {
        return Err(format!(
            "scrape timeout cannot be greater than scrape interval ({:?} > {:?})",
            labels.get("__scrape_timeout__"),
            labels.get("__scrape_interval__")
        ));
    }
    let url = url(&labels, job)?;
    if labels.get("instance").is_empty() {
        labels.set("instance", &address);
    }
    let labels = Labels::from_sorted(labels.iter().filter(|(name, _)| !name.starts_with("__")));
    Ok(Outcome::Target(Box::new(Target { discovered, labels, url, interval_ms, timeout_ms })))
}

fn url(labels: &LabelsBuilder, job: &ScrapeJob) -> Result<url::Url, String> {
    let (scheme, address) = (labels.get("__scheme__"), labels.get("__address__"));
    let mut url = url::Url::parse(&format!("{scheme}://{address}/"))
        .ok()
        .filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host())
        .ok_or_else(|| format!("{scheme}://{address} is no URL that can be scraped"))?;
    // The path may carry a query, as some exporters are configured so.
    let path = labels.get("__metrics_path__");
    let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
    url.set_path(path);
    let mut params: std::collections::BTreeMap<&str, Vec<&str>> = std::collections::BTreeMap::new();
    for (name, values) in &job.params {
        params.insert(name, values.iter().map(String::as_str).collect());
    }
    for (name, value) in labels.iter() {
        let Some(name) = name.strip_prefix("__param_") else { continue };
        match params.entry(name).or_default().first_mut() {
            Some(first) => *first = value,
            None => params.entry(name).or_default().push(value),
        }
    }
    if let Some(query) = query {
        url.set_query(Some(query));
    }
    if !params.is_empty() {
        let mut pairs = url.query_pairs_mut();
        for (name, values) in params {
            for value in values {
                pairs.append_pair(name, value);
            }
        }
    }
    Ok(url)
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
