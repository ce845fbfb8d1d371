//! Binds requests to a browser: cookies, and the headers that say from which site a request comes.

use crate::http::{Request, header};
use hawser_core::App;
use hawser_core::domain::time::CONSENT_LIFETIME;
use url::Url;

/// The name of the cookie with this id. Where our base is https, the prefix `__Host-` keeps other hosts from setting it.
fn cookie_name(base: &str, id: &str) -> String {
    let prefix = if base.starts_with("https://") {
        "__Host-"
    } else {
        ""
    };
    format!("{prefix}hawser-{id}")
}

/// The header that sets a cookie for ten minutes.
pub fn set_cookie(base: &str, id: &str, value: &str) -> String {
    cookie(base, id, value, CONSENT_LIFETIME)
}

/// The header that removes the cookie.
pub fn unset_cookie(base: &str, id: &str) -> String {
    cookie(base, id, "", 0)
}

fn cookie(base: &str, id: &str, value: &str, seconds: i64) -> String {
    let secure = if base.starts_with("https://") {
        "; Secure"
    } else {
        ""
    };
    let name = cookie_name(base, id);
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}")
}

/// Whether the browser has sent a cookie with this id, whatever the base.
pub fn has_cookie(request: &Request, id: &str) -> bool {
    ["https://", "http://"]
        .iter()
        .any(|base| cookie_of(request, base, id).is_some())
}

/// The value of the cookie that [`set_cookie`] has set under this id.
pub fn cookie_of(request: &Request, base: &str, id: &str) -> Option<String> {
    cookie_named(request, &cookie_name(base, id))
}

fn cookie_named(request: &Request, name: &str) -> Option<String> {
    header(request, "cookie")?.split(';').find_map(|pair| {
        let (n, value) = pair.trim().split_once('=')?;
        (n == name).then(|| value.to_owned())
    })
}

/// Whether the headers of a request say that it comes from another site than ours. Without these headers only cookie and token
/// decide.
pub fn is_cross_site(app: &App, request: &Request, base: &str) -> bool {
    let origin_of = |url: &str| Url::parse(url).map(|url| url.origin());
    let is_ours = |sent: &str| {
        let ours = app.public_urls.iter().map(String::as_str).chain([base]);
        origin_of(sent).is_ok_and(|sent| {
            sent.is_tuple()
                && ours
                    .into_iter()
                    .any(|own| origin_of(own).as_ref() == Ok(&sent))
        })
    };
    header(request, "sec-fetch-site").is_some_and(|site| site != "same-origin")
        || header(request, "origin").is_some_and(|origin| !is_ours(&origin))
}
