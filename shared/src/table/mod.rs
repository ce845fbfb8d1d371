//! The one table. Only the modules in here format a key, name an attribute or write an expression, and every function
//! takes the tenant first. All reads are strongly consistent; every write states the condition under which it holds.

pub mod api_keys;
pub mod audit_log;
pub mod clients;
pub(crate) mod condition;
pub mod credentials;
mod due;
mod guard;
pub mod idempotency;
pub mod integrations;
pub mod integrity;
mod keys;
pub mod login_revocations;
pub mod logins;
pub mod mcp_sessions;
pub mod reasons;
pub mod receipts;
pub mod remembered_applications;
pub mod revocations;
pub mod servers;
pub mod sessions;
pub mod subjects;
pub mod tenant_keys;
pub mod token_keys;
pub mod tools;
pub mod verifications;
pub mod work;
mod write;

pub(crate) use condition::Condition;
pub use keys::Key;
pub(crate) use write::{Update, Write, WriteError};

use crate::domain::id::random;
use crate::{Error, Result};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::time::Duration;
use tracing::error;

pub(crate) type Item = HashMap<String, AttributeValue>;

const PK: &str = "PK";
const SK: &str = "SK";
const ENTITY: &str = "entity";
const DUE_INDEX_NAME: &str = "GSI2";
const DUE_INDEX: (&str, &str) = ("GSI2PK", "GSI2SK");

/// How often a transaction that met another one, or a partly served batch, is sent again before giving up.
const ATTEMPTS: u32 = 8;

/// The table, through the AWS SDK's client.
#[derive(Clone, Debug)]
pub struct Table {
    client: Client,
    name: String,
}

/// What a read by keys found.
#[derive(Debug, Default)]
pub struct Found(HashMap<(String, String), Item>);

impl Found {
    /// The item of this key as it is stored, if there is one.
    fn item(&self, key: &Key) -> Option<&Item> {
        self.0.get(&(key.pk.clone(), key.sk.clone()))
    }

    /// The item of this key, if there is one.
    ///
    /// # Errors
    /// [`Error::Internal`] when it is not of the expected shape.
    pub(crate) fn get<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>> {
        self.item(key).map(decode).transpose()
    }
}

/// An item under its key, with the name of its kind.
pub(crate) fn encode(key: &Key, entity: &str, value: &impl Serialize) -> Result<Item> {
    let mut item: Item = serde_dynamo::to_item(value).map_err(Error::internal)?;
    // Absent is absent: an attribute that says NULL would only cost space.
    item.retain(|_, v| !matches!(v, AttributeValue::Null(_)));
    item.insert(PK.to_owned(), AttributeValue::S(key.pk.clone()));
    item.insert(SK.to_owned(), AttributeValue::S(key.sk.clone()));
    item.insert(ENTITY.to_owned(), AttributeValue::S(entity.to_owned()));
    Ok(item)
}

pub(crate) fn decode<T: DeserializeOwned>(item: &Item) -> Result<T> {
    // The decoder's message may quote a value: the log gets the item's kind and key only.
    serde_dynamo::from_item(item.clone())
        .map_err(|_| Error::internal(format!("an item does not decode: {:?}", item.get(ENTITY))))
}

/// What an item says, if it can be read: one that cannot is told of in the log and keeps none of the others.
pub(crate) fn readable<T: DeserializeOwned>(item: &Item) -> Option<T> {
    match decode(item) {
        Ok(value) => Some(value),
        Err(cause) => {
            let key = key_of(item);
            error!(%cause, partition = key.map(|key| key.pk), "an item cannot be read");
            None
        }
    }
}

