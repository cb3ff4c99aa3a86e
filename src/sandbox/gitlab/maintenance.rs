//! GitLab's maintenance mode: reads go on, and every call that would write is refused before anybody looks at it, a
//! runner's own calls included (<https://docs.gitlab.com/administration/maintenance_mode/>).

use super::{Gitlab, errors::Refusal};
use axum::{
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};

impl Gitlab {
    /// Switches maintenance mode on or off.
    pub fn set_maintenance(&self, on: bool) {
        self.lock().maintenance = on;
    }
}

impl Gitlab {
    /// How many runners a group may have (<https://docs.gitlab.com/administration/instance_limits/>); `None`: as many as
    /// it likes.
    pub fn limit_group_runners(&self, most: Option<usize>) {
        self.lock().group_runners_max = most;
    }
}

pub(super) async fn guard(State(gitlab): State<Gitlab>, call: Request, next: Next) -> Response {
    // Queries come by POST as well, and are reads.
    let reads = call.method().is_safe() || call.uri().path() == "/api/graphql";
    let refuses = gitlab.lock().maintenance && !reads;
    if refuses {
        let words = "You cannot perform write operations on a read-only instance";
        return Refusal::message(StatusCode::FORBIDDEN, words).into_response();
    }
    next.run(call).await
}
