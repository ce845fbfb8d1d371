//! An OAuth 2.1 authorization server and the MCP server it protects, in process. It refuses whatever a strict real one
//! refuses and remembers everything, so that a test can ask it instead of believing an answer.

#![allow(dead_code, reason = "a fixture offers more than today's tests ask for")]

// With their paths, for the benchmarks too.
#[path = "issuer/endpoints.rs"]
mod endpoints;
#[path = "issuer/providers.rs"]
mod providers;
#[path = "issuer/tests.rs"]
mod tests;

use bytes::Bytes;
use endpoints::words;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use reqwest::redirect::Policy;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Error;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use url::{Url, form_urlencoded};

const DENY: &str = "deny";

/// HTTP Basic with the id in the form besides.
pub const BASIC_WITH_ID: &str = "client_secret_basic with id";

/// Begins every `error_description`: what no caller may ever be shown.
pub const FOREIGN: &str = "the issuer explains";

/// A running issuer. Clones are the same one.
#[derive(Clone)]
pub struct Issuer {
    /// The issuer string.
    pub url: String,
    state: Arc<Mutex<State>>,
    http: reqwest::Client,
}

/// What may be changed while it runs.
pub struct Settings {
    /// Seconds; tokens really end then. Unset: they never do, and the answer does not say.
    pub access_ttl: Option<i64>,
    pub refresh_tokens: bool,
    pub rotate: bool,
    pub dynamic_registration: bool,
    /// Takes Client ID Metadata Documents: https, and http on loopback.
    pub metadata_documents: bool,
    /// Documents by URL that need not be fetched, for https addresses no test can serve. They are checked all the same.
    pub trusted_metadata_documents: BTreeMap<String, Value>,
    /// Advertised and sent.
    pub iss: bool,
    /// Sent whether or not it is advertised.
    pub wrong_iss: Option<String>,
    /// Advertised; asked for in any case.
    pub s256: bool,
    /// Supported, published, and granted to those who ask for none.
    pub scopes: Vec<String>,
    /// Supported, and then nobody gets a refresh token without asking for it.
    pub offline_access: bool,
    /// Named in the 401, and demanded of tokens with a 403.
    pub challenge_scope: Option<String>,
    pub revocation: bool,
    /// Answers the revocation of an access token, which then does not happen.
    pub access_revocation_error: Option<(u16, String)>,
    /// RFC 7592.
    pub management: bool,
    pub client_auth: Vec<&'static str>,
    /// How clients with a secret have to prove themselves at a path, whatever is advertised and whatever they registered:
    /// `client_secret_post`, `client_secret_basic`, or [`BASIC_WITH_ID`].
    pub taken_auth: BTreeMap<&'static str, &'static str>,
    /// Members of answers that are odd, or missing: of `resource` and `issuer` metadata, `registration` and `token`.
    pub odd: Vec<(&'static str, &'static str, Option<Value>)>,
    /// The status of a good token answer.
    pub token_status: u16,
    /// Where metadata is, all of it the same: the well-known paths.
    pub resource_metadata_at: Vec<&'static str>,
    pub metadata_at: Vec<&'static str>,
    /// Advertised for the revocation endpoint, and demanded there; unset: not said, and as at the token endpoint.
    pub revocation_auth: Option<Vec<&'static str>>,
    /// Answered at these paths in place of what is there; `None`: nothing is.
    pub documents: BTreeMap<String, Option<Value>>,
    /// The method every new dynamic client gets, whatever it asked for.
    pub imposed_client_auth: Option<&'static str>,
    /// Published verbatim; unset: [`Issuer::mcp_url`].
    pub resource: Option<String>,
    /// Whether requests have to name it.
    pub resource_needed: bool,
    pub static_clients: Vec<StaticClient>,
}

/// A client the operator knows; with a secret it may use each secret method that is advertised.
pub struct StaticClient {
    pub id: String,
    pub secret: Option<String>,
    pub redirect_uris: Vec<String>,
}

/// One request, logged as it arrives.
#[derive(Clone, Debug)]
pub struct Logged {
    pub method: String,
    pub path: String,
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// Unset until it is answered, and for ever if it never is.
    pub status: Option<u16>,
    number: usize,
}

/// What goes wrong with the next requests to a path. Without `after`, a caller who hangs up early is never served.
#[derive(Clone, Default)]
pub struct Fault {
    /// The end of the path; empty: every path.
    pub path: &'static str,
    pub times: usize,
    /// Answered instead; unset: the true answer.
    pub status: Option<u16>,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    pub hold: Option<Arc<Gate>>,
    pub delay: Option<Duration>,
    /// The work is done first, before any waiting: only the answer is lost.
    pub after: bool,
    /// The connection is closed without an answer.
    pub drop: bool,
}

