//! What the tests drive: the real router over HTTP, the embedded store behind the real SDK, and a wire between the two
//! that counts requests and can be cut.

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::types::{
    AttributeValue, PutRequest, StreamSpecification, StreamViewType, WriteRequest,
};
use aws_smithy_types::body::SdkBody;
use hawser_core::App;
use hawser_core::auth::api_key::{mint_api_key, mint_personal};
use hawser_core::catalogue;
use hawser_core::domain::api_key::ApiKey;
use hawser_core::domain::caller;
use hawser_core::domain::credential::Grant;
use hawser_core::domain::event::{Action, Event, Who};
use hawser_core::domain::id::{ServerId, Sortable, TenantId};
use hawser_core::domain::job::Work;
use hawser_core::domain::session::Session;
use hawser_core::domain::subject::{Subject, SubjectType};
use hawser_core::domain::time::Clock;
use hawser_core::operations::audit_log;
use hawser_core::operations::integrations;
use hawser_core::operations::integrity::examine;
use hawser_core::operations::scheduler::process_due;
use hawser_core::state::config::Config;
use hawser_core::table::credentials::{self, Granting, Outcome};
use hawser_core::table::{servers, subjects};
use hawser_local::identity::Identity;
use hawser_local::store::Store;
use hawser_local::{config, server};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Until when workers may begin something, where time does not matter.
pub fn ample() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// A running Hawser with a store of its own. Its workers rest until [`Hawser::settle`] is called.
pub struct Hawser {
    pub url: String,
    pub app: Arc<App>,
    pub wire: Wire,
    ground: Arc<Ground>,
    http: reqwest::Client,
    _stop: oneshot::Sender<()>,
}

/// What outlives a process: store and keys.
pub struct Ground {
    pub store: Store,
    pub identity: Identity,
}

impl Ground {
    pub async fn new() -> Arc<Self> {
        Arc::new(Self {
            store: match std::env::var("HAWSER_TEST_DYNAMODB") {
                Ok(url) => Store::at(&url).await.unwrap(),
                Err(_) => Store::open(None).await.unwrap(),
            },
            identity: Identity::ephemeral().unwrap(),
        })
    }

    /// One whose table has its stream.
    pub async fn streaming() -> Arc<Self> {
        let ground = Self::new().await;
        let stream = StreamSpecification::builder()
            .stream_enabled(true)
            .stream_view_type(StreamViewType::NewAndOldImages);
        let update = ground.dynamodb().update_table();
        let update = update.table_name(hawser_local::TABLE);
        let update = update.stream_specification(stream.build().unwrap());
        update.send().await.unwrap();
        ground
    }

    /// An application on this ground, as a new process would build it whose operator has made these settings.
    pub fn app(
        &self,
        wire: &Wire,
        url: &str,
        set: impl FnOnce(&mut Config),
        change: impl FnOnce(&mut App),
    ) -> Arc<App> {
        // What a cut wire does is to be seen at once, not after the SDK has tried again.
        let client = self
            .store
            .client_config()
            .retry_config(RetryConfig::disabled())
            .interceptor(wire.clone());
        let client = aws_sdk_dynamodb::Client::from_conf(client.build());
        let mut config = Config {
            public_urls: vec![url.to_owned()],
            gateway_url: Some(url.to_owned()),
            ..config(&self.identity).unwrap()
        };
        set(&mut config);
        let mut app = App::new(config, client, |_| unreachable!()).unwrap();
        change(&mut app);
        app.share()
    }

    /// Makes the catalogue equal to these integrations, as `hawser integrations apply` does, and chains what is told of it.
    pub async fn offer(&self, offered: &Value) {
        let file = json!({"integrations": offered}).to_string();
        let offers = catalogue::read(&file, true).unwrap();
        let app = self.app(&Wire::default(), "http://unused.example", |_| {}, |_| {});
        integrations::apply(&app, &offers, false).await.unwrap();
        audit_log::chain_all(&app, ample()).await.unwrap();
    }

