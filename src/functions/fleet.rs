//! Shows the fleet as JSON. The host has checked the caller's `function` key.

use super::{answer::Reply, app::App};

pub(super) async fn reply(app: &App) -> Reply {
    Reply::ok(app.work.fleet().await)
}
