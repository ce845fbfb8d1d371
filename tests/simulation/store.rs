//! The store and the key service as the SDK sees them: an HTTP client whose requests are steps. The store is the embedded
//! one, in process; the key service is as simple as it can be, and strict about the encryption context.

use crate::guards;
use crate::world::{Gone, Kind, Process, World};
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedHttpClient};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use data_encoding::BASE64;
use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A client of the store for one process, with the times that a function on AWS has.
pub fn dynamodb(
    world: &Arc<World>,
    process: &Arc<Process>,
    retries: bool,
) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "local"))
        .endpoint_url("http://store")
        .timeout_config(timeouts())
        .retry_config(retrying(retries))
        .http_client(client(world, process, Kind::Store));
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

/// The same of the key service.
pub fn kms(world: &Arc<World>, process: &Arc<Process>, retries: bool) -> aws_sdk_kms::Client {
    let config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "local"))
        .endpoint_url("http://keys")
        .timeout_config(timeouts())
        .retry_config(retrying(retries))
        .http_client(client(world, process, Kind::Keys));
    aws_sdk_kms::Client::from_conf(config.build())
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_secs(3))
        .operation_timeout(Duration::from_secs(10))
        .build()
}

fn retrying(retries: bool) -> RetryConfig {
    if retries {
        // Without the random part, which no seed reaches.
        RetryConfig::standard().with_use_static_exponential_base(true)
    } else {
        RetryConfig::disabled()
    }
}

fn client(world: &Arc<World>, process: &Arc<Process>, kind: Kind) -> SharedHttpClient {
    let connector = SharedHttpConnector::new(Wire {
        world: Arc::downgrade(world),
        process: process.clone(),
        kind,
    });
    http_client_fn(move |_, _| connector.clone())
}

#[derive(Debug)]
struct Wire {
    world: std::sync::Weak<World>,
    process: Arc<Process>,
    kind: Kind,
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (world, process, kind) = (
            self.world.upgrade().unwrap(),
            self.process.clone(),
            self.kind,
        );
        HttpConnectorFuture::new(async move {
            let target = request.headers().get("x-amz-target").unwrap_or_default();
            let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
            let body = request.body().bytes().unwrap_or_default();
            let body = String::from_utf8(body.to_vec()).unwrap();
            let what = format!("{operation} {}", body.len());
            if world.is_told() {
                let keys = keys(&body);
                world.explain(|| format!("{process:?} {operation} {keys}"));
            }
            let body = match kind {
                Kind::Store => world.guarded(&operation, body),
                _ => body,
            };
            let refused = refusal(&operation);
            let (store, asked) = (world.store.clone(), operation);
            let explainer = (world.clone(), process.clone());
            let work = move || {
                let answer = match kind {
                    Kind::Keys => key_service(&asked, &body),
                    _ => table(&store, &asked, &body),
                };
                if answer.0 != 200 {
                    let (world, process) = explainer;
                    world.explain(|| format!("{process:?} {asked} refused: {}", answer.1));
                    if kind == Kind::Store {
                        world.note_refusal(&guards::unmet(&store, &asked, &body));
                    }
                }
                answer
            };
            match world
                .step(&process, kind, what, work, move || refused)
                .await
            {
                Ok((status, body)) => {
                    let status = status.try_into().unwrap();
                    Ok(HttpResponse::new(status, SdkBody::from(body)))
                }
                Err(Gone) => Err(ConnectorError::io("the connection broke".into())),
            }
        })
    }
}

/// The keys that a request is about, for a reader.
fn keys(body: &str) -> String {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                if let (Some(pk), Some(sk)) = (fields.get("PK"), fields.get("SK")) {
                    let text = |value: &Value| value["S"].as_str().unwrap_or_default().to_owned();
                    let partition = text(pk);
                    let short = if partition.contains("#S#") { "P" } else { "T" };
                    found.push(format!("{short}/{}", text(sk)));
                } else {
                    for (name, value) in fields {
                        if matches!(
                            name.as_str(),
                            "Put" | "Delete" | "Update" | "ConditionCheck"
                        ) {
                            found.push(name.clone());
                        }
                        collect(value, found);
                    }
                }
            }
            Value::Array(all) => all.iter().for_each(|one| collect(one, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    collect(&body, &mut found);
    if let Some(values) = body.get("ExpressionAttributeValues") {
        found.push(sorted(values).to_string());
    }
    found.join(" ")
}

/// The same in the order of names, at every depth: that of requests follows from no seed.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().collect();
            let fields = fields.into_iter();
            Value::Object(
                fields
                    .map(|(name, one)| (name.clone(), sorted(one)))
                    .collect(),
            )
        }
        Value::Array(all) => all.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// What a store says that is too busy, or whose transactions are in each other's way.
