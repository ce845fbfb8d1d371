//! What the pages of a sign-in share: where they begin, and what happens once somebody has signed in, wherever that was
//! (Inbound 2).

use super::application_request::{ApplicationRequest, read};
use super::browser::{self, cookie_of, set_cookie, unset_cookie};
use super::consent::SESSION_COOKIE;
use super::invoke::server_at;
pub use super::refusal::Refusal;
use super::resource::{bases, path_of};
use crate::http::{BODY_LIMIT, Request, Response, body, form, public_base, query, with_cookie};
use crate::page::{Button, Question, redirect};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::application::{
    ApplicationSource, MANAGE, is_on_this_machine, place_of_redirect,
};
use hawser_core::domain::caller::Caller;
use hawser_core::domain::login::AllowedApplication;
use hawser_core::operations::authorization::{self, remembered, seal_question};
use hawser_core::operations::consent::START_PATH;
use hawser_core::operations::logins::{self, Allowed};
use hawser_core::operations::sign_in::{self, Goal, SignInFailure, SignedIn};
use lambda_http::Body;
use secrecy::ExposeSecret;
use url::{Url, form_urlencoded};

/// The path that applications send browsers to.
pub const AUTHORIZE_PATH: &str = "/oauth/authorize";

/// Name of the cookie of a sign-in; there may be several in one browser.
fn attempt_id(state: &str) -> String {
    let id: String = state.chars().take(8).collect();
    format!("sign-in-{id}")
}

/// What a browser has kept for the sign-in with this state.
pub fn attempt_cookie(request: &Request, base: &str, state: &str) -> Option<String> {
    cookie_of(request, base, &attempt_id(state))
}

/// What the browser signs in for that has begun the sign-in with this state, and its cookie.
///
/// # Errors
/// [`SignInFailure::Foreign`].
pub async fn attempt(app: &App, request: &Request, state: &str) -> Result<(Goal, String), Refusal> {
    let base = public_base(app, request);
    let base = base.ok_or(Refusal::NotOffered)?;
    let cookie = attempt_cookie(request, &base, state).ok_or(SignInFailure::Foreign)?;
    Ok((sign_in::goal(app, state, &cookie).await?, cookie))
}

/// The one value of a parameter, of the form in a POST, else of the query.
///
/// # Errors
/// [`SignInFailure::Foreign`] where it is missing or there twice.
pub fn once(request: &Request, name: &str) -> Result<String, Refusal> {
    let sent = match request.method().as_str() {
        "POST" if body(request).len() <= BODY_LIMIT => form(request),
        "POST" => Vec::new(),
        _ => query(request),
    };
    let mut values = sent.into_iter().filter(|(n, _)| n == name);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Ok(value),
        _ => Err(SignInFailure::Foreign.into()),
    }
}

/// Whether a browser says that a request comes from another site than ours.
pub fn is_cross_site(app: &App, request: &Request) -> bool {
    let base = public_base(app, request).unwrap_or_default();
    browser::is_cross_site(app, request, &base)
}

/// Begins a sign-in and sends the browser there.
///
/// # Errors
/// [`Refusal`].
pub async fn begin(app: &App, request: &Request, goal: Goal) -> Result<Response<Body>, Refusal> {
    let base = public_base(app, request);
    let base = base.ok_or(Refusal::NotOffered)?;
    let begun = sign_in::begin(app, &base, goal).await?;
    let cookie = set_cookie(
        &base,
        &attempt_id(&begun.state),
        begun.cookie.expose_secret(),
    );
    Ok(with_cookie(redirect(&begun.url), &cookie))
}

/// An answer after which the sign-in with this state is over.
pub fn done(response: Response<Body>, base: &str, state: &str) -> Response<Body> {
    with_cookie(response, &unset_cookie(base, &attempt_id(state)))
}

/// Goes on with what somebody has signed in for, in the browser that has begun it.
///
/// # Errors
/// [`Refusal`].
pub async fn signed_in(
    app: &App,
    request: &Request,
    who: SignedIn,
    goal: Goal,
    state: &str,
    cookie: &str,
) -> Result<Response<Body>, Refusal> {
    let bases = bases(app, request);
    let base = bases.first().ok_or(Refusal::NotOffered)?;
    let known = remembered(app, &who).await?;
    let (before, offboardings) = known.ok_or(Refusal::Offboarded)?;
    let manages = caller_of(&who).manages_tenant();
    let session = sign_in::browser_session(app, &who, manages, offboardings).await?;
    let session = set_cookie(base, SESSION_COOKIE, session.expose_secret());
    let answer = match goal {
        Goal::Consent(ticket) => {
            let back = redirect(&format!("{base}{START_PATH}?session={ticket}"));
            done(back, base, state)
        }
        Goal::Application(query) => match read(app, &bases, &query).await? {
            Err(back) => done(back, base, state),
            Ok(asked) => {
                let question = authorization::Question {
                    query,
                    signed_in: who,
                    offboardings,
                };
                if before.is_some_and(|before| before.covers(asked.wanted())) {
                    let answer = give_code(app, question, &asked).await?;
                    done(answer, base, state)
                } else {
                    let sealed = seal_question(app, &question, cookie).await?;
                    let fields = [("question", sealed.expose_secret()), ("state", state)];
                    ask(app, &bases, &question.signed_in, &asked, &fields).await?
                }
            }
        },
    };
    Ok(with_cookie(answer, &session))
}