impl Fault {
    pub fn once(path: &'static str) -> Self {
        let times = 1;
        Self {
            path,
            times,
            ..Self::default()
        }
    }

    pub fn always(path: &'static str) -> Self {
        let times = usize::MAX;
        Self {
            path,
            times,
            ..Self::default()
        }
    }

    /// Every request to this path is answered with this status.
    pub fn answering(path: &'static str, status: u16) -> Self {
        Self {
            status: Some(status),
            ..Self::always(path)
        }
    }
}

/// Holds requests until it is opened, for good.
pub struct Gate {
    reached: Semaphore,
    open: Semaphore,
}

impl Gate {
    pub fn closed() -> Arc<Self> {
        let (reached, open) = (Semaphore::new(0), Semaphore::new(0));
        Arc::new(Self { reached, open })
    }

    /// Resolves once for each request that stands before it.
    pub async fn reached(&self) {
        self.reached.acquire().await.unwrap().forget();
    }

    pub fn open(&self) {
        self.open.close();
    }

    pub async fn pass(&self) {
        self.reached.add_permits(1);
        // Nobody ever adds a permit, so this ends when the gate opens.
        let _ = self.open.acquire().await;
    }
}

/// What one token answer held.
#[derive(Clone, Debug, Default)]
pub struct Pair {
    pub access: String,
    pub refresh: Option<String>,
    pub client_id: String,
    pub scopes: Vec<String>,
    pub resource: String,
    pub subject: String,
    /// The consent it goes back to.
    pub family: u64,
    /// Whether either token works.
    pub active: bool,
    access_live: bool,
    refresh_live: bool,
    rotated: bool,
    ends: Option<Instant>,
}

impl Pair {
    fn access_works(&self) -> bool {
        self.access_live && self.ends.is_none_or(|ends| Instant::now() < ends)
    }

    fn is_refresh(&self, token: &str) -> bool {
        self.refresh.as_deref() == Some(token)
    }
}

#[derive(Default)]
struct State {
    url: String,
    settings: Settings,
    /// Dynamic ones and those of metadata documents.
    clients: Vec<Client>,
    codes: Vec<Code>,
    issued: Vec<Pair>,
    killed: usize,
    requests: usize,
    log: Vec<Logged>,
    faults: Vec<Fault>,
}

#[derive(Clone, Default)]
struct Client {
    id: String,
    secret: Option<String>,
    auth: Vec<String>,
    redirect_uris: Vec<String>,
    grant_types: Vec<String>,
    scope: Option<Vec<String>>,
    /// Of dynamic clients only: the registration token, and what was answered.
    registered: Option<(String, Value)>,
}

struct Code {
    text: String,
    redirect_uri: String,
    challenge: String,
    made: Instant,
    used: bool,
    /// What the user consented to, still without tokens.
    grant: Pair,
}

