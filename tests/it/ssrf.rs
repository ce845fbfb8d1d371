//! Nobody can make Hawser connect to where it must not: not who registers a server, not what such a server or its issuer
//! says, and not by any spelling of an address. The judge is a listener that every forbidden address of this machine leads
//! to. `tests/ssrf` does the same to the Lambda binaries, where every address there is leads to the listener.

use crate::harness::{Browser, Hawser, ample};
use crate::issuer::{Fault, Issuer, StaticClient};
use crate::upstream::*;
use hawser_core::catalogue;
use hawser_core::egress::is_public;
use hawser_core::operations::scheduler::process_due;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// What `localhost` and 127.0.0.1 can be called.
const LOOPBACK: &str = "
    127.0.0.1 127.0.0.2 127.255.255.254 127.1 127.0.1 2130706433 0x7f000001 0x7f.1 0X7F.0.0.1 0177.0.0.1 017700000001
    127.0.0.1. 127.1. %31%32%37.0.0.1 １２７.０.０.１ 127。0。0。1 ①27.0.0.1 [::1] [0:0:0:0:0:0:0:1] [::127.0.0.1]
    [64:ff9b::127.0.0.1] [64:ff9b:1::7f00:1] [2002:7f00:1::] localhost LOCALHOST localhost. localhost.. ｌｏｃａｌｈｏｓｔ
    a.localhost A.LocalHost. metadata metadata.google.internal x.local example.com@127.0.0.1 a:b@localhost
    \\127.0.0.1 @127.0.0.1";

/// What leads to the same listener, and is no loopback address by its number.
const UNSPECIFIED: &str = "
    0.0.0.0 0 0x0 00 0.0 0x0.0 ０.０.０.０ 0.0.0.0. %30 [::] [0:0::0] [::ffff:127.0.0.1] [::ffff:7f00:1]
    [0:0:0:0:0:ffff:127.0.0.1] [::ffff:0.0.0.0] [::ffff:0:127.0.0.1]";

/// A listener on every address of this machine.
struct Inside {
    port: u16,
    peers: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Inside {
    async fn start() -> Self {
        let listener = match TcpListener::bind("[::]:0").await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind("0.0.0.0:0").await.unwrap(),
        };
        let port = listener.local_addr().unwrap().port();
        let peers: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let log = peers.clone();
        tokio::spawn(async move {
            while let Ok((_, peer)) = listener.accept().await {
                log.lock().unwrap().push(peer);
            }
        });
        Self { port, peers }
    }

    /// Each URL of the notations, and of whatever else this machine answers to.
    fn urls(&self, notations: &str) -> Vec<String> {
        let mut hosts: Vec<String> = notations.split_whitespace().map(str::to_owned).collect();
        hosts.extend(own_addresses());
        let forms = ["https://{}/mcp", "http://{}/mcp"];
        let url =
            |(host, form): (&String, &str)| form.replace("{}", &format!("{host}:{}", self.port));
        let hosts = hosts.iter().flat_map(|host| forms.map(|form| (host, form)));
        hosts.map(url).collect()
    }

