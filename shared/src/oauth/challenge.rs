//! `WWW-Authenticate` (RFC 9110 11.6.1, RFC 6750 3, RFC 9728 5.1; MCP authorization rows 2, 3 and 17).

use super::words;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// What a `Bearer` challenge says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// The address of the server's resource metadata.
    pub resource_metadata: Option<String>,
    /// The scopes that the server asks for.
    pub scopes: Option<Vec<String>>,
    /// The error code, as the server wrote it.
    pub error: Option<String>,
}

/// The `Bearer` challenge of an answer: the first that names metadata, or else the first.
pub fn bearer(headers: &HeaderMap) -> Option<Challenge> {
    let mut found = Vec::new();
    for line in headers.get_all(WWW_AUTHENTICATE) {
        read(&String::from_utf8_lossy(line.as_bytes()), &mut found);
    }
    let best = found
        .iter()
        .position(|challenge| challenge.resource_metadata.is_some())
        .unwrap_or(0);
    found.into_iter().nth(best)
}

/// Adds the `Bearer` challenges of one header line. Commas separate challenges as well as parameters, so that only the
/// `=` behind a word tells a parameter from a scheme.
fn read(mut rest: &str, found: &mut Vec<Challenge>) {
    let mut in_bearer = false;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return;
        }
        let end = rest.find([' ', '\t', ',', '=', '"']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            rest = value(rest).1;
        } else if let Some(after) = after.trim_start_matches([' ', '\t']).strip_prefix('=') {
            let text;
            (text, rest) = value(after.trim_start_matches([' ', '\t']));
            if let Some(challenge) = found.last_mut().filter(|_| in_bearer) {
                set(challenge, word, text);
            }
        } else {
            in_bearer = word.eq_ignore_ascii_case("bearer");
            if in_bearer {
                found.push(Challenge::default());
            }
            rest = after;
        }
    }
}

/// A value, and the text after it. A quoted string may lack its closing quote. A value without quotes ends at a comma
/// or a space, so that URLs without quotes are read.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut plain = String::new();
    let mut chars = quoted.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' => break,
            '\\' => plain.extend(chars.next()),
            _ => plain.push(char),
        }
    }
    (plain, chars.as_str())
}

fn set(challenge: &mut Challenge, name: &str, text: String) {
    if name.eq_ignore_ascii_case("scope") {
        challenge.scopes = challenge.scopes.take().or_else(|| words(&text));
        return;
    }
    let field = if name.eq_ignore_ascii_case("resource_metadata") {
        &mut challenge.resource_metadata
    } else if name.eq_ignore_ascii_case("error") {
        &mut challenge.error
    } else {
        return;
    };
    if field.is_none() && !text.is_empty() {
        *field = Some(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    fn of(lines: &[&str]) -> Option<Challenge> {
        let lines = lines
            .iter()
            .map(|line| (WWW_AUTHENTICATE, HeaderValue::from_str(line).unwrap()));
        bearer(&lines.collect())
    }

    fn metadata(lines: &[&str]) -> Option<String> {
        of(lines)?.resource_metadata
    }

    #[test]
    fn reads_one_challenge() {
        let all = r#"Bearer error="insufficient_scope", scope="a  b", resource_metadata="https://h/m", realm="x""#;
        let challenge = Challenge {
            resource_metadata: Some("https://h/m".to_owned()),
            scopes: Some(vec!["a".to_owned(), "b".to_owned()]),
            error: Some("insufficient_scope".to_owned()),
        };
        assert_eq!(of(&[all]), Some(challenge));
        assert_eq!(of(&["Bearer"]), Some(Challenge::default()));
        assert_eq!(
            of(&[r#"Bearer scope="", error="""#]),
            Some(Challenge::default())
        );
        assert_eq!(of(&["Basic realm=x"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn finds_the_challenge_among_others() {
        let named = Some("https://h/m".to_owned());
        for lines in [
            &[
                r#"Basic realm="a, Bearer resource_metadata=no", bearer RESOURCE_METADATA="https://h/m""#,
            ][..],
            &[
                r#"Digest realm="x", nonce="\"", qop="auth,auth-int", BEARER resource_metadata = "https://h/m""#,
            ],
            &["Negotiate", "Bearer resource_metadata=https://h/m"],
            &["Negotiate YWJj/Zw+==, Bearer resource_metadata=https://h/m, x=y"],
            &["Bearer realm=x", "Bearer resource_metadata=\"https://h/m\""],
            &["Bearer realm=x, Bearer resource_metadata=\"https://h/m\""],
            &[
                r#", ,Bearer realm="x" resource_metadata="https://h/m", resource_metadata="https://other""#,
            ],
            &[r#"Bearer resource_metadata="https:\/\/h/m"#],
            &[r#"Bearer resource_metadata="https://h/m", Basic resource_metadata="https://basic""#],
        ] {
            assert_eq!(metadata(lines), named, "{lines:?}");
        }
        assert_eq!(
            metadata(&[
                r#"Bearer x="resource_metadata=\"https://no\"", Basic resource_metadata="https://no""#
            ]),
            None
        );
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in r#"([ ,="\\a/é]|Bearer |scope=|\PC){0,40}"#) {
            read(&text, &mut Vec::new());
        }

        #[test]
        fn a_quoted_value_comes_out_as_it_went_in(text in r#"[ -~]{1,30}"#) {
            let quoted = text.replace('\\', r"\\").replace('"', "\\\"");
            let line = format!(r#"Basic realm="{quoted}", Bearer error="{quoted}", resource_metadata="{quoted}""#);
            let challenge = of(&[&line]).unwrap();
            prop_assert_eq!(challenge.resource_metadata.as_deref(), Some(&*text));
            prop_assert_eq!(challenge.error.as_deref(), Some(&*text));
        }
    }
}
