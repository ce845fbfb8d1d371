//! `hawser serve`: the local server, with its store, its worker and the credentials that it prints at start.

use super::Outcome;
use super::api_key::{Wanted, add_key, key_event};
use super::at::{DataFolder, tenant_id};
use super::integrations::offers;
use super::token::Holder;
use clap::Args;
use hawser_core::auth::jwt::{ClaimNames, KeySet, TokenConfig};
use hawser_core::domain::allowed_issuers::AllowedIssuers;
use hawser_core::domain::event::Action;
use hawser_core::domain::id::TenantId;
use hawser_core::domain::secret_mapping::SecretMapping;
use hawser_core::domain::subject::Subject;
use hawser_core::egress::{PrivateHosts, is_loopback};
use hawser_core::operations::integrations;
use hawser_core::state::config::{
    Config, DEFAULT_SCOPES, ListedApplication, ProviderConfig, ProviderSecret, SignInConfig,
    SignInPlace,
};
use hawser_core::{App, catalogue};
use hawser_local::identity::{self, Identity};
use hawser_local::limits::raise_files;
use hawser_local::sign_in::TENANT;
use hawser_local::store::{Store, private_file};
use hawser_local::{TABLE, config, server};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpListener;
use tracing::warn;
use url::Url;

/// How often expired items are removed from the store.
const FORGETTING: Duration = Duration::from_secs(600);

#[derive(Args)]
pub(crate) struct Serve {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:9310")]
    listen: SocketAddr,
    #[command(flatten)]
    data: DataFolder,
    /// Keep the store in memory, so that nothing stays when the server stops
    #[arg(long)]
    in_memory: bool,
    /// The base URL under which browsers and issuers reach it (default: where it listens)
    #[arg(long)]
    public_url: Option<String>,
    /// A file of integrations to apply at the start
    #[arg(long)]
    integrations: Option<PathBuf>,
    /// The https address of the client id metadata document (default: under the public URL, if that is https)
    #[arg(long)]
    client_metadata_url: Option<String>,
    /// An origin that a consent may send the browser on to
    #[arg(long = "return-origin")]
    return_origins: Vec<String>,
    /// An origin whose web pages may call this server and read its answers; those on this machine always may
    #[arg(long = "allowed-origin")]
    allowed_origins: Vec<String>,
    /// The origin whose pages are told how a consent ended
    #[arg(long)]
    ui_origin: Option<String>,
    /// A private host that may be reached: a name, *.name or a range such as 10.20.0.0/16, behind http:// also without TLS
    #[arg(long = "private-host")]
    private_hosts: Vec<String>,
    /// Where the secrets are that tfy-secret:// references lead to, such as ssm:/hawser/{tenant}/{group}/{name}, by the usual
    /// AWS environment
    #[arg(long)]
    secret_references: Option<String>,
    /// Accept the tokens of this OpenID Connect issuer too, such as http://localhost:8080/realms/acme
    #[arg(long)]
    jwt_issuer: Option<String>,
    /// With --jwt-issuer: an audience whose tokens are accepted
    #[arg(long, default_value = "hawser")]
    jwt_audience: Vec<String>,
    /// With --jwt-issuer: use the client_id of a token without an audience as its audience
    #[arg(long)]
    audience_by_client_id: bool,
    /// With --jwt-issuer or --sign-in-issuer: the tenant of tokens that name none
    #[arg(long, default_value = TENANT)]
    default_tenant: String,
    /// With --jwt-issuer or --sign-in-issuer: read a value from another claim, such as roles=cognito:groups
    #[arg(long = "claim")]
    claims: Vec<String>,
    /// Let people sign in at this OpenID provider, not at the page for development
    #[arg(long, requires = "sign_in_client_id")]
    sign_in_issuer: Option<String>,
    /// With --sign-in-issuer: the client that is registered there, with the redirect URI PUBLIC_URL/oauth/signed-in
    #[arg(long, requires = "sign_in_issuer")]
    sign_in_client_id: Option<String>,
    /// With --sign-in-issuer: a file with the secret of that client (default: it has none)
    #[arg(long, requires = "sign_in_issuer")]
    sign_in_secret_file: Option<PathBuf>,
    /// With --sign-in-issuer: the scopes that the provider is asked for
    #[arg(long, default_value = DEFAULT_SCOPES)]
    sign_in_scopes: String,
    /// Let nobody sign in
    #[arg(long, conflicts_with = "sign_in_issuer")]
    no_sign_in: bool,
    /// Let no application register itself
    #[arg(long)]
    no_application_registration: bool,
    /// Applications that may ask for a sign-in, a JSON file: a list as in HAWSER_APPLICATIONS
    #[arg(long)]
    applications: Option<PathBuf>,
    /// Which issuers the servers of a tenant may use, a JSON file: {"TENANT": ["https://..."]}, * for all other tenants
    /// (default: any)
    #[arg(long)]
    allowed_issuers: Option<PathBuf>,
}

