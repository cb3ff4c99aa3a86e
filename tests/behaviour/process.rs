//! The real program, run as people and the Functions host run it.

use crate::harness::{FLEET, Sandbox};
use forerunner::sandbox::{host::Reserved, wire::Moment};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(120);

fn forerunner(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forerunner"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_shows_a_runner_settle_and_a_job_sign_in() {
    let run = forerunner(&["sandbox", "--demo"]).output();
    let output = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let parts = [
        "runner/g43-plan",
        "ok Ready: as fleet.yaml says",
        "azure: signed in as client",
        "AuthorizationFailed",
        "this job may read and not write",
        "Job succeeded",
    ];
    for part in parts {
        assert!(out.contains(part), "no `{part}` in\n{out}");
    }
    assert!(
        !out.contains("glrt-") && !out.contains('\x1b'),
        "a pipe sees plain lines and no token:\n{out}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_goes_on_where_gitlabs_hook_is_lost() {
    let run = forerunner(&["sandbox", "--demo", "--lose-hooks", "100"]).output();
    let output = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    for part in ["the hook never arrived", "ok Ready: as fleet.yaml says", "Job succeeded"] {
        assert!(out.contains(part), "no `{part}` in\n{out}");
    }
}

/// What a person at a terminal sees of the demo, as it came: each piece is one read of the terminal.
async fn on_a_terminal(no_colour: &str) -> Vec<String> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
    let mut command = forerunner(&["sandbox", "--demo"]);
    command.env("NO_COLOR", no_colour).stdout(theirs).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    drop(command); // its copy of the terminal, so that reading ends when the child's closes
    let reading = tokio::task::spawn_blocking(move || {
        let (mut terminal, mut pieces, mut piece) = (fs::File::from(ours), Vec::new(), [0; 4096]);
        // The end of a terminal is an error on Linux, and nothing at all elsewhere.
        while let Ok(length @ 1..) = std::io::Read::read(&mut terminal, &mut piece) {
            pieces.push(String::from_utf8_lossy(&piece[..length]).into_owned());
        }
        pieces
    });
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let pieces = reading.await.unwrap();
    let why = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{}\n{why}", pieces.concat());
    pieces
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_sees_colour_and_each_call_as_it_happens() {
    let (coloured, plain) = tokio::join!(on_a_terminal(""), on_a_terminal("1"));
    let whole = coloured.concat();
    assert!(whole.contains("\x1b[32mok\x1b[0m Ready"), "{whole}");
    assert!(!whole.contains("glrt-"), "no token:\n{whole}");
    let piece_with = |part: &str| coloured.iter().position(|piece| piece.contains(part));
    let (first, last) = (piece_with("/user/runners"), piece_with("Job succeeded"));
    assert!(first.is_some() && first < last, "calls are told while the rest still runs:\n{whole}");
    let plain = plain.concat();
    assert!(plain.contains("ok Ready") && !plain.contains('\x1b'), "NO_COLOR holds:\n{plain}");
}

/// An app root as a deployment package holds it, made by hand from what the repository ships.
fn app_root(name: &str) -> PathBuf {
    let root = std::env::temp_dir().join(format!("forerunner-{name}-{}", std::process::id()));
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(&root).unwrap();
    fs::copy(repository.join("host.json"), root.join("host.json")).unwrap();
    for function in fs::read_dir(repository.join("functions")).unwrap() {
        let function = function.unwrap();
        let folder = root.join(function.file_name());
        fs::create_dir_all(&folder).unwrap();
        fs::copy(function.path().join("function.json"), folder.join("function.json")).unwrap();
    }
    root
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_root_of_a_users_own_is_served_as_it_is() {
    let root = app_root("app");
    let arguments = ["sandbox", "--demo", "--app", root.to_str().unwrap()];
    let run = async || {
        let output = forerunner(&arguments).output();
        let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
        (output.status, [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()))
    };
    let (status, [out, err]) = run().await;
    assert_eq!(status.code(), Some(1), "an app root without its executable\n{out}\n{err}");
    assert!(err.contains("forerunner"), "the error names what is missing:\n{err}");
    fs::hard_link(env!("CARGO_BIN_EXE_forerunner"), root.join("forerunner"))
        .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_forerunner"), root.join("forerunner")).map(drop))
        .unwrap();
    let (status, [out, err]) = run().await;
    assert!(status.success(), "{out}\n{err}");
    assert!(out.contains("Job succeeded"), "{out}");
    // A function the package lacks is one the host does not have: nothing else stands in for it.
    fs::remove_dir_all(root.join("round")).unwrap();
    let (status, [out, err]) = run().await;
    assert_eq!(status.code(), Some(1), "without `round` no runner is made\n{out}\n{err}");
    fs::remove_dir_all(&root).unwrap();
}

/// The process dies for real, before and after calls from the first to the last round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_is_killed_leaves_no_trace() {
    let settled = async |crash: Option<(usize, Moment)>| {
        let sandbox = Sandbox::with_child(FLEET).await;
        sandbox.world.gitlab.create_group(Some(42), "payments");
        match crash {
            Some((call, moment)) => sandbox.crash_and_settle(call, moment).await,
            None => sandbox.settle().await,
        }
        assert!(sandbox.is_ready("runner/g43-plan"), "{crash:?}\n{}", sandbox.story());
        sandbox.inventory()
    };
    let calm = settled(None).await;
    // The hook's own send, the first writes, the entity and its token, a later round.
    let crashes = [
        (0, Moment::AfterEffect),
        (28, Moment::BeforeEffect),
        (40, Moment::AfterEffect),
        (48, Moment::AfterEffect),
    ];
    for crash in crashes {
        assert_eq!(settled(Some(crash)).await, calm, "{crash:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_host_can_drive_the_handler_against_the_sandbox() {
    let folder = std::env::temp_dir().join(format!("forerunner-flags-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    let (settings, dump) = (path("settings.env"), path("state.json"));
    let arguments =
        ["sandbox", "--without", "host", "--env-file", &settings, "--dump", &dump, "--seed", "7"];
    let mut sandbox = forerunner(&arguments).stdout(Stdio::null()).spawn().unwrap();
    let lines = appears(&PathBuf::from(&settings)).await;
    let reserved = Reserved::any().unwrap();
    let port = reserved.port();
    let mut handler = forerunner(&["handler"]);
    for line in lines.lines() {
        let (name, value) = line.split_once('=').unwrap();
        handler.env(name, value);
    }
    handler.env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string());
    let handler = handler.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let health = answers(&format!("http://127.0.0.1:{port}/api/health")).await;
    assert_eq!(health["ready"], true, "{health}");
    drop(handler);
    terminate(&sandbox);
    let status = tokio::time::timeout(PATIENCE, sandbox.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    let state = fs::read_to_string(&dump).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    for part in ["gitlab", "azure", "kubernetes", "serviceBus", "managers", "calls"] {
        assert!(!state[part].is_null(), "no {part} in the dump");
    }
    fs::remove_dir_all(&folder).unwrap();
}

fn terminate(child: &Child) {
    let id = child.id().expect("it runs").to_string();
    let sent = std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap();
    assert!(sent.success());
}

/// The file's text, once another process has written it.
async fn appears(file: &Path) -> String {
    eventually(async || fs::read_to_string(file).ok()).await
}

async fn answers(url: &str) -> serde_json::Value {
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    eventually(async || client.get(url).send().await.ok()?.json().await.ok()).await
}

/// Another process has no clock of ours: it is asked until it answers.
async fn eventually<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap()
}
