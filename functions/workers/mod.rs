//! Functions that nobody calls over HTTP: they finish what requests have begun.

pub mod audit;
pub mod chain;
pub mod purge;
pub mod sweep;

use crate::runtime::lambda;
use hawser_core::App;
use hawser_core::state::config::Config;
use lambda_http::Error;
use lambda_runtime::{Context, LambdaEvent, service_fn};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Nothing is begun in the last minute of an invocation: an issuer that does not answer takes nearly as long.
const MARGIN: Duration = Duration::from_secs(60);

/// Runs a worker as a Lambda function. The instant passed to `work` is the last at which it may begin something.
fn run<F>(work: impl Fn(&'static App, Value, Instant) -> F) -> Result<(), Error>
where
    F: Future<Output = Result<Value, Error>> + Send + 'static,
{
    lambda(async {
        // The runtime borrows the application until the process ends.
        let app = App::connect(Config::from_env()?).await?.share();
        let app: &'static App = Box::leak(Box::new(app));
        lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| {
            let until = until(&event.context);
            work(app, event.payload, until)
        }))
        .await
    })
}

/// The answer to a stream: the sequence numbers of the records that failed.
fn failures(failed: Vec<Value>) -> Value {
    let failed = failed.iter().map(|at| json!({"itemIdentifier": at}));
    json!({"batchItemFailures": failed.collect::<Value>()})
}

fn until(context: &Context) -> Instant {
    let left = context.deadline().duration_since(SystemTime::now());
    Instant::now() + left.unwrap_or_default().saturating_sub(MARGIN)
}
