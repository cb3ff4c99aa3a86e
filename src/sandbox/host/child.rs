//! The handler as a process of its own, as in Azure: the real executable, killed and never asked to stop.

use super::{Error, logs::Logs};
use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::Command,
    sync::{oneshot, watch},
};

/// How many lines of stderr the host quotes when the handler dies.
const QUOTED: usize = 3;

/// What to start.
pub(super) struct Start {
    pub(super) command: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) directory: PathBuf,
    /// The whole environment: nothing is inherited, so that no setting of a developer's shell leaks in.
    pub(super) environment: BTreeMap<String, String>,
    pub(super) stderr_is_for_errors: bool,
}

/// A running child; it is killed when this is dropped.
pub(super) struct Child {
    pub(super) kill: oneshot::Sender<()>,
    /// Holds the end of the child once it has ended.
    pub(super) end: watch::Receiver<Option<End>>,
}

/// How a child ended.
#[derive(Clone, Debug)]
pub(super) struct End {
    /// None where a signal killed it.
    pub(super) code: Option<i32>,
    /// Whether it was we who killed it.
    pub(super) wanted: bool,
    /// The last lines on stderr that count as errors.
    pub(super) said: String,
}

impl End {
    pub(super) fn code_text(&self) -> String {
        self.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"))
    }
}

pub(super) fn start(start: Start, logs: &Logs) -> Result<Child, Error> {
    // The real host joins the arguments with blanks and quotes none.
    let arguments = start.arguments.join(" ");
    let mut command = Command::new(&start.command);
    command
        .args(arguments.split_whitespace())
        .current_dir(&start.directory)
        .env_clear()
        .envs(&start.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let name = start.command.display().to_string();
    let mut child = command.spawn().map_err(|source| {
        if source.kind() == std::io::ErrorKind::NotFound {
            return Error::CommandMissing { command: name };
        }
        Error::CommandRefused { command: name, source }
    })?;
    let said = Arc::new(Mutex::new(VecDeque::new()));
    let stdout = child.stdout.take().map(|stream| {
        let logs = logs.clone();
        tokio::spawn(each_line(stream, move |line| logs.stdout(line)))
    });
    let stderr = child.stderr.take().map(|stream| {
        let (logs, said) = (logs.clone(), Arc::clone(&said));
        let for_errors = start.stderr_is_for_errors;
        tokio::spawn(each_line(stream, move |line| {
            if logs.stderr(line, for_errors) {
                let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                said.push_back(line.to_owned());
                if said.len() > QUOTED {
                    said.pop_front();
                }
            }
        }))
    });
    let (kill, killed) = oneshot::channel::<()>();
    let (tell, end) = watch::channel(None);
    tokio::spawn(async move {
        let (status, wanted) = tokio::select! {
            status = child.wait() => (status, false),
            _ = killed => {
                let _ended_already = child.start_kill();
                (child.wait().await, true)
            }
        };
        for reader in [stdout, stderr].into_iter().flatten() {
            // A grandchild may hold the pipe open for ever.
            let _read_to_its_end = tokio::time::timeout(Duration::from_secs(1), reader).await;
        }
        let said =
            said.lock().unwrap_or_else(PoisonError::into_inner).make_contiguous().join(" / ");
        let code = status.ok().as_ref().and_then(ExitStatus::code);
        tell.send_replace(Some(End { code, wanted, said }));
    });
    Ok(Child { kill, end })
}

async fn each_line(stream: impl AsyncRead + Unpin, say: impl Fn(&str)) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        say(&line);
    }
}
