//! Woken by the queues of operators, `commands` and `approvals`, each with a send right of its own. What nobody can mean is
//! kept with its reason and never delivered again.

use super::{
    answer::Answer,
    app::App,
    envelope::{Delivery, Envelope, Undecodable},
    invocation::settle,
    round,
    work::Outcome,
};
use crate::domain::command::{Door, Order};

pub(super) const COMMAND: &str = "command";
pub(super) const APPROVAL: &str = "approval";

pub(super) async fn answer(
    app: &App,
    door: Door,
    envelope: Envelope,
) -> Result<Answer, Undecodable> {
    let mut outcomes = Vec::new();
    for delivery in envelope.deliveries()? {
        outcomes.push(deal(app, door, delivery).await);
    }
    Ok(settle(outcomes))
}

async fn deal(app: &App, door: Door, delivery: Delivery) -> Outcome {
    match Order::decode(&delivery.body, door, app.clock.now()) {
        Ok(order) => {
            round::tell_age(app, door.queue(), &delivery);
            app.work.command(order).await
        }
        Err(refused) => {
            let function = match door {
                Door::Commands => COMMAND,
                Door::Approvals => APPROVAL,
            };
            round::park(app, function, delivery, refused.to_string()).await
        }
    }
}
