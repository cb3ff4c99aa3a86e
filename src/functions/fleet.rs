//! Shows the fleet: JSON, or one page for who asks for HTML. The host has checked the caller's `function` key, or the
//! platform its sign-in.

mod page;
mod veil;

use super::{answer::Reply, app::App};
use axum::http::{HeaderMap, StatusCode, header};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

pub(super) async fn reply(app: &App, headers: &HeaderMap) -> Reply {
    let told = app.work.fleet().await;
    let reply = if wants_page(headers) {
        let nonce = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 18]>());
        let (status, page) = match &told {
            Ok(told) => (StatusCode::OK, page::page(told, app.clock.now(), &nonce)),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, page::failure(reason, &nonce)),
        };
        // Nothing from outside, nothing of the page elsewhere.
        let policy = format!(
            "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'"
        );
        Reply::page(status, page).with(header::CONTENT_SECURITY_POLICY, policy)
    } else {
        Reply::ok(told.map_or_else(|reason| json!({ "error": reason }), |told| json!(told)))
    };
    reply
        .with(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .with(header::REFERRER_POLICY, "no-referrer")
        .with(header::CACHE_CONTROL, "no-store")
        .with(header::VARY, "Accept")
}

/// Whether the caller names HTML, and likes it no less than JSON. What takes anything gets JSON.
fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<&str> = accept.flat_map(|value| value.split(',')).collect();
    let liking = |kind: &str| {
        let range = ranges.iter().find(|range| {
            range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(kind)
        })?;
        let weight = range.split(';').skip(1).find_map(|parameter| {
            let (name, value) = parameter.trim().split_once('=')?;
            name.eq_ignore_ascii_case("q").then(|| value.trim().parse::<f32>().unwrap_or(0.0))
        });
        Some(weight.unwrap_or(1.0))
    };
    let page = liking("text/html").unwrap_or(0.0);
    page > 0.0 && page >= liking("application/json").unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_for_html_gets_the_page() {
        let check = |accept: &[&str], page: bool| {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(header::ACCEPT, value.parse().unwrap());
            }
            assert_eq!(wants_page(&headers), page, "{accept:?}");
        };
        check(&[], false);
        check(&["*/*"], false);
        check(&["application/json"], false);
        check(&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], true);
        check(&["application/json", "Text/HTML;level=1; q=0.7"], false);
        check(&["application/json;q=0.5", "text/html;q=0.7"], true);
        check(&["text/html;q=0"], false);
        check(&["text/html;q=x"], false);
    }
}
