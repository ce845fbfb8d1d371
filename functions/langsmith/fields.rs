//! Reads the fields of a body. Each field is checked against all its rules when it is read. Of several faults the
//! answer names the one that comes first in the order of checks: syntax, then missing fields, then values (LangSmith
//! 1.2).

use super::auth::{AuthType, Header, OauthMode, SentAuth};
use super::problem::Problem;
use crate::http::field;
use hawser_core::App;
use hawser_core::domain::header::is_token;
use hawser_core::domain::id::{is_plain_text, parse_hyphenated};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use url::Url;

const A_TEXT: &str = "a non-empty string";
const SCOPES_AT_MOST: usize = 100;
const TEXT_AT_MOST: usize = 255;
const URL_AT_MOST: usize = 2048;
const HEADERS_AT_MOST: usize = 32;
const HEADERS_BYTES_AT_MOST: usize = 65_536;
const KEY_AT_MOST: usize = 256;
const VALUE_AT_MOST: usize = 8192;
const REFUSED_HEADERS: [&str; 11] = [
    "host",
    "content-length",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// How an auth session may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Reuse a stored token if it is valid; otherwise begin a consent.
    Reuse,
    /// Begin a consent in any case.
    Create,
}

/// The object of a body, and the first fault in it so far. `null` counts as absent.
pub struct Fields {
    object: Map<String, Value>,
    refused: Option<Problem>,
}

