//! Where logs go and how much is in them. `RUST_LOG` says what is wanted (default `info`); JSON where Lambda asks for it.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;
use tracing_subscriber::fmt::MakeWriter;

/// Libraries whose finer output may quote requests and answers: held at `info`, whatever is wanted.
const HELD: [&str; 12] = [
    "aws_config",
    "aws_runtime",
    "aws_sdk_dynamodb",
    "aws_sdk_kms",
    "aws_sigv4",
    "aws_smithy_runtime",
    "hyper",
    "hyper_util",
    // Its finest output is the whole event, credentials and all.
    "lambda_runtime",
    "lambda_http",
    "reqwest",
    "rustls",
];

/// Starts logging to `writer`. Only the first call of a process has an effect.
pub fn init<W>(writer: W)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let wanted = std::env::var("RUST_LOG").or_else(|_| std::env::var("AWS_LAMBDA_LOG_LEVEL"));
    let filter = EnvFilter::new(wanted.unwrap_or_else(|_| "info".to_owned()).to_lowercase());
    let held = HELD
        .iter()
        .filter_map(|target| format!("{target}=info").parse::<Directive>().ok());
    let filter = held.fold(filter, EnvFilter::add_directive);
    let logs = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_env_filter(filter);
    let json = std::env::var("AWS_LAMBDA_LOG_FORMAT")
        .is_ok_and(|format| format.eq_ignore_ascii_case("json"));
    // A second call finds a subscriber in place, which is as good.
    let _ = if json {
        logs.json().flatten_event(true).try_init()
    } else {
        logs.try_init()
    };
}
