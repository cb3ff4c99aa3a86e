//! From process start to the first answered request, memory at rest, and the size of the binary.

#[path = "support/figures.rs"]
mod figures;
#[path = "support/handler.rs"]
#[expect(dead_code, reason = "other benches look at more")]
mod handler;

use figures::{percentile, table};
use handler::{Handler, build_for_azure, free_port, pause};
use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const STARTS: usize = 60;
/// What the process does after its first answer has come to rest by then.
const REST: Duration = Duration::from_millis(300);

fn main() {
    let binary = build_for_azure();
    let bytes = std::fs::metadata(&binary).expect("it was just built").len();
    let mut rows = Vec::new();
    let floor: Vec<f64> = (0..STARTS).map(|_| milliseconds(empty_process())).collect();
    rows.push([
        "an empty process (/bin/true), start to end".to_owned(),
        format!("median {:.2} ms", percentile(&floor, 0.5)),
        "what this machine takes by itself".to_owned(),
    ]);
    for (name, file) in
        [("the smallest fleet", "minimal.yaml"), ("forty groups", "forty-groups.yaml")]
    {
        let fleet = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(file);
        let start = || Handler::start(Command::new(&binary), &fleet, 9, free_port());
        let starts: Vec<f64> = (0..STARTS).map(|_| milliseconds(start().1)).collect();
        rows.push([
            format!("process start to first answer, {name}"),
            format!(
                "median {:.2} ms, p95 {:.2} ms",
                percentile(&starts, 0.5),
                percentile(&starts, 0.95)
            ),
            "goal 5 ms".to_owned(),
        ]);
        let resident: Vec<f64> = (0..5)
            .map(|_| {
                let (handler, _) = start();
                pause(REST);
                handler.resident()
            })
            .collect();
        rows.push([
            format!("resident memory at rest, {name}"),
            format!("{:.1} MiB", percentile(&resident, 0.5)),
            "goal 15 MiB".to_owned(),
        ]);
    }
    rows.push([
        "the binary, stripped, without sandbox".to_owned(),
        format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        "goal 15 MiB".to_owned(),
    ]);
    table("Start", &rows);
}

fn empty_process() -> Duration {
    let begun = Instant::now();
    let ended = Command::new("/bin/true").stdin(Stdio::null()).status();
    assert!(ended.is_ok_and(|status| status.success()), "/bin/true does nothing well");
    begun.elapsed()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
