//! A sandbox without its host: rounds are run by hand, so that nothing but the round itself is timed.

use forerunner::{
    cli::{load, stage},
    clock::Clock,
    config::Settings,
    domain::{
        fleet::Fleet,
        message::{Message, Reason},
    },
    reconcile::{Outcome, Rounds},
    sandbox::{
        azure, gitlab,
        wire::{Call, Service},
        world::{World, WorldSettings},
    },
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A Tuesday.
const START: &str = "2026-11-24T08:00:00Z";

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) clock: Clock,
    folder: PathBuf,
    latencies: Vec<(Service, Duration)>,
}

/// What one round did and how long it took.
pub(crate) struct Round {
    pub(crate) took: Duration,
    /// forerunner's own calls.
    pub(crate) calls: Vec<Call>,
}

impl Scene {
    /// A world with this fleet's administrators done, whose services answer after these times.
    pub(crate) async fn new(fleet: &str, latencies: &[(Service, Duration)]) -> Self {
        let start: Timestamp = START.parse().expect("it is a timestamp");
        let clock = Clock::frozen(start);
        let folder = std::env::temp_dir().join(format!("forerunner-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary directory can be written");
        std::fs::write(folder.join("fleet.yaml"), fleet).expect("so can its files");
        let (parsed, _) =
            Fleet::parse(fleet, None, start).expect("the fleet of the bench is valid");
        let settings = WorldSettings {
            clock: clock.clone(),
            azure: azure::Settings::default(),
            gitlab: gitlab::Settings::default(),
            folder: folder.clone(),
            port: None,
            cluster: None,
            az_shim: None,
            confinement: Some(stage::confinement(&parsed)),
        };
        let world = World::start(&stage::stage(&parsed, 1), settings).await;
        let world = world.expect("loopback has free ports");
        // How long an image takes to pull is the cluster's own affair.
        world.kubernetes.set_start_delay(Duration::ZERO);
        Self { world, clock, folder, latencies: latencies.to_vec() }
    }

    /// What a process that was just started knows: nothing.
    pub(crate) fn rounds(&self) -> Rounds {
        let given = self.settings();
        let read = |name: &str| given.get(name).filter(|_| name != "FORERUNNER_CLOCK").cloned();
        let settings = Settings::read(read).expect("the sandbox gives good settings");
        load::load(&settings, self.clock.clone()).expect("and the fleet is valid").rounds
    }

    /// Puts the clock forward, and nothing acts: no controller, no manager.
    pub(crate) fn turn(&self, by: SignedDuration) {
        self.clock.turn_to(self.clock.now() + by);
        let file = self.settings().remove("FORERUNNER_CLOCK");
        let published = file.map(|file| self.clock.publish(Path::new(&file)));
        assert!(
            published.is_some_and(|written| written.is_ok()),
            "a temporary file can be written"
        );
    }

    /// With which forerunner speaks to this world.
    pub(crate) fn settings(&self) -> BTreeMap<String, String> {
        self.world.settings(&self.folder.join("fleet.yaml"))
    }

    /// Runs one round as if `unit` had been woken by a hook.
    pub(crate) async fn round(&self, rounds: &Rounds, unit: &str) -> Round {
        let unit = unit.parse().expect("the bench knows its units");
        let message = Message::wake(unit, Reason::Hook, "bench".to_owned());
        for (service, latency) in &self.latencies {
            self.world.wire.set_latency(*service, *latency);
        }
        self.world.wire.forget_calls();
        let begun = Instant::now();
        let outcome = rounds.round(&message).await;
        let took = begun.elapsed();
        assert!(matches!(outcome, Outcome::Done(_)), "the round failed: {outcome:?}");
        let calls = self.world.wire.calls().into_iter().filter(Call::is_ours).collect();
        Round { took, calls }
    }

    /// Lets everything else go on, without latencies: pods start, managers poll.
    pub(crate) async fn pass(&self, seconds: i64) {
        for (service, _) in &self.latencies {
            self.world.wire.set_latency(*service, Duration::ZERO);
        }
        self.world.pass(SignedDuration::from_secs(seconds)).await.expect("the world goes on");
    }

    /// Lets everything else go on until the look that the last round of `unit` asked for, but no longer than a minute.
    pub(crate) async fn pass_until_next(&self, unit: &str) {
        let messages = self.world.service_bus.messages("rounds");
        let of_unit = messages.iter().map(|message| &message.properties);
        let of_unit = of_unit.filter(|message| message.session_id.as_deref() == Some(unit));
        let next = of_unit.filter_map(|message| message.scheduled_enqueue_time).max();
        let wait = next.map_or(60, |next| next.duration_since(self.clock.now()).as_secs());
        self.pass(wait.clamp(1, 60)).await;
    }

    /// Whether the unit's own status says so.
    pub(crate) fn is_ready(&self, unit: &str) -> bool {
        self.status(unit)["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == true)
    }

    pub(crate) fn status(&self, unit: &str) -> Value {
        let name = format!("status-{}", unit.replace('/', "-"));
        let maps = self.world.kubernetes.list("configmaps", "");
        let found = maps.iter().find(|map| map["metadata"]["name"] == *name);
        let text = found.and_then(|map| map["data"]["record.json"].as_str()).unwrap_or("null");
        serde_json::from_str(text).expect("a status is JSON")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
