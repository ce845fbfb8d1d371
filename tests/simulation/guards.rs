//! Which conditions refuse a write: one that never does, or never alone, cannot be missed.

use crate::conditions::{CONDITION, NAMES, VALUES, event_of, is_write, keep_used, name_of, terms};
use crate::store;
use dynoxide::Database;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The conditions of a write that do not hold at present, by name: what it was refused for.
pub fn unmet(store: &Database, operation: &str, body: &str) -> BTreeSet<String> {
    let mut unmet = BTreeSet::new();
    if !is_write(operation) {
        return unmet;
    }
    let request: Value = serde_json::from_str(body).unwrap();
    let Some(actions) = request["TransactItems"].as_array() else {
        unmet_terms(store, operation, "alone", &request, &mut unmet);
        return unmet;
    };
    let context = event_of(&request);
    for action in actions {
        for (kind, fields) in action.as_object().unwrap() {
            unmet_terms(store, kind, &context, fields, &mut unmet);
        }
    }
    unmet
}

fn unmet_terms(
    store: &Database,
    kind: &str,
    context: &str,
    fields: &Value,
    unmet: &mut BTreeSet<String>,
) {
    let Some(condition) = fields[CONDITION].as_str() else {
        return;
    };
    let key = match &fields["Key"] {
        Value::Null => json!({"PK": fields["Item"]["PK"], "SK": fields["Item"]["SK"]}),
        key => key.clone(),
    };
    for term in terms(condition) {
        let mut check = json!({"TableName": fields["TableName"], "Key": key, CONDITION: term});
        for part in [NAMES, VALUES] {
            check[part] = fields[part].clone();
        }
        keep_used(&mut check, &term);
        let ask = json!({"TransactItems": [{"ConditionCheck": check}]});
        let (status, _) = store::table(store, "TransactWriteItems", &ask.to_string());
        if status != 200 {
            unmet.insert(name_of(kind, context, fields, &term));
        }
    }
}
