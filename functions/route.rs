//! Matching paths to endpoints as API Gateway's HTTP APIs do: a literal segment before a parameter, no trailing slash,
//! parameters decoded.

use crate::{ENDPOINTS, Endpoint};

/// The endpoint for a method and a path, with the values of the path's parameters.
pub fn find(method: &str, path: &str) -> Option<(&'static Endpoint, Vec<(&'static str, String)>)> {
    let routes = ENDPOINTS
        .iter()
        .flat_map(|endpoint| endpoint.routes.iter().map(move |route| (endpoint, route)));
    routes
        .filter(|(_, (m, _))| *m == method)
        .filter_map(|(endpoint, (_, pattern))| Some((endpoint, pattern, capture(pattern, path)?)))
        .min_by_key(|(_, _, captured)| captured.len())
        .map(|(endpoint, _, captured)| (endpoint, captured))
}

/// The methods that a path takes; empty if the path is not served.
pub fn methods(path: &str) -> Vec<&'static str> {
    let routes = ENDPOINTS.iter().flat_map(|endpoint| endpoint.routes);
    let mut methods: Vec<_> = routes
        .filter(|(_, pattern)| capture(pattern, path).is_some())
        .map(|(m, _)| *m)
        .collect();
    methods.sort_unstable();
    methods.dedup();
    methods
}

fn capture(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let (mut expected, mut actual) = (pattern.split('/'), path.split('/'));
    let mut captured = Vec::new();
    loop {
        match (expected.next(), actual.next()) {
            (None, None) => return Some(captured),
            (Some(segment), Some(value)) => {
                match segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
                    Some(name) if !value.is_empty() => captured.push((name, decoded(value))),
                    None if segment == value => {}
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
}

/// Percent-decoded; bytes that are no UTF-8 are replaced, so that they match nothing that is stored.
fn decoded(value: &str) -> String {
    percent_encoding::percent_decode_str(value)
        .decode_utf8_lossy()
        .into_owned()
}
