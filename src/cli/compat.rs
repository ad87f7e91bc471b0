//! Flags of Prometheus's that mean nothing here: accepted, so that a unit file needs no change, with a warning that says
//! what holds instead.

use std::ffi::OsString;

use super::flags::SWITCHES;

/// What a flag takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Value,
    /// `--x`, `--x=true`, `--no-x`.
    Nothing,
}

/// Name, what it takes, and what holds here instead.
const FLAGS: &[(&str, Takes, &str)] = &[
    (
        "config.auto-reload-interval",
        Takes::Value,
        "the configuration is reloaded on SIGHUP and, with --web.enable-lifecycle, by POST /-/reload",
    ),
    ("auto-gomaxprocs", Takes::Nothing, "the number of threads follows the CPUs that the process may use"),
    ("auto-gomemlimit", Takes::Nothing, "memory is bounded by the limits of each part"),
    ("auto-gomemlimit.ratio", Takes::Value, "memory is bounded by the limits of each part"),
    (
        "web.max-notifications-subscribers",
        Takes::Value,
        "there are no live notifications of the server's state",
    ),
    ("web.page-title", Takes::Value, "the page is titled StreamGate"),
    ("web.enable-remote-write-receiver", Takes::Nothing, "remote write is always received"),
    ("web.local-assets", Takes::Value, "the pages are inside the binary"),
    ("web.user-assets", Takes::Value, "the pages are inside the binary"),
    ("web.console.templates", Takes::Value, "there are no console templates; dashboards take their place"),
    ("web.console.libraries", Takes::Value, "there are no console templates; dashboards take their place"),
    ("web.remote-write-receiver.accepted-protobuf-messages", Takes::Value, "remote write 1.0 is accepted"),
    (
        "storage.tsdb.no-lockfile",
        Takes::Nothing,
        "the data directory is always locked against a second process",
    ),
    ("storage.tsdb.head-chunks-write-queue-size", Takes::Value, "a full window is written as one block"),
    ("storage.tsdb.head-chunks-write-buffer-size", Takes::Value, "a full window is written as one block"),
    ("storage.tsdb.wal-compression", Takes::Nothing, "the WAL has one format"),
    ("storage.tsdb.wal-compression-type", Takes::Value, "the WAL has one format"),
    ("storage.tsdb.wal-segment-size", Takes::Value, "the WAL has one format"),
    ("storage.tsdb.min-block-duration", Takes::Value, "the length of a block follows the retention"),
    ("storage.tsdb.max-block-duration", Takes::Value, "the length of a block follows the retention"),
    ("storage.tsdb.max-block-chunk-segment-size", Takes::Value, "a block is one file"),
    ("storage.tsdb.allow-overlapping-blocks", Takes::Nothing, "blocks do not overlap"),
    ("storage.tsdb.allow-overlapping-compaction", Takes::Nothing, "blocks do not overlap"),
    ("storage.tsdb.samples-per-chunk", Takes::Value, "the size of a chunk follows its data"),
    ("storage.tsdb.delay-compact-file.path", Takes::Value, "blocks are not compacted"),
    ("storage.agent.path", Takes::Value, "there is no agent mode"),
    ("storage.agent.wal-compression", Takes::Nothing, "there is no agent mode"),
    ("storage.agent.wal-compression-type", Takes::Value, "there is no agent mode"),
    ("storage.agent.wal-segment-size", Takes::Value, "there is no agent mode"),
    ("storage.agent.wal-truncate-frequency", Takes::Value, "there is no agent mode"),
    ("storage.agent.retention.min-time", Takes::Value, "there is no agent mode"),
    ("storage.agent.retention.max-time", Takes::Value, "there is no agent mode"),
    ("storage.agent.no-lockfile", Takes::Nothing, "there is no agent mode"),
    ("storage.remote.flush-deadline", Takes::Value, "nothing is sent by remote write"),
    ("storage.remote.read-sample-limit", Takes::Value, "there is no remote read"),
    ("storage.remote.read-concurrent-limit", Takes::Value, "there is no remote read"),
    ("storage.remote.read-max-bytes-in-frame", Takes::Value, "there is no remote read"),
    (
        "alertmanager.notification-batch-size",
        Takes::Value,
        "alerts pass to the alert pipeline inside the process",
    ),
    (
        "alertmanager.drain-notification-queue-on-shutdown",
        Takes::Nothing,
        "notifications are kept on disk until they are delivered",
    ),
    ("alertmanager.timeout", Takes::Value, "alerts pass to the alert pipeline inside the process"),
    ("scrape.adjust-timestamps", Takes::Nothing, "scrapes carry the time at which they were due"),
    ("scrape.timestamp-tolerance", Takes::Value, "scrapes carry the time at which they were due"),
    ("scrape.discovery-reload-interval", Takes::Value, "discovered targets count at once"),
    ("scrape.name-escaping-scheme", Takes::Value, "names are stored as they are scraped"),
];

