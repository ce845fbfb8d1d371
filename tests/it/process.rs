//! The `hawser` program itself: what it prints, how it ends, what survives, and what it never writes anywhere.

use crate::harness::{Browser, ample, items};
use crate::issuer::Issuer;
use crate::upstream::{Reply, Upstream};
use bytes::Bytes;
use hawser_core::App;
use hawser_core::operations::scheduler::process_due;
use hawser_local::config;
use hawser_local::identity::Identity;
use hawser_local::store::Store;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::task::Poll;
use tempfile::TempDir;

pub struct Running {
    child: Child,
    ready: Value,
    http: reqwest::Client,
}

fn hawser(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hawser"));
    command
        .current_dir(data)
        .env("RUST_LOG", "trace")
        .env_remove("AWS_PROFILE");
    command
}

impl Running {
    /// Where whoever has the address of a consent gives it.
    pub fn start(data: &Path, log: &Path) -> Self {
        let mut command = hawser(data);
        command.arg("--no-sign-in");
        Self::start_as(command, log)
    }

    fn start_as(mut command: Command, log: &Path) -> Self {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let mut child = command
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            child,
            ready: serde_json::from_str(&line).unwrap(),
            http,
        }
    }

    pub fn text(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap()
    }

    pub async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.call_as(
            (
                "authorization",
                &format!("Bearer {}", self.text("adminToken")),
            ),
            method,
            path,
            body,
        )
        .await
    }

    async fn call_as(
        &self,
        (name, value): (&str, &str),
        method: &str,
        path: &str,
        body: Value,
    ) -> (u16, Value) {
        let request = self.http.request(
            method.parse().unwrap(),
            format!("{}{path}", self.text("url")),
        );
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = request.header(name, value).body(body).send().await.unwrap();
        (
            answer.status().as_u16(),
            serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null),
        )
    }

    /// The most memory that it has held so far, in KiB.
    fn most_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        line.unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    }

    pub fn signal(&mut self, name: &str) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
        let mut rest = String::new();
        self.child
            .stdout
            .as_mut()
            .unwrap()
            .read_to_string(&mut rest)
            .unwrap();
        assert_eq!(rest, "", "one line on standard output and no more");
        self.child.wait().unwrap().code()
    }
}

fn manifest(name: &str, auth: Value) -> Value {
    json!({"manifest": {"type": "mcp-server/remote", "name": name, "description": "d", "url": "https://x.example/mcp",
                        "auth_data": auth}})
}

