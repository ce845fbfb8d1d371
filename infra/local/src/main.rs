//! `hawser`: the local server, and the commands for operators.

mod commands;

use clap::{Parser, Subcommand};
use commands::Outcome;
use commands::api_key::{ApiKeyCommand, api_key};
use commands::at::At;
use commands::audit::audit;
use commands::integrations::{IntegrationsCommand, integrations_of};
use commands::offboard::offboard;
use commands::serve::{Serve, serve};
use commands::token::{Token, token};
use std::error::Error;
use std::process::ExitCode;

/// A control plane for MCP server connections.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Start the local server (the default)
    Serve(Box<Serve>),
    /// Print a token of the local server
    Token(Token),
    /// Check the table for orphaned items and verify the audit logs: one JSON object a line, then the figures; fails if
    /// anything is wrong
    Audit {
        #[command(flatten)]
        at: At,
        /// With --table: the KMS key that the tenants' keys are wrapped by. Without it audit logs are not verified
        #[arg(long, requires = "table")]
        kms_key_id: Option<String>,
        /// Repair what can be repaired
        #[arg(long)]
        repair: bool,
    },
    /// Remove all that one subject has, on every server of a tenant, and print the receipt
    Offboard {
        #[command(flatten)]
        at: At,
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// The subject, such as user:alice or virtualaccount:ci
        #[arg(long)]
        subject: String,
        /// Change nothing, and print what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Create, list and revoke API keys
    #[command(subcommand)]
    ApiKey(ApiKeyCommand),
    /// The catalogue of integrations that connections can be made from
    #[command(subcommand)]
    Integrations(IntegrationsCommand),
}

#[tokio::main]
async fn main() -> ExitCode {
    hawser_core::logs::init(std::io::stderr);
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hawser: {}", said(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// An error for people. It may include the internal text of the domain's errors, because whoever runs this is the
/// operator.
fn said(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref() {
        Some(hawser_core::Error::Contended) => {
            "the catalogue was changed at the same time: run the command again".to_owned()
        }
        Some(hawser_core::Error::Unavailable(text) | hawser_core::Error::Internal(text)) => {
            text.clone()
        }
        _ => error.to_string(),
    }
}

async fn run(cli: Cli) -> Outcome {
    match cli.command {
        None => serve(cli.serve).await,
        Some(Command::Serve(options)) => serve(*options).await,
        Some(Command::Token(options)) => token(&options),
        Some(Command::Audit {
            at,
            kms_key_id,
            repair,
        }) => audit(&at, kms_key_id.as_deref(), repair).await,
        Some(Command::Offboard {
            at,
            tenant,
            subject,
            dry_run,
        }) => offboard(&at, &tenant, &subject, dry_run).await,
        Some(Command::ApiKey(command)) => api_key(command).await,
        Some(Command::Integrations(command)) => integrations_of(command).await,
    }
}
