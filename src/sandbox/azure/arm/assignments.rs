//! Role assignments at any scope (azure.md §5).

use super::work::Work;
use crate::sandbox::azure::{
    answer::{Answer, Answered},
    authorization,
    condition::{Attributes, Condition, Judged},
    scope,
    state::{Assignment, AssignmentRecord},
};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use uuid::Uuid;

const TYPE: &str = "Microsoft.Authorization/roleAssignments";
/// How many of 100 writes pass that name a principal which the directory does not know yet, but say its type.
const ACCEPTED_EARLY_PERCENT: u8 = 90;

pub(super) fn answer(work: &mut Work<'_>, at: &str, tail: &[&str]) -> Answered {
    let at = if at.is_empty() { "/" } else { at };
    check_scope(work, at)?;
    let method = work.call.method.clone();
    match (method.as_str(), tail) {
        ("GET", []) => list(work, at),
        ("GET", [name]) => read(work, at, name),
        ("PUT", [name]) => write(work, at, name),
        ("DELETE", [name]) => delete(work, at, name),
        _ => Err(work.method_not_allowed()),
    }
}

fn check_scope(work: &Work<'_>, at: &str) -> Result<(), Answer> {
    if let Some(subscription) = scope::segment(at, "subscriptions")
        && !work.state.subscriptions.contains_key(&subscription.to_ascii_lowercase())
    {
        let message = format!("The subscription '{subscription}' could not be found.");
        return Err(Answer::refusal(404, "SubscriptionNotFound", message));
    }
    Ok(())
}

fn list(work: &Work<'_>, at: &str) -> Answered {
    work.require(&format!("{TYPE}/read"), at)?;
    work.require_group(at)?;
    let filter = work.call.query("$filter").unwrap_or_default().trim();
    let principal = filter.strip_prefix("principalId eq ").map(|id| id.trim().trim_matches('\''));
    let principal = principal.and_then(|id| Uuid::parse_str(id).ok());
    let at_scope = filter.eq_ignore_ascii_case("atScope()");
    if !filter.is_empty() && !at_scope && principal.is_none() {
        let message = format!("The filter '{filter}' is not supported.");
        return Err(Answer::refusal(400, "UnsupportedQuery", message));
    }
    let shown = work.state.assignments.values().filter(|record| {
        let own = &record.assignment;
        let above = || scope::contains(&own.scope, at);
        let below = || !at_scope && scope::contains(at, &own.scope);
        principal.is_none_or(|id| id == own.principal_id) && (above() || below())
    });
    Ok(work.page(shown.map(body).collect(), "$skipToken"))
}

fn read(work: &Work<'_>, at: &str, name: &str) -> Answered {
    work.require(&format!("{TYPE}/read"), at)?;
    let found = find(work, at, name).map(|record| Answer::json(200, body(record)));
    found.ok_or_else(|| {
        let message = format!("The role assignment '{name}' is not found.");
        Answer::refusal(404, "RoleAssignmentNotFound", message)
    })
}

fn find<'work>(work: &'work Work<'_>, at: &str, name: &str) -> Option<&'work AssignmentRecord> {
    let record = work.state.assignments.get(&Uuid::parse_str(name).ok()?)?;
    (scope::lower(&record.assignment.scope) == scope::lower(at)).then_some(record)
}

/// What a caller asks for.
struct Asked {
    role: Uuid,
    role_definition_id: String,
    principal: Uuid,
    principal_type: Option<String>,
    description: Option<String>,
    condition: Option<String>,
}

