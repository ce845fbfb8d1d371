//! Applications: the OAuth clients that people let act for them at this deployment, such as an editor or an assistant
//! (Inbound 2). Not to be confused with the clients that Hawser itself is at other issuers.

use super::id::hash;
use super::subject::Subject;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use url::{Host, Url};

/// The scope that an application is given: calls to MCP servers, as far as whoever signed in may make them.
pub const SCOPE: &str = "mcp";
/// The scope of an application that may do here all else that whoever signed in may do: register and delete servers, store and
/// remove credentials, end logins. It is given to those that ask for it by name, for the whole deployment.
pub const MANAGE: &str = "manage";
/// What an application may ask for besides, as OpenID Connect calls it. Refresh tokens are given in any case.
pub const OFFLINE_ACCESS: &str = "offline_access";
/// The longest redirect URI, in bytes.
const REDIRECT_LIMIT: usize = 2048;
/// Private-use URI schemes of known editors and assistants that are no reversed domain name, as RFC 8252 7.1 wants it.
/// Other schemes of that form are refused: the system could open pages or programs by them.
const KNOWN_SCHEMES: [&str; 12] = [
    "claude",
    "cline",
    "cursor",
    "goose",
    "lmstudio",
    "raycast",
    "vscode",
    "vscode-insiders",
    "vscodium",
    "warp",
    "windsurf",
    "zed",
];

/// An application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// The application's `client_id`.
    pub client_id: String,
    /// The name that the application gives itself. Nobody has checked it.
    pub name: Option<String>,
    /// Where a browser may be sent with a code.
    pub redirect_uris: Vec<String>,
    /// How it authenticates at the token endpoint.
    pub auth: ApplicationAuth,
    /// How Hawser knows the application.
    pub source: ApplicationSource,
}

/// How an application authenticates at the token endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApplicationAuth {
    /// Not at all: a public client, whose codes are bound to it by PKCE alone.
    #[default]
    #[serde(rename = "none")]
    None,
    /// With its secret as HTTP Basic.
    #[serde(rename = "client_secret_basic")]
    Basic,
    /// With its secret in the form.
    #[serde(rename = "client_secret_post")]
    Post,
}

impl ApplicationAuth {
    /// All methods, by their names in metadata.
    pub const NAMES: [&str; 3] = ["none", "client_secret_basic", "client_secret_post"];

    /// The method's name in metadata.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic => "client_secret_basic",
            Self::Post => "client_secret_post",
        }
    }

    /// Reads one of [`Self::NAMES`].
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::None, Self::Basic, Self::Post];
        all.into_iter().find(|one| one.as_str() == name)
    }
}

/// How Hawser knows an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplicationSource {
    /// The application has registered itself (RFC 7591). No other application has its id.
    Registered,
    /// The application's id is the address of its metadata document.
    MetadataDocument,
    /// The operator lists the application.
    Listed,
}

impl Application {
    /// Whether a browser may be sent to this address with a code: it is one of the redirect URIs to the letter, except
    /// for the port of one on loopback (RFC 8252 7.3).
    pub fn redirects_to(&self, uri: &str) -> bool {
        self.redirect_uris
            .iter()
            .any(|registered| is_same_redirect(registered, uri))
    }

    /// Whether the application at the redirect URI can be told apart from others. Any program on the machine may listen
    /// on loopback or take a private-use scheme; there only an id that nobody else knows identifies the application
    /// (RFC 8252 8.6).
    pub fn is_recognised_at(&self, redirect_uri: &str) -> bool {
        self.source == ApplicationSource::Registered || redirect_uri.starts_with("https://")
    }
}

/// How many applications are remembered for each subject.
const REMEMBERED: usize = 50;
/// How many redirect URIs, and how many resources, are remembered for each application.
const REMEMBERED_PARTS: usize = 50;

