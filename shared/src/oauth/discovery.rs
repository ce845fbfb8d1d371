//! Which authorization servers protect an MCP server (RFC 9728), and what they say about themselves (RFC 8414, OpenID
//! Connect Discovery; MCP authorization 2).
//!
//! The first document that exists decides. If one place does not answer, a document at the next place of the same kind
//! is still used, but none of another kind: the place that was not reached may say otherwise.

use super::is_outage;
use super::members::Members;
use crate::egress::{self, Egress, Outgoing, TOTAL_TIMEOUT};
use crate::mcp;
use crate::oauth::challenge::{Challenge, bearer};
use reqwest::Method;
use serde_json::json;
use tokio::time::timeout;
use url::Url;

const DISCOVER: &str = "server/discover";

/// What an MCP server says about its protection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protected {
    /// The resource indicator, byte for byte (MCP authorization 2.5). The server's address, if it publishes no
    /// metadata.
    pub resource: String,
    /// The authorization servers, byte for byte, in the server's order; possibly none. If the server publishes no
    /// metadata, its origin (revision 2025-03-26); that origin's own metadata shows whether it is one.
    pub issuers: Vec<String>,
    /// The scopes of the challenge, or else all that the metadata lists; `None` to send none (MCP authorization row
    /// 17).
    pub scopes: Option<Vec<String>>,
}

/// What an authorization server says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The issuer identifier, byte for byte.
    pub issuer: String,
    /// Where the browser goes.
    pub authorization_endpoint: String,
    /// Where codes and refresh tokens are presented.
    pub token_endpoint: String,
    /// Where clients register (RFC 7591).
    pub registration_endpoint: Option<String>,
    /// Where tokens are revoked (RFC 7009).
    pub revocation_endpoint: Option<String>,
    /// The scopes it lists (MCP authorization row 13).
    pub scopes_supported: Option<Vec<String>>,
    /// The methods that clients may authenticate by at the token endpoint; absent means HTTP Basic.
    pub token_auth_methods: Option<Vec<String>>,
    /// The methods that clients may authenticate by at the revocation endpoint, a list of its own (RFC 8414 2).
    pub revocation_auth_methods: Option<Vec<String>>,
    /// Whether it says that it supports PKCE with S256 (MCP authorization row 15).
    pub supports_s256: bool,
    /// Whether every callback carries `iss` (MCP authorization row 20).
    pub iss_advertised: bool,
    /// Whether it takes the address of a metadata document as a client id (MCP authorization row 9).
    pub takes_metadata_documents: bool,
}

/// Why there is no metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// None of the places has metadata.
    NotFound,
    /// There is metadata, and it must not be used.
    Unusable,
    /// The resource metadata is about another resource (MCP authorization row 6).
    ResourceMismatch,
    /// The issuer's metadata is about another issuer (MCP authorization row 5).
    IssuerMismatch,
    /// A place did not answer. A later try may succeed.
    TryLater,
}

impl From<egress::Failure> for Failure {
    fn from(failure: egress::Failure) -> Self {
        match failure {
            egress::Failure::Unreachable => Self::TryLater,
            egress::Failure::Refused | egress::Failure::TooLarge => Self::Unusable,
        }
    }
}

