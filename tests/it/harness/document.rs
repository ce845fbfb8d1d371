//! The document of the API, which every answer that a test sees is held against.

use hawser_functions::openapi::DOCUMENT;
use hawser_functions::{ENDPOINTS, route::capture};
use jsonschema::{Draft, Validator};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::sync::{Arc, LazyLock, Mutex};

/// Statuses with which a gateway answers by itself, as `{"message": ...}`.
const OF_GATEWAYS: [u16; 6] = [400, 408, 413, 414, 421, 431];

static DOCUMENT_READ: LazyLock<Value> = LazyLock::new(|| {
    let mut text = String::new();
    let mut reader = flate2::read::GzDecoder::new(DOCUMENT);
    reader.read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
});

/// Each schema is compiled once, by where it stands.
static COMPILED: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// What of an answer the document speaks of.
#[derive(Debug)]
pub struct Seen<'a> {
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    pub status: u16,
    pub headers: &'a [(String, String)],
    pub body: &'a str,
}

impl Seen<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        let found = all.find(|(one, _)| one.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// The document.
pub fn document() -> &'static Value {
    &DOCUMENT_READ
}

/// Method and path of every operation, with its `operationId`.
pub fn operations() -> BTreeSet<(String, String, String)> {
    let mut all = BTreeSet::new();
    for (path, item) in document()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if let Some(id) = operation["operationId"].as_str() {
                all.insert((method.to_uppercase(), path.clone(), id.to_owned()));
            }
        }
    }
    all
}

/// Fails unless the document says that this may be answered.
#[track_caller]
pub fn hold(seen: &Seen<'_>) {
    if let Err(why) = check(seen) {
        panic!("the document (docs/openapi) does not allow this answer: {why}\n{seen:?}");
    }
}

/// What the document says against an answer.
pub fn check(seen: &Seen<'_>) -> Result<(), String> {
    if seen.method == "OPTIONS" || is_of_a_gateway(seen) {
        return Ok(());
    }
    let Some(path) = routed(seen.method, seen.path) else {
        return unrouted(seen);
    };
    let operation = &document()["paths"][path][seen.method.to_lowercase()];
    let responses = &operation["responses"];
    let status = seen.status.to_string();
    let status = if responses[&status].is_null() {
        "default"
    } else {
        status.as_str()
    };
    let response = resolved(&responses[status]);
    if response.is_null() {
        return Err(format!(
            "{} has no status {}",
            operation["operationId"], seen.status
        ));
    }
    let headers = response["headers"].as_object().into_iter().flatten();
    for (name, header) in headers {
        if resolved(header)["required"] == true && seen.header(name).is_none() {
            return Err(format!("there is no {name}"));
        }
    }
    let content = &response["content"];
    if seen.body.is_empty() {
        let may_be_empty = seen.method == "HEAD" || content.is_null() || !content["*/*"].is_null();
        return may_be_empty
            .then_some(())
            .ok_or("there is no body".to_owned());
    }
    let essence = seen.header("content-type").unwrap_or_default();
    let essence = essence.split(';').next().unwrap_or_default().trim();
    let kind = if content[essence].is_null() {
        "*/*"
    } else {
        essence
    };
    let schema = &content[kind]["schema"];
    if schema.is_null() {
        return Err(format!(
            "the content type {essence:?} is not among those of {status}"
        ));
    }
    let is_json = kind != "*/*" && essence.ends_with("json") && !essence.contains("ndjson");
    // A server's answer is passed on as it is, also where it is not of the type that it names.
    let is_passed_on =
        !content["*/*"].is_null() && serde_json::from_str::<Value>(seen.body).is_err();
    if is_json && !is_passed_on {
        return validate(schema, seen.body);
    }
    Ok(())
}

/// What no path of the document takes is refused in the words of the contract whose prefix the path has.
fn unrouted(seen: &Seen<'_>) -> Result<(), String> {
    if seen.status == 308 && seen.path.ends_with("/mcp") {
        return Ok(());
    }
    if ![404, 405].contains(&seen.status) {
        // The stand-in for an identity provider, which the local server alone has.
        let stand_in = seen.path == "/oauth/development-sign-in";
        return stand_in
            .then_some(())
            .ok_or("no path of the document takes this".to_owned());
    }
    let under = |base: &str| {
        let rest = seen.path.strip_prefix(base);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let schema = if under("/api/svc/v1") {
        "TruefoundryError"
    } else if under("/api/v1") || under("/api/mcp-servers") {
        "KambriumError"
    } else if [
        "/v1/audit",
        "/v1/logins",
        "/v1/receipts",
        "/v1/subjects",
        "/oauth",
    ]
    .into_iter()
    .any(under)
    {
        "HawserProblem"
    } else if under("/v1") {
        "LangsmithError"
    } else {
        return Ok(());
    };
    match seen.method {
        "HEAD" => Ok(()),
        _ => validate(
            &json!({"$ref": format!("#/components/schemas/{schema}")}),
            seen.body,
        ),
    }
}

fn is_of_a_gateway(seen: &Seen<'_>) -> bool {
    let body: Option<Value> = serde_json::from_str(seen.body).ok();
    let message = body.as_ref().and_then(Value::as_object);
    let message = message.is_some_and(|all| all.len() == 1 && all.contains_key("message"));
    OF_GATEWAYS.contains(&seen.status) && message
}

/// The path of the document that a request's path fits.
fn routed(method: &str, path: &str) -> Option<&'static str> {
    let routes = ENDPOINTS.iter().flat_map(|endpoint| endpoint.all_routes());
    let mut fitting =
        routes.filter(|(one, pattern)| *one == method && capture(pattern, path).is_some());
    fitting.next().map(|(_, pattern)| pattern)
}

fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(at) => document()
            .pointer(at.trim_start_matches('#'))
            .unwrap_or(&Value::Null),
        None => value,
    }
}

fn validate(schema: &Value, body: &str) -> Result<(), String> {
    let body: Value = match serde_json::from_str(body) {
        Ok(body) => body,
        // A number that a server wrote, and that is larger than a `Value` holds.
        Err(_) if serde_json::from_str::<&RawValue>(body).is_ok() => return Ok(()),
        Err(why) => return Err(format!("no JSON: {why}")),
    };
    let key = schema.to_string();
    let known = COMPILED.lock().unwrap().get(&key).cloned();
    let validator = known.unwrap_or_else(|| {
        let whole = json!({"allOf": [schema], "components": document()["components"]});
        let options = jsonschema::options().with_draft(Draft::Draft202012);
        let validator = options.should_validate_formats(true).build(&whole);
        let validator = Arc::new(validator.unwrap_or_else(|why| panic!("{key}: {why}")));
        COMPILED.lock().unwrap().insert(key, validator.clone());
        validator
    });
    let faults = validator.iter_errors(&body);
    let faults: Vec<String> = faults
        .map(|fault| format!("{fault} at {:?}", fault.instance_path().to_string()))
        .collect();
    match faults.is_empty() {
        true => Ok(()),
        false => Err(faults.join("; ")),
    }
}