fn refusal(operation: &str) -> (u16, String) {
    let version = "com.amazonaws.dynamodb.v20120810#";
    let body = match operation {
        "TransactWriteItems" => json!({
            "__type": format!("{version}TransactionCanceledException"),
            "CancellationReasons": [{"Code": "TransactionConflict"}, {"Code": "None"}],
        }),
        "GenerateDataKey" | "Decrypt" => json!({"__type": "KMSInternalException"}),
        _ => json!({"__type": format!("{version}ProvisionedThroughputExceededException")}),
    };
    (400, body.to_string())
}

/// One request to the embedded store.
pub fn table(store: &Database, operation: &str, body: &str) -> (u16, String) {
    let answered = match operation {
        "BatchGetItem" => serve(body, |asked| store.batch_get_item(asked)),
        "BatchWriteItem" => serve(body, |asked| store.batch_write_item(asked)),
        "CreateTable" => serve(body, |asked| store.create_table(asked)),
        "DeleteItem" => serve(body, |asked| store.delete_item(asked)),
        "ListTables" => serve(body, |asked| store.list_tables(asked)),
        "PutItem" => serve(body, |asked| store.put_item(asked)),
        "Query" => serve(body, |asked| store.query(asked)),
        "Scan" => serve(body, |asked| store.scan(asked)),
        "TransactWriteItems" => serve(body, |asked| store.transact_write_items(asked)),
        "UpdateItem" => serve(body, |asked| store.update_item(asked)),
        "UpdateTimeToLive" => serve(body, |asked| store.update_time_to_live(asked)),
        other => panic!("nobody asks the store for {other}"),
    };
    match answered {
        Ok(body) => (200, body),
        Err(error) => (error.status_code(), error.to_json()),
    }
}

fn serve<Q: DeserializeOwned, A: Serialize>(
    body: &str,
    answer: impl FnOnce(Q) -> Result<A, DynoxideError>,
) -> Result<String, DynoxideError> {
    let asked = serde_json::from_str(body).expect("the SDK writes what the store reads");
    Ok(serde_json::to_string(&answer(asked)?).unwrap())
}

/// Every item in the table, past all steps.
pub fn items(store: &Database) -> Vec<Value> {
    let mut all = Vec::new();
    let mut after = Value::Null;
    loop {
        let mut ask = json!({"TableName": hawser_local::TABLE, "ConsistentRead": true});
        if !after.is_null() {
            ask["ExclusiveStartKey"] = after;
        }
        let (status, body) = table(store, "Scan", &ask.to_string());
        assert_eq!(status, 200, "{body}");
        let page: Value = serde_json::from_str(&body).unwrap();
        all.extend(page["Items"].as_array().unwrap().iter().map(|item| {
            let fields = item.as_object().unwrap();
            let fields = fields.iter();
            Value::Object(
                fields
                    .map(|(name, value)| (name.clone(), plain(value)))
                    .collect(),
            )
        }));
        after = page["LastEvaluatedKey"].clone();
        if after.is_null() {
            all.sort_by_key(|item| (item["PK"].to_string(), item["SK"].to_string()));
            return all;
        }
    }
}

fn plain(value: &Value) -> Value {
    let (kind, inner) = value.as_object().unwrap().iter().next().unwrap();
    match (kind.as_str(), inner) {
        ("M", Value::Object(fields)) => {
            let fields = fields.iter();
            Value::Object(
                fields
                    .map(|(name, value)| (name.clone(), plain(value)))
                    .collect(),
            )
        }
        ("L", Value::Array(all)) => all.iter().map(plain).collect(),
        ("N", Value::String(number)) => serde_json::from_str(number).unwrap(),
        _ => inner.clone(),
    }
}

/// One request to the key service: what it wraps is the key with its encryption context.
fn key_service(operation: &str, body: &str) -> (u16, String) {
    let asked: Value = serde_json::from_str(body).unwrap();
    let context = asked["EncryptionContext"].to_string();
    let answer = match operation {
        "GenerateDataKey" => {
            let key = hawser_core::domain::id::random::<32>().unwrap();
            let wrapped = json!({"key": BASE64.encode(&key), "context": context}).to_string();
            json!({"KeyId": "key", "Plaintext": BASE64.encode(&key), "CiphertextBlob": BASE64.encode(wrapped.as_bytes())})
        }
        "Decrypt" => {
            let wrapped = asked["CiphertextBlob"].as_str().unwrap();
            let wrapped = BASE64.decode(wrapped.as_bytes()).unwrap();
            let wrapped: Value = serde_json::from_slice(&wrapped).unwrap();
            if wrapped["context"] != context {
                let refusal = json!({"__type": "InvalidCiphertextException"});
                return (400, refusal.to_string());
            }
            json!({"KeyId": "key", "Plaintext": wrapped["key"]})
        }
        other => panic!("nobody asks the key service for {other}"),
    };
    (200, answer.to_string())
}
