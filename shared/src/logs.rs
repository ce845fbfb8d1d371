//! Where logs go and how much is in them. `RUST_LOG` says what is wanted (default `info`); JSON where Lambda asks for it.

use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Beginnings of the names of libraries whose finer output may quote requests and answers: held at `info`, whatever is wanted.
const HELD: [&str; 6] = [
    "aws_", "h2", "hyper",
    // Its finest output is the whole event, credentials and all.
    "lambda_", "reqwest", "rustls",
];

/// Starts logging to `writer`. Only the first call of a process has an effect.
pub fn init<W>(writer: W)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let wanted = std::env::var("RUST_LOG").or_else(|_| std::env::var("AWS_LAMBDA_LOG_LEVEL"));
    let wanted = EnvFilter::new(wanted.unwrap_or_else(|_| "info".to_owned()).to_lowercase());
    // A ceiling of its own: a directive that names a module of a held library would go before one that holds the library.
    let ceiling = Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_targets(HELD.map(|target| (target, LevelFilter::INFO)));
    let filter = wanted.and(ceiling);
    let json = std::env::var("AWS_LAMBDA_LOG_FORMAT")
        .is_ok_and(|format| format.eq_ignore_ascii_case("json"));
    let logs = tracing_subscriber::fmt::layer().with_writer(writer);
    // A second call finds a subscriber in place, which is as good.
    let _ = if json {
        let logs = logs.json().flatten_event(true).with_filter(filter);
        tracing_subscriber::registry().with(logs).try_init()
    } else {
        let logs = logs.with_filter(filter);
        tracing_subscriber::registry().with(logs).try_init()
    };
}
