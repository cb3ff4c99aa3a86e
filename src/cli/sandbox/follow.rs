//! Tells of forerunner's calls while they happen.

use super::terminal::Terminal;
use crate::sandbox::{
    wire::{Call, Service},
    world::World,
};
use std::{collections::BTreeMap, time::Duration};

/// Prints new writes of forerunner's for as long as `work` runs, and answers what it answers.
pub(super) async fn follow<T>(
    world: &World,
    terminal: &Terminal,
    seen: &mut usize,
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        #[expect(clippy::disallowed_methods, reason = "a person reads no faster than this")]
        let pause = tokio::time::sleep(Duration::from_millis(50));
        let done = tokio::select! {
            done = &mut work => Some(done),
            () = pause => None,
        };
        tell(world, terminal, seen);
        if let Some(done) = done {
            return done;
        }
    }
}

fn tell(world: &World, terminal: &Terminal, seen: &mut usize) {
    let calls = world.wire.calls();
    let told = |call: &&Call| {
        call.is_ours() && changes_something(call) && call.service != Service::ServiceBus
    };
    for call in calls.iter().skip(*seen).filter(told) {
        let status = call.status.map_or("lost".to_owned(), |status| status.to_string());
        let (service, path) = (name(call.service), short(&call.path));
        let rehearsed = if call.path.contains("dryRun=All") { " (rehearsed)" } else { "" };
        terminal.quiet(&format!("{status} {service:<10} {:<6} {path}{rehearsed}", call.method));
    }
    *seen = calls.len();
}

/// A POST that only asks is none.
pub(super) fn changes_something(call: &Call) -> bool {
    let asks =
        ["listClusterUserCredential", "/runners/verify", "Microsoft.ResourceGraph", "/graphql"];
    call.is_write() && !asks.iter().any(|ask| call.path.contains(ask))
}

/// Calls of forerunner's by service: reads and writes.
pub(super) fn count(world: &World) -> BTreeMap<&'static str, (usize, usize)> {
    let mut counts: BTreeMap<&'static str, (usize, usize)> = BTreeMap::new();
    for call in world.wire.calls().iter().filter(|call| call.is_ours()) {
        let (reads, writes) = counts.entry(name(call.service)).or_default();
        *if changes_something(call) { writes } else { reads } += 1;
    }
    counts
}

fn name(service: Service) -> &'static str {
    match service {
        Service::Gitlab => "GitLab",
        Service::Identity => "identity",
        Service::Entra => "Entra",
        Service::Arm => "Azure",
        Service::KeyVault => "Key Vault",
        Service::ServiceBus => "Service Bus",
        Service::Kubernetes => "Kubernetes",
        Service::Host => "Functions",
    }
}

/// What a person needs of a path: no query, and of a long ARM id the end.
fn short(path: &str) -> String {
    let path = path.split('?').next().unwrap_or(path);
    let prefixes = ["/api/v1/namespaces/", "/apis/apps/v1/namespaces/", "/api/v1", "/apis"];
    let path = prefixes.iter().find_map(|prefix| path.strip_prefix(prefix)).unwrap_or(path);
    let end: Vec<&str> = path.rsplit('/').take(3).collect();
    if path.len() <= 60 {
        return path.to_owned();
    }
    let end: Vec<&str> = end.into_iter().rev().collect();
    format!("…/{}", end.join("/"))
}
