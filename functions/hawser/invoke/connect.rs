//! Tells the person behind a client how to connect when the subject has no usable credential at a server, in the way that the
//! client declares (Inbound 3.1, 3.2).

use super::handshake::{self, CONNECT};
use super::inbound::Inbound;
use super::message::{digest, without_answer};
use super::problem::Problem;
use super::relay::EndSignal;
use super::{Allowed, permission, rpc};
use crate::http::{Code, Response, Streamed, streamed};
use hawser_core::domain::error::Error;
use hawser_core::domain::reason::Reason;
use hawser_core::operations::proxy::{self, REQUEST_STATE_PREFIX, Refusal, RequestState};
use hawser_core::operations::tools::{self, CachePolicy};
use hawser_core::operations::{Permitted, consent};
use hawser_core::{App, mcp};
use lambda_http::Body;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

/// The code of a request that cannot be answered before a person has opened an address (2025-11-25 alone).
const URL_ELICITATION_REQUIRED: i32 = -32042;

/// What a subject lacks at a server.
struct Lack {
    reason: &'static str,
    /// Whether a consent may help.
    consent_helps: bool,
    additional_scopes: Option<Vec<String>>,
}

/// A consent that a person is sent to.
struct Offer {
    /// The id of the consent.
    id: String,
    /// The address of its page.
    url: SecretString,
}

impl Lack {
    /// What a refusal says that the subject lacks; any other refusal is a problem.
    fn of(allowed: &Allowed, refusal: Refusal) -> Result<Self, Problem> {
        let server = &allowed.at.found.server;
        let lack = |reason, consent_helps, additional_scopes| Self {
            reason,
            consent_helps,
            additional_scopes,
        };
        Ok(match refusal {
            Refusal::Unreachable | Refusal::WantsSession => return Err(Problem::Unreachable),
            Refusal::Redirected(to) => {
                let to = to.filter(|_| permission::manages(&allowed.at.caller, server));
                return Err(Problem::Redirected(to));
            }
            Refusal::Passthrough => return Err(Problem::Passthrough),
            Refusal::NoCredential(reason) => lack(reason.as_str(), server.subjects_consent(), None),
            Refusal::NotAccepted { consent_helps } => {
                lack("credential_refused", consent_helps, None)
            }
            Refusal::ScopeInsufficient { additional_scopes } => lack(
                Reason::ScopeInsufficient.as_str(),
                additional_scopes.is_some(),
                additional_scopes,
            ),
        })
    }
}

/// The response to a call that was not forwarded, or that the server refused.
pub async fn answer(
    app: &App,
    inbound: &Inbound<'_>,
    allowed: Allowed,
    refusal: Refusal,
    over: EndSignal,
) -> Result<Response<Streamed>, Problem> {
    let lack = Lack::of(&allowed, refusal)?;
    let reason = lack.reason;
    if permission::is_kambrium(&allowed.at.caller) {
        let consent_url = offer(app, &allowed, lack).await?.map(|offer| offer.url);
        return Err(Problem::NoCredential {
            reason,
            consent_url,
        });
    }
    if let Some(opening) = handshake::opening(inbound, &allowed) {
        return Ok(handshake::stream(opening, over));
    }
    if let Some(answer) = handshake::answer(app, inbound, &allowed).await? {
        return Ok(answer);
    }
    let offer = offer(app, &allowed, lack).await?;
    if inbound.may_wait()
        && let Some(offer) = &offer
    {
        if inbound.modern && opens_urls(inbound) {
            let asked = ask(app, inbound, &allowed, offer).await?;
            return Ok(streamed(asked));
        }
        if let Some((_, session)) = allowed.session.as_ref().filter(|(_, one)| one.opens_urls) {
            proxy::note_elicitation(app, session, &offer.id).await?;
            return Ok(streamed(required(inbound, &allowed, offer)));
        }
    }
    if inbound.asks() == Some("tools/call") {
        return Ok(streamed(told(inbound, &allowed, offer.as_ref())));
    }
    Err(Problem::NoCredential {
        reason,
        consent_url: offer.map(|offer| offer.url),
    })
}

