//! The OAuth client that a consent is asked for as: the operator's, our metadata document, or one registered on the spot
//! (checklist 3). And what else a server's OAuth needs to be known: settings from its registration or its integration.

use super::consent::CALLBACK_PATH;
use crate::app::App;
use crate::catalogue::RevocationScope;
use crate::domain::error::OauthSetup;
use crate::domain::id::{ServerId, Sortable, TenantId};
use crate::domain::issuance::{
    Client, ClientAuth, ClientRecord, ClientSecrets, ClientSource, Issuance,
};
use crate::domain::server::{Auth, GrantType, OauthConfig, Place, Secrets, Server, host, origin};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::oauth::discovery::Issuer;
use crate::oauth::registration::{self, Deregistered};
use crate::seal::{DataKey, Kind};
use crate::{Error, Result};
use secrecy::SecretString;
use std::collections::BTreeMap;
use tracing::{info, warn};

/// How a server's subjects consent: what its operator said of it.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// The server's whole address.
    pub address: SecretString,
    pub authorization_endpoint: Option<String>,
    pub token_endpoint: Option<String>,
    pub registration_endpoint: Option<String>,
    pub revocation_endpoint: Option<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<SecretString>,
    pub scopes: Vec<String>,
    /// `None`: as the specification demands.
    pub send_resource: Option<bool>,
    pub pkce: bool,
    pub authorize_params: BTreeMap<String, String>,
    pub token_params: Vec<(String, SecretString)>,
    pub revocation_scope: RevocationScope,
}

impl Settings {
    /// Those of a server's integration, if it was made from one that still has any; else its own.
    ///
    /// # Errors
    /// [`Error::Oauth`] when its subjects do not consent; [`Error::Internal`].
    pub fn of(app: &App, server: &Server, secrets: &Secrets) -> Result<Self> {
        let Auth::Oauth(config) = &server.auth else {
            return Err(Error::Oauth(OauthSetup::NotEnabled));
        };
        if config.grant_type != GrantType::AuthorizationCode {
            return Err(Error::Oauth(OauthSetup::NotEnabled));
        }
        let integration = server
            .connection
            .integration
            .as_deref()
            .and_then(|name| app.catalogue.of_connection(name)?.oauth.clone());
        let settings = match integration {
            Some(oauth) => Self {
                address: SecretString::default(),
                authorization_endpoint: oauth.authorization_endpoint,
                token_endpoint: oauth.token_endpoint,
                registration_endpoint: None,
                revocation_endpoint: oauth.revocation_endpoint,
                client_id: oauth.client_id,
                client_secret: oauth.client_secret,
                scopes: oauth.scopes,
                send_resource: None,
                pkce: oauth.pkce,
                authorize_params: oauth.authorize_params,
                token_params: Vec::new(),
                revocation_scope: oauth.revocation_scope,
            },
            None => Self::configured(config, secrets),
        };
        Ok(Self {
            address: secrets.address(server).into(),
            ..settings
        })
    }

    /// The secret that the operator's client has by now, for what was issued to it under `auth_revision`; `None` where
    /// nothing newer is known than what was kept then. Only the issuer that a secret is shared with is told what has become
    /// of it.
    pub fn secret_for(
        &self,
        issuance: &Issuance,
        auth_revision: u64,
        server: &Server,
    ) -> Option<&SecretString> {
        let client = &issuance.client;
        let same_client = client.source == ClientSource::PreRegistered
            && self.client_id.as_ref() == Some(&client.id);
        let endpoint = self.token_endpoint.as_ref();
        let same_issuer = auth_revision == server.auth_revision
            && endpoint.is_none_or(|url| *url == issuance.token_endpoint);
        self.client_secret
            .as_ref()
            .filter(|_| same_client && same_issuer)
    }

    /// What the operator said with the registration, whatever the grant type.
    pub(super) fn configured(config: &OauthConfig, secrets: &Secrets) -> Self {
        let secret = |place| secrets.get(place).map(SecretString::from);
        let params = config.token_params.iter().flatten();
        Self {
            address: SecretString::default(),
            authorization_endpoint: config.authorization_url.clone(),
            token_endpoint: config.token_url.clone(),
            registration_endpoint: config.registration_url.clone(),
            revocation_endpoint: None,
            client_id: config.client_id.clone(),
            client_secret: secret(Place::ClientSecret),
            scopes: config.scopes.clone().unwrap_or_default(),
            send_resource: config.include_resource,
            pkce: true,
            authorize_params: BTreeMap::new(),
            token_params: params
                .filter_map(|name| Some((name.clone(), secret(Place::TokenParam(name))?)))
                .collect(),
            revocation_scope: RevocationScope::Token,
        }
    }
}

