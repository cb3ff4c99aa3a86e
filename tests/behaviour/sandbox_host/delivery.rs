//! What becomes of queue messages.

use super::world::{Reply, World, on_queue, start, trigger};
use forerunner::sandbox::{
    actor::{Actor, Due},
    host::Verdict,
    service_bus::Properties,
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Barrier;

#[tokio::test]
async fn a_failed_message_comes_at_once_and_blocks_its_session() {
    let world = World::new(&[("round", on_queue("jobs", true))]).await;
    for (session, body) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
        world.send("jobs", Some(session), body);
    }
    world.handler.reply(Reply::json(500, "{}"));
    world.handler.reply(Reply::json(500, "{}"));
    world.settle().await;
    let bodies: Vec<String> = world.bodies().into_iter().map(|(_, body)| body).collect();
    let of_a: Vec<&String> = bodies.iter().filter(|body| body.starts_with('a')).collect();
    assert_eq!(of_a, ["a1", "a1", "a2"]);
    assert_eq!(bodies.iter().filter(|body| *body == "b1").count(), 2);
    assert_eq!(world.bus.depth("jobs"), 0);
}

#[tokio::test]
async fn a_message_that_always_fails_is_a_dead_letter_after_ten_deliveries() {
    let functions = [
        ("round", on_queue("jobs", true)),
        ("dead_letter", on_queue("jobs/$deadletterqueue", false)),
    ];
    let world = World::new(&functions).await;
    world.send("jobs", Some("a"), "bad");
    (0..10).for_each(|_| world.handler.reply(Reply::json(500, "{}")));
    world.settle().await;
    let calls = world.bodies();
    assert_eq!(calls.len(), 11);
    assert_eq!(calls[10], ("dead_letter".to_owned(), "bad".to_owned()));
    let metadata = &world.handler.calls()[10].json()["Metadata"];
    assert_eq!(metadata["DeadLetterSource"], "\"jobs\"");
    assert_eq!(metadata["ApplicationProperties"]["DeadLetterReason"], "MaxDeliveryCountExceeded");
    assert_eq!(metadata["SessionId"], "\"a\"");
    assert_eq!(metadata["MessageSession"], json!({}));
    let counts: Vec<Option<u32>> =
        world.host.invocations().iter().map(|record| record.delivery_count).collect();
    assert_eq!(counts[..10], (1..=10).map(Some).collect::<Vec<_>>());
    assert!(world.bus.dead_letters("jobs").is_empty());
}

#[tokio::test]
async fn sessions_run_side_by_side_up_to_their_number() {
    let world = World::new(&[("round", on_queue("jobs", true))]).await;
    let both = Arc::new(Barrier::new(2));
    (0..2).for_each(|_| world.handler.reply(Reply::Together(both.clone())));
    for session in ["a", "b", "c"] {
        world.send("jobs", Some(session), session);
    }
    world.settle().await;
    assert_eq!(world.bodies().len(), 2, "two sessions are held, and the third waits for a place");
    let idle = start() + SignedDuration::from_secs(10);
    assert_eq!(world.host.due(), Some(Due::Work(idle)));
    world.turn(10).await;
    assert_eq!(world.bodies()[2].1, "c");
    assert_eq!(world.host.due(), Some(Due::Background(idle + SignedDuration::from_secs(10))));
    world.turn(10).await;
    assert_eq!(world.host.due(), None);
}

#[tokio::test]
async fn plain_messages_run_side_by_side_up_to_their_number() {
    let world = World::new(&[("command", on_queue("plain", false))]).await;
    let three = Arc::new(Barrier::new(3));
    (0..6).for_each(|_| world.handler.reply(Reply::Together(three.clone())));
    (0..6).for_each(|number| world.send("plain", None, &number.to_string()));
    world.settle().await;
    assert_eq!(world.bodies().len(), 6);
    assert_eq!(world.bus.depth("plain"), 0);
}

#[tokio::test]
async fn a_message_sent_meanwhile_is_delivered_by_the_same_act() {
    let world = World::new(&[("command", on_queue("plain", false))]).await;
    let two = Arc::new(Barrier::new(2));
    (0..2).for_each(|_| world.handler.reply(Reply::Together(two.clone())));
    world.send("plain", None, "first");
    tokio::join!(world.settle(), async {
        world.handler.arrived(1).await;
        world.send("plain", None, "second");
    });
    assert_eq!(world.bodies().len(), 2);
}

