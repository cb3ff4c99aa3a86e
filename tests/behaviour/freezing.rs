//! While `guardrails.freeze` lasts, nothing happens but what it allows.

use crate::{deeds::plain_fleet, harness::Sandbox};
use serde_json::json;

const FROZEN: &str = "  freeze: [{ from: 2026-11-24, to: 2026-11-26, allow: [ALLOWED] }]\n";

/// What is done to a settled fleet during the freeze, and whether it has an effect.
struct Case {
    allow: &'static str,
    /// A person's edit of a runner is put back.
    mended: bool,
    /// A withdrawn target's runner is paused.
    paused: bool,
}

/// The plain profile with one target withdrawn, another tag, and a freeze.
fn file(group: u64, allow: &str) -> String {
    let file = plain_fleet().replace("tags: [plain]", "tags: [other]");
    let withdrawn = format!("withdrawn: [{{ group: {group}, reason: SEC-1182 }}]\n");
    format!("{withdrawn}{file}{}", FROZEN.replace("ALLOWED", allow))
}

async fn check(case: &Case) {
    let sandbox = Sandbox::new(&plain_fleet()).await;
    let group = |name| sandbox.world.gitlab.create_group(Some(42), name);
    let (edited, withdrawn) = (group("payments"), group("base"));
    sandbox.settle().await;
    let (edited, withdrawn_key) = (format!("g{edited}-plain"), format!("g{withdrawn}-plain"));
    let name = format!("runner-{edited}");
    let edit = |object: &mut serde_json::Value| object["spec"]["replicas"] = json!(3);
    sandbox.world.kubernetes.edit("deployments", "forerunner-nonprod", &name, edit);
    // The freeze begins, and only then a rule, a tag and a withdrawal come.
    let (same, freeze) = (plain_fleet(), FROZEN.replace("ALLOWED", case.allow));
    sandbox.deploy(&format!("{same}{freeze}")).await;
    sandbox.sweep().await;
    let allow = case.allow;
    let mended = sandbox.replicas(&edited) == 1;
    assert_eq!(mended, case.mended, "allow {allow}: {}", sandbox.story());
    sandbox.deploy(&file(withdrawn, allow)).await;
    let new = sandbox.world.gitlab.create_group(Some(42), "late");
    sandbox.sweep().await;
    assert!(!sandbox.keys().contains(&format!("g{new}-plain")), "allow {allow}: made");
    assert_eq!(sandbox.runner(&edited).tags, ["plain"], "allow {allow}: changed");
    let runner = sandbox.runner(&withdrawn_key);
    assert_eq!(runner.paused, case.paused, "allow {allow}: {}", sandbox.story());
    let (reason, message) = sandbox.ready(&format!("runner/{edited}"));
    assert_eq!(reason, "Frozen", "allow {allow}: {message}");
    assert!(message.starts_with("guardrails.freeze lasts until 2026-11-26"), "{message}");
    // It is over, and all that was asked meanwhile is done.
    sandbox.leap_to("2026-11-27T08:00:00Z");
    sandbox.sweep().await;
    assert!(sandbox.keys().contains(&format!("g{new}-plain")), "{}", sandbox.story());
    assert_eq!(sandbox.runner(&edited).tags, ["other"]);
    assert!(sandbox.runner(&withdrawn_key).paused);
    assert_eq!(sandbox.replicas(&edited), 1);
    sandbox.assert_ready(&format!("runner/{edited}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_happens_but_what_it_allows() {
    let case = |allow, mended, paused| Case { allow, mended, paused };
    for case in [
        case("", false, false),
        case("restore", true, false),
        case("revoke", false, true),
        case("restore, revoke", true, true),
    ] {
        check(&case).await;
    }
}
