//! `PUT /mcp-servers/{server_id}`: a partial update, although the method is PUT (Kambrium 6).

use super::connection::Connection;
use super::fields::{Faults, Fields};
use super::number::Number;
use super::problem::{Problem, Refusal};
use super::{Call, WRITE, admit, filled, find, success};
use crate::http::{Request, Response, body};
use hawser_core::App;
use hawser_core::auth::credentials::Presented;
use hawser_core::domain::server::{
    AccessType, ApiKeyHeader, Auth, KeyCheck, Place, Secrets, Server,
};
use hawser_core::operations::Permitted;
use hawser_core::operations::credentials::{self, ServerAndRecords};
use hawser_core::operations::servers::{self, Change, Voiding};
use lambda_http::Body;
use secrecy::SecretString;
use std::collections::BTreeSet;

const CALL: Call = Call {
    scope: WRITE,
    bound: true,
    purpose: "update this connection",
    failure: "update MCP server",
};

const FIELDS: &[&str] = &["agent_enabled", "access_type", "api_key", "disabled_tools"];

/// The changes. A field that is `None` stays as it is.
struct Update {
    agent_enabled: Option<bool>,
    access_type: Option<String>,
    api_key: Option<SecretString>,
    disabled_tools: Option<BTreeSet<u64>>,
}

/// Returns 200 with the connection as it is now.
///
/// # Errors
/// [`Problem`], in the contract's order.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    update(app, request)
        .await
        .map_err(|refusal| refusal.of(&CALL, request))
}

async fn update(app: &App, request: &Request) -> Result<Response<Body>, Refusal> {
    let (who, (number, update)) = admit(app, request, &CALL, parse(request)).await?;
    let read = || read(app, who.clone(), number, &update);
    let plan = servers::change(app, read, false).await?;
    Ok(success(
        200,
        Connection::of(&plan.after, &plan.at.found.records, app.now()),
        "MCP server connection updated successfully",
    ))
}

fn parse(request: &Request) -> Result<(Number, Update), Refusal> {
    let mut faults = Faults::default();
    let number = faults.number(request);
    let update = Fields::read(body(request), FIELDS, &mut faults).map(|mut fields| Update {
        agent_enabled: fields.boolean("agent_enabled"),
        access_type: fields.text("access_type"),
        api_key: fields.api_key(),
        disabled_tools: fields.disabled_tools(),
    });
    faults.into_result(number.zip(update))
}

/// Reads the connection as it is now, and says what the update makes of it. After a DELETE it finds nothing, and so brings
/// nothing back.
async fn read(
    app: &App,
    who: Presented,
    number: Number,
    update: &Update,
) -> Result<Change<ServerAndRecords>, Refusal> {
    let found = find(app, who, &CALL, number).await?;
    let at = Permitted {
        found: credentials::load_of_owner(app, &found).await?,
        caller: found.caller,
    };
    let before = &at.found.server;
    let mut after = before.clone();
    update.set_access_type(&mut after)?;
    let header = update.replaced_key(before)?;
    update.set_disabled_tools(&mut after)?;
    if let Some(on) = update.agent_enabled {
        after.connection.switch(on);
    }
    let secrets = match header {
        None => None,
        Some((header, api_key)) => {
            after.connection.key_check = KeyCheck::Pending;
            let mut secrets: Secrets = servers::open(app, &at.caller.tenant, before).await?;
            secrets.set(Place::Header(&header.header), filled(header, api_key));
            Some(secrets)
        }
    };
    Ok(Change {
        at,
        after,
        secrets,
        voiding: Voiding::Refused,
    })
}

impl Update {
    /// Sets the access type. When it stops being `individual`, all tools are switched on again.
    fn set_access_type(&self, server: &mut Server) -> Result<(), Refusal> {
        if let Some(text) = &self.access_type {
            let access_type = AccessType::parse(text).ok_or(Refusal::InvalidAccessType)?;
            server.connection.access_type = access_type;
            if access_type != AccessType::Individual {
                server.connection.disabled_tools.clear();
            }
        }
        Ok(())
    }

    /// The new API key and the header that carries it. A sibling contract may have removed that header.
    fn replaced_key<'a>(
        &'a self,
        server: &'a Server,
    ) -> Result<Option<(&'a ApiKeyHeader, &'a SecretString)>, Refusal> {
        let Some(api_key) = &self.api_key else {
            return Ok(None);
        };
        match (&server.connection.api_key, &server.auth) {
            (Some(place), Auth::Headers { headers, .. })
                if headers.iter().any(|header| {
                    header.name.eq_ignore_ascii_case(&place.header) && header.template.is_none()
                }) =>
            {
                Ok(Some((place, api_key)))
            }
            _ => Err(Refusal::KeyNotChangeable),
        }
    }

    /// Sets the switched-off tools, under the access type that this request results in.
    fn set_disabled_tools(&self, server: &mut Server) -> Result<(), Refusal> {
        match &self.disabled_tools {
            None => Ok(()),
            Some(tools)
                if !tools.is_empty() && server.connection.access_type != AccessType::Individual =>
            {
                Err(Refusal::ToolsNeedIndividual)
            }
            Some(tools) => {
                server.connection.disabled_tools.clone_from(tools);
                Ok(())
            }
        }
    }
}
