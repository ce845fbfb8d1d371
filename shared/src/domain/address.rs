//! The address of a server as it may be shown and stored. The values in its query are secrets, because many servers
//! take an API key there, so the whole address is sealed.

use std::borrow::Cow;
use url::Url;

/// Stands in answers for a secret value. In requests it means "keep the stored value".
pub const REDACTED: &str = "<REDACTED>";
/// [`REDACTED`] percent-encoded by a URL parser, in lower case.
const REDACTED_ENCODED: &str = "%3credacted%3e";

/// Why a redacted value of an address cannot be replaced by a stored one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// No value is stored that the redacted one could stand for.
    Unknown,
    /// The value contains [`REDACTED`] beside other text.
    Partial,
}

/// An address with each value of its query replaced by [`REDACTED`]. A query part without a name is a value.
pub fn redacted(url: &str) -> String {
    let shown = with_values(url, |_, _| Ok::<_, Unresolved>(Cow::Borrowed(REDACTED)));
    shown.unwrap_or_else(|_| without_query(url).to_owned())
}

/// Whether an address has values that [`redacted`] replaces.
pub fn has_values(url: &str) -> bool {
    redacted(url) != url
}

/// An address without its query and its fragment, for others to see: as a resource indicator (RFC 8707 2) or in a log.
pub fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// An address with each redacted value replaced by the stored value of the same name. Several values of one name are
/// matched in order. Stored values are used for the same origin only; otherwise an edit could send a secret, which its
/// author cannot read, to another host.
///
/// # Errors
/// [`Unresolved`] when a redacted value cannot be replaced.
pub fn restored(url: &str, stored: Option<&str>) -> Result<String, Unresolved> {
    let stored = stored.filter(|stored| origin(stored) == origin(url));
    let mut known: Vec<(&str, &str)> = stored.map(values).unwrap_or_default();
    with_values(url, |name, value| {
        let of_name = known.iter().position(|(other, _)| *other == name);
        let old = of_name.map(|at| known.remove(at).1);
        if is_redacted(value) {
            old.map(Cow::Borrowed).ok_or(Unresolved::Unknown)
        } else if holds_mark(value) {
            Err(Unresolved::Partial)
        } else {
            Ok(Cow::Borrowed(value))
        }
    })
}

fn is_redacted(value: &str) -> bool {
    value == REDACTED || value.eq_ignore_ascii_case(REDACTED_ENCODED)
}

fn holds_mark(value: &str) -> bool {
    value.contains(REDACTED) || value.to_ascii_lowercase().contains(REDACTED_ENCODED)
}

/// An address as the part before its query, the query, and the fragment; `None` if it has no query.
fn parts(url: &str) -> Option<(&str, &str, &str)> {
    let end = url.find('#').unwrap_or(url.len());
    let (address, fragment) = url.split_at(end);
    let (before, query) = address.split_once('?')?;
    Some((before, query, fragment))
}

/// The name and the value of one query part. A part with `=` only at its end is a value: it may be Base64.
fn pair(part: &str) -> (&str, &str) {
    let text = part.trim_end_matches('=');
    if text.is_empty() {
        return (part, "");
    }
    let pair = part.split_once('=').filter(|_| text.contains('='));
    pair.unwrap_or(("", part))
}

/// The values of a query that are not empty, with their names.
fn values(url: &str) -> Vec<(&str, &str)> {
    let query = parts(url).map_or("", |(_, query, _)| query);
    let pairs = query.split('&').map(pair);
    pairs.filter(|(_, value)| !value.is_empty()).collect()
}

fn with_values<'a>(
    url: &'a str,
    mut replaced: impl FnMut(&'a str, &'a str) -> Result<Cow<'a, str>, Unresolved>,
) -> Result<String, Unresolved> {
    let Some((before, query, fragment)) = parts(url) else {
        return Ok(url.to_owned());
    };
    let mut address = format!("{before}?");
    for (i, part) in query.split('&').enumerate() {
        let (name, value) = pair(part);
        if i > 0 {
            address.push('&');
        }
        address.push_str(part.strip_suffix(value).unwrap_or_default());
        if !value.is_empty() {
            address.push_str(&replaced(name, value)?);
        }
    }
    address.push_str(fragment);
    Ok(address)
}