impl Serve {
    fn config(&self, identity: &Identity, url: &str, listen: SocketAddr) -> Outcome<Config> {
        let public_url = self.public_url.as_deref().unwrap_or(url);
        let mut config = config(identity)?;
        config.public_urls = vec![public_url.trim_end_matches('/').to_owned()];
        // A client that knows this machine by its other name asks for tokens for that name.
        if self.public_url.is_none() && listen.ip().is_loopback() {
            let other = format!("http://localhost:{}", listen.port());
            config.public_urls.push(other);
        }
        config.sign_in = self.sign_in(public_url, listen)?;
        config.gateway_url = Some(public_url.to_owned());
        config
            .client_metadata_url
            .clone_from(&self.client_metadata_url);
        config.return_origins.clone_from(&self.return_origins);
        config.allowed_origins.clone_from(&self.allowed_origins);
        config.ui_origin.clone_from(&self.ui_origin);
        config.private_hosts = PrivateHosts::parse(self.private_hosts.iter().map(String::as_str))?;
        let references = self.secret_references.as_deref();
        config.secret_mapping = references.map(SecretMapping::parse).transpose()?;
        config.tokens.extend(self.tokens()?);
        if let Some(file) = &self.allowed_issuers {
            config.allowed_issuers = AllowedIssuers::parse(&std::fs::read_to_string(file)?).ok_or(
                "--allowed-issuers is not a JSON object of tenants, each with an array of issuers",
            )?;
        }
        Ok(config)
    }

    /// How people and applications sign in. The page for development believes any name, so it is served only if nobody
    /// from elsewhere can reach it, not even through a public URL that leads here.
    fn sign_in(&self, public_url: &str, listen: SocketAddr) -> Outcome<SignInConfig> {
        let is_here = Url::parse(public_url).is_ok_and(|url| is_loopback(&url));
        let place = match (&self.sign_in_issuer, &self.sign_in_client_id) {
            (Some(issuer), Some(client_id)) => {
                let secret = match &self.sign_in_secret_file {
                    None => None,
                    Some(file) => {
                        let text = std::fs::read_to_string(file)?;
                        Some(ProviderSecret::Given(text.trim().into()))
                    }
                };
                SignInPlace::Provider(Box::new(ProviderConfig {
                    tokens: TokenConfig {
                        issuer: issuer.clone(),
                        audiences: vec![client_id.clone()],
                        audience_by_client_id: false,
                        keys: KeySet::Discovered,
                        claims: self.claims()?,
                        default_tenant: Some(tenant_id(&self.default_tenant)?),
                    },
                    client_id: client_id.clone(),
                    secret,
                    scopes: self.sign_in_scopes.clone(),
                }))
            }
            _ if self.no_sign_in || !is_here || !listen.ip().is_loopback() => SignInPlace::Nowhere,
            _ => SignInPlace::Development,
        };
        Ok(SignInConfig {
            place,
            registration: !self.no_application_registration,
            applications: match &self.applications {
                None => Vec::new(),
                Some(file) => ListedApplication::parse_list(&std::fs::read_to_string(file)?)?,
            },
            ..SignInConfig::default()
        })
    }

    /// The names of the claims that tokens are read by.
    fn claims(&self) -> Outcome<ClaimNames> {
        let mut claims = ClaimNames::default();
        for pair in &self.claims {
            let (name, claim) = pair.split_once('=').ok_or("--claim must be NAME=CLAIM")?;
            let place = claims.named(name);
            *place.ok_or_else(|| format!("--claim: no claim is called {name}"))? = claim.to_owned();
        }
        Ok(claims)
    }

    /// The issuer whose tokens are accepted beside those of `hawser token`.
    fn tokens(&self) -> Outcome<Option<TokenConfig>> {
        let Some(issuer) = &self.jwt_issuer else {
            return Ok(None);
        };
        Ok(Some(TokenConfig {
            issuer: issuer.clone(),
            audiences: self.jwt_audience.clone(),
            audience_by_client_id: self.audience_by_client_id,
            keys: KeySet::Discovered,
            claims: self.claims()?,
            default_tenant: Some(tenant_id(&self.default_tenant)?),
        }))
    }
}

