//! The real binary as a child process, with the settings of a sandbox.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

/// Made up, and good for these processes alone.
pub(crate) const HOOK_TOKEN: &str = "made-up-hook-token-of-the-bench";

/// A running handler; it is killed when this is dropped.
pub(crate) struct Handler {
    child: Child,
}

/// Builds the binary as a release for Azure is built, without the sandbox, and keeps a copy beside cargo's own, which
/// a build with other features replaces.
pub(crate) fn build_for_azure() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo puts tmp in target");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--no-default-features", "--bin", "forerunner"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(root)
        .status()
        .expect("cargo runs, for it runs this");
    assert!(built.success(), "the release build failed");
    let copy = target.join("tmp").join("forerunner-for-azure");
    std::fs::copy(target.join("release/forerunner"), &copy).expect("the build made it");
    copy
}

impl Handler {
    /// Starts `program handler` on `port`, and says how long it took from just before the process was made until
    /// `GET /` was answered. `service` is the port where GitLab and Azure would be.
    pub(crate) fn start(
        program: Command,
        fleet: &Path,
        service: u16,
        port: u16,
    ) -> (Self, Duration) {
        let endpoint = format!("http://127.0.0.1:{service}/msi/token");
        let hosts = [
            "gitlab.example.com",
            "management.azure.com",
            "login.microsoftonline.com",
            "*.vault.azure.net",
            "*.servicebus.windows.net",
        ];
        let loopback = hosts.map(|host| format!("{host}={service}")).join(",");
        let settings = [
            ("FORERUNNER_FLEET", fleet.display().to_string()),
            ("FORERUNNER_LOOPBACK", loopback),
            ("GITLAB_HOOK_TOKENS", HOOK_TOKEN.to_owned()),
            ("ServiceBus__fullyQualifiedNamespace", "sb-bench.servicebus.windows.net".to_owned()),
            ("SweepSchedule", "0 */10 * * * *".to_owned()),
            ("AZURE_CLIENT_ID", "00000000-0000-4000-8000-00000000c11d".to_owned()),
            ("IDENTITY_ENDPOINT", endpoint),
            ("IDENTITY_HEADER", "made-up-identity-header".to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value));
        Self::start_with(program, settings, port, |_| {})
    }

    /// The same with these settings; `hear` gets each line that the handler says.
    pub(crate) fn start_with(
        mut program: Command,
        settings: impl IntoIterator<Item = (String, String)>,
        port: u16,
        hear: impl Fn(&str) + Send + Sync + 'static,
    ) -> (Self, Duration) {
        program
            .arg("handler")
            .env_clear()
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .envs(settings)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = program.spawn().expect("the binary starts");
        let first_answer = loop {
            match ask(port) {
                Ok(()) => break begun.elapsed(),
                Err(_) if begun.elapsed() < Duration::from_secs(10) => {}
                Err(error) => panic!("the handler does not answer: {error}"),
            }
            pause(Duration::from_micros(50));
        };
        // The host reads what the handler says, so somebody has to here.
        let hear = Arc::new(hear);
        for said in [
            child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
            child.stderr.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
        ]
        .into_iter()
        .flatten()
        {
            let hear = hear.clone();
            let lines = BufReader::new(said).lines();
            std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| hear(&line)));
        }
        (Self { child }, first_answer)
    }

    /// Resident memory in MiB.
    pub(crate) fn resident(&self) -> f64 {
        self.memory("VmRSS:")
    }

    /// The most memory that was ever resident, in MiB.
    pub(crate) fn peak(&self) -> f64 {
        self.memory("VmHWM:")
    }

    /// CPU time so far, user and system: fields 14 and 15 of `/proc/PID/stat`, in hundredths of a second.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }

    fn memory(&self, name: &str) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.expect("Linux tells it in KiB") / 1024.0
    }

    /// A file of `/proc/PID`.
    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(path).expect("the process lives, and this is Linux")
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    listener.local_addr().expect("it is bound").port()
}

/// The host's own first question.
fn ask(port: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut first = [0; 12];
    stream.read_exact(&mut first)?;
    match &first {
        b"HTTP/1.1 200" => Ok(()),
        _ => Err(std::io::Error::other("the answer is not 200")),
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark looks again after a moment")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
