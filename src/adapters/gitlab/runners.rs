//! Runner entities and their tokens (gitlab.md §3).

use super::{Call, Error, Gitlab, Pages, error, wire};
use crate::{
    adapters::http::Repeat,
    domain::{
        gitlab::{Entity, EntityChange, EntitySettings, Listed, Manager},
        ids::{RunnerId, TargetId},
    },
};
use http::{Method, StatusCode};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

/// What GitLab tells once about a new runner.
#[derive(Debug)]
pub struct NewRunner {
    pub id: RunnerId,
    /// Never shown again.
    pub token: SecretString,
    pub token_expires_at: Option<Timestamp>,
}

/// What GitLab tells once about a runner's new token; the old one is dead already.
#[derive(Debug)]
pub struct NewToken {
    pub token: SecretString,
    pub token_expires_at: Option<Timestamp>,
}

/// What GitLab says of a runner's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    Valid {
        id: RunnerId,
        token_expires_at: Option<Timestamp>,
    },
    /// Unknown, reset or expired, or of a runner that is nobody's any more.
    Refused,
}

impl Gitlab {
    /// The complete list of runner entities as seen from a target: for a group also those of its ancestors. Rows show a
    /// description and a type, never an owner.
    ///
    /// Errors: [`Error::NotFound`] when the target is gone or hidden; [`Error::Forbidden`] for the instance's without an
    /// administrator's or auditor's token. A page that fails fails the whole.
    pub async fn runners_of(&self, target: TargetId) -> Result<Vec<Listed>, Error> {
        let path = match target {
            TargetId::Instance => "/runners/all".to_owned(),
            TargetId::Group(id) => format!("/groups/{id}/runners"),
            TargetId::Project(id) => format!("/projects/{id}/runners"),
        };
        let kind = wire::runner_type(target);
        let call = Call::get(path, format!("the runners of {}", describe(target)))
            .query(&format!("type={kind}&per_page=100"));
        Pages::new::<wire::Listed>(self, call).all().await
    }

    /// `GET /runners/:id` → 200, or 404 as `None`. Never shows a token.
    pub async fn entity(&self, id: RunnerId) -> Result<Option<Entity>, Error> {
        let call = Call::get(format!("/runners/{id}"), format!("runner {id}"));
        Ok(self.find::<wire::Details>(&call).await?.map(Into::into))
    }

    /// Every process that ever polled with the runner's tokens, one a system id.
    pub async fn managers(&self, id: RunnerId) -> Result<Vec<Manager>, Error> {
        let call =
            Call::get(format!("/runners/{id}/managers"), format!("the managers of runner {id}"));
        // Not paged (gitlab.md §3.7); a page's `Link` would be followed all the same.
        Pages::new::<wire::Manager>(self, call).all().await
    }

    /// Makes a runner entity; `POST /user/runners` → 201 with its id and token.
    ///
    /// The token is in this answer and never shown again. Not idempotent: two calls make two runners, so call it only
    /// when no entity of the target carries the marker, and look for the marker after any failure.
    ///
    /// Errors: [`Error::NotFound`] without the target; [`Error::Forbidden`] without the right, for an archived target or
    /// where registration is switched off; [`Error::InsufficientScope`] without `create_runner`.
    pub async fn create_runner(
        &self,
        target: TargetId,
        settings: &EntitySettings,
    ) -> Result<NewRunner, Error> {
        let what = format!("a new runner of {}", describe(target));
        // A new entity has no note to take away.
        let maintenance_note = settings.maintenance_note.clone();
        let change = EntityChange { maintenance_note, ..EntityChange::from(settings) };
        let mut body = wire::change(&change);
        body["runner_type"] = json!(wire::runner_type(target));
        match target {
            TargetId::Instance => {}
            TargetId::Group(id) => body["group_id"] = json!(id),
            TargetId::Project(id) => body["project_id"] = json!(id),
        }
        let call = Call::write(Method::POST, "/user/runners", Repeat::Never, what).body(body);
        let created: wire::Created = self.ask(&call).await?;
        Ok(NewRunner {
            id: created.id,
            token: SecretString::from(created.token),
            token_expires_at: created.token_expires_at,
        })
    }

    /// Changes settings; `PUT /runners/:id` → 200 with the runner. Safe to repeat. Type and owner cannot be changed.
    ///
    /// Errors: [`Error::Unreadable`] for any other answer of success, such as a gateway's own page: nothing is known then.
    pub async fn update_runner(&self, id: RunnerId, change: &EntityChange) -> Result<(), Error> {
        let call = Call::write(
            Method::PUT,
            format!("/runners/{id}"),
            Repeat::Safe,
            format!("runner {id}"),
        );
        let call = call.body(wire::change(change));
        let response = self.send(&call).await?;
        error::expect(&call, &response, StatusCode::OK)?;
        let changed: wire::Changed = error::read(&call.what, &response)?;
        if changed.id == id {
            Ok(())
        } else {
            Err(Error::unreadable(&call.what, format!("it is about runner {}", changed.id)))
        }
    }

    /// `DELETE /runners/:id` → 204, and 404 is as good. Jobs that run keep running.
    ///
    /// Errors: [`Error::Unreadable`] for any other answer of success: it does not say that the runner is gone.
    pub async fn delete_runner(&self, id: RunnerId) -> Result<(), Error> {
        let call = Call::write(
            Method::DELETE,
            format!("/runners/{id}"),
            Repeat::Safe,
            format!("runner {id}"),
        );
        match self.send(&call).await {
            Ok(response) => error::expect(&call, &response, StatusCode::NO_CONTENT),
            Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the token; `POST /runners/:id/reset_authentication_token` → 201. The old one is dead at once, without
    /// overlap. Twice gives two tokens, of which the last lives, so an unheard answer may be asked for again.
    pub async fn reset_token(&self, id: RunnerId) -> Result<NewToken, Error> {
        let path = format!("/runners/{id}/reset_authentication_token");
        let what = format!("a new token of runner {id}");
        let call = Call::write(Method::POST, path, Repeat::Never, what);
        let reset: wire::Reset = self.ask(&call).await?;
        Ok(NewToken {
            token: SecretString::from(reset.token),
            token_expires_at: reset.token_expires_at,
        })
    }

    /// Whether GitLab knows a runner's token; `POST /runners/verify` → 200, 403 or (an orphan's) 422, as the runner itself.
    ///
    /// Counts as a contact of `system_id`: never use the manager's, that would fake *online*.
    pub async fn verify(&self, token: &SecretString, system_id: &str) -> Result<Verified, Error> {
        let what = "a runner's token";
        let call = Call::write(Method::POST, "/runners/verify", Repeat::Safe, what)
            .body(json!({"token": token.expose_secret(), "system_id": system_id}));
        let response = self.send_as(&call, None).await?;
        match response.status {
            // A GitLab that takes no writes says 403 as well, and knows nothing of the token.
            StatusCode::FORBIDDEN if !error::is_maintenance(&response) => {
                return Ok(Verified::Refused);
            }
            StatusCode::UNPROCESSABLE_ENTITY => return Ok(Verified::Refused),
            _ => {}
        }
        let verified: wire::Verified = error::read(what, &self.check(&call, response)?)?;
        Ok(Verified::Valid { id: verified.id, token_expires_at: verified.token_expires_at })
    }
}

fn describe(target: TargetId) -> String {
    match target {
        TargetId::Instance => "the instance".to_owned(),
        TargetId::Group(id) => format!("group {id}"),
        TargetId::Project(id) => format!("project {id}"),
    }
}