/// The open consent of a subject at a server, if one may help.
async fn offer(app: &App, allowed: &Allowed, lack: Lack) -> Result<Option<Offer>, Problem> {
    let at = &allowed.at;
    // Who has no more than a connection's own credentials is not sent to consent in its owner's place.
    let consents = lack.consent_helps && at.caller.bound_to.is_none();
    // Calls come through another API than the pages of a consent.
    let Some(base) = app.public_urls.first().filter(|_| consents) else {
        return Ok(None);
    };
    let server = Permitted {
        caller: at.caller.clone(),
        found: at.found.server.clone(),
    };
    match consent::start_consent(app, &server, base, None, lack.additional_scopes).await {
        Ok(begun) => Ok(Some(Offer {
            id: consent::session_id(&begun.session),
            url: begun.url,
        })),
        // The addresses handed out before go on serving.
        Err(Error::Contended | Error::TooManyConsents) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a client of the stateless era opens addresses for people.
fn opens_urls(inbound: &Inbound<'_>) -> bool {
    mcp::opens_urls(&inbound.params().meta["io.modelcontextprotocol/clientCapabilities"])
}

/// The text for the person, shown before the address is opened.
fn invitation(allowed: &Allowed) -> String {
    let name = &allowed.at.found.server.name;
    format!(
        "{name} is not connected yet. Open the page to connect it: it says who is connected to what."
    )
}

/// The key of our question among those of an answer.
fn key_of(consent: &str) -> String {
    format!("hawser-connect-{consent}")
}

/// The answer to a client of the stateless era: it is to ask its user and repeat the request.
async fn ask(
    app: &App,
    inbound: &Inbound<'_>,
    allowed: &Allowed,
    offer: &Offer,
) -> Result<Response<Body>, Problem> {
    let (tenant, at) = (&allowed.at.caller.tenant, &allowed.at.found);
    let state = RequestState::new(app, at, offer.id.clone())?;
    let digest = digest(inbound.asks().unwrap_or_default(), inbound.body());
    let question = json!({
        "method": "elicitation/create",
        "params": {"mode": "url", "message": invitation(allowed), "url": offer.url.expose_secret()},
    });
    let result = json!({
        "resultType": "input_required",
        "inputRequests": {key_of(&offer.id): question},
        "requestState": state.seal(app, tenant, at, &digest).await?,
    });
    Ok(rpc::result(&inbound.message.id, &result, "input_required"))
}

/// The answer to a client of the session era that opens addresses for people.
fn required(inbound: &Inbound<'_>, allowed: &Allowed, offer: &Offer) -> Response<Body> {
    let message = invitation(allowed);
    let one = json!({
        "mode": "url", "elicitationId": offer.id, "url": offer.url.expose_secret(), "message": message,
    });
    let (id, data) = (&inbound.message.id, json!({"elicitations": [one]}));
    let mut response = rpc::error(200, id, URL_ELICITATION_REQUIRED, &message, data);
    response
        .extensions_mut()
        .insert(Code("url_elicitation_required"));
    response
}

/// The answer to a call of a tool by any other client: a text for the person, or for the model that talks to them.
fn told(inbound: &Inbound<'_>, allowed: &Allowed, offer: Option<&Offer>) -> Response<Body> {
    let name = &allowed.at.found.server.name;
    let text = match offer {
        Some(offer) => format!(
            "{name} is not connected yet. Open this address in a browser, connect there, and try again: {}",
            offer.url.expose_secret()
        ),
        None => format!(
            "{name} needs a credential that is not stored here. Ask those who manage it to store one, and try again."
        ),
    };
    tool_result(inbound, &text, true)
}

fn tool_result(inbound: &Inbound<'_>, text: &str, is_error: bool) -> Response<Body> {
    let mut result = json!({"content": [{"type": "text", "text": text}], "isError": is_error});
    if inbound.modern {
        result["resultType"] = "complete".into();
    }
    rpc::result(
        &inbound.message.id,
        &result,
        if is_error { "told" } else { "connected" },
    )
}

/// The answer to a call of our own tool by a subject that is connected; `None` if the call is none, or the server has a tool of
/// that name.
pub async fn connected(
    app: &App,
    inbound: &Inbound<'_>,
    allowed: &Allowed,
) -> Result<Option<Response<Streamed>>, Problem> {
    let calls = inbound.asks() == Some("tools/call");
    if !calls || permission::is_kambrium(&allowed.at.caller) || inbound.params().name != CONNECT {
        return Ok(None);
    }
    let (caller, at) = (&allowed.at.caller, &allowed.at.found);
    let listed = tools::list(app, &caller.tenant, at, caller, CachePolicy::Cached).await;
    let Ok(listed) = listed else {
        return Ok(None);
    };
    if listed.all.iter().any(|tool| tool.name == CONNECT) {
        return Ok(None);
    }
    let text = format!("{} is connected. List its tools again.", at.server.name);
    Ok(Some(streamed(tool_result(inbound, &text, false))))
}

/// A request that is repeated after its client was asked to connect its user.
pub struct Retry {
    state: String,
    answers: Value,
    digest: String,
}

impl Retry {
    /// The retry that a request is; `None` for any other request, also one that brings back what the server itself has said.
    pub fn of(inbound: &Inbound<'_>) -> Option<Self> {
        if !inbound.modern || !inbound.may_wait() {
            return None;
        }
        let params = inbound.params();
        let state = params.request_state.as_str()?;
        state.starts_with(REQUEST_STATE_PREFIX).then(|| Self {
            state: state.to_owned(),
            answers: params.input_responses.clone(),
            digest: digest(inbound.asks().unwrap_or_default(), inbound.body()),
        })
    }

    /// Waits until the person has connected, for as long as that is worth; returns the body that the server gets.
    pub async fn settle(
        &self,
        app: &App,
        inbound: &Inbound<'_>,
        allowed: &Allowed,
    ) -> Result<Vec<u8>, Problem> {
        let (tenant, at) = (&allowed.at.caller.tenant, &allowed.at.found);
        let state = RequestState::open(app, tenant, at, &self.digest, &self.state).await?;
        let state = state.ok_or(Problem::StateRefused)?;
        let key = key_of(&state.consent);
        // An answer to a question about another consent does not belong to this state.
        let ours = self.answers.as_object().into_iter().flatten();
        let mut ours = ours.filter(|(name, _)| name.starts_with(&key_of("")));
        if ours.any(|(name, _)| *name != key) {
            return Err(Problem::StateRefused);
        }
        match self.answers[&key]["action"].as_str() {
            Some("accept") => state.wait(app, tenant, at).await?,
            Some("decline") => return Err(Problem::NotConnected { declined: true }),
            Some("cancel") => return Err(Problem::NotConnected { declined: false }),
            // It is asked again if it is still needed.
            _ => {}
        }
        without_answer(inbound.body(), &key).ok_or(Problem::StateRefused)
    }
}
