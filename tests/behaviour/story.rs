//! What a test that fails shows of its sandbox.

use super::harness::Sandbox;

/// How much of a story is shown: what the end of a long log still has room for.
const LINES_SHOWN: usize = 30;
const LINE_SHOWN: usize = 400;

impl Sandbox {
    /// The end of [`Sandbox::whole_story`] for a test that fails, reads left out; all with `FORERUNNER_STORY=whole`.
    #[expect(clippy::disallowed_methods, reason = "a developer asks for more")]
    pub(crate) fn story(&self) -> String {
        let whole = self.whole_story();
        if std::env::var("FORERUNNER_STORY").is_ok_and(|wished| wished == "whole") {
            return whole;
        }
        let telling = whole.lines().filter(|line| {
            !["ca.crt", " GET ", "jobs/request"].into_iter().any(|noise| line.contains(noise))
        });
        let telling: Vec<String> =
            telling.map(|line| line.chars().take(LINE_SHOWN).collect()).collect();
        telling[telling.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }

    /// How managers and units stand, which calls were made and, last, what the handler logged.
    pub(crate) fn whole_story(&self) -> String {
        let pods = self.world.kubernetes.list("pods", "");
        let pods = pods.iter().map(|pod| format!("{} {}", pod["metadata"]["name"], pod["status"]));
        let status = self.world.kubernetes.list("configmaps", "");
        let status = status.iter().map(|map| map["data"].to_string());
        let calls = self.world.wire.calls();
        let calls = calls.iter().map(|call| {
            let status = call.status.map_or("lost".to_owned(), |status| status.to_string());
            format!(
                "{} {:?} {} {} {status} {}",
                call.at, call.service, call.method, call.path, call.caller
            )
        });
        let logs = self.world.host().map(|host| host.logs()).unwrap_or_default();
        let logs = logs.iter().map(|line| format!("{} {:?} {}", line.at, line.level, line.text));
        let managers = [self.world.managers.dump().to_string()].into_iter();
        let lines = managers.chain(pods).chain(status).chain(calls).chain(logs);
        lines.collect::<Vec<_>>().join("\n")
    }
}
