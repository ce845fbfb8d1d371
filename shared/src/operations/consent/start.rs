//! Starting a consent: the session is written, and its subject gets the address of our page. Whoever asks again while it is open
//! gets the same one. A Kambrium server is registered together with the consent of its creator.

use super::super::clients::{CALLBACK_PATH, Settings};
use super::super::credentials::ServerAndRecords;
use super::super::servers::{self, Draft, data_key, open_with};
use super::super::{Permitted, retry_on_contention};
use super::setup::{ConsentRequest, forget_client};
use super::ticket::address;
use crate::domain::caller::Caller;
use crate::domain::event::{Action, Event};
use crate::domain::id::{ServerId, Sortable, TenantId};
use crate::domain::server::{Auth, Server};
use crate::domain::session::{ADDRESS_LIFETIME, Origin, Phase, SESSION_LIFETIME, Session};
use crate::domain::status::{Status, status};
use crate::domain::subject::Subject;
use crate::domain::time::CONSENT_LIFETIME;
use crate::state::app::App;
use crate::table::credentials::{kept_reason_key, record_keys};
use crate::table::servers::Companions;
use crate::table::{sessions, subjects};
use crate::{Error, Result};
use secrecy::SecretString;
use std::collections::BTreeMap;

/// How many consents a subject may start at a server within the lifetime of one, and how many for different scopes may be
/// offered to its providers.
pub(super) const MAX_CONSENTS: usize = 20;
/// Attempts at beginning a consent while other requests begin the same one.
const ATTEMPTS: usize = 3;

/// A consent that was started.
#[derive(Debug)]
pub struct StartedConsent {
    /// The session.
    pub session: Session,
    /// The address of our page for the subject. It is secret: whoever has it can connect an account of their own.
    pub url: SecretString,
}

/// A consent that begins now. What comes after this read may make it void ([`Session::is_void`]).
async fn new_session(
    app: &App,
    tenant: &TenantId,
    server: &Server,
    subject: &Subject,
    origin: Origin,
) -> Result<Session> {
    let keys = vec![
        kept_reason_key(tenant, server.id, subject),
        subjects::key(tenant, subject),
    ];
    let found = app.table.read(keys).await?;
    let now = app.now();
    Ok(Session {
        removals: found.removals(tenant, server.id, subject)?,
        offboardings: found.offboardings(tenant, subject)?,
        id: format!("{}{}", Session::tag(subject), Sortable::new(now)?.ulid()),
        tenant: tenant.clone(),
        server: server.id,
        subject: subject.clone(),
        auth_revision: server.auth_revision,
        at: now,
        origin,
        phase: Phase::Offered,
        secret_hash: String::new(),
        browser: None,
        opened_at: None,
        busy_until: None,
        consent: None,
        ttl: now.plus_seconds(SESSION_LIFETIME).seconds(),
    })
}

/// Returns the open consent of a subject at a server, or creates one. The issuer is not contacted before the button of
/// the consent page is pressed.
async fn get_or_create_session(
    app: &App,
    caller: &Caller,
    server: &Server,
    subject: &Subject,
    origin: Origin,
) -> Result<StartedConsent> {
    let (tenant, table) = (&caller.tenant, &app.table);
    let key = data_key(app, tenant, server).await?;
    let open_key = sessions::open_key(tenant, server.id, subject, &origin);
    for _ in 0..ATTEMPTS {
        let found = table.read(vec![open_key.clone()]).await?;
        let open = found.open_consent(&open_key)?;
        if let Some(id) = &open
            && let Some(session) = reusable(app, server, tenant, subject, id).await?
        {
            let renewed = asked_again(app, &session, &origin);
            if renewed.origin != session.origin || renewed.at != session.at {
                let event = Event::of_session(app.now(), caller, &renewed, Action::SessionBegun)?;
                if !table.renew_session(&session, &renewed, &event).await? {
                    continue;
                }
            }
            let (url, _) = address(&key, &renewed);
            return Ok(StartedConsent {
                session: renewed,
                url,
            });
        }
        // Only the scopes of a provider's consent are the caller's to choose, so that there may be many at a time.
        if let Origin::Langsmith { .. } = origin
            && offered_to_providers(app, tenant, server.id, subject).await? >= MAX_CONSENTS
        {
            return Err(Error::TooManyConsents);
        }
        let mut session = new_session(app, tenant, server, subject, origin.clone()).await?;
        let (url, secret_hash) = address(&key, &session);
        session.secret_hash = secret_hash;
        let begun = Event::of_session(session.at, caller, &session, Action::SessionBegun)?;
        if table.add_session(&session, open.as_deref(), &begun).await? {
            return Ok(StartedConsent { session, url });
        }
    }
    Err(Error::Contended)
}

