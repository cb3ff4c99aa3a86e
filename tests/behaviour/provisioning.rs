//! A new group gets its runner, from the hook to the last condition, and is then left alone.

use crate::harness::{FLEET, Sandbox};
use jiff::SignedDuration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_group_gets_its_runner_and_a_healthy_one_no_write() {
    let sandbox = Sandbox::new(FLEET).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let unit = format!("runner/g{group}-plan");
    assert!(sandbox.is_ready(&unit), "{}", sandbox.story());
    let runners = sandbox.world.gitlab.runners();
    assert_eq!(runners.len(), 1);
    assert!(!runners[0].paused);

    // A hook says look again, and so does the next sweep: both only read.
    sandbox.world.wire.forget_calls();
    sandbox.world.gitlab.archive_group(group);
    sandbox.world.gitlab.unarchive_group(group);
    sandbox.settle().await;
    sandbox.pass(SignedDuration::from_mins(11)).await;
    let own = sandbox.own_calls();
    let reads = [
        "GET ",
        "POST /rounds/messages",
        "listClusterUserCredential",
        "POST /api/graphql",
        "Microsoft.ResourceGraph",
    ];
    let writes = own.iter().filter(|call| !reads.iter().any(|read| call.contains(read)));
    assert_eq!(writes.collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(own.len() > 5, "the fleet was looked at: {own:?}");
}
