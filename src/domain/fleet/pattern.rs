//! Paths with wildcards: `*` is one segment, `**` one or more. Case is ignored, as GitLab does.

use std::fmt;

/// A pattern over the full paths of groups or projects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Lower case.
    Literal(String),
    One,
    /// Any number of segments, also none. `**` is `One` and this.
    Rest,
}

impl Pattern {
    /// Accepts segments of GitLab paths, `*` and `**`; a star inside a segment has no meaning and is refused.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        for segment in text.split('/') {
            match segment {
                "*" => parts.push(Part::One),
                "**" => parts.extend([Part::One, Part::Rest]),
                _ if is_segment(segment) => parts.push(Part::Literal(segment.to_lowercase())),
                _ if segment.contains('*') => {
                    return Err(format!(
                        "`{segment}` mixes a star with other letters; `*` is one whole segment, `**` one or more"
                    ));
                }
                _ => {
                    return Err(format!(
                        "`{text}` is no path of GitLab, with `*` or `**` as segments"
                    ));
                }
            }
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn is_literal(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    pub fn matches(&self, path: &str) -> bool {
        let path = literal(path);
        intersects(&self.parts, &path)
    }

    /// The segments before the first wildcard, in lower case.
    pub fn literal_prefix(&self) -> String {
        let literals = self.parts.iter().map_while(|part| match part {
            Part::Literal(text) => Some(text.as_str()),
            Part::One | Part::Rest => None,
        });
        literals.collect::<Vec<_>>().join("/")
    }

    /// Whether some path matches both.
    pub fn meets(&self, other: &Self) -> bool {
        intersects(&self.parts, &other.parts)
    }

    /// Whether some path that matches `self` lies strictly below one that matches `other`.
    pub fn reaches_below(&self, other: &Self) -> bool {
        let mut below = other.parts.clone();
        below.extend([Part::One, Part::Rest]);
        intersects(&self.parts, &below)
    }

    /// Whether some path strictly below `path` matches.
    pub fn may_match_below(&self, path: &str) -> bool {
        let mut below = literal(path);
        below.extend([Part::One, Part::Rest]);
        intersects(&self.parts, &below)
    }

    /// Some paths that match: wildcards filled with a segment that nobody else would write, `**` with one and two.
    pub(super) fn samples(&self) -> Vec<String> {
        let fill = |rest: usize| {
            let mut segments = Vec::new();
            for part in &self.parts {
                match part {
                    Part::Literal(text) => segments.push(text.clone()),
                    Part::One => segments.push("-any-".to_owned()),
                    Part::Rest => segments.extend(std::iter::repeat_n("-any-".to_owned(), rest)),
                }
            }
            segments.join("/")
        };
        if self.parts.contains(&Part::Rest) { vec![fill(0), fill(1)] } else { vec![fill(0)] }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a text can be one segment of a GitLab path.
fn is_segment(text: &str) -> bool {
    let known = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.len() <= 255 && text.chars().all(known)
}

/// Whether a text is a full path without wildcards.
pub(super) fn is_path(text: &str) -> bool {
    text.split('/').all(is_segment)
}

fn literal(path: &str) -> Vec<Part> {
    path.split('/').map(|segment| Part::Literal(segment.to_lowercase())).collect()
}

/// Whether some sequence of segments fits both. A table of `left × right` cells, so many `**` cost nothing.
fn intersects(left: &[Part], right: &[Part]) -> bool {
    let width = right.len() + 1;
    let mut fits = vec![false; (left.len() + 1) * width];
    for i in (0..=left.len()).rev() {
        for j in (0..=right.len()).rev() {
            let at = |i: usize, j: usize| fits[i * width + j];
            fits[i * width + j] = match (left.get(i), right.get(j)) {
                (None, None) => true,
                (Some(Part::Rest), None) => at(i + 1, j),
                (None, Some(Part::Rest)) => at(i, j + 1),
                // A rest ends here, or takes one more of what stands on the other side.
                (Some(Part::Rest), Some(_)) | (Some(_), Some(Part::Rest)) => {
                    at(i + 1, j) || at(i, j + 1)
                }
                (Some(Part::Literal(a)), Some(Part::Literal(b))) => a == b && at(i + 1, j + 1),
                (Some(Part::One), Some(Part::One | Part::Literal(_)))
                | (Some(Part::Literal(_)), Some(Part::One)) => at(i + 1, j + 1),
                (Some(Part::One | Part::Literal(_)), None)
                | (None, Some(Part::One | Part::Literal(_))) => false,
            };
        }
    }
    fits[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap()
    }

    #[test]
    fn a_star_is_one_segment_and_two_are_one_or_more() {
        for (text, path, expected) in [
            ("platform/*", "platform/network", true),
            ("platform/*", "Platform/NETWORK", true),
            ("platform/*", "platform", false),
            ("platform/*", "platform/network/dns", false),
            ("platform/**", "platform/network/dns", true),
            ("platform/**", "platform/network", true),
            ("platform/**", "platform", false),
            ("platform/**/dns", "platform/dns", false),
            ("platform/**/dns", "platform/a/dns", true),
            ("platform/**/dns", "platform/a/b/dns", true),
            ("platform/**/dns", "platform/a/dns/b", false),
            ("*", "platform", true),
            ("platform", "platforms", false),
            ("**/**", "a", false),
            ("**/**", "a/b", true),
        ] {
            assert_eq!(pattern(text).matches(path), expected, "{text} on {path}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "/", "a//b", "a/", "/a", "a/b*", "***", "a b", "a/{x}"] {
            assert!(Pattern::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn two_patterns_meet_where_a_path_fits_both() {
        for (left, right, meet, below) in [
            ("a/*", "a/b", true, false),
            ("a/*", "*/b", true, false),
            ("a/*", "b/*", false, false),
            ("a/**", "a/*/c", true, true),
            ("a/**", "a/b", true, true),
            ("a/b/c", "a/*", false, true),
            ("a/*", "a", false, true),
            ("a", "a/*", false, false),
        ] {
            assert_eq!(pattern(left).meets(&pattern(right)), meet, "{left} meets {right}");
            assert_eq!(pattern(left).reaches_below(&pattern(right)), below, "{left} below {right}");
        }
    }

    /// The obvious reading, slow: tries every length for `**`.
    fn naive(pattern: &[&str], path: &[&str]) -> bool {
        match pattern.split_first() {
            None => path.is_empty(),
            Some((&"**", rest)) => (1..=path.len()).any(|taken| naive(rest, &path[taken..])),
            Some((&"*", rest)) => !path.is_empty() && naive(rest, &path[1..]),
            Some((literal, rest)) => {
                path.first().is_some_and(|first| first.eq_ignore_ascii_case(literal))
                    && naive(rest, &path[1..])
            }
        }
    }

    fn segments(of: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
        proptest::collection::vec(proptest::sample::select(of), 1..6)
    }

    proptest! {
        #[test]
        fn matching_is_the_obvious_reading(
            parts in segments(&["a", "b", "*", "**"]),
            path in segments(&["a", "A", "b", "c"]),
        ) {
            let expected = naive(&parts, &path);
            prop_assert_eq!(pattern(&parts.join("/")).matches(&path.join("/")), expected);
        }

        #[test]
        fn patterns_meet_if_a_path_matches_both(
            left in segments(&["a", "b", "*", "**"]),
            right in segments(&["a", "b", "*", "**"]),
            path in segments(&["a", "b", "c"]),
        ) {
            let [left, right] = [left, right].map(|parts| pattern(&parts.join("/")));
            let path = path.join("/");
            prop_assert_eq!(left.meets(&right), right.meets(&left));
            if left.matches(&path) && right.matches(&path) {
                prop_assert!(left.meets(&right));
            }
            if left.matches(&format!("{path}/x")) {
                prop_assert!(left.may_match_below(&path));
            }
        }

        #[test]
        fn a_sample_matches_its_pattern(parts in segments(&["a", "b", "*", "**"])) {
            let pattern = pattern(&parts.join("/"));
            for sample in pattern.samples() {
                prop_assert!(pattern.matches(&sample), "{sample}");
            }
        }
    }
}
