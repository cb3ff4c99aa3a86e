//! Why a manager's pod does not run, as the cluster tells it (runner-on-kubernetes.md §7.1).

use crate::domain::kubernetes::Object;
use serde_json::Value;

/// What keeps a pod from running, and in whose words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// CamelCase, Kubernetes' own where it has one.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The first trouble of the newest pod; a pod that is merely starting has none.
pub(crate) fn of(pods: &[Object]) -> Option<Trouble> {
    let mut pods: Vec<&Object> = pods.iter().filter(|pod| !pod.is_terminating()).collect();
    pods.sort_by_key(|pod| pod.body["metadata"]["creationTimestamp"].as_str());
    let status = &pods.last()?.body["status"];
    unscheduled(status).or_else(|| container(status))
}

fn unscheduled(status: &Value) -> Option<Trouble> {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let refused = conditions
        .filter(|one| one["type"] == "PodScheduled" && one["status"] == "False")
        .find(|one| one["reason"] == "Unschedulable")?;
    let told = refused["message"].as_str().unwrap_or("no node has room for it");
    let message = format!("no node takes the manager's pod: {told}");
    Some(Trouble { reason: "Unschedulable", message })
}

fn container(status: &Value) -> Option<Trouble> {
    let containers = ["initContainerStatuses", "containerStatuses"];
    let mut all = containers.iter().flat_map(|key| status[key].as_array().into_iter().flatten());
    all.find_map(|container| {
        let waiting = &container["state"]["waiting"];
        let told = waiting["message"].as_str().unwrap_or_default();
        match waiting["reason"].as_str()? {
            "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" => {
                let image = container["image"].as_str().unwrap_or("its image");
                let message = format!(
                    "the image {image} cannot be pulled: {told}; look at cluster.images and its pull secrets"
                );
                Some(Trouble { reason: "ImagePullBackOff", message })
            }
            "CrashLoopBackOff" => {
                let ended = &container["lastState"]["terminated"];
                let code = ended["exitCode"].as_i64().map_or(String::new(), |code| format!(" with {code}"));
                let last = ended["message"].as_str().and_then(last_line).unwrap_or(told);
                let message = format!("the manager ends{code} again and again: {last}");
                Some(Trouble { reason: "CrashLoopBackOff", message })
            }
            "CreateContainerConfigError" | "CreateContainerError" => {
                let message = format!("the manager's container cannot be made: {told}");
                Some(Trouble { reason: "CreateContainerError", message })
            }
            _ => None,
        }
    })
}

/// Of what a container ended with, a log's last lines where it left no word of its own (`FallbackToLogsOnError`).
fn last_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).rfind(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::last_line;

    #[test]
    fn of_a_log_the_last_line_that_says_something_is_told() {
        assert_eq!(last_line("it starts\n  FATAL: no config\r\n\n"), Some("FATAL: no config"));
        assert_eq!(last_line(" \n"), None);
    }
}
