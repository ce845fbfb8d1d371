//! The sign-in page of the local server, in place of an identity provider. It believes any name, so it is served on
//! loopback alone, and in no Lambda function (Inbound 2.6). After it, everything is as with any other sign-in.

use hawser_core::App;
use hawser_core::domain::id::TenantId;
use hawser_core::domain::login::Identity;
use hawser_core::domain::subject::{Subject, SubjectType};
use hawser_core::operations::sign_in::{DEVELOPMENT_PATH, SignInFailure, SignedIn};
use hawser_core::state::sign_in::Place;
use hawser_functions::sign_in::{
    Button, Question, Refusal, attempt, is_cross_site, once, signed_in, target_of,
};
use hawser_functions::{Request, Response};
use lambda_http::Body;

/// The tenant of people who sign in here.
pub const TENANT: &str = "local";
/// The person who may do everything in the tenant.
pub const ADMIN: &str = "admin";

/// The answer to a request for the page or its form; `None` if the request is for something else, or if there is no
/// such page.
pub async fn answer(app: &App, request: &Request) -> Option<Response<Body>> {
    let is_here = matches!(app.sign_in.place, Place::Development);
    if !is_here || request.uri().path() != DEVELOPMENT_PATH {
        return None;
    }
    let answered = match request.method().as_str() {
        "GET" | "HEAD" => show(app, request).await,
        "POST" => sign_in(app, request).await,
        _ => return None,
    };
    Some(answered.unwrap_or_else(Into::into))
}

async fn show(app: &App, request: &Request) -> Result<Response<Body>, Refusal> {
    let state = once(request, "state")?;
    let (goal, _) = attempt(app, request, &state).await?;
    let question = Question {
        heading: "Who are you?",
        sentence: "This page is for development. It stands in for an identity provider, and believes whatever you say. \
                   It is served on this machine alone.",
        facts: &[],
        warnings: &[],
        fields: &[("state", &state)],
        input: Some(("Name", "name")),
        action: DEVELOPMENT_PATH,
        buttons: &[
            Button {
                text: "Continue as this name",
                field: Some(("as", "name")),
            },
            Button {
                text: "Continue as the local admin",
                field: Some(("as", "admin")),
            },
        ],
        targets: &target_of(&goal),
    };
    Ok(question.page()?)
}

async fn sign_in(app: &App, request: &Request) -> Result<Response<Body>, Refusal> {
    let state = once(request, "state")?;
    let (goal, cookie) = attempt(app, request, &state).await?;
    if is_cross_site(app, request) {
        return Err(SignInFailure::Foreign.into());
    }
    let is_admin = once(request, "as")? == "admin";
    let typed = once(request, "name").unwrap_or_default();
    let name = if is_admin { ADMIN } else { typed.trim() };
    let tenant = TenantId::parse(TENANT);
    let subject = Subject::new(SubjectType::User, name);
    // Without a name the page is shown again.
    let Some((tenant, subject)) = tenant.zip(subject) else {
        return show(app, request).await;
    };
    let who = SignedIn {
        tenant,
        identity: person(subject, is_admin),
        refresh_token: None,
        at: app.now(),
        began: app.now(),
    };
    signed_in(app, request, who, goal, &state, &cookie).await
}

/// The identity of a person. The admin may do everything, as with the credentials printed at start; others may list and
/// call servers.
fn person(subject: Subject, is_admin: bool) -> Identity {
    let all = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let (roles, permissions, scopes): (&[&str], &[&str], &[&str]) = if is_admin {
        (&["admin"], &crate::ALL_PERMISSIONS, &crate::ALL_SCOPES)
    } else {
        (&[], &["mcp-servers:read", "mcp-servers:invoke"], &[])
    };
    Identity {
        email: None,
        username: Some(subject.id().to_owned()),
        display_name: None,
        roles: all(roles),
        teams: all(&[]),
        permissions: all(permissions),
        scopes: all(scopes),
        subject,
    }
}
