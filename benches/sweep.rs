//! A sweep over a fleet in health, through the real binary as its own process: calls and bytes by service, time, memory.

#[path = "support/figures.rs"]
mod figures;
#[path = "support/handler.rs"]
#[expect(dead_code, reason = "other benches start other handlers")]
mod handler;
#[path = "support/healthy.rs"]
#[expect(dead_code, reason = "the planner's bench has no services")]
mod healthy;
#[path = "support/scene.rs"]
#[expect(dead_code, reason = "other benches run rounds one by one")]
mod scene;
#[path = "support/settled.rs"]
mod settled;

use figures::{percentile, table};
use forerunner::{
    domain::fleet::Fleet,
    sandbox::wire::{Call, Exchange, Service},
};
use handler::{Handler, build_for_azure, free_port};
use jiff::SignedDuration;
use scene::Scene;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::Command,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

const SIZES: [usize; 3] = [100, 1_000, 10_000];
/// Each by a process of its own.
const SWEEPS: usize = 5;

/// As in the bench of provisioning; answers are of lists, which take longer than most.
const LATENCIES: [(Service, Duration); 6] = [
    (Service::Gitlab, Duration::from_millis(40)),
    (Service::Arm, Duration::from_millis(50)),
    (Service::Kubernetes, Duration::from_millis(20)),
    (Service::KeyVault, Duration::from_millis(20)),
    (Service::ServiceBus, Duration::from_millis(20)),
    (Service::Identity, Duration::from_millis(20)),
];
const SERVICES: [Service; 6] = [
    Service::Gitlab,
    Service::Arm,
    Service::Kubernetes,
    Service::KeyVault,
    Service::Identity,
    Service::ServiceBus,
];

fn main() {
    let binary = build_for_azure();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("this process may have threads");
    for runners in sizes() {
        runtime.block_on(measure(&binary, runners));
    }
}

/// `cargo bench --bench sweep -- 1000` measures one size.
fn sizes() -> Vec<usize> {
    let given: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    if given.is_empty() { SIZES.to_vec() } else { given }
}

/// What one sweep took.
struct Sweep {
    wall: Duration,
    cpu: Duration,
    planning: Duration,
    /// MiB, at the end of the process's first sweep.
    peak: f64,
    calls: Vec<Call>,
    bytes: BTreeMap<Service, usize>,
}

async fn measure(binary: &Path, runners: usize) {
    let file = settled::file(runners);
    let scene = Scene::new(&file, &LATENCIES).await;
    let (fleet, _) = Fleet::parse(&file, None, scene.clock.now()).expect("the scene took it");
    let begun = Instant::now();
    settled::settle(&scene, &fleet, runners).await;
    let seeded = begun.elapsed();
    let bytes: Arc<Mutex<BTreeMap<Service, usize>>> = Arc::default();
    let counted = bytes.clone();
    let count = move |exchange: &Exchange| {
        let mut counted = counted.lock().expect("nobody panics in between");
        *counted.entry(exchange.service).or_default() += exchange.answer.len();
    };
    scene.world.wire.observe(&SERVICES, Arc::new(count));
    for (service, latency) in LATENCIES {
        scene.world.wire.set_latency(service, latency);
    }
    // The first sweep finds where the cluster's doors are; what it tells is told.
    let sweeps: Vec<Sweep> = {
        let mut sweeps = Vec::new();
        for _ in 0..=SWEEPS {
            sweeps.push(sweep(binary, &scene, &bytes).await);
            scene.turn(SignedDuration::from_mins(2));
        }
        sweeps.split_off(1)
    };
    for sweep in &sweeps {
        let writes = sweep.calls.iter().filter(|call| settled::changes(call));
        let others: Vec<&Call> =
            writes.filter(|call| !call.path.contains("/configmaps/fleet-status")).collect();
        assert!(others.is_empty(), "nobody is woken and nothing is written: {others:?}");
    }
    report(runners, seeded, &sweeps);
}

