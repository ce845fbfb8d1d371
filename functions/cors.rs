//! Which web pages may call Hawser and read its answers (Inbound 5). In one place for every endpoint, under Lambda and the
//! local server alike.
//!
//! Cookies never count: no answer has `Access-Control-Allow-Credentials`. A page needs a credential of its own, and what it
//! may read is what that credential opens.

use crate::http::{Request, Response, empty, header};
use crate::{Readers, route};
use hawser_core::App;
use lambda_http::Body;
use lambda_http::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use lambda_http::http::{HeaderMap, HeaderValue, Method};
use url::{Host, Url};

/// Response headers that pages may read besides the ones that every page may. The last three are the gateways': their names for
/// the request's id, and for `WWW-Authenticate`.
const EXPOSED: &str = "Mcp-Session-Id, Mcp-Protocol-Version, WWW-Authenticate, Hawser-Receipt, Hawser-Next, \
                       Hawser-Request-Id, Retry-After, Allow, Apigw-Requestid, X-Amzn-RequestId, X-Amzn-Remapped-WWW-Authenticate";
/// How long a browser may keep the answer to a preflight, in seconds. The answer itself still needs its header.
const MAX_AGE: &str = "7200";
/// The most headers that a preflight may ask for.
const MAX_HEADERS: usize = 40;

/// The answer to a preflight; `None` for any other request, and for pages and routes that are not open to its origin.
pub fn preflight(app: &App, request: &Request) -> Option<Response<Body>> {
    if request.method() != Method::OPTIONS {
        return None;
    }
    let method = header(request, ACCESS_CONTROL_REQUEST_METHOD.as_str())?;
    let path = request.uri().path();
    let allowed = route::find(&method, path)?.readers.allow(app, request)?;
    let mut response = empty(204);
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    let methods = route::methods(path).join(", ");
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_str(&methods).ok()?,
    );
    let asked = header(request, ACCESS_CONTROL_REQUEST_HEADERS.as_str()).unwrap_or_default();
    if let Some(names) = accepted(&asked) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    headers.append(VARY, HeaderValue::from_static("Origin"));
    Some(response)
}

/// Those of the asked headers that some endpoint reads. Names are asked for one by one, since `*` does not stand for
/// `Authorization`, and `Mcp-Param-*` has no end.
fn accepted(asked: &str) -> Option<HeaderValue> {
    let names = asked
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase());
    let names: Vec<String> = names.filter(|name| reads(name)).take(MAX_HEADERS).collect();
    HeaderValue::from_str(&names.join(", "))
        .ok()
        .filter(|_| !names.is_empty())
}

fn reads(name: &str) -> bool {
    matches!(
        name,
        "accept"
            | "authorization"
            | "cache-control"
            | "content-encoding"
            | "content-type"
            | "idempotency-key"
            | "last-event-id"
            | "traceparent"
            | "tracestate"
            | "x-api-key"
            | "x-tenant-id"
    ) || name.strip_prefix("mcp-").is_some_and(|rest| {
        rest.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    })
}

/// What an answer says to browsers; decided by the request, said of whatever it is answered with.
pub struct Shared {
    allowed: Option<HeaderValue>,
    varies: bool,
}

impl Shared {
    /// For a request to an endpoint with these readers.
    pub fn of(readers: Readers, app: &App, request: &Request) -> Self {
        let some = !app.allowed_origins.is_empty() || app.allow_loopback_http;
        Self {
            allowed: readers.allow(app, request),
            varies: readers == Readers::Listed && some,
        }
    }

    /// Says it.
    pub fn say(self, headers: &mut HeaderMap) {
        if let Some(allowed) = self.allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            let exposed = HeaderValue::from_static(EXPOSED);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
        if self.varies {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
    }
}

impl Readers {
    /// What the page that sends a request is told: that it may read the answer, or nothing.
    fn allow(self, app: &App, request: &Request) -> Option<HeaderValue> {
        let mut sent = request.headers().get_all(ORIGIN).iter();
        let (origin, None) = (sent.next()?, sent.next()) else {
            return None;
        };
        match self {
            Self::Anyone => Some(HeaderValue::from_static("*")),
            Self::Listed => is_listed(app, origin.to_str().ok()?).then(|| origin.clone()),
            Self::Nobody => None,
        }
    }
}

/// Whether the operator lists an origin. On a machine of one's own, all that are on it are.
pub fn is_listed(app: &App, origin: &str) -> bool {
    app.allowed_origins.iter().any(|one| one == origin)
        || app.allow_loopback_http && is_local(origin)
}

fn is_local(origin: &str) -> bool {
    let Ok(url) = Url::parse(origin) else {
        return false;
    };
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(addr)) => addr.is_loopback(),
        Some(Host::Ipv6(addr)) => addr.is_loopback(),
        None => false,
    };
    local && url.origin().ascii_serialization() == origin
}
