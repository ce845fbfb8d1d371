//! Sets up a consent: finds the issuer, an OAuth client and the scopes before the subject is redirected.

use super::super::clients::{self, Search, SelectedClient, Settings, integration_callback};
use super::ticket::ticket;
use crate::domain::address::{host, origin, without_query};
use crate::domain::endpoint_method::ClientAuth;
use crate::domain::error::OauthSetup;
use crate::domain::id::{ServerId, TenantId, random};
use crate::domain::issuance::{ClientRecord, Issuance};
use crate::domain::server::Server;
use crate::domain::session::{Consent, ConsentSecrets, Origin, Phase, Session};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::oauth::discovery::{self, Issuer, Protected};
use crate::oauth::owner;
use crate::oauth::request::{Pkce, authorization_url, customary, is_reserved};
use crate::operations::clients::CALLBACK_PATH;
use crate::seal::{DataKey, Kind};
use crate::state::app::App;
use crate::{Error, Result};
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::timeout;
use tracing::warn;

/// How long it may take to find an issuer and a client, all requests together: a gateway ends ours after 30 seconds.
const SETUP: Duration = Duration::from_secs(13);
/// The time limit for looking up the issuer of configured endpoints; a consent can start without it.
const ISSUER_LOOKUP_TIMEOUT: Duration = Duration::from_secs(6);

/// What is needed to redirect a subject to an issuer.
pub(super) struct Setup {
    pub issuance: Issuance,
    pub iss_advertised: bool,
    pub authorization_endpoint: String,
    pub scopes: Vec<String>,
    pub redirect_uri: String,
    pub client: SelectedClient,
    pub settings: Settings,
    /// The lease of the registration that the client came from, to be given back once it is stored.
    pub lease: Option<String>,
}

/// The parameters of a consent.
pub(super) struct ConsentRequest<'a> {
    pub tenant: &'a TenantId,
    pub server: &'a Server,
    pub key: &'a DataKey,
    /// The one subject that a client registered for it serves; all of the server's if there is none.
    pub owner: Option<&'a Subject>,
    pub redirect_uri: String,
    /// The requested scopes; if empty, those of the server or its operator.
    pub scopes: &'a [String],
    /// Additional scopes to request.
    pub additional_scopes: &'a [String],
    /// When the subject last left a consent of a registered client unfinished, by client record.
    pub abandoned_clients: BTreeMap<String, Timestamp>,
}

impl<'a> ConsentRequest<'a> {
    /// The parameters of the consent of a session.
    pub fn of(
        tenant: &'a TenantId,
        server: &'a Server,
        key: &'a DataKey,
        session: &'a Session,
        abandoned_clients: BTreeMap<String, Timestamp>,
    ) -> Self {
        let mut request = Self {
            tenant,
            server,
            key,
            owner: None,
            redirect_uri: format!("{}{CALLBACK_PATH}", session.origin.base()),
            scopes: &[],
            additional_scopes: &[],
            abandoned_clients,
        };
        match &session.origin {
            Origin::Truefoundry {
                additional_scopes, ..
            } => {
                request.additional_scopes = additional_scopes.as_deref().unwrap_or_default();
            }
            Origin::Langsmith { scopes, .. } => {
                request.owner = Some(&session.subject);
                request.scopes = scopes;
            }
            Origin::Kambrium { integration, base } => {
                request.redirect_uri = format!("{base}{}", integration_callback(integration));
            }
        }
        request
    }

    pub async fn set_up(&self, app: &App, settings: Settings, known: bool) -> Result<Setup> {
        let lease = OnceLock::new();
        let asked = timeout(SETUP, self.resolve(app, settings, known, &lease))
            .await
            .unwrap_or(Err(Error::UpstreamUnavailable));
        match (asked, lease.into_inner()) {
            (Ok(setup), lease) => Ok(Setup { lease, ..setup }),
            (Err(error), lease) => {
                end_registration(app, self.tenant, self.server.id, self.owner, lease).await;
                Err(error)
            }
        }
    }