    /// A client that no wire watches.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::from_conf(self.store.client_config().build())
    }

    /// Every item in the table.
    pub async fn items(&self) -> Vec<Value> {
        items(&self.dynamodb()).await
    }

    /// Every item in the partition of a server.
    pub async fn left_of(&self, server: &Registered) -> Vec<Value> {
        let mut items = self.items().await;
        items.retain(|item| server.holds(item));
        items
    }

    /// Every record of the table's stream so far, in the shape in which Lambda delivers them.
    pub async fn stream(&self) -> Vec<Value> {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let ask = async |operation: &str, body: Value| {
            let request = http
                .post(self.store.url())
                .header("content-type", "application/x-amz-json-1.0")
                .header("x-amz-date", "20260101T000000Z")
                // It wants one, and does not check it.
                .header(
                    "authorization",
                    format!(
                        "AWS4-HMAC-SHA256 Credential={}/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0",
                        self.store.access_key()
                    ),
                )
                .header(
                    "x-amz-target",
                    format!("DynamoDBStreams_20120810.{operation}"),
                );
            let answer = request.body(body.to_string()).send().await.unwrap();
            serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap()
        };
        let streams = ask("ListStreams", json!({"TableName": hawser_local::TABLE})).await;
        let arn = &streams["Streams"][0]["StreamArn"];
        let described = ask("DescribeStream", json!({"StreamArn": arn})).await;
        let shard = &described["StreamDescription"]["Shards"][0]["ShardId"];
        let start =
            json!({"StreamArn": arn, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"});
        let mut at = ask("GetShardIterator", start).await["ShardIterator"].clone();
        let mut all = Vec::new();
        loop {
            let page = ask("GetRecords", json!({"ShardIterator": at})).await;
            let records = page["Records"].as_array().unwrap();
            if records.is_empty() {
                return all;
            }
            all.extend(records.iter().cloned());
            at = page["NextShardIterator"].clone();
        }
    }
}

/// Every item in a table, ordered by key.
#[expect(
    clippy::disallowed_methods,
    reason = "a test looks at everything there is"
)]
pub async fn items(client: &aws_sdk_dynamodb::Client) -> Vec<Value> {
    let mut pages = client
        .scan()
        .table_name(hawser_local::TABLE)
        .consistent_read(true)
        .into_paginator()
        .items()
        .send();
    let mut all: Vec<Value> = Vec::new();
    while let Some(item) = pages.next().await {
        all.push(plain(AttributeValue::M(item.unwrap())));
    }
    all.sort_by_key(|item| (item["PK"].to_string(), item["SK"].to_string()));
    all
}

/// Whether an item belongs to the audit log, which grows with everything that is done.
pub fn of_trail(item: &Value) -> bool {
    item["entity"] == "event" || item["entity"] == "trail"
}

/// Whether an item belongs to the operator, not to a tenant: the catalogue, its key and its audit log.
pub fn of_operator(item: &Value) -> bool {
    let partition = item["PK"].as_str().unwrap();
    partition == "CATALOGUE" || partition.starts_with("T#hawser:operator")
}

fn plain(value: AttributeValue) -> Value {
    match value {
        AttributeValue::M(map) => map
            .into_iter()
            .map(|(name, value)| (name, plain(value)))
            .collect::<Map<_, _>>()
            .into(),
        AttributeValue::L(list) => list.into_iter().map(plain).collect(),
        AttributeValue::S(text) => text.into(),
        AttributeValue::N(number) => number.parse::<serde_json::Number>().unwrap().into(),
        AttributeValue::Bool(is) => is.into(),
        other => format!("{other:?}").into(),
    }
}

impl Hawser {
    pub async fn start() -> Self {
        Self::on(Ground::new().await).await
    }

    /// With these integrations.
    pub async fn with_integrations(integrations: &Value) -> Self {
        Self::offering(integrations, |_| {}).await
    }

    /// With these integrations, whose operator has made these settings.
    pub async fn offering(integrations: &Value, set: impl FnOnce(&mut Config)) -> Self {
        let ground = Ground::new().await;
        ground.offer(integrations).await;
        Self::configured(ground, set).await
    }

    /// With the integrations that the local server has at first.
    pub async fn with_built_in_integrations() -> Self {
        let built_in: Value = serde_json::from_str(hawser_local::CATALOGUE).unwrap();
        Self::with_integrations(&built_in["integrations"]).await
    }

