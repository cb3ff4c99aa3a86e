//! A group and the runners of its tree: what an owner reads who is no administrator.
//! Sources: `app/graphql/resolvers/ci/group_runners_resolver.rb`, `app/finders/ci/runners_finder.rb` and
//! `app/policies/ci/runner_policy.rb` of GitLab.

use super::{Answer, Context, DENIED, parse::Field, runners::Wanted, unknown};
use crate::sandbox::gitlab::{
    Gitlab,
    runners::{Owner, Runner},
    tree::Group,
};
use serde_json::{Value, json};

/// What GitLab answers whoever asks for a group's runners and is no administrator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupLists {
    /// To the group's owners, what they ask for.
    #[default]
    Shown,
    /// `ALL_AVAILABLE`, which GitLab calls experimental, is refused.
    OwnTreeOnly,
    /// Null, and why in `errors`.
    Refused,
    /// The same of every page but the first.
    FirstPageOnly,
    /// Lists without a row: no page of GitLab's says that a refusal never looks like this.
    Empty,
}

impl Gitlab {
    pub fn set_group_lists(&self, lists: GroupLists) {
        self.lock().group_lists = lists;
    }
}

impl Context<'_> {
    pub(super) fn group(&self, field: &Field) -> Answer {
        self.check_arguments(field, &["fullPath"])?;
        let path =
            self.text(field, "fullPath").ok_or("Field 'group' needs the argument fullPath")?;
        let found = self.state.find_group(&path);
        let Some(group) = found.filter(|group| self.state.sees_group(self.caller, group)) else {
            return Ok(Value::Null);
        };
        let root = field.key();
        self.select(&field.selection, "Group", |field| match field.name.as_str() {
            "id" => Ok(json!(format!("gid://gitlab/Group/{}", group.id))),
            "name" => Ok(json!(group.name)),
            "path" => Ok(json!(group.path)),
            "fullPath" => Ok(json!(self.state.namespace_path(group.id))),
            "runners" => self.group_runners(field, group, root),
            other => Err(unknown(other, "Group")),
        })
    }

    /// Of the group and what lies below it, unless `membership` says otherwise. Every membership is refused to who may not read
    /// the group's runners; a row is shown to who may read that runner.
    fn group_runners(&self, field: &Field, group: &Group, root: &str) -> Answer {
        let wanted = Wanted::read(self, field, &["membership"])?;
        let membership = self.text(field, "membership").unwrap_or("DESCENDANTS".to_owned());
        let state = self.state;
        let lists = if self.caller.admin { GroupLists::Shown } else { state.group_lists };
        let refused = match lists {
            GroupLists::Shown | GroupLists::Empty => false,
            GroupLists::OwnTreeOnly => membership == "ALL_AVAILABLE",
            GroupLists::FirstPageOnly => wanted.goes_on(),
            GroupLists::Refused => true,
        };
        if refused || !state.owns_group(self.caller, group.id) {
            return Ok(self.null_for(DENIED, &[root, field.key()]));
        }
        let shown =
            |runner: &Runner| lists != GroupLists::Empty && state.lists_runner(self.caller, runner);
        let below = |runner: &Runner| match runner.owner {
            Owner::Group(owner) => owner == group.id || state.is_below(owner, group.id),
            Owner::Project(_) => runner.projects.iter().any(|id| {
                state.projects.get(id).is_some_and(|project| {
                    project.namespace == group.id || state.is_below(project.namespace, group.id)
                })
            }),
            Owner::Instance | Owner::Nobody => false,
        };
        match membership.as_str() {
            "DIRECT" => {
                let direct = |runner: &Runner| runner.owner == Owner::Group(group.id);
                self.connection(field, &wanted, |runner| direct(runner) && shown(runner))
            }
            "DESCENDANTS" => {
                self.connection(field, &wanted, |runner| below(runner) && shown(runner))
            }
            "ALL_AVAILABLE" => {
                let available = |runner: &Runner| match runner.owner {
                    Owner::Group(owner) => below(runner) || state.is_below(group.id, owner),
                    Owner::Instance => group.shared_runners_setting == "enabled",
                    Owner::Project(_) => below(runner),
                    Owner::Nobody => false,
                };
                self.connection(field, &wanted, |runner| available(runner) && shown(runner))
            }
            other => Err(format!("'{other}' is no value of CiRunnerMembershipFilter")),
        }
    }
}
