//! Says whether rounds can run. 200 either way: a platform that restarts what answers otherwise would lose the hooks
//! that a bad fleet file must not lose.

use super::{answer::Reply, app::App};
use serde_json::json;

pub(super) fn reply(app: &App) -> Reply {
    Reply::ok(json!(app.work.health()))
}