/// Asks an MCP server, without a token, which authorization servers protect it. Then reads its metadata at the place
/// that the challenge names, or else at the well-known places (MCP authorization rows 1 to 3, 6 and 17). A server that
/// answers and publishes no metadata follows revision 2025-03-26: its origin is its authorization server.
///
/// # Errors
/// [`Failure`]. [`Failure::ResourceMismatch`] for metadata of another resource: a server could name the metadata of
/// another server in order to get that server's tokens.
pub async fn protected_resource(egress: &Egress, server_url: &str) -> Result<Protected, Failure> {
    let server = egress.check(server_url)?;
    let (is_there, challenge) = ask(egress, server_url).await?;
    let named = challenge.resource_metadata.as_deref();
    let named = named.and_then(|place| server.join(place).ok());
    let mut places: Vec<String> = named.into_iter().map(String::from).collect();
    for path in [server.path(), "/"] {
        let place = well_known(&server, "oauth-protected-resource", path, server.query());
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let document = match first(egress, &places).await {
        Err(Failure::NotFound) if is_there => {
            return Ok(Protected {
                resource: server_url.to_owned(),
                issuers: vec![server.origin().ascii_serialization()],
                scopes: challenge.scopes,
            });
        }
        found => found?,
    };
    let metadata = Members::parse(&document).ok_or(Failure::Unusable)?;
    let resource = metadata.text("resource").ok_or(Failure::Unusable)?;
    if !names(&resource, &server) {
        return Err(Failure::ResourceMismatch);
    }
    Ok(Protected {
        resource,
        issuers: metadata.list("authorization_servers").unwrap_or_default(),
        scopes: challenge.scopes.or(metadata.list("scopes_supported")),
    })
}

/// The metadata of an authorization server (MCP authorization rows 4, 5, 23 and 24). The caller decides whether a
/// consent may begin without [`Issuer::supports_s256`].
///
/// # Errors
/// [`Failure`]. [`Failure::Unusable`] for metadata whose `response_types_supported` lacks `code`, or with an endpoint
/// that [`Egress::check`] refuses. An optional endpoint that is no web address counts as absent.
pub async fn issuer(egress: &Egress, issuer: &str) -> Result<Issuer, Failure> {
    let url = egress.check(issuer)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Failure::Unusable);
    }
    let document = first(egress, &issuer_places(&url)).await?;
    let metadata = Members::parse(&document).ok_or(Failure::Unusable)?;
    let required = |name| metadata.text(name).ok_or(Failure::Unusable);
    let is_web = |text: &String| Url::parse(text).is_ok_and(|url| url.scheme().starts_with("http"));
    let optional = |name| metadata.text(name).filter(is_web);
    let lists = |name, word: &str| {
        let list = metadata.list(name)?;
        Some(list.iter().any(|item| item == word))
    };
    let found = Issuer {
        issuer: required("issuer")?,
        authorization_endpoint: required("authorization_endpoint")?,
        token_endpoint: required("token_endpoint")?,
        registration_endpoint: optional("registration_endpoint"),
        revocation_endpoint: optional("revocation_endpoint"),
        scopes_supported: metadata.list("scopes_supported"),
        token_auth_methods: metadata.list("token_endpoint_auth_methods_supported"),
        revocation_auth_methods: metadata.list("revocation_endpoint_auth_methods_supported"),
        supports_s256: lists("code_challenge_methods_supported", "S256") == Some(true),
        iss_advertised: metadata.flag("authorization_response_iss_parameter_supported"),
        takes_metadata_documents: metadata.flag("client_id_metadata_document_supported"),
    };
    let endpoints = [
        Some(&found.authorization_endpoint),
        Some(&found.token_endpoint),
        found.registration_endpoint.as_ref(),
        found.revocation_endpoint.as_ref(),
    ];
    for endpoint in endpoints.into_iter().flatten() {
        if egress.check(endpoint)?.fragment().is_some() {
            return Err(Failure::Unusable);
        }
    }
    if !is_same_issuer(&found.issuer, issuer) {
        return Err(Failure::IssuerMismatch);
    }
    if lists("response_types_supported", "code") == Some(false) {
        return Err(Failure::Unusable);
    }
    Ok(found)
}

/// Whether two spellings name one issuer, for looking it up: they are the same text, or a bare host with and without
/// the final slash, which many libraries add. No other difference is ignored. `iss` is compared with the metadata's own
/// spelling.
pub fn is_same_issuer(one: &str, other: &str) -> bool {
    let bare = |name: &'_ str| {
        let url = Url::parse(name).ok()?;
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        is_bare.then(|| name.strip_suffix('/').unwrap_or(name).to_owned())
    };
    one == other || bare(one).is_some_and(|one| bare(other) == Some(one))
}

