//! The HTTP server on one machine: it passes requests to the endpoints that the template's routes name, and returns
//! their answers. Its worker finishes deletions.

use crate::limits::{Limits, Shortage};
use crate::sign_in;
use crate::template::{Router, Template};
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use hawser_core::App;
use hawser_core::operations::audit_log;
use hawser_core::operations::scheduler::process_due;
use hawser_functions::runtime::{guard, name_request};
use hawser_functions::{RequestId, Streamed, streamed};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use lambda_http::http::uri::Authority;
use lambda_http::http::{Request, Response, StatusCode};
use lambda_http::{Body, RequestExt};
use std::convert::Infallible;
use std::io::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::warn;

/// The largest request the gateway passes on: API Gateway's own limit.
const GATEWAY_LIMIT: usize = 10 << 20;
/// How often the worker looks for due work that nobody announced, such as work of an earlier process.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long the worker goes on without a break.
const SHIFT: Duration = Duration::from_secs(600);
/// How long open connections may take to finish when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// Serves until `stop` resolves, then lets requests in flight finish.
///
/// # Errors
/// The template's routes lead nowhere.
pub async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    serve_within(app, listener, Limits::default(), stop).await
}

/// [`serve`] with other limits than those of this process.
///
/// # Errors
/// As [`serve`].
pub async fn serve_within(
    app: Arc<App>,
    listener: TcpListener,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let router = Arc::new(Template::load()?.router()?);
    let guarded = listener.local_addr()?.ip().is_loopback();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head);
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut shortage = Shortage::default();
    let connections = GracefulShutdown::new();
    let begun = app.clone();
    tokio::pin!(stop);
    loop {
        let next = async {
            // A connection without a place waits in the listener's queue, where it costs nothing.
            let place = room.clone().acquire_owned().await;
            let (stream, _) = shortage.accept(|| listener.accept()).await;
            (stream, place)
        };
        let (stream, place) = tokio::select! {
            next = next => next,
            () = &mut stop => break,
        };
        // Small events should not be delayed. Where this cannot be set, the connection is only slower.
        let _ = stream.set_nodelay(true);
        let (app, router) = (app.clone(), router.clone());
        let service = service_fn(move |request| {
            let (app, router) = (app.clone(), router.clone());
            async move {
                let id = request_id();
                let mut response = if guarded && !names_loopback(&request) {
                    refusal(StatusCode::MISDIRECTED_REQUEST)
                } else {
                    answer(&app, &router, request, limits.body, &id).await
                };
                name_request(response.headers_mut(), &id);
                Ok::<_, Infallible>(response)
            }
        });
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            let _place = place;
            // A connection that the client breaks off is not an error.
            let _ = connection.await;
        });
    }
    drop(listener);
    let _ = timeout(GRACE, connections.shutdown()).await;
    begun.tasks.finish(GRACE).await;
    Ok(())
}

async fn answer(
    app: &App,
    router: &Router,
    request: Request<Incoming>,
    time: Duration,
    id: &str,
) -> Response<Streamed> {
    let (parts, body) = request.into_parts();
    let body = match timeout(time, Limited::new(body, GATEWAY_LIMIT).collect()).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return refusal(StatusCode::PAYLOAD_TOO_LARGE);
        }
        Ok(Err(_)) => return refusal(StatusCode::BAD_REQUEST),
        Err(_) => return refusal(StatusCode::REQUEST_TIMEOUT),
    };
    let body = match String::from_utf8(body.to_bytes().into()) {
        Ok(text) if text.is_empty() => Body::Empty,
        Ok(text) => Body::Text(text),
        Err(bytes) => Body::Binary(bytes.into_bytes()),
    };
    let (endpoint, parameters) = router.find(parts.method.as_str(), parts.uri.path());
    let mut request = Request::from_parts(parts, body).with_path_parameters(parameters);
    request.extensions_mut().insert(RequestId(id.to_owned()));
    if let Some(page) = sign_in::answer(app, &request).await {
        let mut page = streamed(page);
        guard(page.headers_mut());
        return page;
    }
    endpoint.answer(app, request).await
}

/// A name for a request, as the gateway gives one.
fn request_id() -> String {
    // Where there is no randomness, requests have no names.
    let random = hawser_core::domain::id::random::<12>();
    random.map_or_else(|_| String::new(), |bytes| BASE64URL_NOPAD.encode(&bytes))
}

/// Whether a request names this machine in `Host`. A web page whose own name was made to resolve to this machine (DNS
/// rebinding) sends that name.
fn names_loopback(request: &Request<Incoming>) -> bool {
    let host = request
        .headers()
        .get("host")
        .and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse::<Authority>().ok());
    authority.is_some_and(|authority| {
        let name = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

/// An answer of the gateway itself, in API Gateway's format.
fn refusal(status: StatusCode) -> Response<Streamed> {
    let reason = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "Request Entity Too Large",
        other => other.canonical_reason().unwrap_or_default(),
    };
    let text = Full::<Bytes>::from(format!(r#"{{"message":"{reason}"}}"#));
    let mut response = Response::new(text.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    guard(response.headers_mut());
    response
}

/// Processes due work whenever there may be some, for ever.
pub async fn work(app: Arc<App>) {
    loop {
        let until = Instant::now() + SHIFT;
        match process_due(&app, until).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => warn!(%error, "processing due work failed, will be retried"),
        }
        if let Err(error) = audit_log::chain_all(&app, until).await {
            warn!(%error, "chaining audit events failed, will be retried");
        }
        tokio::select! {
            () = app.work_appeared.notified() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}