    /// A new process on ground that may have seen others.
    pub async fn on(ground: Arc<Ground>) -> Self {
        Self::on_with(ground, |_| {}, |_| {}).await
    }

    /// The same, whose operator has made these settings.
    pub async fn configured(ground: Arc<Ground>, set: impl FnOnce(&mut Config)) -> Self {
        Self::on_with(ground, set, |_| {}).await
    }

    /// One that something else is known to.
    pub async fn start_with(change: impl FnOnce(&mut App)) -> Self {
        Self::on_with(Ground::new().await, |_| {}, change).await
    }

    /// One whose clock stands still until [`Hawser::pass`] moves it.
    pub async fn start_by_hand() -> Self {
        Self::by_hand(Ground::new().await).await
    }

    /// The same on ground that may have seen others.
    pub async fn by_hand(ground: Arc<Ground>) -> Self {
        Self::on_with(ground, |_| {}, stopped).await
    }

    /// The same, whose operator has made these settings.
    pub async fn by_hand_configured(ground: Arc<Ground>, set: impl FnOnce(&mut Config)) -> Self {
        Self::on_with(ground, set, stopped).await
    }

    /// The same, and something else is known to it.
    pub async fn by_hand_changed(ground: Arc<Ground>, change: impl FnOnce(&mut App)) -> Self {
        let both = |app: &mut App| {
            stopped(app);
            change(app);
        };
        Self::on_with(ground, |_| {}, both).await
    }

    /// The same with these integrations.
    pub async fn by_hand_with_integrations(integrations: &Value) -> Self {
        let ground = Ground::new().await;
        ground.offer(integrations).await;
        Self::by_hand(ground).await
    }

    /// Moves a clock that stands still.
    pub fn pass(&self, seconds: i64) {
        let Clock::Manual(now) = &self.app.clock else {
            panic!("nobody moves the system's clock");
        };
        now.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }

    /// A new process on ground that may have seen others, with these settings and changes.
    pub async fn restarted(
        ground: Arc<Ground>,
        set: impl FnOnce(&mut Config),
        change: impl FnOnce(&mut App),
    ) -> Self {
        Self::on_with(ground, set, change).await
    }

