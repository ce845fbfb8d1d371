//! The conditions of writes, each by a name, so that one of them can be left out: whatever then is not noticed is guarded by
//! nothing. Left out on the way to the store, so that no mutant has to be built. The integration tests use this file too.

use serde_json::{Map, Value, json};

/// What holds of every item and of none.
const ALWAYS: &str = "(attribute_exists(PK) OR attribute_not_exists(PK))";
pub const CONDITION: &str = "ConditionExpression";
pub const NAMES: &str = "ExpressionAttributeNames";
pub const VALUES: &str = "ExpressionAttributeValues";

/// Looks at each condition of a request, term by term; leaves out the one of this name. Returns the names of all, and the
/// request as it goes on if it is another one.
pub fn look(operation: &str, body: &str, without: Option<&str>) -> (Vec<String>, Option<String>) {
    if !is_write(operation) {
        return (Vec::new(), None);
    }
    let mut request: Value = serde_json::from_str(body).unwrap();
    let mut names = Vec::new();
    let mut changed = false;
    if operation == "TransactWriteItems" {
        let context = event_of(&request);
        for action in request["TransactItems"].as_array_mut().unwrap() {
            for (kind, fields) in action.as_object_mut().unwrap() {
                changed |= each_term(kind, &context, fields, without, &mut names);
            }
        }
    } else {
        changed |= each_term(operation, "alone", &mut request, without, &mut names);
    }
    (names, changed.then(|| request.to_string()))
}

pub fn is_write(operation: &str) -> bool {
    matches!(
        operation,
        "TransactWriteItems" | "UpdateItem" | "DeleteItem" | "PutItem"
    )
}

pub fn name_of(kind: &str, context: &str, fields: &Value, term: &str) -> String {
    let (item, text) = (item_of(fields), resolved(term, &fields[NAMES]));
    format!("[{context}] {kind} {item}: {text}")
}

/// Leaves of all placeholders those that an expression uses.
pub fn keep_used(fields: &mut Value, used: &str) {
    for part in [NAMES, VALUES] {
        let all = fields[part].as_object().cloned().unwrap_or_default();
        let all: Map<String, Value> = all
            .into_iter()
            .filter(|(name, _)| uses(used, name))
            .collect();
        let fields = fields.as_object_mut().unwrap();
        fields.remove(part);
        if !all.is_empty() {
            fields.insert(part.to_owned(), json!(all));
        }
    }
}

/// What a transaction says in the audit log, or what it puts first.
pub fn event_of(request: &Value) -> String {
    let actions = request["TransactItems"].as_array().unwrap();
    let mut puts = actions.iter().filter_map(|action| action.get("Put"));
    let event = puts.find(|put| put["Item"]["entity"]["S"] == "event");
    if let Some(put) = event {
        let action = put["Item"]["action"]["S"].as_str().unwrap_or_default();
        let worker = put["Item"]["actor"]["M"]["worker"]["S"].as_str();
        return worker.map_or(action.to_owned(), |worker| format!("{action} by {worker}"));
    }
    let action = actions.first().and_then(Value::as_object);
    let first = action.and_then(|action| action.iter().next());
    first.map_or(String::new(), |(kind, fields)| {
        format!("{kind} {}", item_of(fields))
    })
}

/// The kind of item that an action is about.
fn item_of(fields: &Value) -> String {
    if let Some(entity) = fields["Item"]["entity"]["S"].as_str() {
        return entity.to_owned();
    }
    let sk = fields["Key"]["SK"]["S"].as_str().unwrap_or_default();
    let head = sk.split('#').next().unwrap_or_default();
    match head {
        "C" => sk.rsplit('#').next().unwrap_or_default().to_owned(),
        "A" => "session".to_owned(),
        "S" => "server".to_owned(),
        "R" => "receipt".to_owned(),
        other => other.to_lowercase(),
    }
}

fn each_term(
    kind: &str,
    context: &str,
    fields: &mut Value,
    without: Option<&str>,
    found: &mut Vec<String>,
) -> bool {
    let Some(condition) = fields[CONDITION].as_str().map(str::to_owned) else {
        return false;
    };
    let mut kept = Vec::new();
    let mut changed = false;
    for term in terms(&condition) {
        let name = name_of(kind, context, fields, &term);
        if without == Some(name.as_str()) {
            changed = true;
            kept.push(ALWAYS.to_owned());
        } else {
            kept.push(term);
        }
        found.push(name);
    }
    if changed {
        let condition = kept.join(" AND ");
        let update = fields["UpdateExpression"].as_str().unwrap_or_default();
        let used = format!("{condition} {update}");
        fields[CONDITION] = condition.into();
        keep_used(fields, &used);
    }
    changed
}

