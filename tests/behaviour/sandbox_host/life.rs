//! Starting, killing and stopping the handler.

use super::world::{
    Handler, NAMESPACE, Reply, World, app_root, host_json, on_http, on_queue, on_timer, queues,
    start, trigger,
};
use forerunner::{
    clock::Clock,
    sandbox::{
        actor::{Actor, Due},
        host::{Error, Host, HostSettings, LogLevel, Reserved, Verdict, Worker},
    },
};
use jiff::SignedDuration;
use serde_json::{Value, json};

#[tokio::test]
async fn a_killed_handler_stops_at_once_and_its_messages_come_again() {
    let world =
        World::new(&[("round", on_queue("jobs", true)), ("command", on_queue("plain", false))]);
    let world = world.await;
    (0..2).for_each(|_| world.handler.reply(Reply::Never));
    world.send("jobs", Some("a"), "one");
    world.send("plain", None, "two");
    tokio::join!(world.settle(), async {
        world.handler.arrived(2).await;
        assert_eq!(world.handler.open(), 2);
        world.host.kill();
    });
    let killed = Verdict::Failure("the handler was killed".to_owned());
    let verdicts = |world: &World| -> Vec<Verdict> {
        world.host.invocations().into_iter().map(|record| record.verdict).collect()
    };
    assert_eq!(verdicts(&world), [killed.clone(), killed.clone()]);
    assert_eq!(world.host.due(), None, "nothing is delivered while no handler runs");
    world.settle().await;
    assert_eq!((world.bus.depth("jobs"), world.bus.depth("plain")), (1, 1));
    world.host.restart().await.unwrap();
    assert_eq!(world.handler.open(), 0, "every future of the dead handler was dropped");
    assert_eq!(world.host.due(), Some(Due::Work(start())));
    world.settle().await;
    assert_eq!(verdicts(&world), [killed.clone(), killed, Verdict::Success, Verdict::Success]);
    let counts: Vec<Option<u32>> =
        world.host.invocations().iter().map(|record| record.delivery_count).collect();
    assert_eq!(counts, [Some(1), Some(1), Some(2), Some(2)]);
}

#[tokio::test]
async fn a_driver_that_stops_waiting_loses_no_message() {
    let world = World::new(&[("command", on_queue("plain", false))]).await;
    world.handler.reply(Reply::Never);
    world.send("plain", None, "x");
    tokio::select! {
        () = world.settle() => panic!("the handler never answers"),
        () = world.handler.arrived(1) => {}
    }
    world.host.kill();
    world.host.restart().await.unwrap();
    world.settle().await;
    assert_eq!(world.bus.depth("plain"), 0);
    assert_eq!(world.bodies().len(), 2);
}

/// A desk that is done with stops turning the clock, and may do so while the handler starts anew.
#[tokio::test]
async fn a_driver_that_stops_waiting_for_a_restart_finds_the_handler_started() {
    let world = World::new(&[("command", on_queue("plain", false))]).await;
    world.send("plain", None, "x");
    let mut restart = Box::pin(world.host.restart());
    assert!(futures::poll!(&mut restart).is_pending());
    drop(restart);
    let started = async {
        while world.bodies().is_empty() {
            world.settle().await;
            tokio::task::yield_now().await;
        }
    };
    let started = tokio::time::timeout(std::time::Duration::from_secs(20), started).await;
    started.expect("the handler starts");
}

#[tokio::test]
async fn after_a_power_cut_messages_come_when_their_locks_end() {
    let world = World::new(&[("round", on_queue("jobs", true))]).await;
    world.handler.reply(Reply::Never);
    world.send("jobs", Some("a"), "x");
    tokio::join!(world.settle(), async {
        world.handler.arrived(1).await;
        world.host.pull_plug().await;
    });
    assert_eq!(world.host.due(), None);
    let second = Host::start(world.settings.clone()).await.unwrap();
    assert_eq!(second.due(), Some(Due::Work(start() + SignedDuration::from_secs(60))));
    let world = World { host: second, ..world };
    world.settle().await;
    assert_eq!(world.bodies().len(), 1);
    world.turn(60).await;
    assert_eq!(world.host.invocations()[0].delivery_count, Some(2));
    assert_eq!(world.bus.depth("jobs"), 0);
}

