//! The OAuth client of a consent: the operator's, our metadata document, or a client that is registered for it
//! (MCP authorization 3). Also the OAuth settings of a server, from its registration or its integration.

use super::integrations;
use crate::domain::address::{host, origin};
use crate::domain::credential::new_version;
use crate::domain::endpoint_method::{ClientAuth, RevocationMethod};
use crate::domain::error::OauthSetup;
use crate::domain::id::{ServerId, Sortable, TenantId, random};
use crate::domain::integration::RevocationScope;
use crate::domain::issuance::{Client, ClientRecord, ClientSecrets, ClientSource, Issuance};
use crate::domain::server::{Auth, GrantType, OauthConfig, Place, Secrets, Server};
use crate::domain::subject::Subject;
use crate::domain::time::{CONSENT_LIFETIME, Timestamp};
use crate::oauth::discovery::{Issuer, is_same_issuer};
use crate::oauth::owner::IssuerHints;
use crate::oauth::registration::{self, Deregistered};
use crate::seal::{DataKey, Kind};
use crate::state::app::App;
use crate::state::catalogue::CatalogueEntry;
use crate::{Error, Result};
use secrecy::SecretString;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// The path of our redirect URI.
pub(super) const CALLBACK_PATH: &str = "/oauth/callback";

/// The operator's OAuth settings for a server.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// The server's whole address.
    pub address: SecretString,
    pub authorization_endpoint: Option<String>,
    pub token_endpoint: Option<String>,
    pub registration_endpoint: Option<String>,
    /// Where the operator says that tokens are revoked; see [`Self::revocation_endpoint`].
    revocation_url: Option<String>,
    pub revocation_method: RevocationMethod,
    /// The issuer, where the operator names it.
    pub issuer: Option<String>,
    pub token_auth: Option<ClientAuth>,
    pub revocation_auth: Option<ClientAuth>,
    /// Whether the operator says that the issuer supports S256, whatever its metadata says.
    pub supports_s256: bool,
    /// Whether they stand in the deployment's own configuration, not in a registration: that may name hosts afterwards, too.
    pub is_deployed: bool,
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
    /// [`Error::Oauth`] when its subjects do not consent; [`Error::Unavailable`] and [`Error::Internal`], also when the secret
    /// of the integration's client cannot be had.
    pub async fn of(app: &App, server: &Server, secrets: &Secrets) -> Result<Self> {
        let (mut settings, integration) = Self::look_up(app, server, secrets).await?;
        if let Some(offered) = integration {
            settings.client_secret = offered.client_secret(app).await?;
        }
        Ok(settings)
    }

    /// The same without the secret of an integration's client, for callers that do not authenticate at the issuer.
    ///
    /// # Errors
    /// [`Error::Oauth`] when its subjects do not consent; [`Error::Unavailable`], [`Error::Internal`].
    pub async fn without_secret(app: &App, server: &Server, secrets: &Secrets) -> Result<Self> {
        let (settings, _) = Self::look_up(app, server, secrets).await?;
        Ok(settings)
    }

    /// The settings, without the secret of an integration's client, and the integration that they are of.
    async fn look_up(
        app: &App,
        server: &Server,
        secrets: &Secrets,
    ) -> Result<(Self, Option<Arc<CatalogueEntry>>)> {
        let Auth::Oauth(config) = &server.auth else {
            return Err(Error::Oauth(OauthSetup::NotEnabled));
        };
        if config.grant_type != GrantType::AuthorizationCode {
            return Err(Error::Oauth(OauthSetup::NotEnabled));
        }
        let integration = match &server.connection.integration {
            Some(name) => integrations::find(app, name).await?,
            None => None,
        };
        let integration = integration.filter(|one| one.integration.oauth.is_some());
        let oauth = integration.as_ref();
        let settings = match oauth.and_then(|one| one.integration.oauth.clone()) {
            Some(oauth) => Self {
                address: SecretString::default(),
                authorization_endpoint: oauth.authorization_endpoint,
                token_endpoint: oauth.token_endpoint,
                registration_endpoint: None,
                revocation_url: oauth.revocation_endpoint,
                revocation_method: oauth
                    .revocation
                    .map_or_else(Default::default, |one| one.method),
                issuer: oauth.issuer,
                token_auth: oauth.token_endpoint_auth_method,
                revocation_auth: oauth.revocation_endpoint_auth_method,
                supports_s256: has_s256(&oauth.code_challenge_methods_supported),
                is_deployed: true,
                client_id: oauth.client_id,
                client_secret: None,
                scopes: oauth.scopes,
                send_resource: oauth.include_resource,
                pkce: oauth.pkce,
                authorize_params: oauth.authorize_params,
                token_params: Vec::new(),
                revocation_scope: oauth.revocation_scope,
            },
            None => Self::configured(config, secrets),
        };
        let address = secrets.address(server).into();
        Ok((
            Self {
                address,
                ..settings
            },
            integration,
        ))
    }

    /// Where subjects sign in, as far as the operator said: where their browsers go, or whose metadata says where.
    pub fn sign_in(&self) -> Option<String> {
        let endpoint = self.authorization_endpoint.as_ref();
        endpoint.or(self.issuer.as_ref()).cloned()
    }

    /// Requires that the operator allows the tenant's servers an issuer, before anything is sent to it. Where its
    /// endpoints are configured, nothing vouches for its name but the places where browsers, codes and tokens go: those
    /// are judged, and the issuer too if it is named. So is a configured revocation endpoint, unless it is the
    /// documented one of a provider.
    ///
    /// # Errors
    /// [`Error::Oauth`].
    pub fn require_allowed(&self, app: &App, tenant: &TenantId, issuer: &str) -> Result<()> {
        if let Some(revocation) = &self.revocation_url {
            allowed(app, tenant, &origin(revocation))?;
        }
        match (&self.authorization_endpoint, &self.token_endpoint) {
            (Some(authorization), Some(token)) => {
                allowed(app, tenant, &origin(authorization))?;
                self.require_allowed_at(app, tenant, token)
            }
            _ => allowed(app, tenant, issuer),
        }
    }

    /// The same for a token endpoint that the operator configured.
    ///
    /// # Errors
    /// [`Error::Oauth`].
    pub fn require_allowed_at(&self, app: &App, tenant: &TenantId, token: &str) -> Result<()> {
        allowed(app, tenant, &origin(token))?;
        self.issuer
            .as_deref()
            .map_or(Ok(()), |named| allowed(app, tenant, named))
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
        let same_issuer = self.matches_issuance(issuance, auth_revision, server);
        self.client_secret
            .as_ref()
            .filter(|_| same_client && same_issuer)
    }

    /// Where the operator, or the documentation of the provider whose way it named, says that tokens are revoked.
    pub fn revocation_endpoint(&self) -> Option<String> {
        let documented = self.revocation_method.endpoint();
        self.revocation_url
            .clone()
            .or_else(|| documented.map(str::to_owned))
    }

    /// Whether these settings still match those that something was issued under.
    pub fn matches_issuance(
        &self,
        issuance: &Issuance,
        auth_revision: u64,
        server: &Server,
    ) -> bool {
        let endpoint = self.token_endpoint.as_ref();
        auth_revision == server.auth_revision
            && endpoint.is_none_or(|url| *url == issuance.token_endpoint)
    }

    /// The hints of these settings for finding the issuer of a token endpoint. `server_url` is the server that the
    /// tokens are for. If the operator names the issuer, it is the only candidate.
    pub fn issuer_hints<'a>(
        &self,
        token_endpoint: &'a str,
        server_url: Option<&'a str>,
    ) -> IssuerHints<'a> {
        let mut issuer_hints = IssuerHints {
            token_endpoint,
            ..IssuerHints::default()
        };
        if let Some(issuer) = &self.issuer {
            issuer_hints.issuers.push(issuer.clone());
            issuer_hints.trusted.push(issuer.clone());
            return issuer_hints;
        }
        issuer_hints.issuers.push(origin(token_endpoint));
        if let Some(endpoint) = &self.authorization_endpoint {
            issuer_hints.issuers.push(origin(endpoint));
            issuer_hints.trusted.push(origin(endpoint));
        }
        issuer_hints.resource = server_url;
        issuer_hints
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
            revocation_url: config.revocation_url.clone(),
            revocation_method: config
                .revocation
                .map_or_else(Default::default, |one| one.method),
            issuer: config.issuer.clone(),
            token_auth: config.token_endpoint_auth_method,
            revocation_auth: config.revocation_endpoint_auth_method,
            supports_s256: config
                .code_challenge_methods_supported
                .as_deref()
                .is_some_and(has_s256),
            is_deployed: false,
            client_id: config.client_id.clone(),
            client_secret: secret(Place::ClientSecret),
            scopes: config.scopes.clone().unwrap_or_default(),
            send_resource: config.include_resource,
            pkce: true,
            authorize_params: config
                .additional_authorization_params
                .clone()
                .unwrap_or_default(),
            token_params: params
                .filter_map(|name| Some((name.clone(), secret(Place::TokenParam(name))?)))
                .collect(),
            revocation_scope: RevocationScope::Token,
        }
    }
}

