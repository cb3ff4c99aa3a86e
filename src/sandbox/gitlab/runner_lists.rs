//! Lists of runners (gitlab.md §3.2): whose they contain, and what they may be narrowed by.

use super::{
    call::{Access, Call, Caller},
    errors::Refusal,
    pagination,
    runner_status::{Status, rest_word},
    runners::{Owner, Runner, RunnerKind},
    state::{State, milliseconds},
    users,
};
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Value, json};

const STATUSES: [&str; 6] = ["online", "offline", "stale", "never_contacted", "active", "paused"];
const SCOPES: [&str; 5] = ["specific", "shared", "instance_type", "group_type", "project_type"];

/// `GET /runners/all`: every runner, for administrators.
pub(super) async fn all(call: Call) -> Result<Response, Refusal> {
    let (state, caller) = call.enter_as_admin(Access::Read)?;
    answer(&call, &state, &caller, |_| true)
}

/// `GET /runners`: what the caller owns or maintains as a member.
pub(super) async fn mine(call: Call) -> Result<Response, Refusal> {
    let (state, caller) = call.enter(Access::Read)?;
    let member = Caller { admin: false, ..caller };
    answer(&call, &state, &caller, |runner| {
        runner.owner != Owner::Instance && state.may_read_runner(&member, runner)
    })
}

/// `GET /groups/:id/runners`: of the group and its ancestors, and the instance's where they are allowed.
pub(super) async fn of_group(call: Call) -> Result<Response, Refusal> {
    let (state, caller) = call.enter(Access::Read)?;
    let group = state.own_group_for(&call, &caller)?;
    let chain: Vec<u64> = state.chain(group.id).iter().map(|group| group.id).collect();
    let shared = group.shared_runners_setting == "enabled";
    answer(&call, &state, &caller, |runner| match runner.owner {
        Owner::Instance => shared,
        Owner::Group(group) => chain.contains(&group),
        Owner::Project(_) | Owner::Nobody => false,
    })
}

/// `GET /projects/:id/runners`: its own, those of all groups above, and the instance's.
pub(super) async fn of_project(call: Call) -> Result<Response, Refusal> {
    let (state, caller) = call.enter(Access::Read)?;
    let project = state.project_for(&call, &caller)?;
    if !state.maintains_project(&caller, &project) {
        return Err(Refusal::forbidden());
    }
    let chain: Vec<u64> = state.chain(project.namespace).iter().map(|group| group.id).collect();
    answer(&call, &state, &caller, |runner| match runner.owner {
        Owner::Instance => project.shared_runners_enabled,
        Owner::Group(group) => project.group_runners_enabled && chain.contains(&group),
        Owner::Project(_) => runner.projects.contains(&project.id),
        Owner::Nobody => false,
    })
}

fn answer(
    call: &Call,
    state: &State,
    caller: &Caller,
    belongs: impl Fn(&Runner) -> bool,
) -> Result<Response, Refusal> {
    let parameters = &call.parameters;
    let kind = parameters.word("type", &RunnerKind::WORDS)?;
    let status = parameters.word("status", &STATUSES)?;
    let scope = parameters.word("scope", &SCOPES)?;
    let paused = parameters.flag("paused")?;
    let tags = parameters.list("tag_list").unwrap_or_default();
    let prefix = parameters.text("version_prefix");
    let rows: Vec<&Runner> = state
        .runners
        .values()
        .filter(|runner| belongs(runner))
        .filter(|runner| kind.as_ref().is_none_or(|kind| runner.kind.word() == kind))
        .filter(|runner| status.as_ref().is_none_or(|word| has_status(runner, word, state.now)))
        .filter(|runner| scope.as_ref().is_none_or(|scope| in_scope(runner, scope)))
        .filter(|runner| paused.is_none_or(|paused| runner.paused == paused))
        .filter(|runner| tags.iter().all(|tag| runner.tags.contains(tag)))
        .filter(|runner| prefix.as_ref().is_none_or(|prefix| has_version(runner, prefix)))
        .collect();
    pagination::page(call, &state.settings.external_url, &rows, |runner| {
        show(state, caller, runner)
    })
}

/// Filters go by what the database has; `offline` includes what is stale.
fn has_status(runner: &Runner, word: &str, now: Timestamp) -> bool {
    let status = runner.stored_status(now);
    match word {
        "active" => !runner.paused,
        "paused" => runner.paused,
        "offline" => {
            let gone = matches!(status, Status::Offline | Status::Stale);
            gone && runner.contacted_at_stored.is_some()
        }
        "never_contacted" => runner.contacted_at_stored.is_none(),
        other => status.word() == other,
    }
}

fn in_scope(runner: &Runner, scope: &str) -> bool {
    match scope {
        "specific" => runner.kind == RunnerKind::Project,
        "shared" => runner.kind == RunnerKind::Instance,
        other => runner.kind.word() == other,
    }
}

fn has_version(runner: &Runner, prefix: &str) -> bool {
    let mut versions = runner.managers.iter().filter_map(|manager| manager.info.version.as_ref());
    versions.any(|version| version.starts_with(prefix))
}

/// One runner as lists have it: no tags, no owner, no times of contact.
pub(super) fn show(state: &State, caller: &Caller, runner: &Runner) -> Value {
    let status = runner.status(state.now);
    let online = runner.contacted_at.map(|_| status == Status::Online);
    let mut body = json!({
        "id": runner.id,
        "description": Some(&runner.description).filter(|text| !text.is_empty()),
        "ip_address": null,
        "active": !runner.paused,
        "paused": runner.paused,
        "is_shared": runner.kind == RunnerKind::Instance,
        "runner_type": runner.kind.word(),
        "name": null,
        "online": online,
        "status": rest_word(status, runner.paused),
    });
    if state.settings.version.tells_work() {
        let busy = state.is_busy(runner.id);
        body["created_at"] = json!(milliseconds(runner.created_at));
        body["job_execution_status"] = json!(if busy { "active" } else { "idle" });
        let creator = runner.creator.and_then(|creator| state.users.get(&creator));
        if let Some(creator) = creator.filter(|creator| may_see(caller, creator)) {
            body["created_by"] = users::basic(state, creator);
        }
    }
    body
}

/// A blocked user is shown to administrators and to nobody else.
fn may_see(caller: &Caller, user: &users::User) -> bool {
    caller.admin || !user.blocked
}