#[tokio::test]
async fn the_handler_is_told_its_port_its_root_and_the_settings() {
    let world = World::with(&[("sweep", on_timer("0 0 * * * *"))], start(), |_, settings| {
        settings.app_settings.insert("GREETING".to_owned(), "hello".to_owned());
    });
    let world = world.await.unwrap();
    let settings = world.handler.starts.lock().unwrap()[0].clone();
    assert_eq!(settings["GREETING"], "hello");
    assert_eq!(settings["FUNCTIONS_CUSTOMHANDLER_PORT"], settings["FUNCTIONS_HTTPWORKER_PORT"]);
    assert_eq!(settings["FUNCTIONS_CUSTOMHANDLER_WORKER_ID"], settings["FUNCTIONS_HTTPWORKER_ID"]);
    let root = std::path::Path::new(&settings["FUNCTIONS_APP_ROOT_PATH"]);
    assert!(root.join("host.json").is_file());
    let seen = world.handler.seen.lock().unwrap()[0].clone();
    let host = format!("127.0.0.1:{}", settings["FUNCTIONS_CUSTOMHANDLER_PORT"]);
    assert_eq!(seen.header("host"), Some(host.as_str()));
}

/// A hundred tests ask for ports while a handler's process starts.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn nobody_else_gets_a_reserved_port() {
    let reserved: Vec<Reserved> = (0..100).map(|_| Reserved::any().unwrap()).collect();
    for _ in 0..2000 {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = other.local_addr().unwrap().port();
        assert!(reserved.iter().all(|one| one.port() != port), "{port} is given twice");
    }
    for one in &reserved {
        tokio::net::TcpListener::bind(("127.0.0.1", one.port())).await.unwrap();
    }
}

#[tokio::test]
async fn scale_groups_have_a_handler_each() {
    let functions = [
        ("gitlab_hook", on_http("gitlab", "anonymous")),
        ("health", on_http("health", "anonymous")),
        ("round", on_queue("jobs", true)),
        ("sweep", on_timer("0 0 * * * *")),
    ];
    let world = World::with(&functions, start(), |_, settings| settings.scale_groups = true);
    let world = world.await.unwrap();
    let starts = world.handler.starts.lock().unwrap().clone();
    let groups: Vec<&str> =
        starts.iter().map(|settings| settings["FUNCTIONS_TARGET_GROUP"].as_str()).collect();
    assert_eq!(groups, ["http", "function:round", "function:sweep"]);
    world.send("jobs", Some("a"), "x");
    world.settle().await;
    let port = &starts[1]["FUNCTIONS_CUSTOMHANDLER_PORT"];
    let seen = &world.handler.calls()[0];
    assert_eq!(seen.header("host"), Some(format!("127.0.0.1:{port}").as_str()));
}

