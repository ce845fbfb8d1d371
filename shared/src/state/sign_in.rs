//! How people and applications sign in to this deployment: the settings, the identity provider, and metadata documents
//! of applications that were fetched recently.

use crate::Result;
use crate::auth::jwt::Verifier;
use crate::domain::application::Application;
use crate::egress::Egress;
use crate::oauth::discovery::Issuer;
use crate::state::config::{ListedApplication, ProviderConfig, SignInConfig, SignInPlace};
use crate::state::slot::Slot;
use secrecy::SecretString;
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The most metadata documents that are kept.
const DOCUMENTS: usize = 256;
/// The most metadata documents that are fetched at once. Others wait for their turn, within their time limit.
const DOCUMENTS_AT_ONCE: usize = 8;
/// How long the provider's metadata and its client's secret are used before they are read again, and how long while they cannot
/// be read.
const PROVIDER_FRESH: Duration = Duration::from_secs(300);
const PROVIDER_OLDEST: Duration = Duration::from_secs(24 * 3600);
/// The time limit for fetching a metadata document.
const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(3);

/// How people and applications sign in to this deployment.
pub struct SignIn {
    /// Where people do.
    pub place: Place,
    /// Another authorization server to name to MCP clients in place of this deployment.
    pub authorization_server: Option<String>,
    /// Whether applications may register themselves.
    pub registration: bool,
    /// Applications that the operator lists.
    pub applications: Vec<ListedApplication>,
    pub(crate) documents: Documents,
    allow_loopback_http: bool,
    /// The HTTP client for metadata documents, made when it is first needed.
    to_documents: OnceLock<Egress>,
}

/// Where people sign in.
pub enum Place {
    /// Nowhere: nobody can sign in.
    Nowhere,
    /// At the operator's OpenID provider.
    Provider(Box<Provider>),
    /// At the local server's page for development.
    Development,
}

/// The operator's OpenID provider.
pub struct Provider {
    pub(crate) config: ProviderConfig,
    allow_loopback_http: bool,
    /// The verifier of its ID tokens, made when it is first needed.
    verifier: OnceLock<Verifier>,
    pub(crate) metadata: Slot<Issuer>,
    pub(crate) secret: Slot<SecretString>,
}

impl Provider {
    /// The verifier of the provider's ID tokens. It is made on first use, so that other functions do not pay for it.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when no HTTP client can be made.
    pub(crate) fn verifier(&self) -> Result<&Verifier> {
        if let Some(verifier) = self.verifier.get() {
            return Ok(verifier);
        }
        let verifier = Verifier::new(self.config.tokens.clone(), self.allow_loopback_http)?;
        Ok(self.verifier.get_or_init(|| verifier))
    }
}

impl SignIn {
    /// The settings of this configuration.
    pub fn new(config: SignInConfig, allow_loopback_http: bool) -> Self {
        Self {
            place: match config.place {
                SignInPlace::Nowhere => Place::Nowhere,
                SignInPlace::Development => Place::Development,
                SignInPlace::Provider(config) => Place::Provider(Box::new(Provider {
                    allow_loopback_http,
                    verifier: OnceLock::new(),
                    config: *config,
                    metadata: Slot::new("the provider's metadata", PROVIDER_FRESH, PROVIDER_OLDEST),
                    secret: Slot::new("the provider's secret", PROVIDER_FRESH, PROVIDER_OLDEST),
                })),
            },
            authorization_server: config.authorization_server,
            registration: config.registration,
            applications: config.applications,
            documents: Documents::default(),
            allow_loopback_http,
            to_documents: OnceLock::new(),
        }
    }

    /// The HTTP client for metadata documents. Anybody can name such a document, so this client reaches no private
    /// host, and has few places and little time.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when no HTTP client can be made.
    pub(crate) fn to_documents(&self) -> Result<&Egress> {
        if let Some(egress) = self.to_documents.get() {
            return Ok(egress);
        }
        let egress = Egress::new(self.allow_loopback_http)?;
        let egress = egress.limited(DOCUMENTS_AT_ONCE, DOCUMENT_TIMEOUT);
        Ok(self.to_documents.get_or_init(|| egress))
    }

    /// The issuer of the operator's provider, if people sign in there.
    pub fn issuer(&self) -> Option<&str> {
        match &self.place {
            Place::Provider(provider) => Some(&provider.config.tokens.issuer),
            Place::Nowhere | Place::Development => None,
        }
    }

    /// Whether people can sign in here.
    pub const fn is_offered(&self) -> bool {
        !matches!(self.place, Place::Nowhere)
    }
}

/// Metadata documents of applications that this process fetched recently.
#[derive(Debug, Default)]
pub struct Documents(Mutex<HashMap<String, (Application, Instant)>>);

impl Documents {
    pub(crate) fn get(&self, client_id: &str) -> Option<Application> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (application, until) = kept.get(client_id)?;
        (Instant::now() < *until).then(|| application.clone())
    }

    pub(crate) fn put(&self, application: &Application, serves: Duration) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        kept.retain(|_, (_, until)| now < *until);
        if kept.len() >= DOCUMENTS {
            let first = kept.iter().min_by_key(|(_, (_, until))| *until);
            let first = first.map(|(client_id, _)| client_id.clone());
            kept.remove(&first.unwrap_or_default());
        }
        let entry = (application.clone(), now + serves);
        kept.insert(application.client_id.clone(), entry);
    }
}
