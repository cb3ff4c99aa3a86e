//! A new group gets its runner, from the hook to the last condition.

use crate::harness::{FLEET, Sandbox};
use jiff::SignedDuration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_group_gets_its_runner() {
    let sandbox = Sandbox::new(FLEET).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.world.pass(SignedDuration::from_mins(5)).await;
    let unit = format!("runner/g{group}-plan");
    assert_eq!(sandbox.condition(&unit, "Registered")["status"], true, "{}", sandbox.story());
}
