//! Who has signed in in a browser: for the pages of consents, which ask for that.

use super::SignedIn;
use crate::domain::id::TenantId;
use crate::domain::subject::Subject;
use crate::state::app::App;
use crate::table::subjects;
use crate::{Error, Result};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// How long a browser counts as signed in, in seconds.
pub const BROWSER_SESSION_LIFETIME: i64 = 600;
/// The purpose of what is sealed.
const SESSION: &str = "browser-session";

/// Who has signed in in a browser a short while ago. Ends by itself within minutes, and at once when its subject is offboarded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BrowserSession {
    /// Their tenant.
    pub tenant: TenantId,
    /// Who.
    pub subject: Subject,
    /// Whether they may act for the tenant's virtual accounts.
    pub manages: bool,
    /// How often the subject had been offboarded then.
    offboardings: u64,
    until: i64,
}

/// The cookie of a browser in which somebody has signed in.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn browser_session(
    app: &App,
    signed_in: &SignedIn,
    manages: bool,
    offboardings: u64,
) -> Result<SecretString> {
    let session = BrowserSession {
        tenant: signed_in.tenant.clone(),
        subject: signed_in.identity.subject.clone(),
        manages,
        offboardings,
        until: app.now().plus_seconds(BROWSER_SESSION_LIFETIME).seconds(),
    };
    let plain = serde_json::to_vec(&session).map_err(Error::internal)?;
    app.operator_key().await?.seal_token(SESSION, &plain)
}

/// Who has signed in in the browser with this cookie, if the sign-in still counts.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn read_browser_session(app: &App, cookie: &str) -> Result<Option<BrowserSession>> {
    let key = app.existing_operator_key().await?;
    let opened = key.and_then(|key| key.open_token(SESSION, cookie));
    let session: Option<BrowserSession> =
        opened.and_then(|plain| serde_json::from_slice(&plain).ok());
    let Some(session) = session.filter(|one| app.now().seconds() < one.until) else {
        return Ok(None);
    };
    let (tenant, subject) = (&session.tenant, &session.subject);
    let found = app.table.read(vec![subjects::key(tenant, subject)]).await?;
    let stands = found.offboardings(tenant, subject)? == session.offboardings;
    Ok(stands.then_some(session))
}
