//! Transactions and single writes, each under a condition. A lost answer is looked into, so that a refusal means that nothing has
//! happened.

use super::condition::Condition;
use super::{ATTEMPTS, ENTITY, Item, Key, Table, audit_log, failed, key_of, n, pause, primary, s};
use crate::domain::id::random;
use crate::{Error, Result};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    self, AttributeValue, ConditionCheck, Delete, Put, TransactWriteItem,
};
use data_encoding::HEXLOWER;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

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

impl Table {
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
