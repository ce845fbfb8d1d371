//! Applications: finding them by `client_id`, registering them, and authenticating them (Inbound 2).
//!
//! A registration is stored nowhere. All that was registered is in the `client_id` itself, under a tag that only Hawser can
//! make, and the secret follows from the id (RFC 7591 A.5.2). So registering costs nothing, fills nothing and needs no limit of its
//! own (docs/decisions/0034-registrations-are-not-stored.md).

mod document;

use crate::domain::application::{
    Application, ApplicationAuth, ApplicationSource, are_usable_redirects, is_document_address,
};
use crate::domain::id::{hash, is_plain_text, is_same_secret, random};
use crate::state::app::App;
use crate::{Error, Result};
use data_encoding::BASE64URL_NOPAD;
use document::document;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// What a registered `client_id` begins with; the number of the key, the registration and the tag follow.
const PREFIX: &str = "hwa";
/// The purposes of what is derived for an application.
const TAG: &str = "application";
const SECRET: &str = "application-secret";
/// The longest name of an application, in characters.
const NAME_LIMIT: usize = 100;
/// The longest registration, in bytes: it travels in every request.
const REGISTRATION_LIMIT: usize = 1024;

/// Why an application was not found.
#[derive(Debug)]
pub enum NoApplication {
    /// Nobody knows this `client_id`.
    Unknown,
    /// The document at its address cannot be fetched at present.
    Unreachable,
    /// The document at its address must not be believed.
    Unusable(&'static str),
    /// Something failed here.
    Failed(Error),
}

impl From<Error> for NoApplication {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What an application registers (RFC 7591 2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// `client_name`.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `redirect_uris`.
    #[serde(rename = "r")]
    pub redirect_uris: Vec<String>,
    /// `token_endpoint_auth_method`.
    #[serde(rename = "a", default)]
    pub auth: ApplicationAuth,
    /// When it was registered, in seconds since the epoch.
    #[serde(rename = "t", default)]
    pub at: i64,
    /// Random, so that each registration is one of its own, with a secret of its own.
    #[serde(rename = "i", default)]
    pub unique: String,
}

/// Why a registration is refused (RFC 7591 3.2.2).
#[derive(Debug)]
pub enum NotRegistered {
    /// Registration is turned off.
    TurnedOff,
    /// `invalid_redirect_uri`.
    RedirectUri,
    /// `invalid_client_metadata`: with what is wrong.
    Metadata(&'static str),
    /// Something failed here.
    Failed(Error),
}

impl From<Error> for NotRegistered {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A registration that was accepted.
#[derive(Debug)]
pub struct Registered {
    /// The application.
    pub application: Application,
    /// Its secret, unless it is public.
    pub secret: Option<SecretString>,
    /// When, in seconds since the epoch.
    pub at: i64,
}

/// Registers an application.
///
/// # Errors
/// [`NotRegistered`].
pub async fn register(app: &App, mut asked: Registration) -> Result<Registered, NotRegistered> {
    if !app.sign_in.registration {
        return Err(NotRegistered::TurnedOff);
    }
    let uris = &asked.redirect_uris;
    if !are_usable_redirects(uris) {
        return Err(NotRegistered::RedirectUri);
    }
    if asked
        .name
        .as_ref()
        .is_some_and(|name| !is_plain_text(name, NAME_LIMIT))
    {
        return Err(NotRegistered::Metadata(
            "client_name is too long, or holds control characters",
        ));
    }
    asked.at = app.now().seconds();
    asked.unique = BASE64URL_NOPAD.encode(&random::<9>()?);
    let text = serde_json::to_vec(&asked).map_err(Error::internal)?;
    if text.len() > REGISTRATION_LIMIT {
        return Err(NotRegistered::Metadata("the registration is too long"));
    }
    let key = app.operator_key().await?;
    let text = BASE64URL_NOPAD.encode(&text);
    let tag = key.derive(TAG, &text);
    let client_id = format!("{PREFIX}.{}.{text}.{}", key.number(), tag.expose_secret());
    let secret = (asked.auth != ApplicationAuth::None).then(|| key.derive(SECRET, &client_id));
    Ok(Registered {
        at: asked.at,
        application: asked.application(client_id),
        secret,
    })
}

impl Registration {
    fn application(self, client_id: String) -> Application {
        Application {
            client_id,
            name: self.name,
            redirect_uris: self.redirect_uris,
            auth: self.auth,
            source: ApplicationSource::Registered,
        }
    }
}

/// The registration in a `client_id` that we have made; with the secret that belongs to it.
async fn registered(app: &App, client_id: &str) -> Result<Option<(Application, SecretString)>> {
    let parts: Vec<&str> = client_id.split('.').collect();
    let &[PREFIX, number, text, tag] = parts.as_slice() else {
        return Ok(None);
    };
    let Some(key) = app.existing_operator_key().await? else {
        return Ok(None);
    };
    let is_ours = number == key.number().to_string()
        && is_same_secret(key.derive(TAG, text).expose_secret(), tag);
    let registration = BASE64URL_NOPAD
        .decode(text.as_bytes())
        .ok()
        .filter(|_| is_ours)
        .and_then(|json| serde_json::from_slice::<Registration>(&json).ok());
    Ok(registration.map(|it| {
        let secret = key.derive(SECRET, client_id);
        (it.application(client_id.to_owned()), secret)
    }))
}

/// Finds the application of a `client_id` that asks for a sign-in.
///
/// # Errors
/// [`NoApplication`].
pub async fn find(app: &App, client_id: &str) -> Result<Application, NoApplication> {
    if let Some(listed) = listed(app, client_id) {
        return Ok(listed.0);
    }
    if is_document_address(client_id, app.allow_loopback_http) {
        return document(app, client_id).await;
    }
    let found = registered(app, client_id).await?;
    found
        .filter(|_| app.sign_in.registration)
        .map(|(application, _)| application)
        .ok_or(NoApplication::Unknown)
}

/// Whether this is the application that it says it is, by the secret that it presents at the token endpoint; `None` where it
/// presents none. A public one presents none: its codes and tokens are bound to it in another way. Whether an application may
/// still register, or its document can be fetched, does not matter here: what it was given ends with its login.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn authenticate(
    app: &App,
    client_id: &str,
    presented: Option<&SecretString>,
) -> Result<bool> {
    let presented = presented.map(ExposeSecret::expose_secret);
    let presented = presented.filter(|secret| !secret.is_empty());
    if let Some((application, secret_hash)) = listed(app, client_id) {
        return Ok(match (application.auth, presented, secret_hash) {
            (ApplicationAuth::None, None, _) => true,
            (_, Some(secret), Some(expected)) => is_same_secret(&hash(secret), expected),
            _ => false,
        });
    }
    if is_document_address(client_id, app.allow_loopback_http) {
        return Ok(presented.is_none());
    }
    Ok(match registered(app, client_id).await? {
        None => false,
        Some((application, secret)) => match (application.auth, presented) {
            (ApplicationAuth::None, presented) => presented.is_none(),
            (_, Some(presented)) => is_same_secret(secret.expose_secret(), presented),
            (_, None) => false,
        },
    })
}

/// An application that the operator lists, and the hash of its secret.
fn listed<'a>(app: &'a App, client_id: &str) -> Option<(Application, Option<&'a str>)> {
    let mut all = app.sign_in.applications.iter();
    let one = all.find(|one| one.client_id == client_id)?;
    let secret = one.client_secret_sha256.as_deref();
    let application = Application {
        client_id: one.client_id.clone(),
        name: Some(one.name.clone()),
        redirect_uris: one.redirect_uris.clone(),
        auth: match secret {
            Some(_) => ApplicationAuth::Basic,
            None => ApplicationAuth::None,
        },
        source: ApplicationSource::Listed,
    };
    Some((application, secret))
}

/// Reads the client metadata that an application registers (RFC 7591 2). What it says beyond that is ignored.
///
/// # Errors
/// What is wrong with it.
pub fn read_registration(json: &[u8]) -> Result<Registration, NotRegistered> {
    #[derive(Deserialize)]
    struct Metadata {
        client_name: Option<String>,
        #[serde(default)]
        redirect_uris: Vec<String>,
        token_endpoint_auth_method: Option<String>,
        grant_types: Option<Vec<String>>,
        response_types: Option<Vec<String>>,
    }
    let invalid = NotRegistered::Metadata;
    let read: Metadata = serde_json::from_slice(json)
        .map_err(|_| invalid("the body is no JSON object of client metadata"))?;
    // The default of RFC 7591.
    let auth = match read.token_endpoint_auth_method.as_deref() {
        None => ApplicationAuth::Basic,
        Some(name) => ApplicationAuth::parse(name)
            .ok_or(invalid("token_endpoint_auth_method is not supported"))?,
    };
    let code = |list: &Option<Vec<String>>, word: &str| {
        list.as_ref()
            .is_none_or(|all| all.iter().any(|one| one == word))
    };
    if !code(&read.grant_types, "authorization_code") || !code(&read.response_types, "code") {
        return Err(invalid("an application must use authorization codes"));
    }
    Ok(Registration {
        name: read.client_name.filter(|name| !name.is_empty()),
        redirect_uris: read.redirect_uris,
        auth,
        ..Registration::default()
    })
}
