//! Lists that come in pages.

use super::{Call, Error, Gitlab, error};
use crate::adapters::http::Response;
use serde::de::DeserializeOwned;
use url::Url;

/// Pages that a list may have before we call it endless.
const PAGES_MAX: usize = 10_000;

/// Walks a list page by page. A page that fails ends the walk with its error: part of a list never passes for all.
pub struct Pages<T> {
    gitlab: Gitlab,
    call: Call,
    done: bool,
    read: usize,
    convert: fn(&str, Response) -> Result<Vec<T>, Error>,
}

impl<T> Pages<T> {
    pub(super) fn new<W: DeserializeOwned + Into<T>>(gitlab: &Gitlab, call: Call) -> Self {
        Self {
            gitlab: gitlab.clone(),
            call,
            done: false,
            read: 0,
            convert: |what, response| {
                let rows: Vec<W> = error::read(what, &response)?;
                Ok(rows.into_iter().map(Into::into).collect())
            },
        }
    }

    /// The next page; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<T>>, Error> {
        if self.done {
            return Ok(None);
        }
        self.done = true;
        let response = self.gitlab.send(&self.call).await?;
        let next = next_query(&response, &self.call.query);
        let next = next.map_err(|NoQuery| {
            Error::unreadable(&self.call.what, "it has a next page and does not say which")
        })?;
        let rows = (self.convert)(&self.call.what, response)?;
        self.read += 1;
        if let Some(query) = next {
            if query == self.call.query || self.read >= PAGES_MAX {
                return Err(Error::unreadable(&self.call.what, "its pages never end"));
            }
            self.call.query = query;
            self.done = false;
        }
        Ok(Some(rows))
    }

    /// All pages at once.
    pub async fn all(mut self) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        while let Some(rows) = self.next().await? {
            all.extend(rows);
        }
        Ok(all)
    }
}

/// The query of the next page. Of a `Link` only the query counts: it names GitLab by its external address, which may
/// not be ours (gitlab.md §7.2).
///
/// Errors: a next page that cannot be asked for. A list without it would pass for whole.
fn next_query(response: &Response, current: &str) -> Result<Option<String>, NoQuery> {
    let mut untold = false;
    let link = response.headers.get_all(http::header::LINK).iter();
    let link = link.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    for part in link {
        let Some((address, relation)) = part.split_once('>') else { continue };
        if !relation.contains("rel=\"next\"") {
            continue;
        }
        let url = Url::parse(address.trim().trim_start_matches('<')).ok();
        if let Some(query) = url.as_ref().and_then(Url::query) {
            return Ok(Some(query.to_owned()));
        }
        untold = true;
    }
    let page = response.header("x-next-page").map(str::trim).filter(|page| !page.is_empty());
    let Some(page) = page else {
        return if untold { Err(NoQuery) } else { Ok(None) };
    };
    let kept = current.split('&').filter(|pair| !pair.starts_with("page="));
    let page = format!("page={page}");
    Ok(Some(kept.chain([page.as_str()]).collect::<Vec<_>>().join("&")))
}

/// A link to the next page that has no query.
#[derive(Debug, PartialEq)]
struct NoQuery;

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    #[test]
    fn the_next_page_is_found_by_link_or_header() {
        let check = |headers: &[(&'static str, &str)], expected: Result<Option<&str>, NoQuery>| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().unwrap());
            }
            let (status, body) = (StatusCode::OK, Bytes::new());
            let response = Response { status, headers: map, body, retry_after: None };
            let next = next_query(&response, "type=group_type&page=1&per_page=100");
            assert_eq!(next, expected.map(|next| next.map(str::to_owned)), "{headers:?}");
        };
        let link = r#"<https://outside.example/api/v4/groups?page=1&a=b>; rel="first", <https://outside.example/api/v4/groups?page=2&a=b>; rel="next""#;
        check(&[("link", link), ("x-next-page", "2")], Ok(Some("page=2&a=b")));
        check(&[("x-next-page", "2")], Ok(Some("type=group_type&per_page=100&page=2")));
        check(&[("x-next-page", "")], Ok(None));
        check(&[("link", r#"<https://x.example/?page=1>; rel="first""#)], Ok(None));
        check(&[], Ok(None));
        let bare = r#"<https://x.example/api/v4/groups>; rel="next""#;
        check(&[("link", bare)], Err(NoQuery));
        check(
            &[("link", bare), ("x-next-page", "2")],
            Ok(Some("type=group_type&per_page=100&page=2")),
        );
    }
}
