//! When timers run.

use super::world::{Reply, World, on_timer, start};
use forerunner::sandbox::{
    actor::{Actor, Due},
    host::{Host, HostSettings},
};
use jiff::SignedDuration;
use serde_json::{Value, json};

fn told(world: &World) -> Vec<Value> {
    world.handler.calls().iter().map(|seen| seen.json()["Data"]["t"].clone()).collect()
}

#[tokio::test]
async fn a_timer_is_background_until_somebody_waits_for_it() {
    let world = World::new(&[("sweep", on_timer("0 */10 * * * *"))]).await;
    let next = start() + SignedDuration::from_mins(10);
    assert_eq!(world.host.due(), Some(Due::Background(next)));
    assert!(world.host.await_timer("sweep"));
    assert_eq!(world.host.due(), Some(Due::Work(next)));
    assert!(world.host.run_timer_now("sweep"));
    assert_eq!(world.host.due(), Some(Due::Work(start())));
    world.settle().await;
    assert_eq!(told(&world).len(), 1);
    assert_eq!(world.host.due(), Some(Due::Background(next)));
    assert!(!world.host.run_timer_now("nothing"));
}

#[tokio::test]
async fn a_schedule_comes_from_an_app_setting() {
    let world = World::with(&[("sweep", on_timer("%SweepSchedule%"))], start(), |_, settings| {
        settings.app_settings.insert("SweepSchedule".to_owned(), "0 0 13 * * *".to_owned());
    });
    let next = start() + SignedDuration::from_hours(1);
    assert_eq!(world.await.unwrap().host.due(), Some(Due::Background(next)));
}

#[tokio::test]
async fn occurrences_that_were_slept_through_are_one_run() {
    let world = World::new(&[("sweep", on_timer("0 */10 * * * *"))]).await;
    world.turn(45 * 60).await;
    let told = told(&world);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["ScheduleStatus"]["Last"], "0001-01-01T00:00:00+00:00");
    assert_eq!(told[0]["ScheduleStatus"]["Next"], "2026-03-01T12:10:00+00:00");
    assert_eq!(world.host.due().unwrap().at(), start() + SignedDuration::from_mins(50));
}

#[tokio::test]
async fn a_failed_run_is_not_repeated() {
    let world = World::new(&[("sweep", on_timer("0 */10 * * * *"))]).await;
    world.handler.reply(Reply::json(500, "{}"));
    world.turn(10 * 60).await;
    assert_eq!(told(&world).len(), 1);
    assert_eq!(world.host.due().unwrap().at(), start() + SignedDuration::from_mins(20));
}

#[tokio::test]
async fn a_timer_that_runs_more_than_once_a_minute_has_no_status() {
    let world = World::new(&[("tick", on_timer("*/30 * * * * *"))]).await;
    world.turn(30).await;
    assert_eq!(
        told(&world),
        [json!({"Schedule": {"AdjustForDST": true}, "ScheduleStatus": null, "IsPastDue": false})]
    );
}

#[tokio::test]
async fn what_was_missed_while_no_host_ran_is_made_up_for_once() {
    let world = World::new(&[("sweep", on_timer("0 */10 * * * *"))]).await;
    world.host.stop().await;
    assert_eq!(world.host.due(), None);
    world.turn(35 * 60).await;
    assert_eq!(told(&world).len(), 0);
    let settings: HostSettings = world.settings.clone();
    let second = World { host: Host::start(settings).await.unwrap(), ..world };
    second.settle().await;
    assert_eq!(second.host.due().unwrap().at(), start() + SignedDuration::from_mins(40));
    second.turn(5 * 60).await;
    let told = told(&second);
    assert_eq!(told.len(), 2);
    assert_eq!((&told[0]["IsPastDue"], &told[1]["IsPastDue"]), (&json!(true), &json!(false)));
}
