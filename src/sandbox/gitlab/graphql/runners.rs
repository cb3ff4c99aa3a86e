//! Connections of runners, and what can be asked of each.

use super::{Answer, Context, parse::Field, unknown};
use crate::sandbox::gitlab::{
    runner_api::access_level,
    runners::{Manager, Owner, Runner},
    state::{digest, seconds},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

const PAGE_MAX: usize = 100;
const ARGUMENTS: [&str; 11] = [
    "type",
    "status",
    "paused",
    "tagList",
    "search",
    "creatorId",
    "versionPrefix",
    "sort",
    "ownerFullPath",
    "first",
    "after",
];

/// Which runners, and how many of them.
pub(super) struct Wanted {
    kind: Option<String>,
    status: Option<String>,
    paused: Option<bool>,
    tags: Vec<String>,
    /// In lower case, and the digest of the text as it was given.
    search: Option<(String, String)>,
    creator: Option<String>,
    version_prefix: Option<String>,
    /// The group or project of a full path; a path of nothing fits no runner.
    owner: Option<Owner>,
    ascending: bool,
    first: usize,
    after: Option<u64>,
}

impl Wanted {
    pub(super) fn read(
        context: &Context<'_>,
        field: &Field,
        more: &[&str],
    ) -> Result<Self, String> {
        let known: Vec<&str> = ARGUMENTS.iter().chain(more).copied().collect();
        context.check_arguments(field, &known)?;
        let enumerated = |name: &str, words: &[&str]| match context.text(field, name) {
            Some(word) if !words.contains(&word.as_str()) => {
                Err(format!("Argument '{name}' has an invalid value ({word})"))
            }
            word => Ok(word.map(|word| word.to_lowercase())),
        };
        let after = match context.text(field, "after").filter(|cursor| !cursor.is_empty()) {
            None => None,
            Some(cursor) => Some(id_in(&cursor).ok_or("Please provide a valid cursor")?),
        };
        let first = context.argument(field, "first").and_then(|first| first.as_u64());
        let tags = context.argument(field, "tagList").and_then(|tags| {
            let tags = tags.as_array()?.iter();
            Some(tags.filter_map(|tag| tag.as_str().map(ToOwned::to_owned)).collect())
        });
        Ok(Self {
            kind: enumerated("type", &["INSTANCE_TYPE", "GROUP_TYPE", "PROJECT_TYPE"])?,
            status: enumerated("status", &["ONLINE", "OFFLINE", "STALE", "NEVER_CONTACTED"])?,
            paused: context.argument(field, "paused").and_then(|paused| paused.as_bool()),
            tags: tags.unwrap_or_default(),
            search: context.text(field, "search").map(|text| (text.to_lowercase(), digest(&text))),
            creator: context.text(field, "creatorId"),
            version_prefix: context.text(field, "versionPrefix"),
            owner: context.text(field, "ownerFullPath").map(|path| context.owner_at(&path)),
            ascending: enumerated("sort", &["CREATED_ASC", "CREATED_DESC"])?.as_deref()
                == Some("created_asc"),
            first: first
                .and_then(|first| usize::try_from(first).ok())
                .map_or(PAGE_MAX, |first| first.min(PAGE_MAX)),
            after,
        })
    }

    /// Whether it is not the first page.
    pub(super) fn goes_on(&self) -> bool {
        self.after.is_some()
    }

    fn fits(&self, context: &Context<'_>, runner: &Runner) -> bool {
        let status = runner.stored_status(context.state.now).word();
        let mut versions =
            runner.managers.iter().filter_map(|manager| manager.info.version.as_ref());
        self.kind.as_ref().is_none_or(|kind| runner.kind.word() == kind)
            && self.status.as_ref().is_none_or(|wanted| status == wanted)
            && self.paused.is_none_or(|paused| runner.paused == paused)
            && self.tags.iter().all(|tag| runner.tags.contains(tag))
            && self
                .search
                .as_ref()
                .is_none_or(|(text, digest)| matches_search(runner, text, digest))
            && self.creator.as_ref().is_none_or(|wanted| {
                let creator = runner.creator.map(user_id);
                creator.as_ref() == Some(wanted)
            })
            && self
                .version_prefix
                .as_ref()
                .is_none_or(|prefix| versions.any(|version| version.starts_with(prefix)))
            && self.owner.is_none_or(|owner| owner != Owner::Nobody && runner.owner == owner)
    }
}

/// A part of the description in any case, or the whole token.
fn matches_search(runner: &Runner, text: &str, digest: &str) -> bool {
    runner.digest == digest || runner.description.to_lowercase().contains(text)
}

fn user_id(id: u64) -> String {
    format!("gid://gitlab/User/{id}")
}

impl Context<'_> {
    fn owner_at(&self, path: &str) -> Owner {
        let group = self.state.find_group(path).map(|group| Owner::Group(group.id));
        let project = || self.state.find_project(path).map(|project| Owner::Project(project.id));
        group.or_else(project).unwrap_or(Owner::Nobody)
    }

    /// One page, newest first unless asked otherwise.
    pub(super) fn connection(
        &self,
        field: &Field,
        wanted: &Wanted,
        belongs: impl Fn(&Runner) -> bool,
    ) -> Answer {
        let runners = self.state.runners.values();
        let mut rows: Vec<&Runner> =
            runners.filter(|runner| belongs(runner) && wanted.fits(self, runner)).collect();
        let count = rows.len();
        if !wanted.ascending {
            rows.reverse();
        }
        let beyond = |runner: &&Runner| match wanted.after {
            None => true,
            Some(after) if wanted.ascending => runner.id > after,
            Some(after) => runner.id < after,
        };
        rows.retain(beyond);
        let more = rows.len() > wanted.first;
        rows.truncate(wanted.first);
        self.select(&field.selection, "CiRunnerConnection", |field| match field.name.as_str() {
            "count" => Ok(json!(count)),
            "pageInfo" => {
                let (first, last) = (rows.first(), rows.last());
                self.select(&field.selection, "PageInfo", |field| match field.name.as_str() {
                    "hasNextPage" => Ok(json!(more)),
                    "hasPreviousPage" => Ok(json!(wanted.after.is_some())),
                    "startCursor" => Ok(json!(first.map(|runner| cursor(runner.id)))),
                    "endCursor" => Ok(json!(last.map(|runner| cursor(runner.id)))),
                    other => Err(unknown(other, "PageInfo")),
                })
            }
            "nodes" => rows.iter().map(|runner| self.runner(field, runner)).collect(),
            other => Err(unknown(other, "CiRunnerConnection")),
        })
    }

    fn runner(&self, field: &Field, runner: &Runner) -> Answer {
        let state = self.state;
        let upper = |word: &str| json!(word.to_uppercase());
        self.select(&field.selection, "CiRunner", |field| match field.name.as_str() {
            "id" => Ok(json!(format!("gid://gitlab/Ci::Runner/{}", runner.id))),
            "description" => Ok(json!(runner.description)),
            "runnerType" => Ok(upper(runner.kind.word())),
            "status" => Ok(upper(runner.status(state.now).word())),
            "paused" => Ok(json!(runner.paused)),
            "contactedAt" => Ok(json!(runner.contacted_at.map(seconds))),
            "createdAt" => Ok(json!(seconds(runner.created_at))),
            "tokenExpiresAt" => Ok(json!(runner.token_expires_at.map(seconds))),
            "tagList" => Ok(json!(runner.tags)),
            "runUntagged" => Ok(json!(runner.run_untagged)),
            "locked" => Ok(json!(runner.locked)),
            "accessLevel" => Ok(upper(access_level(runner))),
            "maximumTimeout" => Ok(json!(runner.maximum_timeout)),
            "maintenanceNote" => {
                let note = Some(&runner.maintenance_note).filter(|note| !note.is_empty());
                Ok(json!(note))
            }
            "jobExecutionStatus" => {
                Ok(json!(if state.is_busy(runner.id) { "ACTIVE" } else { "IDLE" }))
            }
            "groups" => {
                let owner = match runner.owner {
                    Owner::Group(id) => state.groups.get(&id),
                    Owner::Instance | Owner::Project(_) | Owner::Nobody => None,
                };
                let owner = owner.filter(|group| state.sees_group(self.caller, group));
                let owner: Vec<u64> = owner.iter().map(|group| group.id).collect();
                self.nodes(field, "GroupConnection", &owner, |field, id| self.owner(field, *id))
            }
            "projects" => {
                let all = runner.projects.iter().filter_map(|id| state.projects.get(id));
                let seen = all.filter(|project| state.sees_project(self.caller, project));
                let ids: Vec<u64> = seen.map(|project| project.id).collect();
                self.nodes(field, "ProjectConnection", &ids, |field, id| self.project(field, *id))
            }
            "managers" => {
                let all = &runner.managers;
                self.nodes(field, "CiRunnerManagerConnection", all, |field, manager| {
                    self.manager(field, manager)
                })
            }
            other => Err(unknown(other, "CiRunner")),
        })
    }

    /// A connection of which only `nodes` and `count` are asked.
    fn nodes<T>(
        &self,
        field: &Field,
        kind: &str,
        items: &[T],
        show: impl Fn(&Field, &T) -> Answer,
    ) -> Answer {
        self.select(&field.selection, kind, |field| match field.name.as_str() {
            "count" => Ok(json!(items.len())),
            "nodes" => items.iter().map(|item| show(field, item)).collect(),
            other => Err(unknown(other, kind)),
        })
    }

    fn owner(&self, field: &Field, id: u64) -> Answer {
        let Some(group) = self.state.groups.get(&id) else { return Ok(Value::Null) };
        self.select(&field.selection, "Group", |field| match field.name.as_str() {
            "id" => Ok(json!(format!("gid://gitlab/Group/{id}"))),
            "name" => Ok(json!(group.name)),
            "path" => Ok(json!(group.path)),
            "fullPath" => Ok(json!(self.state.namespace_path(id))),
            other => Err(unknown(other, "Group")),
        })
    }

    fn project(&self, field: &Field, id: u64) -> Answer {
        let Some(project) = self.state.projects.get(&id) else { return Ok(Value::Null) };
        self.select(&field.selection, "Project", |field| match field.name.as_str() {
            "id" => Ok(json!(format!("gid://gitlab/Project/{id}"))),
            "name" => Ok(json!(project.name)),
            "path" => Ok(json!(project.path)),
            "fullPath" => Ok(json!(self.state.project_path(project))),
            other => Err(unknown(other, "Project")),
        })
    }

    fn manager(&self, field: &Field, manager: &Manager) -> Answer {
        self.select(&field.selection, "CiRunnerManager", |field| match field.name.as_str() {
            "id" => Ok(json!(format!("gid://gitlab/Ci::RunnerManager/{}", manager.id))),
            "systemId" => Ok(json!(manager.system_id)),
            "version" => Ok(json!(manager.info.version)),
            "contactedAt" => Ok(json!(seconds(manager.contacted_at))),
            "createdAt" => Ok(json!(seconds(manager.created_at))),
            other => Err(unknown(other, "CiRunnerManager")),
        })
    }
}

/// Opaque to whoever gets it: the id of the last row.
fn cursor(id: u64) -> String {
    URL_SAFE_NO_PAD.encode(json!({ "id": id.to_string() }).to_string())
}

fn id_in(cursor: &str) -> Option<u64> {
    let decoded = URL_SAFE_NO_PAD.decode(cursor.trim_end_matches('=')).ok()?;
    let value: Value = serde_json::from_slice(&decoded).ok()?;
    value["id"].as_str()?.parse().ok()
}