/// Whether anything answers at an address, and the challenge to a request without a token. Only the head of the answer
/// is read: a server that needs no token may stream for ever.
async fn ask(egress: &Egress, server_url: &str) -> Result<(bool, Challenge), Failure> {
    let body =
        json!({"jsonrpc": "2.0", "id": 1, "method": DISCOVER, "params": {"_meta": mcp::meta()}});
    let request = Outgoing {
        method: Method::POST,
        url: server_url,
        headers: mcp::headers(DISCOVER, Some(mcp::STATELESS)),
        body: body.to_string().into_bytes(),
    };
    let answer = timeout(TOTAL_TIMEOUT, egress.open(request))
        .await
        .map_err(|_| Failure::TryLater)??;
    match answer.status().as_u16() {
        401 => Ok((true, bearer(answer.headers()).unwrap_or_default())),
        404 | 410 => Ok((false, Challenge::default())),
        status if is_outage(status) => Err(Failure::TryLater),
        _ => Ok((true, Challenge::default())),
    }
}

/// The document at the first of `places` that has one, within the time limit of one exchange. A page that is no JSON
/// object does not count as metadata.
///
/// # Errors
/// [`Failure::NotFound`] when no place has a document; [`Failure::TryLater`] when none has, but a place did not answer;
/// [`Failure::Unusable`] when a place may not be asked or answers with a redirect that is not followed.
async fn first(egress: &Egress, places: &[String]) -> Result<String, Failure> {
    let search = async {
        let mut none = Failure::NotFound;
        for place in places {
            let fetched = match egress.get(place, "application/json").await {
                Ok(fetched) => fetched,
                Err(egress::Failure::Unreachable) => {
                    none = Failure::TryLater;
                    continue;
                }
                Err(refused) => return Err(refused.into()),
            };
            match fetched.status {
                200..=299 => {
                    let document = fetched.text();
                    if Members::parse(&document).is_some() {
                        return Ok(document.into_owned());
                    }
                }
                status if is_outage(status) => none = Failure::TryLater,
                400.. => {}
                _ => return Err(Failure::Unusable),
            }
        }
        Err(none)
    };
    timeout(TOTAL_TIMEOUT, search)
        .await
        .unwrap_or(Err(Failure::TryLater))
}

/// `/.well-known/<name>` between the host and the path; a path of one slash counts as empty (RFC 9728 3.1, RFC 8414
/// 3.1).
fn well_known(url: &Url, name: &str, path: &str, query: Option<&str>) -> String {
    let path = if path == "/" { "" } else { path };
    at_path(
        url,
        &format!("/.well-known/{name}{path}"),
        query.filter(|_| !path.is_empty()),
    )
}

fn at_path(url: &Url, path: &str, query: Option<&str>) -> String {
    let mut url = url.clone();
    url.set_path(path);
    url.set_query(query);
    url.set_fragment(None);
    url.into()
}

/// Where an issuer's metadata may be: these places and no others (MCP authorization row 4). A document at the root does
/// not speak for an issuer with a path.
fn issuer_places(issuer: &Url) -> Vec<String> {
    let path = issuer.path().strip_suffix('/').unwrap_or(issuer.path());
    let mut places = vec![
        well_known(issuer, "oauth-authorization-server", path, None),
        well_known(issuer, "openid-configuration", path, None),
    ];
    if !path.is_empty() {
        places.push(at_path(
            issuer,
            &format!("{path}/.well-known/openid-configuration"),
            None,
        ));
    }
    places
}