/// The OAuth client selected for a consent.
pub(super) struct SelectedClient {
    pub client: Client,
    pub secret: Option<SecretString>,
    /// The id of its record, if it has one or is to have one.
    pub record: Option<String>,
    /// Its record, if it has none yet.
    pub new: Option<ClientRecord>,
    /// Whether a browser that was sent away as it is being waited for already.
    pub is_awaited: bool,
}

/// The parameters of a client selection.
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
    /// When the subject last left a consent of a registered client unfinished, by client record.
    pub abandoned_clients: &'a BTreeMap<String, Timestamp>,
    /// Where a lease that is taken for a registration is kept; `None` for a server that is not stored yet, and that nobody else
    /// knows.
    pub lease: Option<&'a OnceLock<String>>,
}

impl Search<'_> {
    /// The client to use at an issuer, in the specification's order.
    pub async fn at(
        &self,
        app: &App,
        issuer: &Issuer,
        scopes: &[String],
    ) -> Result<SelectedClient> {
        if let Some(id) = &self.settings.client_id {
            return self.pre_registered(app, issuer, id);
        }
        if issuer.takes_metadata_documents
            && self.settings.registration_endpoint.is_none()
            && let Some(url) = metadata_url(app)
        {
            return Ok(SelectedClient {
                client: Client::new(url, Vec::new(), ClientSource::MetadataDocument),
                secret: None,
                record: None,
                new: None,
                is_awaited: false,
            });
        }
        if let Some(usable) = self.registered(app, self.known, issuer, scopes)? {
            return Ok(usable);
        }
        let registered = match self.lease {
            Some(lease) => self.register_alone(app, issuer, scopes, lease).await,
            None => self.register(app, issuer, scopes).await,
        };
        let serving = self.serving(app, self.known, issuer, scopes);
        match (registered, serving.last()) {
            // An issuer that registers no other may still know this one.
            (Err(Error::Oauth(_)), Some(doubtful)) => self.reuse(doubtful),
            (registered, _) => registered,
        }
    }

    /// Those of the known clients that were registered for these parameters and that no issuer has refused.
    fn serving<'k>(
        &self,
        app: &App,
        known: &'k [ClientRecord],
        issuer: &Issuer,
        scopes: &[String],
    ) -> Vec<&'k ClientRecord> {
        // The code is exchanged with the secret, at the end of the consent.
        let until = app.now().plus_seconds(CONSENT_LIFETIME);
        let serves = |record: &&ClientRecord| {
            matches!(record.client.source, ClientSource::Dynamic(_))
                && record.owner.as_ref() == self.owner
                && is_same_issuer(&record.issuer, &issuer.issuer)
                && record.redirect_uri == self.redirect_uri
                && !record.rejected
                && record.auth_revision >= self.server.void_before
                && scopes.iter().all(|scope| record.scopes.contains(scope))
                && record.secret_expires_at.is_none_or(|end| until < end)
        };
        known.iter().filter(serves).collect()
    }

    /// The client to go on with out of those that are known: the one that served last; of those that never did, the oldest.
    fn registered(
        &self,
        app: &App,
        known: &[ClientRecord],
        issuer: &Issuer,
        scopes: &[String],
    ) -> Result<Option<SelectedClient>> {
        let now = app.now();
        let mut serving = self.serving(app, known, issuer, scopes);
        serving.retain(|record| {
            let abandoned_at = self.abandoned_clients.get(&record.id).copied();
            !record.is_doubtful(abandoned_at, now)
        });
        let best = serving
            .into_iter()
            .max_by_key(|record| (record.succeeded_at, Reverse(record.at)));
        best.map(|record| self.reuse(record)).transpose()
    }

    /// Registers a client under a lease that excludes other processes, or returns the one that was registered
    /// meanwhile. A lease that stays the same for too long is taken over: its holder is gone.
    async fn register_alone(
        &self,
        app: &App,
        issuer: &Issuer,
        scopes: &[String],
        lease: &OnceLock<String>,
    ) -> Result<SelectedClient> {
        let (table, tenant, server) = (&app.table, self.tenant, self.server.id);
        let own = new_version(app.now())?;
        let mut held: Option<(String, Instant)> = None;
        loop {
            let over = held
                .as_ref()
                .filter(|(_, since)| since.elapsed() >= app.registration_wait);
            let over = over.map(|(held, _)| held.as_str());
            let taken = table
                .lease_registration(tenant, server, self.owner, &own, over)
                .await?;
            if taken {
                // Whoever set this up gives it back.
                let _ = lease.set(own.clone());
            }
            // Whoever had it before may have been done since ours were read.
            let known = table.clients(tenant, server, self.owner).await?;
            if let Some(usable) = self.registered(app, &known, issuer, scopes)? {
                return Ok(usable);
            }
            if taken {
                return self.register(app, issuer, scopes).await;
            }
            let pause = random::<8>().map_or(100, u64::from_be_bytes) % 150;
            sleep(Duration::from_millis(50 + pause)).await;
            let now = table.registration(tenant, server, self.owner).await?;
            held = match (now, held) {
                (Some(now), Some((before, since))) if now == before => Some((before, since)),
                (now, _) => now.map(|now| (now, Instant::now())),
            };
        }
    }

    fn reuse(&self, record: &ClientRecord) -> Result<SelectedClient> {
        Ok(SelectedClient {
            client: record.client.clone(),
            secret: open(self.tenant, self.key, record)?.secret,
            record: Some(record.id.clone()),
            new: None,
            is_awaited: record.unanswered_since().is_some(),
        })
    }

    /// The operator's client belongs to the issuer that was found first, and to no other (MCP authorization rows 7 and 8);
    /// unless the operator says to whom it belongs.
    fn pre_registered(&self, app: &App, issuer: &Issuer, id: &str) -> Result<SelectedClient> {
        let secret = self.settings.client_secret.clone();
        let ways = match &secret {
            Some(_) if self.settings.token_auth != Some(ClientAuth::None) => {
                ClientAuth::ways(issuer.token_auth_methods.as_deref())
            }
            _ => Vec::new(),
        };
        let client = Client::new(id.to_owned(), ways, ClientSource::PreRegistered);
        let is_said = self.settings.issuer.is_some() || self.settings.token_endpoint.is_some();
        let known = self.known.iter().find(|r| {
            r.client.source == ClientSource::PreRegistered
                && r.client.id == id
                && (!is_said || is_same_issuer(&r.issuer, &issuer.issuer))
        });
        Ok(match known {
            Some(record) if !is_same_issuer(&record.issuer, &issuer.issuer) => {
                return Err(Error::Oauth(OauthSetup::OtherIssuer));
            }
            Some(record) => SelectedClient {
                // What served before, as long as it is offered.
                client: match client.others.contains(&record.client.auth) {
                    true => client.served_by(record.client.auth),
                    false => client,
                },
                secret,
                record: Some(record.id.clone()),
                new: None,
                is_awaited: false,
            },
            None => {
                let none = ClientSecrets::default();
                let record = self.record(app, issuer, &client, None, None, &none)?;
                SelectedClient {
                    client,
                    secret,
                    record: Some(record.id.clone()),
                    new: Some(record),
                    is_awaited: false,
                }
            }
        })
    }

    async fn register(
        &self,
        app: &App,
        issuer: &Issuer,
        scopes: &[String],
    ) -> Result<SelectedClient> {
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
        let ways = std::iter::once(made.auth).chain(made.other).collect();
        let source = ClientSource::Dynamic(String::new());
        let client = Client::new(made.client_id, ways, source);
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
        Ok(SelectedClient {
            client: record.client.clone(),
            secret: secrets.secret,
            record: Some(record.id.clone()),
            new: Some(record),
            is_awaited: false,
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
            auth_revision: self.server.auth_revision,
            waiting_since: None,
            succeeded_at: None,
            management_uri,
            at: now,
            id,
            sealed,
        })
    }
}

