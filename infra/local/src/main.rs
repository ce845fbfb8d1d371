//! `hawser`: the local server, and the tools that mint its credentials.

use clap::{Args, Parser, Subcommand};
use hawser_core::App;
use hawser_core::auth::api_key::{mint_api_key, mint_personal};
use hawser_core::auth::jwt::ClaimNames;
use hawser_core::auth::jwt::{KeySet, TokenConfig};
use hawser_core::catalogue::{self, Offer};
use hawser_core::domain::allowed_issuers::AllowedIssuers;
use hawser_core::domain::api_key::ApiKey;
use hawser_core::domain::event::{Action, Event, Who};
use hawser_core::domain::id::TenantId;
use hawser_core::domain::integration::{ClientSecret, Integration};
use hawser_core::domain::subject::{Subject, SubjectType};
use hawser_core::domain::time::{Clock, Timestamp};
use hawser_core::egress::PrivateHosts;
use hawser_core::operations::integrations::{self, Kind};
use hawser_core::operations::{audit_log, integrity, subjects};
use hawser_core::state::config::{
    Config, DEFAULT_SCOPES, KeyServiceConfig, ListedApplication, ProviderConfig, ProviderSecret,
    SignInConfig, SignInPlace,
};
use hawser_core::table::Table;
use hawser_local::identity::{self, Identity};
use hawser_local::limits::raise_files;
use hawser_local::sign_in::TENANT;
use hawser_local::store::{Store, private_file};
use hawser_local::{ALL_PERMISSIONS, ALL_SCOPES, TABLE, config, server};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpListener;
use tracing::warn;
use url::{Host, Url};

/// The label of the API key printed at start; the next start replaces it.
const START_KEY: &str = "printed at start";
/// How often the store is rid of what has expired.
const FORGETTING: Duration = Duration::from_secs(600);
/// How long the credentials printed at start serve, in seconds.
const START_LIFETIME: i64 = 86_400;

/// A control plane for MCP server connections.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Start the local server (the default)
    Serve(Box<Serve>),
    /// Print a token of the local server
    Token(Token),
    /// Check the table for orphaned items and verify the audit logs: one JSON object a line, then the figures; fails if
    /// anything is wrong
    Audit {
        #[command(flatten)]
        at: At,
        /// With --table: the KMS key that the tenants' keys are wrapped by. Without it audit logs are not verified
        #[arg(long, requires = "table")]
        kms_key_id: Option<String>,
        /// Put right what can be
        #[arg(long)]
        repair: bool,
    },
    /// Take away all that one subject has, on every server of a tenant, and print the receipt
    Offboard {
        #[command(flatten)]
        at: At,
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// Whose credentials, such as user:alice or virtualaccount:ci
        #[arg(long)]
        subject: String,
        /// Change nothing, and print what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Create, list and revoke API keys
    #[command(subcommand)]
    ApiKey(ApiKeyCommand),
    /// The catalogue of integrations that connections can be made from
    #[command(subcommand)]
    Integrations(IntegrationsCommand),
}

