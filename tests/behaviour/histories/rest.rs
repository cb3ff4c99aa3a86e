//! How a history ends: disturbances stop, people answer what they are asked, and the world comes to rest.

use super::{
    apply::Facts,
    disturb::{ACR_PUSH, THEIRS},
    event::Event,
    failure::Failure,
    fleet::Profile,
    orders::LONGEST_HOLD,
};
use crate::{
    contents::contents,
    disturbed::inventory,
    harness::Sandbox,
    invariants::{
        record::Recorder,
        snapshot::{MANAGERS, key_of},
    },
};
use base64::{Engine, prelude::BASE64_STANDARD};
use forerunner::sandbox::gitlab::{Mischief, RunnerEdit};
use jiff::SignedDuration;
use serde_json::{Value, json};

/// How many sweeps may pass until the world rests: what is parked comes back at doubled intervals, and the brake lets
/// go of so many a day.
const SWEEPS_MAX: usize = 16;
/// Sweeps at about the timer's own pace; the others are a day apart.
const CLOSE: usize = 4;
const AT_ITS_PACE: SignedDuration = SignedDuration::from_mins(11);
const A_DAY: SignedDuration = SignedDuration::from_hours(25);

/// Ends everything that lasts; what is archived or doomed comes back.
pub(super) async fn calm_down(facts: &mut Facts, sandbox: &Sandbox) {
    let (world, gitlab) = (&sandbox.world, &sandbox.world.gitlab);
    world.wire.clear_faults();
    world.wire.crash_at(usize::MAX, Event::moment(false));
    gitlab.set_mischief(Mischief::default());
    gitlab.set_maintenance(false);
    gitlab.set_admin(gitlab.admin_user(), true);
    world.kubernetes.fail_image_pulls(None);
    world.service_bus.throttle(0, axum::http::StatusCode::SERVICE_UNAVAILABLE);
    world.service_bus.lose_completions(0);
    facts.regain_rights(sandbox);
    for _ in 0..facts.groups.len() {
        facts.happen(sandbox, &Event::Unarchive { group: 0 }).await;
        facts.happen(sandbox, &Event::Restore { group: 0 }).await;
    }
    if facts.fleet.freeze.take().is_some() {
        facts.deploy(sandbox).await;
    }
    if !facts.fleet.writes {
        facts.happen(sandbox, &Event::Guardrails).await;
    }
    // A domain that a profile shares stays as long as the profile does, whoever lives in it.
    if !facts.wanted().contains("domain/shared") {
        facts.fleet.forget(Profile::Shared);
        facts.deploy(sandbox).await;
    }
}

/// What people do who read what they are told: they take back what they added, open what they paused, and make way
/// where a token is lost that somebody has polled with.
fn answer_alarms(facts: &mut Facts, sandbox: &Sandbox, recorder: &Recorder) {
    confirm_plan(facts, sandbox, recorder);
    delete_what_nothing_proves(sandbox);
    delete_orphaned_roles(sandbox);
    drop_refused_orders(sandbox);
    for id in std::mem::take(&mut facts.erased) {
        sandbox.world.gitlab.delete_runner(id);
    }
    let (azure, gitlab) = (&sandbox.world.azure, &sandbox.world.gitlab);
    for identity in azure.identities() {
        azure.remove_credential(&identity.id, THEIRS);
        for one in azure.assignments() {
            if one.principal_id == identity.principal_id && one.role.to_string() == ACR_PUSH {
                azure.remove_assignment(one.name);
            }
        }
    }
    let wanted = facts.wanted();
    for runner in gitlab.runners() {
        let Some(key) = key_of(&runner.description) else { continue };
        let unit = format!("runner/{key}");
        let status = sandbox.status(&unit);
        let parked = status["parked"]["reason"].as_str().unwrap_or_default();
        if parked.contains("somebody has polled") || parked.contains("somebody polls with") {
            gitlab.delete_runner(runner.id);
            sandbox.wake(&unit);
        } else if runner.paused
            && wanted.contains(&unit)
            && !runner.maintenance_note.starts_with("forerunner:")
        {
            let edit = RunnerEdit { paused: Some(false), ..RunnerEdit::default() };
            gitlab.edit_runner(runner.id, edit);
        }
    }
}