pub(crate) async fn serve(options: Serve) -> Outcome {
    raise_files();
    let folder = (!options.in_memory).then_some(options.data.data_dir.as_path());
    let identity = match folder {
        Some(folder) => Identity::open(folder)?,
        None => Identity::ephemeral()?,
    };
    let store = Store::open(folder).await?;
    let client = aws_sdk_dynamodb::Client::from_conf(store.client_config().build());
    let listener = TcpListener::bind(options.listen).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let config = options.config(&identity, &url, listener.local_addr()?)?;
    let app = App::new(config, client, |_| unreachable!("the key is a file's"))?.share();
    match &options.integrations {
        Some(file) => drop(integrations::apply(&app, &offers(file, true)?, false).await?),
        None if app.table.catalogue_revision().await? == 0 => {
            let built_in = catalogue::read(hawser_local::CATALOGUE, true)?;
            integrations::apply(&app, &built_in, false).await?;
        }
        None => {}
    }
    if !listener.local_addr()?.ip().is_loopback() {
        warn!("other machines can reach {url}, and credentials cross the network in the clear");
    }
    if let Some(folder) = folder {
        write_lambda_env(folder, &store, &identity, &url)?;
    }
    let (admin_token, api_key) = start_credentials(&app, &identity).await?;
    announce(&url, &admin_token, api_key.expose_secret())?;
    let worker = tokio::spawn(server::work(app.clone()));
    let serving = server::serve(app, listener, stopped());
    tokio::select! {
        served = serving => served?,
        () = forget_expired(&store) => {}
    }
    worker.abort();
    Ok(())
}

/// Removes expired items from the store again and again, for ever.
async fn forget_expired(store: &Store) {
    loop {
        tokio::time::sleep(FORGETTING).await;
        store.forget_expired().await;
    }
}

/// Waits for Ctrl-C or SIGTERM.
async fn stopped() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}

/// Announces the server: to people on standard error, to programs by one line on standard output.
fn announce(url: &str, admin_token: &str, api_key: &str) -> Outcome {
    eprintln!(
        "Hawser listens on {url}. To register a server and to list what is there:\n\n\
         curl -sX POST {url}/v1/deepagents/mcp-servers -H 'X-Api-Key: {api_key}' \\\n  \
         -d '{{\"name\":\"wiki\",\"url\":\"https://wiki.example/mcp\"}}'\n\n\
         curl -s {url}/api/svc/v1/mcp -H 'Authorization: Bearer {admin_token}'\n\n\
         An MCP client needs the address of a server alone, such as {url}/mcp/wiki, and signs in in your browser.\n\n\
         Ctrl-C ends it."
    );
    let ready = json!({"event": "ready", "url": url, "tenant": TENANT, "adminToken": admin_token, "apiKey": api_key});
    let mut out = std::io::stdout().lock();
    writeln!(out, "{ready}")?;
    Ok(out.flush()?)
}

/// Writes the environment with which the Lambda binaries use this store, for `cargo lambda watch --env-file`.
fn write_lambda_env(folder: &Path, store: &Store, identity: &Identity, url: &str) -> Outcome {
    let key_file = identity::master_key_file(folder).canonicalize()?;
    let lines = [
        ("AWS_ENDPOINT_URL_DYNAMODB", store.url().to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "local".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "local".to_owned()),
        ("HAWSER_TABLE", TABLE.to_owned()),
        ("HAWSER_PUBLIC_URL", url.to_owned()),
        ("HAWSER_GATEWAY_URL", url.to_owned()),
        ("HAWSER_KEY_FILE", key_file.display().to_string()),
        ("HAWSER_JWT_ISSUER", identity::ISSUER.to_owned()),
        ("HAWSER_JWT_AUDIENCE", identity::AUDIENCE.to_owned()),
        ("HAWSER_JWKS", identity.key_set().to_string()),
    ];
    let text: String = lines
        .iter()
        .map(|(name, value)| format!("{name}='{value}'\n"))
        .collect();
    let mut file = private_file(&folder.join("lambda.env"))?;
    file.set_len(0)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// The label of the API key printed at start; the next start replaces it.
const START_KEY: &str = "printed at start";

/// How long the credentials printed at start are valid, in seconds.
const START_LIFETIME: i64 = 86_400;

async fn start_credentials(app: &App, identity: &Identity) -> Outcome<(String, SecretString)> {
    let tenant = TenantId::parse(TENANT).ok_or("the tenant's name is not valid")?;
    let subject = Subject::parse("user:admin").ok_or("the subject is not valid")?;
    for old in app
        .table
        .api_keys(&tenant)
        .await?
        .iter()
        .filter(|key| key.label.as_deref() == Some(START_KEY))
    {
        let removed = key_event(&tenant, Action::KeyRemoved, &old.id, app.now())?;
        app.table.remove_api_key(&tenant, &old.id, &removed).await?;
    }
    let holder = Holder {
        tenant: TENANT.to_owned(),
        tenant_admin: true,
        manage: false,
        permissions: Vec::new(),
        scopes: Vec::new(),
        teams: Vec::new(),
        email: None,
    };
    let now = app.now();
    let token = identity.token(holder.claims(&subject, now.plus_seconds(START_LIFETIME)))?;
    let end = Some(now.plus_seconds(START_LIFETIME));
    let wanted = Wanted {
        owner: Some(subject),
        label: Some(START_KEY.to_owned()),
        expires_at: end,
        ..Wanted::default()
    };
    let key = add_key(&app.table, &tenant, &holder, wanted, now).await?;
    Ok((token, key))
}
