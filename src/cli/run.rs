//! From arguments to a command, and the command's run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use super::flags::{Check, Cli, Promql, Query, ServeFlags, Subcommands, Test};
use super::options::features;
use super::query::{self, Asked};
use super::say::say;
use super::storage::StorageCommand;
use super::{ServeOptions, check, compat, storage, test};
use crate::promql::Features;

/// What the arguments ask for.
#[derive(Debug)]
pub enum Command {
    Serve(Box<ServeOptions>),
    CheckConfig { files: Vec<PathBuf>, syntax_only: bool, features: Features },
    CheckRules { files: Vec<PathBuf>, features: Features },
    CheckAlertmanager { files: Vec<PathBuf> },
    Query(Box<Asked>),
    PromqlFormat { expr: String },
    TestPromql { files: Vec<PathBuf>, thorough: bool },
    Storage(StorageCommand),
    Version,
}

/// Reads the arguments, the program's name first.
///
/// # Errors
/// What clap has to say: wrong usage, or the help that was asked for.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let (args, warnings) = compat::strip(args);
    let args = compat::shield_signs(args);
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(args)?;
    let flags = flag_values(&command, &matches);
    let cli = Cli::from_arg_matches(&matches)?;
    if cli.version {
        return Ok(Command::Version);
    }
    let usage =
        |message: String| invoked(&command, &matches).error(clap::error::ErrorKind::InvalidValue, message);
    let of_check = |names: &[String]| features(names, &mut Vec::new()).map(|f| f.promql).map_err(usage);
    match cli.command {
        None => serve(cli.serve, flags, warnings).map_err(usage),
        Some(Subcommands::Serve(given)) => serve(*given, flags, warnings).map_err(usage),
        Some(Subcommands::Check { what }) => Ok(match what {
            Check::Config { syntax_only, enable_feature, files } => {
                Command::CheckConfig { files, syntax_only, features: of_check(&enable_feature)? }
            }
            Check::Rules { enable_feature, files } => {
                Command::CheckRules { files, features: of_check(&enable_feature)? }
            }
            Check::Alertmanager { files } => Command::CheckAlertmanager { files },
        }),
        Some(Subcommands::Query { what }) => {
            let asked = match what {
                Query::Instant(flags) => query::instant(*flags),
                Query::Range(flags) => query::range(*flags),
            };
            asked.map(|a| Command::Query(Box::new(a))).map_err(usage)
        }
        Some(Subcommands::Promql { what: Promql::Format { expr } }) => Ok(Command::PromqlFormat { expr }),
        Some(Subcommands::Promql { what: Promql::Explain(flags) }) => {
            query::explain(*flags).map(|a| Command::Query(Box::new(a))).map_err(usage)
        }
        Some(Subcommands::Storage { what }) => Ok(Command::Storage(what)),
        Some(Subcommands::Test { what: Test::Promql { thorough, files } }) => {
            Ok(Command::TestPromql { files, thorough })
        }
    }
}

/// The innermost command that was named: its usage is shown with an error.
fn invoked(command: &clap::Command, matches: &clap::ArgMatches) -> clap::Command {
    let (mut command, mut matches) = (command, matches);
    while let Some((name, inner)) = matches.subcommand() {
        let Some(sub) = command.find_subcommand(name) else { break };
        (command, matches) = (sub, inner);
    }
    command.clone()
}

fn serve(
    given: ServeFlags,
    flags: BTreeMap<String, String>,
    warnings: Vec<String>,
) -> Result<Command, String> {
    let mut options = ServeOptions::resolve(given, warnings)?;
    options.flags = flags;
    Ok(Command::Serve(Box::new(options)))
}