    /// Nobody has connected: whoever did stands in the queue before this call.
    async fn is_silent(&self, why: &str) {
        let marker = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let own = marker.local_addr().unwrap().port();
        let strangers = soon(async {
            loop {
                {
                    let mut peers = self.peers.lock().unwrap();
                    if let Some(at) = peers.iter().position(|peer| peer.port() == own) {
                        peers.remove(at);
                        return peers.clone();
                    }
                }
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(strangers.await, [], "{why}");
    }
}

/// The addresses that this machine would send from, where they are not public.
fn own_addresses() -> impl Iterator<Item = String> {
    let towards = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    let own = |(any, to): (&str, &str)| {
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(to).ok()?;
        socket.local_addr().ok().map(|own| own.ip())
    };
    let own = towards.into_iter().filter_map(own);
    own.filter(|ip| !is_public(*ip)).map(|ip| match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    })
}

/// The names that lead to such addresses without any name server.
fn own_names() -> String {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let mut names = String::new();
    for line in hosts.lines() {
        let line = line.split('#').next().unwrap().trim();
        let (ip, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        if ip.parse().is_ok_and(|ip: IpAddr| !is_public(ip)) {
            names = format!("{names} {rest}");
        }
    }
    names
}

/// As the Lambda binaries are configured.
async fn strict(mut integrations: Value) -> Hawser {
    // What no catalogue takes is reached by nobody.
    integrations.as_object_mut().unwrap().retain(|name, entry| {
        let file = json!({"integrations": {name: entry}}).to_string();
        catalogue::read(&file, false).is_ok()
    });
    Hawser::offering(&integrations, |config| {
        config.allow_loopback_http = false;
    })
    .await
}

const UNREACHABLE: &str = "The MCP server cannot be reached";

/// Where the issuer of somebody's consent would be; nothing if it does not come to that.
async fn begin(hawser: &Hawser, mcp: &str, who: &str) -> Option<(Browser, String)> {
    let asked = user(hawser, who)
        .get(&format!("{MCP}/{mcp}/authorize"))
        .await;
    let endpoint = asked.json()["authorization_endpoint"].clone();
    let mut browser = Browser::new();
    let page = browser.start(endpoint.as_str()?).await;
    assert!([303, 400, 502, 503].contains(&page.status), "{page:?}");
    Some((browser, page.location?))
}

#[tokio::test]
async fn who_registers_a_server_reaches_nothing_inside() {
    let (hawser, inside) = (strict(json!({})).await, Inside::start().await);
    let (admin, ada) = (hawser.admin("acme"), user(&hawser, "ada"));
    let put = async |url: &str, auth: Value| {
        let manifest = json!({"type": "mcp-server/remote", "name": "wiki", "description": "d", "url": url, "auth_data": auth});
        let made = admin
            .put(MCP, json!({"manifest": manifest, "force": true}))
            .await;
        assert!([200, 400].contains(&made.status), "{url}: {made:?}");
        made.json()["data"]["id"].as_str().map(str::to_owned)
    };
    let unreachable = async |mcp: &str| {
        let answer = call(&ada, mcp).await;
        is_refused(&answer, 502, -32603, UNREACHABLE, Value::Null);
    };
    let (mut refused, mut other) = (0, None);
    let urls = inside.urls(&format!("{LOOPBACK} {UNSPECIFIED} {}", own_names()));
    for (i, url) in urls.into_iter().enumerate() {
        // TrueFoundry: what can be registered, and what could be once, leads nowhere.
        match put(&url, Value::Null).await {
            Some(mcp) => unreachable(&mcp).await,
            None => refused += 1,
        }
        let public = "https://public.example/mcp";
        let planted = register(&hawser, &format!("planted-{i}"), public, json!({})).await;
        plant(&hawser, &planted, &url).await;
        unreachable(&planted).await;
        // Where its issuer is discovered.
        let planted = register(&hawser, &format!("issuer-{i}"), public, oauth()).await;
        plant(&hawser, &planted, &url).await;
        assert!(begin(&hawser, &planted, "ada").await.is_none(), "{url}");
        // Where a code and a secret would be sent.
        let own = json!({"type": "oauth2", "authorization_url": url, "token_url": url, "client_id": "c",
                         "client_secret": "s", "scopes": ["a"], "issuer_uri": url, "introspection_url": url});
        if let Some(mcp) = put("https://public.example/mcp", own.clone()).await
            && let Some((mut browser, location)) = begin(&hawser, &mcp, &format!("user-{i}")).await
        {
            let location = Url::parse(&location).unwrap();
            let state = location
                .query_pairs()
                .find(|(name, _)| name == "state")
                .unwrap()
                .1;
            let back = format!("{}/oauth/callback?state={state}&code=x", hawser.url);
            let page = browser.open(&back).await;
            assert!(
                page.status != 303 && !page.text.contains("Connected"),
                "{page:?}"
            );
        }
        let mut own = own;
        own["grant_type"] = "client_credentials".into();
        if let Some(mcp) = put("https://public.example/mcp", own).await {
            let answer = ask(&ada, &mcp).await;
            assert_eq!(
                answer.json()["error"]["data"]["reason"],
                "refresh_failed",
                "{url}"
            );
        }
        // LangSmith: made with it, or moved to it.
        let servers = "/v1/deepagents/mcp-servers";
        let body = json!({"name": format!("ls-{i}"), "url": url});
        let made = admin.post(servers, body).await;
        assert!([201, 422].contains(&made.status), "{url}: {made:?}");
        if made.status == 201 {
            let id = made.json()["id"].as_str().unwrap().to_owned();
            unreachable(&id).await;
            let id = other.get_or_insert(id);
            let moved = admin
                .patch(&format!("{servers}/{id}"), json!({"url": url}))
                .await;
            assert_eq!(moved.status, 200, "{url}: {moved:?}");
            unreachable(id).await;
        }
        inside.is_silent(&url).await;
    }
    // Only names that have to be looked up can be registered.
    assert!(refused > 40, "{refused}");
}

#[tokio::test]
async fn an_integration_reaches_nothing_inside() {
    let inside = Inside::start().await;
    let urls = inside.urls(&format!("{LOOPBACK} {UNSPECIFIED} {}", own_names()));
    let integrations = urls.iter().enumerate().map(|(i, url)| {
        let endpoints = json!({"authorization_endpoint": url, "token_endpoint": url, "revocation_endpoint": url,
                               "client_id": "c"});
        // Each host stands here twice, by https and by http.
        let is_server = i / 2 % 2 == 0;
        let oauth = if is_server { json!({}) } else { endpoints };
        // One whose server is inside cannot be made at all.
        let server = if is_server { url.as_str() } else { "https://public.example/mcp" };
        let entry = json!({"display_name": "I", "mcp_url": server, "api_key": {}, "oauth": oauth});
        (format!("i{i}"), entry)
    });
    let hawser = strict(integrations.collect::<serde_json::Map<_, _>>().into()).await;
    let admin = hawser.admin("acme");
    let mut made = 0;
    for (i, url) in urls.iter().enumerate() {
        let mut body =
            json!({"mcp_server": format!("i{i}"), "access_type": "write", "api_key": "k"});
        let keyed = admin.post("/api/v1/mcp-servers", body.clone()).await;
        if keyed.status == 201 {
            made += 1;
            let number = keyed.json()["data"]["id"].to_string();
            is_refused(
                &call(&admin, &number).await,
                502,
                -32603,
                UNREACHABLE,
                Value::Null,
            );
        }
        body.as_object_mut().unwrap().remove("api_key");
        body["auth_method"] = "oauth".into();
        let consented = admin.post("/api/v1/mcp-servers", body).await;
        assert!(
            [201, 400, 502].contains(&consented.status),
            "{url}: {consented:?}"
        );
        if let Some(location) = consented.json()["data"]["authorization_url"].as_str() {
            let mut browser = Browser::new();
            let page = browser.start(location).await;
            assert!([303, 502, 503].contains(&page.status), "{page:?}");
            if let Some(at_issuer) = page.location {
                let at_issuer = Url::parse(&at_issuer).unwrap();
                let mut pairs = at_issuer.query_pairs();
                let state = pairs.find(|(name, _)| name == "state").unwrap().1;
                let base = &hawser.url;
                let callback = format!(
                    "{base}/api/mcp-servers/saas-oauth/i{i}/callback/?state={state}&code=x"
                );
                let page = browser.open(&callback).await;
                assert_eq!(page.status, 200, "{page:?}");
                assert!(!page.text.contains("oauth_success"), "{page:?}");
            }
        }
        inside.is_silent(url).await;
    }
    assert!(made > 15, "{made}");
}

/// A server and an issuer that say what they are told, and one who tries to use them from beginning to end.
struct Stage {
    hawser: Hawser,
    issuer: Issuer,
    documents: [Value; 2],
}

const RESOURCE_METADATA: &str = "/.well-known/oauth-protected-resource/mcp";
const METADATA: &str = "/.well-known/oauth-authorization-server";

impl Stage {
    async fn new() -> Self {
        let (hawser, issuer) = (Hawser::start_by_hand().await, Issuer::start().await);
        issuer.configure(|settings| {
            settings.static_clients.push(StaticClient {
                id: "known".to_owned(),
                secret: None,
                redirect_uris: vec![format!("{}/oauth/callback", hawser.url)],
            });
        });
        let read = async |path: &str| {
            let answer = reqwest::get(format!("{}{path}", issuer.url)).await.unwrap();
            serde_json::from_str(&answer.text().await.unwrap()).unwrap()
        };
        let documents = [read(RESOURCE_METADATA).await, read(METADATA).await];
        Self {
            hawser,
            issuer,
            documents,
        }
    }

    /// From now on this is said at a path.
    fn says(
        &self,
        path: &'static str,
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: &Value,
    ) {
        self.issuer.fault(Fault {
            status: Some(status),
            headers,
            body: body.to_string(),
            ..Fault::always(path)
        });
    }

    /// A registration that is as it should be, but for where the client is managed.
    fn registers(&self, managed: &str) {
        let answer = json!({"client_id": "known", "token_endpoint_auth_method": "none",
                            "redirect_uris": [format!("{}/oauth/callback", self.hawser.url)],
                            "registration_client_uri": managed, "registration_access_token": "planted"});
        self.says("/register", 201, Vec::new(), &answer);
    }

    /// Consents, calls, refreshes, disconnects and deletes, as far as one gets. Returns whether there was a grant.
    async fn live(&self) -> bool {
        let (hawser, issuer) = (&self.hawser, &self.issuer);
        let mcp = register(hawser, "wiki", &issuer.mcp_url(), oauth()).await;
        let before = issuer.issued().len();
        if let Some((mut browser, location)) = begin(hawser, &mcp, "ada").await
            && location.starts_with(&issuer.url)
        {
            browser.open(&issuer.approve(&location).await).await;
        }
        let granted = issuer.issued().len() > before;
        if granted {
            call(&user(hawser, "ada"), &mcp).await;
            issuer.expire(&issuer.issued().pop().unwrap().access);
            call(&user(hawser, "ada"), &mcp).await;
            disconnect(hawser, &mcp, "ada", "oauth").await;
        }
        let path = format!("{MCP}/{mcp}");
        assert_eq!(hawser.admin("acme").delete(&path).await.status, 200);
        // What is left over is for later.
        for _ in 0..if granted { 3 } else { 1 } {
            while process_due(&hawser.app, ample()).await.unwrap() {}
            hawser.pass(61);
        }
        issuer.clear_faults();
        granted
    }
}

/// Where an address can be told.
const FIELDS: [&str; 14] = [
    "challenge",
    "resource",
    "authorization_servers",
    "jwks_uri of the server",
    "issuer",
    "authorization_endpoint",
    "token_endpoint",
    "registration_endpoint",
    "revocation_endpoint",
    "jwks_uri",
    "registration_client_uri",
    "location of the resource's metadata",
    "location of the issuer's metadata",
    "location twice",
];

#[tokio::test]
async fn what_servers_and_issuers_say_leads_nowhere_inside() {
    let inside = Inside::start().await;
    for field in FIELDS {
        let (stage, mut grants) = (Stage::new().await, 0);
        assert!(stage.live().await, "where all is as it should be");
        for url in inside.urls(UNSPECIFIED) {
            let [mut resource, mut metadata] = stage.documents.clone();
            let moved = |to: &str| vec![("location", to.to_owned())];
            match field {
                "challenge" => {
                    let challenge = format!("Bearer resource_metadata=\"{url}\"");
                    stage.says(
                        "/mcp",
                        401,
                        vec![("www-authenticate", challenge)],
                        &Value::Null,
                    );
                }
                "resource" => resource["resource"] = url.as_str().into(),
                "authorization_servers" => resource[field] = json!([url]),
                "jwks_uri of the server" => resource["jwks_uri"] = url.as_str().into(),
                "registration_client_uri" => stage.registers(&url),
                "location of the resource's metadata" => {
                    stage.says(RESOURCE_METADATA, 302, moved(&url), &Value::Null);
                }
                "location of the issuer's metadata" => {
                    stage.says(METADATA, 307, moved(&url), &Value::Null);
                }
                "location twice" => {
                    stage.says(METADATA, 301, moved("/elsewhere"), &Value::Null);
                    stage.says("/elsewhere", 308, moved(&url), &Value::Null);
                }
                _ => metadata[field] = url.as_str().into(),
            }
            stage.says(RESOURCE_METADATA, 200, Vec::new(), &resource);
            stage.says(METADATA, 200, Vec::new(), &metadata);
            grants += usize::from(stage.live().await);
            inside.is_silent(&format!("{field}: {url}")).await;
        }
        // What nobody asks for does no harm; everything else ends before there is anything to lose.
        let harmless = [
            "jwks_uri of the server",
            "jwks_uri",
            "registration_client_uri",
        ];
        assert_eq!(grants > 0, harmless.contains(&field), "{field}");
    }
}

#[tokio::test]
async fn nothing_is_carried_on_to_where_an_answer_leads() {
    let (stage, other) = (Stage::new().await, Upstream::start().await);
    stage.registers(&format!("{}/register/known", stage.issuer.url));
    assert!(stage.live().await);
    // The other one may be reached; it just is not where these were to go.
    for path in ["/mcp", "/register", "/token", "/revoke", "/register/known"] {
        for status in [301, 302, 303, 307, 308] {
            let headers = vec![
                ("location", other.url.clone()),
                ("set-cookie", "planted=1".to_owned()),
            ];
            if path == "/register/known" {
                stage.registers(&format!("{}/register/known", stage.issuer.url));
            }
            // Discovery alone follows.
            stage.says(RESOURCE_METADATA, 200, Vec::new(), &stage.documents[0]);
            stage.says(path, status, headers, &Value::Null);
            stage.issuer.clear_log();
            stage.live().await;
            assert_eq!(other.count(), 0, "{status} of {path}");
            let log = stage.issuer.log();
            let asked = log.iter().filter(|one| one.path.ends_with(path));
            assert!(asked.count() > 0, "{path} was asked");
            assert!(log.iter().all(|one| one.header("cookie").is_none()));
        }
    }
}