/// A client ready to be used.
pub(super) struct Usable {
    pub client: Client,
    pub secret: Option<SecretString>,
    /// Its record, if it has none yet.
    pub new: Option<ClientRecord>,
}

/// For whom and where a client is looked for.
pub(super) struct Search<'a> {
    pub tenant: &'a TenantId,
    pub server: &'a Server,
    pub key: &'a DataKey,
    /// The one subject that a registered client serves; all of the server's if there is none.
    pub owner: Option<&'a Subject>,
    pub redirect_uri: &'a str,
    pub settings: &'a Settings,
    /// What is on record for the owner.
    pub known: &'a [ClientRecord],
}

impl Search<'_> {
    /// The client to use at an issuer, in the specification's order.
    pub async fn at(&self, app: &App, issuer: &Issuer, scopes: &[String]) -> Result<Usable> {
        if let Some(id) = &self.settings.client_id {
            return self.pre_registered(app, issuer, id);
        }
        if issuer.takes_metadata_documents
            && self.settings.registration_endpoint.is_none()
            && let Some(url) = metadata_url(app)
        {
            return Ok(Usable {
                client: Client {
                    id: url,
                    auth: ClientAuth::None,
                    source: ClientSource::MetadataDocument,
                },
                secret: None,
                new: None,
            });
        }
        let now = app.now();
        let usable = self.known.iter().find(|record| {
            matches!(record.client.source, ClientSource::Dynamic(_))
                && record.owner.as_ref() == self.owner
                && record.issuer == issuer.issuer
                && record.redirect_uri == self.redirect_uri
                && !record.rejected
                && scopes.iter().all(|scope| record.scopes.contains(scope))
                && record.secret_expires_at.is_none_or(|end| now < end)
        });
        match usable {
            Some(record) => Ok(Usable {
                client: record.client.clone(),
                secret: open(self.tenant, self.key, record)?.secret,
                new: None,
            }),
            None => self.register(app, issuer, scopes).await,
        }
    }

    /// The operator's client belongs to the issuer that was found first, and to no other (checklist rows 7 and 8).
    fn pre_registered(&self, app: &App, issuer: &Issuer, id: &str) -> Result<Usable> {
        let secret = self.settings.client_secret.clone();
        let client = Client {
            id: id.to_owned(),
            auth: auth_of(secret.is_some(), issuer.token_auth_methods.as_deref()),
            source: ClientSource::PreRegistered,
        };
        let mut known = self
            .known
            .iter()
            .filter(|r| r.client.source == ClientSource::PreRegistered && r.client.id == id);
        let new = match known.next() {
            Some(record) if record.issuer != issuer.issuer => {
                return Err(Error::Oauth(OauthSetup::OtherIssuer));
            }
            Some(_) => None,
            None => {
                Some(self.record(app, issuer, &client, None, None, &ClientSecrets::default())?)
            }
        };
        Ok(Usable {
            client,
            secret,
            new,
        })
    }

    async fn register(&self, app: &App, issuer: &Issuer, scopes: &[String]) -> Result<Usable> {
        let mut issuer = issuer.clone();
        if let Some(url) = &self.settings.registration_endpoint {
            issuer.registration_endpoint = Some(url.clone());
        }
        if issuer.registration_endpoint.is_none() {
            return Err(Error::Oauth(OauthSetup::NoClient));
        }
        let made = registration::register(&app.egress, &issuer, self.redirect_uri, scopes)
            .await
            .map_err(|failure| match failure {
                registration::Failure::Refused => Error::Oauth(OauthSetup::RegistrationRefused),
                registration::Failure::TryLater => Error::UpstreamUnavailable,
            })?;
        let client = Client {
            id: made.client_id,
            auth: made.auth,
            source: ClientSource::Dynamic(String::new()),
        };
        let end = made
            .secret_expires_at
            .map(|seconds| Timestamp::from_micros(0).plus_seconds(seconds));
        let (uri, token) = made.management.map(|m| (m.uri, m.token)).unzip();
        let secrets = ClientSecrets {
            secret: made.secret,
            registration_token: token,
        };
        let mut record = self.record(app, &issuer, &client, end, uri, &secrets)?;
        record.scopes = scopes.to_vec();
        info!(tenant = self.tenant.as_str(), server = ?self.server.id, issuer = host(&issuer.issuer), "registered a client");
        Ok(Usable {
            client: record.client.clone(),
            secret: secrets.secret,
            new: Some(record),
        })
    }

    fn record(
        &self,
        app: &App,
        issuer: &Issuer,
        client: &Client,
        secret_expires_at: Option<Timestamp>,
        management_uri: Option<String>,
        secrets: &ClientSecrets,
    ) -> Result<ClientRecord> {
        let now = app.now();
        let id = Sortable::new(now)?.ulid();
        let json = secrets
            .to_json()
            .ok_or_else(|| Error::internal("a client's secrets do not encode"))?;
        let mut client = client.clone();
        if matches!(client.source, ClientSource::Dynamic(_)) {
            client.source = ClientSource::Dynamic(id.clone());
        }
        let kind = Kind::Client(&id, &issuer.issuer);
        let sealed = self.key.seal(self.tenant, self.server.id, kind, &json)?;
        Ok(ClientRecord {
            server: self.server.id,
            owner: match client.source {
                ClientSource::Dynamic(_) => self.owner.cloned(),
                ClientSource::PreRegistered | ClientSource::MetadataDocument => None,
            },
            issuer: issuer.issuer.clone(),
            client,
            redirect_uri: self.redirect_uri.to_owned(),
            scopes: Vec::new(),
            secret_expires_at,
            rejected: false,
            management_uri,
            at: now,
            id,
            sealed,
        })
    }
}