/// A session that is still offered, if its address may be given again.
async fn reusable(
    app: &App,
    server: &Server,
    tenant: &TenantId,
    subject: &Subject,
    id: &str,
) -> Result<Option<Session>> {
    let mut keys = Vec::from(record_keys(tenant, server.id, subject));
    keys.push(sessions::key(tenant, server.id, id));
    keys.push(subjects::key(tenant, subject));
    let found = app.table.read(keys).await?;
    let offboardings = found.offboardings(tenant, subject)?;
    let records = found.records(tenant, server, subject)?;
    let session = found.session(tenant, server.id, id)?;
    Ok(session.filter(|session| {
        session.phase == Phase::Offered
            && session.subject == *subject
            && session.is_open(app.now())
            && !session.is_void(server, &records.stored, offboardings)
    }))
}

/// A session after another request for it. When half of its time is over, its time begins again, within the lifetime of its
/// address, so that the subject has enough time.
fn asked_again(app: &App, session: &Session, origin: &Origin) -> Session {
    let now = app.now();
    let mut renewed = session.clone();
    renewed.origin = session.origin.asked_again(origin);
    let born = session.ulid().map_or(session.at, Sortable::at);
    if session.at.plus_seconds(CONSENT_LIFETIME / 2) <= now
        && now < born.plus_seconds(ADDRESS_LIFETIME - CONSENT_LIFETIME)
    {
        renewed.at = now;
        renewed.ttl = now.plus_seconds(SESSION_LIFETIME).seconds();
    }
    renewed
}

/// The sessions that a subject has begun at a server within the lifetime of one.
pub(super) async fn recent(
    app: &App,
    tenant: &TenantId,
    server: ServerId,
    subject: &Subject,
) -> Result<Vec<Session>> {
    // Twice the two limits, so that neither hides the other.
    const READ: i32 = 80;
    let since = app.now().plus_seconds(-CONSENT_LIFETIME);
    app.table
        .sessions_since(tenant, server, subject, since, READ)
        .await
}

/// How many consents for other scopes are offered to a subject's providers at a server.
async fn offered_to_providers(
    app: &App,
    tenant: &TenantId,
    server: ServerId,
    subject: &Subject,
) -> Result<usize> {
    let recent = recent(app, tenant, server, subject).await?;
    let offered = recent.iter().filter(|one| {
        one.phase == Phase::Offered && matches!(one.origin, Origin::Langsmith { .. })
    });
    Ok(offered.count())
}

/// Starts a consent. The issuer is not contacted before the button of the consent page is pressed. `base` is our public
/// base URL; `additional_scopes` are requested in addition to the server's.
///
/// # Errors
/// [`Error::Contended`] when the server has just changed; [`Error::TooManyConsents`]; [`Error::Unavailable`],
/// [`Error::Internal`].
pub async fn start_consent(
    app: &App,
    server: &Permitted<Server>,
    base: &str,
    return_to: Option<String>,
    additional_scopes: Option<Vec<String>>,
) -> Result<StartedConsent> {
    let origin = Origin::Truefoundry {
        return_to,
        base: base.to_owned(),
        additional_scopes,
    };
    let caller = &server.caller;
    get_or_create_session(app, caller, &server.found, caller.subject(), origin).await
}