pub fn run(data: &Path, args: &[&str]) -> Output {
    hawser(data)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

pub fn line(output: Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

#[tokio::test]
async fn the_local_server_prints_credentials_that_work_and_ends_cleanly() {
    let data = TempDir::new().unwrap();
    let log = data.path().join("log");
    let mut running = Running::start(data.path(), &log);
    assert_eq!(
        (running.text("event"), running.text("tenant")),
        ("ready", "local")
    );
    let (status, body) = running
        .call("PUT", "/api/svc/v1/mcp", manifest("wiki", Value::Null))
        .await;
    assert_eq!(
        (status, &body["data"]["tenantName"]),
        (200, &json!("local"))
    );
    let key = ("x-api-key", running.text("apiKey"));
    assert_eq!(
        running
            .call_as(key, "GET", "/v1/deepagents/mcp-servers", Value::Null)
            .await
            .1[0]["name"],
        "wiki"
    );
    assert_eq!(
        running
            .call_as(key, "GET", "/api/v1/mcp-servers", Value::Null)
            .await
            .1["data"][0]["id"],
        1
    );
    let announced = std::fs::read_to_string(&log).unwrap();
    let commands: Vec<_> = announced
        .split("\n\n")
        .filter(|part| part.starts_with("curl "))
        .map(str::to_owned)
        .collect();
    assert_eq!(commands.len(), 2, "{announced}");
    for command in commands {
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(
            answer.get("data").is_some() || answer.get("id").is_some() || answer["status"] == 409,
            "{answer}"
        );
    }
    assert_eq!(running.signal("INT"), Some(0));
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let data = TempDir::new().unwrap();
    let log = data.path().join("log");
    let auth = json!({"type": "header", "headers": {"A": "{{KEY}}"}, "auth_level": "per_user"});
    let mut running = Running::start(data.path(), &log);
    let (_, made) = running
        .call("PUT", "/api/svc/v1/mcp", manifest("doomed", auth.clone()))
        .await;
    let doomed = made["data"]["id"].as_str().unwrap().to_owned();
    let (_, made) = running
        .call("PUT", "/api/svc/v1/mcp", manifest("kept", auth))
        .await;
    let kept = made["data"]["id"].as_str().unwrap().to_owned();
    for i in 0..40 {
        let body = json!({"subjectId": format!("s{i}"), "subjectType": "user", "authOverride": {"type": "header", "headerValue": "v"}});
        for id in [&doomed, &kept] {
            assert_eq!(
                running
                    .call("PUT", &format!("/api/svc/v1/mcp/{id}/auth"), body.clone())
                    .await
                    .0,
                200
            );
        }
    }
    assert_eq!(
        running
            .call("DELETE", &format!("/api/svc/v1/mcp/{doomed}"), Value::Null)
            .await
            .0,
        200
    );
    assert_eq!(running.signal("KILL"), None, "no exit code: it was killed");

    let mut again = Running::start(data.path(), &log);
    assert_eq!(
        again
            .call("GET", &format!("/api/svc/v1/mcp/{doomed}"), Value::Null)
            .await
            .0,
        404
    );
    let listed = again
        .call("GET", &format!("/api/svc/v1/mcp/{kept}/auth"), Value::Null)
        .await;
    assert_eq!(
        (listed.0, &listed.1["pagination"]["total"]),
        (200, &json!(40))
    );
    again.signal("TERM");

    let folder = data.path().join(".hawser");
    let store = Store::open(Some(&folder)).await.unwrap();
    let client = aws_sdk_dynamodb::Client::from_conf(store.client_config().build());
    let app = App::new(
        config(&Identity::open(&folder).unwrap()).unwrap(),
        client.clone(),
        |_| unreachable!(),
    )
    .unwrap()
    .share();
    while process_due(&app, ample()).await.unwrap() {}
    let left = items(&client).await;
    assert!(left.iter().all(|item| {
        !item["PK"]
            .as_str()
            .unwrap()
            .ends_with(&doomed["mcp-".len()..])
    }));
    assert_eq!(
        left.iter()
            .filter(|item| item["entity"] == "override")
            .count(),
        40
    );
}

#[tokio::test]
async fn tokens_and_keys_of_the_command_line_work_beside_a_running_server() {
    let data = TempDir::new().unwrap();
    let log = data.path().join("log");
    let before = line(run(
        data.path(),
        &[
            "api-key",
            "create",
            "--tenant",
            "acme",
            "--permission",
            "mcp-servers:read",
        ],
    ));
    let mut running = Running::start(data.path(), &log);
    let list = "/v1/deepagents/mcp-servers";
    assert_eq!(
        running
            .call_as(("x-api-key", &before), "GET", list, Value::Null)
            .await,
        (200, json!([]))
    );
    assert_eq!(
        running
            .call_as(("x-api-key", &before), "POST", list, json!({}))
            .await
            .0,
        403
    );
    let holder = [
        "--tenant",
        "acme",
        "--subject",
        "user:alice",
        "--scope",
        "mgmt.read",
        "--scope",
        "mgmt.write",
    ];
    let token = line(run(data.path(), &[&["token"], &holder[..]].concat()));
    let bearer = format!("Bearer {token}");
    let connections = running
        .call_as(
            ("authorization", &bearer),
            "GET",
            "/api/v1/mcp-servers",
            Value::Null,
        )
        .await;
    assert_eq!((connections.0, &connections.1["data"]), (200, &json!([])));
    let expired = line(run(
        data.path(),
        &[&["token", "--expires-in=-600"], &holder[..]].concat(),
    ));
    let expired = format!("Bearer {expired}");
    assert_eq!(
        running
            .call_as(
                ("authorization", &expired),
                "GET",
                "/api/v1/mcp-servers",
                Value::Null
            )
            .await
            .0,
        401
    );

    let listed = line(run(data.path(), &["api-key", "list", "--tenant", "acme"]));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["permissions"], json!(["mcp-servers:read"]));
    let id = listed["id"].as_str().unwrap();
    assert!(
        run(data.path(), &["api-key", "revoke", "--tenant", "acme", id])
            .status
            .success()
    );
    assert!(
        !run(data.path(), &["api-key", "revoke", "--tenant", "acme", id])
            .status
            .success()
    );
    assert_eq!(
        running
            .call_as(("x-api-key", &before), "GET", list, Value::Null)
            .await,
        (403, json!({"error": "Forbidden"}))
    );
    let offboard = ["offboard", "--tenant", "acme", "--subject", "user:a/b?"];
    let dry = line(run(data.path(), &[&offboard[..], &["--dry-run"]].concat()));
    let dry: Value = serde_json::from_str(&dry).unwrap();
    assert_eq!(
        (&dry["dryRun"], &dry["subjects"]),
        (&json!(true), &json!(0))
    );
    let receipt: Value = serde_json::from_str(&line(run(data.path(), &offboard))).unwrap();
    let named = ["kind", "state", "subjectId"].map(|name| receipt[name].clone());
    assert_eq!(named, ["offboard", "complete", "a/b?"]);
    assert_eq!(receipt["actor"]["subjectId"], "operator");
    let audit: Value = serde_json::from_str(&line(run(data.path(), &["audit"]))).unwrap();
    assert_eq!(audit["orphans"], 0);
    assert!(
        !run(
            data.path(),
            &["token", "--tenant", "acme", "--subject", "team:x"]
        )
        .status
        .success()
    );
    assert_eq!(running.signal("TERM"), Some(0));
}

#[tokio::test]
async fn no_secret_is_in_a_log_or_in_the_store() {
    let data = TempDir::new().unwrap();
    let log = data.path().join("log");
    let key = line(run(
        data.path(),
        &[
            "api-key",
            "create",
            "--tenant",
            "local",
            "--tenant-admin",
            "--subject",
            "user:root",
        ],
    ));
    let mut running = Running::start(data.path(), &log);
    let mut planted = vec![key.rsplit('_').next().unwrap().to_owned(), key.clone()];
    let mut secret = |name: &str| {
        let value = format!("planted-{name}-7f3a9c");
        planted.push(value.clone());
        value
    };
    let as_key = ("x-api-key", key.as_str());
    let auth = json!({"type": "oauth2", "grant_type": "client_credentials", "token_url": "https://as.example/t", "client_id": "c",
                      "client_secret": secret("client-secret"), "additional_token_params": {"p": secret("token-param")}});
    let mut body = manifest("wiki", auth);
    body["manifest"]["additional_headers"] = json!({"X": secret("additional-header")});
    let (status, made) = running
        .call_as(as_key, "PUT", "/api/svc/v1/mcp", body.clone())
        .await;
    assert_eq!(status, 200);
    assert!(!made.to_string().contains("planted"));
    let id = made["data"]["id"].as_str().unwrap().to_owned();
    let auth_path = format!("/api/svc/v1/mcp/{id}/auth");
    let own = json!({"subjectId": "ada", "subjectType": "user", "authOverride": {"type": "header", "headerValue": secret("override")}});
    assert_eq!(running.call("PUT", &auth_path, own).await.0, 200);
    let post = json!({"name": "search", "url": "https://x.example/", "headers": [{"key": "A", "value": secret("langsmith-header")}]});
    assert_eq!(
        running
            .call_as(as_key, "POST", "/v1/deepagents/mcp-servers", post)
            .await
            .0,
        201
    );
    let post =
        json!({"mcp_server": "pipedrive", "access_type": "write", "api_key": secret("api-key")});
    let (status, made) = running.call("POST", "/api/v1/mcp-servers", post).await;
    assert_eq!(status, 201);
    let client_secret = made["data"]["oauth2_credentials"]["client_secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let connection = format!("/api/v1/mcp-servers/{}", made["data"]["id"]);
    assert_eq!(
        running
            .call(
                "PUT",
                &connection,
                json!({"api_key": secret("next-api-key")})
            )
            .await
            .0,
        200
    );
    // Refused input must not be echoed or logged either.
    body["manifest"]["auth_data"]["client_secret"] = json!(format!("{}\u{7}", secret("refused")));
    body["manifest"]["auth_data"]["scopes"] = json!([secret("refused-scope") + " x"]);
    let (status, refused) = running.call("PUT", "/api/svc/v1/mcp", body).await;
    assert_eq!(status, 400);
    assert!(!refused.to_string().contains("planted"));
    let post = json!({"mcp_server": "pipedrive", "access_type": "write", "api_key": format!("{} ", secret("refused-key")), "apikey": secret("misspelt")});
    let (status, refused) = running.call("POST", "/api/v1/mcp-servers", post).await;
    assert_eq!(status, 422);
    assert!(!refused.to_string().contains("planted"));
    let query = format!("/api/svc/v1/mcp?name={}", secret("query"));
    running.call("GET", &query, Value::Null).await;
    let stranger = format!("Bearer {}", secret("token"));
    assert_eq!(
        running
            .call_as(
                ("authorization", &stranger),
                "GET",
                "/api/svc/v1/mcp",
                Value::Null
            )
            .await
            .0,
        401
    );
    let source = json!({"authSource": "auth-override", "subjectId": "ada", "subjectType": "user"});
    assert_eq!(running.call("DELETE", &auth_path, source).await.0, 200);
    assert_eq!(
        running.call("DELETE", &connection, Value::Null).await.0,
        200
    );
    assert_eq!(running.signal("TERM"), Some(0));

    planted.push(client_secret);
    let mut searched = 0;
    let mut folders = vec![data.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            searched += bytes.len();
            for secret in &planted {
                let found = bytes
                    .windows(secret.len())
                    .any(|window| window == secret.as_bytes());
                assert!(!found, "{secret} is in {}", path.display());
            }
        }
    }
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(
        log.contains("truefoundry-put-server") && searched > 10_000,
        "the search saw nothing"
    );
}

#[tokio::test]
async fn a_name_that_was_made_to_lead_here_is_refused() {
    let data = TempDir::new().unwrap();
    let mut running = Running::start(data.path(), &data.path().join("log"));
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:9310", 200),
        ("evil.example", 421),
        ("", 421),
    ] {
        let request = running
            .http
            .get(format!("{}/api/svc/v1/mcp", running.text("url")))
            .header("host", host);
        let request = request.bearer_auth(running.text("adminToken"));
        assert_eq!(
            request.send().await.unwrap().status().as_u16(),
            status,
            "{host}"
        );
    }
    let folder = std::fs::metadata(data.path().join(".hawser")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(data.path().join(".hawser")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o077,
            0,
            "{}",
            entry.path().display()
        );
    }
    assert_eq!(running.signal("TERM"), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_on_one_store_refresh_an_expired_grant_once() {
    const USES: usize = 200;
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let issuer = Issuer::start().await;
    let processes: Vec<Arc<Running>> = (0..4)
        .map(|_| Arc::new(Running::start(folder.path(), &log)))
        .collect();
    let one = &processes[0];
    let mut manifest = manifest("wiki", json!({"type": "oauth2"}));
    manifest["manifest"]["url"] = issuer.mcp_url().into();
    let (status, made) = one.call("PUT", "/api/svc/v1/mcp", manifest).await;
    assert_eq!(status, 200, "{made}");
    let id = made["data"]["id"].as_str().unwrap().to_owned();
    for round in 0..3 {
        // What is obtained at consent is over at once.
        issuer.configure(|s| s.access_ttl = Some(0));
        let path = format!("/api/svc/v1/mcp/{id}");
        let (_, asked) = one
            .call("GET", &format!("{path}/authorize"), Value::Null)
            .await;
        let mut browser = Browser::new();
        let at_issuer = browser
            .begin(asked["authorization_endpoint"].as_str().unwrap())
            .await;
        let page = browser.open(&issuer.approve(&at_issuer).await).await;
        assert_eq!(page.status, 200, "{page:?}");
        issuer.configure(|s| s.access_ttl = Some(3600));
        issuer.clear_log();
        let mut uses = tokio::task::JoinSet::new();
        for i in 0..USES {
            let (process, path) = (processes[i % processes.len()].clone(), format!("/mcp/{id}"));
            uses.spawn(async move {
                let ping = json!({"jsonrpc": "2.0", "id": i, "method": "ping"});
                process.call("POST", &path, ping).await.0
            });
        }
        let answers = uses.join_all().await;
        assert_eq!(answers, [200; USES], "round {round}");
        assert_eq!(issuer.count("POST", "/token"), 1, "round {round}");
        assert_eq!(issuer.count("POST", "/mcp"), USES);
        assert_eq!(issuer.families_killed(), 0);
        let body = json!({"authSource": "oauth", "subjectId": "admin", "subjectType": "user"});
        let (status, _) = one.call("DELETE", &format!("{path}/auth"), body).await;
        assert_eq!(status, 200);
    }
    for process in processes {
        let mut process = Arc::into_inner(process).unwrap();
        assert_eq!(process.signal("TERM"), Some(0));
    }
}

#[tokio::test]
async fn a_stream_takes_no_memory_however_long_it_is() {
    let data = TempDir::new().unwrap();
    let mut command = hawser(data.path());
    command.env("RUST_LOG", "info");
    let mut running = Running::start_as(command, &data.path().join("log"));
    let upstream = Upstream::start().await;
    let mut manifest = manifest("wiki", Value::Null);
    manifest["manifest"]["url"] = upstream.url.clone().into();
    let (_, made) = running.call("PUT", "/api/svc/v1/mcp", manifest).await;
    let path = format!("/mcp/{}", made["data"]["id"].as_str().unwrap());
    let event = Bytes::from(format!("data: {}\n\n", "x".repeat((64 << 10) - 8)));
    let mut peaks = Vec::new();
    for mebibytes in [16, 1024] {
        let (mut left, event) = (mebibytes << 4, event.clone());
        upstream.reply(Reply::events(move |_| {
            left -= 1;
            Poll::Ready((left >= 0).then(|| Ok(event.clone())))
        }));
        let url = format!("{}{path}", running.text("url"));
        let request = running
            .http
            .post(url)
            .bearer_auth(running.text("adminToken"));
        let mut answer = request.body("{}").send().await.unwrap();
        let mut length = 0;
        while let Some(piece) = answer.chunk().await.unwrap() {
            length += piece.len();
        }
        assert_eq!(length, (mebibytes as usize) << 20);
        peaks.push(running.most_memory());
    }
    assert!(peaks[1] < peaks[0] + (8 << 10), "{peaks:?} KiB");
    assert_eq!(running.signal("TERM"), Some(0));
}

#[tokio::test]
async fn no_call_goes_through_a_proxy_of_the_environment() {
    let data = TempDir::new().unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let mut command = hawser(data.path());
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env(name, &address);
        command.env(name.to_lowercase(), &address);
    }
    let mut running = Running::start_as(command, &data.path().join("log"));
    let upstream = Upstream::start().await;
    for url in [
        &upstream.url,
        &upstream.url.replace("127.0.0.1", "localhost"),
    ] {
        let mut manifest = manifest("wiki", Value::Null);
        manifest["manifest"]["url"] = url.as_str().into();
        manifest["force"] = true.into();
        let (_, made) = running.call("PUT", "/api/svc/v1/mcp", manifest).await;
        let path = format!("/mcp/{}", made["data"]["id"].as_str().unwrap());
        let cookie = vec![("set-cookie", "planted=1; path=/".to_owned())];
        upstream.reply(Reply::new(200, cookie, "{}"));
        assert_eq!(running.call("POST", &path, json!({})).await.0, 200);
        // Nor does one take along what another brought back.
        assert_eq!(running.call("POST", &path, json!({})).await.0, 200);
    }
    assert_eq!(upstream.count(), 4);
    assert!(
        upstream
            .seen()
            .iter()
            .all(|seen| seen.header("cookie").is_none())
    );
    let nobody = proxy.accept().unwrap_err().kind();
    assert_eq!(nobody, std::io::ErrorKind::WouldBlock);
    assert_eq!(running.signal("TERM"), Some(0));
}