    async fn resolve(
        &self,
        app: &App,
        settings: Settings,
        known: bool,
        lease: &OnceLock<String>,
    ) -> Result<Setup> {
        let lease = known.then_some(lease);
        let known = if known {
            let (table, id) = (&app.table, self.server.id);
            let mut known = table.clients(self.tenant, id, self.owner).await?;
            if self.owner.is_some() {
                // Where the operator's client belongs is one answer for all.
                known.extend(table.clients(self.tenant, id, None).await?);
            }
            known
        } else {
            Vec::new()
        };
        let (issuer, resource, mut advised) = find_issuer(app, self.server, &settings).await?;
        settings.require_allowed(app, self.tenant, &issuer.issuer)?;
        let mut scopes = if self.scopes.is_empty() {
            settings.scopes.clone()
        } else {
            self.scopes.to_vec()
        };
        let offline = "offline_access";
        let is_new = |scope: &String| scope != offline && !scopes.contains(scope);
        // A server that wants more and does not name it gets what it advises (MCP authorization row 17).
        let unnamed =
            !self.additional_scopes.is_empty() && !self.additional_scopes.iter().any(is_new);
        if !scopes.is_empty() && !unnamed {
            advised.clear();
        }
        for scope in advised.iter().chain(self.additional_scopes) {
            if !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
        let offered = issuer.scopes_supported.iter().flatten();
        // Alone it would narrow the issuer's default to nothing else.
        if !scopes.is_empty()
            && !scopes.iter().any(|scope| scope == offline)
            && offered.into_iter().any(|scope| scope == offline)
        {
            scopes.push(offline.to_owned());
        }
        let search = Search {
            tenant: self.tenant,
            server: self.server,
            key: self.key,
            owner: self.owner,
            redirect_uri: &self.redirect_uri,
            settings: &settings,
            known: &known,
            abandoned_clients: &self.abandoned_clients,
            lease,
        };
        let client = search.at(app, &issuer, &scopes).await?;
        Ok(Setup {
            issuance: Issuance {
                issuer: issuer.issuer,
                token_endpoint: issuer.token_endpoint,
                revocation_endpoint: issuer.revocation_endpoint,
                revocation_method: settings.revocation_method,
                revocation_auth: known_auths(issuer.revocation_auth_methods.as_deref()),
                client: client.client.clone(),
                resource,
            },
            iss_advertised: issuer.iss_advertised,
            authorization_endpoint: issuer.authorization_endpoint,
            scopes,
            redirect_uri: self.redirect_uri.clone(),
            client,
            settings,
            lease: None,
        })
    }

    /// Stores the issuer in a session and returns the authorization URL to redirect the subject to.
    pub fn address(&self, setup: &Setup, session: &mut Session) -> Result<SecretString> {
        let secret = BASE64URL_NOPAD.encode(&random::<32>()?).into();
        let (state, secret_hash) = ticket(self.tenant, self.server.id, &session.id, &secret);
        let pkce = Pkce::new()?;
        let scope = setup.scopes.join(" ");
        let own = &setup.settings.authorize_params;
        let customary = customary(&setup.issuance.issuer, &setup.authorization_endpoint);
        let mut parameters: Vec<(&str, &str)> = own
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| !is_reserved(name))
            .chain(
                customary
                    .iter()
                    .filter(|(name, _)| !own.contains_key(*name))
                    .copied(),
            )
            .collect();
        let mut set = |name, value| parameters.push((name, value));
        set("response_type", "code");
        set("client_id", &setup.issuance.client.id);
        set("redirect_uri", &setup.redirect_uri);
        set("state", state.expose_secret());
        if !scope.is_empty() {
            set("scope", &scope);
        }
        if setup.settings.pkce {
            set("code_challenge", &pkce.challenge);
            set("code_challenge_method", "S256");
        }
        if let Some(resource) = &setup.issuance.resource {
            set("resource", resource);
        }
        let url = authorization_url(&setup.authorization_endpoint, &parameters)
            .ok_or(Error::Oauth(OauthSetup::MetadataUnusable))?;
        let secrets = ConsentSecrets {
            verifier: pkce.verifier,
            client_secret: setup.client.secret.clone(),
        };
        let json = secrets
            .to_json()
            .ok_or_else(|| Error::internal("a consent does not encode"))?;
        let kind = Kind::Consent(&session.id, &session.subject, &setup.issuance);
        session.consent = Some(Consent {
            issuance: setup.issuance.clone(),
            iss_advertised: setup.iss_advertised,
            authorization_endpoint: setup.authorization_endpoint.clone(),
            redirect_uri: setup.redirect_uri.clone(),
            scopes: setup.scopes.clone(),
            client_record: setup.client.record.clone(),
            sealed: self.key.seal(self.tenant, self.server.id, kind, &json)?,
        });
        session.phase = Phase::Pending;
        session.secret_hash = secret_hash;
        Ok(url.into())
    }
}

