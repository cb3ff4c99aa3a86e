//! Units of which nothing is left but their entity in GitLab: its marker counts where it belongs to its target, and so it goes as
//! any other.

use crate::{
    deeds::plain_fleet_for,
    harness::{KINDS, Sandbox},
    look_alikes::{installation, runner_of},
    removal::days,
};
use serde_json::json;

/// A runner that no rule gives any more, and of which somebody deleted all that was in the cluster; its key.
async fn emptied() -> (Sandbox, String) {
    let sandbox = Sandbox::new(&plain_fleet_for("payments")).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let key = format!("g{group}-plain");
    sandbox.assert_ready(&format!("runner/{key}"));
    sandbox.lose_hooks();
    sandbox.deploy(&plain_fleet_for("nobody")).await;
    let cluster = &sandbox.world.kubernetes;
    for plural in KINDS {
        for object in cluster.list(plural, "") {
            let text =
                |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            let is_its = object["metadata"]["labels"]["forerunner.dev/key"] == *key;
            if is_its || text("name") == format!("status-runner-{key}") {
                cluster.delete_as_admin(plural, &text("namespace"), &text("name"));
            }
        }
    }
    sandbox.pass_minutes(1).await;
    assert!(!sandbox.inventory()["objects"].to_string().contains(&key), "{}", sandbox.inventory());
    (sandbox, key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_of_which_nothing_else_is_left_goes_with_a_permit_and_no_look_alike_does() {
    let (sandbox, key) = emptied().await;
    let unit = format!("runner/{key}");
    let (own, entity) = (installation(&sandbox), sandbox.runner(&key).id);
    let group = key[1..].split('-').next().unwrap().parse().unwrap();
    let elsewhere = sandbox.world.gitlab.create_group(None, "elsewhere");
    // Where it does not belong, of another installation, of another fleet.
    let strangers = [
        (elsewhere, format!("[forerunner:nonprod:{own}:{key}:1]")),
        (elsewhere, format!("[forerunner:nonprod:another:g{elsewhere}-plain:1]")),
        (elsewhere, format!("[forerunner:prod:{own}:g{elsewhere}-plain:1]")),
        (group, format!("[forerunner:nonprod:{own}:g{elsewhere}-plain:1]")),
    ];
    let mut kept = Vec::new();
    for (group, marker) in strangers {
        let id = runner_of(&sandbox, group, &marker).await;
        kept.push((id, json!(sandbox.world.gitlab.runner(id))));
    }
    sandbox.sweep().await;
    let (reason, message) = sandbox.ready(&unit);
    assert!(reason == "NotWanted" && message.contains("permits"), "{reason}: {message}");
    assert!(!sandbox.world.gitlab.runner(entity).unwrap().paused);
    let writes = sandbox.own_writes().len();
    sandbox.world.wire.forget_calls();
    sandbox.sweep().await;
    let calls = sandbox.own_calls();
    assert!(!calls.iter().any(|call| call.starts_with("ServiceBus")), "{writes}: {calls:#?}");
    sandbox.leap_to(&days(2));
    sandbox.sweep().await;
    assert_eq!(sandbox.ready(&unit).0, "Leaving", "{}", sandbox.status(&unit));
    assert!(sandbox.world.gitlab.runner(entity).unwrap().paused);
    sandbox.leap_to(&days(12));
    sandbox.sweep().await;
    assert!(sandbox.world.gitlab.runner(entity).is_none(), "{}", sandbox.status(&unit));
    assert!(sandbox.status(&unit).is_null(), "{}", sandbox.status(&unit));
    assert!(sandbox.status(&format!("runner/g{elsewhere}-plain")).is_null());
    for (id, before) in kept {
        assert_eq!(json!(sandbox.world.gitlab.runner(id)), before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_to_remove_all_finds_it_too() {
    let (sandbox, key) = emptied().await;
    let order = json!({"command": "remove", "targets": ["all"], "by": "jane", "why": "SEC-1"});
    sandbox.order("approvals", &order);
    sandbox.pass_minutes(5).await;
    assert!(!sandbox.keys().contains(&key), "{}", sandbox.story());
    let told = sandbox.status(&format!("runner/{key}"));
    assert!(told.is_null(), "{told}\n{}", sandbox.story());
}