/// What a subject has allowed its applications to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Remembered {
    /// The subject.
    #[serde(flatten)]
    pub subject: Subject,
    /// Replaced at every write.
    pub version: String,
    /// The subject's count of offboardings at the last write. At another count nothing here is valid.
    pub offboardings: u64,
    /// What each application may do, by the SHA-256 of its `client_id`.
    pub applications: BTreeMap<String, RememberedApplication>,
}

/// What a subject has allowed one application to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RememberedApplication {
    /// Redirect URIs that a code may be sent to.
    pub redirect_uris: BTreeSet<String>,
    /// Resources (RFC 8707) that the application may call.
    pub resources: BTreeSet<String>,
    /// Scopes that were allowed.
    pub scopes: BTreeSet<String>,
    /// When the subject last allowed something to the application.
    pub at: Timestamp,
}

/// What an application asks a subject for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The application.
    pub application: &'a Application,
    /// The redirect URI that it asks to be answered at.
    pub redirect_uri: &'a str,
    /// The resources (RFC 8707) that it asks to call.
    pub resources: &'a [String],
    /// The scopes that it asks for.
    pub scopes: &'a BTreeSet<String>,
}

impl Remembered {
    /// A record of a subject that has allowed nothing.
    pub const fn nothing(subject: Subject, offboardings: u64) -> Self {
        Self {
            subject,
            version: String::new(),
            offboardings,
            applications: BTreeMap::new(),
        }
    }

    /// Whether all of this was allowed before. `false` where another program than the allowed one could get the code.
    pub fn covers(&self, wanted: Wanted<'_>) -> bool {
        let Wanted {
            application,
            redirect_uri,
            resources,
            scopes,
        } = wanted;
        let allowed = self.applications.get(&hash(&application.client_id));
        allowed.is_some_and(|allowed| {
            let mut redirects = allowed.redirect_uris.iter();
            redirects.any(|uri| is_same_redirect(uri, redirect_uri))
                && resources.iter().all(|one| allowed.resources.contains(one))
                && scopes.is_subset(&allowed.scopes)
        }) && application.is_recognised_at(redirect_uri)
    }

    /// Forgets an application. Returns whether it was remembered.
    pub fn remove(&mut self, client_id: &str) -> bool {
        self.applications.remove(&hash(client_id)).is_some()
    }

    /// Adds what was allowed just now. The applications that were allowed longest ago are forgotten beyond the limit.
    pub fn add(&mut self, wanted: Wanted<'_>, now: Timestamp) {
        let key = hash(&wanted.application.client_id);
        let allowed = self.applications.entry(key);
        let allowed = allowed.or_insert_with(|| RememberedApplication {
            redirect_uris: BTreeSet::new(),
            resources: BTreeSet::new(),
            scopes: BTreeSet::new(),
            at: now,
        });
        allowed.at = now;
        let redirects = &mut allowed.redirect_uris;
        redirects.retain(|uri| !is_same_redirect(uri, wanted.redirect_uri));
        for (set, more) in [
            (
                redirects,
                std::slice::from_ref(&wanted.redirect_uri.to_owned()),
            ),
            (&mut allowed.resources, wanted.resources),
        ] {
            if set.len() + more.len() > REMEMBERED_PARTS {
                set.clear();
            }
            set.extend(more.iter().cloned());
        }
        allowed.scopes.extend(wanted.scopes.iter().cloned());
        while self.applications.len() > REMEMBERED {
            let oldest = self.applications.iter().min_by_key(|(_, one)| one.at);
            let oldest = oldest.map(|(key, _)| key.clone());
            self.applications.remove(&oldest.unwrap_or_default());
        }
    }
}

/// How many redirect URIs an application may have.
const REDIRECTS_LIMIT: usize = 10;

/// Whether an application may have these redirect URIs: one to ten, each of them usable.
pub fn are_usable_redirects(uris: &[String]) -> bool {
    (1..=REDIRECTS_LIMIT).contains(&uris.len()) && uris.iter().all(|uri| is_usable_redirect(uri))
}

