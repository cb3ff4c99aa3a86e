//! A GitLab hook through the real binary: what verifying and queueing add to the queue's own answer, and how many hooks
//! a second it can take. The binary has one core; GitLab and the queue are this process, on loopback.

#[path = "support/figures.rs"]
mod figures;
#[path = "support/handler.rs"]
#[expect(dead_code, reason = "other benches look at more")]
mod handler;
#[path = "support/queue.rs"]
mod queue;

use figures::{percentile, table};
use handler::{HOOK_TOKEN, Handler, build_for_azure, free_port, pause};
use queue::Queue;
use std::{
    io,
    net::Ipv4Addr,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Mutex, mpsc},
};

const PER_SECOND: usize = 1000;
const SECONDS: usize = 4;
const PASSES: usize = 5;
/// Roughly what Service Bus takes within a region. Waiting for it keeps several hooks in flight at once.
const QUEUE_ANSWERS: Duration = Duration::from_millis(5);
const CONNECTIONS: usize = 32;
const FLOOD: Duration = Duration::from_secs(2);
/// More messages than all passes together can send.
const MESSAGES_MAX: usize = 1_000_000;

fn main() {
    let binary = build_for_azure();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("this process may have threads").block_on(measure(&binary));
}

/// One pass at the fixed rate.
struct Pass {
    /// Milliseconds of each hook beyond the queue's own answer.
    beyond: Vec<f64>,
    /// Microseconds a hook.
    cpu: f64,
}

async fn measure(binary: &Path) {
    let queue = Arc::new(Queue::start(MESSAGES_MAX).await);
    let fleet = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/forty-groups.yaml");
    let (mut on_one_core, pinned) = one_core();
    on_one_core.arg(binary);
    let program = if pinned { on_one_core } else { Command::new(binary) };
    let port = free_port();
    let (handler, _) = Handler::start(program, &fleet, queue.port, port);
    let next = Arc::new(AtomicUsize::new(0));

    // The first hook fetches a token and connects.
    let begun = Instant::now();
    let mut first = Connection::open(port).await.expect("the handler listens");
    first.deliver(next.fetch_add(1, Ordering::Relaxed)).await.expect("the first hook is taken");
    let first = begun.elapsed();

    let mut passes = Vec::new();
    queue.answer_after(QUEUE_ANSWERS);
    for _ in 0..PASSES {
        let before = handler.cpu();
        let beyond = at_a_rate(port, &queue, &next).await;
        let spent = handler.cpu().saturating_sub(before).as_secs_f64() * 1e6 / beyond.len() as f64;
        passes.push(Pass { beyond, cpu: spent });
    }
    queue.answer_after(Duration::ZERO);
    let mut floods = Vec::new();
    for _ in 0..PASSES {
        floods.push(flood(port, &next).await);
    }
    pause(Duration::from_millis(300));

    let of_passes = |figure: &dyn Fn(&Pass) -> f64| passes.iter().map(figure).collect::<Vec<f64>>();
    let middle = |figure: &dyn Fn(&Pass) -> f64| percentile(&of_passes(figure), 0.5);
    let share = |share: f64| middle(&|pass| percentile(&pass.beyond, share));
    let worst = percentile(&of_passes(&|pass| percentile(&pass.beyond, 0.99)), 1.0);
    let where_ = if pinned { "on one core" } else { "on any core (there is no taskset)" };
    table(
        &format!("Hooks {where_}, medians of {PASSES} passes"),
        &[
            row("the first hook of a process", &milliseconds(first.as_secs_f64() * 1000.0), ""),
            row(
                &format!("beyond the queue's answer at {PER_SECOND}/s, p50"),
                &milliseconds(share(0.5)),
                "",
            ),
            row(
                &format!("beyond the queue's answer at {PER_SECOND}/s, p99"),
                &milliseconds(share(0.99)),
                "goal 2 ms",
            ),
            row("the same, worst pass", &milliseconds(worst), ""),
            row(
                "CPU time a hook",
                &format!("{:.0} µs", middle(&|pass| pass.cpu)),
                "user and system",
            ),
            row(
                "hooks a second, as many as it takes",
                &format!("{:.0}/s", percentile(&floods, 0.5)),
                &format!("{CONNECTIONS} connections"),
            ),
            row("resident memory after all of them", &format!("{:.1} MiB", handler.resident()), ""),
        ],
    );
}

