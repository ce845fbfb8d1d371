//! What an application asks for at `/oauth/authorize`: read, and checked before anybody signs in and again before anything is
//! given out (RFC 6749 4.1.1, RFC 7636, RFC 8707; Inbound 2.3).

use super::refusal::Refusal;
use super::resource::of_deployment;
use crate::http::Response;
use crate::page::redirect;
use hawser_core::App;
use hawser_core::domain::application::{Application, MANAGE, OFFLINE_ACCESS, SCOPE, Wanted};
use hawser_core::domain::login::CodeChallenge;
use hawser_core::operations::applications;
use lambda_http::Body;
use std::collections::BTreeSet;
use url::form_urlencoded;

/// The longest request, as its query: it comes back in a cookie.
const QUERY_LIMIT: usize = 2400;
/// How many servers an application may ask for at once.
const RESOURCES: usize = 8;

/// A request that may be put to somebody.
#[derive(Debug)]
pub struct ApplicationRequest {
    /// Who asks.
    pub application: Application,
    /// Where the answer goes; one of the application's.
    pub redirect_uri: String,
    /// What goes back with it.
    pub state: Option<String>,
    /// PKCE.
    pub code_challenge: CodeChallenge,
    /// What is to be called: at least one resource.
    pub resources: Vec<String>,
    /// With which scopes.
    pub scopes: BTreeSet<String>,
    /// The base that the answer names as its issuer (RFC 9207).
    pub issuer: String,
}

/// Where an answer goes once application and redirect URI are known to belong together.
struct Back<'a> {
    redirect_uri: &'a str,
    state: Option<&'a str>,
    issuer: &'a str,
}

impl Back<'_> {
    fn refusal(&self, error: &str, text: &str) -> Response<Body> {
        self.answer(&[("error", error), ("error_description", text)])
    }

    fn answer(&self, parameters: &[(&str, &str)]) -> Response<Body> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(parameters);
        if let Some(state) = self.state {
            query.append_pair("state", state);
        }
        query.append_pair("iss", self.issuer);
        let uri = self.redirect_uri;
        let joint = if uri.contains('?') { '&' } else { '?' };
        // The redirect URI stays as it is to the letter.
        redirect(&format!("{uri}{joint}{}", query.finish()))
    }
}

impl ApplicationRequest {
    /// Sends the browser back with these parameters.
    pub fn answer(&self, parameters: &[(&str, &str)]) -> Response<Body> {
        self.back().answer(parameters)
    }

    /// Sends the browser back with an error.
    pub fn refusal(&self, error: &str, text: &str) -> Response<Body> {
        self.back().refusal(error, text)
    }

    fn back(&self) -> Back<'_> {
        Back {
            redirect_uri: &self.redirect_uri,
            state: self.state.as_deref(),
            issuer: &self.issuer,
        }
    }

    /// What somebody is asked for.
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted {
            application: &self.application,
            redirect_uri: &self.redirect_uri,
            resources: &self.resources,
            scopes: &self.scopes,
        }
    }
}

/// Reads a request. `bases` are our own, the first of them our name. The second kind of answer sends the browser back to the
/// application with what is wrong; that needs an application and a redirect URI that belong together.
///
/// # Errors
/// [`Refusal`], for a page of ours.
pub async fn read(
    app: &App,
    bases: &[String],
    query: &str,
) -> Result<Result<ApplicationRequest, Response<Body>>, Refusal> {
    let issuer = bases.first().ok_or(Refusal::NotOffered)?;
    let all: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let values = |name: &str| -> Vec<&str> {
        let named = all
            .iter()
            .filter(|(n, value)| n == name && !value.is_empty());
        named.map(|(_, value)| value.as_str()).collect()
    };
    let &[client_id] = values("client_id").as_slice() else {
        return Err(Refusal::UnknownApplication);
    };
    let application = applications::find(app, client_id).await?;
    let &[redirect_uri] = values("redirect_uri").as_slice() else {
        return Err(Refusal::ForeignRedirect);
    };
    if !application.redirects_to(redirect_uri) {
        return Err(Refusal::ForeignRedirect);
    }
    let states = values("state");
    let back = Back {
        redirect_uri,
        state: states.first().copied(),
        issuer,
    };
    let checked = if query.len() > QUERY_LIMIT {
        Err(("invalid_request", "The request is too long."))
    } else {
        check(bases, &values)
    };
    Ok(match checked {
        Err((error, text)) => Err(back.refusal(error, text)),
        Ok((code_challenge, resources, scopes)) => Ok(ApplicationRequest {
            redirect_uri: redirect_uri.to_owned(),
            state: back.state.map(str::to_owned),
            application,
            code_challenge,
            resources,
            scopes,
            issuer: issuer.clone(),
        }),
    })
}

type Checked = (CodeChallenge, Vec<String>, BTreeSet<String>);

/// What is asked for, or the error that the application is told.
fn check<'a>(
    bases: &[String],
    values: &impl Fn(&str) -> Vec<&'a str>,
) -> Result<Checked, (&'static str, &'static str)> {
    let once = |name: &str| match values(name).as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        _ => Err(("invalid_request", "A parameter is there twice.")),
    };
    once("state")?;
    if once("request")?.is_some() {
        return Err((
            "request_not_supported",
            "Request objects are not supported.",
        ));
    }
    if once("request_uri")?.is_some() {
        let text = "Requests by reference are not supported.";
        return Err(("request_uri_not_supported", text));
    }
    if once("response_type")? != Some("code") {
        return Err(("unsupported_response_type", "response_type must be code."));
    }
    if once("response_mode")?.is_some_and(|mode| mode != "query") {
        return Err(("invalid_request", "response_mode must be query."));
    }
    if once("code_challenge_method")? != Some("S256") {
        return Err(("invalid_request", "PKCE with S256 is needed."));
    }
    let challenge = once("code_challenge")?.and_then(CodeChallenge::parse);
    let challenge = challenge.ok_or(("invalid_request", "PKCE with S256 is needed."))?;
    let asked = values("resource");
    let target = "resource must be an address of an MCP server here.";
    if asked.len() > RESOURCES {
        return Err(("invalid_target", target));
    }
    let mut resources = Vec::new();
    for one in asked {
        let one = of_deployment(bases, one).ok_or(("invalid_target", target))?;
        if !resources.contains(&one) {
            resources.push(one);
        }
    }
    // Who names none is answered for the whole deployment.
    if resources.is_empty() {
        resources.extend(bases.first().cloned());
    }
    let asked = once("scope")?.unwrap_or_default();
    let is_of_deployment = |one: &String| bases.first() == Some(one);
    let may_manage = resources.iter().any(is_of_deployment);
    Ok((challenge, resources, scopes(asked, may_manage)))
}

/// The scopes that an application may be given: calls always, and of those that it asks for, what there is besides. Others are left
/// out, and so is management where it asks for servers alone (Inbound 2.10).
fn scopes(asked: &str, may_manage: bool) -> BTreeSet<String> {
    let mut scopes = BTreeSet::from([SCOPE.to_owned()]);
    let besides = |scope: &&str| match *scope {
        MANAGE => may_manage,
        scope => scope == OFFLINE_ACCESS,
    };
    let asked = asked.split_ascii_whitespace().filter(besides);
    scopes.extend(asked.map(str::to_owned));
    scopes
}