async fn sweep(binary: &Path, scene: &Scene, bytes: &Mutex<BTreeMap<Service, usize>>) -> Sweep {
    let port = free_port();
    let (say, said) = mpsc::channel::<String>();
    let (handler, _) =
        Handler::start_with(Command::new(binary), scene.settings(), port, move |line| {
            // Nobody listens once the sweep is over.
            let _ = say.send(line.to_owned());
        });
    scene.world.wire.forget_calls();
    bytes.lock().expect("nobody panics in between").clear();
    let (before, begun) = (handler.cpu(), Instant::now());
    let answer = tokio::task::spawn_blocking(move || deliver(port)).await;
    let answer = answer.expect("it does not panic").expect("the handler answers");
    let (wall, cpu, peak) = (begun.elapsed(), handler.cpu() - before, handler.peak());
    let errors = || said.try_iter().filter(|line| line.contains("ERROR")).collect::<Vec<String>>();
    assert!(
        answer.contains("woke 0 unit(s)"),
        "a healthy fleet sleeps on: {answer} {:?}",
        errors()
    );
    // It was said before the answer, and may be heard after it.
    let planning = loop {
        let line = said.recv_timeout(Duration::from_secs(5)).expect("a sweep tells its planning");
        let line: Value = serde_json::from_str(&line).unwrap_or_default();
        if let Some(planning) = line["planning_ms"].as_f64() {
            break planning;
        }
    };
    Sweep {
        wall,
        cpu,
        planning: Duration::from_secs_f64(planning / 1000.0),
        peak,
        calls: scene.world.wire.calls().into_iter().filter(Call::is_ours).collect(),
        bytes: bytes.lock().expect("nobody panics in between").clone(),
    }
}

/// The timer's call, as the host makes it; the whole answer.
fn deliver(port: u16) -> io::Result<String> {
    let body = json!({"Data": {"timer": {"IsPastDue": false}}, "Metadata": {}}).to_string();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    write!(
        stream,
        "POST /sweep HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn report(runners: usize, seeded: Duration, sweeps: &[Sweep]) {
    let middle = |figure: &dyn Fn(&Sweep) -> f64| {
        percentile(&sweeps.iter().map(figure).collect::<Vec<f64>>(), 0.5)
    };
    let milliseconds = |of: fn(&Sweep) -> Duration| {
        format!("{:.0} ms", middle(&|one| of(one).as_secs_f64() * 1e3))
    };
    let mut rows: Vec<[String; 3]> = SERVICES
        .iter()
        .map(|service| {
            let calls = middle(&|sweep| {
                sweep.calls.iter().filter(|call| call.service == *service).count() as f64
            });
            let bytes = middle(&|sweep| *sweep.bytes.get(service).unwrap_or(&0) as f64);
            let figure = format!("{calls} calls, {:.2} MiB", bytes / f64::from(1 << 20));
            [format!("{service:?}"), figure, String::new()]
        })
        .collect();
    let large = |goal: &str| if runners >= 10_000 { goal.to_owned() } else { String::new() };
    rows.extend([
        ["wall".to_owned(), milliseconds(|one| one.wall), String::new()],
        ["CPU, user and system".to_owned(), milliseconds(|one| one.cpu), String::new()],
        ["planning".to_owned(), milliseconds(|one| one.planning), large("goal 250 ms")],
        [
            "peak memory".to_owned(),
            format!("{:.1} MiB", middle(&|one| one.peak)),
            large("goal 64 MiB"),
        ],
    ]);
    table(
        &format!(
            "Sweep over {runners} healthy runners, medians of {} (made in {seeded:.0?})",
            sweeps.len()
        ),
        &rows,
    );
    let mut lists: BTreeMap<String, usize> = BTreeMap::new();
    for call in sweeps.last().into_iter().flat_map(|sweep| &sweep.calls) {
        *lists.entry(kind_of(call)).or_default() += 1;
    }
    let mut rows: Vec<[String; 3]> =
        lists.into_iter().map(|(what, calls)| [what, calls.to_string(), String::new()]).collect();
    rows.sort_by_key(|[_, calls, _]| std::cmp::Reverse(calls.parse::<usize>().unwrap_or_default()));
    table("Its calls", &rows);
}

/// Which list a call is a page of.
fn kind_of(call: &Call) -> String {
    let path = call.path.split('?').next().unwrap_or_default();
    let is_plain = |word: &&str| word.chars().all(|one| one.is_ascii_alphabetic() || one == '.');
    let words: Vec<&str> =
        path.split('/').filter(|word| !word.is_empty()).filter(is_plain).collect();
    let last = words.len().saturating_sub(2);
    format!(
        "{:?} {} {}",
        call.service,
        call.method,
        words.get(last..).unwrap_or_default().join("/")
    )
}
