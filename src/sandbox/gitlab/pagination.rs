//! Pages of a list (gitlab.md §7.2).

use super::{call::Call, errors::Refusal};
use axum::{
    Json,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;

/// Above this many rows GitLab does not count any more.
const COUNTED_ROWS_MAX: usize = 10_000;

/// The rows of the page that `call` asks for, each shown by `show`, with the headers that lead on.
pub(super) fn page<T>(
    call: &Call,
    external_url: &str,
    rows: &[T],
    show: impl Fn(&T) -> Value,
) -> Result<Response, Refusal> {
    let (page, size) = (positive(call, "page", 1)?, page_size(call)?);
    let pages = rows.len().div_ceil(size).max(1);
    let start = (page - 1).saturating_mul(size);
    let shown: Vec<Value> = rows.iter().skip(start).take(size).map(show).collect();
    let more = start.saturating_add(size) < rows.len();
    let link = |number: usize, relation: &str| {
        let position = [("page", number.to_string()), ("per_page", size.to_string())];
        link(call, external_url, &position, relation)
    };
    let mut links = Vec::new();
    if page > 1 {
        links.push(link(page - 1, "prev"));
    }
    if more {
        links.push(link(page + 1, "next"));
    }
    links.push(link(1, "first"));
    let counted = rows.len() <= COUNTED_ROWS_MAX;
    if counted {
        links.push(link(pages, "last"));
    }
    let mut headers = HeaderMap::new();
    let next = if more { (page + 1).to_string() } else { String::new() };
    let previous = if page > 1 { (page - 1).to_string() } else { String::new() };
    put(&mut headers, "link", &links.join(", "));
    put(&mut headers, "x-page", &page.to_string());
    put(&mut headers, "x-per-page", &size.to_string());
    put(&mut headers, "x-next-page", &next);
    put(&mut headers, "x-prev-page", &previous);
    if counted {
        put(&mut headers, "x-total", &rows.len().to_string());
        put(&mut headers, "x-total-pages", &pages.to_string());
    }
    Ok((headers, Json(shown)).into_response())
}

/// One page of rows already in the order of their ids, led on by the last id seen.
pub(super) fn keyset<T>(
    call: &Call,
    external_url: &str,
    rows: &[T],
    ascending: bool,
    id: impl Fn(&T) -> u64,
    show: impl Fn(&T) -> Value,
) -> Result<Response, Refusal> {
    let size = page_size(call)?;
    let shown: Vec<Value> = rows.iter().take(size).map(show).collect();
    let mut headers = HeaderMap::new();
    if let Some(last) = rows.get(size - 1).filter(|_| rows.len() > size) {
        let bound = if ascending { "id_after" } else { "id_before" };
        let next = link(call, external_url, &[(bound, id(last).to_string())], "next");
        put(&mut headers, "link", &next);
    }
    Ok((headers, Json(shown)).into_response())
}

fn page_size(call: &Call) -> Result<usize, Refusal> {
    Ok(positive(call, "per_page", 20)?.min(100))
}

fn positive(call: &Call, name: &str, default: usize) -> Result<usize, Refusal> {
    match call.parameters.integer(name)? {
        None => Ok(default),
        Some(number) => usize::try_from(number)
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| Refusal::parameter(format!("{name} does not have a valid value"))),
    }
}

/// The call's own address on the configured external URL, with other `position` parameters.
fn link(call: &Call, external_url: &str, position: &[(&str, String)], relation: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in url::form_urlencoded::parse(call.uri.query().unwrap_or("").as_bytes()) {
        if !position.iter().any(|(other, _)| *other == name) {
            query.append_pair(&name, &value);
        }
    }
    for (name, value) in position {
        query.append_pair(name, value);
    }
    format!("<{external_url}{}?{}>; rel=\"{relation}\"", call.uri.path(), query.finish())
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        let name = if name == "link" { header::LINK } else { HeaderName::from_static(name) };
        headers.insert(name, value);
    }
}
