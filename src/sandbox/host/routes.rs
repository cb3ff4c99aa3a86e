//! Which function an HTTP request is for (functions-host.md §4.5).

use super::{
    Function,
    function_json::{Level, Trigger},
};
use percent_encoding::percent_decode_str;

/// The address of one HTTP function.
pub(super) struct Route {
    pub(super) function: String,
    pub(super) level: Level,
    methods: Vec<String>,
    segments: Vec<Segment>,
}

enum Segment {
    /// Compared without regard to case.
    Literal(String),
    Parameter {
        name: String,
        is_number: bool,
        optional: bool,
    },
    /// `{*name}`: all that follows.
    Rest(String),
}

/// What matched, with the route's parameters.
pub(super) struct Found<'a> {
    pub(super) route: &'a Route,
    pub(super) parameters: Vec<(String, String)>,
}

pub(super) fn of(functions: &[Function], prefix: &str) -> Vec<Route> {
    let routes = functions.iter().filter_map(|function| {
        let Trigger::Http { route, methods, level } = &function.trigger else { return None };
        let path = format!("{prefix}/{route}");
        Some(Route {
            function: function.name.clone(),
            level: *level,
            methods: methods.clone(),
            segments: parts(&path).map(segment).collect(),
        })
    });
    routes.collect()
}

/// Finds the route with the most literal segments that takes the method; another method finds nothing.
pub(super) fn find<'a>(routes: &'a [Route], method: &str, path: &str) -> Option<Found<'a>> {
    let takes = |route: &&Route| {
        route.methods.is_empty() || route.methods.iter().any(|m| m.eq_ignore_ascii_case(method))
    };
    let found = routes.iter().filter(takes).filter_map(|route| {
        let parameters = matches(&route.segments, &parts(path).collect::<Vec<_>>())?;
        Some(Found { route, parameters })
    });
    found.max_by_key(|found| {
        let literal = |segment: &&Segment| matches!(segment, Segment::Literal(_));
        found.route.segments.iter().filter(literal).count()
    })
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

fn segment(text: &str) -> Segment {
    let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
        return Segment::Literal(text.to_owned());
    };
    if let Some(name) = inner.strip_prefix('*') {
        return Segment::Rest(name.trim_start_matches('*').to_owned());
    }
    let (inner, optional) = match inner.strip_suffix('?') {
        Some(inner) => (inner, true),
        None => (inner, false),
    };
    let (name, constraint) = inner.split_once(':').unwrap_or((inner, ""));
    let is_number = matches!(constraint, "int" | "long");
    Segment::Parameter { name: name.to_owned(), is_number, optional }
}

fn matches(segments: &[Segment], parts: &[&str]) -> Option<Vec<(String, String)>> {
    let decode = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let mut parameters = Vec::new();
    let mut parts = parts.iter();
    for segment in segments {
        match segment {
            Segment::Literal(text) => {
                parts.next().filter(|part| part.eq_ignore_ascii_case(text))?;
            }
            Segment::Rest(name) => {
                let rest: Vec<&str> = parts.by_ref().copied().collect();
                parameters.push((name.clone(), decode(&rest.join("/"))));
            }
            Segment::Parameter { name, is_number, optional } => match parts.next() {
                Some(part) => {
                    let value = decode(part);
                    if *is_number && value.parse::<i64>().is_err() {
                        return None;
                    }
                    parameters.push((name.clone(), value));
                }
                None if *optional => {}
                None => return None,
            },
        }
    }
    parts.next().is_none().then_some(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(route: &str, path: &str, expected: Option<&[(&str, &str)]>) {
        let segments: Vec<Segment> = parts(route).map(segment).collect();
        let found = matches(&segments, &parts(path).collect::<Vec<_>>());
        let expected = expected.map(|all| {
            all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        });
        assert_eq!(found, expected, "{route} {path}");
    }

    #[test]
    fn route_patterns_match_as_in_azure() {
        check("api/gitlab", "/API/GitLab", Some(&[]));
        check("api/gitlab", "/api/gitlab/more", None);
        check("api/{id}", "/api/a%20b", Some(&[("id", "a b")]));
        check("api/{id:int}", "/api/x", None);
        check("api/{id:int}", "/api/7", Some(&[("id", "7")]));
        check("api/{id?}", "/api", Some(&[]));
        check("api/{id}", "/api", None);
        check("api/{*rest}", "/api/a/b", Some(&[("rest", "a/b")]));
    }
}
