//! A token of one top-level group's owner does where no rule speaks of the instance: nothing that only an administrator may
//! ask is asked.

use crate::{deeds::plain_fleet, harness::Sandbox};
use forerunner::sandbox::gitlab::{GroupLists, RunnerEdit};

pub(crate) async fn with_an_owners_token() -> Sandbox {
    let sandbox = Sandbox::new(&plain_fleet()).await;
    give_owners_token(&sandbox, &[42]);
    sandbox
}

/// From its first call on forerunner is the owner of these groups, and of nothing else.
pub(crate) fn give_owners_token(sandbox: &Sandbox, groups: &[u64]) {
    let gitlab = &sandbox.world.gitlab;
    let owner = gitlab.add_user("group-owner", false);
    groups.iter().for_each(|group| gitlab.add_group_member(*group, owner, 50));
    let token = gitlab.create_access_token(owner, &["create_runner", "manage_runner", "read_api"]);
    sandbox.world.azure.set_secret("kv-fleet", "gitlab-token", &token);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_of_the_anchor_with_narrow_scopes_is_enough() {
    let sandbox = with_an_owners_token().await;
    let gitlab = &sandbox.world.gitlab;

    let group = gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.pass_minutes(25).await;
    let unit = format!("runner/g{group}-plain");
    sandbox.assert_ready(&unit);
    let own = sandbox.own_calls();
    let administrators = ["/runners/all", "/hooks", "/users", "/application"];
    let asked = own.iter().filter(|call| administrators.iter().any(|path| call.contains(path)));
    assert_eq!(asked.collect::<Vec<_>>(), Vec::<&String>::new());
    let refused = sandbox.world.wire.calls().into_iter().filter(|call| {
        call.is_ours()
            && matches!(call.status, Some(401 | 403))
            && call.path.contains("/api/")
            && call.service == forerunner::sandbox::wire::Service::Gitlab
    });
    assert_eq!(refused.count(), 0, "{}", sandbox.story());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_is_seen_without_any_bulk_reads() {
    let sandbox = with_an_owners_token().await;
    let gitlab = &sandbox.world.gitlab;
    gitlab.set_group_lists(GroupLists::Refused);
    let group = gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let (key, unit) = (format!("g{group}-plain"), format!("runner/g{group}-plain"));
    sandbox.assert_ready(&unit);
    sandbox.sweep().await;
    let writes = sandbox.own_writes().len();
    sandbox.sweep().await;
    assert_eq!(sandbox.own_writes().len(), writes, "a healthy one is let alone");
    let edit = RunnerEdit { tags: Some(vec!["everything".into()]), ..RunnerEdit::default() };
    gitlab.edit_runner(sandbox.runner(&key).id, edit);
    sandbox.sweep().await;
    assert_eq!(sandbox.runner(&key).tags, ["plain"], "{}", sandbox.story());
}
