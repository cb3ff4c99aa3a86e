//! Which operation of a description a request is for.

use percent_encoding::percent_decode_str;

/// A path template, such as `/groups/{id}`.
#[derive(Clone, Debug)]
pub(super) struct Template {
    segments: Vec<Segment>,
    pub(super) text: String,
}

#[derive(Clone, Debug)]
enum Segment {
    Fixed(String),
    Variable(String),
    /// A resource's whole id, which takes one segment or more.
    Scope(String),
}

impl Template {
    pub(super) fn new(text: &str) -> Self {
        let segment = |segment: &str| {
            let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            match name {
                Some("scope") => Segment::Scope("scope".to_owned()),
                Some(name) => Segment::Variable(name.to_owned()),
                None => Segment::Fixed(segment.to_owned()),
            }
        };
        Self { segments: text.split('/').skip(1).map(segment).collect(), text: text.to_owned() }
    }

    /// How many segments are fixed: of two templates that match, the one with more is meant.
    pub(super) fn fixed(&self) -> usize {
        self.segments.iter().filter(|segment| matches!(segment, Segment::Fixed(_))).count()
    }

    /// The values of the variables, decoded, if the path is one of these. Fixed parts may be in any case if `any_case`.
    pub(super) fn read(&self, path: &str, any_case: bool) -> Option<Vec<(String, String)>> {
        let path: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let mut values = Vec::new();
        read(&self.segments, &path, any_case, &mut values).then_some(values)
    }
}

fn read(
    segments: &[Segment],
    path: &[&str],
    any_case: bool,
    values: &mut Vec<(String, String)>,
) -> bool {
    let Some((segment, segments)) = segments.split_first() else { return path.is_empty() };
    match segment {
        Segment::Fixed(text) => path.split_first().is_some_and(|(first, path)| {
            let same = first == text || (any_case && first.eq_ignore_ascii_case(text));
            same && read(segments, path, any_case, values)
        }),
        Segment::Variable(name) => path.split_first().is_some_and(|(first, path)| {
            values.push((name.clone(), decoded(first)));
            read(segments, path, any_case, values)
        }),
        // From the right: what is nested in a scope looks like what follows it.
        Segment::Scope(name) => (1..=path.len()).rev().any(|length| {
            let known = values.len();
            values.push((name.clone(), decoded(&path[..length].join("/"))));
            let is = read(segments, &path[length..], any_case, values);
            if !is {
                values.truncate(known);
            }
            is
        }),
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}
