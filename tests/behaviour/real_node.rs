//! A real node: kubelet, containerd and runc, and in its pods what forerunner asked for.

mod gitlab_runner;
mod image;
mod machine;
mod pod;
mod story;

use crate::real_runner::program::program;

#[test]
fn managers_and_jobs_live_on_a_real_node() {
    if machine::is_inside() {
        inside(story::tell());
    } else if let Some(why) = machine::left_out() {
        machine::say(&why);
    } else {
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
