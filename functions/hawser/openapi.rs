//! `GET /openapi.json`: this API for machines, as it was put together when the function was built (docs/openapi); and
//! `GET /docs`: the same for people, shown by RapiDoc, which comes from `GET /docs/rapidoc-min.js` and from nowhere else.

use super::Problem;
use crate::http::{Code, Request, Response, empty, header, with_header};
use flate2::read::GzDecoder;
use hawser_core::App;
use hawser_core::Error;
use lambda_http::Body;
use std::io::Read;

/// The document, compressed.
pub const DOCUMENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.gz"));
const RENDERER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rapidoc-min.js.gz"));
const PAGE: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width\"><title>Hawser API</title>\
    <script src=\"docs/rapidoc-min.js\" defer></script></head>\
    <body><noscript>This page needs JavaScript. The document itself is <a href=\"openapi.json\">openapi.json</a>.</noscript>\
    <rapi-doc spec-url=\"openapi.json\" render-style=\"focused\" load-fonts=\"false\" show-header=\"false\" \
    remove-endpoints-with-badge-label-as=\"HEAD\" allow-spec-url-load=\"false\" allow-spec-file-load=\"false\" \
    allow-server-selection=\"false\" persist-auth=\"false\" sort-tags=\"false\"></rapi-doc></body></html>";
/// The renderer, and requests to this deployment that its reader tries out; styles are what the renderer writes into the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; img-src 'self' data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns 200 with what the path names. Anyone may have it: nothing in it is a tenant's.
///
/// # Errors
/// [`Problem`].
pub async fn handle(_app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let path = request.uri().path();
    let response = match path {
        "/docs" => {
            let mut page = empty(200);
            *page.body_mut() = Body::Text(PAGE.to_owned());
            let page = with_header(page, "content-type", "text/html; charset=utf-8");
            let page = with_header(page, "content-security-policy", POLICY);
            with_header(page, "referrer-policy", "no-referrer")
        }
        "/docs/rapidoc-min.js" => {
            let script = packed(request, RENDERER)?;
            with_header(script, "content-type", "text/javascript; charset=utf-8")
        }
        _ => with_header(
            packed(request, DOCUMENT)?,
            "content-type",
            "application/json",
        ),
    };
    let mut response = with_header(response, "cache-control", "public, max-age=300");
    response.extensions_mut().insert(Code("document"));
    Ok(response)
}

/// Compressed for who takes that, as nearly everybody does.
fn packed(request: &Request, bytes: &'static [u8]) -> Result<Response<Body>, Problem> {
    let mut response = with_header(empty(200), "vary", "Accept-Encoding");
    if takes_gzip(&header(request, "accept-encoding").unwrap_or_default()) {
        *response.body_mut() = Body::Binary(bytes.to_vec());
        return Ok(with_header(response, "content-encoding", "gzip"));
    }
    let mut text = String::new();
    let read = GzDecoder::new(bytes).read_to_string(&mut text);
    read.map_err(Error::internal)?;
    *response.body_mut() = Body::Text(text);
    Ok(response)
}

/// Whether a client lists gzip, and not as what it does not take (RFC 9110 12.5.3).
fn takes_gzip(accepted: &str) -> bool {
    let mut codings = accepted.split(',').map(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().trim_start_matches("q=");
        (name.trim(), weight.parse() != Ok(0.0))
    });
    codings.any(|(name, taken)| name.eq_ignore_ascii_case("gzip") && taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_clients_take_gzip() {
        for (accepted, taken) in [
            ("gzip", true),
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZIP;q=0.5", true),
            ("", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("br, gzip; q=0.000", false),
        ] {
            assert_eq!(takes_gzip(accepted), taken, "{accepted}");
        }
    }
}
