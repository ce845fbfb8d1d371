//! The one table. Only the modules in here format a key, name an attribute or write an expression, and every function
//! takes the tenant first. All reads are strongly consistent; every write states the condition under which it holds.

pub mod api_keys;
pub mod audit;
pub mod credentials;
mod keys;
pub mod receipts;
pub mod servers;
pub mod tenant_keys;
pub mod work;

pub use keys::Key;

use crate::domain::id::random;
use crate::{Error, Result};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, KeysAndAttributes, Put, TransactWriteItem, Update,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::time::Duration;

pub(crate) type Item = HashMap<String, AttributeValue>;

const PK: &str = "PK";
const SK: &str = "SK";
const ENTITY: &str = "entity";
const SUBJECT_INDEX: (&str, &str) = ("GSI1PK", "GSI1SK");
const DUE_INDEX_NAME: &str = "GSI2";
const DUE_INDEX: (&str, &str) = ("GSI2PK", "GSI2SK");

/// How often a transaction that met another one, or a partly served batch, is sent again before giving up.
const ATTEMPTS: u32 = 8;

/// Reasons for a cancelled transaction that a repeat may not meet again.
const PASSING: [&str; 3] = [
    "TransactionConflict",
    "ThrottlingError",
    "ProvisionedThroughputExceeded",
];

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
    /// The item of this key, if there is one.
    ///
    /// # Errors
    /// [`Error::Internal`] when it is not of the expected shape.
    pub(crate) fn get<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>> {
        self.0
            .get(&(key.pk.clone(), key.sk.clone()))
            .map(decode)
            .transpose()
    }
}

/// One action of a transaction.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Put(Item, Condition),
    Delete(Key, Condition),
    Check(Key, Condition),
    /// Sets attributes of an item that exists.
    Set(Key, Vec<(&'static str, AttributeValue)>),
    /// The same, unless the first of them is there already.
    SetOnce(Key, Vec<(&'static str, AttributeValue)>),
    /// Adds one to a number inside a map attribute of an item that exists and is not complete.
    Increment(Key, &'static str, &'static str),
}

/// What must be true of the item for the whole transaction to happen.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Any,
    Absent,
    Exists,
    /// It exists and these attributes have these values.
    Has(Vec<(&'static str, AttributeValue)>),
}

/// Why a transaction did not happen.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The conditions of the actions at these positions did not hold.
    Refused(Vec<usize>),
    Failed(Error),
}

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
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
    pub(crate) async fn read(&self, keys: Vec<Key>) -> Result<Found> {
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
                if let (Some(AttributeValue::S(pk)), Some(AttributeValue::S(sk))) =
                    (item.get(PK), item.get(SK))
                {
                    found.0.insert((pk.clone(), sk.clone()), item);
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

    /// Every item of a partition whose sort key starts with `prefix`, in order, strongly consistent.
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
            all.push(decode(&item.map_err(failed)?)?);
        }
        Ok(all)
    }

    /// All of these, or none. Safe to repeat: where the answer is lost, if the first action puts an item it is read
    /// back, and if it is there the transaction has happened.
    pub(crate) async fn write(&self, writes: Vec<Write>) -> Result<(), WriteError> {
        let actions = writes
            .iter()
            .map(|write| self.action(write))
            .collect::<Result<Vec<_>>>()?;
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let sent = self
                .client
                .transact_write_items()
                .set_transact_items(Some(actions.clone()))
                .send()
                .await;
            let Err(error) = sent else { return Ok(()) };
            match cancellation(&error) {
                Some(codes) if codes.iter().any(|c| c == "ConditionalCheckFailed") => {
                    let failed = codes
                        .iter()
                        .enumerate()
                        .filter(|(_, c)| *c == "ConditionalCheckFailed")
                        .map(|(i, _)| i);
                    return Err(WriteError::Refused(failed.collect()));
                }
                Some(codes) if codes.iter().any(|c| PASSING.contains(&c.as_str())) => {}
                Some(codes) => {
                    return Err(WriteError::Failed(Error::internal(format!(
                        "transaction cancelled: {codes:?}"
                    ))));
                }
                None => {
                    let error = failed(error);
                    let unknown = matches!(error, Error::Unavailable(_));
                    return if unknown && self.happened(&writes).await {
                        Ok(())
                    } else {
                        Err(WriteError::Failed(error))
                    };
                }
            }
        }
        Err(WriteError::Failed(Error::Unavailable(
            "a transaction kept meeting others".to_owned(),
        )))
    }

    /// Whether a transaction whose answer was lost has happened: whether the item that it puts first is in the table. A
    /// receipt is told by its key alone, which is random: a worker may have gone on with it already.
    async fn happened(&self, writes: &[Write]) -> bool {
        let Some(Write::Put(item, _)) = writes.first() else {
            return false;
        };
        let (Some(AttributeValue::S(pk)), Some(AttributeValue::S(sk))) =
            (item.get(PK), item.get(SK))
        else {
            return false;
        };
        let key = Key {
            pk: pk.clone(),
            sk: sk.clone(),
        };
        let is_receipt = item.get(ENTITY) == Some(&s("receipt"));
        self.read(vec![key])
            .await
            .is_ok_and(|found| found.0.values().any(|stored| is_receipt || stored == item))
    }

    fn action(&self, write: &Write) -> Result<TransactWriteItem> {
        let action = TransactWriteItem::builder();
        Ok(match write {
            Write::Put(item, condition) => {
                let (expression, names, values) = condition.expression();
                let put = Put::builder()
                    .table_name(&self.name)
                    .set_item(Some(item.clone()))
                    .set_condition_expression(expression)
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values);
                action.put(put.build().map_err(Error::internal)?)
            }
            Write::Delete(key, condition) => {
                let (expression, names, values) = condition.expression();
                let delete = Delete::builder()
                    .table_name(&self.name)
                    .set_key(Some(primary(key)))
                    .set_condition_expression(expression)
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values);
                action.delete(delete.build().map_err(Error::internal)?)
            }
            Write::Check(key, condition) => {
                let (expression, names, values) = condition.expression();
                let check = ConditionCheck::builder()
                    .table_name(&self.name)
                    .set_key(Some(primary(key)))
                    .set_condition_expression(expression)
                    .set_expression_attribute_names(names)
                    .set_expression_attribute_values(values);
                action.condition_check(check.build().map_err(Error::internal)?)
            }
            Write::Increment(key, map, field) => {
                let update = Update::builder()
                    .table_name(&self.name)
                    .set_key(Some(primary(key)))
                    .condition_expression("attribute_exists(PK) AND #complete = :false")
                    .update_expression("SET #map.#field = #map.#field + :one")
                    .expression_attribute_names("#map", *map)
                    .expression_attribute_names("#field", *field)
                    .expression_attribute_names("#complete", "complete")
                    .expression_attribute_values(":one", n(1))
                    .expression_attribute_values(":false", AttributeValue::Bool(false));
                action.update(update.build().map_err(Error::internal)?)
            }
            Write::Set(key, attributes) | Write::SetOnce(key, attributes) => {
                // Once: as long as the first of them is not there.
                let once = matches!(write, Write::SetOnce(..));
                let mut update = Update::builder()
                    .table_name(&self.name)
                    .set_key(Some(primary(key)))
                    .condition_expression(if once {
                        "attribute_exists(PK) AND attribute_not_exists(#a0)"
                    } else {
                        "attribute_exists(PK)"
                    });
                let mut assignments = Vec::new();
                for (i, (name, value)) in attributes.iter().enumerate() {
                    update = update
                        .expression_attribute_names(format!("#a{i}"), *name)
                        .expression_attribute_values(format!(":a{i}"), value.clone());
                    assignments.push(format!("#a{i} = :a{i}"));
                }
                let update = update.update_expression(format!("SET {}", assignments.join(", ")));
                action.update(update.build().map_err(Error::internal)?)
            }
        }
        .build())
    }
}