/// Returns the status of a subject at a server, with a consent if that is what the subject needs. `read` finds the caller's
/// own records.
///
/// # Errors
/// Those of `read` and of [`start_consent`]; [`Error::Internal`] when a consent is needed and `base` is unknown.
pub async fn start_required_consent<E, F>(
    app: &App,
    read: impl FnMut() -> F,
    base: Option<&str>,
    return_to: Option<&str>,
) -> Result<(Status, Option<StartedConsent>), E>
where
    E: From<Error>,
    F: Future<Output = Result<Permitted<ServerAndRecords>, E>>,
{
    retry_on_contention(read, async |Permitted { caller, found }| {
        let status = status(&found.server, &found.records, app.now());
        let consents = matches!(found.server.auth, Auth::Oauth(_));
        if !consents || !matches!(status, Status::Required { .. }) {
            return Ok((status, None));
        }
        let base = base
            .ok_or_else(|| Error::internal("no consent can start: HAWSER_PUBLIC_URL is not set"))?;
        let server = Permitted {
            caller,
            found: found.server,
        };
        let return_to = return_to.map(str::to_owned);
        let begun = start_consent(app, &server, base, return_to, None).await?;
        Ok((status, Some(begun)))
    })
    .await
}

/// Starts a consent whether or not the caller needs one. `read` finds the server for a caller who may do this.
///
/// # Errors
/// Those of `read` and of [`start_consent`].
pub async fn start_anew<E, F>(
    app: &App,
    read: impl FnMut() -> F,
    base: &str,
) -> Result<StartedConsent, E>
where
    E: From<Error>,
    F: Future<Output = Result<Permitted<Server>, E>>,
{
    retry_on_contention(read, async |server| {
        start_consent(app, &server, base, None, None).await
    })
    .await
}

/// Starts a consent for a LangSmith provider.
///
/// # Errors
/// As [`start_consent`].
pub async fn start_provider_consent(
    app: &App,
    caller: &Caller,
    server: &Server,
    subject: &Subject,
    provider: uuid::Uuid,
    base: &str,
    scopes: &[String],
) -> Result<StartedConsent> {
    let origin = Origin::Langsmith {
        provider,
        base: base.to_owned(),
        scopes: scopes.to_vec(),
    };
    get_or_create_session(app, caller, server, subject, origin).await
}

/// Finds a server's issuer and makes sure that there is a client for a subject.
///
/// # Errors
/// [`Error::Oauth`], [`Error::UpstreamUnavailable`], [`Error::ServerNotFound`]; [`Error::Unavailable`],
/// [`Error::Internal`].
pub async fn prepare(
    app: &App,
    tenant: &TenantId,
    server: &Server,
    subject: &Subject,
    base: &str,
) -> Result<()> {
    let key = data_key(app, tenant, server).await?;
    let secrets = open_with(&key, tenant, server)?;
    let request = ConsentRequest {
        tenant,
        server,
        key: &key,
        owner: Some(subject),
        redirect_uri: format!("{base}{CALLBACK_PATH}"),
        scopes: &[],
        additional_scopes: &[],
        abandoned_clients: BTreeMap::new(),
    };
    let settings = Settings::of(app, server, &secrets).await?;
    let setup = request.set_up(app, settings, true).await?;
    request.keep_client(app, &setup).await
}

/// Registers a server together with the consent that its creator is sent to, in one transaction (Kambrium 3). Nothing is
/// stored if its issuer cannot be asked.
///
/// # Errors
/// [`Error::Oauth`], [`Error::UpstreamUnavailable`], and those of [`servers::create`].
pub async fn create_server(
    app: &App,
    caller: &Caller,
    draft: Draft,
    integration: &str,
    base: &str,
) -> Result<(Server, StartedConsent)> {
    let tenant = &caller.tenant;
    let secrets = draft.secrets.clone();
    let prepared = servers::prepare(app, caller, draft).await?;
    let server = &prepared.server;
    let origin = Origin::Kambrium {
        integration: integration.to_owned(),
        base: base.to_owned(),
    };
    let mut session = new_session(app, tenant, server, caller.subject(), origin).await?;
    let (url, secret_hash) = address(&prepared.data_key, &session);
    session.secret_hash = secret_hash;
    let request = ConsentRequest::of(
        tenant,
        server,
        &prepared.data_key,
        &session,
        BTreeMap::new(),
    );
    let settings = Settings::of(app, server, &secrets).await?;
    let setup = request.set_up(app, settings, false).await?;
    let companions = Companions {
        client: setup.client.new.as_ref(),
        session: Some(&session),
        verification: None,
    };
    let inserted = servers::insert(app, caller, &prepared, &companions).await;
    if let (Err(_), Some(client)) = (&inserted, &setup.client.new) {
        forget_client(app, tenant, &prepared.data_key, client).await;
    }
    inserted.map(|server| (server, StartedConsent { session, url }))
}