/// The parts of a condition that are joined by `AND`, outside of parentheses.
pub fn terms(condition: &str) -> Vec<String> {
    let (mut all, mut depth, mut term) = (Vec::new(), 0usize, String::new());
    let mut rest = condition;
    while let Some(next) = rest.chars().next() {
        if depth == 0 && rest.starts_with(" AND ") {
            all.push(std::mem::take(&mut term));
            rest = &rest[" AND ".len()..];
            continue;
        }
        match next {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        term.push(next);
        rest = &rest[next.len_utf8()..];
    }
    all.push(term);
    all
}

/// A term with the names of its attributes, and without the numbers of its values.
fn resolved(term: &str, names: &Value) -> String {
    let mut text = term.to_owned();
    let mut all: Vec<_> = names.as_object().into_iter().flatten().collect();
    all.sort_by_key(|(short, _)| std::cmp::Reverse(short.len()));
    for (short, name) in all {
        text = text.replace(short.as_str(), name.as_str().unwrap_or_default());
    }
    let mut plain = String::new();
    let mut in_value = false;
    for c in text.chars() {
        in_value = c == ':' || in_value && (c.is_alphanumeric() || c == '_');
        if c == ':' || !in_value {
            plain.push(c);
        }
    }
    plain
}

/// Whether an expression uses a placeholder: the same text, and not the beginning of a longer one.
fn uses(expression: &str, name: &str) -> bool {
    expression.match_indices(name).any(|(at, _)| {
        let next = expression[at + name.len()..].chars().next();
        next.is_none_or(|c| !c.is_alphanumeric() && c != '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_term_is_left_out_and_no_other() {
        let body = json!({"TransactItems": [
            {"Update": {"Key": {"PK": {"S": "p"}, "SK": {"S": "A#x"}}, "UpdateExpression": "SET #a0 = :a0",
                        "ConditionExpression": "#c0 = :c0 AND (attribute_not_exists(#before) OR #before < :before)",
                        "ExpressionAttributeNames": {"#a0": "phase", "#c0": "phase", "#before": "until"},
                        "ExpressionAttributeValues": {":a0": {"S": "x"}, ":c0": {"S": "y"}, ":before": {"N": "1"}}}},
            {"Put": {"Item": {"entity": {"S": "event"}, "action": {"S": "session.ended"}},
                     "ConditionExpression": "attribute_not_exists(PK)"}},
        ]});
        let (names, same) = look("TransactWriteItems", &body.to_string(), None);
        let expected = [
            "[session.ended] Update session: phase = :",
            "[session.ended] Update session: (attribute_not_exists(until) OR until < :)",
            "[session.ended] Put event: attribute_not_exists(PK)",
        ];
        assert_eq!(
            (names.as_slice(), same),
            (expected.map(str::to_owned).as_slice(), None)
        );
        let (_, next) = look("TransactWriteItems", &body.to_string(), Some(expected[0]));
        let next: Value = serde_json::from_str(&next.unwrap()).unwrap();
        let update = &next["TransactItems"][0]["Update"];
        let condition =
            format!("{ALWAYS} AND (attribute_not_exists(#before) OR #before < :before)");
        assert_eq!(update[CONDITION], condition);
        assert_eq!(update[NAMES], json!({"#a0": "phase", "#before": "until"}));
        assert_eq!(
            update[VALUES],
            json!({":a0": {"S": "x"}, ":before": {"N": "1"}})
        );
        assert_eq!(next["TransactItems"][1], body["TransactItems"][1]);
        let (_, next) = look("TransactWriteItems", &body.to_string(), Some(expected[2]));
        let next: Value = serde_json::from_str(&next.unwrap()).unwrap();
        assert_eq!(next["TransactItems"][1]["Put"][CONDITION], ALWAYS);
        assert_eq!(next["TransactItems"][0], body["TransactItems"][0]);
    }
}
