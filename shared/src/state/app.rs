//! What a function builds once, before its first request, and lends to every handler.

use crate::auth::api_key::{PresentedKey, is_api_key, is_personal};
use crate::auth::client_token::ClientToken;
use crate::auth::credentials::Presented;
use crate::auth::jwt::Verifier;
use crate::auth::login_token::{LoginToken, kid};
use crate::domain::allowed_issuers::AllowedIssuers;
use crate::domain::caller::Caller;
use crate::domain::error::Unauthenticated;
use crate::domain::id::{ServerId, TenantId, hash};
use crate::domain::sealed::WrappedKey;
use crate::domain::secret_mapping::SecretMapping;
use crate::domain::time::{Clock, Timestamp};
use crate::egress::Egress;
use crate::seal::{DataKey, KeyService, TenantKey, TenantKeys};
use crate::secret_store::SecretStores;
use crate::state::cache::ProcessCache;
use crate::state::call_limits::CallLimits;
use crate::state::catalogue::Copies;
use crate::state::circuit_breaker::CircuitBreaker;
use crate::state::config::{Config, KeyServiceConfig};
use crate::state::leases::Leases;
use crate::state::sign_in::SignIn;
use crate::state::tasks::Tasks;
use crate::state::token_keys::TokenKeys;
use crate::table::{Found, Key, Table};
use crate::{Error, Result};
use aws_config::timeout::TimeoutConfig;
use secrecy::ExposeSecret;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, oneshot};

/// The first and, until keys are rotated, only key of a tenant.
const TENANT_KEY: u32 = 1;
/// Under the usual limit of 1024 open files.
const CALLS: usize = 400;
/// How long tokens that were obtained are tried to be stored or handed to revocation while the store does not answer.
const KEEPING: Duration = Duration::from_secs(120);

/// The parts every handler works with.
pub struct App {
    /// The one table.
    pub table: Table,
    /// Where client secrets of the catalogue may be, and secrets that manifests refer to.
    pub secret_stores: SecretStores,
    /// Where references of manifests lead; `None` if they are refused.
    pub secret_mapping: Option<SecretMapping>,
    /// The tenant of tokens that name none; with one of them, everybody is in it.
    pub default_tenant: Option<TenantId>,
    /// The base under which servers are invoked, without a trailing slash.
    pub gateway_url: Option<String>,
    /// The bases under which this deployment is reached from outside, without trailing slashes.
    pub public_urls: Vec<String>,
    /// The address of our client id metadata document, where it is not under the first public base.
    pub client_metadata_url: Option<String>,
    /// Origins that a consent may send the browser on to.
    pub return_origins: Vec<String>,
    /// Origins whose web pages may call this deployment and read its answers.
    pub allowed_origins: Vec<String>,
    /// The origin whose pages are told how a consent ended.
    pub ui_origin: Option<String>,
    /// Which issuers a tenant's servers may use.
    pub allowed_issuers: AllowedIssuers,
    /// How people and applications sign in here.
    pub sign_in: SignIn,
    /// Whether a server may be registered at `http` on loopback; only under the local server.
    pub allow_loopback_http: bool,
    /// The one way out, for every address learned from anywhere.
    pub egress: Egress,
    /// Where time comes from.
    pub clock: Clock,
    /// How often an answer that is on its way looks whether what it rests on still stands.
    pub stream_check: Duration,
    /// How long an event stream may be silent before a comment is sent on it.
    pub keep_alive: Duration,
    /// How long a repeated request waits for the consent of its subject.
    pub consent_wait: Duration,
    /// How long a server may take to list its tools, over all its pages.
    pub listing_limit: Duration,
    /// How long whoever would register a client waits for someone else who does, and seems to be gone.
    pub registration_wait: Duration,
    /// The calls that may be under way at once in this process: each holds two connections, and an answer may take its time.
    pub calls: Arc<Semaphore>,
    /// How many of them one tenant and one server may have.
    pub call_limits: CallLimits,
    /// How long tokens that an issuer has just given out are kept in memory while the store does not answer.
    pub keeping_limit: Duration,
    /// What is finished once it is begun, whoever waits for it.
    pub tasks: Tasks,
    /// Told when durable work has appeared. Workers in the same process listen; under Lambda the table's stream calls.
    pub work_appeared: Notify,
    pub(crate) catalogue: Copies,
    pub(crate) process_cache: ProcessCache,
    pub(crate) circuit_breaker: CircuitBreaker,
    pub(crate) leases: Leases,
    pub(crate) token_keys: TokenKeys,
    own: Weak<Self>,
    key_service: KeyService,
    tenant_keys: TenantKeys,
    verifiers: Vec<Verifier>,
}

