//! Woken by a timer: looks over the whole fleet. A failed sweep is not repeated; the next one does its work.

use super::{
    answer::Answer,
    app::App,
    envelope::{Envelope, Undecodable},
};
use tracing::info;

pub(super) const NAME: &str = "sweep";

pub(super) async fn answer(app: &App, envelope: Envelope) -> Result<Answer, Undecodable> {
    if envelope.timer()?.is_past_due {
        info!("this sweep is late: the app did not run when it was due");
    }
    Ok(Answer::of(&app.work.sweep().await))
}
