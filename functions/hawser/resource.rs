//! This deployment as a protected resource: the addresses that MCP clients call and ask tokens for, and what tells them where to
//! sign in (Inbound 1, RFC 9728).

use crate::http::{Request, header, public_base};
use crate::route::capture;
use hawser_core::App;
use url::Url;

/// Where the metadata of a resource is: before its path.
pub const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";
/// The paths at which servers are called.
const CALLED: [&str; 2] = ["/mcp/{server}", "/mcp/v1/{name}/mcp"];

/// The bases under which this deployment is reached, the first of them the one that it is named by.
pub fn bases(app: &App, request: &Request) -> Vec<String> {
    if app.public_urls.is_empty() {
        public_base(app, request).into_iter().collect()
    } else {
        app.public_urls.clone()
    }
}

/// The base that a client has used: that with the host of the request, else the first. What a client says of the host is only
/// compared.
pub fn base_of(app: &App, request: &Request) -> Option<String> {
    let bases = bases(app, request);
    let host = header(request, "host").unwrap_or_default();
    let is_of_host = |base: &&String| {
        let authority = base.split_once("//").map(|(_, rest)| rest);
        let authority = authority.and_then(|rest| rest.split('/').next());
        authority.is_some_and(|own| own.eq_ignore_ascii_case(&host))
    };
    let used = bases.iter().find(is_of_host).or(bases.first());
    used.cloned()
}

/// The resource that a client asks a token for, as its tokens name it: the address of a server, whether there is one or not, or
/// the whole deployment. `None` if it is none of this deployment's (RFC 8707).
pub fn of_deployment(bases: &[String], asked: &str) -> Option<String> {
    bases.iter().find_map(|base| {
        let path = asked.strip_prefix(base.as_str())?;
        // Some libraries add a slash to a host alone.
        if path.is_empty() || path == "/" {
            return Some(base.clone());
        }
        let is_plain = path.bytes().all(|b| b.is_ascii_graphic()) && !path.contains(['?', '#']);
        let is_called = CALLED
            .iter()
            .any(|pattern| capture(pattern, path).is_some());
        (is_plain && is_called && path.len() <= 1024).then(|| asked.to_owned())
    })
}

/// The path of a server's address in a resource, if it is not the whole deployment.
pub fn path_of<'a>(bases: &[String], resource: &'a str) -> Option<&'a str> {
    let path = bases
        .iter()
        .find_map(|base| resource.strip_prefix(base.as_str()))?;
    (!path.is_empty()).then_some(path)
}

/// Where the metadata of what a request calls is, if there is any and that can be told: without a configured base, what is reached
/// through the REST API does not know the address of the HTTP API.
pub fn metadata_url(app: &App, request: &Request) -> Option<String> {
    let path = request.uri().path();
    if !CALLED.iter().any(|one| capture(one, path).is_some()) {
        return None;
    }
    let base = base_of(app, request).filter(|_| !app.public_urls.is_empty())?;
    let url = Url::parse(&base).ok()?;
    let (origin, under) = (url.origin().ascii_serialization(), url.path());
    // RFC 9728 3.1: between the host and the path.
    let under = under.trim_end_matches('/');
    Some(format!("{origin}{METADATA_PATH}{under}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_resources_are_of_this_deployment() {
        let bases = [
            "https://h.example".to_owned(),
            "http://127.0.0.1:1".to_owned(),
        ];
        for (asked, named) in [
            ("https://h.example", Some("https://h.example")),
            ("https://h.example/", Some("https://h.example")),
            (
                "https://h.example/mcp/wiki",
                Some("https://h.example/mcp/wiki"),
            ),
            ("http://127.0.0.1:1/mcp/7", Some("http://127.0.0.1:1/mcp/7")),
            (
                "https://h.example/mcp/v1/a%20b/mcp",
                Some("https://h.example/mcp/v1/a%20b/mcp"),
            ),
            ("https://h.example/mcp", None),
            ("https://h.example/mcp/wiki/", None),
            ("https://h.example/mcp/wiki?x", None),
            ("https://h.example/mcp/wiki#x", None),
            ("https://h.example.evil/mcp/wiki", None),
            ("https://h.example@evil/mcp/wiki", None),
            ("https://H.example/mcp/wiki", None),
            ("http://h.example/mcp/wiki", None),
            ("http://127.0.0.1:10/mcp/wiki", None),
            ("https://other.example/mcp/wiki", None),
            ("", None),
        ] {
            assert_eq!(of_deployment(&bases, asked).as_deref(), named, "{asked}");
        }
    }
}