impl Table {
    /// The table `name` behind `client`.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self {
            client,
            name: name.into(),
        }
    }

    /// Reads items by key in one round trip, strongly consistent.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store does not answer, [`Error::Internal`] when it refuses.
    pub async fn read(&self, keys: Vec<Key>) -> Result<Found> {
        let mut found = Found::default();
        let mut wanted: Vec<Item> = keys.into_iter().map(|key| primary(&key)).collect();
        for attempt in 0..ATTEMPTS {
            if wanted.is_empty() {
                return Ok(found);
            }
            pause(attempt).await;
            let request = KeysAndAttributes::builder()
                .set_keys(Some(std::mem::take(&mut wanted)))
                .consistent_read(true)
                .build();
            let answer = self
                .client
                .batch_get_item()
                .request_items(&self.name, request.map_err(Error::internal)?)
                .send()
                .await
                .map_err(failed)?;
            for item in answer
                .responses
                .into_iter()
                .flatten()
                .flat_map(|(_, items)| items)
            {
                if let Some(key) = key_of(&item) {
                    found.0.insert((key.pk, key.sk), item);
                }
            }
            wanted = answer
                .unprocessed_keys
                .into_iter()
                .flatten()
                .flat_map(|(_, rest)| rest.keys)
                .collect();
        }
        Err(Error::Unavailable(
            "the store serves batches in part only".to_owned(),
        ))
    }

    /// Every item of a partition whose sort key starts with `prefix`, in order, strongly consistent, without those that cannot
    /// be read.
    pub(crate) async fn query<T: DeserializeOwned>(
        &self,
        partition: String,
        prefix: &str,
    ) -> Result<Vec<T>> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.name)
            .consistent_read(true)
            .key_condition_expression("PK = :pk AND begins_with(SK, :prefix)")
            .expression_attribute_values(":pk", AttributeValue::S(partition))
            .expression_attribute_values(":prefix", AttributeValue::S(prefix.to_owned()))
            .into_paginator()
            .items()
            .send();
        let mut all = Vec::new();
        while let Some(item) = pages.next().await {
            all.extend(readable(&item.map_err(failed)?));
        }
        Ok(all)
    }

    /// Up to `limit` items of a partition whose sort key starts with `prefix`, in order, from `after` on; strongly
    /// consistent. With them, where the rest starts, if there may be one.
    pub(crate) async fn query_page(
        &self,
        partition: String,
        prefix: &str,
        after: Option<Key>,
        limit: i32,
    ) -> Result<(Vec<Item>, Option<Key>)> {
        let query = self
            .client
            .query()
            .table_name(&self.name)
            .consistent_read(true)
            .set_exclusive_start_key(after.as_ref().map(primary))
            .expression_attribute_values(":pk", s(partition))
            .limit(limit);
        let query = if prefix.is_empty() {
            query.key_condition_expression("PK = :pk")
        } else {
            query
                .key_condition_expression("PK = :pk AND begins_with(SK, :prefix)")
                .expression_attribute_values(":prefix", s(prefix))
        };
        let page = query.send().await.map_err(failed)?;
        let next = page.last_evaluated_key.as_ref().and_then(key_of);
        Ok((page.items.unwrap_or_default(), next))
    }

    /// Up to `limit` items whose sort key is this prefix and a ULID that is less than `before`, newest first, and whether there are
    /// more of them.
    pub(crate) async fn query_newest(
        &self,
        partition: String,
        prefix: &str,
        before: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Item>, bool)> {
        // Anything after the prefix that is no more than `Z` lies below `[`.
        let end = format!("{prefix}{}", before.unwrap_or("["));
        // One more than is wanted, and the one that `before` names: it is in the range and is left out below.
        let asked = i32::try_from(limit.saturating_add(2)).unwrap_or(i32::MAX);
        let query = self
            .client
            .query()
            .table_name(&self.name)
            .consistent_read(true)
            .scan_index_forward(false)
            .key_condition_expression("PK = :pk AND #sk BETWEEN :start AND :end")
            .expression_attribute_names("#sk", SK)
            .expression_attribute_values(":pk", s(partition))
            .expression_attribute_values(":start", s(prefix))
            .expression_attribute_values(":end", s(&end))
            .limit(asked);
        let page = query.send().await.map_err(failed)?;
        let mut items = page.items.unwrap_or_default();
        items.retain(|item| item.get(SK) != Some(&s(&end)));
        let more = page.last_evaluated_key.is_some() || items.len() > limit;
        items.truncate(limit);
        Ok((items, more))
    }
}

/// The key of an item.
fn key_of(item: &Item) -> Option<Key> {
    match (item.get(PK)?, item.get(SK)?) {
        (AttributeValue::S(pk), AttributeValue::S(sk)) => Some(Key {
            pk: pk.clone(),
            sk: sk.clone(),
        }),
        _ => None,
    }
}

fn primary(key: &Key) -> Item {
    HashMap::from([
        (PK.to_owned(), AttributeValue::S(key.pk.clone())),
        (SK.to_owned(), AttributeValue::S(key.sk.clone())),
    ])
}

/// Sorts a failure of the store: what may pass, and what a repeat would only meet again. Only the code is kept, since a
/// message may quote values.
fn failed<E: ProvideErrorMetadata, R>(error: SdkError<E, R>) -> Error {
    let code = error.code().map(str::to_owned);
    match (&error, code.as_deref()) {
        (
            SdkError::ServiceError(_),
            Some(
                "ProvisionedThroughputExceededException"
                | "RequestLimitExceeded"
                | "ThrottlingException"
                | "InternalServerError"
                | "ServiceUnavailable"
                | "TransactionInProgressException"
                | "LimitExceededException",
            ),
        ) => Error::Unavailable(format!("the store answered {}", code.unwrap_or_default())),
        (SdkError::ServiceError(_), Some("AccessDeniedException")) => {
            Error::internal(format!("not allowed: {}", action(error.message())))
        }
        (SdkError::ServiceError(_), Some("ResourceNotFoundException")) => {
            Error::internal("there is no such table")
        }
        (SdkError::ServiceError(_), _) => {
            Error::internal(format!("the store answered {}", code.unwrap_or_default()))
        }
        _ => Error::Unavailable("the store did not answer".to_owned()),
    }
}

/// The action that a refusal of AWS's is about, such as `dynamodb:PutItem`.
fn action(message: Option<&str>) -> &str {
    let (_, rest) = message
        .and_then(|text| text.split_once("not authorized to perform: "))
        .unwrap_or_default();
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != ':');
    match rest.get(..end.unwrap_or(rest.len())) {
        Some(action) if !action.is_empty() => action,
        _ => "an action of the store",
    }
}

/// Waits before attempt `n`, counted from 0: nothing, then up to 10, 20, 40 ... milliseconds, at random.
async fn pause(attempt: u32) {
    if attempt > 0 {
        let ceiling = 10_000u64 << (attempt - 1).min(6);
        let micros = random::<8>().map_or(ceiling, u64::from_be_bytes) % ceiling;
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }
}

fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn n(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}
