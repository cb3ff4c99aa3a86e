//! A real node: kubelet, containerd and runc, and in its pods what forerunner asked for.

mod gitlab_runner;
mod image;
mod machine;
mod pod;
mod story;
mod trouble;
mod webhook;

use crate::real_runner::program::program;
use std::sync::{Mutex, PoisonError};

/// In their namespaces both would have one process id, and so one folder. Two nodes are also much for a small machine.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn managers_and_jobs_live_on_a_real_node() {
    if machine::is_inside() {
        inside(story::tell());
    } else if let Some(why) = machine::left_out() {
        machine::say(&why);
    } else {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        machine::again_inside("real_node::managers_and_jobs_live_on_a_real_node");
    }
}

#[test]
fn the_real_gitlab_runner_runs_jobs_with_the_managers_rights_and_needs_each() {
    if machine::is_inside() {
        inside(gitlab_runner::tell());
    } else if let Some(why) = machine::left_out() {
        machine::say(&why);
    } else if program().is_some() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        machine::again_inside(
            "real_node::the_real_gitlab_runner_runs_jobs_with_the_managers_rights_and_needs_each",
        );
    }
}

fn inside(story: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(story);
}
