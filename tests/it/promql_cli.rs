//! PromQL on the command line.

use std::process::{Command, Output};

/// Runs the binary in `folder` to its end.
fn streamgate(folder: &std::path::Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_streamgate")).args(args).current_dir(folder).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn scripts_are_run_and_their_failures_shown() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("good.test", "load 1m\n  up{a=\"b\"} 0+1x5\n\neval instant at 2m up\n  up{a=\"b\"} 2\n");
    write("bad.test", "eval instant at 1m 1 + 1\n  3\n\neval instant at 0 2\n  2\n");
    write("malformed.test", "eval instant at 0 2\n  2\n\nlaod 1m\n");
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    write("folder/one.test", "eval instant at 0 2\n  2\n");

    let run = |args: &[&str]| {
        let output = streamgate(dir.path(), &[&["test", "promql"], args].concat());
        (output.status.code(), stdout(&output))
    };
    assert_eq!(run(&["good.test", "folder"]), (Some(0), "2 passed, 0 failed\n".to_owned()));
    assert_eq!(run(&["--thorough", "good.test"]), (Some(0), "1 passed, 0 failed\n".to_owned()));
    assert_eq!(
        run(&["bad.test", "good.test", "malformed.test"]),
        (
            Some(1),
            "bad.test:1: 1 + 1: expected scalar 3, got 2\n\
             malformed.test:4: the script ends here: unknown command \"laod\"\n\
             3 passed, 2 failed\n"
                .to_owned()
        )
    );
    let (code, out) = run(&["missing.test"]);
    assert_eq!(code, Some(1));
    assert!(out.starts_with("missing.test: ") && out.ends_with("\n0 passed, 1 failed\n"), "{out}");
}
