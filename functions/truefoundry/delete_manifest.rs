//! `POST /delete`: the server that a manifest names, for good (TrueFoundry 3.13).

use super::manifest::read_identity;
use super::problem::Problem;
use super::reader::{Faults, Reader};
use super::{admit, delete_server, dry_run};
use crate::http::{Request, Response, body};
use hawser_core::App;
use hawser_core::operations::servers;
use lambda_http::Body;

/// Returns 200 with `{}`; a second call is 404. It is the DELETE of the server that has this name, `dryRun=true` included.
pub async fn handle(app: &App, request: &Request) -> Result<Response<Body>, Problem> {
    let (who, (name, dry_run)) = admit(app, request, parse(request)).await?;
    let found = servers::find_named(app, who, &name).await?;
    delete_server::delete(app, found, dry_run).await
}

fn parse(request: &Request) -> Result<(String, bool), Problem> {
    let dry_run = dry_run(request)?;
    let mut faults = Faults::default();
    let name = Reader::body(body(request), &mut faults)
        .and_then(|object| read_identity(&mut Reader::new(&object, "", &mut faults), "manifest"));
    Ok((faults.into_result(name)?, dry_run))
}
