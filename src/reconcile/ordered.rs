//! What an operator orders of a runner: carried out at once, or else by the next round that can.

use super::{
    Failure,
    conclude::Ended,
    observe,
    prepare::prepare_word,
    round::{Report, Restraint, Rounds},
};
use crate::domain::{
    fleet::Fleet,
    ids::Unit,
    message::{Intent, Message, Reason},
    plan::Plan,
    status::Ordered,
    step::Step,
};
use tracing::info;

impl Rounds {
    /// Does what an operator asks of a runner beyond *look at this one*. What no version of this program acts on yet is
    /// kept and shown, never dropped.
    pub(super) async fn intent_round(
        &self,
        fleet: &Fleet,
        message: &Message,
        intent: Intent,
    ) -> Ended {
        let Some(order) = Ordered::by(message) else {
            let text = match intent {
                Intent::Pause | Intent::Resume => {
                    "only a runner can be paused and resumed".to_owned()
                }
                Intent::Reprovision | Intent::Rotate => {
                    format!("this version does not act on `{}` yet", intent.as_str())
                }
            };
            return self.again_or_park(fleet, message, &[Failure::permanent(text)], None).await;
        };
        match self.carry_out(fleet, message, &order).await {
            Ok(report) => {
                // A try that failed asks again for the same; what follows a success is an ordinary round.
                let failed = !report.acted.failures.is_empty();
                let intent = message.intent.filter(|_| failed);
                let since = message.since.filter(|_| failed);
                let message = Message { intent, since, ..message.clone() };
                if !failed && report.order.as_ref() == Some(&order) {
                    info!("`{}`: `{}` is kept until a round may", message.unit, order.cause);
                }
                self.conclude(fleet, &message, report).await
            }
            Err(failure) => self.again_or_park(fleet, message, &[failure], None).await,
        }
    }

    /// Whether the message is a late try of an order that another one has overtaken: then it is told, and asks for nothing.
    pub(super) async fn is_overtaken(
        &self,
        fleet: &Fleet,
        message: &Message,
    ) -> Result<bool, Failure> {
        let Some(order) = Ordered::by(message).filter(|order| order.at.is_some()) else {
            return Ok(false);
        };
        let (unit, settings) = (&message.unit, fleet.settings());
        let status = observe::status(self.clients(), settings, unit).await?;
        let is_overtaken = status.is_some_and(|status| status.is_overtaken(&order));
        if is_overtaken {
            info!("`{unit}`: `{}` comes too late, another order was given after it", order.cause);
        }
        Ok(is_overtaken)
    }

    /// Carries out what was left of an order; an ordinary round follows.
    ///
    /// Errors: it is still left, and why; nothing where it has to wait. That holds up nothing else, and is tried by the next round
    /// again: a message with the order in it would outlive a later one.
    pub(super) async fn catch_up(
        &self,
        fleet: &Fleet,
        message: &Message,
        order: &Ordered,
    ) -> Result<Ended, Vec<Failure>> {
        if self.observes(fleet, &message.unit) {
            return Err(vec![]);
        }
        let cause = order.cause.clone();
        let asked = Message { reason: Reason::Command, cause, deadline: None, ..message.clone() };
        match self.carry_out(fleet, &asked, order).await {
            Ok(report) if report.order.is_none() => Ok(self.conclude(fleet, &asked, report).await),
            Ok(report) => Err(report.acted.failures),
            Err(failure) => Err(vec![failure]),
        }
    }

    /// What is left of an order to a unit whose round could not even be planned.
    pub(super) async fn left_of(&self, fleet: &Fleet, unit: &Unit) -> Option<Ordered> {
        let status = observe::status(self.clients(), fleet.settings(), unit).await;
        status.ok().flatten()?.order
    }

    async fn carry_out(
        &self,
        fleet: &Fleet,
        message: &Message,
        order: &Ordered,
    ) -> Result<Report, Failure> {
        let Unit::Runner(key) = &message.unit else {
            return Err(Failure::permanent("only a runner can be paused and resumed"));
        };
        let (began, pauses) = (self.clock.now(), order.intent == Intent::Pause);
        let word = prepare_word(self.clients(), fleet, &self.clock, key, pauses, &order.cause);
        let (prepared, reaches) = word.await?;
        let report = self.act(fleet, message, prepared, began).await;
        let left = match (report.acted.failures.is_empty(), report.restraint) {
            (false, _) => Some(order.clone()),
            (true, None) if reaches => None,
            // It is only told what it would do.
            (true, Some(Restraint::Observing)) => report.order,
            // A hold or a freeze puts it off, or that no runner of ours is there, or none that bears our marker.
            (true, None | Some(Restraint::Frozen { .. })) => Some(order.clone()),
        };
        let ordered_at = report.ordered_at.max(order.at);
        Ok(Report { order: left, ordered_at, ..report })
    }
}

/// Whether the plan opens what is to be paused.
pub(super) fn is_against(plan: &Plan, order: &Ordered) -> bool {
    let opens = |step: &Step| matches!(step, Step::UpdateRunner { change, .. } if change.paused == Some(false));
    order.intent == Intent::Pause && plan.steps.iter().any(|node| opens(&node.step))
}
