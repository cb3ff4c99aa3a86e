//! Every `config.toml` that we render, in the eyes of gitlab-runner's own loader. `lint` alone tells unknown keys.

use super::program::program;
use std::{fs, path::Path, process::Command};

/// What follows the head of a snapshot.
fn rendered(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("tests/snapshots").join(name)).unwrap();
    text.splitn(3, "---\n").nth(2).unwrap().to_owned()
}

/// Whether it is accepted, and what is said.
fn lint(program: &Path, text: &str) -> (bool, String) {
    let folder = std::env::temp_dir().join(format!("forerunner-lint-{}", uuid::Uuid::new_v4()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("config.toml");
    fs::write(&file, text).unwrap();
    let output = Command::new(program).arg("lint").arg("--config").arg(&file).output().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_real_loader_knows_every_key_that_we_render() {
    let Some(program) = program() else { return };
    for name in ["config_default.snap", "config_hardened.snap", "config_image_build.snap"] {
        let (accepted, said) = lint(program, &rendered(name));
        assert!(accepted, "{name}: {said}");
    }
}

#[test]
fn the_real_loader_refuses_a_key_that_it_does_not_know_and_a_wrong_type() {
    let Some(program) = program() else { return };
    let text = rendered("config_hardened.snap");
    for (right, wrong, refusal) in [
        (
            "service_account = ",
            "service_acount = ",
            "unknown key: runners.kubernetes.service_acount",
        ),
        ("privileged = false", "privileged = \"no\"", "incompatible types"),
        ("poll_timeout = 600", "poll_timeout = ", "expected value"),
    ] {
        assert!(text.contains(right), "{right}");
        let (accepted, said) = lint(program, &text.replace(right, wrong));
        assert!(!accepted && said.contains(refusal), "{wrong}: {said}");
    }
}
