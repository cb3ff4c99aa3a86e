//! The one image of everything that runs on the node: forerunner, which plays `az` and, unless the real one is there,
//! `gitlab-runner`; and a shell.

use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// What holds a pod's namespaces, and what jobs run in.
pub(super) const NODE: &str = "forerunner.test/node:1";
pub(super) const RUNNER: &str = "19.4.0";
/// A manager of this version ends at once, and says so last.
pub(super) const ENDS: &str = "19.4.2";
pub(super) const LAST_WORDS: &str = "FATAL: it ends at once";

/// The sandbox's manager as an entrypoint. `gitlab` is what it is told of the sandbox's GitLab.
pub(super) fn played_manager(gitlab: &str) -> String {
    format!("exec /usr/bin/forerunner sandbox-manager --gitlab {gitlab} --runner {RUNNER} \"$@\"")
}

/// Writes the image's archive below `folder`. `manager` is the script of its entrypoint, `further` are programs beside
/// those that every pod needs, each with its place.
pub(super) fn archive(folder: &Path, manager: &str, further: &[(PathBuf, String)]) -> PathBuf {
    let image = folder.join("image");
    let root = image.join("root");
    for directory in ["bin", "usr/bin", "tmp", "etc", "home/gitlab-runner"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    // A container's processes are nobody in particular.
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let forerunner = Path::new(env!("CARGO_BIN_EXE_forerunner"));
    for (from, to) in [
        (Path::new("/bin/sh"), "bin/sh"),
        (Path::new("/bin/sleep"), "bin/sleep"),
        (Path::new("/bin/cat"), "bin/cat"),
        (Path::new("/bin/grep"), "bin/grep"),
        (forerunner, "usr/bin/forerunner"),
    ] {
        add_program(&root, from, to);
    }
    add_script(&root, "usr/bin/dumb-init", "shift; exec \"$@\"");
    for (from, to) in further {
        add_program(&root, from, to);
    }
    let ends = format!("if [ \"$ENDS\" ]; then echo it starts; echo '{LAST_WORDS}'; exit 1; fi");
    add_script(&root, "entrypoint", &format!("{ends}\n{manager}"));
    // What the real runner starts the helper's scripts with.
    add_script(&root, "usr/bin/gitlab-runner-build", "exec bash");
    add_script(&root, "usr/bin/az", "exec /usr/bin/forerunner sandbox-az \"$@\"");

    let layer = image.join("layer.tar");
    tar(&["-C", root.to_str().unwrap(), "-cf", layer.to_str().unwrap(), "."]);
    let digest = hex::encode(Sha256::digest(fs::read(&layer).unwrap()));
    let registry = "registry.gitlab.com/gitlab-org";
    let path = "PATH=/usr/bin:/bin";
    let images = [
        (
            "sleeps.json",
            json!(["/bin/sleep", "infinity"]),
            json!([path]),
            vec![NODE.to_owned(), format!("{registry}/gitlab-runner:alpine-v{RUNNER}")],
        ),
        // Beside the script of a job there is nothing to help with.
        (
            "ends.json",
            json!(["/bin/sh", "-c", "exit 0"]),
            json!([path]),
            vec![format!("{registry}/gitlab-runner/gitlab-runner-helper:x86_64-v{RUNNER}")],
        ),
        (
            "fails.json",
            json!(["/bin/sh"]),
            json!([path, "ENDS=1"]),
            vec![format!("{registry}/gitlab-runner:alpine-v{ENDS}")],
        ),
    ];
    let mut manifest = Vec::new();
    for (file, entrypoint, variables, names) in &images {
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Entrypoint": entrypoint, "Env": variables},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        });
        fs::write(image.join(file), config.to_string()).unwrap();
        manifest.push(json!({"Config": file, "RepoTags": names, "Layers": ["layer.tar"]}));
    }
    fs::write(image.join("manifest.json"), json!(manifest).to_string()).unwrap();
    let archive = folder.join("image.tar");
    tar(&[
        "-C",
        image.to_str().unwrap(),
        "-cf",
        archive.to_str().unwrap(),
        "manifest.json",
        "sleeps.json",
        "ends.json",
        "fails.json",
        "layer.tar",
    ]);
    archive
}

/// A program of this machine and the libraries that it is linked with.
fn add_program(root: &Path, from: &Path, to: &str) {
    fs::copy(fs::canonicalize(from).unwrap(), root.join(to)).unwrap();
    let linked = Command::new("ldd").arg(from).output().unwrap();
    let text = String::from_utf8(linked.stdout).unwrap();
    for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let inside = root.join(&library[1..]);
        fs::create_dir_all(inside.parent().unwrap()).unwrap();
        fs::copy(library, inside).unwrap();
    }
}

fn add_script(root: &Path, at: &str, text: &str) {
    let file = root.join(at);
    fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

fn tar(arguments: &[&str]) {
    let made = Command::new("tar").args(["--owner=0", "--group=0"]).args(arguments).status();
    assert!(made.is_ok_and(|status| status.success()), "tar {arguments:?}");
}
