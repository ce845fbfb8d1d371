//! Pages for people: what a browser shows when a consent is over. Complete without script; nothing is loaded from anywhere.

use crate::http::{Response, empty, with_header};
use data_encoding::BASE64URL_NOPAD;
use hawser_core::Result;
use hawser_core::domain::id::random;
use lambda_http::Body;

const STYLE: &str = "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:18vh auto 0;\
    padding:0 1.5rem 1.5rem;overflow-wrap:anywhere;color-scheme:light dark;color:#1c2430;background:#fff}\
    h1{font-size:1.5rem;margin:0 0 .5rem}\
    @media(prefers-color-scheme:dark){body{color:#e6e9ee;background:#14181f}}";

/// A page with a heading and one sentence, both text. `script` runs if it is there; it must come from us alone.
///
/// # Errors
/// [`hawser_core::Error::Internal`] when the random generator fails.
pub fn page(
    status: u16,
    heading: &str,
    sentence: &str,
    script: Option<&str>,
) -> Result<Response<Body>> {
    let nonce = BASE64URL_NOPAD.encode(&random::<16>()?);
    let script_source =
        script.map_or_else(String::new, |_| format!("script-src 'nonce-{nonce}'; "));
    let policy = format!(
        "default-src 'none'; {script_source}style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let script = script.map_or_else(String::new, |text| {
        format!("<script nonce=\"{nonce}\">{text}</script>")
    });
    let (heading, sentence) = (escaped(heading), escaped(sentence));
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{heading}</title>\
         <style nonce=\"{nonce}\">{STYLE}</style></head>\
         <body><main><h1>{heading}</h1><p>{sentence}</p></main>{script}</body></html>"
    );
    let mut response = empty(status);
    *response.body_mut() = Body::Text(html);
    let headers = [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", policy.as_str()),
        ("referrer-policy", "no-referrer"),
        // A page that was opened as a popup may tell its opener.
        ("cross-origin-opener-policy", "unsafe-none"),
    ];
    Ok(headers
        .into_iter()
        .fold(response, |response, (name, value)| {
            with_header(response, name, value)
        }))
}

/// Sends the browser on. The address is a secret more often than not, so nobody is told where it came from.
pub fn redirect(url: &str) -> Response<Body> {
    let response = with_header(empty(303), "location", url);
    with_header(response, "referrer-policy", "no-referrer")
}

/// Text as it stands between tags or in an attribute.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_and_nothing_else_may_run() {
        let page = page(400, "<b>", "a\"'&</p><script>", None).unwrap();
        let Body::Text(html) = page.body() else {
            panic!("no text");
        };
        assert!(
            html.contains("<h1>&lt;b&gt;</h1><p>a&quot;&#39;&amp;&lt;/p&gt;&lt;script&gt;</p>")
        );
        let policy = page.headers()["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'nonce-"),
            "{policy}"
        );
        assert!(!policy.contains("script-src"));
    }
}