    async fn on_with(
        ground: Arc<Ground>,
        set: impl FnOnce(&mut Config),
        change: impl FnOnce(&mut App),
    ) -> Self {
        let wire = Wire::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = ground.app(&wire, &url, set, change);
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(server::serve(app.clone(), listener, async {
            let _ = stopped.await;
        }));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            url,
            app,
            wire,
            ground,
            http,
            _stop: stop,
        }
    }

    pub fn ground(&self) -> Arc<Ground> {
        self.ground.clone()
    }

    /// Chains every event there is.
    pub async fn chain(&self) {
        audit_log::chain_all(&self.app, ample()).await.unwrap();
    }

    /// Dies: what it had begun is cut off, and nothing of it is heard of again.
    pub async fn die(self) {
        self.app.tasks.finish(Duration::ZERO).await;
    }

    /// A first page of the work that is due.
    pub async fn due(&self) -> Vec<Work> {
        let page = self.app.table.due_work(self.app.now(), None).await;
        page.unwrap().0
    }

    /// Lets the workers finish everything that is due; then the integrity check must find nothing.
    pub async fn run_workers(&self) {
        while process_due(&self.app, ample()).await.unwrap() {}
        self.chain().await;
        let (app, now) = (&self.app, self.app.now());
        let report = examine(&app.table, Some(app), now, false).await.unwrap();
        assert!(report.is_sound(), "{report:?}");
    }

    /// Stores a grant of a user of tenant `acme`, as a finished consent does; its tokens do not open.
    pub async fn give_grant(&self, mcp: &str, user: &str, change: impl FnOnce(&mut Grant)) {
        let tenant = TenantId::parse("acme").unwrap();
        let server = ServerId::parse_prefixed(mcp).unwrap();
        let subject = Subject::new(SubjectType::User, user).unwrap();
        let mut grant: Grant = serde_json::from_value(json!({
            "server": server, "subject_type": "user", "subject_id": user, "auth_revision": 1, "version": "v1",
            "issuance": {"issuer": "https://as.example", "token_endpoint": "https://as.example/token",
                         "client": {"id": "c", "auth": "none", "source": "metadata_document"}},
            "scopes": ["read"], "obtained_at": 0, "lifetime": null, "expires_at": null, "refreshable": true,
            "last_refresh": null, "sealed": [1, 2, 3],
        }))
        .unwrap();
        change(&mut grant);
        let mut session: Session = serde_json::from_value(json!({
            "id": Sortable::new(self.app.now()).unwrap().ulid(), "tenant": "acme", "server": server,
            "subject_type": "user", "subject_id": user, "auth_revision": grant.auth_revision,
            "at": self.app.now(), "origin": {"kambrium": {"integration": Sortable::new(self.app.now()).unwrap()}}, "phase": "exchanging",
            "secret_hash": "", "ttl": self.app.now().plus_seconds(86_400).seconds(),
        }))
        .unwrap();
        let table = &self.app.table;
        let mut keys = Vec::from(credentials::record_keys(&tenant, server, &subject));
        keys.push(servers::key(&tenant, server));
        keys.push(subjects::key(&tenant, &subject));
        let found = table.read(keys).await.unwrap();
        let registered = found.server(&tenant, server).unwrap().unwrap();
        let records = found.records(&tenant, &registered, &subject).unwrap();
        session.removals = records.stored.removals();
        session.offboardings = found.offboardings(&tenant, &subject).unwrap();
        let begun = self.event(&tenant, Action::SessionBegun);
        assert!(table.add_session(&session, None, &begun).await.unwrap());
        let granting = Granting {
            grant: &grant,
            replacing: &records.stored,
            revocation: None,
            session: &session,
        };
        let granted = self.event(&tenant, Action::CredentialGranted);
        let stored = table.put_grant(&granting, &granted).await;
        assert_eq!(stored.unwrap(), Outcome::Done);
    }

    /// Of what a test does to the table itself.
    pub fn event(&self, tenant: &TenantId, action: Action) -> Event {
        Event::new(self.app.now(), tenant, Who::Operator, action).unwrap()
    }

    /// A caller with a token of exactly these claims.
    pub fn claims(&self, claims: Value) -> Caller {
        let token = self.ground.identity.token(claims).unwrap();
        self.with(vec![("authorization", format!("Bearer {token}"))])
    }

    /// A user of a tenant with further claims.
    pub fn caller(&self, tenant: &str, subject: &str, more: Value) -> Caller {
        let end = self.app.now().seconds() + 100 * 24 * 3600;
        let mut claims = json!({"tenantName": tenant, "sub": subject, "exp": end});
        claims
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.claims(claims)
    }

    /// A user of a tenant as operations know it.
    pub async fn authenticated_caller(&self, tenant: &str, subject: &str) -> caller::Caller {
        let claims = json!({"tenantName": tenant, "sub": subject, "exp": now() + 600});
        let token = self.ground.identity.token(claims).unwrap();
        let who = self.app.present_token(&token, &[]).await.unwrap();
        self.app.identify(who).await.unwrap()
    }

    /// A caller who may do everything in a tenant under every contract.
    pub fn admin(&self, tenant: &str) -> Caller {
        let permissions =
            ["create", "read", "update", "delete", "invoke"].map(|p| format!("mcp-servers:{p}"));
        let all = json!({"roles": ["admin"], "permissions": permissions, "scope": "mgmt.read mgmt.write mgmt.admin"});
        self.caller(tenant, "root", all)
    }

    /// A caller with a fresh API key of `owner` (such as `user:ada`; `None` for a service key). `grants` may hold `roles`,
    /// `teams`, `permissions`, `scopes`, and `expires_in` seconds.
    pub async fn api_key(&self, tenant: &str, owner: Option<&str>, grants: Value) -> Caller {
        let tenant = TenantId::parse(tenant).unwrap();
        let made = mint_api_key(&tenant, self.app.now()).unwrap();
        let text = self.add_key(&tenant, owner, grants, made).await;
        self.with(vec![("x-api-key", text)])
    }

    /// A caller with a fresh personal access token of `owner`. `grants` may also hold `bound_to`, its
    /// connection, and `expires_in`, in seconds.
    pub async fn personal(&self, tenant: &str, owner: &str, grants: Value) -> Caller {
        let tenant = TenantId::parse(tenant).unwrap();
        let made = mint_personal(self.app.now()).unwrap();
        let text = self.add_key(&tenant, Some(owner), grants, made).await;
        self.with(vec![("authorization", format!("Bearer {text}"))])
    }

    async fn add_key(
        &self,
        tenant: &TenantId,
        owner: Option<&str>,
        grants: Value,
        (id, text, secret_hash): (String, SecretString, String),
    ) -> String {
        let list = |name: &str| serde_json::from_value(grants[name].clone()).unwrap_or_default();
        let now = self.app.now();
        let key = ApiKey {
            id,
            secret_hash,
            owner: owner.map(|owner| Subject::parse(owner).unwrap()),
            email: None,
            label: None,
            roles: list("roles"),
            teams: list("teams"),
            permissions: list("permissions"),
            scopes: list("scopes"),
            personal: text.expose_secret().starts_with("pat_"),
            bound_to: grants["bound_to"].as_u64(),
            created_at: now,
            expires_at: grants["expires_in"]
                .as_i64()
                .map(|life| now.plus_seconds(life)),
        };
        let made = self.event(tenant, Action::KeyCreated).of_key(&key.id);
        let table = &self.app.table;
        table.add_api_key(tenant, &key, &made).await.unwrap();
        text.expose_secret().to_owned()
    }

    pub fn anonymous(&self) -> Caller {
        self.with(Vec::new())
    }

    /// A caller who sends exactly these headers.
    pub fn with(&self, headers: Vec<(&'static str, String)>) -> Caller {
        Caller {
            url: self.url.clone(),
            http: self.http.clone(),
            headers,
        }
    }
}

