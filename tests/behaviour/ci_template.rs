//! The job side: `.azure` of deploy/ci/azure.gitlab-ci.yml, run by the shells that jobs have, with a stand-in for az.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const CLIENT: &str = "11111111-1111-4111-8111-111111111111";
const TENANT: &str = "22222222-2222-4222-8222-222222222222";
const SUBSCRIPTION: &str = "33333333-3333-4333-8333-333333333333";
const DEFAULT_SUBSCRIPTION: &str = "44444444-4444-4444-8444-444444444444";

#[derive(Deserialize)]
struct Template {
    #[serde(rename = ".azure")]
    azure: Job,
}

#[derive(Deserialize)]
struct Job {
    before_script: Vec<String>,
}

/// What a job found in its shell after the script, or why it never got there.
struct Outcome {
    succeeded: bool,
    /// One line a call.
    calls: Vec<String>,
    variables: BTreeMap<String, String>,
    errors: String,
}

/// A job pod: its directory with the stand-in for az and the token, and its variables.
struct Pod {
    directory: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Pod {
    /// Everything as the workload-identity webhook leaves it. The stand-in's directory is the whole `PATH`.
    fn new(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ci_template").join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("bin")).unwrap();
        let az = "#!/bin/sh\nprintf '%s\\n' \"$*\" >> \"$RECORD\"\n\
                  case \"$1 $2\" in\n\
                  'login '*) [ -z \"$REFUSE\" ] || { echo 'AADSTS70021: no match' >&2; exit 1; } ;;\n\
                  'account set') [ \"$4\" != unknown ] || exit 1 ;;\n\
                  'account show') printf '%s\\n' \"$DEFAULT_SUBSCRIPTION\" ;;\n\
                  esac\n";
        let path = directory.join("bin/az");
        fs::write(&path, az).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let token = directory.join("token");
        fs::write(&token, "made-up.token.one").unwrap();
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let variables = vec![
            ("PATH", text(directory.join("bin"))),
            ("RECORD", text(directory.join("calls"))),
            ("AZURE_CLIENT_ID", CLIENT.to_owned()),
            ("AZURE_TENANT_ID", TENANT.to_owned()),
            ("AZURE_FEDERATED_TOKEN_FILE", text(token)),
            ("AZURE_SUBSCRIPTION_ID", SUBSCRIPTION.to_owned()),
        ];
        Self { directory, variables }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.retain(|(own, _)| *own != name);
        self.variables.push((name, value.to_owned()));
        self
    }

    fn without(mut self, name: &'static str) -> Self {
        self.variables.retain(|(own, _)| *own != name);
        self
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Runs the template's script as a runner does, stopping at the first failure, then `script`, then shows what a
    /// process started by it would find.
    fn run(&self, shell: &str, script: &str) -> Outcome {
        let template = include_str!("../../deploy/ci/azure.gitlab-ci.yml");
        let template: Template = serde_saphyr::from_str(template).unwrap();
        let before = template.azure.before_script.join("\n");
        let _ = fs::remove_file(self.file("calls"));
        let Output { status, stdout, stderr } = Command::new(shell)
            .args(["-c", &format!("set -e\n{before}\n{script}\n/usr/bin/env")])
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .output()
            .unwrap();
        let calls = fs::read_to_string(self.file("calls")).unwrap_or_default();
        let stdout = String::from_utf8(stdout).unwrap();
        let pairs = stdout.lines().filter_map(|line| line.split_once('='));
        Outcome {
            succeeded: status.success(),
            calls: calls.lines().map(str::to_owned).collect(),
            variables: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            errors: String::from_utf8(stderr).unwrap(),
        }
    }
}

/// `sh` always; `bash` where there is one.
fn in_every_shell(name: &str, check: impl Fn(&str, Pod)) {
    check("/bin/sh", Pod::new(&format!("{name}-sh")));
    match ["/bin/bash", "/usr/bin/bash"].into_iter().find(|path| Path::new(path).exists()) {
        Some(bash) => check(bash, Pod::new(&format!("{name}-bash"))),
        None => eprintln!("skipped in bash: this machine has none"),
    }
}

fn login(token: &str) -> String {
    format!(
        "login --service-principal --username {CLIENT} --tenant {TENANT} --federated-token {token} \
         --allow-no-subscriptions --output none"
    )
}

#[test]
fn a_job_signs_in_chooses_its_subscription_and_tells_terraform() {
    in_every_shell("success", |shell, pod| {
        let outcome = pod.run(shell, "");
        assert!(outcome.succeeded, "{shell}: {}", outcome.errors);
        let choose = format!("account set --subscription {SUBSCRIPTION}");
        assert_eq!(outcome.calls, [login("made-up.token.one"), choose], "{shell}");
        let token_file = pod.file("token");
        for (name, value) in [
            ("ARM_CLIENT_ID", CLIENT),
            ("ARM_TENANT_ID", TENANT),
            ("ARM_SUBSCRIPTION_ID", SUBSCRIPTION),
            ("ARM_USE_AKS_WORKLOAD_IDENTITY", "true"),
            ("ARM_USE_OIDC", "true"),
            ("ARM_USE_CLI", "false"),
            ("ARM_OIDC_TOKEN_FILE_PATH", token_file.to_str().unwrap()),
        ] {
            let found = outcome.variables.get(name).map(String::as_str);
            assert_eq!(found, Some(value), "{shell}: {name}");
        }
        let everything = format!("{:?}{}", outcome.variables, outcome.errors);
        assert!(!everything.contains("made-up.token"), "{shell}: the token leaves the script");
    });
}

#[test]
fn without_a_subscription_the_sign_ins_own_is_used_if_there_is_one() {
    for default in [DEFAULT_SUBSCRIPTION, ""] {
        in_every_shell("default-subscription", |shell, pod| {
            let pod = pod.without("AZURE_SUBSCRIPTION_ID").with("DEFAULT_SUBSCRIPTION", default);
            let outcome = pod.run(shell, "");
            assert!(outcome.succeeded, "{shell}: {}", outcome.errors);
            assert!(!outcome.calls.iter().any(|call| call.starts_with("account set")), "{shell}");
            let found = outcome.variables.get("ARM_SUBSCRIPTION_ID").cloned();
            assert_eq!(found.unwrap_or_default(), default, "{shell}");
        });
    }
}

#[test]
fn a_long_job_signs_in_anew_with_the_token_as_it_is_then() {
    in_every_shell("refresh", |shell, pod| {
        let token = pod.file("token").to_str().unwrap().to_owned();
        let outcome =
            pod.run(shell, &format!("printf 'made-up.token.two\\n' > {token}\nazure_refresh"));
        assert!(outcome.succeeded, "{shell}: {}", outcome.errors);
        assert_eq!(outcome.calls[0], login("made-up.token.one"), "{shell}");
        assert_eq!(outcome.calls[2], login("made-up.token.two"), "{shell}");
    });
}

#[test]
fn a_job_that_cannot_sign_in_says_what_is_missing_and_why() {
    let check = |name: &str, spoil: fn(Pod) -> Pod, calls: usize, words: [&str; 2]| {
        in_every_shell(name, |shell, pod| {
            let outcome = spoil(pod).run(shell, "echo REACHED=yes");
            assert!(!outcome.succeeded, "{name} in {shell}");
            assert!(outcome.variables.is_empty(), "{name} in {shell}: the job went on");
            assert_eq!(outcome.calls.len(), calls, "{name} in {shell}: {:?}", outcome.calls);
            for word in words {
                assert!(outcome.errors.contains(word), "{name} in {shell}: {}", outcome.errors);
            }
            assert!(!outcome.errors.contains("made-up.token"), "{name} in {shell}");
        });
    };
    check(
        "no-az",
        |pod| pod.with("PATH", "/nowhere"),
        0,
        ["no az in this job's image", "azure-cli"],
    );
    check(
        "no-client",
        |pod| pod.without("AZURE_CLIENT_ID"),
        0,
        ["AZURE_CLIENT_ID is not set", "without an Azure identity"],
    );
    check(
        "no-tenant",
        |pod| pod.with("AZURE_TENANT_ID", ""),
        0,
        ["AZURE_TENANT_ID is not set", "tags"],
    );
    check(
        "no-token-variable",
        |pod| pod.without("AZURE_FEDERATED_TOKEN_FILE"),
        0,
        ["AZURE_FEDERATED_TOKEN_FILE is not set", "webhook"],
    );
    check(
        "no-token-file",
        |pod| {
            fs::remove_file(pod.file("token")).unwrap();
            pod
        },
        0,
        ["token cannot be read", "not mounted"],
    );
    check(
        "empty-token",
        |pod| {
            fs::write(pod.file("token"), "").unwrap();
            pod
        },
        0,
        ["is empty", "retry"],
    );
    check("refused", |pod| pod.with("REFUSE", "yes"), 1, ["refused the sign-in", "does not trust"]);
    check(
        "unknown-subscription",
        |pod| pod.with("AZURE_SUBSCRIPTION_ID", "unknown"),
        2,
        ["subscription unknown cannot be chosen", "no role"],
    );
}