/// Sends the browser back to the application with a code.
///
/// # Errors
/// [`Refusal::Offboarded`]; what the operation fails with.
pub async fn give_code(
    app: &App,
    question: authorization::Question,
    asked: &ApplicationRequest,
) -> Result<Response<Body>, Refusal> {
    let who = question.signed_in;
    let allowed = Allowed {
        tenant: who.tenant,
        identity: who.identity,
        vouched_at: who.at,
        offboardings: question.offboardings,
        provider_token: who.refresh_token,
        application: AllowedApplication {
            client_id: asked.application.client_id.clone(),
            name: asked.application.name.clone(),
            redirect_host: place_of_redirect(&asked.redirect_uri),
        },
        redirect_uri: asked.redirect_uri.clone(),
        code_challenge: asked.code_challenge.clone(),
        issuer: asked.issuer.clone(),
        resources: asked.resources.clone(),
        scopes: asked.scopes.clone(),
    };
    let code = logins::authorize(app, allowed).await?;
    let code = code.ok_or(Refusal::Offboarded)?;
    Ok(asked.answer(&[("code", code.expose_secret())]))
}

/// The page that asks whether an application may go on.
async fn ask(
    app: &App,
    bases: &[String],
    who: &SignedIn,
    asked: &ApplicationRequest,
    fields: &[(&str, &str)],
) -> Result<Response<Body>, Refusal> {
    let place = place_of_redirect(&asked.redirect_uri);
    let name = asked.application.name.clone().unwrap_or(place);
    let subject = who.identity.subject.id();
    let (does, uses) = match asked.scopes.contains(MANAGE) {
        true => ("call and manage", "use and manage MCP servers"),
        false => ("call", "use MCP servers"),
    };
    let mut warnings = vec![format!(
        "{name} will be able to {does} what is named above as you, until you or an administrator ends it. \
         If you did not just start this from {name}, choose Deny."
    )];
    if is_on_this_machine(&asked.redirect_uri) {
        warnings.push("Any program on this computer could have sent you here.".to_owned());
    }
    let base = asked.issuer.as_str();
    let path = Url::parse(base).map(|url| url.path().trim_end_matches('/').to_owned());
    let question = Question {
        heading: &format!("Let {name} in?"),
        sentence: &format!("{name} asks to {uses} as {subject}."),
        facts: &facts(app, bases, who, asked, &name).await?,
        warnings: &warnings,
        fields,
        input: None,
        action: &format!("{}{AUTHORIZE_PATH}", path.unwrap_or_default()),
        buttons: &[
            Button {
                text: "Allow",
                field: Some(("decision", "allow")),
            },
            Button {
                text: "Deny",
                field: Some(("decision", "deny")),
            },
        ],
        targets: &target(&asked.redirect_uri),
    };
    Ok(question.page()?)
}

/// What the page says of who asks, and for what.
async fn facts(
    app: &App,
    bases: &[String],
    who: &SignedIn,
    asked: &ApplicationRequest,
    name: &str,
) -> Result<Vec<(&'static str, String)>, Refusal> {
    let application = &asked.application;
    let known = match application.source {
        ApplicationSource::Registered => {
            "It has registered itself; nobody has checked its name".to_owned()
        }
        ApplicationSource::MetadataDocument => {
            format!(
                "It is published at {}",
                place_of_redirect(&application.client_id)
            )
        }
        ApplicationSource::Listed => "The operator of this service has set it up".to_owned(),
    };
    let place = place_of_redirect(&asked.redirect_uri);
    let leads_to = match is_on_this_machine(&asked.redirect_uri) {
        true => format!("A program on this computer ({place})"),
        false => place,
    };
    let subject = who.identity.subject.id();
    let person = match &who.identity.display_name {
        Some(display) if display != subject => format!("{display} ({subject})"),
        _ => subject.to_owned(),
    };
    let mut facts = vec![
        ("Application", name.to_owned()),
        ("Who says so", known),
        ("You go back to", leads_to),
        ("As", format!("{person}, in {}", who.tenant.as_str())),
        ("To call", servers(app, bases, who, &asked.resources).await?),
    ];
    if asked.scopes.contains(MANAGE) {
        let all = "This service itself, as far as you may: register, change and delete MCP servers, store and remove \
                   credentials, end logins";
        facts.push(("To manage", all.to_owned()));
    }
    Ok(facts)
}

/// What a content security policy calls the place that a redirect URI leads to. An application may send the browser on from
/// there, and browsers hold that against the policy too.
fn target(redirect_uri: &str) -> String {
    match Url::parse(redirect_uri) {
        Ok(url) if url.scheme() == "https" => "https:".to_owned(),
        Ok(url) if url.scheme() == "http" => {
            format!("https: {}", url.origin().ascii_serialization())
        }
        Ok(url) => format!("https: {}:", url.scheme()),
        Err(_) => String::new(),
    }
}

/// The same for what somebody signs in for, where a form is answered before it is looked at.
pub fn target_of(goal: &Goal) -> String {
    let Goal::Application(query) = goal else {
        return String::new();
    };
    let mut all = form_urlencoded::parse(query.as_bytes());
    let redirect = all.find(|(name, _)| name == "redirect_uri");
    redirect.map_or_else(String::new, |(_, uri)| target(&uri))
}

/// The servers that are to be called, as somebody knows them who may.
async fn servers(
    app: &App,
    bases: &[String],
    who: &SignedIn,
    resources: &[String],
) -> Result<String, Refusal> {
    let mut all = Vec::new();
    for resource in resources {
        let Some(path) = path_of(bases, resource) else {
            all.push("Every MCP server here that you may call".to_owned());
            continue;
        };
        let presented = Presented::Caller(Box::new(caller_of(who)));
        all.push(match server_at(app, presented, path).await? {
            Some(server) => format!("{} ({resource})", server.name),
            None => format!("{resource}, where there is no server that you may call at present"),
        });
    }
    Ok(all.join("; "))
}

/// Somebody who has signed in, as operations know callers.
fn caller_of(who: &SignedIn) -> Caller {
    Caller::person(who.tenant.clone(), who.identity.clone())
}