fn stopped(app: &mut App) {
    let now = Arc::new(AtomicI64::new(app.now().micros()));
    app.clock = Clock::Manual(now);
}

/// Someone who sends requests.
#[derive(Clone)]
pub struct Caller {
    url: String,
    http: reqwest::Client,
    pub headers: Vec<(&'static str, String)>,
}

/// An answer, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub text: String,
    headers: Vec<(String, String)>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.clone())
    }

    /// Asserts status and body together.
    #[track_caller]
    pub fn is(&self, status: u16, body: Value) {
        assert_eq!((self.status, self.json()), (status, body));
    }
}

impl Caller {
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        let mut request = self
            .http
            .request(method.parse().unwrap(), format!("{}{path}", self.url));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body).send().await.unwrap();
        let headers = response.headers().iter();
        let headers = headers
            .map(|(n, v)| {
                (
                    n.to_string(),
                    String::from_utf8_lossy(v.as_bytes()).into_owned(),
                )
            })
            .collect();
        Answer {
            status: response.status().as_u16(),
            headers,
            text: response.text().await.unwrap(),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Vec::new()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], Vec::new()).await
    }

    pub async fn delete_with(&self, path: &str, body: Value) -> Answer {
        self.send("DELETE", path, &[], body.to_string().into_bytes())
            .await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, &[], body.to_string().into_bytes())
            .await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, &[], body.to_string().into_bytes())
            .await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send("PATCH", path, &[], body.to_string().into_bytes())
            .await
    }
}

/// A browser: it keeps cookies, and says where it is sent instead of going there.
#[derive(Clone)]
pub struct Browser {
    http: reqwest::Client,
    pub cookies: BTreeMap<String, String>,
    /// Where it takes itself to be; unset: where it really is. They differ behind a load balancer.
    pub origin: Option<String>,
}

/// What it was shown.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    pub location: Option<String>,
    pub text: String,
}

impl Browser {
    pub fn new() -> Self {
        let http = reqwest::Client::builder().no_proxy();
        Self {
            http: http
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
            cookies: BTreeMap::new(),
            origin: None,
        }
    }

    pub async fn open(&mut self, url: &str) -> Page {
        self.send(self.http.get(url)).await
    }

