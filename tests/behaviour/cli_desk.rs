//! A person at a desk beside a sandbox: the commands' own code, or the real program.

use crate::harness::Sandbox;
use forerunner::{
    cli::load::{self, AtDesk},
    config::Settings,
};
use std::{path::PathBuf, process::Stdio};

/// What no setting of a desk needs to name.
pub(crate) const BUS: &str = "ServiceBus__fullyQualifiedNamespace";

impl Sandbox {
    /// The fleet as its own identity sees it from a desk, without the settings named.
    pub(crate) fn desk_without(&self, missing: &[&str]) -> AtDesk {
        let mut given = self.world.settings(&self.folder.join("fleet.yaml"));
        given.retain(|name, _| name != "FORERUNNER_CLOCK" && !missing.contains(&name.as_str()));
        let settings = Settings::read(|name| given.get(name).cloned()).unwrap();
        load::at_desk(&settings, self.world.clock.clone()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same as most people have it: without a queue.
    pub(crate) fn desk(&self) -> AtDesk {
        self.desk_without(&[BUS])
    }

    /// A sandbox whose handler is the real program, with one settled group below `platform`.
    pub(crate) async fn settled_child(fleet: &str) -> Self {
        let sandbox = Self::with_child(fleet).await;
        let group = sandbox.world.gitlab.create_group(Some(42), "payments");
        let unit = format!("runner/g{group}-plan");
        sandbox.settle().await;
        // On a clock that runs, a round may come a moment too early for what it waits for; a sweep asks again.
        for _ in 0..5 {
            if sandbox.is_ready(&unit) {
                break;
            }
            sandbox.pass_minutes(1).await;
            sandbox.sweep().await;
        }
        sandbox.assert_ready(&unit);
        sandbox
    }

    /// Writes the settings as `forerunner sandbox --env-file` does.
    pub(crate) fn env_file(&self) -> PathBuf {
        let settings = self.world.settings(&self.folder.join("fleet.yaml"));
        let lines: String =
            settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let file = self.folder.join("settings.env");
        std::fs::write(&file, format!("# of a test\n\n{lines}")).unwrap();
        file
    }

    /// Calls that can have changed something since they were last forgotten. Signing in and asking where the cluster is
    /// are POSTs that read, and so is asking GitLab whose token one is.
    pub(crate) fn written(&self) -> Vec<String> {
        let reads = ["/oauth2/", "/msi/", "/runners/verify", "/providers/Microsoft.ResourceGraph"];
        let mut writes = self.own_writes();
        writes.retain(|call| !reads.iter().any(|read| call.contains(read)));
        writes
    }
}

/// What the real program printed, and how it ended.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) talk: String,
}

/// What a person at a terminal sees of the program's talk.
pub(crate) async fn run_at_terminal(arguments: &[&str]) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = std::fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_forerunner"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(theirs);
    let mut child = command.env_clear().kill_on_drop(true).spawn().unwrap();
    drop(command); // its copy of the terminal, so that reading ends when the child's closes
    let reading = tokio::task::spawn_blocking(move || {
        let (mut terminal, mut seen, mut piece) =
            (std::fs::File::from(ours), Vec::new(), [0; 4096]);
        // The end of a terminal is an error on Linux, and nothing at all elsewhere.
        while let Ok(length @ 1..) = std::io::Read::read(&mut terminal, &mut piece) {
            seen.extend_from_slice(&piece[..length]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    });
    tokio::time::timeout(std::time::Duration::from_secs(120), child.wait()).await.unwrap().unwrap();
    reading.await.unwrap()
}

/// Runs the real program with nothing of this process's settings.
pub(crate) async fn run(arguments: &[&str]) -> Run {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_forerunner"));
    command.args(arguments).stdin(Stdio::null()).env_clear().kill_on_drop(true);
    let output = tokio::time::timeout(std::time::Duration::from_secs(120), command.output());
    let output = output.await.unwrap().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        talk: String::from_utf8(output.stderr).unwrap(),
    }
}