type Expression = (
    Option<String>,
    Option<HashMap<String, String>>,
    Option<Item>,
);

impl Condition {
    fn expression(&self) -> Expression {
        match self {
            Self::Any => (None, None, None),
            Self::Absent => (Some("attribute_not_exists(PK)".to_owned()), None, None),
            Self::Exists => (Some("attribute_exists(PK)".to_owned()), None, None),
            Self::Has(attributes) => {
                let mut terms = Vec::new();
                let (mut names, mut values) = (HashMap::new(), HashMap::new());
                for (i, (name, value)) in attributes.iter().enumerate() {
                    terms.push(format!("#c{i} = :c{i}"));
                    names.insert(format!("#c{i}"), (*name).to_owned());
                    values.insert(format!(":c{i}"), value.clone());
                }
                (Some(terms.join(" AND ")), Some(names), Some(values))
            }
        }
    }
}

fn primary(key: &Key) -> Item {
    HashMap::from([
        (PK.to_owned(), AttributeValue::S(key.pk.clone())),
        (SK.to_owned(), AttributeValue::S(key.sk.clone())),
    ])
}

/// The reason code of each action of a cancelled transaction.
fn cancellation<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<Vec<String>> {
    match error.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(cancelled) => Some(
            cancelled
                .cancellation_reasons()
                .iter()
                .map(|r| r.code().unwrap_or("None").to_owned())
                .collect(),
        ),
        _ => None,
    }
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
        (SdkError::ServiceError(_), _) => {
            Error::internal(format!("the store answered {}", code.unwrap_or_default()))
        }
        _ => Error::Unavailable("the store did not answer".to_owned()),
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