/// Whether a redirect URI may be registered: https, http on loopback, or the private-use scheme of an installed
/// application (RFC 8252 7), which is a reversed domain name or a known one. It must be printable ASCII without user
/// information and fragment.
pub fn is_usable_redirect(uri: &str) -> bool {
    let is_plain = uri.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    let Ok(url) = Url::parse(uri) else {
        return false;
    };
    if uri.len() > REDIRECT_LIMIT || !is_plain || uri.contains('#') {
        return false;
    }
    match url.scheme() {
        // Other spellings are refused: a parser would correct them, and the browser would go elsewhere than a person
        // reads.
        "https" => {
            let host = uri.strip_prefix("https://");
            host.is_some_and(|rest| !rest.starts_with('/')) && has_no_user(uri)
        }
        "http" => loopback(uri).is_some(),
        scheme => {
            let is_private_use = scheme.contains('.') || KNOWN_SCHEMES.contains(&scheme);
            is_private_use && has_no_user(uri)
        }
    }
}

/// Whether an address has no user information, which hides the host from whoever reads it.
fn has_no_user(uri: &str) -> bool {
    let (_, rest) = uri.split_once("//").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    !authority.contains('@')
}

/// Whether two redirect URIs are the same to the letter, except for the port where both are http on one loopback host.
pub fn is_same_redirect(registered: &str, uri: &str) -> bool {
    registered == uri
        || loopback(registered)
            .zip(loopback(uri))
            .is_some_and(|(one, other)| one == other)
}

/// Host and rest of an http address on loopback, without the port between them. The text is not parsed, because a
/// parser would make different spellings equal.
fn loopback(uri: &str) -> Option<(&str, &str)> {
    let rest = uri.strip_prefix("http://")?;
    let host = ["127.0.0.1", "[::1]", "localhost"]
        .into_iter()
        .find(|host| rest.starts_with(host))?;
    let (host, rest) = rest.split_at(host.len());
    let rest = match rest.strip_prefix(':') {
        None => rest,
        Some(port) => {
            let end = port.find(|c: char| !c.is_ascii_digit());
            let (port, rest) = port.split_at(end.unwrap_or(port.len()));
            port.parse::<u16>().ok()?;
            rest
        }
    };
    (rest.is_empty() || rest.starts_with(['/', '?'])).then_some((host, rest))
}

/// Whether a redirect URI leads to a program on the machine of the browser.
pub fn is_on_this_machine(uri: &str) -> bool {
    Url::parse(uri).is_ok_and(|url| url.scheme() != "https")
}

/// Where a redirect URI leads, for people: its host, with the port unless it is the default, or its scheme.
pub fn place_of_redirect(uri: &str) -> String {
    let Ok(url) = Url::parse(uri) else {
        return uri.to_owned();
    };
    match (url.scheme(), url.host()) {
        ("https" | "http", Some(host)) => match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        },
        (scheme, _) => format!("{scheme}:"),
    }
}

