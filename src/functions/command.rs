//! Woken by the queues of operators, `commands` and `approvals`, each with a send right of its own. What nobody can mean is
//! kept with its reason and never delivered again. What could not be done now is tried nine times more, in ten minutes or so:
//! the broker delivers again at once (functions-host.md §3.6), so the wait is here; we may not send to these queues.

use super::{
    answer::Answer,
    app::App,
    envelope::{Delivery, Envelope, Undecodable},
    invocation::settle,
    round,
    work::Outcome,
};
use crate::domain::command::{Door, Order};
use std::time::Duration;

pub(super) const COMMAND: &str = "command";
pub(super) const APPROVAL: &str = "approval";

/// The broker's `maxDeliveryCount`, unless somebody set another: nobody looks at the dead letters of these queues.
const DELIVERIES: u64 = 10;
const PAUSE_FIRST: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_mins(2);

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
    let function = match door {
        Door::Commands => COMMAND,
        Door::Approvals => APPROVAL,
    };
    let order = match Order::decode(&delivery.body, door, app.clock.now()) {
        Ok(order) => Order { sent_at: delivery.enqueued_at, ..order },
        Err(refused) => return round::park(app, function, delivery, refused.to_string()).await,
    };
    round::tell_age(app, door.queue(), &delivery);
    let count = delivery.delivery_count.unwrap_or(1);
    match app.work.command(order).await {
        Ok(Outcome::Failed { text }) if count >= DELIVERIES => {
            let reason = format!("it was tried {count} times, and then: {text}");
            round::park(app, function, delivery, reason).await
        }
        Ok(Outcome::Failed { text }) => {
            wait(app, pause(count, rand::random())).await;
            Outcome::Failed { text }
        }
        Ok(done @ Outcome::Done { .. }) => done,
        Err(refused) => round::park(app, function, delivery, refused.to_string()).await,
    }
}

#[expect(clippy::disallowed_methods, reason = "we may not send to the queues of operators")]
async fn wait(app: &App, pause: Duration) {
    if !app.clock.stands_still() {
        tokio::time::sleep(pause).await;
    }
}

/// A random part, the half at least, of a time that doubles with every delivery.
fn pause(count: u64, random: f64) -> Duration {
    let doubled = 1 << count.saturating_sub(1).min(10);
    PAUSE_FIRST.saturating_mul(doubled).min(PAUSE_MAX).mul_f64(f64::midpoint(1.0, random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_to_its_limit() {
        let seconds = |count, random| pause(count, random).as_secs();
        assert_eq!([1, 2, 3].map(|count| seconds(count, 1.0)), [5, 10, 20]);
        assert_eq!((seconds(9, 1.0), seconds(9, 0.0), seconds(u64::MAX, 1.0)), (120, 60, 120));
    }
}
