//! What the benchmarks are made of: programs of their own for all that is not measured, many credentials, figures.

use crate::calls::Upstream;
use crate::issuer::Issuer;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use hawser_core::App;
use hawser_local::identity::Identity;
use hawser_local::store::Store;
use hawser_local::{TABLE, config, server};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;

pub type Item = HashMap<String, AttributeValue>;

/// Another process of this program; it ends with this one.
pub struct Other {
    process: Child,
    /// Where it listens.
    pub url: String,
}

impl Other {
    /// Starts one that plays `role`.
    pub fn start(role: &str) -> Self {
        Self::of(Command::new(std::env::current_exe().unwrap()).arg(format!("role={role}")))
    }

    /// Starts a program that prints one line when it listens; the line, and the process.
    pub fn line(command: &mut Command) -> (Child, String) {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        let out = process.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        (process, line)
    }

    fn of(command: &mut Command) -> Self {
        let (process, line) = Self::line(command);
        let url = line.trim_end().to_owned();
        Self { process, url }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What another process does: listens, says where, and goes on until its standard input ends.
pub async fn play(role: &str) {
    let mut keep: Vec<Box<dyn std::any::Any + Send>> = Vec::new();
    let url = match role {
        "store" => {
            let store = Store::open(None).await.unwrap();
            let url = store.url().to_owned();
            keep.push(Box::new(store));
            url
        }
        "issuer" => Issuer::start().await.url,
        "upstream" => Upstream::start().await,
        other => panic!("nobody plays {other}"),
    };
    let mut out = std::io::stdout();
    writeln!(out, "{url}").unwrap();
    out.flush().unwrap();
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()))
        .await
        .unwrap()
        .unwrap();
    drop(keep);
}

/// Hawser in this process, over a store in another one. Nothing works in the background.
pub struct Bench {
    pub url: String,
    pub app: Arc<App>,
    pub client: Client,
    http: reqwest::Client,
    identity: Identity,
    admin: String,
    _store: Other,
}

impl Bench {
    pub async fn start() -> Self {
        let store = Other::start("store");
        let client = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&store.url)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("local", "local", None, None, "local"));
        let client = Client::from_conf(client.build());
        let identity = Identity::ephemeral().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut config = config(&identity).unwrap();
        config.public_urls = vec![url.clone()];
        config.gateway_url = Some(url.clone());
        let app = App::new(config, client.clone(), |_| unreachable!()).unwrap();
        let app = app.share();
        tokio::spawn(server::serve(app.clone(), listener, std::future::pending()));
        Self {
            url,
            app,
            client,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            admin: token(&identity, "root", &["admin"]),
            identity,
            _store: store,
        }
    }

    /// A token of a user.
    pub fn user(&self, name: &str) -> String {
        token(&self.identity, name, &[])
    }

    /// One call by the administrator; insists on 200.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        self.call_as(&self.admin, method, path, body).await
    }

    /// One call with a token; insists on 200.
    pub async fn call_as(&self, token: &str, method: &str, path: &str, body: &Value) -> Value {
        let url = format!("{}/api/svc/v1/mcp{path}", self.url);
        let request = self.http.request(method.parse().unwrap(), url);
        let request = request.bearer_auth(token).body(body.to_string());
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, 200, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Registers a server; its id without `mcp-`.
    pub async fn register(&self, name: &str, url: &str, auth: Value) -> String {
        let manifest = json!({"type": "mcp-server/remote", "name": name, "description": "d", "url": url, "auth_data": auth});
        let made = self.call("PUT", "", &json!({"manifest": manifest})).await;
        let id = made["data"]["id"].as_str().unwrap();
        id.strip_prefix("mcp-").unwrap().to_owned()
    }

    /// Registers a server with `count` overrides, of `ada` and others, as the product stores them; the values of the others
    /// do not open.
    pub async fn crowded(&self, name: &str, count: usize) -> String {
        let auth = json!({"type": "header", "headers": {"A": "{{KEY}}"}, "auth_level": "per_user"});
        let id = self.register(name, "https://x.example/mcp", auth).await;
        let own = json!({"type": "header", "headerValue": "v"});
        let body = json!({"subjectId": "ada", "subjectType": "user", "authOverride": own});
        self.call("PUT", &format!("/mcp-{id}/auth"), &body).await;
        let partition = format!("T#acme#S#{id}");
        let one = self.read(&partition, "C#user#ada#override").await.unwrap();
        let like = |i: usize| {
            let mut item = one.clone();
            item.insert("SK".to_owned(), s(format!("C#user#subject-{i}#override")));
            item.insert("subject_id".to_owned(), s(format!("subject-{i}")));
            let put = PutRequest::builder().set_item(Some(item)).build().unwrap();
            WriteRequest::builder().put_request(put).build()
        };
        for start in (1..count).step_by(25) {
            let some = (start..count.min(start + 25)).map(like).collect();
            let write = self.client.batch_write_item().request_items(TABLE, some);
            let left = write.send().await.unwrap().unprocessed_items;
            assert!(left.is_none_or(|left| left.is_empty()));
        }
        id
    }

    pub async fn read(&self, pk: &str, sk: &str) -> Option<Item> {
        let get = self
            .client
            .get_item()
            .table_name(TABLE)
            .consistent_read(true);
        get.set_key(Some(key(pk, sk))).send().await.unwrap().item
    }

    pub async fn put(&self, item: &Item) {
        let put = self.client.put_item().table_name(TABLE);
        put.set_item(Some(item.clone())).send().await.unwrap();
    }

    pub async fn remove(&self, pk: &str, sk: &str) {
        let delete = self.client.delete_item().table_name(TABLE);
        delete.set_key(Some(key(pk, sk))).send().await.unwrap();
    }

    /// Sort keys in a partition that have this prefix.
    pub async fn sort_keys(&self, pk: &str, prefix: &str) -> Vec<String> {
        let query = self.client.query().table_name(TABLE).consistent_read(true);
        let query = query
            .key_condition_expression("PK = :pk AND begins_with(SK, :prefix)")
            .projection_expression("SK")
            .expression_attribute_values(":pk", s(pk))
            .expression_attribute_values(":prefix", s(prefix));
        let items = query.into_paginator().items().send();
        let items = items.collect::<Result<Vec<_>, _>>().await.unwrap();
        let sk = |item: &Item| item["SK"].as_s().unwrap().clone();
        items.iter().map(sk).collect()
    }
}

fn token(identity: &Identity, subject: &str, roles: &[&str]) -> String {
    let hour = SystemTime::now() + Duration::from_secs(3600);
    let end = hour.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"tenantName": "acme", "sub": subject, "roles": roles, "exp": end});
    identity.token(claims).unwrap()
}

fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn key(pk: &str, sk: &str) -> Item {
    HashMap::from([("PK".to_owned(), s(pk)), ("SK".to_owned(), s(sk))])
}

/// The value below which this part of them lies.
pub fn quantile(times: &[Duration], part: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[((times.len() - 1) as f64 * part).round() as usize]
}

pub fn ratio(of: Duration, to: Duration) -> f64 {
    of.as_secs_f64() / to.as_secs_f64()
}

/// Forgets how much memory a process has had at most.
pub fn forget_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

/// How much memory a process has had at most since then, in MiB.
pub fn peak(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<f64>().unwrap() / 1024.0
}