/// Whether a client id may be the address of a client id metadata document: https with a path, no user information, no
/// fragment and no dot segments (draft-ietf-oauth-client-id-metadata-document; Inbound 2.7). `loopback_http` also
/// allows http on loopback.
pub fn is_document_address(client_id: &str, loopback_http: bool) -> bool {
    let Ok(url) = Url::parse(client_id) else {
        return false;
    };
    let is_local = matches!(url.host(), Some(Host::Ipv4(ip)) if ip.is_loopback());
    let has_scheme = match url.scheme() {
        "https" => true,
        "http" => loopback_http && is_local,
        _ => false,
    };
    // The parsed form is compared with the text: the parser removes dot segments, user information and odd spellings.
    has_scheme
        && url.as_str() == client_id
        && url.path() != "/"
        && has_no_user(client_id)
        && url.fragment().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirect_uris_are_the_same_to_the_letter_but_for_a_loopback_port() {
        for (registered, uri, same) in [
            ("https://a.example/cb", "https://a.example/cb", true),
            ("https://a.example/cb", "https://a.example/cb/", false),
            ("https://a.example/cb", "https://a.example/cb?x", false),
            ("https://a.example/cb", "https://a.example/CB", false),
            ("https://a.example/cb", "https://A.example/cb", false),
            ("https://a.example/cb", "https://a.example:443/cb", false),
            ("https://a.example/cb", "https://a.example:8443/cb", false),
            ("https://a.example/cb", "https://a.example.evil/cb", false),
            ("https://a.example/cb", "https://a.example@evil/cb", false),
            ("https://a.example/cb", "https://a.example/cb/../x", false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:5/cb", true),
            ("http://127.0.0.1:1/cb", "http://127.0.0.1:65535/cb", true),
            ("http://[::1]:1/cb", "http://[::1]:2/cb", true),
            ("http://localhost:1", "http://localhost:2", true),
            ("http://localhost/cb", "http://127.0.0.1/cb", false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:70000/cb", false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:5/cb2", false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:5@evil/cb", false),
            ("http://127.0.0.1/cb", "http://127.0.0.1.evil/cb", false),
            ("http://127.0.0.1/cb", "http://127.0.0.1:@evil/cb", false),
            ("http://127.0.0.1/cb", "https://127.0.0.1:5/cb", false),
            ("http://127.0.0.1/cb", "http://127.0.0.10/cb", false),
            ("cursor://a/cb", "cursor://a:5/cb", false),
        ] {
            assert_eq!(
                is_same_redirect(registered, uri),
                same,
                "{registered} {uri}"
            );
        }
    }

    #[test]
    fn which_redirect_uris_may_be_registered() {
        for (uri, usable) in [
            ("https://a.example/cb", true),
            ("https://a.example", true),
            ("http://127.0.0.1:1/cb", true),
            ("http://[::1]/", true),
            ("http://localhost:3334/oauth/callback", true),
            ("cursor://anysphere.cursor/oauth/callback", true),
            ("com.example.app:/cb", true),
            ("http://a.example/cb", false),
            ("http://127.0.0.1.evil/cb", false),
            ("http://127.0.0.1@evil/cb", false),
            ("https://user@a.example/cb", false),
            ("https://a.example/cb#f", false),
            ("https://a.example/c b", false),
            ("https://a.example\\@evil/", false),
            ("HTTPS://127.0.0.1.evil.example/cb", false),
            ("https:/u@evil.example/cb", false),
            ("https:///u@evil.example/cb", false),
            ("https:evil.example/cb", false),
            ("microsoft-edge:https://evil.example/cb", false),
            ("ms-appinstaller:?source=https://evil.example", false),
            ("googlechrome://evil.example", false),
            ("vscode://vscode.github-authentication/cb", true),
            ("javascript:alert(1)", false),
            ("JavaScript:alert(1)", false),
            ("data:text/html,x", false),
            ("file:///etc/passwd", false),
            ("/relative", false),
            ("", false),
        ] {
            assert_eq!(is_usable_redirect(uri), usable, "{uri}");
        }
    }

    #[test]
    fn which_addresses_are_client_ids() {
        for (id, is) in [
            ("https://a.example/client.json", true),
            ("https://a.example/oauth/client?v=1", true),
            ("https://a.example/", false),
            ("https://a.example", false),
            ("http://a.example/client.json", false),
            ("https://a.example/x/../client.json", false),
            ("https://u@a.example/client.json", false),
            ("https://A.example/client.json", false),
            ("https://a.example/client.json#f", false),
            ("client", false),
        ] {
            assert_eq!(is_document_address(id, false), is, "{id}");
        }
        assert!(is_document_address("http://127.0.0.1:1/c", true));
        assert!(!is_document_address("http://a.example/c", true));
    }
}
