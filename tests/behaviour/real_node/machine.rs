//! A machine for a node inside this one: namespaces of its own for network, mounts and processes, which end with it.

use crate::real_kubernetes::cluster::program;
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const ASKED: &str = "FORERUNNER_REAL_KUBERNETES";
const INSIDE: &str = "FORERUNNER_INSIDE_NODE";
const PROGRAMS: [&str; 6] = ["containerd", "ctr", "runc", "ip", "unshare", "ldd"];
const PLUGIN: &str = "/usr/lib/cni/bridge";
const CGROUPS: &str = "/sys/fs/cgroup";

#[expect(clippy::disallowed_methods, reason = "a test is told by its environment")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

pub(super) fn is_inside() -> bool {
    variable(INSIDE) == "1"
}

/// Past the test's captured output: whoever runs the tests is to see it.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Why no node can be had here, and what would help.
pub(super) fn left_out() -> Option<String> {
    if variable(ASKED) != "1" {
        return Some(format!(
            "left out: tests on a real node; {ASKED}=1 cargo test real_node runs them (needs root, Go, containerd, runc and containernetworking-plugins)"
        ));
    }
    let path = variable("PATH");
    let mut missing: Vec<&str> = PROGRAMS
        .into_iter()
        .filter(|name| !path.split(':').any(|folder| Path::new(folder).join(name).exists()))
        .collect();
    if !Path::new(PLUGIN).exists() {
        missing.push(PLUGIN);
    }
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    match (is_root, missing.as_slice()) {
        (true, []) if !may_unshare() => {
            Some("left out: tests on a real node; this machine gives root no namespaces".to_owned())
        }
        (true, []) => None,
        (false, _) => Some("left out: tests on a real node; they need root".to_owned()),
        (true, missing) => {
            Some(format!("left out: tests on a real node; missing: {}", missing.join(", ")))
        }
    }
}

/// What every machine of ours begins with.
const APART: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// In a container, root often may not.
fn may_unshare() -> bool {
    let mut tried = Command::new("unshare");
    tried.args(APART).args(["mount", "-t", "tmpfs", "none", "/run"]);
    tried.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Runs one test of this program again, in a machine of its own that the kernel takes down with it.
pub(super) fn again_inside(test: &str) {
    // Build first: outside, the module's downloads still have a network.
    program();
    let before = cgroups();
    let script = "mount -t tmpfs none /run && mount -t tmpfs none /var/log && ip link set lo up && exec \"$@\"";
    let status = Command::new("unshare")
        .args(APART)
        .args(["sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status();
    // Groups of processes outlive their namespace, empty.
    for left in cgroups().difference(&before) {
        let _may_be_gone = std::fs::remove_dir(left);
    }
    assert!(status.unwrap().success(), "what ran on the node failed; see above");
}

/// Of containers that containerd runs for Kubernetes.
fn cgroups() -> BTreeSet<PathBuf> {
    let below = |folder: PathBuf| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir())
    };
    let hierarchies = below(CGROUPS.into()).map(|path| path.join("k8s.io"));
    hierarchies.chain([Path::new(CGROUPS).join("k8s.io")]).flat_map(below).collect()
}

#[derive(Deserialize)]
pub(super) struct Node {
    /// Where its pods find what listens on it.
    pub(super) address: std::net::Ipv4Addr,
    /// Its standard input is open for as long as this process runs.
    #[serde(skip)]
    _running: Option<Child>,
}

/// Joins a node to the cluster in `folder`; it starts its pods from this image.
pub(super) fn join(folder: &Path, image: &Path) -> Node {
    let mut running = Command::new(program())
        .arg("node")
        .arg(folder)
        .arg(image)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(running.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let node: Node = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no node came up"));
    Node { _running: Some(running), ..node }
}