/// Scheme, host and port of a URL; of one that does not parse, the text itself.
pub fn origin(url: &str) -> String {
    Url::parse(url).map_or_else(|_| url.to_owned(), |u| u.origin().ascii_serialization())
}

/// The host of a URL, for logs and receipts; empty if it has none.
pub fn host(url: &str) -> String {
    Url::parse(url)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_replaced_and_nothing_else() {
        for (url, shown) in [
            ("https://h/p", "https://h/p"),
            ("https://h/p?", "https://h/p?"),
            ("https://h/p?a=", "https://h/p?<REDACTED>"),
            ("https://h/p?c2VjcmV0==&=", "https://h/p?<REDACTED>&="),
            ("https://h/p?a=s", "https://h/p?a=<REDACTED>"),
            (
                "https://h?a=s=t&b&&c=",
                "https://h?a=<REDACTED>&<REDACTED>&&<REDACTED>",
            ),
            ("https://h/?s3cret", "https://h/?<REDACTED>"),
            ("https://h/?=s", "https://h/?=<REDACTED>"),
            ("https://h/?a=b?c=d", "https://h/?a=<REDACTED>"),
            ("https://h/?k=v#f?x=y", "https://h/?k=<REDACTED>#f?x=y"),
        ] {
            assert_eq!(redacted(url), shown, "{url}");
            assert_eq!(redacted(shown), shown, "again");
            assert_eq!(has_values(url), url != shown && !url.contains(REDACTED));
        }
        assert_eq!(without_query("https://h/p?a=s#f"), "https://h/p");
    }

    #[test]
    fn redacted_values_keep_what_is_stored_at_the_same_place_of_the_same_origin() {
        let stored = "https://h/p?a=1&k=2&a=3&bare&e=";
        for (sent, whole) in [
            (
                "https://h/p?a=<REDACTED>&k=<REDACTED>&a=<REDACTED>&<REDACTED>&e=",
                stored,
            ),
            ("https://h/p?k=%3CREDACTED%3E", "https://h/p?k=2"),
            (
                "https://H:443/q?k=%3credacted%3e&a=new",
                "https://H:443/q?k=2&a=new",
            ),
            ("https://h/p?a=x&a=<REDACTED>", "https://h/p?a=x&a=3"),
            ("https://h/p?<REDACTED>", "https://h/p?bare"),
            ("https://other/p?a=plain", "https://other/p?a=plain"),
        ] {
            assert_eq!(restored(sent, Some(stored)).as_deref(), Ok(whole), "{sent}");
        }
        for (sent, why) in [
            ("https://h/p?b=<REDACTED>", Unresolved::Unknown),
            ("https://h/p?k=<REDACTED>&k=<REDACTED>", Unresolved::Unknown),
            ("https://h/p?e=<REDACTED>", Unresolved::Unknown),
            ("https://other/p?k=<REDACTED>", Unresolved::Unknown),
            ("http://h/p?k=<REDACTED>", Unresolved::Unknown),
            ("https://h:8443/p?k=<REDACTED>", Unresolved::Unknown),
            ("https://h/p?k=a<REDACTED>", Unresolved::Partial),
            ("https://h/p?k=%3cREDACTED%3Eb", Unresolved::Partial),
        ] {
            assert_eq!(restored(sent, Some(stored)), Err(why), "{sent}");
        }
        let none = restored("https://h/p?k=<REDACTED>", None);
        assert_eq!(none, Err(Unresolved::Unknown));
    }

    proptest! {
        #[test]
        fn what_is_shown_leads_back_to_what_is_stored(query in "[a-c=&%2?]{0,20}") {
            let url = format!("https://h/p?{query}");
            prop_assert_eq!(restored(&redacted(&url), Some(&url)), Ok(url));
        }
    }
}
