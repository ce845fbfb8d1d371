//! Functions that nobody calls over HTTP: they finish what a request has begun.

pub mod chain;
pub mod purge;
pub mod sweep;

use crate::runtime::lambda;
use hawser_core::App;
use hawser_core::config::Config;
use lambda_http::Error;
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::Value;

/// Runs a worker as a Lambda function.
fn run<F>(work: impl Fn(&'static App, Value) -> F) -> Result<(), Error>
where
    F: Future<Output = Result<Value, Error>> + Send + 'static,
{
    lambda(async {
        // Lives as long as the process does.
        let app: &'static App = Box::leak(Box::new(App::connect(Config::from_env()?).await?));
        lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| {
            work(app, event.payload)
        }))
        .await
    })
}
