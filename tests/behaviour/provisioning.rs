//! A new group gets its runner, from the hook to the last condition.

use crate::harness::{FLEET, Sandbox};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_group_gets_its_runner() {
    let sandbox = Sandbox::new(FLEET).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let unit = format!("runner/g{group}-plan");
    assert!(sandbox.is_ready(&unit), "{}", sandbox.story());
}
