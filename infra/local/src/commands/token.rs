//! `hawser token`: prints a token of the local server.

use super::Outcome;
use super::at::{DataFolder, record_holder};
use clap::Args;
use hawser_core::domain::id::TenantId;
use hawser_core::domain::subject::Subject;
use hawser_core::domain::time::{Clock, Timestamp};
use hawser_local::identity::Identity;
use hawser_local::{ALL_PERMISSIONS, ALL_SCOPES};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;

#[derive(Args)]
pub(crate) struct Token {
    #[command(flatten)]
    data: DataFolder,
    #[command(flatten)]
    holder: Holder,
    /// The subject of the token, such as user:alice or virtualaccount:ci
    #[arg(long)]
    subject: String,
    /// Seconds until the token expires
    #[arg(long, default_value_t = 3600)]
    expires_in: i64,
}

#[derive(Args)]
pub(crate) struct Holder {
    /// The tenant
    #[arg(long)]
    pub(crate) tenant: String,
    /// Everything in the tenant, under every contract
    #[arg(long)]
    pub(crate) tenant_admin: bool,
    /// MANAGE_MCP_SERVER on all servers (TrueFoundry)
    #[arg(long)]
    pub(crate) manage: bool,
    /// A permission such as mcp-servers:invoke (LangSmith)
    #[arg(long = "permission")]
    pub(crate) permissions: Vec<String>,
    /// A scope such as mgmt.read (Kambrium)
    #[arg(long = "scope")]
    pub(crate) scopes: Vec<String>,
    /// A team (TrueFoundry)
    #[arg(long = "team")]
    pub(crate) teams: Vec<String>,
    /// The subject's e-mail address (TrueFoundry collaborators)
    #[arg(long)]
    pub(crate) email: Option<String>,
}

pub(crate) fn token(options: &Token) -> Outcome {
    let identity = Identity::open(&options.data.data_dir)?;
    let subject = record_holder(&options.subject)?;
    TenantId::parse(&options.holder.tenant).ok_or("--tenant must have 1 to 255 characters")?;
    let end = Clock::System.now().plus_seconds(options.expires_in);
    writeln!(
        std::io::stdout(),
        "{}",
        identity.token(options.holder.claims(&subject, end))?
    )?;
    Ok(())
}

impl Holder {
    pub(crate) fn claims(&self, subject: &Subject, end: Timestamp) -> Value {
        let mut claims = json!({
            "tenantName": self.tenant,
            "sub": subject.id(),
            "subjectType": subject.kind().as_str(),
            "exp": end.seconds(),
            "roles": self.roles(),
            "teams": self.teams,
            "permissions": self.permissions(),
            "scope": self.scopes().into_iter().collect::<Vec<_>>().join(" "),
        });
        if let Some(email) = &self.email {
            claims["email"] = email.as_str().into();
        }
        claims
    }

    pub(crate) fn roles(&self) -> BTreeSet<String> {
        let admin = self.tenant_admin.then(|| "admin".to_owned());
        admin
            .into_iter()
            .chain(self.manage.then(|| "mcp-server-manager".to_owned()))
            .collect()
    }

    pub(crate) fn permissions(&self) -> BTreeSet<String> {
        with_all(&self.permissions, &ALL_PERMISSIONS, self.tenant_admin)
    }

    pub(crate) fn scopes(&self) -> BTreeSet<String> {
        with_all(&self.scopes, &ALL_SCOPES, self.tenant_admin)
    }
}

fn with_all(given: &[String], all: &[&str], every: bool) -> BTreeSet<String> {
    let all = all.iter().filter(|_| every).map(|&name| name.to_owned());
    given.iter().cloned().chain(all).collect()
}
