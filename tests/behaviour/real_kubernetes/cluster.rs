//! A real API server with its controllers, one for all tests of this binary; `tests/kubernetes` is its program.

use forerunner::{
    adapters::{
        http::{Http, HttpSettings},
        kubernetes::{Access, Kubernetes},
    },
    clock::Clock,
};
use serde::Deserialize;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Mutex, OnceLock},
};

/// The user that `deploy/kubernetes` names as forerunner's.
pub(crate) const USER: &str = "00000000-0000-0000-0000-0000000000f0";
const ASKED: &str = "FORERUNNER_REAL_KUBERNETES";
const VERSION: &str = "1.34.4";

/// What the program says of its cluster.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cluster {
    pub(crate) server: String,
    authority: PathBuf,
    pub(crate) administrator_token: String,
    pub(crate) forerunner_token: String,
    pub(crate) issuer: String,
    pub(crate) audit_log: PathBuf,
    /// An administrator's.
    pub(crate) kubeconfig: PathBuf,
    /// Its standard input is open for as long as this process runs.
    #[serde(skip)]
    running: Option<Mutex<Running>>,
}

/// The program, and what it says.
struct Running {
    program: Child,
    says: BufReader<ChildStdout>,
}

/// The cluster, if tests against real parts were asked for. Says once what is left out otherwise.
pub(crate) fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    CLUSTER
        .get_or_init(|| {
            #[expect(clippy::disallowed_methods, reason = "a test is told by its environment")]
            let asked = std::env::var(ASKED).is_ok_and(|value| value == "1");
            if asked {
                return Some(start());
            }
            // Not through the test's captured output: whoever runs the tests is to see it.
            let _ = writeln!(
                std::io::stderr(),
                "left out: tests against a real Kubernetes API server; {ASKED}=1 cargo test real_kubernetes runs them (needs Go)"
            );
            None
        })
        .as_ref()
}

/// The program, built if it is not yet, which takes minutes once.
pub(crate) fn program() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = target.join("kubernetes-parts");
    let set = |name: &str, value: &str| format!("-X k8s.io/component-base/version.{name}={value}");
    let (major, rest) = VERSION.split_once('.').unwrap();
    let minor = rest.split('.').next().unwrap();
    let flags = [
        "-s -w".to_owned(),
        set("gitVersion", &format!("v{VERSION}")),
        set("gitMajor", major),
        set("gitMinor", minor),
    ];
    let built = Command::new("go")
        .args(["build", "-trimpath", "-ldflags", &flags.join(" "), "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(root.join("tests/kubernetes"))
        .env("CGO_ENABLED", "0")
        .status();
    let built = built.unwrap_or_else(|error| panic!("{ASKED}=1 needs Go 1.26: {error}"));
    assert!(built.success(), "tests/kubernetes does not build");
    program
}

/// It ends when this process does: its standard input ends then.
fn start() -> Cluster {
    let program = program();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = target.join(format!("kubernetes-{}", std::process::id()));
    let _nothing_left_from_before = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let mut running = Command::new(&program)
        .arg("up")
        .arg(&folder)
        .arg(USER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut says = BufReader::new(running.stdout.take().unwrap());
    says.read_line(&mut line).unwrap();
    let cluster: Cluster = serde_json::from_str(&line)
        .unwrap_or_else(|_| panic!("no cluster came up; its logs are in {}", folder.display()));
    Cluster { running: Some(Mutex::new(Running { program: running, says })), ..cluster }
}

impl Cluster {
    /// The adapter, as whoever this token belongs to.
    pub(crate) fn as_token(&self, token: &str) -> Kubernetes {
        let file = self.write_kubeconfig(token);
        let http = Http::new(HttpSettings::default(), Clock::system());
        Kubernetes::new(http, Access::Kubeconfig(file))
    }

    fn write_kubeconfig(&self, token: &str) -> PathBuf {
        let name = format!("kubeconfig-{}", uuid::Uuid::new_v4());
        let file = self.kubeconfig.with_file_name(name);
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "real",
            "clusters": [{"name": "real", "cluster": {
                "server": self.server, "certificate-authority": self.authority,
            }}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": "user"}}],
        });
        std::fs::write(&file, text.to_string()).unwrap();
        file
    }

    /// For calls past our own adapter.
    pub(crate) fn client(&self) -> reqwest::Client {
        let authority = std::fs::read(&self.authority).unwrap();
        let roots = reqwest::Certificate::from_pem_bundle(&authority).unwrap();
        reqwest::Client::builder().no_proxy().tls_certs_only(roots).build().unwrap()
    }

    pub(crate) async fn call(
        &self,
        token: &str,
        method: &str,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> (u16, Value) {
        self.send(token, method, path, content_type, body, |request| request).await
    }

    pub(crate) async fn send(
        &self,
        token: &str,
        method: &str,
        path: &str,
        content_type: &str,
        body: &Value,
        change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> (u16, Value) {
        let url = format!("{}{path}", self.server);
        let request = self.client().request(method.parse().unwrap(), url).bearer_auth(token);
        answer(change(request), content_type, body).await
    }

    /// Takes every revision that there was out of etcd. The API server notices within a quarter of a minute.
    pub(crate) fn compact(&self) {
        let mut running = self.running.as_ref().unwrap().lock().unwrap();
        writeln!(running.program.stdin.as_mut().unwrap(), "compact").unwrap();
        let mut line = String::new();
        running.says.read_line(&mut line).unwrap();
        assert!(line.contains("compacted"), "etcd was not compacted: {line}");
    }

    /// What the API server wrote down of `user`'s requests, oldest first.
    pub(crate) fn audited(&self, user: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.audit_log).unwrap();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|event| event["user"]["username"] == user).collect()
    }
}

/// Status and body.
pub(crate) async fn answer(
    mut request: reqwest::RequestBuilder,
    content_type: &str,
    body: &Value,
) -> (u16, Value) {
    if !body.is_null() {
        request = request.header("Content-Type", content_type).body(body.to_string());
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
}
