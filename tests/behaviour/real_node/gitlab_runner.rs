//! The manager Deployment as forerunner renders it, with gitlab-runner's own code in its image: its Kubernetes executor
//! runs jobs in pods of the node, with the rights of the shipped ClusterRole.
//!
//! The API server's audit log tells which of them it used. Then each is taken away by itself, and a job is run.

use super::{
    image, machine, pod,
    story::{ARM, ENTRA, GITLAB, MANAGERS, MERGE, NAME, NODE, Scene, pass_on},
    webhook::Webhook,
};
use crate::{
    harness::{FLEET, Sandbox},
    real_kubernetes::cluster::cluster,
    real_runner::{front::Front, program::program},
};
use forerunner::sandbox::gitlab::{JobStatus, JobView, NewJob};
use serde_json::{Value, json};
use std::{cell::RefCell, collections::BTreeSet, fs, path::PathBuf};

const STRATEGIC_MERGE: &str = "application/strategic-merge-patch+json";
const PULL_SECRET: &str = "registry-pull";
/// What the scripts of gitlab-runner call. Without `awk` and `sed` it does not end a job that is cancelled.
const PROGRAMS: [&str; 17] = [
    "awk", "bash", "chmod", "cp", "env", "git", "hostname", "id", "ls", "mkdir", "mkfifo", "mv",
    "rm", "sed", "tee", "touch", "tr",
];

/// API group, resource with its subresource, and verb.
type Right = (String, String, String);

/// Granted, and not used below: why it is granted all the same (runner-observed.md §1 and §2).
const KEPT: [(Rule, &str); 2] = [
    (("", "pods", "list"), "asked about by every job; called where a server has no streamed lists"),
    (("policy", "poddisruptionbudgets", "get"), "called when the answer to a creation was lost"),
];