/// Every flag of the server by its name, with the value that was given or its default, as `/api/v1/status/flags` shows
/// them.
fn flag_values(command: &clap::Command, matches: &clap::ArgMatches) -> BTreeMap<String, String> {
    let (command, matches) = match matches.subcommand() {
        Some((name, inner)) => (command.find_subcommand(name).unwrap_or(command), inner),
        None => (command, matches),
    };
    let shown = command.get_arguments().filter(|a| !a.is_hide_set());
    shown
        .filter_map(|argument| {
            let name = argument.get_long()?;
            let values = matches.try_get_raw(argument.get_id().as_str()).ok().flatten()?;
            let values: Vec<_> = values.map(|v| v.to_string_lossy().into_owned()).collect();
            Some((name.to_owned(), values.join(",")))
        })
        .collect()
}

/// Runs the program to its exit code.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match parse(args) {
        Ok(command) => command,
        Err(error) => {
            // Help that was asked for goes to standard output, with exit code 0.
            let _nobody_reads = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match command {
        Command::Version => {
            say(format_args!("{}", version()));
            ExitCode::SUCCESS
        }
        Command::CheckConfig { files, syntax_only, features } => check::config(&files, syntax_only, features),
        Command::CheckRules { files, features } => check::rules(&files, features),
        Command::CheckAlertmanager { files } => check::alertmanager(&files),
        Command::Query(asked) => query::run(&asked),
        Command::PromqlFormat { expr } => query::format(&expr),
        Command::TestPromql { files, thorough } => test::promql(&files, thorough),
        Command::Storage(what) => storage::run(what),
        Command::Serve(options) => super::serve::run(*options),
    }
}

