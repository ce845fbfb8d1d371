//! Running one endpoint as a Lambda function, and what happens around every request wherever it runs.

use crate::gateway::{self, Event, Streaming, Unreadable};
use crate::http::{
    BODY_LIMIT, Code, RequestId, Streamed, buffered, streamed, with_header, with_retry,
};
use crate::keep_alive::KeepAlive;
use crate::{Endpoint, Handler, Request, Response, content, cors, hawser};
use bytes::Bytes;
use hawser_core::App;
use hawser_core::sse::is_event_stream;
use hawser_core::state::config::Config;
use http_body_util::BodyExt;
use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use lambda_http::http::header::{CACHE_CONTROL, CONTENT_ENCODING, X_CONTENT_TYPE_OPTIONS};
use lambda_http::http::{HeaderMap, HeaderValue, Method};
use lambda_http::{Body, Error};
use lambda_runtime::{LambdaEvent, service_fn};
use std::time::Instant;
use tracing::info;

impl Endpoint {
    /// Answers one request and logs one line about it: never a path, a query, a header or a body.
    pub async fn answer(&self, app: &App, request: Request) -> Response<Streamed> {
        let (method, started) = (request.method().clone(), Instant::now());
        let id = request.extensions().get::<RequestId>();
        let id = id.map(|id| id.0.clone()).unwrap_or_default();
        let mut response = match cors::preflight(app, &request) {
            Some(answer) => streamed(answer),
            None => self.respond(app, request).await,
        };
        guard(response.headers_mut());
        name_request(response.headers_mut(), &id);
        info!(
            endpoint = self.name,
            request = id,
            method = method.as_str(),
            status = response.status().as_u16(),
            code = response
                .extensions()
                .get::<Code>()
                .map_or("", |code| code.0),
            milliseconds = started.elapsed().as_secs_f64() * 1e3,
            "answered"
        );
        response
    }

    /// Answers one request by the handler: HEAD as GET without its body, and with what browsers are to know.
    async fn respond(&self, app: &App, mut request: Request) -> Response<Streamed> {
        let shared = cors::Shared::of(self.readers, app, &request);
        let is_head = self.has_heads() && request.method() == Method::HEAD;
        if is_head {
            *request.method_mut() = Method::GET;
        }
        let mut response = match (
            content::decode(&mut request, self.body_limit()),
            &self.handle,
        ) {
            (Err(refused), _) => streamed(with_header(refused.into(), "accept-encoding", "gzip")),
            (Ok(()), Handler::Buffered(handle)) => {
                content::unmark(&mut request);
                streamed(with_retry(handle(app, &request).await))
            }
            (Ok(()), Handler::Streaming(handle)) => handle(app, &request).await,
        };
        if is_head {
            *response.body_mut() = buffered(Bytes::new());
        } else if is_plain_event_stream(response.headers()) {
            response = response.map(|body| KeepAlive::new(body, app.keep_alive).boxed());
        }
        shared.say(response.headers_mut());
        response
    }

    /// The most bytes of a body that it takes.
    const fn body_limit(&self) -> usize {
        match self.handle {
            Handler::Buffered(_) => BODY_LIMIT,
            Handler::Streaming(_) => hawser::invoke::BODY_LIMIT,
        }
    }

    /// The same with the whole body, awaited to its end.
    pub async fn serve(&self, app: &App, request: Request) -> Response<Body> {
        let (parts, body) = self.answer(app, request).await.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes());
        let body = match body.map(|bytes| String::from_utf8(bytes.into())) {
            Ok(Ok(text)) if text.is_empty() => Body::Empty,
            Ok(Ok(text)) => Body::Text(text),
            Ok(Err(bytes)) => Body::Binary(bytes.into_bytes()),
            Err(_) => Body::Empty,
        };
        Response::from_parts(parts, body)
    }

    /// Answers one event of an HTTP API, with a body that is all there.
    pub async fn answer_event(&self, app: &App, event: Event) -> ApiGatewayV2httpResponse {
        let request = match event {
            // It would not understand the answer.
            Event::Rest(_) => Err(Unreadable::Format),
            event => gateway::request(event),
        };
        gateway::buffered(match request {
            Ok(request) => self.serve(app, request).await,
            Err(unreadable) => refused(unreadable),
        })
    }

    /// Answers one event of a front door that passes on the body as it comes.
    pub async fn stream_event(&self, app: &App, event: Event) -> Streaming {
        gateway::streaming(match gateway::request(event) {
            Ok(request) => self.answer(app, request).await,
            Err(unreadable) => streamed(refused(unreadable)),
        })
    }

    /// Runs this endpoint as a Lambda function until the environment ends it. Everything it needs is built before the
    /// first request.
    ///
    /// # Errors
    /// A configuration that cannot work, by the name of the variable; whatever the runtime reports.
    pub fn run(&'static self) -> Result<(), Error> {
        lambda(async {
            let app = App::connect(Config::from_env()?).await?.share();
            if self.streams() {
                let answer = async |event: LambdaEvent<Event>| {
                    Ok::<_, Error>(self.stream_event(&app, event.payload).await)
                };
                lambda_runtime::run(service_fn(answer)).await
            } else {
                let answer = async |event: LambdaEvent<Event>| {
                    Ok::<_, Error>(self.answer_event(&app, event.payload).await)
                };
                lambda_runtime::run(service_fn(answer)).await
            }
        })
    }
}

/// Whether a line can be added to the body.
fn is_plain_event_stream(headers: &HeaderMap) -> bool {
    is_event_stream(headers) && !headers.contains_key(CONTENT_ENCODING)
}

/// Names the request in its answer, if it has a name.
pub fn name_request(headers: &mut HeaderMap, id: &str) {
    if let Ok(id) = HeaderValue::from_str(id)
        && !id.is_empty()
    {
        headers.insert("hawser-request-id", id);
    }
}

/// What every answer says: it is of the type that it names, and, where nothing is said of keeping it, nobody may.
pub fn guard(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

fn refused(unreadable: Unreadable) -> Response<Body> {
    let mut response: Response<Body> = unreadable.into();
    guard(response.headers_mut());
    response
}

/// Starts the logs and a runtime: one thread, for Lambda sends one request at a time.
pub(crate) fn lambda(main: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    hawser_core::logs::init(std::io::stdout);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(main)
}
