//! The program, built from gitlab-runner's own module where that was asked for.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

pub(crate) const ASKED: &str = "FORERUNNER_REAL_RUNNER";
pub(crate) const VERSION: &str = "19.4.0";
/// Commit of the module's version.
const REVISION: &str = "fc1f1862";

pub(crate) fn is_asked() -> bool {
    #[expect(clippy::disallowed_methods, reason = "a test is told by its environment")]
    let asked = std::env::var(ASKED);
    asked.is_ok_and(|value| value == "1")
}

/// Its file, if it was asked for. Says once what is left out otherwise.
pub(crate) fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| {
        if is_asked() {
            return Some(build());
        }
        // Not through the test's captured output: whoever runs the tests is to see it.
        let _ = writeln!(
            std::io::stderr(),
            "left out: tests with the real gitlab-runner; {ASKED}=1 cargo test real_runner runs them (needs Go 1.26)"
        );
        None
    });
    built.as_deref()
}

/// Minutes once, then seconds.
fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gitlab-runner");
    let set = |name: &str, value: &str| {
        format!("-X gitlab.com/gitlab-org/gitlab-runner/common.{name}={value}")
    };
    let flags = ["-s -w".to_owned(), set("VERSION", VERSION), set("REVISION", REVISION)];
    let built = Command::new("go")
        .args(["build", "-trimpath", "-ldflags", &flags.join(" "), "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(root.join("tests/gitlab_runner"))
        .env("CGO_ENABLED", "0")
        .status();
    let built = built.unwrap_or_else(|error| panic!("{ASKED}=1 needs Go 1.26: {error}"));
    assert!(built.success(), "tests/gitlab_runner does not build");
    program
}