/// The issuer of a server, the resource indicator to send, and the scopes that the server asks for.
async fn find_issuer(
    app: &App,
    server: &Server,
    settings: &Settings,
) -> Result<(Issuer, Option<String>, Vec<String>)> {
    let (mut issuer, resource, scopes) =
        match (&settings.authorization_endpoint, &settings.token_endpoint) {
            (Some(authorization), Some(token)) => {
                let issuer = configured(app, settings, authorization, token).await;
                // An integration's server may publish none. TrueFoundry's servers are named by their address.
                let sent = settings
                    .send_resource
                    .unwrap_or(server.connection.integration.is_none());
                let resource = sent.then(|| without_query(&server.url).to_owned());
                (issuer, resource, Vec::new())
            }
            _ => discover(app, server, settings).await?,
        };
    if let Some(method) = settings.token_auth {
        issuer.token_auth_methods = Some(vec![method.as_str().to_owned()]);
    }
    if let Some(method) = settings.revocation_auth {
        issuer.revocation_auth_methods = Some(vec![method.as_str().to_owned()]);
    }
    if let Some(url) = settings.revocation_endpoint() {
        issuer.revocation_endpoint = Some(url);
    }
    Ok((issuer, resource, scopes))
}

/// The issuer whose endpoints the operator configured. Its metadata adds what the operator did not say of it, the revocation
/// endpoint above all; where none is to be had the consent begins all the same, and the issuer is looked for again when the
/// grant ends. Where the operator said that too, nobody is asked.
async fn configured(app: &App, settings: &Settings, authorization: &str, token: &str) -> Issuer {
    let owner = match settings.revocation_endpoint() {
        Some(_) => None,
        None => {
            let issuer_hints = settings.issuer_hints(token, Some(settings.address.expose_secret()));
            let found = owner::find(&app.egress, &issuer_hints, ISSUER_LOOKUP_TIMEOUT).await;
            found.ok().flatten().filter(|owner| owner.is_certain)
        }
    };
    let named = settings.issuer.clone();
    let unnamed = || Issuer {
        issuer: named.unwrap_or_else(|| token.to_owned()),
        authorization_endpoint: String::new(),
        token_endpoint: token.to_owned(),
        registration_endpoint: None,
        revocation_endpoint: None,
        scopes_supported: None,
        // Unknown, so that both are offered.
        token_auth_methods: Some(
            [ClientAuth::Post, ClientAuth::Basic]
                .map(|method| method.as_str().to_owned())
                .into(),
        ),
        revocation_auth_methods: None,
        supports_s256: true,
        iss_advertised: false,
        takes_metadata_documents: false,
    };
    Issuer {
        authorization_endpoint: authorization.to_owned(),
        // What is configured is not discovered.
        registration_endpoint: None,
        scopes_supported: None,
        takes_metadata_documents: false,
        ..owner.map_or_else(unnamed, |owner| owner.issuer)
    }
}