fn write(work: &mut Work<'_>, at: &str, name: &str) -> Answered {
    let Ok(name) = Uuid::parse_str(name) else {
        let message = format!(
            "The role assignment ID '{name}' is not valid. The role assignment ID must be a GUID."
        );
        return Err(Answer::refusal(400, "InvalidRoleAssignmentId", message));
    };
    let asked = read_body(&work.call.json())?;
    let judged = Judged {
        request: Some(Attributes {
            role: Some(asked.role),
            principal_type: asked.principal_type.clone(),
            principal: Some(asked.principal),
        }),
        resource: None,
    };
    let action = format!("{TYPE}/write");
    authorization::require_with(work.state, work.caller, &action, at, &judged)?;
    work.require_group(at)?;
    if work.state.role(asked.role).is_none() {
        let message = format!(
            "The specified role definition with ID '{}' does not exist.",
            asked.role.simple()
        );
        return Err(Answer::refusal(404, "RoleDefinitionDoesNotExist", message));
    }
    let parsed = asked.condition.as_deref().map(Condition::parse);
    if matches!(parsed, Some(None)) {
        let message = "The condition of the role assignment could not be parsed.";
        return Err(Answer::refusal(400, "InvalidCondition", message));
    }
    if let Some(present) = work.state.assignments.get(&name) {
        let own = &present.assignment;
        let same = own.principal_id == asked.principal
            && own.role == asked.role
            && scope::lower(&own.scope) == scope::lower(at);
        if !same {
            let message =
                "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.";
            return Err(Answer::refusal(400, "RoleAssignmentUpdateNotPermitted", message));
        }
        return Ok(update(work, name, asked, parsed));
    }
    let mut others = work.state.assignments.values().map(|record| &record.assignment);
    let other = others.find(|other| {
        other.principal_id == asked.principal
            && other.role == asked.role
            && scope::lower(&other.scope) == scope::lower(at)
    });
    if let Some(other) = other {
        let message = format!(
            "The role assignment already exists. The ID of the existing role assignment is {}.",
            other.name.simple()
        );
        return Err(Answer::refusal(409, "RoleAssignmentExists", message));
    }
    let kind = known_principal(work, &asked)?;
    check_limit(work, at)?;
    let assignment = Assignment {
        name,
        scope: at.to_owned(),
        role: asked.role,
        principal_id: asked.principal,
        principal_type: kind,
        description: asked.description,
        condition: asked.condition,
    };
    let record = AssignmentRecord {
        assignment,
        role_definition_id: shown_role(work.state.chance(50), asked.role_definition_id),
        parsed,
        created_at: work.now,
        updated_at: work.now,
        created_by: work.caller.principal_id,
        updated_by: work.caller.principal_id,
    };
    let shown = body(&record);
    work.state.assignments.insert(name, record);
    work.state.show_assignment(work.settings, work.now, name);
    Ok(Answer::json(201, shown))
}

/// Answers name the role with or without the subscription (azure.md §0).
fn shown_role(short: bool, id: String) -> String {
    if !short {
        return id;
    }
    let own = scope::name(&id);
    format!("/providers/Microsoft.Authorization/roleDefinitions/{own}")
}

fn read_body(body: &Value) -> Result<Asked, Answer> {
    let properties = &body["properties"];
    let text = |name: &str| properties[name].as_str().map(str::to_owned);
    let role_definition_id = text("roleDefinitionId").unwrap_or_default();
    let principal = text("principalId").and_then(|id| Uuid::parse_str(&id).ok());
    let (Some(role), Some(principal)) = (scope::last_guid(&role_definition_id), principal) else {
        let message = "The request needs properties.roleDefinitionId and properties.principalId.";
        return Err(Answer::refusal(400, "InvalidCreateRoleAssignmentRequest", message));
    };
    let condition = text("condition");
    if condition.is_some() && text("conditionVersion").as_deref() != Some("2.0") {
        let message = "A condition needs conditionVersion 2.0.";
        return Err(Answer::refusal(400, "InvalidConditionVersion", message));
    }
    Ok(Asked {
        role,
        role_definition_id,
        principal,
        principal_type: text("principalType"),
        description: text("description"),
        condition,
    })
}

/// Only description and condition may change.
fn update(
    work: &mut Work<'_>,
    name: Uuid,
    asked: Asked,
    parsed: Option<Option<Condition>>,
) -> Answer {
    let (now, by) = (work.now, work.caller.principal_id);
    let record = work.state.assignments.get_mut(&name);
    let shown = record.map(|record| {
        record.assignment.description = asked.description;
        record.assignment.condition = asked.condition;
        record.parsed = parsed;
        (record.updated_at, record.updated_by) = (now, by);
        body(record)
    });
    work.state.show_assignment(work.settings, now, name);
    Answer::json(work.settings.repeated_assignment_status, shown.unwrap_or_default())
}

