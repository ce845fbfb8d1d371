//! Requests that no route takes: 404, or 405 with the methods of the path, in the format of the contract to which the path
//! belongs. The gateway's own answers would break clients that parse these.
//!
//! Calls to `/{integration}/mcp` come here where the REST API for calls is not asked, since their paths do not begin with `/mcp`
//! (decision 31). They are sent on to `/mcp/{integration}/mcp`, with method and body.

use super::problem::Problem;
use crate::http::{Request, Response, empty, json, with_header};
use crate::route::{capture, methods};
use crate::{kambrium, langsmith, truefoundry};
use hawser_core::App;
use lambda_http::Body;
use serde_json::json;

/// Hawser's own paths: those below LangSmith's `/v1`, and those of sign-in and consent.
const OWN: [&str; 5] = [
    "/v1/audit",
    "/v1/logins",
    "/v1/receipts",
    "/v1/subjects",
    "/oauth",
];

/// The error of the contract to which the path belongs.
#[derive(Debug)]
pub enum Unrouted {
    /// Under `/api/svc/v1`.
    Truefoundry(truefoundry::Problem),
    /// Under `/api/v1`, and where its issuers answer to.
    Kambrium(kambrium::Problem),
    /// Under `/v1`, but for what is Hawser's own there.
    Langsmith(langsmith::Problem),
    /// Under a path of Hawser's own; and elsewhere, where the body's content coding is not taken.
    Hawser(Problem),
    /// Elsewhere; with the methods that the path does take.
    Nobodys(Option<String>),
}

/// Returns the error. Nothing is read, so nobody is authenticated.
///
/// # Errors
/// [`Unrouted`].
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Unrouted> {
    let path = request.uri().path();
    let methods = methods(path);
    let elsewhere = methods.contains(&request.method().as_str());
    if elsewhere && capture("/{integration}/mcp", path).is_some() {
        let base = app.gateway_url.as_deref().unwrap_or_default();
        let there = format!("{base}/mcp{path}");
        return Ok(with_header(empty(308), "location", &there));
    }
    let allow = (!methods.is_empty() && !elsewhere).then(|| methods.join(", "));
    Err(match Whose::of(path) {
        Whose::Truefoundry => {
            use truefoundry::Problem;
            Unrouted::Truefoundry(allow.map_or(Problem::PathNotFound, Problem::MethodNotAllowed))
        }
        Whose::Kambrium => {
            use kambrium::Problem;
            Unrouted::Kambrium(allow.map_or(Problem::PathNotFound, Problem::MethodNotAllowed))
        }
        Whose::Langsmith => {
            use langsmith::Problem;
            Unrouted::Langsmith(allow.map_or(Problem::PathNotFound, Problem::MethodNotAllowed))
        }
        Whose::Hawser => {
            Unrouted::Hawser(allow.map_or(Problem::PathNotFound, Problem::MethodNotAllowed))
        }
        Whose::Nobodys => Unrouted::Nobodys(allow),
    })
}

/// Whose words a path is answered in.
enum Whose {
    Truefoundry,
    Kambrium,
    Langsmith,
    Hawser,
    Nobodys,
}

impl Whose {
    fn of(path: &str) -> Self {
        let under = |base: &str| {
            path.strip_prefix(base)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if under("/api/svc/v1") {
            Self::Truefoundry
        } else if under("/api/v1") || under("/api/mcp-servers") {
            Self::Kambrium
        } else if OWN.iter().any(|base| under(base)) {
            Self::Hawser
        } else if under("/v1") {
            Self::Langsmith
        } else {
            Self::Nobodys
        }
    }
}

/// The refusal of a body whose content coding is not taken at this path.
pub(crate) fn unsupported_coding(path: &str) -> Unrouted {
    match Whose::of(path) {
        Whose::Truefoundry => Unrouted::Truefoundry(truefoundry::Problem::UnsupportedCoding),
        Whose::Kambrium => Unrouted::Kambrium(kambrium::Problem::UnsupportedCoding),
        Whose::Langsmith => Unrouted::Langsmith(langsmith::Problem::UnsupportedCoding),
        Whose::Hawser | Whose::Nobodys => Unrouted::Hawser(Problem::UnsupportedCoding),
    }
}

impl From<Unrouted> for Response<Body> {
    fn from(unrouted: Unrouted) -> Self {
        match unrouted {
            Unrouted::Truefoundry(problem) => problem.into(),
            Unrouted::Kambrium(problem) => problem.into(),
            Unrouted::Langsmith(problem) => problem.into(),
            Unrouted::Hawser(problem) => problem.into(),
            Unrouted::Nobodys(None) => json(404, &json!({"message": "Not Found"})),
            Unrouted::Nobodys(Some(allow)) => with_header(
                json(405, &json!({"message": "Method Not Allowed"})),
                "allow",
                &allow,
            ),
        }
    }
}