#[tokio::test]
async fn bodies_can_have_a_length_and_calls_a_trace() {
    let world = World::with(&[("command", on_queue("plain", false))], start(), |_, settings| {
        (settings.chunked, settings.traceparent) = (false, true);
    });
    let world = world.await.unwrap();
    world.send("plain", None, "x");
    world.settle().await;
    let seen = &world.handler.calls()[0];
    assert_eq!(seen.header("content-length"), Some(seen.body.len().to_string().as_str()));
    assert_eq!(seen.header("transfer-encoding"), None);
    let parts: Vec<usize> = seen.header("traceparent").unwrap().split('-').map(str::len).collect();
    assert_eq!(parts, [2, 32, 16, 2]);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_run() {
    let run = async || {
        let world = World::new(&[("command", on_queue("plain", false))]).await;
        world.send("plain", None, "x");
        world.settle().await;
        world.handler.calls()[0].body.clone()
    };
    assert_eq!(run().await, run().await);
}

#[tokio::test]
async fn a_disabled_function_is_not_there() {
    let functions = [("round", on_queue("jobs", true)), ("command", on_queue("plain", false))];
    let world = World::with(&functions, start(), |_, settings| {
        let name = "AzureWebJobs.round.Disabled".to_owned();
        settings.app_settings.insert(name, "true".to_owned());
    });
    let world = world.await.unwrap();
    assert_eq!(world.host.functions().len(), 1);
    world.send("jobs", Some("a"), "x");
    world.settle().await;
    assert_eq!(world.bodies().len(), 0);
}

#[tokio::test]
async fn an_empty_success_is_reported_at_once() {
    let world = World::new(&[("sweep", on_timer("0 */10 * * * *"))]).await;
    world.handler.reply(Reply::Now { status: 200, headers: Vec::new(), body: String::new() });
    world.turn(600).await;
    assert_eq!(world.host.invocations()[0].verdict, Verdict::Hang);
    let logs = world.host.logs();
    let said = logs.iter().find(|line| line.text.contains("2xx without a body")).unwrap();
    assert_eq!((said.level, said.category.as_str()), (LogLevel::Error, "Function.sweep"));
    assert_eq!(world.host.due(), Some(Due::Work(start() + SignedDuration::from_mins(40))));
    world.turn(30 * 60).await;
    assert_eq!(world.handler.starts.lock().unwrap().len(), 2);
    assert_eq!(world.host.due(), Some(Due::Background(start() + SignedDuration::from_mins(50))));
}

async fn refuse(host: Value, functions: &[(&str, Value)], worker: Option<Worker>, expected: &str) {
    let clock = Clock::frozen(start());
    let bus = queues(&clock);
    let root = app_root(&host, functions);
    let worker = worker.unwrap_or_else(|| Worker::InProcess(Handler::new().build()));
    let mut settings = HostSettings::new(root, worker, clock, bus);
    let connection = ("BUS__fullyQualifiedNamespace".to_owned(), NAMESPACE.to_owned());
    settings.app_settings.extend([connection]);
    let refused = Host::start(settings).await.err().map(|error: Error| error.to_string());
    let refused = refused.unwrap_or_else(|| panic!("it starts, without `{expected}`"));
    assert!(refused.contains(expected), "`{refused}` does not contain `{expected}`");
}

#[tokio::test]
async fn an_app_root_that_azure_would_not_run_is_refused() {
    let good = [("sweep", on_timer("0 0 * * * *"))];
    let without = |place: &str, member: &str| {
        let mut host = host_json();
        host.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(member);
        host
    };
    refuse(without("", "version"), &good, None, "\"version\" must be").await;
    refuse(without("/customHandler", "description"), &good, None, "Missing worker Description")
        .await;
    let no_path = without("/customHandler/description", "defaultExecutablePath");
    refuse(no_path, &good, None, "DefaultExecutablePath cannot be empty").await;
    let plain = [("command", on_queue("plain", false))];
    refuse(without("", "extensionBundle"), &plain, None, "extensionBundle").await;
    let mut missing = host_json();
    missing["customHandler"]["description"]["defaultExecutablePath"] = "bin/nothing".into();
    refuse(missing, &good, Some(Worker::Child), "neither a file").await;
    refuse(host_json(), &[], None, "no functions found").await;

    let with = |member: &str, value: Value| {
        let mut function = on_queue("plain", false);
        function["bindings"][0][member] = value;
        function
    };
    let cases = [
        ("command", with("queueName", json!("nowhere")), "there is no queue `nowhere`"),
        ("command", with("queueName", json!("%QUEUE%")), "names an app setting that is missing"),
        ("command", with("isSessionsEnabled", json!(true)), "isSessionsEnabled is true"),
        ("command", with("connection", json!("OTHER")), "OTHER__fullyQualifiedNamespace"),
        ("host", on_timer("0 0 * * * *"), "no name for a function"),
        ("sweep", on_timer("0 0 * * * 7"), "no day of the week 7"),
        ("sweep", json!({"bindings": []}), "0 triggers"),
        ("sweep", trigger(json!({"type": "queueTrigger", "name": "q"})), "not simulated"),
    ];
    for (name, function, expected) in cases {
        refuse(host_json(), &[(name, function)], None, expected).await;
    }
}
