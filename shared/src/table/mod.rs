//! The one table. Only the modules in here format a key, name an attribute or write an expression, and every function
//! takes the tenant first. All reads are strongly consistent; every write states the condition under which it holds.

pub mod api_keys;
pub mod audit_log;
pub mod clients;
pub mod credentials;
mod due;
mod guard;
pub mod integrations;
pub mod integrity;
mod keys;
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

pub use keys::Key;

use crate::domain::id::random;
use crate::{Error, Result};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    self, AttributeValue, ConditionCheck, Delete, KeysAndAttributes, Put, TransactWriteItem,
};
use data_encoding::HEXLOWER;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::error;

pub(crate) type Item = HashMap<String, AttributeValue>;

const PK: &str = "PK";
const SK: &str = "SK";
const ENTITY: &str = "entity";
const DUE_INDEX_NAME: &str = "GSI2";
const DUE_INDEX: (&str, &str) = ("GSI2PK", "GSI2SK");

/// How often a transaction that met another one, or a partly served batch, is sent again before giving up.
const ATTEMPTS: u32 = 8;

/// How long a transaction whose answer was lost is looked into: a gateway ends ours after 30 seconds.
const SECOND_LOOK: Duration = Duration::from_secs(8);

/// The reason for a cancelled transaction that a condition did not hold.
const REFUSED: &str = "ConditionalCheckFailed";

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

/// One action of a transaction.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Put(Item, Condition),
    Delete(Key, Condition),
    Check(Key, Condition),
    /// Changes attributes of an item that exists.
    Update(Update),
}

/// A change of single attributes. It creates the item, unless the condition implies that there is one.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    pub key: Key,
    pub set: Vec<(&'static str, AttributeValue)>,
    /// Numbers inside map attributes, and by how much they grow.
    pub count: Vec<(&'static str, &'static str, u64)>,
    /// Numbers that grow by one, from nothing.
    pub next: Vec<&'static str>,
    pub condition: Condition,
}

