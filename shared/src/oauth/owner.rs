//! Which authorization server a token endpoint belongs to, where the operator configured endpoints instead of leaving
//! them to discovery. Addresses prove nothing: metadata counts only if it names exactly that token endpoint.

use super::discovery::{self, Failure, Issuer};
use crate::domain::address::origin;
use crate::egress::Egress;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::timeout;

/// The most authorization servers of a resource that are asked.
const ISSUERS: usize = 4;

/// What is known about a token endpoint whose issuer is looked up.
#[derive(Clone, Debug, Default)]
pub struct IssuerHints<'a> {
    /// The token endpoint, byte for byte.
    pub token_endpoint: &'a str,
    /// Issuers to ask, the likeliest first: the one that the operator named, then origins of configured endpoints.
    pub issuers: Vec<String>,
    /// The MCP server that the tokens are for. Its metadata (RFC 9728) may name further issuers.
    pub resource: Option<&'a str>,
    /// Issuers and origins that the operator vouches for: their metadata may name a revocation endpoint at any host.
    pub trusted: Vec<String>,
}

/// The issuer that a token endpoint belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its metadata, without a revocation endpoint that must not be used.
    pub issuer: Issuer,
    /// Whether a revocation endpoint was left out: it is at another host, and only the metadata itself claims it.
    pub is_elsewhere: bool,
    /// Whether more than its own metadata confirms the issuer, so that a grant may name it.
    pub is_certain: bool,
}

/// A candidate did not answer, and none of the others owns the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Whether an issuer did not answer; otherwise it was the resource.
    pub of_issuer: bool,
}

/// Looks for the issuer of a token endpoint; `None` if no candidate names the endpoint in its metadata.
///
/// Metadata alone proves little, because anybody can publish it: a hostile server could name an issuer of its own that
/// claims this token endpoint, and would be sent refresh tokens and the client's secret for revocation. So tokens are
/// sent only to the origin of the token endpoint, from which they came, or to an endpoint that metadata at that origin
/// names or the operator vouches for. The whole search takes no longer than `limit`.
///
/// # Errors
/// [`Outage`] when a candidate did not answer and none of the others is the owner.
pub async fn find(
    egress: &Egress,
    issuer_hints: &IssuerHints<'_>,
    limit: Duration,
) -> Result<Option<Owner>, Outage> {
    timeout(limit, ask(egress, issuer_hints))
        .await
        .unwrap_or(Err(Outage { of_issuer: true }))
}

async fn ask(egress: &Egress, issuer_hints: &IssuerHints<'_>) -> Result<Option<Owner>, Outage> {
    let mut asked = BTreeSet::new();
    let mut outage = None;
    for name in &issuer_hints.issuers {
        match ask_one(egress, issuer_hints, name, &mut asked).await {
            Ok(None) => {}
            Ok(owner) => return Ok(owner),
            Err(failed) => outage = Some(failed),
        }
    }
    if let Some(resource) = issuer_hints.resource {
        match discovery::protected_resource(egress, resource).await {
            Ok(protected) => {
                for name in protected.issuers.iter().take(ISSUERS) {
                    match ask_one(egress, issuer_hints, name, &mut asked).await {
                        Ok(None) => {}
                        Ok(owner) => return Ok(owner),
                        Err(failed) => outage = Some(failed),
                    }
                }
            }
            Err(Failure::TryLater) => {
                outage = outage.or(Some(Outage { of_issuer: false }));
            }
            Err(_) => {}
        }
    }
    outage.map_or(Ok(None), Err)
}

async fn ask_one(
    egress: &Egress,
    issuer_hints: &IssuerHints<'_>,
    name: &str,
    asked: &mut BTreeSet<String>,
) -> Result<Option<Owner>, Outage> {
    if !asked.insert(name.to_owned()) {
        return Ok(None);
    }
    match discovery::issuer(egress, name).await {
        Ok(issuer) if issuer.token_endpoint == issuer_hints.token_endpoint => {
            Ok(Some(issuer_hints.judge(name, issuer)))
        }
        Err(Failure::TryLater) => Err(Outage { of_issuer: true }),
        Ok(_) | Err(_) => Ok(None),
    }
}