/// The issuer that the operator names, or else that the server does.
async fn discover(
    app: &App,
    server: &Server,
    settings: &Settings,
) -> Result<(Issuer, Option<String>, Vec<String>)> {
    let refuse = |failure| match failure {
        discovery::Failure::NotFound => Error::Oauth(OauthSetup::NoAuthorizationServer),
        discovery::Failure::Unusable => Error::Oauth(OauthSetup::MetadataUnusable),
        discovery::Failure::ResourceMismatch => Error::Oauth(OauthSetup::ResourceMismatch),
        discovery::Failure::IssuerMismatch => Error::Oauth(OauthSetup::IssuerMismatch),
        discovery::Failure::TryLater => Error::UpstreamUnavailable,
    };
    let address = settings.address.expose_secret();
    let protected = match discovery::protected_resource(&app.egress, address).await {
        // Nothing is needed of it but how it names itself, and its address is a name.
        Err(failure) if settings.issuer.is_some() && failure != discovery::Failure::TryLater => {
            Protected {
                resource: without_query(&server.url).to_owned(),
                issuers: Vec::new(),
                scopes: None,
            }
        }
        protected => protected.map_err(refuse)?,
    };
    let first = settings
        .issuer
        .as_ref()
        .or(protected.issuers.first())
        .ok_or(Error::Oauth(OauthSetup::NoAuthorizationServer))?;
    let issuer = discovery::issuer(&app.egress, first)
        .await
        .map_err(refuse)?;
    if settings.pkce && !issuer.supports_s256 && !settings.supports_s256 {
        return Err(Error::Oauth(OauthSetup::NoS256));
    }
    // One configured endpoint beside discovered ones would let the server choose who else sees the client's secret.
    let configured = [
        (
            &settings.authorization_endpoint,
            &issuer.authorization_endpoint,
        ),
        (&settings.token_endpoint, &issuer.token_endpoint),
    ];
    let is_other = configured
        .into_iter()
        .any(|(own, found)| own.as_ref().is_some_and(|own| own != found));
    // So would an issuer of the server's own that claims the operator's token endpoint.
    let token_endpoint = settings.token_endpoint.as_ref();
    let is_at_home = |token: &String| origin(token) == origin(&issuer.issuer);
    let is_claim = settings.issuer.is_none() && !token_endpoint.is_none_or(is_at_home);
    if is_other || is_claim {
        return Err(Error::Oauth(OauthSetup::OtherIssuer));
    }
    // Issuers and browsers are told what is sent: no values of the server's query.
    let resource = without_query(&protected.resource).to_owned();
    let resource = (settings.send_resource != Some(false)).then_some(resource);
    Ok((issuer, resource, protected.scopes.unwrap_or_default()))
}

/// Of the methods that an endpoint takes, those that Hawser can do.
fn known_auths(names: Option<&[String]>) -> Vec<ClientAuth> {
    let names = names.unwrap_or_default().iter();
    names.filter_map(|name| ClientAuth::parse(name)).collect()
}

/// Releases the lease of a registration, if there is one. If that fails, the next registration waits until it times
/// out.
async fn end_registration(
    app: &App,
    tenant: &TenantId,
    server: ServerId,
    owner: Option<&Subject>,
    lease: Option<String>,
) {
    if let Some(lease) = lease
        && let Err(cause) = app
            .table
            .end_registration(tenant, server, owner, &lease)
            .await
    {
        warn!(%cause, "the lease of a client registration was not given back");
    }
}

impl ConsentRequest<'_> {
    /// Stores a client that was registered for this, and lets others register.
    pub async fn keep_client(&self, app: &App, setup: &Setup) -> Result<()> {
        let kept = keep_client(app, self.tenant, self.key, setup).await;
        let lease = setup.lease.clone();
        end_registration(app, self.tenant, self.server.id, self.owner, lease).await;
        kept
    }
}

async fn keep_client(app: &App, tenant: &TenantId, key: &DataKey, setup: &Setup) -> Result<()> {
    let Some(record) = &setup.client.new else {
        return Ok(());
    };
    let kept = match app.table.add_client(tenant, record).await {
        Ok(true) => return Ok(()),
        Ok(false) => Err(Error::ServerNotFound),
        Err(error) => Err(error),
    };
    forget_client(app, tenant, key, record).await;
    kept
}

/// Removes a client at its issuer whose server could not be stored, so that none is left that nobody knows of. Tried once:
/// there is nothing durable that a later try could go by.
pub(super) async fn forget_client(
    app: &App,
    tenant: &TenantId,
    key: &DataKey,
    client: &ClientRecord,
) {
    // The transaction may have happened after all. Where that cannot be known, a client too many is the lesser evil.
    let owner = client.owner.as_ref();
    let known = app.table.clients(tenant, client.server, owner).await;
    let stored = known.map_or(true, |known| known.iter().any(|one| one.id == client.id));
    if !stored
        && !clients::deregister(app, tenant, key, client)
            .await
            .unwrap_or(false)
    {
        warn!(
            tenant = tenant.as_str(),
            issuer = host(&client.issuer),
            "a client is left at its issuer without a server"
        );
    }
}
