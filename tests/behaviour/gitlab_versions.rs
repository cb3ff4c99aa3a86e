//! Whole rounds against every line of GitLab from 17 on, each without what it does not have yet (gitlab.md §8).

use crate::{
    deeds::{client, plan_fleet},
    harness::Sandbox,
};
use forerunner::{
    adapters::{
        gitlab::{Gitlab, TokenSource, Where},
        http::{Http, HttpSettings, Loopback},
    },
    domain::{
        gitlab::EntitySettings,
        ids::{GroupId, RunnerId, TargetId},
    },
    sandbox::gitlab::{NewJob, Settings, Version},
};
use serde_json::{Value, json};

/// Where a line has something that the one before it had not.
const VERSIONS: [(u8, u8); 7] = [(17, 0), (17, 4), (17, 8), (18, 0), (18, 5), (19, 0), (19, 4)];

async fn start(major: u8, minor: u8) -> Sandbox {
    let version = Version::new(major, minor);
    Sandbox::with_gitlab(&plan_fleet(), Settings { version, ..Settings::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_provisions_and_a_second_round_writes_nothing() {
    for (major, minor) in VERSIONS {
        let sandbox = start(major, minor).await;
        let gitlab = &sandbox.world.gitlab;
        let group = gitlab.create_group(Some(42), "payments");
        let begin = sandbox.world.clock.now();
        sandbox.settle().await;
        let key = format!("g{group}-plan");
        sandbox.assert_ready(&format!("runner/{key}"));
        let runner = sandbox.runner(&key);
        let about = format!("{major}.{minor}");
        assert!(!runner.paused && runner.contacted_at.is_some(), "{about}: {runner:?}");
        // Long before any sweep.
        let took = runner.created_at.duration_since(begin);
        assert!(took.as_secs() < 60, "{about}: made after {took:#}");

        // Both hooks of a path that changes and changes back: the round sees what was there.
        sandbox.world.wire.forget_calls();
        gitlab.rename_group(group, "billing");
        gitlab.rename_group(group, "payments");
        sandbox.settle().await;
        sandbox.sweep().await;
        assert_eq!(sandbox.own_writes(), Vec::<String>::new(), "{about}");
        let looked = sandbox.own_calls();
        assert!(looked.iter().any(|call| call.contains("/deployments/")), "{about}: {looked:#?}");
        sandbox.assert_ready(&format!("runner/{key}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_file_takes_back_is_paused_and_what_it_gives_again_is_opened() {
    for (major, minor) in VERSIONS {
        let sandbox = start(major, minor).await;
        let group = sandbox.world.gitlab.create_group(Some(42), "payments");
        sandbox.settle().await;
        let (about, key) = (format!("{major}.{minor}"), format!("g{group}-plan"));
        sandbox.assert_ready(&format!("runner/{key}"));
        let withdrawn = format!(
            "{}withdrawn: [{{ group: {group}, path: platform/payments, reason: SEC-1 }}]\n",
            plan_fleet()
        );
        sandbox.deploy(&withdrawn).await;
        sandbox.sweep().await;
        let runner = sandbox.runner(&key);
        assert!(runner.paused && !runner.maintenance_note.is_empty(), "{about}: {runner:?}");
        assert_eq!(sandbox.replicas(&key), json!(0), "{about}");
        sandbox.deploy(&plan_fleet()).await;
        sandbox.sweep().await;
        let runner = sandbox.runner(&key);
        assert!(!runner.paused && runner.maintenance_note.is_empty(), "{about}: {runner:?}");
        sandbox.assert_ready(&format!("runner/{key}"));
    }
}

/// The adapter, as whoever administers this sandbox's GitLab.
fn adapter(sandbox: &Sandbox) -> Gitlab {
    let port = sandbox.world.address("gitlab").unwrap().port();
    let loopback = vec![Loopback::new("gitlab.example.com", port)];
    let settings = HttpSettings { loopback, ..HttpSettings::default() };
    let http = Http::new(settings, sandbox.world.clock.clone());
    let token = TokenSource::Given(sandbox.world.gitlab.admin_token().into());
    Gitlab::new(http, "https://gitlab.example.com".parse().unwrap(), token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_is_idle_until_it_has_a_job_and_once_the_job_is_over() {
    for (major, minor) in VERSIONS {
        let sandbox = start(major, minor).await;
        let world = &sandbox.world;
        let group = world.gitlab.create_group(Some(42), "payments");
        let project = world.gitlab.create_project(group, "ledger");
        sandbox.settle().await;
        let runner = RunnerId(sandbox.runner(&format!("g{group}-plan")).id);
        let gitlab = adapter(&sandbox);
        let about = format!("{major}.{minor}");
        let idle = async || {
            let entity = gitlab.entity(runner).await.unwrap().unwrap();
            let is_told = entity.busy.is_some();
            assert_eq!(is_told, (major, minor) >= (18, 3), "{about}: {entity:?}");
            assert_eq!(entity.created_at.is_some(), is_told, "{about}");
            gitlab.is_idle(&entity).await.unwrap()
        };
        assert!(idle().await, "{about}: nothing was asked of it");
        // As its manager would take it; the world stands still meanwhile.
        let token = world.gitlab.reset_runner_token(runner.0).unwrap();
        let job = NewJob { tags: vec!["azure-plan".to_owned()], ..NewJob::default() };
        let job = world.gitlab.create_job(project, job);
        let ask = async |method: &str, path: &str, body: Value| {
            let url = format!("http://{}/api/v4/{path}", world.address("gitlab").unwrap());
            let request = client().request(method.parse().unwrap(), url);
            let request = request.header("content-type", "application/json");
            request.body(body.to_string()).send().await.unwrap()
        };
        let taken = ask("POST", "jobs/request", json!({"token": token, "system_id": "r_1"})).await;
        assert_eq!(taken.status(), 201, "{about}");
        let taken: Value = taken.json().await.unwrap();
        assert!(!idle().await, "{about}: it runs one");
        world.gitlab.cancel_job(job);
        assert!(!idle().await, "{about}: it has not stopped yet");
        let done = json!({"token": taken["token"], "state": "failed"});
        let ended = ask("PUT", &format!("jobs/{job}"), done).await;
        assert!(ended.status().is_success(), "{about}: {}", ended.status());
        assert!(idle().await, "{about}: it is over");

        // What is read in bulk says the same, whatever the line.
        let bulk = gitlab.runners_bulk(Where::Everywhere, "nonprod").await.unwrap();
        let [entity] = bulk.as_slice() else { panic!("{about}: {bulk:?}") };
        assert_eq!(entity.owners, [TargetId::Group(GroupId(group))], "{about}");
        assert!(gitlab.is_idle(entity).await.unwrap(), "{about}");
    }
}

const ROWS: usize = 60;

/// The instance's own limit, which larger rows meet first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_read_takes_fewer_rows_where_the_instance_finds_it_too_complex() {
    let check = async |complexity_max: usize, whole: bool, calls: usize| {
        let settings = Settings { complexity_max, ..Settings::default() };
        let sandbox = Sandbox::with_gitlab(&plan_fleet(), settings).await;
        let gitlab = adapter(&sandbox);
        let one = EntitySettings {
            description: "nonprod".to_owned(),
            tags: vec![],
            run_untagged: true,
            locked: false,
            protected: false,
            maximum_timeout: None,
            maintenance_note: None,
            paused: true,
        };
        for _ in 0..ROWS {
            gitlab.create_runner(TargetId::Group(GroupId(42)), &one).await.unwrap();
        }
        sandbox.world.wire.forget_calls();
        let read = gitlab.runners_bulk(Where::Everywhere, "nonprod").await;
        assert_eq!(read.map(|rows| rows.len()).ok(), whole.then_some(ROWS), "{complexity_max}");
        let asked = sandbox.world.wire.calls();
        let asked = asked.iter().filter(|call| call.path == "/api/graphql").count();
        assert_eq!(asked, calls, "{complexity_max}");
    };
    check(250, true, 1).await;
    // 100 and 50 rows in vain, and three times 25.
    check(45, true, 5).await;
    // Not even 12.
    check(20, false, 4).await;
}