/// The principal's type, if the directory knows it or takes the caller's word for it (azure.md §5.2).
fn known_principal(work: &mut Work<'_>, asked: &Asked) -> Result<String, Answer> {
    let id = asked.principal;
    let known = work.state.principals.get(&id).map(|known| (known.kind, known.visible_at));
    let not_found = |tenant: Uuid| {
        let message = format!(
            "Principal {} does not exist in the directory {tenant}. Check that you have the correct principal ID. If you are creating this principal and then immediately assigning a role, this error might be related to a replication delay. In this case, set the role assignment principalType property to a value, such as ServicePrincipal, User, or Group.  See https://aka.ms/docs-principaltype",
            id.simple()
        );
        Answer::refusal(400, "PrincipalNotFound", message)
    };
    let tenant = work.state.tenant;
    let Some((kind, visible_at)) = known else { return Err(not_found(tenant)) };
    let visible = visible_at <= work.now;
    match &asked.principal_type {
        Some(said) if !said.eq_ignore_ascii_case(kind) => {
            let message = format!(
                "The principal '{id}' has type '{kind}', which is different from the specified principal type '{said}'."
            );
            Err(Answer::refusal(400, "UnmatchedPrincipalType", message))
        }
        Some(_) if visible || work.state.chance(ACCEPTED_EARLY_PERCENT) => Ok(kind.to_owned()),
        None if visible => Ok(kind.to_owned()),
        Some(_) | None => Err(not_found(tenant)),
    }
}

fn check_limit(work: &Work<'_>, at: &str) -> Result<(), Answer> {
    let Some(subscription) = scope::segment(at, "subscriptions") else { return Ok(()) };
    let all = work.state.assignments.values();
    let here = all.filter(|record| {
        scope::segment(&record.assignment.scope, "subscriptions")
            .is_some_and(|other| other.eq_ignore_ascii_case(subscription))
    });
    let most = work.settings.assignments_max;
    if here.count() < most {
        return Ok(());
    }
    let message = format!("No more role assignments can be created (limit: {most}).");
    Err(Answer::refusal(400, "RoleAssignmentLimitExceeded", message))
}

fn delete(work: &mut Work<'_>, at: &str, name: &str) -> Answered {
    let found = find(work, at, name).cloned();
    let resource = found.as_ref().map(|record| Attributes {
        role: Some(record.assignment.role),
        principal_type: Some(record.assignment.principal_type.clone()),
        principal: Some(record.assignment.principal_id),
    });
    let action = format!("{TYPE}/delete");
    match resource {
        Some(resource) => {
            let judged = Judged { request: None, resource: Some(resource) };
            authorization::require_with(work.state, work.caller, &action, at, &judged)?;
        }
        None if authorization::may_in_principle(work.state, work.caller, &action, at) => {}
        None => work.require(&action, at)?,
    }
    let Some(record) = found else { return Ok(Answer::empty(204)) };
    work.state.assignments.remove(&record.assignment.name);
    work.state.show_assignment(work.settings, work.now, record.assignment.name);
    Ok(Answer::json(200, body(&record)))
}

pub(in crate::sandbox::azure) fn body(record: &AssignmentRecord) -> Value {
    let own = &record.assignment;
    let scope = own.scope.trim_end_matches('/');
    json!({
        "id": format!("{scope}/providers/{TYPE}/{}", own.name),
        "name": own.name,
        "type": TYPE,
        "properties": {
            "roleDefinitionId": record.role_definition_id,
            "principalId": own.principal_id,
            "principalType": own.principal_type,
            "scope": own.scope,
            "condition": own.condition,
            "conditionVersion": own.condition.as_ref().map(|_| "2.0"),
            "createdOn": ticks(record.created_at),
            "updatedOn": ticks(record.updated_at),
            "createdBy": record.created_by,
            "updatedBy": record.updated_by,
            "delegatedManagedIdentityResourceId": null,
            "description": own.description,
        },
    })
}

/// Seven digits after the second.
fn ticks(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S.%7fZ").to_string()
}

/// What an administrator makes, past every check.
pub(in crate::sandbox::azure) fn made_by_administrator(
    assignment: Assignment,
    now: Timestamp,
) -> AssignmentRecord {
    let parsed = assignment.condition.as_deref().map(Condition::parse);
    AssignmentRecord {
        role_definition_id: format!(
            "/providers/Microsoft.Authorization/roleDefinitions/{}",
            assignment.role
        ),
        parsed,
        assignment,
        created_at: now,
        updated_at: now,
        created_by: Uuid::nil(),
        updated_by: Uuid::nil(),
    }
}