impl Fields {
    /// Reads a whole body.
    ///
    /// # Errors
    /// [`Problem::InvalidBody`] when it is no JSON object.
    pub fn read(body: &[u8]) -> Result<Self, Problem> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(object)) => Ok(Self {
                object,
                refused: None,
            }),
            _ => Err(Problem::InvalidBody),
        }
    }

    /// The value, if no fault was found.
    ///
    /// # Errors
    /// The fault that comes first in the order of checks.
    pub fn into_result<T>(self, read: Option<T>) -> Result<T, Problem> {
        match self.refused {
            Some(problem) => Err(problem),
            None => read.ok_or(Problem::InvalidBody),
        }
    }

    /// Reads a body that may be empty.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_optional(body: &[u8]) -> Result<Self, Problem> {
        Self::read(if body.is_empty() { b"{}" } else { body })
    }

    /// Records the fault if a field is absent.
    pub fn required(&mut self, field: &str) {
        self.expect(field, A_TEXT);
    }

    fn expect(&mut self, field: &str, expected: &'static str) {
        if self.get(field).is_none() {
            self.note(lacks(field, expected));
        }
    }

    /// `name`, trimmed.
    pub fn name(&mut self) -> Option<String> {
        let name = self.filled("name")?.trim().to_owned();
        if is_plain_text(&name, TEXT_AT_MOST) {
            Some(name)
        } else {
            self.refuse(Problem::InvalidValue("name"))
        }
    }

    /// `url`, as it was sent. `http` is allowed on loopback if the server runs locally, and for private hosts where the
    /// operator allows it.
    pub fn url(&mut self, app: &App) -> Option<String> {
        self.url_in("url", app)
    }

    /// The same in another field.
    pub fn url_in(&mut self, field: &str, app: &App) -> Option<String> {
        let url = self.filled(field)?;
        let rule = url_rule(&url, app.allow_loopback_http, |url| {
            !is_local(url) && app.egress.takes_http(url)
        });
        match rule {
            Ok(()) => Some(url),
            Err(why) => self.refuse(Problem::InvalidUrl(why)),
        }
    }

    /// An id in a system of the caller's. An empty one counts as absent.
    pub fn foreign_id(&mut self, field: &'static str) -> Option<String> {
        let id = self.text(field).filter(|id| !id.is_empty())?;
        if id.chars().count() <= TEXT_AT_MOST {
            Some(id)
        } else {
            self.refuse(Problem::InvalidValue(field))
        }
    }

    /// `connection`: whether each user connects by OAuth. Without it nobody connects.
    pub fn connects_by_oauth(&mut self) -> bool {
        let Some(connection) = self.get("connection") else {
            return false;
        };
        let kind = connection.as_object().map(|fields| fields.get("type"));
        let problem = match kind {
            Some(Some(Value::String(kind))) => match kind.as_str() {
                "oauth" => return true,
                "none" | "public" => return false,
                _ => Problem::InvalidValue("connection.type"),
            },
            Some(None | Some(Value::Null)) => missing("connection.type"),
            Some(Some(_)) | None => Problem::InvalidBody,
        };
        self.note(problem);
        false
    }

    /// The four auth fields.
    pub fn auth(&mut self) -> SentAuth {
        SentAuth {
            headers: self.headers(),
            auth_type: self.parsed("auth_type", AuthType::parse),
            oauth_mode: self.parsed("oauth_mode", OauthMode::parse),
            oauth_provider_id: match self.object.get("oauth_provider_id") {
                Some(Value::Null) => Some(None),
                _ => self.parsed("oauth_provider_id", |text| parse_hyphenated(text).map(Some)),
            },
        }
    }

    /// The id of a user, a token or something else, of any form. An empty one counts as absent.
    pub fn id(&mut self, field: &str) -> Option<String> {
        self.text(field).filter(|id| !id.trim().is_empty())
    }

    /// `provider_id`, as it was sent.
    pub fn provider_id(&mut self) -> Option<String> {
        self.required("provider_id");
        self.filled("provider_id")
    }

    /// `scopes`: scope tokens of RFC 6749, without duplicates.
    pub fn scopes(&mut self) -> Option<Vec<String>> {
        self.expect("scopes", "an array of strings");
        let Value::Array(items) = self.get("scopes")?.clone() else {
            return self.refuse(Problem::InvalidBody);
        };
        let mut scopes: Vec<String> = Vec::new();
        for item in &items {
            match item.as_str() {
                Some(scope) if scopes.iter().any(|known| known == scope) => {}
                Some(scope) => scopes.push(scope.to_owned()),
                None => return self.refuse(Problem::InvalidBody),
            }
        }
        if items.len() <= SCOPES_AT_MOST && scopes.iter().all(|scope| is_scope(scope)) {
            Some(scopes)
        } else {
            self.refuse(Problem::InvalidValue("scopes"))
        }
    }

    /// `strategy`.
    pub fn strategy(&mut self) -> Option<Strategy> {
        const EXPECTED: &str = "'REUSE' or 'CREATE'";
        self.expect("strategy", EXPECTED);
        let text = self.text("strategy")?;
        match text.as_str() {
            "REUSE" => Some(Strategy::Reuse),
            "CREATE" => Some(Strategy::Create),
            blank if blank.trim().is_empty() => self.refuse(lacks("strategy", EXPECTED)),
            _ => self.refuse(Problem::InvalidValue("strategy")),
        }
    }

    /// A boolean field that is accepted without effect.
    pub fn flag(&mut self, field: &str) {
        if self.get(field).is_some_and(|value| !value.is_boolean()) {
            self.note(Problem::InvalidBody);
        }
    }

    fn headers(&mut self) -> Option<Vec<Header>> {
        let Value::Array(items) = self.get("headers")?.clone() else {
            return self.refuse(Problem::InvalidBody);
        };
        let mut headers = Vec::new();
        for (i, item) in items.into_iter().enumerate() {
            let Value::Object(object) = item else {
                return self.refuse(Problem::InvalidBody);
            };
            let mut fields = Self {
                object,
                refused: None,
            };
            let key = fields.text("key").unwrap_or_default();
            let value = fields.text("value");
            if let Some(problem) = fields.refused {
                self.note(problem);
            }
            if key.trim().is_empty() {
                self.note(missing(&format!("headers[{i}].key")));
            }
            match value {
                Some(value) => headers.push(Header { key, value }),
                None => {
                    self.note(Problem::FieldMissing {
                        field: format!("headers[{i}].value"),
                        expected: "a string",
                    });
                }
            }
        }
        match headers_rule(&headers) {
            Ok(()) => Some(headers),
            Err((i, why)) => self.refuse(Problem::InvalidHeader(i, why)),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        field(&self.object, name)
    }

    fn text(&mut self, field: &str) -> Option<String> {
        match self.get(field)? {
            Value::String(text) => Some(text.clone()),
            _ => self.refuse(Problem::InvalidBody),
        }
    }

    /// A text that must not be empty if it is sent.
    fn filled(&mut self, field: &str) -> Option<String> {
        let text = self.text(field)?;
        if text.trim().is_empty() {
            self.refuse(missing(field))
        } else {
            Some(text)
        }
    }

    fn parsed<T>(&mut self, field: &'static str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.text(field)?;
        match parse(&text) {
            Some(value) => Some(value),
            None => self.refuse(Problem::InvalidValue(field)),
        }
    }

    /// Records the fault of a field, which then has no value.
    fn refuse<T>(&mut self, problem: Problem) -> Option<T> {
        self.note(problem);
        None
    }

    /// Records a fault, unless an earlier one comes first in the order of checks.
    fn note(&mut self, problem: Problem) {
        let stage = |problem: &Problem| match problem {
            Problem::InvalidBody => 0,
            Problem::FieldMissing { .. } => 1,
            _ => 2,
        };
        if self
            .refused
            .as_ref()
            .is_none_or(|noted| stage(&problem) < stage(noted))
        {
            self.refused = Some(problem);
        }
    }
}

