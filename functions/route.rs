//! Matching paths to routes as API Gateway's HTTP APIs do: segment by segment, no trailing slash, parameters decoded.

use crate::{ROUTED, Routed};
use std::collections::HashMap;

/// The methods that a path takes, in alphabetical order; none if it is not served.
pub fn methods(path: &str) -> Vec<&'static str> {
    let routes = ROUTED.iter().flat_map(|routed| routed.all_routes());
    let mut methods: Vec<_> = routes
        .filter(|(_, pattern)| capture(pattern, path).is_some())
        .map(|(method, _)| method)
        .collect();
    methods.sort_unstable();
    methods.dedup();
    methods
}

/// The routes of the endpoint that a method of a path leads to.
pub fn find(method: &str, path: &str) -> Option<&'static Routed> {
    let serves = |routed: &&Routed| {
        let mut routes = routed.all_routes();
        routes.any(|(one, pattern)| one == method && capture(pattern, path).is_some())
    };
    ROUTED.iter().find(serves)
}

/// The values of a pattern's `{parameters}`, if the path fits it.
pub fn capture(pattern: &str, path: &str) -> Option<HashMap<String, String>> {
    let (mut expected, mut actual) = (pattern.split('/'), path.split('/'));
    let mut captured = HashMap::new();
    loop {
        match (expected.next(), actual.next()) {
            (None, None) => return Some(captured),
            (Some(segment), Some(value)) => match segment
                .strip_prefix('{')
                .and_then(|s| s.strip_suffix('}'))
            {
                Some(name) if !value.is_empty() => captured.insert(name.to_owned(), decoded(value)),
                None if segment == value => None,
                _ => return None,
            },
            _ => return None,
        };
    }
}

/// Percent-decoded; bytes that are no UTF-8 are replaced, so that they match nothing that is stored.
fn decoded(value: &str) -> String {
    percent_encoding::percent_decode_str(value)
        .decode_utf8_lossy()
        .into_owned()
}