/// Status, headers, body.
type Reply = (u16, Vec<(&'static str, String)>, String);

impl Default for Settings {
    fn default() -> Self {
        Self {
            access_ttl: Some(3600),
            refresh_tokens: true,
            rotate: true,
            dynamic_registration: true,
            metadata_documents: false,
            trusted_metadata_documents: BTreeMap::new(),
            iss: true,
            wrong_iss: None,
            s256: true,
            scopes: words("mcp:read mcp:write"),
            offline_access: false,
            challenge_scope: None,
            revocation: true,
            access_revocation_error: None,
            management: true,
            client_auth: vec!["none", "client_secret_basic", "client_secret_post"],
            taken_auth: BTreeMap::new(),
            odd: Vec::new(),
            token_status: 200,
            resource_metadata_at: vec![endpoints::RESOURCE_METADATA],
            metadata_at: vec![endpoints::METADATA],
            revocation_auth: None,
            documents: BTreeMap::new(),
            imposed_client_auth: None,
            resource: None,
            resource_needed: true,
            static_clients: Vec::new(),
        }
    }
}

impl Issuer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = State {
            url: url.clone(),
            ..State::default()
        };
        let http = reqwest::Client::builder().no_proxy();
        let issuer = Self {
            url,
            state: Arc::new(Mutex::new(state)),
            http: http.redirect(Policy::none()).build().unwrap(),
        };
        let serving = issuer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let issuer = serving.clone();
                let service = service_fn(move |request| {
                    let issuer = issuer.clone();
                    async move { issuer.answer(request).await }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        issuer
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.lock().settings);
    }

    /// The MCP server: 401 with a challenge, 403 if the challenge's scopes are not all there, 200 with a good token.
    pub fn mcp_url(&self) -> String {
        format!("{}/mcp", self.url)
    }

    pub fn log(&self) -> Vec<Logged> {
        self.lock().log.clone()
    }

    pub fn clear_log(&self) {
        self.lock().log.clear();
    }

    /// How often the log has this.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let log = self.log().into_iter();
        log.filter(|one| one.method == method && one.path == path)
            .count()
    }

    /// A request meets the oldest fault that fits.
    pub fn fault(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// What introspection would say, of either kind of token.
    pub fn is_active(&self, token: &str) -> bool {
        self.live_tokens().iter().any(|live| live == token)
    }

    pub fn live_tokens(&self) -> Vec<String> {
        let live = |one: &Pair| {
            let access = one.access_works().then(|| one.access.clone());
            let refresh = one.refresh.clone().filter(|_| one.refresh_live);
            access.into_iter().chain(refresh)
        };
        self.lock().issued.iter().flat_map(live).collect()
    }

    pub fn issued(&self) -> Vec<Pair> {
        let mut all = self.lock().issued.clone();
        for one in &mut all {
            one.active = one.access_works() || one.refresh_live;
        }
        all
    }

    /// Ends an access token before its time; its refresh token stays good.
    pub fn expire(&self, access: &str) {
        let mut state = self.lock();
        let one = state.issued.iter_mut().find(|one| one.access == access);
        one.unwrap().ends = Some(Instant::now());
    }

    /// How often the reuse of an old refresh token ended a family.
    pub fn families_killed(&self) -> usize {
        self.lock().killed
    }

    /// Forgets the dynamic clients, as issuers do that restart or prune.
    pub fn forget_clients(&self) {
        self.lock().clients.retain(|one| one.registered.is_none());
    }

    /// The dynamic clients that exist.
    pub fn clients(&self) -> Vec<String> {
        let state = self.lock();
        let dynamic = state.clients.iter().filter(|one| one.registered.is_some());
        dynamic.map(|one| one.id.clone()).collect()
    }

    /// Plays the browser of a user who agrees: the callback URL with `code`, `state`, `iss`; or with an error if due.
    pub async fn approve(&self, authorization_url: &str) -> String {
        self.approve_as(authorization_url, "ada").await
    }

    /// Plays the browser of a user who does not: `error=access_denied`, `state`, `iss`.
    pub async fn deny(&self, authorization_url: &str) -> String {
        self.approve_as(authorization_url, DENY).await
    }

    pub async fn approve_as(&self, authorization_url: &str, subject: &str) -> String {
        let mut url = Url::parse(authorization_url).unwrap();
        url.query_pairs_mut().append_pair("login_hint", subject);
        let page = self.http.get(url).send().await.unwrap();
        match page.headers().get("location") {
            Some(location) => location.to_str().unwrap().to_owned(),
            None => panic!("sent nowhere: {} {:?}", page.status(), page.text().await),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(Error::other)?.to_bytes();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = parts.headers.iter();
        let headers = headers.map(|(name, value)| (name.to_string(), text(value.as_bytes())));
        let mut call = Logged {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: headers.collect(),
            body: text(&body),
            status: None,
            number: 0,
        };
        let fault = self.lock().arrived(&mut call);
        let mut reply = None;
        if fault.after {
            reply = Some(self.work(&call).await);
        }
        if let Some(gate) = &fault.hold {
            gate.pass().await;
        }
        if let Some(delay) = fault.delay {
            tokio::time::sleep(delay).await;
        }
        if fault.drop {
            return Err(Error::other("dropped"));
        }
        let (status, headers, body) = match (fault.status, reply) {
            (Some(status), _) => (status, fault.headers, fault.body),
            (None, Some(reply)) => reply,
            (None, None) => self.work(&call).await,
        };
        let mut state = self.lock();
        if let Some(one) = state.log.iter_mut().find(|one| one.number == call.number) {
            one.status = Some(status);
        }
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status.try_into().unwrap();
        for (name, value) in headers {
            let value = value.parse().unwrap();
            response.headers_mut().append(name, value);
        }
        let kind = response.headers_mut().entry("content-type");
        kind.or_insert("application/json".parse().unwrap());
        Ok(response)
    }
}

impl State {
    fn arrived(&mut self, call: &mut Logged) -> Fault {
        self.requests += 1;
        call.number = self.requests;
        self.log.push(call.clone());
        let mut faults = self.faults.iter_mut();
        match faults.find(|fault| fault.times > 0 && call.path.ends_with(fault.path)) {
            Some(fault) => {
                fault.times -= 1;
                fault.clone()
            }
            None => Fault::default(),
        }
    }
}

impl Logged {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter().filter(|(n, _)| n == name);
        all.next().map(|(_, value)| value.as_str())
    }

    /// A parameter of the form, or else of the query.
    pub fn field(&self, name: &str) -> Option<String> {
        let parse = |text: &String| {
            form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect()
        };
        let all: [Vec<(String, String)>; 2] = [&self.body, &self.query].map(parse);
        let mut all = all.into_iter().flatten().filter(|(n, _)| n == name);
        all.next().map(|(_, value)| value)
    }

    fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    }
}
