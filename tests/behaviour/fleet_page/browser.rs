//! The page in a real browser, as `tests/browser/run` has it: only where FORERUNNER_BROWSER names one.

use super::{five_thousand, mixed, told};
use crate::fakes::app;
use forerunner::functions::router::router;
use std::{env, path::Path, process::Command, sync::Arc};
use tokio::net::TcpListener;

#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says what they may use")]
fn setting(name: &str) -> Option<String> {
    env::var(name).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_looks_right_and_is_used_by_keyboard_and_screen_reader() {
    let Some(browser) = setting("FORERUNNER_BROWSER") else { return };
    let folder = setting("FORERUNNER_SCREENSHOTS").unwrap_or_else(|| {
        let folder = env::temp_dir().join("forerunner-page");
        std::fs::create_dir_all(&folder).unwrap();
        folder.display().to_string()
    });
    let mut pages = Vec::new();
    let three = mixed().into_iter().take(3).collect();
    for (name, units) in [("none", vec![]), ("three", three), ("many", five_thousand())] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        pages.push(format!("{name}=http://{}/api/fleet", listener.local_addr().unwrap()));
        let router = router(Arc::new(app(&told(units))));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/look.mjs");
    let mut node = Command::new("node");
    node.arg(script).arg(browser).arg(folder).args(pages);
    let status = tokio::task::spawn_blocking(move || node.status()).await.unwrap().unwrap();
    assert!(status.success(), "the browser saw something amiss: {status}");
}