impl App {
    /// Connects to AWS as the environment says.
    ///
    /// # Errors
    /// A configuration that cannot work.
    pub async fn connect(config: Config) -> Result<Self> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(1))
            .operation_attempt_timeout(Duration::from_secs(3))
            .operation_timeout(Duration::from_secs(10))
            .build();
        let aws = aws_config::from_env().timeout_config(timeouts).load().await;
        let mut app = Self::new(config, aws_sdk_dynamodb::Client::new(&aws), |id| {
            KeyService::Kms {
                client: aws_sdk_kms::Client::new(&aws),
                key_id: id,
            }
        })?;
        app.secret_stores = SecretStores::by(aws);
        Ok(app)
    }

    /// With a client of the caller's making; `kms` is asked only if the configuration names a KMS key.
    ///
    /// # Errors
    /// A configuration that cannot work.
    pub fn new(
        config: Config,
        dynamodb: aws_sdk_dynamodb::Client,
        kms: impl FnOnce(String) -> KeyService,
    ) -> Result<Self> {
        let private = config.private_hosts.clone();
        let egress = Egress::opened(config.allow_loopback_http, private)?;
        Self::with_egress(config, dynamodb, kms, egress)
    }

    /// The same with another way out.
    ///
    /// # Errors
    /// A configuration that cannot work.
    pub fn with_egress(
        config: Config,
        dynamodb: aws_sdk_dynamodb::Client,
        kms: impl FnOnce(String) -> KeyService,
        egress: Egress,
    ) -> Result<Self> {
        let key_service = match config.key_service {
            KeyServiceConfig::Kms(id) => kms(id),
            KeyServiceConfig::Key(digits) => KeyService::from_hex(digits.expose_secret())?,
        };
        let mut defaults = config.tokens.iter();
        let default_tenant = defaults.find_map(|tokens| tokens.default_tenant.clone());
        let tokens = config.tokens.into_iter();
        let verifiers = tokens.map(|tokens| Verifier::new(tokens, config.allow_loopback_http));
        let verifiers = verifiers.collect::<Result<_>>()?;
        Ok(Self {
            table: Table::new(dynamodb, config.table),
            secret_stores: SecretStores::default(),
            secret_mapping: config.secret_mapping,
            default_tenant,
            gateway_url: config
                .gateway_url
                .map(|url| url.trim_end_matches('/').to_owned()),
            public_urls: config.public_urls,
            client_metadata_url: config.client_metadata_url,
            return_origins: config.return_origins,
            allowed_origins: config.allowed_origins,
            ui_origin: config.ui_origin,
            allowed_issuers: config.allowed_issuers,
            sign_in: SignIn::new(config.sign_in, config.allow_loopback_http),
            allow_loopback_http: config.allow_loopback_http,
            egress,
            clock: Clock::System,
            stream_check: Duration::from_secs(5),
            keep_alive: Duration::from_secs(30),
            consent_wait: Duration::from_secs(20),
            listing_limit: Duration::from_secs(20),
            registration_wait: Duration::from_secs(8),
            calls: Arc::new(Semaphore::new(CALLS)),
            call_limits: CallLimits::default(),
            keeping_limit: KEEPING,
            tasks: Tasks::default(),
            work_appeared: Notify::new(),
            catalogue: Copies::default(),
            process_cache: ProcessCache::default(),
            circuit_breaker: CircuitBreaker::default(),
            leases: Leases::default(),
            token_keys: TokenKeys::default(),
            own: Weak::new(),
            key_service,
            tenant_keys: TenantKeys::default(),
            verifiers,
        })
    }

    /// Makes it ready to serve: what must be finished once it is begun outlives the request that began it.
    #[must_use]
    pub fn share(mut self) -> Arc<Self> {
        Arc::new_cyclic(|own| {
            self.own.clone_from(own);
            self
        })
    }

    /// Does what must be finished once it is begun, on a task of its own. Whoever waits for it may go: that breaks off the
    /// waiting alone.
    ///
    /// # Errors
    /// Those of the work; [`Error::Unavailable`] when the process ends before it is done.
    pub(crate) async fn to_its_end<T, F>(&self, work: impl FnOnce(Arc<Self>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let shared = self.own.upgrade();
        let work = work(shared.ok_or_else(|| Error::internal("an application is not shared"))?);
        let (tell, told) = oneshot::channel();
        self.tasks.spawn(async move {
            // Nobody may be waiting any more.
            let _ = tell.send(work.await);
        });
        let cut_off = |_| Err(Error::Unavailable("a task was cut off".to_owned()));
        told.await.unwrap_or_else(cut_off)
    }

    /// The present instant.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Takes a bearer token: verified, or to be settled by its item if it is one of ours. An API key may be sent as one
    /// (Inbound 1.4). `resources` are the addresses of what the request is for: a token of the operator's issuer may be meant for
    /// one of them (Inbound 1.3), and a login's token is for one of them or for the whole deployment.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], or [`Error::Unavailable`] when the issuer's keys cannot be fetched.
    pub async fn present_token(&self, token: &str, resources: &[String]) -> Result<Presented> {
        if let Some(token) = ClientToken::read(token) {
            return Ok(Presented::Client(token));
        }
        if is_api_key(token) {
            return Ok(Presented::api_key(token)?);
        }
        if is_personal(token) {
            let hash = hash(token);
            let pointer = self.table.personal(&hash).await?;
            let pointer = pointer.ok_or(Unauthenticated::InvalidToken)?;
            return Ok(Presented::Key(PresentedKey::personal(hash, pointer)));
        }
        if let Some(kid) = kid(token)
            && let Some(key) = self.verifying_key(&kid).await?
        {
            let token = LoginToken::verify(token, &key, self.now())?;
            if !token.is_for_deployment() && !token.is_for(resources) {
                return Err(Unauthenticated::InvalidToken.into());
            }
            return Ok(Presented::Login(Box::new(token)));
        }
        let verifier = Verifier::of(&self.verifiers, token).ok_or(Unauthenticated::InvalidToken)?;
        verifier
            .verify_for(token, resources, self.now())
            .await
            .map(|caller| Presented::Caller(Box::new(caller)))
    }

    /// Reads `keys` and, in the same round trip, what settles the caller.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], [`Error::Unavailable`], [`Error::Internal`].
    pub async fn read_as(&self, who: Presented, mut keys: Vec<Key>) -> Result<(Caller, Found)> {
        who.required_keys(&mut keys);
        let found = self.table.read(keys).await?;
        Ok((who.authenticate(&found, self.now())?, found))
    }

    /// The caller, when there is nothing to be read with it.
    ///
    /// # Errors
    /// As [`Self::read_as`].
    pub async fn identify(&self, who: Presented) -> Result<Caller> {
        self.read_as(who, Vec::new())
            .await
            .map(|(caller, _)| caller)
    }

    /// A key of a tenant that is in use somewhere.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; [`Error::Internal`] when there is none of that number.
    pub(crate) async fn tenant_key(&self, tenant: &TenantId, number: u32) -> Result<TenantKey> {
        let found = self.find_tenant_key(tenant, number).await?;
        found.ok_or_else(|| Error::internal("a tenant key is missing"))
    }

    async fn find_tenant_key(&self, tenant: &TenantId, number: u32) -> Result<Option<TenantKey>> {
        if let Some(key) = self.tenant_keys.get(tenant, number) {
            return Ok(Some(key));
        }
        let Some(wrapped) = self.table.tenant_key(tenant, number).await? else {
            return Ok(None);
        };
        let key = self.key_service.unwrap_tenant_key(tenant, &wrapped).await?;
        self.tenant_keys.put(tenant, &key);
        Ok(Some(key))
    }

    /// The data key of a server, living or dead.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub(crate) async fn data_key(
        &self,
        tenant: &TenantId,
        server: ServerId,
        wrapped: &WrappedKey,
    ) -> Result<DataKey> {
        self.tenant_key(tenant, wrapped.tenant_key)
            .await?
            .unwrap_data_key(tenant, server, wrapped)
    }

    /// The operator's own key, for what belongs to no tenant: registrations of applications, cookies of people who sign in.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub(crate) async fn operator_key(&self) -> Result<TenantKey> {
        self.current_tenant_key(&TenantId::operator()).await
    }

    /// The same, if there is one: what was sealed here was sealed with it.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn existing_operator_key(&self) -> Result<Option<TenantKey>> {
        self.find_tenant_key(&TenantId::operator(), TENANT_KEY)
            .await
    }

    /// The key of a tenant that new servers use, made if the tenant has none. Of two made at once the first stays.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub(crate) async fn current_tenant_key(&self, tenant: &TenantId) -> Result<TenantKey> {
        if let Some(key) = self.find_tenant_key(tenant, TENANT_KEY).await? {
            return Ok(key);
        }
        let (_, wrapped) = self.key_service.new_tenant_key(tenant, TENANT_KEY).await?;
        self.table.add_tenant_key(tenant, &wrapped).await?;
        self.tenant_key(tenant, TENANT_KEY).await
    }
}
