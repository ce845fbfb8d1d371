//! Where logs go and how detailed they are. `RUST_LOG` sets the level (default `info`); the format is JSON where Lambda
//! asks for it.

use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Prefixes of libraries whose more detailed output may quote requests and answers. They stay at `info`, whatever is
/// set.
const HELD: [&str; 6] = [
    "aws_", "h2", "hyper",
    // The most detailed output of this library is the whole event, including credentials.
    "lambda_", "reqwest", "rustls",
];

/// Starts logging to `writer`. Only the first call of a process has an effect.
pub fn init<W>(writer: W)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let wanted = std::env::var("RUST_LOG").or_else(|_| std::env::var("AWS_LAMBDA_LOG_LEVEL"));
    let wanted = EnvFilter::new(wanted.unwrap_or_else(|_| "info".to_owned()).to_lowercase());
    // A second filter: in the first one, a directive for a module of such a library would override one for the library.
    let ceiling = Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_targets(HELD.map(|target| (target, LevelFilter::INFO)));
    let filter = wanted.and(ceiling);
    let json = std::env::var("AWS_LAMBDA_LOG_FORMAT")
        .is_ok_and(|format| format.eq_ignore_ascii_case("json"));
    let logs = tracing_subscriber::fmt::layer().with_writer(writer);
    // A second call fails because a subscriber is in place already, and that one serves.
    let _ = if json {
        let logs = logs.json().flatten_event(true).with_filter(filter);
        tracing_subscriber::registry().with(logs).try_init()
    } else {
        let logs = logs.with_filter(filter);
        tracing_subscriber::registry().with(logs).try_init()
    };
}
