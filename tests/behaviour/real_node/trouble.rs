//! What keeps a manager from running on the node, and what is told of it.

use super::{image, story::Scene};
use jiff::SignedDuration;

impl Scene {
    /// In the kubelet's own words, and with the last line of a log.
    pub(super) async fn what_keeps_a_manager_from_running_is_told(&self, group: u64) {
        let (sandbox, unit) = (&self.sandbox, format!("runner/g{group}-plan"));
        let mut version = image::RUNNER;
        let last = format!("ends with 1 again and again: {}", image::LAST_WORDS);
        for (next, reason, words) in [
            ("19.4.1", "ImagePullBackOff", "gitlab-runner:alpine-v19.4.1 cannot be pulled: "),
            (image::ENDS, "CrashLoopBackOff", &last),
        ] {
            let file = std::fs::read_to_string(sandbox.folder.join("fleet.yaml")).unwrap();
            let (old, new) = (format!("runner: {version}"), format!("runner: {next}"));
            sandbox.deploy(&file.replace(&old, &new)).await;
            version = next;
            assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
            let clock = &sandbox.world.clock;
            self.until(reason, async || {
                // What is on its way is told anew every five minutes.
                clock.turn_to(clock.now() + SignedDuration::from_secs(10));
                sandbox.condition(&unit, "Deployed")["reason"] == reason
            })
            .await;
            let told = sandbox.condition(&unit, "Deployed")["message"].to_string();
            assert!(told.contains(words), "{told}");
        }
    }
}