/// As Prometheus's programs print it: name and version first.
fn version() -> String {
    format!(
        "streamgate, version {}\n  platform:         {}/{}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(args: &[&str]) -> ServeOptions {
        match parse(std::iter::once("streamgate").chain(args.iter().copied()).map(OsString::from)) {
            Ok(Command::Serve(options)) => *options,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    fn error(args: &[&str]) -> String {
        match parse(std::iter::once("streamgate").chain(args.iter().copied()).map(OsString::from)) {
            Err(error) => error.to_string(),
            Ok(other) => panic!("{args:?}: {other:?}"),
        }
    }

    #[test]
    fn errors_show_the_usage_of_their_command() {
        for (args, message, usage) in [
            (&["promql", "explain", "-o", "csv", "up"][..], "-o csv: a plan is", "promql explain"),
            (&["query", "range", "--step=x", "up"], "--step: cannot parse", "query range"),
            (&["query", "instant", "--time=x", "up"], "--time \"x\"", "query instant"),
        ] {
            let text = error(args);
            assert!(text.contains(message) && text.contains(&format!("Usage: streamgate {usage}")), "{text}");
        }
    }

    #[test]
    fn an_expression_to_lay_out_may_begin_with_a_minus() {
        for expr in ["-a", "--a", "-1", "-"] {
            let args = ["streamgate", "promql", "format", expr].map(OsString::from);
            match parse(args) {
                Ok(Command::PromqlFormat { expr: got }) => assert_eq!(got, expr),
                other => panic!("{expr}: {other:?}"),
            }
        }
        assert!(error(&["promql", "format", "--help"]).contains("Usage: streamgate promql format"));
    }

    #[test]
    fn nothing_means_serve_with_defaults() {
        for args in [&[][..], &["serve"]] {
            let options = serve(args);
            assert_eq!(options.listen, ["127.0.0.1:9090"]);
            assert_eq!(options.data_dir, PathBuf::from("data"));
            assert_eq!((options.retention_ms, options.retention_bytes), (15 * 86_400_000, None));
            assert_eq!(options.route_prefix, "/");
            assert!(
                options.config_file.is_none() && !options.enable_lifecycle && options.warnings.is_empty()
            );
        }
    }

    #[test]
    fn prometheus_flags_have_their_meaning() {
        let options = serve(&[
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path",
            "/var/lib/x",
            "--storage.tsdb.retention.time=30d",
            "--storage.tsdb.retention.size=1.5GB",
            "--web.listen-address=0.0.0.0:9091",
            "--web.listen-address=[::1]:9092",
            "--web.external-url=https://mon.example/a/b/",
            "--web.enable-lifecycle",
            "--web.console.templates=/etc/consoles",
            "--query.max-samples=5",
            "--enable-feature=promql-experimental-functions,extra-scrape-metrics",
            "--log.format=json",
        ]);
        assert_eq!(options.retention_ms, 30 * 86_400_000);
        assert_eq!(options.retention_bytes, Some(3 << 29));
        assert_eq!(options.listen.len(), 2);
        assert_eq!(options.route_prefix, "/a/b");
        assert!(options.enable_lifecycle && options.features.experimental_functions);
        assert_eq!(options.warnings.len(), 2, "{:?}", options.warnings);
        let bound = "127.0.0.1:9091".parse().unwrap();
        assert_eq!(options.external_url(bound), "https://mon.example/a/b");
        assert_eq!(serve(&["--web.route-prefix=x/"]).external_url(bound), "http://127.0.0.1:9091/x");
    }

    #[test]
    fn retention_by_size_alone_has_no_bound_by_time() {
        assert!(serve(&["--storage.tsdb.retention.size=1GB"]).retention_ms > 50 * 365 * 86_400_000);
        assert_eq!(serve(&["--storage.tsdb.retention=1d"]).retention_ms, 86_400_000);
    }

    #[test]
    fn the_last_form_of_a_switch_wins() {
        for (args, on) in [
            (&["--web.enable-lifecycle=true"][..], true),
            (&["--web.enable-lifecycle", "--no-web.enable-lifecycle"], false),
            (&["--no-web.enable-lifecycle", "--web.enable-lifecycle"], true),
            (&["--web.enable-lifecycle=false"], false),
        ] {
            assert_eq!(serve(args).enable_lifecycle, on, "{args:?}");
        }
    }

    #[test]
    fn wrong_usage_is_refused_with_a_reason() {
        for (args, said) in [
            (&["--web.listen-adress=x:1"][..], "--web.listen-address"),
            (&["--web.listen-address=localhost"], "HOST:PORT"),
            (&["--storage.tsdb.retention.time=5"], "not a valid duration"),
            (&["--storage.tsdb.retention.size=5"], "unit"),
            (&["--web.config.file=x.yml"], "not supported yet"),
            (&["--enable-feature=agent"], "agent"),
            (&["--query.max-concurrency=0"], "at least 1"),
            (&["--query.max-steps=0"], "at least 1"),
            (&["--query.max-expression-length=1000000"], "at most"),
            (&["--query.max-memory=5"], "unit"),
            (&["--query.max-memory-total=5"], "unit"),
            (&["--alertmanager.notification-queue-capacity=9000000000000000000"], "at most"),
            (&["--log.level=loud"], "debug"),
            (&["chekc"], "check"),
            (&["check", "config"], "FILE"),
            (&["test", "promql"], "FILE"),
            (&["query", "instant"], "EXPR"),
            (&["query", "range", "--step=0", "up"], "above zero"),
            (&["query", "range", "--start=2", "--end=1", "up"], "before --start"),
            (&["query", "instant", "--time=yesterday", "up"], "RFC 3339"),
            (&["query", "instant", "--data=x", "--server=y", "up"], "--data"),
            (&["query", "instant", "--data=x", "http://y", "up"], "two places"),
            (&["query", "instant", "--server=ftp://x", "up"], "http://"),
            (&["query", "instant", "--format=xml", "up"], "csv"),
        ] {
            let text = error(args);
            assert!(text.contains(said), "{args:?}: {text}");
        }
    }

    #[test]
    fn the_version_is_printed_like_prometheus_prints_it() {
        assert!(version().starts_with("streamgate, version 0."));
        for args in [&["streamgate", "--version"][..], &["streamgate", "serve", "--version"]] {
            assert!(matches!(parse(args.iter().map(OsString::from)), Ok(Command::Version)));
        }
    }
}
