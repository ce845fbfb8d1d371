//! The place of an item in the index of due work.

use super::{DUE_INDEX, Item, Key, encode, keys, s};
use crate::Result;
use crate::domain::time::Timestamp;
use serde::Serialize;

pub(crate) fn due_item(
    key: &Key,
    entity: &str,
    value: &impl Serialize,
    at: Timestamp,
) -> Result<Item> {
    let mut item = encode(key, entity, value)?;
    item.insert(DUE_INDEX.0.to_owned(), s(keys::DUE));
    item.insert(DUE_INDEX.1.to_owned(), s(due_time(at)));
    Ok(item)
}

pub(super) fn due_time(at: Timestamp) -> String {
    format!("{:020}", at.micros())
}