impl IssuerHints<'_> {
    /// Removes a revocation endpoint that the metadata may not name.
    fn judge(&self, name: &str, mut issuer: Issuer) -> Owner {
        let home = origin(self.token_endpoint);
        let is_trusted = origin(name) == home || self.trusted.iter().any(|one| one == name);
        let endpoint = issuer.revocation_endpoint.take();
        let (kept, elsewhere): (Vec<_>, Vec<_>) = endpoint
            .into_iter()
            .partition(|url| is_trusted || origin(url) == home);
        issuer.revocation_endpoint = kept.into_iter().next();
        Owner {
            is_elsewhere: !elsewhere.is_empty(),
            is_certain: is_trusted || issuer.revocation_endpoint.is_some(),
            issuer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::testing::{Server, reply};
    use serde_json::{Value, json};

    /// A host that publishes `metadata` for itself, or for the path after it.
    fn host(path: &'static str, metadata: impl Fn(&str) -> Value + Send + 'static) -> Server {
        Server::start(move |base, request| {
            let target = request.split(' ').nth(1).unwrap();
            if target == format!("/.well-known/oauth-authorization-server{path}") {
                return reply(200, "", &metadata(base).to_string());
            }
            reply(404, "", "")
        })
    }

    fn metadata(issuer: String, token: &str, revocation: &str) -> Value {
        json!({
            "issuer": issuer, "authorization_endpoint": "https://as.example/authorize", "token_endpoint": token,
            "revocation_endpoint": revocation,
        })
    }

    /// An MCP server that names these issuers.
    fn resource(issuers: Vec<String>) -> Server {
        Server::start(move |base, request| {
            let target = request.split(' ').nth(1).unwrap();
            match target {
                "/.well-known/oauth-protected-resource/mcp" => {
                    let body = json!({"resource": format!("{base}/mcp"), "authorization_servers": issuers});
                    reply(200, "", &body.to_string())
                }
                "/mcp" => reply(401, "", ""),
                _ => reply(404, "", ""),
            }
        })
    }

    async fn look(issuer_hints: IssuerHints<'_>) -> Result<Option<Owner>, Outage> {
        let limit = Duration::from_secs(10);
        find(&Egress::new(true).unwrap(), &issuer_hints, limit).await
    }

    #[tokio::test]
    async fn metadata_counts_only_if_it_names_the_token_endpoint() {
        let server = host("", |base| {
            metadata(base.to_owned(), &format!("{base}/t"), &format!("{base}/r"))
        });
        for (path, is_owner) in [
            ("/t", true),
            ("/other/t", false),
            ("/t?x=1", false),
            ("/T", false),
        ] {
            let token = format!("{}{path}", server.url);
            let found = look(IssuerHints {
                token_endpoint: &token,
                issuers: vec![server.url.clone()],
                ..IssuerHints::default()
            });
            let owner = found.await.unwrap();
            assert_eq!(owner.is_some(), is_owner, "{path}");
            if let Some(owner) = owner {
                let revocation = format!("{}/r", server.url);
                assert_eq!(owner.issuer.revocation_endpoint, Some(revocation));
            }
        }
    }

    #[tokio::test]
    async fn the_resource_names_the_issuer_where_the_origin_is_another_ones() {
        let server = Server::start(|base, request| {
            let target = request.split(' ').nth(1).unwrap();
            let at = |path: &str| format!("{base}{path}");
            let body = match target {
                "/.well-known/oauth-authorization-server" => metadata(at(""), &at("/t"), &at("/r")),
                "/.well-known/oauth-authorization-server/custom" => {
                    metadata(at("/custom"), &at("/custom/t"), &at("/custom/r"))
                }
                _ => return reply(404, "", ""),
            };
            reply(200, "", &body.to_string())
        });
        let token = format!("{}/custom/t", server.url);
        let custom = format!("{}/custom", server.url);
        let mcp = resource(vec!["https://0.0.0.0/".to_owned(), custom.clone()]);
        let url = format!("{}/mcp", mcp.url);
        let issuer_hints = |resource| IssuerHints {
            token_endpoint: &token,
            issuers: vec![server.url.clone()],
            resource,
            ..IssuerHints::default()
        };
        let owner = look(issuer_hints(Some(&url))).await.unwrap().unwrap();
        assert_eq!(owner.issuer.issuer, custom);
        assert!(!owner.is_elsewhere);
        assert_eq!(
            owner.issuer.revocation_endpoint,
            Some(format!("{custom}/r"))
        );
        assert_eq!(look(issuer_hints(None)).await, Ok(None));
    }

    #[tokio::test]
    async fn a_server_cannot_have_tokens_sent_to_an_issuer_of_its_own() {
        let tokens = host("/none", |_| json!({}));
        let token = format!("{}/t", tokens.url);
        for (revocation, at_home) in [
            (format!("{}/r", tokens.url), true),
            ("https://evil.example/r".to_owned(), false),
        ] {
            let (claimed, named) = (token.clone(), revocation.clone());
            let claimant = host("", move |base| metadata(base.to_owned(), &claimed, &named));
            let mcp = resource(vec![claimant.url.clone()]);
            let url = format!("{}/mcp", mcp.url);
            let issuer_hints = |trusted| IssuerHints {
                token_endpoint: &token,
                issuers: vec![tokens.url.clone()],
                resource: Some(&url),
                trusted,
            };
            let owner = look(issuer_hints(Vec::new())).await.unwrap().unwrap();
            assert_eq!((owner.is_elsewhere, owner.is_certain), (!at_home, at_home));
            assert_eq!(owner.issuer.revocation_endpoint.is_some(), at_home);
            let owner = look(issuer_hints(vec![claimant.url.clone()]))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(owner.issuer.revocation_endpoint, Some(revocation));
        }
    }

    #[tokio::test]
    async fn an_outage_is_not_a_no() {
        let down = Server::start(|_, _| reply(503, "", ""));
        let token = format!("{}/t", down.url);
        let issuer_hints = |resource| IssuerHints {
            token_endpoint: &token,
            issuers: vec![down.url.clone()],
            resource,
            ..IssuerHints::default()
        };
        assert_eq!(
            look(issuer_hints(None)).await,
            Err(Outage { of_issuer: true })
        );
        let of_server = IssuerHints {
            token_endpoint: &token,
            resource: Some(&down.url),
            ..IssuerHints::default()
        };
        assert_eq!(look(of_server).await, Err(Outage { of_issuer: false }));
        // Another host is still taken for the owner if its metadata names the token endpoint.
        let claimed = token.clone();
        let owner = host("", move |base| {
            metadata(base.to_owned(), &claimed, &claimed)
        });
        let mcp = resource(vec![owner.url.clone()]);
        let url = format!("{}/mcp", mcp.url);
        assert!(look(issuer_hints(Some(&url))).await.unwrap().is_some());
    }
}