/// The arguments without the flags of [`FLAGS`], `--no-x` as `--x=false`, and a warning for each flag taken out.
pub(super) fn strip(args: impl IntoIterator<Item = OsString>) -> (Vec<OsString>, Vec<String>) {
    let (mut kept, mut warnings) = (Vec::new(), Vec::new());
    let mut args = args.into_iter().peekable();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        let Some(flag) = text.strip_prefix("--") else {
            kept.push(arg);
            continue;
        };
        let (name, value) = flag.split_once('=').map_or((flag, None), |(n, v)| (n, Some(v)));
        let negated = name.strip_prefix("no-");
        if let Some(switch) = negated.filter(|n| value.is_none() && SWITCHES.contains(n)) {
            kept.push(format!("--{switch}=false").into());
            continue;
        }
        let known =
            |n: &str, takes| FLAGS.iter().find(|(f, t, _)| *f == n && (takes || *t == Takes::Nothing));
        let Some((name, takes, instead)) = known(name, true).or_else(|| known(negated?, false)) else {
            kept.push(arg);
            continue;
        };
        if *takes == Takes::Value && value.is_none() {
            let _its_value = args.next();
        }
        let warning = format!("--{name} has no meaning here: {instead}");
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    (kept, warnings)
}

/// The commands that take an expression among flags.
const ASKING: [[&str; 2]; 3] = [["query", "instant"], ["query", "range"], ["promql", "explain"]];

/// An expression that begins with a sign, such as `-foo`, gets a space in front of it: then it is no flag.
pub(super) fn shield_signs(mut args: Vec<OsString>) -> Vec<OsString> {
    let asks = ASKING.iter().any(|command| args.get(1..3).is_some_and(|given| given == command));
    if asks {
        let given = args.iter_mut().skip(3).take_while(|a| *a != "--");
        for arg in given.filter(|a| a.to_str().is_some_and(is_signed)) {
            let mut shielded = OsString::from(" ");
            shielded.push(&arg);
            *arg = shielded;
        }
    }
    args
}

/// Whether it is neither a flag nor a plain number.
fn is_signed(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('-') else { return false };
    let flag = rest.starts_with('-')
        || matches!(rest, "" | "h" | "V" | "o" | "ojson" | "otable" | "ocsv")
        || rest.starts_with("o=");
    !flag && text.parse::<f64>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&str], kept: &[&str], warned: usize) {
        let (left, warnings) = strip(args.iter().map(OsString::from));
        assert_eq!(left, kept, "{args:?}");
        assert_eq!(warnings.len(), warned, "{warnings:?}");
    }

    #[test]
    fn flags_without_meaning_are_taken_out_with_their_values() {
        check(&["x", "--web.console.templates=/a", "--log.level=info"], &["x", "--log.level=info"], 1);
        check(&["--web.console.templates", "/a", "serve"], &["serve"], 1);
        check(&["--storage.tsdb.no-lockfile", "--no-storage.tsdb.no-lockfile"], &[], 1);
        check(&["--storage.tsdb.wal-compression", "check"], &["check"], 1);
    }

    #[test]
    fn expressions_may_begin_with_a_sign() {
        for (args, got) in [
            ("query instant -foo --time 5 -o json", "query instant  -foo --time 5 -o json"),
            ("query range -offset_total", "query range  -offset_total"),
            ("promql explain -hour() -ojson -1.5", "promql explain  -hour() -ojson -1.5"),
            ("query instant -h -V - --help", "query instant -h -V - --help"),
            ("query instant -- -foo", "query instant -- -foo"),
            ("serve -foo", "serve -foo"),
            ("query", "query"),
        ] {
            let all = ["streamgate"].into_iter().chain(args.split(' ')).map(OsString::from).collect();
            let shielded: Vec<String> =
                shield_signs(all).into_iter().skip(1).map(|a| a.into_string().unwrap()).collect();
            assert_eq!(shielded.join(" "), got);
        }
    }

    #[test]
    fn switches_can_be_negated() {
        check(&["--no-web.enable-lifecycle"], &["--web.enable-lifecycle=false"], 0);
        check(
            &["--no-web.enable-lifecycle=1", "--no-such"],
            &["--no-web.enable-lifecycle=1", "--no-such"],
            0,
        );
    }
}