/// Requires that one issuer is allowed, and logs if it is not.
fn allowed(app: &App, tenant: &TenantId, issuer: &str) -> Result<()> {
    if app.allowed_issuers.allows(tenant, issuer) {
        return Ok(());
    }
    warn!(
        tenant = tenant.as_str(),
        issuer = host(issuer),
        "an issuer is not allowed"
    );
    Err(Error::Oauth(OauthSetup::IssuerNotAllowed))
}

fn has_s256(methods: &[String]) -> bool {
    methods.iter().any(|method| method == "S256")
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

/// Every address of ours that issuers which are shown our metadata document answer to. For an integration with a client of its
/// own none is.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Internal`].
pub async fn callbacks(app: &App) -> Result<Vec<String>> {
    let catalogue = integrations::all(app).await?;
    let without_client = catalogue.iter().filter(|(_, integration)| {
        let oauth = integration.oauth.as_ref();
        oauth.is_some_and(|oauth| oauth.client_id.is_none())
    });
    let paths: Vec<String> = std::iter::once(CALLBACK_PATH.to_owned())
        .chain(without_client.map(|(name, _)| integration_callback(name)))
        .collect();
    let bases = app.public_urls.iter();
    let all = bases.flat_map(|base| paths.iter().map(move |path| format!("{base}{path}")));
    Ok(all.collect())
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

/// Deregisters a client at its issuer, where possible. Returns whether no further attempt is needed.
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
    if !app.circuit_breaker.allow(&asked, app.now()) {
        return Ok(false);
    }
    let answer = registration::deregister(&app.egress, uri, &token).await;
    let answered = !matches!(answer, Deregistered::TryLater);
    app.circuit_breaker.record(&asked, answered, app.now());
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

/// An issuer took a client that it refused before, in another way: the next consent begins with that. Only saves requests, so
/// that nobody waits for it to succeed.
pub(super) async fn remember(
    app: &App,
    tenant: &TenantId,
    server: ServerId,
    subject: &Subject,
    record: &str,
    client: &Client,
) {
    for owner in [None, Some(subject)] {
        let table = &app.table;
        let kept = table
            .change_client(tenant, server, owner, record, client)
            .await;
        if let Err(cause) = kept {
            warn!(%cause, "the client authentication method could not be recorded");
        }
    }
}
