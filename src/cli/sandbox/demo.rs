//! The main job, shown: a new group gets its runner, and a job on it signs in to Azure without a secret.

use super::{
    Failure,
    follow::{count, follow},
    terminal::Terminal,
};
use crate::{
    domain::{
        fleet::{Fleet, WantedState},
        ids::{GroupId, ProfileName, RunnerKey, TargetId, Unit},
        kubernetes::{Kind, Object, ObjectName},
        names, records,
        status::{ConditionKind, Status},
    },
    sandbox::{
        gitlab::{JobStatus, NewJob, Outcome},
        world::{Unsettled, World},
    },
};
use jiff::SignedDuration;
use std::time::Instant;

/// The job's script after the sign-in: what it may do, and what it may not.
const SCRIPT: [&str; 3] = [
    "az account show --query id --output tsv",
    "az group list --output table",
    "if az group create --name made-by-a-job --location westeurope; then echo 'This must not be.'; exit 1; \
     else echo 'As it should be: this job may read and not write.'; fi",
];

/// The sandbox's time is turned ahead over waiting, never over work.
const PATIENCE: SignedDuration = SignedDuration::from_mins(30);

pub(super) async fn show(world: &World, fleet: &Fleet, terminal: &Terminal) -> Result<(), Failure> {
    let (began, started) = (Instant::now(), world.clock.now());
    let mut seen = world.wire.calls().len();
    let units = create_group(world, fleet, terminal)?;
    let settled = async {
        world.settle(PATIENCE).await?;
        if !hook_arrived(world) && world.host().is_some_and(|host| host.run_timer_now("sweep")) {
            terminal.say("the hook never arrived: the next sweep finds the group instead");
            world.settle(PATIENCE).await?;
        }
        Ok::<(), Unsettled>(())
    };
    follow(world, terminal, &mut seen, settled)
        .await
        .map_err(|error| Failure::Demo(error.to_string()))?;
    let (real, played) = (began.elapsed(), world.clock.now().duration_since(started));
    for unit in &units {
        tell_status(world, fleet, terminal, unit)?;
    }
    terminal.say(&format!(
        "{} s of the sandbox's clock, which is turned ahead over waiting; {:.1} s of yours",
        played.as_secs(),
        real.as_secs_f64()
    ));
    run_job(world, terminal).await?;
    sum_up(world, terminal, began);
    Ok(())
}

/// Whether forerunner took the group's hook. It may be lost on its way, and GitLab waits ten seconds for an answer, which a
/// busy machine may need; it does not try again.
fn hook_arrived(world: &World) -> bool {
    world
        .gitlab
        .deliveries()
        .iter()
        .any(|delivery| matches!(delivery.outcome, Outcome::Answered(200..=299)))
}

/// Creates the group in GitLab, which sends its hook, and says which runners the file gives it.
fn create_group(world: &World, fleet: &Fleet, terminal: &Terminal) -> Result<Vec<Unit>, Failure> {
    let anchor = fleet.anchors().find(|(path, _)| *path == "platform");
    let Some((_, GroupId(anchor))) = anchor else { return Err(Failure::DemoFleet) };
    terminal.head("A group `platform/payments` is created in GitLab");
    let group = world.gitlab.create_group(Some(anchor), "payments");
    let facts = crate::domain::fleet::TargetFacts {
        id: TargetId::Group(GroupId(group)),
        path: "platform/payments".to_owned(),
        ancestors: vec![(GroupId(anchor), "platform".to_owned())],
        personal: false,
    };
    let wanted = fleet.wanted(&facts).into_iter();
    let served = wanted.filter(|wanted| matches!(wanted.state, WantedState::Runner(_)));
    let profiles: Vec<ProfileName> = served.map(|wanted| wanted.profile).collect();
    if !profiles.iter().any(|profile| profile.as_str() == "plan") {
        return Err(Failure::DemoFleet);
    }
    let keys = profiles.into_iter().map(|profile| RunnerKey { target: facts.id, profile });
    let units: Vec<Unit> = keys.map(Unit::Runner).collect();
    let list: Vec<String> = units.iter().map(ToString::to_string).collect();
    terminal.say(&format!(
        "fleet.yaml gives it {}; its hook wakes forerunner, which writes:",
        list.join(" and ")
    ));
    Ok(units)
}

