//! What a function builds once, before its first request, and lends to every handler.

use crate::auth::Use;
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
use crate::trust_anchors::aws_http_client;
use crate::{Error, Result};
use aws_config::default_provider::region::default_provider;
use aws_config::meta::region::ProvideRegion;
use aws_config::timeout::TimeoutConfig;
use secrecy::ExposeSecret;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, oneshot};

/// The first and, until keys are rotated, only key of a tenant.
const TENANT_KEY: u32 = 1;
/// The most calls under way. They fit into the usual limit of 1024 open files.
const CALLS: usize = 400;
/// How long Hawser tries to store new tokens, or to hand them to revocation, while the store does not answer.
const KEEPING: Duration = Duration::from_secs(120);

/// The parts every handler works with.
pub struct App {
    /// The one table.
    pub table: Table,
    /// The stores that hold client secrets of the catalogue, and secrets that manifests refer to.
    pub secret_stores: SecretStores,
    /// Where references of manifests lead; `None` if they are refused.
    pub secret_mapping: Option<SecretMapping>,
    /// The tenant of tokens that name none; with one of them, everybody is in it.
    pub default_tenant: Option<TenantId>,
    /// The base URL under which servers are invoked, without a trailing slash.
    pub gateway_url: Option<String>,
    /// The base URLs under which this deployment is reached from outside, without trailing slashes.
    pub public_urls: Vec<String>,
    /// The address of our client id metadata document, where it is not under the first public base.
    pub client_metadata_url: Option<String>,
    /// Origins that a consent may send the browser on to.
    pub return_origins: Vec<String>,
    /// Origins whose web pages may call this deployment and read its answers.
    pub allowed_origins: Vec<String>,
    /// The origin whose pages learn how a consent ended.
    pub ui_origin: Option<String>,
    /// Which issuers a tenant's servers may use.
    pub allowed_issuers: AllowedIssuers,
    /// How people and applications sign in here.
    pub sign_in: SignIn,
    /// Whether a server may be registered at `http` on loopback. Only the local server sets it.
    pub allow_loopback_http: bool,
    /// The HTTP client for every address that was learned from outside.
    pub egress: Egress,
    /// Where time comes from.
    pub clock: Clock,
    /// How often a streamed answer checks whether the caller and the credential that it depends on are still valid.
    pub stream_check: Duration,
    /// How long an event stream may be silent before a comment is sent on it.
    pub keep_alive: Duration,
    /// How long a repeated request waits for the consent of its subject.
    pub consent_wait: Duration,
    /// How long a server may take to list its tools, over all its pages.
    pub listing_limit: Duration,
    /// How long a process waits for another one that registers a client but seems to have died.
    pub registration_wait: Duration,
    /// The calls under way in this process. Each holds two connections, and an answer may take long.
    pub calls: Arc<Semaphore>,
    /// How many of those calls one tenant and one server may have.
    pub call_limits: CallLimits,
    /// How long tokens that an issuer has just given out are kept in memory while the store does not answer.
    pub keeping_limit: Duration,
    /// Work that is finished once it is begun, even if its caller is gone.
    pub tasks: Tasks,
    /// Notified when durable work has been written. Workers in the same process listen; on Lambda the table's stream
    /// calls them.
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
    /// [`Error::Internal`] for a configuration that cannot work.
    pub async fn connect(config: Config) -> Result<Self> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(1))
            .operation_attempt_timeout(Duration::from_secs(3))
            .operation_timeout(Duration::from_secs(10))
            .build();
        let mut aws = aws_config::from_env().timeout_config(timeouts);
        let region = default_provider().region().await;
        if let Some(client) = aws_http_client(region.as_ref()) {
            aws = aws.http_client(client);
        }
        let aws = aws.region(region).load().await;
        let mut app = Self::new(config, aws_sdk_dynamodb::Client::new(&aws), |id| {
            KeyService::Kms {
                client: aws_sdk_kms::Client::new(&aws),
                key_id: id,
            }
        })?;
        app.secret_stores = SecretStores::by(aws);
        Ok(app)
    }

    /// An application with this DynamoDB client. `kms` is called only if the configuration names a KMS key.
    ///
    /// # Errors
    /// [`Error::Internal`] for a configuration that cannot work.
    pub fn new(
        config: Config,
        dynamodb: aws_sdk_dynamodb::Client,
        kms: impl FnOnce(String) -> KeyService,
    ) -> Result<Self> {
        let private = config.private_hosts.clone();
        let egress = Egress::opened(config.allow_loopback_http, private)?;
        Self::with_egress(config, dynamodb, kms, egress)
    }

    /// [`Self::new`] with another HTTP client for addresses that were learned.
    ///
    /// # Errors
    /// [`Error::Internal`] for a configuration that cannot work.
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

    /// Shares the application, so that work which must be finished can outlive the request that began it.
    #[must_use]
    pub fn share(mut self) -> Arc<Self> {
        Arc::new_cyclic(|own| {
            self.own.clone_from(own);
            self
        })
    }

    /// Runs work that must be finished once it is begun, on a task of its own. If the caller stops waiting, only the
    /// waiting ends.
    ///
    /// # Errors
    /// Those that the work returns; [`Error::Unavailable`] when the process ends before the work is done.
    pub(crate) async fn to_its_end<T, F>(&self, work: impl FnOnce(Arc<Self>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let shared = self.own.upgrade();
        let work = work(shared.ok_or_else(|| Error::internal("an application is not shared"))?);
        let (tell, told) = oneshot::channel();
        self.tasks.spawn(async move {
            // The caller may have stopped waiting.
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
    /// (Inbound 1.4). A token of the operator's issuer may be meant for what is called alone (Inbound 1.3), and a login's token
    /// for that, or for calls alone (Inbound 2.24).
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], or [`Error::Unavailable`] when the issuer's keys cannot be fetched.
    pub async fn present_token(&self, token: &str, used_for: Use<'_>) -> Result<Presented> {
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
            return Ok(Presented::Login(Box::new(token.used_for(used_for)?)));
        }
        let verifier = Verifier::of(&self.verifiers, token).ok_or(Unauthenticated::InvalidToken)?;
        let resources = match used_for {
            Use::Call(addresses) => addresses,
            Use::Management => &[],
        };
        verifier
            .verify_for(token, resources, self.now())
            .await
            .map(|caller| Presented::Caller(Box::new(caller)))
    }

    /// Reads `keys` and, in the same round trip, the items that authenticate the caller.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], [`Error::Unavailable`], [`Error::Internal`].
    pub async fn read_as(&self, who: Presented, mut keys: Vec<Key>) -> Result<(Caller, Found)> {
        who.required_keys(&mut keys);
        let found = self.table.read(keys).await?;
        Ok((who.authenticate(&found, self.now())?, found))
    }

    /// Authenticates the caller when nothing else is to be read.
    ///
    /// # Errors
    /// As [`Self::read_as`].
    pub async fn identify(&self, who: Presented) -> Result<Caller> {
        self.read_as(who, Vec::new())
            .await
            .map(|(caller, _)| caller)
    }

    /// The key of a tenant with this number, which an item names.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; [`Error::Internal`] when the tenant has no key of this number.
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

    /// The data key of a server, whether it exists or was deleted.
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

    /// The operator's own key, for what belongs to no tenant: registrations of applications, cookies of people who sign
    /// in. Made if there is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub(crate) async fn operator_key(&self) -> Result<TenantKey> {
        self.current_tenant_key(&TenantId::operator()).await
    }

    /// The operator's own key, if there is one. What was sealed with it can be opened only then.
    ///
    /// # Errors
    /// As [`Self::operator_key`].
    pub(crate) async fn existing_operator_key(&self) -> Result<Option<TenantKey>> {
        self.find_tenant_key(&TenantId::operator(), TENANT_KEY)
            .await
    }

    /// The key of a tenant for new servers. Made if the tenant has none; of two that are made at once the first is
    /// kept.
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
