//! What Resource Graph has indexed: every change arrives after a lag, in the order in which it was made.

use crate::sandbox::azure::{Settings, arm, state::State};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use uuid::Uuid;

#[derive(Debug, Default)]
pub(in crate::sandbox::azure) struct Index {
    rows: BTreeMap<(Table, String), Value>,
    coming: VecDeque<Change>,
    /// Queries of the present five seconds, for the quota's headers.
    window: Option<(i64, u32)>,
}

#[derive(Debug)]
struct Change {
    at: Timestamp,
    table: Table,
    key: String,
    /// Missing where the thing is gone.
    row: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sandbox::azure) enum Table {
    Resources,
    Authorization,
}

/// Queries in five seconds (azure.md §10.4).
pub(super) const QUOTA: u32 = 15;
pub(super) const QUOTA_WINDOW_SECONDS: i64 = 5;

impl Index {
    /// All rows of `table` as indexed at `now`.
    pub(super) fn rows(&mut self, table: Table, now: Timestamp) -> Vec<Value> {
        while let Some(change) = self.coming.pop_front_if(|change| change.at <= now) {
            let key = (change.table, change.key);
            match change.row {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
        let all = self.rows.iter().filter(|((of, _), _)| *of == table);
        all.map(|(_, row)| row.clone()).collect()
    }

    /// Counts a query; answers how many are left and in how many seconds there are more.
    pub(super) fn count(&mut self, now: Timestamp) -> (Option<u32>, i64) {
        let window = now.as_second().div_euclid(QUOTA_WINDOW_SECONDS);
        let used = self.window.filter(|(of, _)| *of == window).map_or(0, |(_, used)| used) + 1;
        self.window = Some((window, used));
        let resets = QUOTA_WINDOW_SECONDS - now.as_second().rem_euclid(QUOTA_WINDOW_SECONDS);
        (QUOTA.checked_sub(used), resets)
    }

    fn change(&mut self, at: Timestamp, table: Table, key: String, row: Option<Value>) {
        let at = self.coming.back().map_or(at, |last| last.at.max(at));
        self.coming.push_back(Change { at, table, key, row });
    }
}

impl State {
    /// Puts the present state of an identity on its way into the graph.
    pub(in crate::sandbox::azure) fn show_identity(
        &mut self,
        settings: &Settings,
        now: Timestamp,
        id: &str,
    ) {
        let body = self.identity(id).map(|record| arm::identities::body(self, record));
        self.show(settings, now, Table::Resources, id, body.map(resource_row));
    }

    pub(in crate::sandbox::azure) fn show_resource(
        &mut self,
        settings: &Settings,
        now: Timestamp,
        id: &str,
    ) {
        let body = self.resources.get(&id.to_ascii_lowercase()).map(|found| found.body.clone());
        self.show(settings, now, Table::Resources, id, body.map(resource_row));
    }

    pub(in crate::sandbox::azure) fn show_assignment(
        &mut self,
        settings: &Settings,
        now: Timestamp,
        name: Uuid,
    ) {
        let row = self.assignments.get(&name).map(|record| {
            let mut row = arm::assignments::body(record);
            row["type"] = json!("microsoft.authorization/roleassignments");
            row["subscriptionId"] = segment(&record.assignment.scope, "subscriptions");
            row["resourceGroup"] = segment(&record.assignment.scope, "resourceGroups");
            row
        });
        self.show(settings, now, Table::Authorization, &name.to_string(), row);
    }

    fn show(
        &mut self,
        settings: &Settings,
        now: Timestamp,
        table: Table,
        key: &str,
        row: Option<Value>,
    ) {
        let at = self.after(now, settings.lags.graph);
        self.graph.change(at, table, key.to_ascii_lowercase(), row);
    }
}

fn segment(id: &str, key: &str) -> Value {
    let found = crate::sandbox::azure::scope::segment(id, key).unwrap_or_default();
    json!(found.to_ascii_lowercase())
}

/// A row of `resources`: the type in lower case, and where it is in columns of its own.
fn resource_row(mut body: Value) -> Value {
    let id = body["id"].as_str().unwrap_or_default().to_owned();
    let kind = body["type"].as_str().unwrap_or_default().to_ascii_lowercase();
    body["type"] = json!(kind);
    body["subscriptionId"] = segment(&id, "subscriptions");
    body["resourceGroup"] = segment(&id, "resourceGroups");
    body
}