impl Update {
    /// Sets attributes of an item; the condition must imply that it exists.
    pub fn set(key: Key, set: Vec<(&'static str, AttributeValue)>, condition: Condition) -> Write {
        Write::Update(Self {
            key,
            set,
            count: Vec::new(),
            next: Vec::new(),
            condition,
        })
    }
}

/// What must be true of the item for the whole transaction to happen.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Any,
    Absent,
    Exists,
    /// It exists without this attribute.
    Lacks(&'static str),
    /// It exists and these attributes have these values.
    Has(Vec<(&'static str, AttributeValue)>),
    /// The same, and it lacks this attribute.
    HasWithout(Vec<(&'static str, AttributeValue)>, &'static str),
    /// This number in it has this value. Where there is none, or no item, it is nothing.
    Counts(&'static str, u64),
    /// This number in it, if there is one, is less.
    Below(&'static str, u64),
    /// It does not exist, or none of these attributes has this value.
    Unless(Vec<(&'static str, AttributeValue)>),
}

impl Condition {
    /// The item still has the version that was read.
    pub fn version(version: &str) -> Self {
        Self::Has(vec![("version", s(version))])
    }
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

    /// All of these, or none. Where an answer is lost, the same transaction is sent once more under the same token, which
    /// `DynamoDB` carries out at most once within ten minutes (API_TransactWriteItems, `ClientRequestToken`); and a
    /// transaction with an event is known by it for ever, for an event's id is used once. So a refusal means that
    /// nothing has happened, and only a store that stays silent leaves it open.
    pub(crate) async fn write(&self, writes: Vec<Write>) -> Result<(), WriteError> {
        let actions = writes
            .iter()
            .map(|write| self.action(write))
            .collect::<Result<Vec<_>>>()?;
        let marker = marker(&writes);
        let mut token = request_token()?;
        // Whether an attempt may have happened although no answer said so, and until when that is looked into.
        let mut unknown: Option<Instant> = None;
        for attempt in 0..ATTEMPTS {
            pause(attempt).await;
            let sending = self
                .client
                .transact_write_items()
                .client_request_token(&token)
                .set_transact_items(Some(actions.clone()))
                .send();
            let sent = match unknown {
                None => sending.await,
                Some(until) => match timeout_at(until, sending).await {
                    Ok(sent) => sent,
                    Err(_) => break,
                },
            };
            let Err(error) = sent else { return Ok(()) };
            match cancellation(&error) {
                Some(codes) if codes.iter().any(|c| c == REFUSED) => {
                    let refused = |at: usize| codes.get(at).is_some_and(|code| code == REFUSED);
                    if marker.as_ref().is_some_and(|(at, _)| refused(*at)) {
                        return Ok(());
                    }
                    // A store that knows the token no more meets what the lost attempt wrote.
                    if unknown.is_some() && self.has_happened(marker.as_ref()).await? {
                        return Ok(());
                    }
                    let refused = (0..codes.len()).filter(|at| refused(*at));
                    return Err(WriteError::Refused(refused.collect()));
                }
                Some(codes) if codes.iter().any(|c| PASSING.contains(&c.as_str())) => {
                    if unknown.is_none() {
                        token = request_token()?;
                    }
                }
                Some(codes) => {
                    return Err(WriteError::Failed(Error::internal(format!(
                        "transaction cancelled: {codes:?}"
                    ))));
                }
                None if unknown.is_none() && is_unanswered(&error) => {
                    unknown = Some(Instant::now() + SECOND_LOOK);
                }
                None => {
                    let error = failed(error);
                    if unknown.is_some() && matches!(error, Error::Unavailable(_)) {
                        break;
                    }
                    return Err(WriteError::Failed(error));
                }
            }
        }
        if let Some(until) = unknown {
            let happened = timeout_at(until, self.has_happened(marker.as_ref())).await;
            return match happened {
                Ok(Ok(true)) => Ok(()),
                _ => Err(WriteError::Failed(Error::Unavailable(
                    "the store did not answer".to_owned(),
                ))),
            };
        }
        Err(WriteError::Failed(Error::Unavailable(
            "transaction conflict after 8 attempts".to_owned(),
        )))
    }

    /// The same. Returns `false` when a condition does not hold.
    pub(crate) async fn write_if(&self, writes: Vec<Write>) -> Result<bool> {
        match self.write(writes).await {
            Ok(()) => Ok(true),
            Err(WriteError::Refused(_)) => Ok(false),
            Err(WriteError::Failed(error)) => Err(error),
        }
    }

    /// Sets attributes of one item, if the condition, which must imply that it exists, holds. Returns whether.
    pub(crate) async fn update(
        &self,
        key: Key,
        set: Vec<(&'static str, AttributeValue)>,
        condition: Condition,
    ) -> Result<bool> {
        let (expression, names, values) = condition.expression();
        let (mut names, mut values) = (names.unwrap_or_default(), values.unwrap_or_default());
        let assignments = assign(&set, &mut names, &mut values);
        let sent = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(primary(&key)))
            .set_condition_expression(expression)
            .update_expression(format!("SET {}", assignments.join(", ")))
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// Deletes one item, if the condition, which must imply that it exists, holds. Returns whether.
    pub(crate) async fn delete(&self, key: &Key, condition: Condition) -> Result<bool> {
        let (expression, names, values) = condition.expression();
        let sent = self
            .client
            .delete_item()
            .table_name(&self.name)
            .set_key(Some(primary(key)))
            .set_condition_expression(expression)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .send()
            .await;
        match sent {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether the event of a transaction is in the table.
    async fn has_happened(&self, marker: Option<&(usize, Key)>) -> Result<bool> {
        let Some((_, key)) = marker else {
            return Ok(false);
        };
        let found = self.read(vec![key.clone()]).await?;
        Ok(found.item(key).is_some())
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
            Write::Update(change) => {
                let (expression, names, values) = change.condition.expression();
                let (mut names, mut values) =
                    (names.unwrap_or_default(), values.unwrap_or_default());
                let mut assignments = assign(&change.set, &mut names, &mut values);
                for (i, name) in change.next.iter().enumerate() {
                    names.insert(format!("#n{i}"), (*name).to_owned());
                    values.insert(":none".to_owned(), n(0));
                    values.insert(":one".to_owned(), n(1));
                    assignments.push(format!("#n{i} = if_not_exists(#n{i}, :none) + :one"));
                }
                for (i, (map, field, more)) in change.count.iter().enumerate() {
                    names.insert(format!("#m{i}"), (*map).to_owned());
                    names.insert(format!("#f{i}"), (*field).to_owned());
                    values.insert(format!(":m{i}"), n(more));
                    // One that an older version does not know begins at nothing.
                    values.insert(":none".to_owned(), n(0));
                    let grown = format!("if_not_exists(#m{i}.#f{i}, :none) + :m{i}");
                    assignments.push(format!("#m{i}.#f{i} = {grown}"));
                }
                let update = types::Update::builder()
                    .table_name(&self.name)
                    .set_key(Some(primary(&change.key)))
                    .set_condition_expression(expression)
                    .update_expression(format!("SET {}", assignments.join(", ")))
                    .set_expression_attribute_names(Some(names))
                    .set_expression_attribute_values(Some(values));
                action.update(update.build().map_err(Error::internal)?)
            }
        }
        .build())
    }
}

/// The assignments of an update expression.
fn assign(
    set: &[(&'static str, AttributeValue)],
    names: &mut HashMap<String, String>,
    values: &mut Item,
) -> Vec<String> {
    let mut assignments = Vec::new();
    for (i, (name, value)) in set.iter().enumerate() {
        names.insert(format!("#a{i}"), (*name).to_owned());
        values.insert(format!(":a{i}"), value.clone());
        assignments.push(format!("#a{i} = :a{i}"));
    }
    assignments
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
            Self::Lacks(name) => (
                Some("attribute_exists(PK) AND attribute_not_exists(#without)".to_owned()),
                Some(HashMap::from([("#without".to_owned(), (*name).to_owned())])),
                None,
            ),
            Self::Has(attributes) => Self::terms(attributes, None),
            Self::HasWithout(attributes, without) => Self::terms(attributes, Some(without)),
            Self::Counts(name, number) => {
                let names = HashMap::from([("#count".to_owned(), (*name).to_owned())]);
                let value = HashMap::from([(":count".to_owned(), n(number))]);
                match number {
                    0 => {
                        let none = "attribute_not_exists(#count) OR #count = :count";
                        (Some(none.to_owned()), Some(names), Some(value))
                    }
                    _ => (Some("#count = :count".to_owned()), Some(names), Some(value)),
                }
            }
            Self::Below(name, limit) => (
                Some("attribute_not_exists(#below) OR #below < :below".to_owned()),
                Some(HashMap::from([("#below".to_owned(), (*name).to_owned())])),
                Some(HashMap::from([(":below".to_owned(), n(limit))])),
            ),
            Self::Unless(attributes) => {
                let mut terms = vec!["attribute_exists(PK)".to_owned()];
                let (mut names, mut values) = (HashMap::new(), HashMap::new());
                let mut any = Vec::new();
                for (i, (name, value)) in attributes.iter().enumerate() {
                    any.push(format!("#c{i} = :c{i}"));
                    names.insert(format!("#c{i}"), (*name).to_owned());
                    values.insert(format!(":c{i}"), value.clone());
                }
                terms.push(format!("({})", any.join(" OR ")));
                let expression = format!("NOT ({})", terms.join(" AND "));
                (Some(expression), Some(names), Some(values))
            }
        }
    }

    fn terms(
        attributes: &[(&'static str, AttributeValue)],
        without: Option<&'static str>,
    ) -> Expression {
        let mut terms = Vec::new();
        let (mut names, mut values) = (HashMap::new(), HashMap::new());
        for (i, (name, value)) in attributes.iter().enumerate() {
            terms.push(format!("#c{i} = :c{i}"));
            names.insert(format!("#c{i}"), (*name).to_owned());
            values.insert(format!(":c{i}"), value.clone());
        }
        if let Some(name) = without {
            terms.push("attribute_not_exists(#without)".to_owned());
            names.insert("#without".to_owned(), name.to_owned());
        }
        (Some(terms.join(" AND ")), Some(names), Some(values))
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

/// What says of a transaction that it has happened: the event that it adds, by its place and its key. Its id is random, so
/// it is nobody else's.
fn marker(writes: &[Write]) -> Option<(usize, Key)> {
    let event = |(at, write): (usize, &Write)| match write {
        Write::Put(item, Condition::Absent) if item.get(ENTITY) == Some(&s(audit_log::EVENT)) => {
            Some((at, key_of(item)?))
        }
        _ => None,
    };
    writes.iter().enumerate().find_map(event)
}

/// A token that one transaction is known by; 32 of the 36 characters that it may have.
fn request_token() -> Result<String> {
    Ok(HEXLOWER.encode(&random::<16>()?))
}

/// Whether a request may have been carried out although its answer does not say so.
fn is_unanswered<R>(error: &SdkError<TransactWriteItemsError, R>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => false,
        SdkError::ServiceError(_) => matches!(
            error.code(),
            Some("InternalServerError" | "ServiceUnavailable" | "TransactionInProgressException")
        ),
        _ => true,
    }
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