/// Whether `resource` names the server: the same URL, or a path above it on the same origin (MCP authorization row 6).
fn names(resource: &str, server: &Url) -> bool {
    let Ok(resource) = Url::parse(resource) else {
        return false;
    };
    let is_above = || {
        let below = server.path().strip_prefix(resource.path());
        let is_whole =
            |rest: &str| rest.is_empty() || rest.starts_with('/') || resource.path().ends_with('/');
        below.is_some_and(is_whole)
    };
    resource.fragment().is_none()
        && resource.username().is_empty()
        && resource.password().is_none()
        && resource.origin() == server.origin()
        && match resource.query() {
            None => is_above(),
            query => query == server.query() && resource.path() == server.path(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::testing::{Server, body, header, reply};
    use crate::oauth::members::tests::anything;
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;
    use serde_json::Value;

    /// A server whose answer depends on the path alone.
    fn at(answer: impl Fn(&str, &str) -> String + Send + 'static) -> Server {
        Server::start(move |base, request| {
            let target = request.split(' ').nth(1).unwrap();
            answer(base, target)
        })
    }

    fn paths(server: &Server) -> Vec<String> {
        let line = |request: &String| request.split(" HTTP").next().unwrap().to_owned();
        server.requests().iter().map(line).collect()
    }

    fn json(value: &Value) -> String {
        reply(
            200,
            "Content-Type: application/json\r\n",
            &value.to_string(),
        )
    }

    async fn protected(server: &Server, path: &str) -> Result<Protected, Failure> {
        protected_resource(
            &Egress::new(true).unwrap(),
            &format!("{}{path}", server.url),
        )
        .await
    }

    #[test]
    fn which_resources_name_a_server() {
        let server = Url::parse("https://h/mcp/a?x=1").unwrap();
        for resource in [
            "https://h/mcp/a?x=1",
            "https://h/mcp/a",
            "https://h/mcp",
            "https://h/mcp/",
            "https://h/",
            "https://h",
            "HTTPS://H:443",
        ] {
            assert!(names(resource, &server), "{resource}");
        }
        for resource in [
            "https://h/mcp/a?x=2",
            "https://h/mcp?x=1",
            "https://h/mcp/a/",
            "https://h/mcp/a/b",
            "https://h/mc",
            "https://h/MCP",
            "https://h/mcp/a#f",
            "https://h#",
            "http://h/mcp",
            "https://h:8443/mcp",
            "https://x.h/mcp",
            "https://u@h/mcp",
            "urn:mcp",
            "h/mcp",
            "",
        ] {
            assert!(!names(resource, &server), "{resource}");
        }
        assert!(!names(
            "https://h/mcp/",
            &Url::parse("https://h/mcp").unwrap()
        ));
        assert!(!names(
            "https://h/mcp",
            &Url::parse("https://h/mcp2").unwrap()
        ));
    }

    #[test]
    fn where_metadata_is_looked_for() {
        let places = |issuer: &str| issuer_places(&Url::parse(issuer).unwrap());
        for issuer in ["https://as.example", "https://as.example/"] {
            assert_eq!(
                places(issuer),
                [
                    "https://as.example/.well-known/oauth-authorization-server",
                    "https://as.example/.well-known/openid-configuration",
                ]
            );
        }
        for issuer in ["https://as.example/a/b", "https://as.example/a/b/"] {
            assert_eq!(
                places(issuer),
                [
                    "https://as.example/.well-known/oauth-authorization-server/a/b",
                    "https://as.example/.well-known/openid-configuration/a/b",
                    "https://as.example/a/b/.well-known/openid-configuration",
                ]
            );
        }
    }

    #[tokio::test]
    async fn the_server_is_asked_without_a_token() {
        let server = at(|base, _| json(&json!({"resource": base})));
        protected(&server, "/mcp").await.unwrap();
        let request = &server.requests()[0];
        assert!(request.starts_with("POST /mcp HTTP/1.1\r\n"));
        for (name, value) in [
            ("accept", Some("application/json, text/event-stream")),
            ("content-type", Some("application/json")),
            ("mcp-protocol-version", Some("2026-07-28")),
            ("mcp-method", Some("server/discover")),
            ("authorization", None),
        ] {
            assert_eq!(header(request, name), value, "{name}");
        }
        let sent: Value = serde_json::from_str(body(request)).unwrap();
        assert_eq!(sent["method"], "server/discover");
        assert_eq!(
            sent["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"],
            "2026-07-28"
        );
    }

    #[tokio::test]
    async fn the_challenge_comes_first_and_its_scopes_count() {
        let server = at(|base, target| match target {
            "/mcp" => {
                let challenge = format!(
                    "WWW-Authenticate: Bearer scope=\"b c\", resource_metadata=\"{base}/meta\"\r\n"
                );
                reply(401, &challenge, "")
            }
            "/meta" => json(&json!({
                "resource": base, "authorization_servers": ["https://as.example", "https://other.example/"],
                "scopes_supported": ["a"],
            })),
            _ => reply(500, "", ""),
        });
        let found = protected(&server, "/mcp").await.unwrap();
        assert_eq!(found.resource, server.url);
        assert_eq!(
            found.issuers,
            ["https://as.example", "https://other.example/"]
        );
        assert_eq!(found.scopes, Some(vec!["b".to_owned(), "c".to_owned()]));
        assert_eq!(paths(&server), ["POST /mcp", "GET /meta"]);
    }

    #[tokio::test]
    async fn every_place_is_tried_in_order() {
        let server = at(|base, target| match target {
            "/a/mcp?k=1" => {
                let challenge =
                    format!("WWW-Authenticate: Bearer resource_metadata=\"{base}/meta\"\r\n");
                reply(401, &challenge, "")
            }
            "/meta" => reply(404, "", ""),
            "/.well-known/oauth-protected-resource/a/mcp?k=1" => reply(200, "", "<html>"),
            "/.well-known/oauth-protected-resource" => {
                json(&json!({"resource": format!("{base}/a"), "scopes_supported": ["a"]}))
            }
            _ => reply(500, "", ""),
        });
        let found = protected(&server, "/a/mcp?k=1").await.unwrap();
        assert_eq!(found.scopes, Some(vec!["a".to_owned()]));
        assert!(found.issuers.is_empty());
        assert_eq!(
            paths(&server),
            [
                "POST /a/mcp?k=1",
                "GET /meta",
                "GET /.well-known/oauth-protected-resource/a/mcp?k=1",
                "GET /.well-known/oauth-protected-resource",
            ]
        );
    }

    #[tokio::test]
    async fn a_server_without_metadata_is_protected_by_its_origin() {
        let bare = at(|_, target| match target {
            "/" | "/a/mcp" => reply(401, "WWW-Authenticate: Bearer scope=\"a b\"\r\n", ""),
            _ => reply(404, "", ""),
        });
        for path in ["", "/a/mcp"] {
            let expected = Protected {
                resource: format!("{}{path}", bare.url),
                issuers: vec![bare.url.clone()],
                scopes: Some(vec!["a".to_owned(), "b".to_owned()]),
            };
            assert_eq!(protected(&bare, path).await, Ok(expected));
        }
        assert_eq!(
            paths(&bare),
            [
                "POST /",
                "GET /.well-known/oauth-protected-resource",
                "POST /a/mcp",
                "GET /.well-known/oauth-protected-resource/a/mcp",
                "GET /.well-known/oauth-protected-resource",
            ]
        );
    }

    #[tokio::test]
    async fn nothing_is_protected_where_nothing_is() {
        for status in [404, 410] {
            let nothing = at(move |_, _| reply(status, "", ""));
            assert_eq!(protected(&nothing, "").await, Err(Failure::NotFound));
            assert_eq!(
                paths(&nothing),
                ["POST /", "GET /.well-known/oauth-protected-resource"]
            );
        }
    }

    #[tokio::test]
    async fn an_outage_at_one_place_does_not_hide_the_next() {
        for status in [0, 408, 429, 500, 502, 503] {
            let broken = move || match status {
                0 => String::new(),
                status => reply(status, "", ""),
            };
            let server = at(move |base, target| match target {
                "/mcp" => reply(404, "", ""),
                "/.well-known/oauth-protected-resource" => json(&json!({"resource": base})),
                _ => broken(),
            });
            assert!(protected(&server, "/mcp").await.is_ok(), "{status}");
            // No place has a document, and one did not answer: the origin is not taken instead.
            for broken_first in [true, false] {
                let server = at(move |_, target| match target {
                    "/mcp" => reply(404, "", ""),
                    "/.well-known/oauth-protected-resource" if broken_first => reply(404, "", ""),
                    "/.well-known/oauth-protected-resource/mcp" if !broken_first => {
                        reply(404, "", "")
                    }
                    _ => broken(),
                });
                assert_eq!(protected(&server, "/mcp").await, Err(Failure::TryLater));
                assert_eq!(server.requests().len(), 3);
            }
            // The server itself does not answer: what its challenge would have said is unknown.
            let down = at(move |_, _| broken());
            assert_eq!(protected(&down, "/mcp").await, Err(Failure::TryLater));
            assert_eq!(down.requests().len(), 1);
            let issuer = at(move |base, target| match target {
                "/.well-known/openid-configuration" => json(&metadata(base)),
                _ => broken(),
            });
            assert!(issuer_of(&issuer, "").await.is_ok(), "{status}");
            let another = at(move |_, target| match target {
                "/.well-known/openid-configuration" => json(&metadata("https://other.example")),
                _ => broken(),
            });
            assert_eq!(issuer_of(&another, "").await, Err(Failure::IssuerMismatch));
        }
    }

    #[tokio::test]
    async fn metadata_that_must_not_be_used_ends_the_search() {
        for (metadata, failure) in [
            (
                json!({"resource": "https://other.example"}),
                Failure::ResourceMismatch,
            ),
            (
                json!({"authorization_servers": ["https://as.example"]}),
                Failure::Unusable,
            ),
            (json!({"resource": 1}), Failure::Unusable),
            (json!({}), Failure::Unusable),
        ] {
            let server = at(move |_, target| match target {
                "/mcp" => reply(401, "", ""),
                _ => json(&metadata),
            });
            assert_eq!(protected(&server, "/mcp").await, Err(failure));
            assert_eq!(server.requests().len(), 2);
        }
    }

    #[tokio::test]
    async fn no_redirect_of_the_question_and_none_to_the_inside() {
        let inside = at(|_, _| reply(200, "", "{}"));
        let port = inside.url.rsplit(':').next().unwrap().to_owned();
        let server = at(move |_, target| match target {
            "/mcp" => reply(307, "Location: //other.example/elsewhere\r\n", ""),
            _ => reply(302, &format!("Location: http://0.0.0.0:{port}/\r\n"), ""),
        });
        assert_eq!(protected(&server, "/mcp").await, Err(Failure::Unusable));
        assert_eq!(
            paths(&server),
            ["POST /mcp", "GET /.well-known/oauth-protected-resource/mcp"]
        );
        let port = inside.url.rsplit(':').next().unwrap().to_owned();
        let naming = at(move |_, _| {
            let challenge = format!(
                "WWW-Authenticate: Bearer resource_metadata=\"http://[::ffff:127.0.0.1]:{port}/\"\r\n"
            );
            reply(401, &challenge, "")
        });
        assert_eq!(protected(&naming, "/mcp").await, Err(Failure::Unusable));
        assert_eq!(inside.connections(), 0);
        let egress = Egress::new(false).unwrap();
        assert_eq!(
            protected_resource(&egress, &server.url).await,
            Err(Failure::Unusable)
        );
    }

    fn metadata(issuer: &str) -> Value {
        json!({
            "issuer": issuer, "authorization_endpoint": "https://as.example/authorize?x=1",
            "token_endpoint": "https://as.example/token", "code_challenge_methods_supported": ["plain", "S256"],
        })
    }

    async fn issuer_of(server: &Server, path: &str) -> Result<Issuer, Failure> {
        issuer(
            &Egress::new(true).unwrap(),
            &format!("{}{path}", server.url),
        )
        .await
    }

    #[tokio::test]
    async fn issuer_metadata_is_kept_as_it_is_spelled() {
        let server = at(|base, target| match target {
            "/.well-known/openid-configuration/t" => {
                let mut all = metadata(&format!("{base}/t"));
                all["registration_endpoint"] = "https://as.example".into();
                all["revocation_endpoint"] = "https://as.example/revoke".into();
                all["scopes_supported"] = json!(["offline_access"]);
                all["response_types_supported"] = json!(["code", "code id_token"]);
                all["token_endpoint_auth_methods_supported"] = json!(["none"]);
                all["revocation_endpoint_auth_methods_supported"] = json!(["client_secret_post"]);
                all["authorization_response_iss_parameter_supported"] = true.into();
                all["client_id_metadata_document_supported"] = true.into();
                json(&all)
            }
            _ => reply(404, "", ""),
        });
        let expected = Issuer {
            issuer: format!("{}/t", server.url),
            authorization_endpoint: "https://as.example/authorize?x=1".to_owned(),
            token_endpoint: "https://as.example/token".to_owned(),
            registration_endpoint: Some("https://as.example".to_owned()),
            revocation_endpoint: Some("https://as.example/revoke".to_owned()),
            scopes_supported: Some(vec!["offline_access".to_owned()]),
            token_auth_methods: Some(vec!["none".to_owned()]),
            revocation_auth_methods: Some(vec!["client_secret_post".to_owned()]),
            supports_s256: true,
            iss_advertised: true,
            takes_metadata_documents: true,
        };
        assert_eq!(issuer_of(&server, "/t").await, Ok(expected));
        let nowhere = at(|_, _| reply(403, "", ""));
        assert_eq!(issuer_of(&nowhere, "/t").await, Err(Failure::NotFound));
        assert_eq!(nowhere.requests().len(), 3);
    }

    #[tokio::test]
    async fn the_final_slash_of_a_host_alone_is_no_difference() {
        for (asked, said, is_same) in [
            ("", "", true),
            ("/", "/", true),
            ("", "/", true),
            ("/", "", true),
            ("", "//", false),
            ("/t", "/t", true),
            ("/t", "/t/", false),
            ("/t/", "/t", false),
            ("/t", "", false),
        ] {
            let server = at(move |base, _| json(&metadata(&format!("{base}{said}"))));
            let found = issuer_of(&server, asked).await;
            assert_eq!(found.is_ok(), is_same, "{asked:?} {said:?}");
            match found {
                Ok(found) => assert_eq!(found.issuer, format!("{}{said}", server.url)),
                Err(failure) => assert_eq!(failure, Failure::IssuerMismatch),
            }
            assert_eq!(server.requests().len(), 1);
        }
        for (one, other) in [
            ("https://as.example", "HTTPS://AS.EXAMPLE/"),
            ("https://as.example", "https://as.example:443/"),
            ("https://as.example", "https://as.example/?"),
            ("https://as.example", "http://as.example/"),
            ("as.example", "as.example/"),
        ] {
            assert!(!is_same_issuer(one, other), "{one} {other}");
        }
    }

    #[tokio::test]
    async fn issuer_metadata_that_must_not_be_used() {
        for (field, value) in [
            ("issuer", Value::Null),
            (
                "issuer",
                json!(["https://as.example", "https://other.example"]),
            ),
            ("token_endpoint", json!("")),
            (
                "response_types_supported",
                json!(["token", "code id_token"]),
            ),
            (
                "authorization_endpoint",
                json!("http://as.example/authorize"),
            ),
            ("authorization_endpoint", json!("javascript:alert(1)")),
            (
                "authorization_endpoint",
                json!("https://as.example/authorize#"),
            ),
            ("authorization_endpoint", Value::Null),
            ("token_endpoint", json!("https://169.254.169.254/token")),
            ("token_endpoint", json!("/token")),
            ("registration_endpoint", json!("https://0x7f.1.internal/")),
            (
                "registration_endpoint",
                json!("https://[::ffff:127.0.0.1]/"),
            ),
            ("revocation_endpoint", json!("https://2852039166/")),
            ("revocation_endpoint", json!("https://user@as.example/")),
        ] {
            let named = format!("{field} = {value}");
            let server = at(move |base, _| {
                let mut metadata = metadata(base);
                metadata[field] = value.clone();
                json(&metadata)
            });
            assert_eq!(
                issuer_of(&server, "").await,
                Err(Failure::Unusable),
                "{named}"
            );
            assert_eq!(server.requests().len(), 1);
        }
        let server = at(|base, _| json(&metadata(base)));
        assert!(issuer_of(&server, "").await.unwrap().supports_s256);
        for methods in [
            Value::Null,
            json!([]),
            json!(["plain"]),
            json!({"S256": true}),
        ] {
            let weak = at(move |base, _| {
                let mut metadata = metadata(base);
                metadata["code_challenge_methods_supported"] = methods.clone();
                json(&metadata)
            });
            assert!(!issuer_of(&weak, "").await.unwrap().supports_s256);
        }
        for odd in ["?q", "#f"] {
            assert_eq!(issuer_of(&server, odd).await, Err(Failure::Unusable));
        }
        let down = at(|_, _| reply(502, "", ""));
        assert_eq!(issuer_of(&down, "").await, Err(Failure::TryLater));
        assert_eq!(down.requests().len(), 2);
    }

    #[tokio::test]
    async fn odd_optional_metadata_is_read_as_it_is_meant() {
        for (field, value) in [
            ("registration_endpoint", json!("")),
            ("registration_endpoint", json!("/register")),
            ("registration_endpoint", json!("urn:x:y")),
            ("revocation_endpoint", json!(7)),
            ("revocation_endpoint", json!({"href": "https://as.example"})),
            ("response_types_supported", json!("code token")),
            ("response_types_supported", json!(false)),
            ("scopes_supported", json!("openid offline_access")),
            ("scopes_supported", json!(["openid", 1, "offline_access"])),
            ("token_endpoint_auth_methods_supported", json!("none")),
            ("code_challenge_methods_supported", json!("S256")),
            (
                "authorization_response_iss_parameter_supported",
                json!("false"),
            ),
            ("authorization_response_iss_parameter_supported", json!([])),
            ("client_id_metadata_document_supported", json!("true")),
        ] {
            let named = format!("{field} = {value}");
            let server = at(move |base, _| {
                let mut metadata = metadata(base);
                metadata[field] = value.clone();
                json(&metadata)
            });
            let found = issuer_of(&server, "").await.unwrap();
            let plain = Issuer {
                issuer: server.url.clone(),
                authorization_endpoint: "https://as.example/authorize?x=1".to_owned(),
                token_endpoint: "https://as.example/token".to_owned(),
                registration_endpoint: None,
                revocation_endpoint: None,
                scopes_supported: (field == "scopes_supported")
                    .then(|| vec!["openid".to_owned(), "offline_access".to_owned()]),
                token_auth_methods: (field == "token_endpoint_auth_methods_supported")
                    .then(|| vec!["none".to_owned()]),
                revocation_auth_methods: None,
                supports_s256: true,
                iss_advertised: false,
                takes_metadata_documents: field == "client_id_metadata_document_supported",
            };
            assert_eq!(found, plain, "{named}");
        }
        for (field, value) in [
            ("resource", json!(["BASE/mcp"])),
            ("authorization_servers", json!("BASE")),
            ("scopes_supported", json!("read write")),
            ("scopes_supported", json!({"read": true})),
        ] {
            let named = format!("{field} = {value}");
            let is_scopes = value == json!("read write");
            let server = at(move |base, _| {
                let mut metadata =
                    json!({"resource": "BASE/mcp", "authorization_servers": ["BASE"]});
                metadata[field] = value.clone();
                reply(200, "", &metadata.to_string().replace("BASE", base))
            });
            let expected = Protected {
                resource: format!("{}/mcp", server.url),
                issuers: vec![server.url.clone()],
                scopes: is_scopes.then(|| vec!["read".to_owned(), "write".to_owned()]),
            };
            assert_eq!(protected(&server, "/mcp").await, Ok(expected), "{named}");
        }
        let relative = at(|base, target| match target {
            "/a/mcp" => reply(
                401,
                "WWW-Authenticate: Bearer resource_metadata=\"/meta\"\r\n",
                "",
            ),
            "/meta" => {
                json(&json!({"resource": base, "authorization_servers": ["https://as.example"]}))
            }
            _ => reply(404, "", ""),
        });
        let found = protected(&relative, "/a/mcp").await.unwrap();
        assert_eq!(found.issuers, ["https://as.example"]);
    }

    /// Each optional member in turn has a random value, and the issuer can still be used.
    #[tokio::test]
    async fn no_optional_member_costs_the_issuer() {
        let mut runner = TestRunner::deterministic();
        for field in [
            "registration_endpoint",
            "revocation_endpoint",
            "scopes_supported",
            "token_endpoint_auth_methods_supported",
            "revocation_endpoint_auth_methods_supported",
            "authorization_response_iss_parameter_supported",
            "client_id_metadata_document_supported",
            "jwks_uri",
        ] {
            for _ in 0..12 {
                let odd = anything().new_tree(&mut runner).unwrap().current();
                let said = odd.clone();
                let server = at(move |base, _| {
                    let whole = metadata(base).to_string();
                    let open = whole.strip_suffix('}').unwrap();
                    reply(200, "", &format!("{open},\"{field}\":{said}}}"))
                });
                let found = issuer_of(&server, "").await;
                assert!(found.is_ok(), "{field}: {odd}");
            }
        }
    }
}
