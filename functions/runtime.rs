//! Running one endpoint as a Lambda function, and what happens around every request wherever it runs.

use crate::http::Code;
use crate::{Endpoint, Request, Response};
use hawser_core::App;
use hawser_core::config::Config;
use lambda_http::{Body, Error, service_fn};
use std::time::Instant;
use tracing::info;

impl Endpoint {
    /// Answers one request and logs one line about it: never a path, a query, a header or a body.
    pub async fn serve(&self, app: &App, request: Request) -> Response<Body> {
        let started = Instant::now();
        let response = (self.handle)(app, &request).await;
        info!(
            endpoint = self.name,
            method = request.method().as_str(),
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

    /// Runs this endpoint as a Lambda function until the environment ends it. Everything it needs is built before the
    /// first request.
    ///
    /// # Errors
    /// A configuration that cannot work, by the name of the variable; whatever the runtime reports.
    pub fn run(&'static self) -> Result<(), Error> {
        lambda(async {
            let app = App::connect(Config::from_env()?).await?;
            lambda_http::run(service_fn(async |request| {
                Ok::<_, Error>(self.serve(&app, request).await)
            }))
            .await
        })
    }
}

/// Starts the logs and a runtime: one thread, for Lambda sends one request at a time.
pub(crate) fn lambda(main: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    hawser_core::logs::init(std::io::stdout);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(main)
}