#[derive(Args)]
struct Serve {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:9310")]
    listen: SocketAddr,
    #[command(flatten)]
    data: DataFolder,
    /// Keep nothing
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
    /// Accept the tokens of this OpenID Connect issuer too, such as http://localhost:8080/realms/acme
    #[arg(long)]
    jwt_issuer: Option<String>,
    /// With --jwt-issuer: an audience whose tokens are accepted
    #[arg(long, default_value = "hawser")]
    jwt_audience: Vec<String>,
    /// With --jwt-issuer: take the client_id of a token without an audience for one
    #[arg(long)]
    audience_by_client_id: bool,
    /// With --jwt-issuer or --sign-in-issuer: the tenant of tokens that name none
    #[arg(long, default_value = TENANT)]
    default_tenant: String,
    /// With --jwt-issuer or --sign-in-issuer: read something from another claim than usual, such as roles=cognito:groups
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
    /// With --sign-in-issuer: what the provider is asked for
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
        // A client that was given the other name of this machine asks for tokens by that.
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
        config.tokens.extend(self.tokens()?);
        if let Some(file) = &self.allowed_issuers {
            config.allowed_issuers = AllowedIssuers::parse(&std::fs::read_to_string(file)?)
                .ok_or("--allowed-issuers is not an object of tenants with issuers")?;
        }
        Ok(config)
    }

    /// How people and applications sign in. The page for development believes everyone, so it is there only where nobody from
    /// elsewhere can be: also not by a public address that leads here.
    fn sign_in(&self, public_url: &str, listen: SocketAddr) -> Outcome<SignInConfig> {
        let host = Url::parse(public_url).ok();
        let is_here = host.as_ref().is_some_and(|url| match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        });
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

    /// The claims that tokens are read by.
    fn claims(&self) -> Outcome<ClaimNames> {
        let mut claims = ClaimNames::default();
        for pair in &self.claims {
            let (name, claim) = pair.split_once('=').ok_or("--claim must be NAME=CLAIM")?;
            let place = claims.named(name);
            *place.ok_or_else(|| format!("--claim: nothing is called {name}"))? = claim.to_owned();
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

#[derive(Args)]
struct DataFolder {
    /// Where the store and the keys are
    #[arg(long, default_value = ".hawser")]
    data_dir: PathBuf,
}

#[derive(Args)]
struct Token {
    #[command(flatten)]
    data: DataFolder,
    #[command(flatten)]
    holder: Holder,
    /// Whom it is for, such as user:alice or virtualaccount:ci
    #[arg(long)]
    subject: String,
    /// Seconds until it ends
    #[arg(long, default_value_t = 3600)]
    expires_in: i64,
}

#[derive(Args)]
struct Holder {
    /// The tenant it is of
    #[arg(long)]
    tenant: String,
    /// Everything in the tenant, under every contract
    #[arg(long)]
    tenant_admin: bool,
    /// MANAGE_MCP_SERVER on all servers (TrueFoundry)
    #[arg(long)]
    manage: bool,
    /// A permission such as mcp-servers:invoke (LangSmith)
    #[arg(long = "permission")]
    permissions: Vec<String>,
    /// A scope such as mgmt.read (Kambrium)
    #[arg(long = "scope")]
    scopes: Vec<String>,
    /// A team (TrueFoundry)
    #[arg(long = "team")]
    teams: Vec<String>,
    /// The subject's e-mail address (TrueFoundry collaborators)
    #[arg(long)]
    email: Option<String>,
}

#[derive(Subcommand)]
enum ApiKeyCommand {
    /// Make a key and print it, once
    Create {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        holder: Holder,
        /// Whom it acts as; without it the key is a service key that acts as itself
        #[arg(long)]
        subject: Option<String>,
        /// A name for people
        #[arg(long)]
        label: Option<String>,
        /// Seconds until it ends (default: never)
        #[arg(long)]
        expires_in: Option<i64>,
        /// Make a personal access token of the subject's instead, to be sent as a bearer token
        #[arg(long, requires = "subject")]
        personal: bool,
        /// The one connection that a personal access token is for, by its number
        #[arg(long, requires = "personal")]
        connection: Option<u64>,
    },
    /// List the keys of a tenant, one JSON object a line
    List {
        #[command(flatten)]
        at: At,
        /// The tenant
        #[arg(long)]
        tenant: String,
    },
    /// End a key at once
    Revoke {
        #[command(flatten)]
        at: At,
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// The id that `list` shows
        id: String,
    },
}

#[derive(Subcommand)]
enum IntegrationsCommand {
    /// Make the catalogue equal to a file: one JSON object a line for each change, then the figures. A file with a mistake
    /// changes nothing
    Apply {
        #[command(flatten)]
        at: At,
        /// With --table: the KMS key that the tenants' keys are wrapped by; needed if the file holds secrets
        #[arg(long, requires = "table")]
        kms_key_id: Option<String>,
        /// Change nothing, and print what would be changed
        #[arg(long)]
        dry_run: bool,
        /// The file, as JSON; - for standard input
        file: PathBuf,
    },
    /// List the integrations, one JSON object a line
    List {
        #[command(flatten)]
        at: At,
    },
    /// Take one integration out of the catalogue
    Remove {
        #[command(flatten)]
        at: At,
        /// Its name
        name: String,
    },
    /// Print the events of the catalogue, newest first, one JSON object a line
    Events {
        #[command(flatten)]
        at: At,
    },
}

#[derive(Args)]
struct At {
    #[command(flatten)]
    data: DataFolder,
    /// A table on AWS, reached by the usual AWS environment, instead of a data folder
    #[arg(long)]
    table: Option<String>,
}

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> ExitCode {
    hawser_core::logs::init(std::io::stderr);
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hawser: {}", said(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// An error for people. The text of the domain's errors is for operators alone, and such is whoever runs this.
fn said(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref() {
        Some(hawser_core::Error::Contended) => {
            "someone else has changed the catalogue meanwhile: run it again".to_owned()
        }
        Some(hawser_core::Error::Unavailable(text) | hawser_core::Error::Internal(text)) => {
            text.clone()
        }
        _ => error.to_string(),
    }
}

async fn run(cli: Cli) -> Outcome {
    match cli.command {
        None => serve(cli.serve).await,
        Some(Command::Serve(options)) => serve(*options).await,
        Some(Command::Token(options)) => token(&options),
        Some(Command::Audit {
            at,
            kms_key_id,
            repair,
        }) => audit(&at, kms_key_id.as_deref(), repair).await,
        Some(Command::Offboard {
            at,
            tenant,
            subject,
            dry_run,
        }) => offboard(&at, &tenant, &subject, dry_run).await,
        Some(Command::ApiKey(command)) => api_key(command).await,
        Some(Command::Integrations(command)) => integrations_of(command).await,
    }
}

async fn serve(options: Serve) -> Outcome {
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

/// Removes what has expired, every now and then, for ever.
async fn forget_expired(store: &Store) {
    loop {
        tokio::time::sleep(FORGETTING).await;
        store.forget_expired().await;
    }
}

/// Resolves at Ctrl-C and at SIGTERM.
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

async fn start_credentials(app: &App, identity: &Identity) -> Outcome<(String, SecretString)> {
    let tenant = TenantId::parse(TENANT).ok_or("the tenant's name is not one")?;
    let subject = Subject::parse("user:admin").ok_or("the subject is not one")?;
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

/// Tells a person on standard error, and a program by one line on standard output.
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

/// A subject that may have records, from the command line.
fn record_holder(text: &str) -> Outcome<Subject> {
    let subject = Subject::parse(text).filter(|one| one.kind() != SubjectType::ExternalIdentity);
    Ok(subject.ok_or("--subject must be user:NAME or virtualaccount:NAME")?)
}

/// What the Lambda binaries need to run against this store, for `cargo lambda watch --env-file`.
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

fn token(options: &Token) -> Outcome {
    let identity = Identity::open(&options.data.data_dir)?;
    let subject = record_holder(&options.subject)?;
    TenantId::parse(&options.holder.tenant).ok_or("--tenant must have 1 to 255 characters")?;
    let end = Clock::System.now().plus_seconds(options.expires_in);
    writeln!(
        std::io::stdout(),
        "{}",
        identity.token(options.holder.claims(&subject, end))?
    )?;
    Ok(())
}

impl Holder {
    fn claims(&self, subject: &Subject, end: Timestamp) -> Value {
        let mut claims = json!({
            "tenantName": self.tenant,
            "sub": subject.id(),
            "subjectType": subject.kind().as_str(),
            "exp": end.seconds(),
            "roles": self.roles(),
            "teams": self.teams,
            "permissions": self.permissions(),
            "scope": self.scopes().into_iter().collect::<Vec<_>>().join(" "),
        });
        if let Some(email) = &self.email {
            claims["email"] = email.as_str().into();
        }
        claims
    }

    fn roles(&self) -> BTreeSet<String> {
        let admin = self.tenant_admin.then(|| "admin".to_owned());
        admin
            .into_iter()
            .chain(self.manage.then(|| "mcp-server-manager".to_owned()))
            .collect()
    }

    fn permissions(&self) -> BTreeSet<String> {
        with_all(&self.permissions, &ALL_PERMISSIONS, self.tenant_admin)
    }

    fn scopes(&self) -> BTreeSet<String> {
        with_all(&self.scopes, &ALL_SCOPES, self.tenant_admin)
    }
}

fn with_all(given: &[String], all: &[&str], every: bool) -> BTreeSet<String> {
    let all = all.iter().filter(|_| every).map(|&name| name.to_owned());
    given.iter().cloned().chain(all).collect()
}

async fn audit(at: &At, key: Option<&str>, repair: bool) -> Outcome {
    let (table, _store) = at.open().await?;
    let app = at.app(key, _store.as_ref()).await?;
    let report = integrity::examine(&table, app.as_ref(), Clock::System.now(), repair).await?;
    let mut out = std::io::stdout().lock();
    for (orphan, repaired) in &report.orphans {
        let mut line = serde_json::to_value(orphan)?;
        if repair {
            line["repaired"] = (*repaired).into();
        }
        writeln!(out, "{line}")?;
    }
    for (tenant, month, flaw) in report.flaws.iter().flatten() {
        let mut line = serde_json::to_value(flaw)?;
        line["tenant"] = tenant.as_str().into();
        line["month"] = month.as_str().into();
        writeln!(out, "{line}")?;
    }
    let flaws = report.flaws.as_ref().map(Vec::len);
    let figures = json!({"items": report.items, "orphans": report.orphans.len(), "flaws": flaws});
    writeln!(out, "{figures}")?;
    if report.is_sound() {
        Ok(())
    } else {
        Err("integrity check failed: orphaned items or an invalid audit log".into())
    }
}

/// What issuers have to be told goes on in the workers, on AWS or in the next local server.
async fn offboard(at: &At, tenant: &str, subject: &str, dry_run: bool) -> Outcome {
    let (tenant, subject) = (tenant_id(tenant)?, record_holder(subject)?);
    let (_, store) = at.open().await?;
    // What is sealed is moved unopened, so that the key's name does not matter.
    let app = at.app(Some("none"), store.as_ref()).await?;
    let app = app.ok_or("there is no store")?;
    let printed = if dry_run {
        hawser_functions::dry_run_response(
            &subjects::preview_offboarding(&app, &tenant, &subject).await?,
        )
    } else {
        let receipt = subjects::offboard_by_operator(&app, &tenant, &subject).await?;
        hawser_functions::hawser::present(&receipt)
    };
    writeln!(std::io::stdout(), "{printed}")?;
    Ok(())
}

fn tenant_id(name: &str) -> Outcome<TenantId> {
    Ok(TenantId::parse(name).ok_or("--tenant must have 1 to 255 characters")?)
}

async fn api_key(command: ApiKeyCommand) -> Outcome {
    match command {
        ApiKeyCommand::Create {
            at,
            holder,
            subject,
            label,
            expires_in,
            personal,
            connection,
        } => {
            let tenant = tenant_id(&holder.tenant)?;
            let subject = subject.as_deref().map(record_holder).transpose()?;
            let now = Clock::System.now();
            let end = expires_in.map(|seconds| now.plus_seconds(seconds));
            let (table, _store) = at.open().await?;
            let wanted = Wanted {
                owner: subject,
                label,
                expires_at: end,
                personal,
                bound_to: connection,
            };
            let key = add_key(&table, &tenant, &holder, wanted, now).await?;
            writeln!(std::io::stdout(), "{}", key.expose_secret())?;
        }
        ApiKeyCommand::List { at, tenant } => {
            let (table, _store) = at.open().await?;
            for key in table.api_keys(&tenant_id(&tenant)?).await? {
                let line = json!({
                    "id": key.id,
                    "subject": key.owner.map(|owner| format!("{}:{}", owner.kind().as_str(), owner.id())),
                    "label": key.label,
                    "roles": key.roles,
                    "permissions": key.permissions,
                    "scopes": key.scopes,
                    "personal": key.personal,
                    "connection": key.bound_to,
                    "createdAt": key.created_at.seconds_z(),
                    "expiresAt": key.expires_at.map(Timestamp::seconds_z),
                });
                writeln!(std::io::stdout(), "{line}")?;
            }
        }
        ApiKeyCommand::Revoke { at, tenant, id } => {
            let (table, _store) = at.open().await?;
            let tenant = tenant_id(&tenant)?;
            let removed = key_event(&tenant, Action::KeyRemoved, &id, Clock::System.now())?;
            if !table.remove_api_key(&tenant, &id, &removed).await? {
                return Err("there is no key of that id".into());
            }
        }
    }
    Ok(())
}

async fn integrations_of(command: IntegrationsCommand) -> Outcome {
    let mut out = std::io::stdout().lock();
    match command {
        IntegrationsCommand::Apply {
            at,
            kms_key_id,
            dry_run,
            file,
        } => {
            let offers = offers(&file, at.table.is_none())?;
            let holds_secrets = offers.values().any(Offer::holds_secrets);
            if at.table.is_some() && kms_key_id.is_none() && holds_secrets {
                return Err("the file holds secrets: --kms-key-id must name the key".into());
            }
            let (_, store) = at.open().await?;
            let app = at.app(
                Some(kms_key_id.as_deref().unwrap_or("none")),
                store.as_ref(),
            );
            let app = app.await?.ok_or("there is no store")?;
            let changes = integrations::apply(&app, &offers, dry_run).await?;
            for change in &changes {
                writeln!(out, "{}", json!(change))?;
            }
            let count = |kind| changes.iter().filter(|one| one.change == kind).count();
            let [added, changed, removed] = [Kind::Added, Kind::Changed, Kind::Removed].map(count);
            let unchanged = offers.len() - added - changed;
            let figures = json!({"added": added, "changed": changed, "removed": removed, "unchanged": unchanged});
            writeln!(out, "{figures}")?;
        }
        IntegrationsCommand::List { at } => {
            let (table, _store) = at.open().await?;
            for (name, stored) in table.integrations().await? {
                let line = match stored {
                    Some(stored) => shown(&name, &stored.integration),
                    None => json!({"integration": name, "unreadable": true}),
                };
                writeln!(out, "{line}")?;
            }
        }
        IntegrationsCommand::Remove { at, name } => {
            let (_, store) = at.open().await?;
            let app = at.app(Some("none"), store.as_ref()).await?;
            let app = app.ok_or("there is no store")?;
            if !integrations::remove(&app, &name).await? {
                return Err("there is no integration of that name".into());
            }
        }
        IntegrationsCommand::Events { at } => {
            let (_, store) = at.open().await?;
            let app = at.app(Some("none"), store.as_ref()).await?;
            let app = app.ok_or("there is no store")?;
            let (operator, mut before) = (TenantId::operator(), None);
            loop {
                let page = audit_log::list(&app, &operator, before, 1000, |_| true);
                let (events, next) = page.await?;
                for event in &events {
                    writeln!(out, "{}", event.chained_line()?)?;
                }
                before = next;
                if before.is_none() {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// What a file offers; on this machine also at http on loopback.
fn offers(file: &Path, loopback_http: bool) -> Outcome<BTreeMap<String, Offer>> {
    let document: SecretString = match file.to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin())?.into(),
        _ => std::fs::read_to_string(file)
            .map_err(|error| format!("{}: {error}", file.display()))?
            .into(),
    };
    Ok(catalogue::read(document.expose_secret(), loopback_http)?)
}

/// An integration for people, and where the secret of its client is.
fn shown(name: &str, integration: &Integration) -> Value {
    let oauth = integration.oauth.as_ref();
    let secret = oauth.and_then(|oauth| oauth.client_secret.as_ref());
    json!({
        "integration": name,
        "displayName": integration.display_name,
        "mcpUrl": integration.mcp_url,
        "active": integration.active,
        "apiKey": integration.api_key.is_some(),
        "oauth": oauth.is_some(),
        "clientId": oauth.and_then(|oauth| oauth.client_id.as_ref()),
        "clientSecret": secret.map(|secret| match secret {
            ClientSecret::Sealed(_) => json!("sealed"),
            ClientSecret::Reference(reference) => json!({
                (reference.store.as_str()): reference.id,
                "jsonKey": reference.json_key,
            }),
        }),
    })
}

impl At {
    /// The table, and the store behind it if it is a data folder's.
    async fn open(&self) -> Outcome<(Table, Option<Store>)> {
        if let Some(name) = &self.table {
            return Ok((hawser_local::aws::table(name).await?, None));
        }
        Identity::open(&self.data.data_dir)?;
        let store = Store::open(Some(&self.data.data_dir)).await?;
        let client = aws_sdk_dynamodb::Client::from_conf(store.client_config().build());
        Ok((Table::new(client, TABLE), Some(store)))
    }

    /// An application that can open keys: with those of a data folder, or on AWS by this KMS key.
    async fn app(&self, key: Option<&str>, store: Option<&Store>) -> Outcome<Option<App>> {
        let Some(table) = &self.table else {
            let store = store.ok_or("there is no store")?;
            let key = Identity::open(&self.data.data_dir)?.master_key().clone();
            let config = Config::bare(TABLE, KeyServiceConfig::Key(key));
            let client = aws_sdk_dynamodb::Client::from_conf(store.client_config().build());
            return Ok(Some(App::new(config, client, |_| {
                unreachable!("the key is a file's")
            })?));
        };
        Ok(match key {
            Some(key) => {
                let config = Config::bare(table, KeyServiceConfig::Kms(key.to_owned()));
                Some(App::connect(config).await?)
            }
            None => None,
        })
    }
}

/// What sets one key apart from another of the same holder.
#[derive(Default)]
struct Wanted {
    owner: Option<Subject>,
    label: Option<String>,
    expires_at: Option<Timestamp>,
    personal: bool,
    bound_to: Option<u64>,
}

async fn add_key(
    table: &Table,
    tenant: &TenantId,
    holder: &Holder,
    wanted: Wanted,
    now: Timestamp,
) -> Outcome<SecretString> {
    let Wanted {
        owner,
        label,
        expires_at,
        personal,
        bound_to,
    } = wanted;
    let (id, text, secret_hash) = match personal {
        true => mint_personal(now)?,
        false => mint_api_key(tenant, now)?,
    };
    let key = ApiKey {
        id,
        secret_hash,
        owner,
        email: holder.email.clone(),
        label,
        roles: holder.roles(),
        teams: holder.teams.iter().cloned().collect(),
        permissions: holder.permissions(),
        scopes: holder.scopes(),
        personal,
        bound_to,
        created_at: now,
        expires_at,
    };
    let mut created = key_event(tenant, Action::KeyCreated, &key.id, now)?;
    created.subject.clone_from(&key.owner);
    table.add_api_key(tenant, &key, &created).await?;
    Ok(text)
}

fn key_event(tenant: &TenantId, action: Action, id: &str, now: Timestamp) -> Outcome<Event> {
    Ok(Event::new(now, tenant, Who::Operator, action)?.of_key(id))
}
