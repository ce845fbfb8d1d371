//! The headers of a call to its server.

use super::Call;
use crate::domain::credential::OverrideValue;
use crate::domain::server::{AuthLevel, HeaderSpec, Place, Secrets, placeholder};
use crate::egress::HOPS_HEADER;
use crate::mcp::SESSION_HEADER;
use crate::{Error, Result};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

/// The headers of a call with those it carries: these replace any of the same name, but what the transport sets itself
/// stays (LangSmith 1.5).
pub(super) fn outgoing(call: &Call, prepared: HeaderMap) -> HeaderMap {
    let mut headers = call.headers.clone();
    headers.remove(SESSION_HEADER);
    for (name, value) in prepared.iter() {
        let text = name.as_str();
        let of_transport = matches!(
            text,
            "accept"
                | "content-type"
                | "last-event-id"
                | "mcp-method"
                | "mcp-name"
                | "mcp-protocol-version"
                | "mcp-session-id"
        );
        let of_connection = text.starts_with("proxy-")
            || matches!(
                text,
                "host"
                    | "content-length"
                    | "connection"
                    | "keep-alive"
                    | "te"
                    | "trailer"
                    | "transfer-encoding"
                    | "upgrade"
            )
            || *name == HOPS_HEADER;
        let taken = of_transport && (headers.contains_key(name) || *name == SESSION_HEADER);
        if !taken && !of_connection {
            headers.insert(name.clone(), value.clone());
        }
    }
    let hops = call.hops.saturating_add(1);
    headers.insert(HOPS_HEADER, HeaderValue::from(u16::from(hops)));
    let session = call.session.as_ref().map(|id| id.expose_secret());
    if let Some(Ok(mut id)) = session.map(HeaderValue::from_str) {
        id.set_sensitive(true);
        headers.insert(SESSION_HEADER, id);
    }
    headers
}

pub(super) fn bearer(token: SecretString) -> SecretString {
    format!("Bearer {}", token.expose_secret()).into()
}

/// Adds a stored header; it replaces one of the same name. Outer blanks are not part of a value on the wire.
pub(super) fn insert_header(headers: &mut HeaderMap, name: &str, value: &str) -> Result<()> {
    let unusable = || Error::internal("a stored header is invalid");
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable())?;
    let mut value =
        HeaderValue::from_str(value.trim_matches([' ', '\t'])).map_err(|_| unusable())?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

/// Adds a server's headers, unless a subject's override replaces them (TrueFoundry 6.2). Returns whether a required
/// override is missing.
pub(super) fn insert_server_headers(
    headers: &mut HeaderMap,
    level: AuthLevel,
    specs: &[HeaderSpec],
    secrets: &Secrets,
    own: Option<&OverrideValue>,
) -> Result<bool> {
    if level == AuthLevel::PerUser && own.is_none() {
        return Ok(true);
    }
    for spec in specs {
        let filled = spec.template.as_deref().map(|text| fill(text, own));
        match (filled, secrets.get(Place::Header(&spec.name))) {
            (Some(value), _) => insert_header(headers, &spec.name, value?.expose_secret())?,
            (None, Some(value)) => insert_header(headers, &spec.name, value)?,
            (None, None) => return Err(Error::internal("a header has no value")),
        }
    }
    if let (AuthLevel::Global, Some(own)) = (level, own) {
        let OverrideValue::Header(value) = own else {
            return Err(Error::internal(
                "an override does not match its server's authentication",
            ));
        };
        let name = match specs {
            [only] => only.name.as_str(),
            _ => AUTHORIZATION.as_str(),
        };
        insert_header(headers, name, value.expose_secret())?;
    }
    Ok(false)
}

/// A template with the override's value in the place of its parameter.
fn fill(template: &str, own: Option<&OverrideValue>) -> Result<SecretString> {
    let unfit = || Error::internal("an override does not match its server's authentication");
    let (before, name, after) = placeholder(template).ok_or_else(unfit)?;
    let value = match own.ok_or_else(unfit)? {
        OverrideValue::Header(value) => value,
        OverrideValue::KeyValue(values) => values.get(name).ok_or_else(unfit)?,
    };
    Ok(format!("{before}{}{after}", value.expose_secret()).into())
}