/// Runners whose marker was edited away and whose token proves nothing any more: people run the command that they are told.
fn delete_what_nothing_proves(sandbox: &Sandbox) {
    let gitlab = &sandbox.world.gitlab;
    for record in records(sandbox) {
        let said = ["conditions", "findings"].map(|list| record[list].as_array());
        let said = said.into_iter().flatten().flatten();
        let texts = said.flat_map(|one| [&one["message"], &one["remedy"]]);
        let texts = texts.chain([&record["parked"]["reason"]]).filter_map(Value::as_str);
        for told in texts.flat_map(|text| text.split("glab api --method DELETE runners/").skip(1)) {
            let digits = told.split(|letter: char| !letter.is_ascii_digit()).next();
            let id = digits.and_then(|digits| digits.parse().ok()).unwrap();
            if gitlab.runner(id).is_some() {
                gitlab.delete_runner(id);
                record["unit"].as_str().into_iter().for_each(|unit| sandbox.wake(unit));
            }
        }
    }
}

/// Roles that a list hid while their identity went: people run the command that stands beside each.
fn delete_orphaned_roles(sandbox: &Sandbox) {
    for record in records(sandbox) {
        let found = record["findings"].as_array().into_iter().flatten();
        for orphaned in found.filter(|finding| finding["kind"] == "OrphanedRole") {
            let remedy = orphaned["remedy"].as_str().unwrap();
            let (_, name) = remedy.trim_end_matches('"').rsplit_once('/').unwrap();
            sandbox.world.azure.remove_assignment(name.parse().unwrap());
        }
    }
}

/// Orders that meant nothing, or could not be done in ten tries; what else is kept nobody sent.
fn drop_refused_orders(sandbox: &Sandbox) {
    for kept in sandbox.world.kubernetes.list("secrets", MANAGERS) {
        let function =
            BASE64_STANDARD.decode(kept["data"]["function"].as_str().unwrap_or_default());
        if kept["metadata"]["labels"]["forerunner.dev/record"] == "foreign"
            && function.is_ok_and(|name| name == b"command" || name == b"approval")
        {
            let name = kept["metadata"]["name"].as_str().unwrap();
            assert!(sandbox.world.kubernetes.delete_as_admin("secrets", MANAGERS, name));
        }
    }
}

/// In a fleet of two, what leaves is soon more than the brake lets go, and a person says yes to it.
fn confirm_plan(facts: &mut Facts, sandbox: &Sandbox, recorder: &Recorder) {
    let plan = sandbox.world.kubernetes.get("configmaps", MANAGERS, "parked-plan");
    let Some(plan) = plan.filter(|_| facts.fleet.deletions.1 == 100) else { return };
    let record: Value =
        serde_json::from_str(plan["data"]["record.json"].as_str().unwrap()).unwrap();
    facts.confirmed = true;
    recorder.tell(facts.truth(sandbox));
    let id = &record["id"];
    let order = json!({ "command": "confirm", "plan": id, "by": "jane", "why": "looked at" });
    sandbox.order("approvals", &order);
}

/// Sweeps until the world is as it should be; says what is not after the last.
pub(super) async fn come_to_rest(
    facts: &mut Facts,
    sandbox: &Sandbox,
    calm: &Value,
    recorder: &Recorder,
) -> Result<usize, Failure> {
    let mut differs = Failure::new("rest", "never looked at");
    for sweep in 1..=SWEEPS_MAX {
        let seen = recorder.begin_sweep();
        assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
        let settled = sandbox.world.settle(SignedDuration::from_hours(LONGEST_HOLD + 9)).await;
        settled.map_err(|error| {
            Failure::new("settling", error.to_string()).within(format!("after sweep {sweep}"))
        })?;
        recorder.end_sweep(seen);
        match unlike(facts, sandbox, calm) {
            None => return Ok(sweep),
            Some(what) => differs = what,
        }
        answer_alarms(facts, sandbox, recorder);
        let apart = if sweep <= CLOSE { AT_ITS_PACE } else { A_DAY };
        sandbox.leap_to(&(sandbox.world.clock.now() + apart).to_string());
    }
    Err(differs.within(format!("not at rest after {SWEEPS_MAX} sweeps")))
}