    /// Sends a request with the cookies that it has, and keeps those that it gets.
    pub async fn send(&mut self, request: reqwest::RequestBuilder) -> Page {
        let response = request.header("cookie", self.cookie());
        let response = response.send().await.unwrap();
        for cookie in response.headers().get_all("set-cookie") {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let location = response.headers().get("location");
        let location = location.map(|location| location.to_str().unwrap().to_owned());
        Page {
            status: response.status().as_u16(),
            location,
            text: response.text().await.unwrap(),
        }
    }

    /// The header that it sends its cookies with.
    pub fn cookie(&self) -> String {
        let pairs = self.cookies.iter().map(|(n, v)| format!("{n}={v}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    /// Presses the button of a page, as the page at `url` was shown.
    pub async fn press(&mut self, url: &str, page: &Page) -> Page {
        self.submit(url, &Form::of(page)).await
    }

    /// Sends a form of the page at `url`.
    pub async fn submit(&mut self, url: &str, form: &Form) -> Page {
        let target = url::Url::parse(url).unwrap().join(&form.action).unwrap();
        let origin = self.origin.clone();
        let origin = origin.unwrap_or_else(|| target.origin().ascii_serialization());
        let request = posted(self.http.post(target), &form.fields);
        let request = request.header("sec-fetch-site", "same-origin");
        self.send(request.header("origin", origin)).await
    }

    /// Posts a form.
    pub async fn post(&mut self, url: &str, fields: &[(String, String)]) -> Page {
        self.send(posted(self.http.post(url), fields)).await
    }

    /// Opens a consent URL and presses the button there.
    pub async fn start(&mut self, endpoint: &str) -> Page {
        let page = self.open(endpoint).await;
        assert_eq!(page.status, 200, "{page:?}");
        self.press(endpoint, &page).await
    }

    /// The same; where the issuer would ask the user.
    pub async fn begin(&mut self, endpoint: &str) -> String {
        let page = self.start(endpoint).await;
        assert_eq!(page.status, 303, "{page:?}");
        page.location.unwrap()
    }
}

/// A request with this form.
pub fn posted(
    request: reqwest::RequestBuilder,
    fields: &[(impl AsRef<str>, impl AsRef<str>)],
) -> reqwest::RequestBuilder {
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        body.append_pair(name.as_ref(), value.as_ref());
    }
    request
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.finish())
}

/// The form of a page.
pub struct Form {
    pub action: String,
    pub fields: Vec<(String, String)>,
}

impl Form {
    #[track_caller]
    pub fn of(page: &Page) -> Self {
        let between = |text: &str, start: &str| {
            let (_, rest) = text.split_once(start)?;
            let (value, _) = rest.split_once('"')?;
            Some(value.replace("&#39;", "'").replace("&amp;", "&"))
        };
        let action = between(&page.text, "<form method=\"post\" action=\"");
        let field = |input: &str| Some((between(input, "name=\"")?, between(input, "value=\"")?));
        Self {
            action: action.unwrap_or_else(|| panic!("no form: {page:?}")),
            fields: page
                .text
                .split("<input")
                .skip(1)
                .filter_map(field)
                .collect(),
        }
    }
}

/// A server under each of its names.
pub struct Registered {
    /// `mcp-` and the ULID.
    pub mcp: String,
    pub uuid: String,
    pub number: u64,
}

impl Registered {
    /// The end of the key of its partition.
    pub fn ulid(&self) -> &str {
        self.mcp.strip_prefix("mcp-").unwrap()
    }

    /// Whether an item lies in its partition.
    pub fn holds(&self, item: &Value) -> bool {
        item["PK"]
            .as_str()
            .unwrap()
            .ends_with(&format!("#S#{}", self.ulid()))
    }

    /// Its path under TrueFoundry, LangSmith and Kambrium.
    pub fn paths(&self) -> [String; 3] {
        [
            format!("/api/svc/v1/mcp/{}", self.mcp),
            format!("/v1/deepagents/mcp-servers/{}", self.uuid),
            format!("/api/v1/mcp-servers/{}", self.number),
        ]
    }
}

impl Caller {
    /// Registers a server with this authentication, and an override for each of these users; for callers who may do
    /// everything.
    pub async fn register(&self, name: &str, auth: Value, users: &[&str]) -> Registered {
        let manifest = json!({"type": "mcp-server/remote", "name": name, "description": "d",
                              "url": "https://x.example/mcp", "auth_data": auth});
        let made = self
            .put("/api/svc/v1/mcp", json!({"manifest": manifest}))
            .await;
        assert_eq!(made.status, 200, "{made:?}");
        let mcp = made.json()["data"]["id"].as_str().unwrap().to_owned();
        for user in users {
            let answer = self.install(&mcp, "user", user).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        self.registered(&mcp).await
    }

    /// A server under each of its names.
    pub async fn registered(&self, mcp: &str) -> Registered {
        let server = self.get(&format!("/api/svc/v1/mcp/{mcp}")).await.json();
        let name = server["data"]["manifest"]["name"].as_str().unwrap();
        let named = |list: Value, field: &str| {
            list.as_array()
                .unwrap()
                .iter()
                .find(|one| one[field] == name)
                .unwrap()["id"]
                .clone()
        };
        let uuid = named(self.get("/v1/deepagents/mcp-servers").await.json(), "name");
        let number = named(
            self.get("/api/v1/mcp-servers").await.json()["data"].clone(),
            "mcp_server_name",
        );
        Registered {
            mcp: mcp.to_owned(),
            uuid: uuid.as_str().unwrap().to_owned(),
            number: number.as_u64().unwrap(),
        }
    }

    /// Gives a server `more` overrides like that of the user `ada`, as they are stored. Their values do not open.
    pub async fn multiply(&self, hawser: &Hawser, server: &Registered, more: usize) {
        let client = hawser.ground().dynamodb();
        let key = |sk: String| {
            let pk = format!("T#acme#S#{}", server.ulid());
            HashMap::from(
                [("PK", pk), ("SK", sk)].map(|(n, v)| (n.to_owned(), AttributeValue::S(v))),
            )
        };
        let one = client.get_item().table_name(hawser_local::TABLE);
        let one = one.set_key(Some(key("C#user#ada#override".to_owned())));
        let one = one.send().await.unwrap().item.unwrap();
        let like = |i: usize| {
            let mut item = one.clone();
            item.extend(key(format!("C#user#s{i}#override")));
            item.insert("subject_id".to_owned(), AttributeValue::S(format!("s{i}")));
            let put = PutRequest::builder().set_item(Some(item)).build().unwrap();
            WriteRequest::builder().put_request(put).build()
        };
        for start in (0..more).step_by(25) {
            let some = (start..more.min(start + 25)).map(like).collect();
            let write = client
                .batch_write_item()
                .request_items(hawser_local::TABLE, some);
            let left = write.send().await.unwrap().unprocessed_items;
            assert!(left.is_none_or(|left| left.is_empty()));
        }
    }

    /// Installs an override at a server.
    pub async fn install(&self, mcp: &str, kind: &str, subject: &str) -> Answer {
        let own = json!({"type": "header", "headerValue": "v"});
        let body = json!({"subjectId": subject, "subjectType": kind, "authOverride": own});
        self.put(&format!("/api/svc/v1/mcp/{mcp}/auth"), body).await
    }
}

/// Header authentication that each user fills in.
pub fn per_user() -> Value {
    json!({"type": "header", "headers": {"A": "{{KEY}}"}, "auth_level": "per_user"})
}

/// Seconds since the epoch.
pub fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64
}

/// The wire to the store: remembers every request, and dies where it is told to.
#[derive(Clone, Debug, Default)]
pub struct Wire(Arc<Mutex<WireState>>);

#[derive(Debug, Default)]
struct WireState {
    log: Vec<Sent>,
    cut: Option<Cut>,
    replaced: bool,
}

/// One request to the store.
#[derive(Clone, Debug)]
pub struct Sent {
    pub operation: String,
    pub body: Value,
}

/// Where the process dies: from then on nothing gets through.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// Before the request of this number, counted from 0, is sent.
    Before(usize),
    /// After the store has carried it out, before its answer arrives.
    After(usize),
    /// Not at all; only the answer to this one request is lost.
    Answer(usize),
    /// Not at all; but the answer to this request is lost, and then the store is away for so many requests.
    Away(usize, usize),
    /// Not at all; but the next transactions, this many, are cancelled for this reason. The embedded store never does.
    Cancel(usize, &'static str),
}

impl Wire {
    /// Forgets what was sent and dies as told.
    pub fn arm(&self, cut: Option<Cut>) {
        *self.0.lock().unwrap() = WireState {
            cut,
            ..WireState::default()
        };
    }

    /// What was sent since it was armed.
    pub fn sent(&self) -> Vec<Sent> {
        self.0.lock().unwrap().log.clone()
    }

    /// The operations sent since it was armed.
    pub fn operations(&self) -> Vec<String> {
        self.sent().into_iter().map(|sent| sent.operation).collect()
    }
}

/// Whether a transaction changes a server, a credential, an API key, a session, a login or an integration without saying so in the audit log.
fn changes_unseen(body: &Value) -> bool {
    let actions = body["TransactItems"].as_array().unwrap();
    let key = |action: &Value| {
        let put = &action["Put"]["Item"];
        let other = ["Update", "Delete"].map(|kind| action[kind]["Key"].clone());
        let key = other.iter().find(|key| key.is_object()).unwrap_or(put);
        let part = |name: &str| key[name]["S"].as_str().unwrap_or_default().to_owned();
        (part("PK"), part("SK"))
    };
    let changes = |(pk, sk): (String, String)| {
        let in_server = pk.contains("#S#");
        let credential = sk.starts_with("C#") && !sk.ends_with("#reason");
        let of_server = credential || sk.starts_with("A#") || sk.starts_with("M#");
        let of_tenant = ["S#", "KEY#", "LOGIN#"].iter().any(|p| sk.starts_with(p));
        let of_catalogue = pk == "CATALOGUE" && sk.starts_with("I#");
        of_catalogue || if in_server { of_server } else { of_tenant }
    };
    let is_event = |action: &Value| action["Put"]["Item"]["entity"]["S"] == "event";
    actions.iter().map(key).any(changes) && !actions.iter().any(is_event)
}

impl Intercept for Wire {
    fn name(&self) -> &'static str {
        "wire"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body = serde_json::from_slice(request.body().bytes().unwrap_or_default())?;
        if operation == "TransactWriteItems" && changes_unseen(&body) {
            return Err("a change without an event".into());
        }
        let mut state = self.0.lock().unwrap();
        let number = state.log.len();
        let transactions = state
            .log
            .iter()
            .filter(|sent| sent.operation == "TransactWriteItems")
            .count();
        if matches!(state.cut, Some(Cut::Cancel(times, _)) if transactions < times && operation == "TransactWriteItems")
        {
            // Something harmless goes out instead; its answer is replaced below.
            let request = context.request_mut();
            request
                .headers_mut()
                .insert("x-amz-target", "DynamoDB_20120810.ListTables");
            request.headers_mut().insert("content-length", "2");
            *request.body_mut() = SdkBody::from("{}");
            state.replaced = true;
        }
        state.log.push(Sent { operation, body });
        match state.cut {
            Some(Cut::Before(at)) if number >= at => Err("the wire is cut".into()),
            Some(Cut::After(at)) if number > at => Err("the wire is cut".into()),
            Some(Cut::Away(at, requests)) if number > at && number <= at + requests => {
                Err("the store is away".into())
            }
            _ => Ok(()),
        }
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let mut state = self.0.lock().unwrap();
        if let (Some(Cut::Cancel(_, code)), true) = (state.cut, std::mem::take(&mut state.replaced))
        {
            let reasons = json!([{"Code": code}, {"Code": "None"}]);
            let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
            let body = json!({"__type": kind, "CancellationReasons": reasons}).to_string();
            *context.response_mut() = HttpResponse::new(400.try_into()?, SdkBody::from(body));
        }
        match state.cut {
            Some(Cut::After(at)) if state.log.len() > at => Err("the answer is lost".into()),
            Some(Cut::Answer(at) | Cut::Away(at, _)) if state.log.len() == at + 1 => {
                Err("the answer is lost".into())
            }
            _ => Ok(()),
        }
    }
}