fn missing(field: &str) -> Problem {
    lacks(field, A_TEXT)
}

fn lacks(field: &str, expected: &'static str) -> Problem {
    Problem::FieldMissing {
        field: field.to_owned(),
        expected,
    }
}

/// `scope-token` of RFC 6749 3.3.
fn is_scope(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
}

/// The rules for headers (LangSmith 1.5). The error has the index of the header.
fn headers_rule(headers: &[Header]) -> Result<(), (usize, &'static str)> {
    if headers.len() > HEADERS_AT_MOST {
        return Err((HEADERS_AT_MOST, "more than 32 headers"));
    }
    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    for (i, Header { key, value }) in headers.iter().enumerate() {
        let lower = key.to_ascii_lowercase();
        bytes += key.len() + value.len();
        let why = if !is_token(key) {
            "key is not a token"
        } else if REFUSED_HEADERS.contains(&lower.as_str()) {
            "key not allowed"
        } else if !seen.insert(lower) {
            "key repeated"
        } else if key.len() > KEY_AT_MOST
            || value.len() > VALUE_AT_MOST
            || bytes > HEADERS_BYTES_AT_MOST
        {
            "too long"
        } else if !value
            .bytes()
            .all(|b| b == b'\t' || (0x20..=0x7e).contains(&b))
        {
            "value has forbidden characters"
        } else {
            continue;
        };
        return Err((i, why));
    }
    Ok(())
}

/// The rules for URLs (LangSmith 6). They check the text as it was written: the parser corrects much that other clients
/// of the URL would read differently, such as a backslash for a slash, or `https:` without slashes.
fn url_rule(
    text: &str,
    loopback: bool,
    is_opened: impl Fn(&Url) -> bool,
) -> Result<(), &'static str> {
    const NO_URL: &str = "not a URL";
    if text.len() > URL_AT_MOST {
        return Err("too long");
    }
    if text
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || c == '\\')
    {
        return Err(NO_URL);
    }
    let url = Url::parse(text).map_err(|_| NO_URL)?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err("scheme not allowed");
    }
    let (_, rest) = text.split_once("://").ok_or(NO_URL)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = || loopback && is_loopback(&url, authority) || is_opened(&url);
    if url.scheme() == "http" && !plain() {
        Err("scheme not allowed")
    } else if authority.contains('@') {
        Err("user info not allowed")
    } else if authority.is_empty() {
        Err(NO_URL)
    } else if text.contains('#') {
        Err("fragment not allowed")
    } else {
        Ok(())
    }
}