/// How a client with or without a secret authenticates, by what the issuer supports.
pub(super) fn auth_of(has_secret: bool, supported: Option<&[String]>) -> ClientAuth {
    let basic = supported.is_none_or(|methods| methods.iter().any(|m| m == "client_secret_basic"));
    match (has_secret, basic) {
        (false, _) => ClientAuth::None,
        (true, true) => ClientAuth::Basic,
        (true, false) => ClientAuth::Post,
    }
}

/// The address of our client id metadata document, where this deployment has one.
pub fn metadata_url(app: &App) -> Option<String> {
    app.client_metadata_url.clone().or_else(|| {
        let base = app.public_urls.first()?;
        base.starts_with("https://")
            .then(|| format!("{base}{METADATA_PATH}"))
    })
}

/// The path of our client id metadata document.
pub const METADATA_PATH: &str = "/oauth/client-metadata.json";

/// Every address of ours that issuers answer to.
pub fn callbacks(app: &App) -> Vec<String> {
    let integrations = app.catalogue.active();
    let paths: Vec<String> = std::iter::once(CALLBACK_PATH.to_owned())
        .chain(
            integrations
                .filter(|(_, integration)| integration.oauth.is_some())
                .map(|(name, _)| integration_callback(name)),
        )
        .collect();
    let bases = app.public_urls.iter();
    bases
        .flat_map(|base| paths.iter().map(move |path| format!("{base}{path}")))
        .collect()
}

/// The path that the issuer of an integration answers to (Kambrium 14).
pub(super) fn integration_callback(integration: &str) -> String {
    format!("/api/mcp-servers/saas-oauth/{integration}/callback/")
}

fn open(tenant: &TenantId, key: &DataKey, record: &ClientRecord) -> Result<ClientSecrets> {
    let kind = Kind::Client(&record.id, &record.issuer);
    let json = key.open(tenant, record.server, kind, &record.sealed)?;
    ClientSecrets::from_json(&json)
        .ok_or_else(|| Error::internal("a client's secrets do not decode"))
}

/// Removes a registered client at its issuer, where that can be done. Answers whether that is settled.
pub(super) async fn deregister(
    app: &App,
    tenant: &TenantId,
    key: &DataKey,
    record: &ClientRecord,
) -> Result<bool> {
    let token = open(tenant, key, record)?.registration_token;
    let (Some(uri), Some(token)) = (&record.management_uri, token) else {
        return Ok(true);
    };
    let asked = origin(uri);
    if !app.silence.admits(&asked, app.now()) {
        return Ok(false);
    }
    let answer = registration::deregister(&app.egress, uri, &token).await;
    let answered = !matches!(answer, Deregistered::TryLater);
    app.silence.note(&asked, answered, app.now());
    let issuer = host(&record.issuer);
    Ok(match answer {
        Deregistered::Gone => {
            info!(tenant = tenant.as_str(), server = ?record.server, issuer, "deregistered a client");
            true
        }
        Deregistered::Refused => {
            warn!(tenant = tenant.as_str(), server = ?record.server, issuer, "a client could not be deregistered");
            true
        }
        Deregistered::TryLater => false,
    })
}

/// The issuer does not know a client any more: if it was registered, the next consent registers another.
pub(super) async fn reject(
    app: &App,
    tenant: &TenantId,
    server: ServerId,
    subject: &Subject,
    issuance: &Issuance,
) -> Result<()> {
    if let ClientSource::Dynamic(record) = &issuance.client.source {
        for owner in [None, Some(subject)] {
            app.table
                .reject_client(tenant, server, owner, record)
                .await?;
        }
    }
    Ok(())
}
