//! A manager's Secret without the token that somebody polls with: a person's word is waited for, and nothing is lost.

use super::{SECRET, Settled, entry, rewrite};
use serde_json::json;

fn assert_parked(settled: &Settled, words: &str) {
    let status = settled.sandbox.status(&settled.unit());
    let reason = status["parked"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(words), "no `{words}`: {status}");
}

/// With another entity's token in its Secret; `other` is that entity's key.
pub(super) async fn keeps_its_token_beside_another_entitys(settled: &Settled, other: &str) {
    let (id, own) = entry(settled, &settled.key).await;
    let (_, foreign) = entry(settled, other).await;
    settled.edit(SECRET, |object| rewrite(object, |text| text.replace(&own, &foreign))).await;
    settled.sandbox.sweep().await;
    assert_parked(settled, &format!("the token of runner {id} is lost"));
    let gitlab = &settled.sandbox.world.gitlab;
    assert!(gitlab.token_is_valid(&own) && gitlab.token_is_valid(&foreign), "none was reset");
    settled.edit(SECRET, |object| rewrite(object, |text| text.replace(&foreign, &own))).await;
    settled.wait_minutes(11);
    settled.sandbox.sweep().await;
    settled.assert_ready();
}

/// With no Secret at all.
pub(super) async fn makes_a_lost_token_anew_once_confirmed(settled: &Settled) {
    let (id, lost) = entry(settled, &settled.key).await;
    settled.delete(SECRET).await;
    settled.sandbox.sweep().await;
    assert_parked(settled, "somebody has polled with it");
    assert!(settled.sandbox.world.gitlab.token_is_valid(&lost), "its manager polls on");
    let order =
        json!({"command": "confirm", "targets": [settled.key], "by": "jane", "why": "a test"});
    settled.sandbox.order("approvals", &order);
    settled.sandbox.settle().await;
    settled.assert_ready();
    let (again, token) = entry(settled, &settled.key).await;
    let gitlab = &settled.sandbox.world.gitlab;
    assert_eq!(again, id, "the entity stays");
    assert!(gitlab.token_is_valid(&token) && !gitlab.token_is_valid(&lost), "another token");
}