/// Whether a URL names this machine in the usual spelling; `127.1` is not one.
fn is_loopback(url: &Url, authority: &str) -> bool {
    let written = url.host_str().and_then(|host| {
        let (start, port) = authority.split_at_checked(host.len())?;
        Some(start.eq_ignore_ascii_case(host) && (port.is_empty() || port.starts_with(':')))
    });
    let dotted = url.host_str().is_some_and(|host| host.ends_with('.'));
    is_local(url) && !dotted && written == Some(true)
}

fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name.trim_end_matches('.') == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_judged_as_it_is_written() {
        for text in [
            "https://mcp.example.com",
            "https://mcp.example.com/mcp/",
            "HTTPS://MCP.Example.com:443/a?b=c&d",
            "https://127.0.0.1:18443/mcp",
            "https://[::1]/",
            "https://localhost",
        ] {
            assert_eq!(url_rule(text, false, |_| false), Ok(()), "{text}");
        }
        for (text, why) in [
            ("mcp.example.com/mcp", "not a URL"),
            ("/mcp", "not a URL"),
            ("https://", "not a URL"),
            ("https://:443/", "not a URL"),
            ("https:mcp.example.com", "not a URL"),
            ("https:/mcp.example.com/", "not a URL"),
            ("https:///mcp.example.com/", "not a URL"),
            ("https:\\\\mcp.example.com", "not a URL"),
            ("https://mcp.example.com:99999/", "not a URL"),
            (" https://mcp.example.com", "not a URL"),
            ("https://mcp.example.com/a b", "not a URL"),
            ("https://mcp.example.com/\u{7f}", "not a URL"),
            ("https://mcp.example.com/\u{a0}", "not a URL"),
            ("ftp://mcp.example.com", "scheme not allowed"),
            ("http://mcp.example.com", "scheme not allowed"),
            ("http://localhost:9001/mcp", "scheme not allowed"),
            ("https://ada@mcp.example.com", "user info not allowed"),
            ("https://@mcp.example.com", "user info not allowed"),
            ("https://:pw@mcp.example.com", "user info not allowed"),
            ("https://mcp.example.com/#", "fragment not allowed"),
            ("https://mcp.example.com#a", "fragment not allowed"),
        ] {
            assert_eq!(url_rule(text, false, |_| false), Err(why), "{text}");
        }
        let long = |bytes| format!("https://h/{}", "a".repeat(bytes - "https://h/".len()));
        assert_eq!(url_rule(&long(2048), false, |_| false), Ok(()));
        assert_eq!(url_rule(&long(2049), false, |_| false), Err("too long"));
    }

    #[test]
    fn the_switch_allows_http_on_loopback_as_written_and_nothing_else() {
        for text in [
            "http://localhost",
            "http://localhost:9001/mcp",
            "http://127.0.0.1:9001/mcp",
            "http://127.8.9.1/",
            "http://[::1]:9001/mcp",
        ] {
            assert_eq!(url_rule(text, true, |_| false), Ok(()), "{text}");
        }
        for text in [
            "http://mcp.example.com",
            "http://localhost.example.com",
            "http://localhost./",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0.0.0.0/",
            "http://10.0.0.1/",
            "http://[0:0:0:0:0:0:0:1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://localhost@mcp.example.com/",
            "http://127.0.0.1:80@mcp.example.com/",
        ] {
            assert_eq!(
                url_rule(text, true, |_| false),
                Err("scheme not allowed"),
                "{text}"
            );
        }
        assert_eq!(
            url_rule("http://localhost/#a", true, |_| false),
            Err("fragment not allowed")
        );
    }
}
