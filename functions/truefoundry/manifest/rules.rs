//! The rules for single values of a manifest (TrueFoundry 5). Each says what is wrong with a value.

use super::super::reader::length;
use hawser_core::domain::address::{self, Unresolved};
use hawser_core::domain::server::{AuthLevel, placeholder};
use url::{Host, Url};

const RESERVED_PARAMETER: &str = "mcpProxyBaseURL";

/// The rule for server names.
///
/// # Errors
/// What is wrong with this one.
pub fn name_rule(name: &str) -> Result<(), &'static str> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    let fits = (3..=73).contains(&bytes.len())
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.last().is_some_and(|b| inner(*b))
        && bytes.iter().all(|b| inner(*b) || *b == b'-');
    if fits {
        Ok(())
    } else {
        Err(
            "must have 3 to 73 small letters, digits and hyphens, beginning with a letter and not ending with a hyphen, such as \
             my-server; what people are to read goes into display_name",
        )
    }
}

pub(super) fn url_rule(text: &str) -> Result<(), &'static str> {
    let scheme = text.starts_with("http://") || text.starts_with("https://");
    if !scheme || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("must match ^https?://[^\\s]+$");
    }
    if address::restored(text, None) == Err(Unresolved::Partial) {
        return Err("must not contain the redaction marker within a value");
    }
    plain_url(text).map(|_| ())
}

fn plain_url(text: &str) -> Result<Url, &'static str> {
    if text.len() > 2048 {
        return Err("is too long");
    }
    let url = Url::parse(text).map_err(|_| "is not a URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold user information");
    }
    if text.contains('#') {
        Err("must not hold a fragment")
    } else {
        Ok(url)
    }
}

/// The rule for https URLs; with `loopback` they may be http there.
///
/// # Errors
/// What is wrong.
pub fn https_url_rule(loopback: bool) -> impl Fn(&str) -> Result<(), &'static str> {
    move |text| {
        url_rule(text)?;
        let url = plain_url(text)?;
        let is_loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if url.scheme() == "https" || (loopback && is_loopback) {
            Ok(())
        } else {
            Err("must be an https URL")
        }
    }
}

/// The rule for header values.
///
/// # Errors
/// What is wrong with this one.
pub fn header_value_rule(value: &str) -> Result<(), &'static str> {
    length(8192)(value)?;
    let printable = value.bytes().all(|b| (0x20..=0x7e).contains(&b));
    if printable && !value.starts_with(' ') && !value.ends_with(' ') {
        Ok(())
    } else {
        Err("must be printable ASCII without outer spaces")
    }
}

/// The rule for header values that hold no placeholder.
pub(super) fn plain_header_rule(value: &str) -> Result<(), &'static str> {
    header_value_rule(value)?;
    if value.contains("{{") {
        Err("must not hold {{")
    } else {
        Ok(())
    }
}

/// The value as a template, if it holds a placeholder.
pub(super) fn header_template(
    value: &str,
    level: AuthLevel,
) -> Result<Option<String>, &'static str> {
    if !value.contains("{{") {
        return Ok(None);
    }
    if level == AuthLevel::Global {
        return Err("must not hold {{ when auth_level is global");
    }
    match placeholder(value) {
        Some((_, RESERVED_PARAMETER, _)) => Err("holds a reserved placeholder"),
        Some((_, _, after)) if !after.contains("{{") => Ok(Some(value.to_owned())),
        Some(_) => Err("must hold at most one placeholder"),
        None => Err("holds a malformed placeholder"),
    }
}

pub(super) fn tool_name_rule(name: &str) -> Result<(), &'static str> {
    let fits = (1..=128).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if fits {
        Ok(())
    } else {
        Err("must match ^[A-Za-z0-9_-]{1,128}$")
    }
}

pub(super) fn collaborator_rule(subject: &str) -> Result<(), &'static str> {
    let known = ["user", "team", "virtualaccount", "serviceaccount"];
    match subject.split_once(':') {
        Some((kind, name)) if known.contains(&kind) && !name.is_empty() => Ok(()),
        _ => Err("must be user:, team:, virtualaccount: or serviceaccount: and a name"),
    }
}
