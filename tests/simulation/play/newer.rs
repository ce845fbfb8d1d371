//! A newer version, which writes what this one cannot read, and takes it away again.

use super::Play;
use crate::store;
use serde_json::{Value, json};

/// A word of a newer version.
pub const NEWER: &str = "of-a-newer-version";

/// A word of a newer version, where there was another one.
#[derive(Clone, Debug)]
pub struct Scrambled {
    pub key: Value,
    field: &'static str,
    before: Option<Value>,
}

impl Play {
    /// A newer version writes a word that this one does not know.
    pub(super) fn scramble(&self) {
        let items = store::items(&self.world.store);
        let place = |item: &Value| match item["entity"].as_str() {
            Some("grant") => Some("last_refresh"),
            Some("override") => Some("shape"),
            Some("session") => Some("origin"),
            Some("revocation") => Some("access"),
            _ => None,
        };
        let all: Vec<_> = items
            .iter()
            .filter_map(|item| Some((item, place(item)?)))
            .filter(|(item, field)| item[*field] != NEWER)
            .collect();
        if all.is_empty() {
            return;
        }
        let (item, field) = self.world.draw(|rng| rng.pick(&all));
        let key = json!({"PK": {"S": item["PK"]}, "SK": {"S": item["SK"]}});
        self.world
            .tell(|| format!("a newer version writes {field} of {}", item["entity"]));
        let get = json!({"RequestItems": {hawser_local::TABLE: {"Keys": [key]}}});
        let (_, read) = store::table(&self.world.store, "BatchGetItem", &get.to_string());
        let read: Value = serde_json::from_str(&read).unwrap();
        let before = read["Responses"][hawser_local::TABLE][0]
            .get(field)
            .cloned();
        let set = json!({"TableName": hawser_local::TABLE, "Key": key, "UpdateExpression": "SET #f = :word",
                         "ExpressionAttributeNames": {"#f": field},
                         "ExpressionAttributeValues": {":word": {"S": NEWER}}});
        let (status, answer) = store::table(&self.world.store, "UpdateItem", &set.to_string());
        assert_eq!(status, 200, "{answer}");
        let scrambled = Scrambled { key, field, before };
        self.scrambled.lock().unwrap().push(scrambled);
    }

    /// A version that reads them takes all such words away again.
    pub(super) fn unscramble(&self) {
        // The last first, should an item have been given two.
        for one in std::mem::take(&mut *self.scrambled.lock().unwrap())
            .iter()
            .rev()
        {
            let mut update = json!({"TableName": hawser_local::TABLE, "Key": one.key, "ConditionExpression": "#f = :word",
                                    "ExpressionAttributeNames": {"#f": one.field},
                                    "ExpressionAttributeValues": {":word": {"S": NEWER}}});
            match &one.before {
                Some(before) => {
                    update["UpdateExpression"] = "SET #f = :before".into();
                    update["ExpressionAttributeValues"][":before"] = before.clone();
                }
                None => update["UpdateExpression"] = "REMOVE #f".into(),
            }
            store::table(&self.world.store, "UpdateItem", &update.to_string());
        }
    }
}