#[tokio::test]
async fn a_scheduled_message_is_work_for_its_time() {
    let world = World::new(&[("command", on_queue("plain", false))]).await;
    let at = start() + SignedDuration::from_secs(30);
    let properties = Properties { scheduled_enqueue_time: Some(at), ..Properties::default() };
    world.bus.send_as_operator("plain", "later", properties).unwrap();
    world.settle().await;
    assert_eq!((world.bodies().len(), world.host.due()), (0, Some(Due::Work(at))));
    world.turn(30).await;
    assert_eq!(world.bodies(), [("command".to_owned(), "later".to_owned())]);
}

#[tokio::test]
async fn a_batch_is_one_call_and_succeeds_or_fails_as_a_whole() {
    let mut function = on_queue("plain", false);
    function["bindings"][0]["cardinality"] = "many".into();
    let world = World::new(&[("batch", function.clone())]).await;
    world.handler.reply(Reply::json(500, "{}"));
    world.send("plain", None, "a");
    world.send("plain", None, "b");
    world.settle().await;
    let calls = world.handler.calls();
    assert_eq!((calls.len(), world.bus.depth("plain")), (2, 0));
    let body = calls[1].json();
    assert_eq!(body["Data"]["message"], r#"["YQ==","Yg=="]"#);
    assert_eq!(body["Metadata"]["DeliveryCountArray"], "[2,2]");
    assert_eq!(body["Metadata"]["SequenceNumberArray"], "[1,2]");
    assert_eq!(body["Metadata"]["SessionIdArray"], "[null,null]");
    assert_eq!(body["Metadata"]["ApplicationPropertiesArray"], "[{},{}]");
    assert_eq!(body["Metadata"]["MessageId"], Value::Null);
}

#[tokio::test]
async fn a_batch_of_text_is_encoded_once_more() {
    let binding = json!({
        "type": "serviceBusTrigger", "direction": "in", "name": "message", "queueName": "plain",
        "connection": "BUS", "cardinality": "many",
    });
    let world = World::new(&[("batch", trigger(binding))]).await;
    world.send("plain", None, r#"{"a":1}"#);
    world.send("plain", None, "b");
    world.settle().await;
    let body = world.handler.calls()[0].json();
    assert_eq!(body["Data"]["message"], r#"["{\"a\":1}","b"]"#);
    assert_eq!(body["Metadata"]["a"], Value::Null, "no member of a body leaks");
}

#[tokio::test]
async fn a_completion_that_fails_brings_the_message_again() {
    let world = World::new(&[("command", on_queue("plain", false))]).await;
    world.bus.lose_completions(1);
    world.send("plain", None, "x");
    world.settle().await;
    let verdicts: Vec<Verdict> =
        world.host.invocations().into_iter().map(|record| record.verdict).collect();
    assert_eq!(verdicts, [Verdict::Success, Verdict::Success]);
    assert_eq!(world.bus.depth("plain"), 0);
}

#[tokio::test]
async fn a_lost_session_lock_runs_the_message_a_second_time_at_once() {
    let world = World::new(&[("round", on_queue("jobs", true))]).await;
    let both = Arc::new(Barrier::new(2));
    (0..2).for_each(|_| world.handler.reply(Reply::Together(both.clone())));
    world.send("jobs", Some("a"), "twice");
    tokio::join!(world.settle(), async {
        world.handler.arrived(1).await;
        world.bus.lose_locks("jobs").unwrap();
    });
    let bodies: Vec<String> = world.bodies().into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, ["twice", "twice"]);
    assert_eq!(world.bus.depth("jobs"), 0);
}

#[tokio::test]
async fn without_auto_completion_a_good_message_comes_again_when_its_lock_ends() {
    let mut function = on_queue("plain", false);
    function["bindings"][0]["autoCompleteMessages"] = false.into();
    let world = World::new(&[("command", function)]).await;
    world.send("plain", None, "x");
    world.settle().await;
    assert_eq!(world.bodies().len(), 1);
    let lock_ends = start() + SignedDuration::from_secs(60);
    assert_eq!(world.host.due(), Some(Due::Work(lock_ends)));
    world.turn(60).await;
    assert_eq!(world.bodies().len(), 2);
}
