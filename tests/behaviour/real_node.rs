//! A real node: kubelet, containerd and runc, and in its pods what forerunner asked for.

mod image;
mod machine;
mod story;

#[test]
fn managers_and_jobs_live_on_a_real_node() {
    if machine::is_inside() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(story::tell());
    } else if let Some(why) = machine::left_out() {
        machine::say(&why);
    } else {
        machine::again_inside("real_node::managers_and_jobs_live_on_a_real_node");
    }
}
