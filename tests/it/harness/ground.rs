//! What outlives a process: the store and the keys.

use super::{Registered, Wire, ample};
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::types::{AttributeValue, StreamSpecification, StreamViewType};
use hawser_core::operations::{audit_log, integrations};
use hawser_core::state::config::Config;
use hawser_core::{App, catalogue};
use hawser_local::config;
use hawser_local::identity::Identity;
use hawser_local::store::Store;
use serde_json::{Map, Value, json};
use std::sync::Arc;

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