fn tell_status(
    world: &World,
    fleet: &Fleet,
    terminal: &Terminal,
    unit: &Unit,
) -> Result<(), Failure> {
    let namespace = &fleet.settings().cluster.managers_namespace;
    let name = ObjectName::new(Kind::ConfigMap, namespace, &names::status_map(unit));
    let map = world.kubernetes.get("configmaps", namespace, &name.name);
    let status = map.and_then(|body| records::read_status(&Object { name, body }));
    terminal.head(&format!("{unit}"));
    for condition in status.iter().flat_map(|status: &Status| &status.conditions) {
        let text = format!("{:?}: {} ({})", condition.kind, condition.message, condition.reason);
        match condition.status {
            true => terminal.good(&text),
            false => terminal.bad(&text),
        }
    }
    let ready = status.as_ref().is_some_and(Status::is_ready);
    let reason = || {
        let condition = status.as_ref().and_then(|status| status.condition(ConditionKind::Ready));
        condition.map_or("nothing is known of it".to_owned(), |ready| ready.message.clone())
    };
    if ready {
        Ok(())
    } else {
        Err(Failure::Demo(format!("`{unit}` did not settle: {}", reason())))
    }
}

/// A pipeline job on the new runner, in a simulated pod, as the CI template has it.
async fn run_job(world: &World, terminal: &Terminal) -> Result<(), Failure> {
    terminal.head("A job tagged `azure-plan` runs on the new runner");
    let groups = world.gitlab.runners();
    let group = groups.iter().find_map(|runner| match runner.owner {
        crate::sandbox::gitlab::Owner::Group(group) => Some(group),
        crate::sandbox::gitlab::Owner::Instance
        | crate::sandbox::gitlab::Owner::Project(_)
        | crate::sandbox::gitlab::Owner::Nobody => None,
    });
    let group =
        group.ok_or_else(|| Failure::Demo("GitLab shows no runner of the group".to_owned()))?;
    let project = world.gitlab.create_project(group, "ledger");
    let job = world.gitlab.create_job(
        project,
        NewJob {
            name: "plan".to_owned(),
            tags: vec!["azure-plan".to_owned()],
            before_script: before_script()?,
            script: SCRIPT.map(str::to_owned).to_vec(),
            ..NewJob::default()
        },
    );
    // The manager's next poll comes within seconds; the job itself runs at the system's pace.
    for _ in 0..20 {
        world
            .pass(SignedDuration::from_secs(3))
            .await
            .map_err(|error| Failure::Demo(error.to_string()))?;
        let done = world
            .gitlab
            .job(job)
            .filter(|job| !matches!(job.status, JobStatus::Pending | JobStatus::Running));
        let Some(done) = done else { continue };
        for line in done.trace.lines() {
            terminal.quiet(line);
        }
        return match done.status {
            JobStatus::Success => {
                terminal.good("the job signed in with the runner's federated identity, and no secret was anywhere");
                Ok(())
            }
            JobStatus::Pending
            | JobStatus::Running
            | JobStatus::Canceling
            | JobStatus::Canceled
            | JobStatus::Failed => Err(Failure::Demo(format!(
                "the job ended as {:?}: {:?}",
                done.status, done.failure_reason
            ))),
        };
    }
    Err(Failure::Demo("no runner took the job within a minute".to_owned()))
}

/// The sign-in steps of the shipped CI template.
fn before_script() -> Result<Vec<String>, Failure> {
    let template = include_str!("../../../deploy/ci/azure.gitlab-ci.yml");
    let read: Result<serde_json::Value, _> = serde_saphyr::from_str(template);
    let read = read
        .map_err(|error| Failure::Demo(format!("the shipped CI template is not YAML: {error}")))?;
    let steps = read[".azure"]["before_script"].as_array().into_iter().flatten();
    Ok(steps.filter_map(|step| step.as_str().map(str::to_owned)).collect())
}

fn sum_up(world: &World, terminal: &Terminal, began: Instant) {
    terminal.head("forerunner's calls");
    for (service, (reads, writes)) in count(world) {
        terminal.say(&format!("{service:<12} {reads:>4} reads {writes:>4} writes"));
    }
    terminal.say(&format!("done in {:.1} s", began.elapsed().as_secs_f64()));
}
