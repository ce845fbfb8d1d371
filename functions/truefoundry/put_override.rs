//! `PUT /mcp/{mcpServerId}/auth`: install or replace one subject's override (TrueFoundry 3.5).

use super::list_overrides::row;
use super::manifest::{header_value_rule, secret_value};
use super::permission::require_self_or_manager;
use super::problem::{Fault, Problem};
use super::reader::{Faults, Reader};
use super::secret_reference::{Resolved, Sent as SentValue};
use super::{RECORD_HOLDERS, admit, read_subject, server_id};
use crate::http::{Request, Response, body, json};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::caller::Caller;
use hawser_core::domain::credential::OverrideValue;
use hawser_core::domain::id::ServerId;
use hawser_core::domain::server::{Auth, Server};
use hawser_core::domain::subject::Subject;
use hawser_core::operations::credentials::{self, NewOverride, ServerAndRecords};
use lambda_http::Body;
use serde_json::json;
use std::collections::BTreeMap;

/// The path of the one value of an override of the type `header`.
const HEADER_VALUE: &str = "authOverride.headerValue";

/// An override as sent.
enum Sent {
    Header(SentValue),
    KeyValue(BTreeMap<String, SentValue>),
}

/// Returns 200 with the row.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, (subject, sent)) = admit(app, request, parse(app, request)).await?;
    let id = server_id(request);
    let read = || read(app, who.clone(), id, &subject, &sent);
    let own = credentials::install_override(app, read).await?;
    Ok(json(200, &json!({"data": row(&own)})))
}

fn parse(app: &App, request: &Request) -> Result<(Subject, Sent), Problem> {
    let mut faults = Faults::of(app);
    let parsed = Reader::body(body(request), &mut faults).and_then(|object| {
        let mut reader = Reader::new(&object, "", &mut faults);
        let subject = read_subject(&mut reader, &RECORD_HOLDERS);
        let sent = match reader.object("authOverride") {
            Some(mut own) => read_override(&mut own),
            None => reader.required("authOverride", None),
        };
        Some((subject?, sent?))
    });
    faults.into_result(parsed)
}

fn read_override(own: &mut Reader<'_>) -> Option<Sent> {
    let kind = own.text("type");
    match own.required("type", kind)? {
        "header" => {
            let path = own.at("headerValue");
            let Some(value) = own.get("headerValue") else {
                return own.required("headerValue", None);
            };
            secret_value(own.faults, &path, value, header_value_rule)
                .ok()
                .map(Sent::Header)
        }
        "key_value" => {
            let Some(values) = own.object("values") else {
                return own.required("values", None);
            };
            let mut read = BTreeMap::new();
            for (name, value) in values.entries() {
                let path = values.at(name);
                if let Ok(value) = secret_value(values.faults, &path, value, header_value_rule) {
                    read.insert(name.clone(), value);
                }
            }
            Some(Sent::KeyValue(read))
        }
        _ => {
            let path = own.at("type");
            own.faults.unsupported(path, "is not supported");
            None
        }
    }
}

/// Reads the subject's records, and makes an override of what was sent.
async fn read(
    app: &App,
    who: Presented,
    id: Option<ServerId>,
    subject: &Subject,
    sent: &Sent,
) -> Result<NewOverride, Problem> {
    let at = credentials::find(app, who, id, subject.clone())
        .await?
        .existing()?;
    let at = at.permit(|caller, at| require_self_or_manager(caller, &at.server, subject))?;
    fits(&at.found.server, sent)?;
    Ok(NewOverride {
        value: resolve(app, &at.caller, &at.found, sent).await?,
        at,
        // Only a request that repeats a stored value depends on what is stored; any other simply replaces it.
        keeps_stored: sent.keeps(),
    })
}

/// What each kind of server accepts (TrueFoundry 6.2).
fn fits(server: &Server, sent: &Sent) -> Result<(), Problem> {
    let mismatch = |path: &str, message| {
        Err(Problem::OverrideMismatch(vec![Fault {
            path: path.to_owned(),
            message,
        }]))
    };
    let parameters = server.parameters();
    match (&server.auth, sent) {
        (Auth::None | Auth::Passthrough | Auth::LegacyProvider { .. }, _) => {
            Err(Problem::OverrideNotSupported)
        }
        (Auth::Oauth(_), Sent::Header(_)) => Ok(()),
        (Auth::Headers { .. }, Sent::Header(_)) if parameters.len() <= 1 => Ok(()),
        (Auth::Headers { .. }, Sent::KeyValue(values)) if !parameters.is_empty() => {
            if values.keys().eq(parameters.iter()) {
                Ok(())
            } else {
                mismatch(
                    "authOverride.values",
                    "must hold exactly the server's parameters",
                )
            }
        }
        _ => mismatch("authOverride.type", "does not fit this server"),
    }
}

impl Sent {
    /// The values with their paths.
    fn paths(&self) -> Vec<(String, &SentValue)> {
        match self {
            Self::Header(value) => vec![(HEADER_VALUE.to_owned(), value)],
            Self::KeyValue(values) => {
                let values = values.iter();
                values
                    .map(|(name, value)| (value_path(name), value))
                    .collect()
            }
        }
    }

    fn keeps(&self) -> bool {
        match self {
            Self::Header(value) => value.is_kept(),
            Self::KeyValue(values) => values.values().any(SentValue::is_kept),
        }
    }
}

/// The values that are referred to, and the stored ones that were sent as redacted: of the same subject, the same type, the
/// same key.
async fn resolve(
    app: &App,
    caller: &Caller,
    at: &ServerAndRecords,
    sent: &Sent,
) -> Result<OverrideValue, Problem> {
    let stored = match &at.records.header_override {
        Some(own) if sent.keeps() => {
            Some(credentials::open_override(app, &caller.tenant, &at.server, own).await?)
        }
        _ => None,
    };
    let unknown = |path: String| {
        Problem::RedactedValueUnknown(vec![Fault {
            path,
            message: "no stored secret can stand in for it",
        }])
    };
    let paths = sent.paths();
    let referred = paths.iter().map(|(path, value)| (path.as_str(), *value));
    let referred = Resolved::read(app, caller, referred).await?;
    match (sent, stored) {
        (Sent::Header(value), stored) => match (referred.value(HEADER_VALUE, value), stored) {
            (Some(value), _) => Ok(OverrideValue::Header(value.clone())),
            (None, Some(kept @ OverrideValue::Header(_))) => Ok(kept),
            (None, _) => Err(unknown(HEADER_VALUE.to_owned())),
        },
        (Sent::KeyValue(values), stored) => {
            let kept = match stored {
                Some(OverrideValue::KeyValue(kept)) => kept,
                _ => BTreeMap::new(),
            };
            let fill = |(name, value): (&String, &SentValue)| {
                let path = value_path(name);
                let value = referred.value(&path, value).or_else(|| kept.get(name));
                value
                    .map(|value| (name.clone(), value.clone()))
                    .ok_or_else(|| unknown(path))
            };
            values
                .iter()
                .map(fill)
                .collect::<Result<_, _>>()
                .map(OverrideValue::KeyValue)
        }
    }
}

fn value_path(name: &str) -> String {
    format!("authOverride.values.{name}")
}
