//! A token that may be in other hands is made worthless at once, and the manager gets another.

use crate::{
    crashes::{crashes, some_of},
    deeds::{client, plan_fleet},
    disturbed::{check_all, entries, run, same},
    harness::Sandbox,
    healing_crashes::{go, left},
};
use forerunner::sandbox::wire::Call;
use serde_json::{Value, json};

/// Two runners that serve.
async fn settled(file: &str) -> (Sandbox, String) {
    let sandbox = Sandbox::new(file).await;
    let groups =
        ["payments", "other"].map(|name| sandbox.world.gitlab.create_group(Some(42), name));
    sandbox.settle().await;
    (sandbox, format!("g{}-plan", groups[0]))
}

fn token(sandbox: &Sandbox, key: &str) -> String {
    let name = format!("runner-{key}-config");
    let secret = sandbox.world.kubernetes.get("secrets", "forerunner-nonprod", &name).unwrap();
    entries(&secret).remove(0).1
}

fn revoke(sandbox: &Sandbox) {
    let order = json!({"command": "revoke", "targets": ["platform/payments"], "by": "jane", "why": "SEC-1183"});
    sandbox.order("approvals", &order);
}

/// That the one token is dead, and another one lives.
fn assert_replaced(sandbox: &Sandbox, key: &str, old: &str) {
    let new = token(sandbox, key);
    assert!(!sandbox.world.gitlab.token_is_valid(old), "{}", sandbox.story());
    assert!(new != old && sandbox.world.gitlab.token_is_valid(&new), "{}", sandbox.story());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_revokes_a_token_and_the_runner_goes_on() {
    let (sandbox, key) = settled(&plan_fleet()).await;
    let (id, old) = (sandbox.runner(&key).id, token(&sandbox, &key));
    let other = sandbox.keys().into_iter().find(|one| *one != key).unwrap();
    let untouched = token(&sandbox, &other);
    sandbox.world.wire.forget_calls();
    revoke(&sandbox);
    sandbox.settle().await;
    assert_replaced(&sandbox, &key, &old);
    sandbox.assert_ready(&format!("runner/{key}"));
    assert_eq!(sandbox.runner(&key).id, id, "the same runner");
    assert_eq!(token(&sandbox, &other), untouched);
    let calls = sandbox.world.wire.calls();
    let resets = calls
        .iter()
        .filter(|call| call.is_ours() && call.path.ends_with("/reset_authentication_token"));
    assert_eq!(resets.count(), 1, "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_lets_a_revocation_through_and_nothing_else() {
    let (sandbox, key) = settled(&plan_fleet()).await;
    let old = token(&sandbox, &key);
    let order = json!({"command": "hold", "targets": ["all"], "by": "jane", "why": "incident 7", "until": "2026-11-24T20:00:00Z"});
    sandbox.order("approvals", &order);
    sandbox.settle().await;
    let edit = |object: &mut Value| object["spec"]["replicas"] = 3.into();
    let deployment = format!("runner-{key}");
    sandbox.world.kubernetes.edit("deployments", "forerunner-nonprod", &deployment, edit);
    revoke(&sandbox);
    sandbox.settle().await;
    assert_replaced(&sandbox, &key, &old);
    assert_eq!(sandbox.replicas(&key), 3, "nobody mends it");
    assert_eq!(sandbox.ready(&format!("runner/{key}")).0, "Held");
}

/// What takes no jobs for now has its token replaced before it takes any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_runners_token_is_revoked_when_it_returns() {
    let (sandbox, key) = settled(&plan_fleet()).await;
    let old = token(&sandbox, &key);
    let group = key[1..].split('-').next().unwrap();
    let withdrawn = format!("withdrawn: [{{ group: {group}, reason: SEC-2 }}]\n{}", plan_fleet());
    sandbox.deploy(&withdrawn).await;
    sandbox.sweep().await;
    revoke(&sandbox);
    sandbox.settle().await;
    assert_eq!(token(&sandbox, &key), old);
    assert!(sandbox.runner(&key).paused);
    sandbox.leap_to("2026-11-24T19:00:00Z");
    sandbox.deploy(&plan_fleet()).await;
    sandbox.sweep().await;
    assert_replaced(&sandbox, &key, &old);
    sandbox.assert_ready(&format!("runner/{key}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_lets_a_revocation_through_that_allows_to_revoke() {
    for (allow, lets) in [("restore", false), ("revoke", true)] {
        let freeze =
            format!("  freeze: [{{ from: 2026-11-25, to: 2026-11-26, allow: [{allow}] }}]\n");
        let (sandbox, key) = settled(&format!("{}{freeze}", plan_fleet())).await;
        let old = token(&sandbox, &key);
        sandbox.leap_to("2026-11-25T08:00:00Z");
        revoke(&sandbox);
        sandbox.settle().await;
        assert_eq!(token(&sandbox, &key) != old, lets, "{allow}: {}", sandbox.story());
        sandbox.leap_to("2026-11-27T08:00:00Z");
        sandbox.sweep().await;
        assert_replaced(&sandbox, &key, &old);
        sandbox.assert_ready(&format!("runner/{key}"));
    }
}

/// Its message went to the dead letters, say: what the ledger says is still to be done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_finds_the_revocation_that_no_message_tells_of() {
    let (sandbox, key) = settled(&plan_fleet()).await;
    let (now, old) = (sandbox.world.clock.now(), token(&sandbox, &key));
    sandbox.world.kubernetes.edit("configmaps", "forerunner-nonprod", "ledger", |ledger| {
        let record = &mut ledger["data"]["record.json"];
        let mut book: Value = serde_json::from_str(record.as_str().unwrap()).unwrap();
        book["revocations"] = json!([{ "unit": format!("runner/{key}"), "at": now.to_string() }]);
        *record = book.to_string().into();
    });
    sandbox.sweep().await;
    assert_replaced(&sandbox, &key, &old);
    sandbox.assert_ready(&format!("runner/{key}"));
}

#[test]
fn a_crash_in_a_revocation_loses_no_token() {
    let (expected, calls) = run(async {
        let (sandbox, _) = settled(&plan_fleet()).await;
        sandbox.lose_hooks();
        sandbox.world.wire.forget_calls();
        revoke(&sandbox);
        go(&sandbox).await.unwrap();
        let calls = sandbox.world.wire.calls().into_iter().filter(Call::is_ours);
        let calls = calls.collect::<Vec<_>>();
        (left(&sandbox), calls)
    });
    assert!(calls.iter().any(|call| call.path.ends_with("/reset_authentication_token")));
    check_all(&some_of(crashes(&calls)), async |crash| {
        let (sandbox, key) = settled(&plan_fleet()).await;
        let old = token(&sandbox, &key);
        sandbox.lose_hooks();
        sandbox.world.wire.crash_at(crash.call, crash.moment);
        revoke(&sandbox);
        go(&sandbox).await?;
        assert_replaced(&sandbox, &key, &old);
        same(&sandbox, &left(&sandbox), &expected)
    });
}

/// `drift.foreignManager: revoke` needs no operator; with `alarm` it is told, and `drift_table` says how.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_a_stranger_polls_with_is_revoked_where_the_file_says_so() {
    let file =
        plan_fleet().replace("identity: {", "drift: { foreignManager: revoke }, identity: {");
    let (sandbox, key) = settled(&file).await;
    let (unit, old) = (format!("runner/{key}"), token(&sandbox, &key));
    let poll = async || {
        let body = json!({"token": old, "system_id": "s_somebodyelse", "info": {}});
        let gitlab = sandbox.world.address("gitlab").unwrap();
        let request = client().post(format!("http://{gitlab}/api/v4/jobs/request")).json(&body);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(poll().await, 204);
    sandbox.sweep().await;
    assert_replaced(&sandbox, &key, &old);
    assert_eq!(poll().await, 403);
    sandbox.assert_ready(&unit);
    let told = sandbox.status(&unit).to_string();
    assert!(!told.contains("ForeignManager"), "it is over: {told}");
    let id = sandbox.runner(&key).id;
    let did = format!("replace the token of runner {id}: s_somebodyelse polled with it");
    assert!(told.contains(&did) && told.contains("its token was revoked"), "{told}");
    let new = token(&sandbox, &key);
    sandbox.leap_to("2026-11-24T12:00:00Z");
    sandbox.sweep().await;
    sandbox.world.wire.forget_calls();
    sandbox.sweep().await;
    assert_eq!(token(&sandbox, &key), new, "once");
    let calls = sandbox.own_calls();
    assert!(!calls.iter().any(|call| call.starts_with("ServiceBus")), "{calls:#?}");
}