fn row(what: &str, figure: &str, goal: &str) -> [String; 3] {
    [what, figure, goal].map(str::to_owned)
}

fn milliseconds(figure: f64) -> String {
    format!("{figure:.2} ms")
}

/// `taskset` with the first core, and whether this machine has it.
fn one_core() -> (Command, bool) {
    let mut taskset = Command::new("taskset");
    taskset.args(["--cpu-list", "0"]);
    let works = Command::new("taskset").args(["--cpu-list", "0", "true"]).status();
    (taskset, works.is_ok_and(|status| status.success()))
}

/// Sends hooks at a fixed rate, whether or not earlier ones were answered; milliseconds beyond the queue's own answer.
async fn at_a_rate(port: u16, queue: &Queue, next: &AtomicUsize) -> Vec<f64> {
    let (deliver, deliveries) = mpsc::unbounded_channel::<(usize, Instant)>();
    let deliveries = Arc::new(Mutex::new(deliveries));
    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(port).await.expect("the handler listens");
        let deliveries = deliveries.clone();
        lanes.spawn(async move {
            let mut seen = Vec::new();
            loop {
                let delivery = deliveries.lock().await.recv().await;
                let Some((number, due)) = delivery else { return seen };
                connection.deliver(number).await.expect("the handler answers 200");
                seen.push((number, due.elapsed()));
            }
        });
    }
    let mut tick = tokio::time::interval(Duration::from_secs(1) / PER_SECOND as u32);
    for _ in 0..PER_SECOND * SECONDS {
        tick.tick().await;
        let number = next.fetch_add(1, Ordering::Relaxed);
        deliver.send((number, Instant::now())).expect("the lanes listen");
    }
    drop(deliver);
    let seen = lanes.join_all().await.concat();
    let beyond = seen.into_iter().map(|(number, took)| {
        let own = queue.took(number).expect("what was answered 200 was queued");
        took.saturating_sub(own).as_secs_f64() * 1000.0
    });
    beyond.collect()
}

/// Sends the next hook as soon as one is answered, on every connection; hooks a second.
async fn flood(port: u16, next: &Arc<AtomicUsize>) -> f64 {
    let mut lanes = tokio::task::JoinSet::new();
    let begun = Instant::now();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(port).await.expect("the handler listens");
        let next = next.clone();
        lanes.spawn(async move {
            let mut taken = 0_usize;
            while begun.elapsed() < FLOOD {
                let number = next.fetch_add(1, Ordering::Relaxed);
                connection.deliver(number).await.expect("the handler answers 200");
                taken += 1;
            }
            taken
        });
    }
    let taken: usize = lanes.join_all().await.into_iter().sum();
    taken as f64 / begun.elapsed().as_secs_f64()
}

/// One connection that stays open, as the host's do. Written by hand so that little of what is measured is ours.
struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    async fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: vec![0; 4096] })
    }

    /// Delivers a hook as the host forwards it; an answer other than 200 is an error.
    async fn deliver(&mut self, number: usize) -> io::Result<()> {
        let body = format!(
            r#"{{"created_at":"2026-11-24T08:00:00Z","updated_at":"2026-11-24T08:00:00Z","event_name":"group_create","name":"Payments","path":"payments","full_path":"platform/payments","group_id":{}}}"#,
            1000 + number % 500
        );
        let request = format!(
            "POST /api/gitlab_hook HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             User-Agent: GitLab/19.4.0-ee\r\nX-Gitlab-Event: System Hook\r\nX-Gitlab-Token: {HOOK_TOKEN}\r\n\
             Idempotency-Key: {}\r\nX-Azure-Functions-InvocationId: {number}\r\nContent-Length: {}\r\n\r\n{body}",
            queue::cause(number),
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        let mut held = 0;
        loop {
            match self.stream.read(&mut self.answer[held..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => held += more,
            }
            if let Some(whole) = whole(&self.answer[..held]) {
                return whole;
            }
        }
    }
}

/// Whether the answer has come to its end, and whether it is the right one.
fn whole(answer: &[u8]) -> Option<io::Result<()>> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    (body.len() >= length).then(|| match head.starts_with("HTTP/1.1 200") {
        true => Ok(()),
        false => Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned())),
    })
}
