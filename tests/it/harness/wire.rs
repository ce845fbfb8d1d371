//! The wire to the store, which counts requests and can be cut.

use super::left_out;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// The wire to the store: remembers every request, and dies where it is told to.
#[derive(Clone, Debug, Default)]
pub struct Wire(Arc<Mutex<WireState>>);

#[derive(Debug, Default)]
struct WireState {
    log: Vec<Sent>,
    cut: Option<Cut>,
    replaced: bool,
}

/// One request to the store.
#[derive(Clone, Debug)]
pub struct Sent {
    pub operation: String,
    pub body: Value,
}

/// Where the process dies: from then on nothing gets through.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// Before the request of this number, counted from 0, is sent.
    Before(usize),
    /// After the store has carried it out, before its answer arrives.
    After(usize),
    /// Not at all; only the answer to this one request is lost.
    Answer(usize),
    /// Not at all; but the answer to this request is lost, and then the store is away for so many requests.
    Away(usize, usize),
    /// Not at all; but the next transactions, this many, are cancelled for this reason. The embedded store never does.
    Cancel(usize, &'static str),
}

impl Wire {
    /// Forgets what was sent and dies as told.
    pub fn arm(&self, cut: Option<Cut>) {
        *self.0.lock().unwrap() = WireState {
            cut,
            ..WireState::default()
        };
    }

    /// What was sent since it was armed.
    pub fn sent(&self) -> Vec<Sent> {
        self.0.lock().unwrap().log.clone()
    }

    /// The operations sent since it was armed.
    pub fn operations(&self) -> Vec<String> {
        self.sent().into_iter().map(|sent| sent.operation).collect()
    }
}

/// Whether a transaction changes a server, a credential, an API key, a session or an integration without saying so in the audit log.
fn changes_unseen(body: &Value) -> bool {
    let actions = body["TransactItems"].as_array().unwrap();
    let key = |action: &Value| {
        let put = &action["Put"]["Item"];
        let other = ["Update", "Delete"].map(|kind| action[kind]["Key"].clone());
        let key = other.iter().find(|key| key.is_object()).unwrap_or(put);
        let part = |name: &str| key[name]["S"].as_str().unwrap_or_default().to_owned();
        (part("PK"), part("SK"))
    };
    let changes = |(pk, sk): (String, String)| {
        let in_server = pk.contains("#S#");
        let credential = sk.starts_with("C#") && !sk.ends_with("#reason");
        let of_server = credential || sk.starts_with("A#") || sk.starts_with("M#");
        let of_tenant = sk.starts_with("S#") || sk.starts_with("KEY#");
        let of_catalogue = pk == "CATALOGUE" && sk.starts_with("I#");
        of_catalogue || if in_server { of_server } else { of_tenant }
    };
    let is_event = |action: &Value| action["Put"]["Item"]["entity"]["S"] == "event";
    actions.iter().map(key).any(changes) && !actions.iter().any(is_event)
}

impl Intercept for Wire {
    fn name(&self) -> &'static str {
        "wire"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body = serde_json::from_slice(request.body().bytes().unwrap_or_default())?;
        if operation == "TransactWriteItems" && changes_unseen(&body) {
            return Err("a change without an event".into());
        }
        let bytes = request.body().bytes().unwrap_or_default();
        if let Some(changed) = left_out::without_one(&operation, bytes) {
            let request = context.request_mut();
            let length = changed.len().to_string();
            request.headers_mut().insert("content-length", length);
            *request.body_mut() = SdkBody::from(changed);
        }
        let mut state = self.0.lock().unwrap();
        let number = state.log.len();
        let transactions = state
            .log
            .iter()
            .filter(|sent| sent.operation == "TransactWriteItems")
            .count();
        if matches!(state.cut, Some(Cut::Cancel(times, _)) if transactions < times && operation == "TransactWriteItems")
        {
            // Something harmless goes out instead; its answer is replaced below.
            let request = context.request_mut();
            request
                .headers_mut()
                .insert("x-amz-target", "DynamoDB_20120810.ListTables");
            request.headers_mut().insert("content-length", "2");
            *request.body_mut() = SdkBody::from("{}");
            state.replaced = true;
        }
        state.log.push(Sent { operation, body });
        match state.cut {
            Some(Cut::Before(at)) if number >= at => Err("the wire is cut".into()),
            Some(Cut::After(at)) if number > at => Err("the wire is cut".into()),
            Some(Cut::Away(at, requests)) if number > at && number <= at + requests => {
                Err("the store is away".into())
            }
            _ => Ok(()),
        }
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let mut state = self.0.lock().unwrap();
        if let (Some(Cut::Cancel(_, code)), true) = (state.cut, std::mem::take(&mut state.replaced))
        {
            let reasons = json!([{"Code": code}, {"Code": "None"}]);
            let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
            let body = json!({"__type": kind, "CancellationReasons": reasons}).to_string();
            *context.response_mut() = HttpResponse::new(400.try_into()?, SdkBody::from(body));
        }
        match state.cut {
            Some(Cut::After(at)) if state.log.len() > at => Err("the answer is lost".into()),
            Some(Cut::Answer(at) | Cut::Away(at, _)) if state.log.len() == at + 1 => {
                Err("the answer is lost".into())
            }
            _ => Ok(()),
        }
    }
}