type Rule = (&'static str, &'static str, &'static str);

/// A right that a manager does without, what becomes of a job then, and what the job or the manager says.
struct Without(Rule, JobStatus, &'static str);

const WITHOUT: [Without; 13] = [
    Without(("", "pods", "create"), JobStatus::Failed, "cannot create resource \\\"pods\\\""),
    Without(("", "pods", "get"), JobStatus::Failed, "cannot get resource \\\"pods\\\""),
    Without(("", "pods", "list"), JobStatus::Success, "not allowed: list on pods"),
    Without(("", "pods", "watch"), JobStatus::Success, "not allowed: watch on pods"),
    Without(
        ("", "pods/attach", "create"),
        JobStatus::Failed,
        "cannot create resource \\\"pods/attach\\\"",
    ),
    Without(
        ("", "pods/exec", "create"),
        JobStatus::Failed,
        "cannot create resource \\\"pods/exec\\\"",
    ),
    Without(("", "secrets", "create"), JobStatus::Failed, "cannot create resource \\\"secrets\\\""),
    Without(("", "secrets", "update"), JobStatus::Failed, "cannot update resource \\\"secrets\\\""),
    Without(
        ("", "secrets", "get"),
        JobStatus::Failed,
        "Timed out while waiting for ImagePullSecret",
    ),
    Without(
        ("", "serviceaccounts", "get"),
        JobStatus::Failed,
        "Timed out while waiting for ServiceAccount",
    ),
    Without(("", "events", "watch"), JobStatus::Failed, "cannot watch resource \\\"events\\\""),
    Without(
        ("policy", "poddisruptionbudgets", "create"),
        JobStatus::Failed,
        "cannot create resource \\\"poddisruptionbudgets\\\"",
    ),
    Without(("", "pods", "delete"), JobStatus::Success, "cannot delete resource \\\"pods\\\""),
];

pub(super) async fn tell() {
    let cluster = cluster().expect("asked for, or this would not run");
    let runner = program().expect("asked for, or this would not run");
    let folder = cluster.kubeconfig.parent().unwrap();
    let entrypoint = "exec /usr/bin/gitlab-runner \"$@\"";
    let mut programs: Vec<(PathBuf, String)> = PROGRAMS
        .iter()
        .map(|name| (PathBuf::from("/bin").join(name), format!("usr/bin/{name}")))
        .collect();
    for name in ["gitlab-runner", "gitlab-runner-helper"] {
        programs.push((runner.to_owned(), format!("usr/bin/{name}")));
    }
    let node = machine::join(folder, &image::archive(folder, entrypoint, &programs));
    let front = Front::at(node.address).await;
    let authority = folder.join("root.pem");
    fs::write(&authority, front.certificate()).unwrap();
    let fleet = fleet(&front.proxy(), &authority.display().to_string());
    let sandbox = Sandbox::on_cluster(&fleet, &cluster.kubeconfig).await;
    let _front = front.open(sandbox.world.address("gitlab").unwrap());
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    let project = sandbox.world.gitlab.create_project(group, "ledger");
    let story = Story { scene: Scene { cluster, sandbox }, project };
    story.manager_starts(group).await;
    story.jobs_run_with_what_is_granted().await;
    story.each_right_is_missed().await;
    for (port, service) in [(GITLAB, "gitlab"), (ENTRA, "entra"), (ARM, "arm")] {
        pass_on(port, story.scene.sandbox.world.address(service).unwrap()).await;
    }
    let _webhook = story.job_signs_in_to_azure().await;
    let real = story.manager_drains_for_another().await;
    let played = story.pod_of("sleep 5").await.1;
    let different = pod::differences(&real, &played);
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// GitLab is behind a proxy and has a certificate of the company's own; images are on the node.
fn fleet(proxy: &str, authority: &str) -> String {
    let url = "url: https://gitlab.example.com,";
    let images = "images: { runner: 19.4.0 }";
    let tags = "runner: { tags: [azure-plan] }";
    let job = format!(
        "kubernetes: {{ pullPolicy: [if-not-present], pullSecrets: [{PULL_SECRET}], extra: \"[kubernetes]\\nresource_availability_check_max_attempts = 1\" }}"
    );
    FLEET
        .replace("fleet: nonprod", &format!("fleet: {NAME}"))
        .replace(url, &format!("{url} caFile: {authority},"))
        .replace(images, &format!("{images}\n  proxy: {{ https: \"{proxy}\" }}"))
        .replace(tags, &format!("{tags}\n    {job}"))
}

struct Story {
    scene: Scene,
    project: u64,
}

impl Story {
    /// Its probes and its Secret are answered and read by the real program.
    async fn manager_starts(&self, group: u64) {
        let scene = &self.scene;
        let gitlab = &scene.sandbox.world.gitlab;
        let took = scene
            .until("gitlab-runner asks for jobs", async || {
                gitlab.runners().iter().any(|runner| runner.contacted_at.is_some())
            })
            .await;
        machine::say(&format!("real node: gitlab-runner asks for jobs {took:.1?} after its group"));
        scene.sandbox.settle().await;
        let unit = format!("runner/g{group}-plan");
        assert!(scene.sandbox.is_ready(&unit), "{}", scene.told().await);
        scene
            .until("its probes are answered", async || {
                let pod = scene.manager().await;
                let conditions = pod["status"]["conditions"].as_array().cloned();
                let mut conditions = conditions.unwrap_or_default().into_iter();
                conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
            })
            .await;
        let log = scene.log(MANAGERS, &scene.manager().await).await;
        assert!(!log.contains("Created missing unique system ID"), "{log}");
        let polls = scene.sandbox.world.wire.calls();
        assert!(polls.iter().any(|call| call.caller == "gitlab-runner"), "{polls:?}");
        let namespace = scene.job_namespace().await;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {"name": PULL_SECRET}, "stringData": {".dockerconfigjson": "{\"auths\":{}}"},
        });
        let secrets = format!("/api/v1/namespaces/{namespace}/secrets");
        let (status, made) = scene.call("POST", &secrets, &secret).await;
        assert_eq!(status, 201, "{made}");
    }

    /// A job that ends well, one that does not, one that is cancelled, and one whose pod is refused.
    async fn jobs_run_with_what_is_granted(&self) {
        let gitlab = &self.scene.sandbox.world.gitlab;
        let endless = self.add_job("while true; do echo still here; sleep 1; done");
        let good = self.job("id -u; echo it is $CI_JOB_ID").await;
        assert_eq!(good.status, JobStatus::Success, "{}", good.trace);
        for part in [
            "Running with gitlab-runner 19.4.0",
            "1000\n",
            &format!("it is {}", good.id),
            "Job succeeded",
        ] {
            assert!(good.trace.contains(part), "no `{part}` in\n{}", good.trace);
        }
        let bad = self.job("exit 7").await;
        assert_eq!((bad.status, bad.exit_code), (JobStatus::Failed, Some(7)), "{}", bad.trace);
        assert_eq!(bad.failure_reason.as_deref(), Some("script_failure"), "{}", bad.trace);
        assert_eq!(gitlab.job(endless).unwrap().status, JobStatus::Running);
        gitlab.cancel_job(endless);
        self.refuse_pods(true).await;
        let refused = self.job("true").await;
        assert_eq!(refused.failure_reason.as_deref(), Some("runner_system_failure"));
        assert!(
            refused.trace.contains("maximum memory usage per Container is 1Mi"),
            "{}",
            refused.trace
        );
        self.refuse_pods(false).await;
        let cancelled = self.ended(endless).await;
        assert_eq!(cancelled.status, JobStatus::Canceled, "{}", cancelled.trace);
        assert!(cancelled.trace.contains("still here"), "{}", cancelled.trace);
        self.scene
            .until("everything is taken away", async || self.left_over().await.is_empty())
            .await;

        let account = self.manager_account().await;
        let events = self.scene.cluster.audited(&account);
        let namespace = self.scene.job_namespace().await;
        // What a limit refuses is within one's rights.
        let (refused, passed): (Vec<&Value>, Vec<&Value>) = events
            .iter()
            .partition(|event| event["annotations"]["authorization.k8s.io/decision"] == "forbid");
        let refused: BTreeSet<(Right, &str)> = refused
            .into_iter()
            .map(|event| (right(event), event["objectRef"]["namespace"].as_str().unwrap_or("")))
            .collect();
        let everywhere = (owned(("", "events", "list")), "");
        assert_eq!(refused, BTreeSet::from([everywhere]), "asked for with an empty namespace");
        let mut used = BTreeSet::new();
        for event in passed {
            let reference = &event["objectRef"];
            // What the server is, and what one may do, everybody may ask.
            if reference.is_null() || reference["apiGroup"] == "authorization.k8s.io" {
                continue;
            }
            assert_eq!(reference["namespace"], *namespace, "{event}");
            used.insert(right(event));
        }
        let (_, granted) = self.role().await;
        let mut expected = granted.clone();
        for (kept, _) in KEPT {
            assert!(expected.remove(&owned(kept)), "{kept:?} is granted");
        }
        assert_eq!(used, expected, "used on the left, granted on the right");
    }

    /// One after the other, each for one job.
    async fn each_right_is_missed(&self) {
        let (path, granted) = self.role().await;
        let (_, role) = self.scene.get(&path).await;
        let tried: BTreeSet<Right> = WITHOUT.iter().map(|without| owned(without.0)).collect();
        let untried: BTreeSet<&Right> = granted.difference(&tried).collect();
        let rest = [
            ("", "secrets", "delete"),
            ("", "events", "list"),
            ("policy", "poddisruptionbudgets", "get"),
        ];
        assert_eq!(untried, BTreeSet::from(rest.map(owned).each_ref()), "tried below, or silent");
        for Without(rule, outcome, said) in WITHOUT {
            self.without(&path, &role, rule).await;
            let job = self.job("true").await;
            assert_eq!(job.status, outcome, "without {rule:?}: {}", job.trace);
            let log = self.scene.log(MANAGERS, &self.scene.manager().await).await;
            let heard = format!("{}\n{log}", job.trace.replace('"', "\\\""));
            assert!(heard.contains(said), "no `{said}` without {rule:?}: {}", job.trace);
            if outcome == JobStatus::Failed {
                assert_eq!(job.failure_reason.as_deref(), Some("runner_system_failure"));
            }
            self.sweep_up().await;
        }
        // A job's registry password stays where nobody may take it away.
        self.refuse_pods(true).await;
        self.without(&path, &role, ("", "secrets", "delete")).await;
        let refused = self.job("true").await;
        assert_eq!(refused.status, JobStatus::Failed, "{}", refused.trace);
        let left = self.left_over().await;
        assert!(matches!(left.as_slice(), [one] if one.starts_with("secrets/")), "{left:?}");
        self.refuse_pods(false).await;
        self.sweep_up().await;
        // And with all of them all is well again.
        let (status, _) = self
            .scene
            .cluster
            .call(
                &self.scene.cluster.administrator_token,
                "PATCH",
                &path,
                MERGE,
                &json!({"rules": role["rules"]}),
            )
            .await;
        assert_eq!(status, 200);
        assert_eq!(self.job("true").await.status, JobStatus::Success);
    }

    /// With the token that the kubelet puts into the pod of the executor.
    async fn job_signs_in_to_azure(&self) -> Webhook {
        let namespace = self.scene.job_namespace().await;
        let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/job");
        let (_, account) = self.scene.get(&account).await;
        let (webhook, configuration) = Webhook::start(&account).await;
        let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
        let (status, answer) = self.scene.call("POST", path, &configuration).await;
        assert_eq!(status, 201, "{answer}");
        let script = "az login --service-principal --username $AZURE_CLIENT_ID --tenant $AZURE_TENANT_ID \
                      --federated-token \"$(cat $AZURE_FEDERATED_TOKEN_FILE)\" > /dev/null && \
                      az account show --query id --output tsv";
        let played =
            format!("management.azure.com={NODE}:{ARM},login.microsoftonline.com={NODE}:{ENTRA}");
        let job = self.add_job_with(script, vec![("FORERUNNER_LOOPBACK".to_owned(), played)]);
        let job = self.ended(job).await;
        assert_eq!(job.status, JobStatus::Success, "{}", job.trace);
        assert!(job.trace.contains("00000000-0000-4000-8000-000000002222"), "{}", job.trace);
        webhook
    }

    /// With a job in hand, on a roll; what comes after it is the sandbox's manager. The pod of that job.
    async fn manager_drains_for_another(&self) -> Value {
        let scene = &self.scene;
        let old = scene.manager().await;
        let old = format!("/api/v1/namespaces/{MANAGERS}/pods/{}", text(&old["metadata"]["name"]));
        let (job, pod) = self.pod_of("sleep 20").await;
        let deployments = format!("/apis/apps/v1/namespaces/{MANAGERS}/deployments");
        let (_, found) = scene.get(&deployments).await;
        let name = text(&found["items"][0]["metadata"]["name"]);
        let gitlab = format!("gitlab.example.com={NODE}:{GITLAB}");
        let command = [
            "/usr/bin/forerunner",
            "sandbox-manager",
            "--gitlab",
            &gitlab,
            "--runner",
            image::RUNNER,
        ];
        let container = json!({"name": "gitlab-runner", "command": command});
        let change = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
        let token = &scene.cluster.administrator_token;
        let (status, answer) = scene
            .cluster
            .call(token, "PATCH", &format!("{deployments}/{name}"), STRATEGIC_MERGE, &change)
            .await;
        assert_eq!(status, 200, "{answer}");
        let gitlab = &scene.sandbox.world.gitlab;
        scene
            .until("the old pod is told to stop", async || {
                scene.get(&old).await.1["metadata"]["deletionTimestamp"].is_string()
            })
            .await;
        assert_eq!(gitlab.job(job).unwrap().status, JobStatus::Running, "it did not wait");
        let took =
            scene.until("the old pod is gone", async || scene.get(&old).await.0 == 404).await;
        machine::say(&format!("real node: gitlab-runner with a job in hand went after {took:.1?}"));
        let job = gitlab.job(job).unwrap();
        assert_eq!(job.status, JobStatus::Success, "{}", job.trace);
        pod
    }

    /// Of a new job, once it runs, with its disruption budget as `budget`.
    async fn pod_of(&self, script: &str) -> (u64, Value) {
        self.sweep_up().await;
        let job = self.add_job_with(script, Vec::new());
        let namespace = self.scene.job_namespace().await;
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        let found = RefCell::new(Value::Null);
        self.scene
            .until("the job's pod runs", async || {
                let (_, pods) = self.scene.get(&pods).await;
                let pod = pods["items"][0].clone();
                let runs = pod["status"]["phase"] == "Running";
                *found.borrow_mut() = pod;
                runs
            })
            .await;
        let mut pod = found.into_inner();
        let name = text(&pod["metadata"]["name"]);
        let budgets = format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets");
        let (_, budgets) = self.scene.get(&budgets).await;
        let mut budgets = budgets["items"].as_array().unwrap().iter();
        let budget = budgets.find(|one| text(&one["metadata"]["name"]).starts_with(name)).unwrap();
        let owners = &budget["metadata"]["ownerReferences"];
        assert_eq!(owners[0]["name"], *name, "{owners}");
        pod["budget"] = json!({
            "name": text(&budget["metadata"]["name"]).replace(name, "pod"),
            "spec": budget["spec"],
        });
        (job, pod)
    }

    /// With the registry password that makes the runner keep a Secret.
    fn add_job(&self, script: &str) -> u64 {
        let password = "{\"auths\":{\"registry.example.com\":{\"auth\":\"bWFkZTp1cA==\"}}}";
        self.add_job_with(script, vec![("DOCKER_AUTH_CONFIG".to_owned(), password.to_owned())])
    }

    fn add_job_with(&self, script: &str, variables: Vec<(String, String)>) -> u64 {
        let new = NewJob {
            tags: vec!["azure-plan".to_owned()],
            image: Some(image::NODE.to_owned()),
            script: vec![script.to_owned()],
            variables,
            ..NewJob::default()
        };
        self.scene.sandbox.world.gitlab.create_job(self.project, new)
    }

    async fn job(&self, script: &str) -> JobView {
        self.ended(self.add_job(script)).await
    }

    async fn ended(&self, id: u64) -> JobView {
        let gitlab = &self.scene.sandbox.world.gitlab;
        self.scene
            .until("the job has ended", async || match gitlab.job(id).unwrap().status {
                JobStatus::Pending | JobStatus::Running | JobStatus::Canceling => false,
                JobStatus::Canceled | JobStatus::Success | JobStatus::Failed => true,
            })
            .await;
        gitlab.job(id).unwrap()
    }

    /// By a limit that no job keeps to.
    async fn refuse_pods(&self, refuse: bool) {
        let namespace = self.scene.job_namespace().await;
        let limits = format!("/api/v1/namespaces/{namespace}/limitranges");
        let limit = json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "refuse"},
            "spec": {"limits": [{"type": "Container", "max": {"memory": "1Mi"}}]},
        });
        let (status, answer) = match refuse {
            true => self.scene.call("POST", &limits, &limit).await,
            false => self.scene.call("DELETE", &format!("{limits}/refuse"), &Value::Null).await,
        };
        assert!(status < 300, "{answer}");
    }

    /// What jobs left in their namespace, as `PLURAL/NAME`.
    async fn left_over(&self) -> Vec<String> {
        let namespace = self.scene.job_namespace().await;
        let mut left = Vec::new();
        for (plural, list) in [
            ("pods", format!("/api/v1/namespaces/{namespace}/pods")),
            ("secrets", format!("/api/v1/namespaces/{namespace}/secrets")),
        ] {
            let (_, found) = self.scene.get(&list).await;
            let items = found["items"].as_array().unwrap().iter();
            // A pod that goes takes its Secret and its budget along.
            let stays = items.filter(|one| one["metadata"]["deletionTimestamp"].is_null());
            let names = stays.map(|one| one["metadata"]["name"].as_str().unwrap().to_owned());
            left.extend(
                names.filter(|name| name != PULL_SECRET).map(|name| format!("{plural}/{name}")),
            );
        }
        left
    }

    /// As an administrator; what belongs to a pod goes with it.
    async fn sweep_up(&self) {
        let namespace = self.scene.job_namespace().await;
        for left in self.left_over().await {
            let path = format!("/api/v1/namespaces/{namespace}/{left}?gracePeriodSeconds=0");
            self.scene.call("DELETE", &path, &Value::Null).await;
        }
        self.scene
            .until("its leavings are gone", async || {
                let (_, pods) =
                    self.scene.get(&format!("/api/v1/namespaces/{namespace}/pods")).await;
                pods["items"] == json!([]) && self.left_over().await.is_empty()
            })
            .await;
    }

    /// Takes one verb on one resource out of the managers' role.
    async fn without(&self, path: &str, role: &Value, (group, resource, verb): Rule) {
        let mut rules = role["rules"].clone();
        for rule in rules.as_array_mut().unwrap() {
            if rule["apiGroups"] == json!([group]) && rule["resources"] == json!([resource]) {
                rule["verbs"].as_array_mut().unwrap().retain(|one| *one != *verb);
            }
        }
        // A rule without a verb is none.
        rules.as_array_mut().unwrap().retain(|rule| rule["verbs"] != json!([]));
        assert_ne!(rules, role["rules"], "{resource} {verb} was not granted");
        let token = &self.scene.cluster.administrator_token;
        let (status, answer) =
            self.scene.cluster.call(token, "PATCH", path, MERGE, &json!({"rules": rules})).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Where the managers' role is, and what it grants.
    async fn role(&self) -> (String, BTreeSet<Right>) {
        let namespace = self.scene.job_namespace().await;
        let root = "/apis/rbac.authorization.k8s.io/v1";
        let (_, bindings) =
            self.scene.get(&format!("{root}/namespaces/{namespace}/rolebindings")).await;
        let name = bindings["items"][0]["roleRef"]["name"].as_str().unwrap();
        let path = format!("{root}/clusterroles/{name}");
        let (_, role) = self.scene.get(&path).await;
        let texts = |list: &Value| -> Vec<String> {
            list.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
        };
        let mut granted = BTreeSet::new();
        for rule in role["rules"].as_array().unwrap() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    let verbs = texts(&rule["verbs"]).into_iter();
                    granted.extend(verbs.map(|verb| (group.clone(), resource.clone(), verb)));
                }
            }
        }
        (path, granted)
    }

    async fn manager_account(&self) -> String {
        let pod = self.scene.manager().await;
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap().to_owned();
        format!("system:serviceaccount:{MANAGERS}:{account}")
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn right(event: &Value) -> Right {
    let reference = &event["objectRef"];
    let text = |key: &str| reference[key].as_str().unwrap_or_default();
    let resource = match text("subresource") {
        "" => text("resource").to_owned(),
        part => format!("{}/{part}", text("resource")),
    };
    (text("apiGroup").to_owned(), resource, event["verb"].as_str().unwrap().to_owned())
}

fn owned((group, resource, verb): Rule) -> Right {
    (group.to_owned(), resource.to_owned(), verb.to_owned())
}