/// What is otherwise than the undisturbed run leaves it.
fn unlike(facts: &Facts, sandbox: &Sandbox, calm: &Value) -> Option<Failure> {
    let wanted = facts.wanted();
    let brakes = facts.fleet.deletions.1 < 100;
    let mut unready = wanted.iter().filter(|unit| !sandbox.is_ready(unit));
    if let Some(unit) = unready.next() {
        let status = sandbox.status(unit);
        return Some(Failure::new("readiness", format!("{unit} is not ready: {status}")));
    }
    let found = told(facts, sandbox);
    let lines = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(ToString::to_string).collect()
    };
    let without = |all: &[String], others: &[String]| -> Vec<String> {
        let mut left = all.to_vec();
        for other in others {
            if let Some(at) = left.iter().position(|one| one == other) {
                left.remove(at);
            }
        }
        left
    };
    for (part, expected) in calm.as_object()? {
        let (is, should) = (lines(&found[part]), lines(expected));
        let (more, less) = (without(&is, &should), without(&should, &is));
        // Where the brake held, what nobody wants may still be there.
        if !less.is_empty() || (!more.is_empty() && !brakes) {
            let told = told_of_all(sandbox);
            let why = format!("{part}: too much {more:#?}, too little {less:#?}\n{told}");
            return Some(Failure::new(part, why));
        }
        if part == "queue" && found[part] != *expected && !brakes {
            return Some(Failure::new(part, format!("queue: {}", found[part])));
        }
    }
    None
}

/// What is told of every unit and of the fleet as a whole.
fn records(sandbox: &Sandbox) -> Vec<Value> {
    let maps = sandbox.world.kubernetes.list("configmaps", MANAGERS).into_iter();
    let texts = maps.filter_map(|map| Some(map["data"]["record.json"].as_str()?.to_owned()));
    texts.map(|text| serde_json::from_str(&text).unwrap()).collect()
}

/// The same, for a test that fails.
fn told_of_all(sandbox: &Sandbox) -> String {
    records(sandbox).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The inventory and what the objects say, without what only tells what was: ledger, parked plan, and what is told of targets and
/// identities.
fn told(facts: &Facts, sandbox: &Sandbox) -> Value {
    let mut all = inventory(sandbox);
    for (kind, objects) in contents(sandbox) {
        all[kind] = objects.into();
    }
    let wanted = facts.wanted();
    let past = ["ledger", "parked-plan", "status-target", "status-identity"];
    if let Some(objects) = all["objects"].as_array_mut() {
        objects.retain(|line| {
            let line = line.as_str().unwrap_or_default();
            let Some(name) = line.strip_prefix("configmaps forerunner-nonprod/") else {
                return true;
            };
            // What is said of a runner that was withdrawn before it was made may stay said.
            let of_unit = name.strip_prefix("status-runner-");
            let unwanted = of_unit.is_some_and(|key| !wanted.contains(&format!("runner/{key}")));
            !unwanted && !past.iter().any(|past| name.starts_with(past))
        });
    }
    if facts.fleet.deletions.1 < 100 {
        all["queue"] = json!([]);
    }
    all
}

/// What there is where nothing ever went wrong: the same groups under the file as it is in the end.
pub(super) async fn undisturbed(facts: &Facts, sandbox: &Sandbox) -> Result<Value, Failure> {
    let gitlab = &sandbox.world.gitlab;
    sandbox.lose_hooks();
    for group in facts.groups.iter().filter(|group| !group.destroyed) {
        let parent = if group.inside { 42 } else { facts.outside };
        gitlab.number_groups_from(group.id);
        let id = gitlab.create_group(Some(parent), group.name);
        assert_eq!(id, group.id, "the same groups");
    }
    for _ in &facts.projects {
        gitlab.create_project(42, "tools");
    }
    for _ in 0..4 {
        assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
        let settled = sandbox.world.settle(SignedDuration::from_hours(3)).await;
        settled.map_err(|error| Failure::new("undisturbed", error.to_string()))?;
        if facts.wanted().iter().all(|unit| sandbox.is_ready(unit)) {
            return Ok(told(facts, sandbox));
        }
        sandbox.leap_to(&(sandbox.world.clock.now() + AT_ITS_PACE).to_string());
    }
    let wanted = facts.wanted();
    let unready = wanted.iter().find(|unit| !sandbox.is_ready(unit));
    let why = format!("undisturbed: {unready:?} {}", sandbox.status(unready.unwrap()));
    Err(Failure::new("undisturbed", why))
}
