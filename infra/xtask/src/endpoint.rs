//! `cargo xtask new-endpoint`: writes every place that names an endpoint (docs/ADDING_AN_ENDPOINT.md).
//!
//! The result compiles. The handler answers 501, so the test of sample events fails until it is written.

use crate::Outcome;
use std::fs;
use std::path::Path;

/// The steps that remain, by their numbers in docs/ADDING_AN_ENDPOINT.md.
const LEFT: &str = "\
Left to do (docs/ADDING_AN_ENDPOINT.md):
  2.  its rules in docs/contracts
  3.  the handler, which answers 501 so far; new refusals in the contract's problem.rs
  4.  the operation in shared/src/operations
  5.  the access pattern in docs/STORAGE.md and shared/src/table
  6.  in functions/lib.rs: `Public` for a document for everyone, `Page` for a page for browsers
  9.  in template.yaml: the actions that the function needs, and no other
  10. in the sample event: a body, and ids that fit
  11. tests; a row in tests/it/permissions.rs, a line in hostile.rs, a call in policies.rs, a cost in budget.rs
  12. the operation in docs/openapi
  13. docs/API.md, docs/STORAGE.md, CHANGELOG.md
Then: cargo fmt --all && cargo test --test it -- index:: permissions:: hostile:: policies:: budget::";

/// The parts of an endpoint's name, and its route.
#[derive(Debug, PartialEq, Eq)]
struct Endpoint<'a> {
    name: &'a str,
    contract: &'a str,
    /// The name of the handler's file, without `.rs`.
    module: String,
    method: &'a str,
    path: String,
}

impl<'a> Endpoint<'a> {
    fn parse(name: &'a str, route: Option<(&'a str, &str)>) -> Outcome<Self> {
        let plain = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_lowercase())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        let parts: Vec<&str> = name.split('-').collect();
        let [contract, verb, noun @ ..] = parts.as_slice() else {
            return Err(format!(
                "{name} is not of the form <contract>-<verb>-<noun>"
            ));
        };
        if noun.is_empty() || !parts.iter().all(|part| plain(part)) {
            return Err(format!(
                "{name} is not of the form <contract>-<verb>-<noun>"
            ));
        }
        let base = match *contract {
            "truefoundry" => "/api/svc/v1",
            "langsmith" => "/v1/deepagents",
            "kambrium" => "/api/v1",
            "hawser" => "/v1",
            other => return Err(format!("no contract is called {other}")),
        };
        let (method, path) = match route {
            Some((method, path)) => (method, path.to_owned()),
            None => (method_of(verb), format!("{base}/{}", noun.join("-"))),
        };
        if !["DELETE", "GET", "PATCH", "POST", "PUT"].contains(&method) {
            return Err(format!(
                "{method} cannot be the method of a route (HEAD comes with GET)"
            ));
        }
        if !path.starts_with('/') || path.contains(['"', ' ', '?', '#']) {
            return Err(format!("{path} is not the path of a route"));
        }
        Ok(Self {
            name,
            contract,
            module: parts[1..].join("_"),
            method,
            path,
        })
    }

    fn constant(&self) -> String {
        self.name.replace('-', "_").to_uppercase()
    }

    fn logical_id(&self) -> String {
        let words = self.name.split('-').map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_uppercase() + rest
        });
        words.collect::<String>() + "Function"
    }

    /// The methods of the route. GET also routes HEAD.
    fn methods(&self) -> Vec<&str> {
        match self.method {
            "GET" => vec!["GET", "HEAD"],
            other => vec![other],
        }
    }

    /// The parameters of the path.
    fn parameters(&self) -> Vec<&str> {
        let segments = self.path.split('/');
        segments
            .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
            .collect()
    }

    fn handler(&self) -> String {
        format!(
            r#"//! `{} {}`: what it does, and its rule in docs/contracts.

use crate::http::{{Request, Response, json}};
use hawser_core::App;
use lambda_http::Body;
use serde_json::json;

/// Returns what, and when.
///
/// # Errors
/// The contract's problem.
pub async fn handle(_app: &App, _request: &Request) -> Result<Response<Body>, Response<Body>> {{
    Err(json(501, &json!({{"message": "Not Implemented"}})))
}}
"#,
            self.method, self.path
        )
    }

    fn binary(&self) -> String {
        format!(
            "//! The Lambda binary `{}`.\n\nfn main() -> Result<(), lambda_http::Error> {{\n    hawser_functions::{}.run()\n}}\n",
            self.name,
            self.constant()
        )
    }

    fn index_line(&self) -> String {
        let Self {
            name,
            contract,
            module,
            method,
            path,
        } = self;
        let constant = self.constant();
        format!(
            "    {constant} \"{name}\" Buffered {contract}::{module}\n        [{method} \"{path}\"];\n"
        )
    }

    fn manifest_bin(&self) -> String {
        let name = self.name;
        format!("[[bin]]\nname = \"{name}\"\npath = \"functions/bin/{name}.rs\"\ntest = false\n\n")
    }

    fn watch_routes(&self) -> String {
        let name = self.name;
        let routes = self
            .methods()
            .into_iter()
            .map(|method| format!("    {{ method = \"{method}\", function = \"{name}\" }},\n"));
        routes.collect()
    }

    /// The function in the template. Its policy allows reads of single items and no more.
    fn template_function(&self) -> String {
        let events = self.methods().into_iter().map(|method| {
            let event = if method == "HEAD" { "Head" } else { "Route" };
            let path = &self.path;
            format!(
                "        {event}:\n          Type: HttpApi\n          Properties: {{ ApiId: !Ref Api, Method: {method}, Path: \"{path}\" }}\n"
            )
        });
        format!(
            r#"  {}:
    Type: AWS::Serverless::Function
    Metadata:
      BuildMethod: rust-cargolambda
      BuildProperties: {{ Binary: {} }}
    Properties:
      Policies:
        - Version: "2012-10-17"
          Statement:
            - Effect: Allow
              Action: [dynamodb:BatchGetItem]
              Resource: !If [OwnsTable, !GetAtt Table.Arn, !Ref ExistingTableArn]
      Events:
{}
"#,
            self.logical_id(),
            self.name,
            events.collect::<String>()
        )
    }

    fn sample_event(&self) -> String {
        let (mut path, mut parameters) = (self.path.clone(), Vec::new());
        for parameter in self.parameters() {
            path = path.replace(&format!("{{{parameter}}}"), "01KF0FV2HRF8BR7TAB0BC6YCDE");
            parameters.push(format!("\"{parameter}\": \"01KF0FV2HRF8BR7TAB0BC6YCDE\""));
        }
        let (method, parameters) = (self.method, parameters.join(", "));
        format!(
            r#"{{
  "version": "2.0",
  "routeKey": "{method} {}",
  "rawPath": "{path}",
  "rawQueryString": "",
  "headers": {{
    "authorization": "Bearer TOKEN",
    "content-type": "application/json",
    "host": "localhost"
  }},
  "pathParameters": {{{parameters}}},
  "requestContext": {{
    "accountId": "123456789012",
    "apiId": "local",
    "domainName": "localhost",
    "domainPrefix": "local",
    "http": {{
      "method": "{method}",
      "path": "{path}",
      "protocol": "HTTP/1.1",
      "sourceIp": "127.0.0.1",
      "userAgent": "sample"
    }},
    "requestId": "sample",
    "routeKey": "$default",
    "stage": "$default",
    "time": "15/Jan/2026:09:30:00 +0000",
    "timeEpoch": 1768469400000
  }},
  "isBase64Encoded": false
}}
"#,
            self.path
        )
    }
}

fn method_of(verb: &str) -> &'static str {
    match verb {
        "delete" | "disconnect" | "remove" | "revoke" => "DELETE",
        "put" | "set" => "PUT",
        "update" => "PATCH",
        "create" | "issue" | "register" | "start" => "POST",
        _ => "GET",
    }
}

/// Inserts `new` behind the last `part`, at the next `end`.
fn insert_behind(text: &str, part: &str, end: &str, new: &str) -> Outcome<String> {
    let at = text
        .rfind(part)
        .and_then(|from| Some(from + text[from..].find(end)? + end.len()));
    let at = at.ok_or_else(|| format!("there is no {part}"))?;
    Ok(format!("{}{new}{}", &text[..at], &text[at..]))
}

/// Inserts a `pub mod` line among the others, in alphabetical order.
fn with_module(text: &str, module: &str) -> Outcome<String> {
    let new = format!("pub mod {module};\n");
    let mut others = text
        .split_inclusive('\n')
        .filter(|line| line.starts_with("pub mod "));
    let last = others.clone().next_back().ok_or("no module is declared")?;
    Ok(match others.find(|other| *other > new.as_str()) {
        Some(later) => text.replacen(later, &format!("{new}{later}"), 1),
        None => text.replacen(last, &format!("{last}{new}"), 1),
    })
}

/// Adds watch routes behind those of the same path.
fn with_watch_routes(text: &str, path: &str, routes: &str) -> Outcome<String> {
    const NEXT: &str = "\n\"/mcp/{server}\" = [\n";
    let own = format!("\n\"{path}\" = [\n");
    if text.contains(&own) {
        return Ok(text.replacen(&own, &format!("{own}{routes}"), 1));
    }
    if !text.contains(NEXT) {
        return Err("Cargo.toml has no watch route for calls".to_owned());
    }
    Ok(text.replacen(NEXT, &format!("{own}{routes}]{NEXT}"), 1))
}

/// Writes all places, or none: every fault is found before the first write.
pub fn write(root: &Path, name: &str, route: Option<(&str, &str)>) -> Outcome {
    let endpoint = Endpoint::parse(name, route)?;
    for (path, text) in files(&endpoint, root)? {
        fs::write(root.join(&path), text).map_err(|error| format!("{path}: {error}"))?;
        println!("wrote {path}");
    }
    println!("\n{LEFT}");
    Ok(())
}

/// The new text of each file that names endpoints.
fn files(endpoint: &Endpoint<'_>, root: &Path) -> Outcome<Vec<(String, String)>> {
    let read = |path: &str| {
        let text = fs::read_to_string(root.join(path));
        text.map_err(|error| format!("{path}: {error}"))
    };
    let Endpoint { name, contract, .. } = endpoint;
    let new = [
        (
            format!("functions/{contract}/{}.rs", endpoint.module),
            endpoint.handler(),
        ),
        (format!("functions/bin/{name}.rs"), endpoint.binary()),
        (format!("tests/events/{name}.json"), endpoint.sample_event()),
    ];
    if let Some((path, _)) = new.iter().find(|(path, _)| root.join(path).exists()) {
        return Err(format!("{path} is there already"));
    }
    let of_contract = format!("functions/bin/{contract}-");
    let manifest = insert_behind(
        &read("Cargo.toml")?,
        &of_contract,
        "\n\n",
        &endpoint.manifest_bin(),
    )?;
    let manifest = with_watch_routes(&manifest, &endpoint.path, &endpoint.watch_routes())?;
    let of_contract = format!("Binary: {contract}-");
    let template = read("template.yaml")?;
    let template = insert_behind(
        &template,
        &of_contract,
        "\n\n",
        &endpoint.template_function(),
    )?;
    let of_contract = format!("\n    {}_", contract.to_uppercase());
    let index = insert_behind(
        &read("functions/lib.rs")?,
        &of_contract,
        ";\n",
        &endpoint.index_line(),
    )?;
    let modules = format!("functions/{contract}/mod.rs");
    let declared = with_module(&read(&modules)?, &endpoint.module)?;
    let changed = [
        (modules, declared),
        ("functions/lib.rs".to_owned(), index),
        ("Cargo.toml".to_owned(), manifest),
        ("template.yaml".to_owned(), template),
    ];
    Ok(new.into_iter().chain(changed).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root;

    #[test]
    fn a_name_says_where_an_endpoint_belongs() {
        let made = Endpoint::parse("hawser-list-things", None).unwrap();
        assert_eq!(made.module, "list_things");
        assert_eq!((made.method, made.path.as_str()), ("GET", "/v1/things"));
        assert_eq!(made.methods(), ["GET", "HEAD"]);
        assert_eq!(made.logical_id(), "HawserListThingsFunction");
        let route = Some(("DELETE", "/v1/things/{thingId}"));
        let made = Endpoint::parse("hawser-delete-thing", route).unwrap();
        assert_eq!(made.parameters(), ["thingId"]);
        for (name, route) in [
            ("hawser", None),
            ("hawser-list", None),
            ("other-list-things", None),
            ("hawser-List-things", None),
            ("hawser-list-", None),
            ("hawser-list-things", Some(("HEAD", "/v1/things"))),
            ("hawser-list-things", Some(("GET", "v1/things"))),
        ] {
            assert!(Endpoint::parse(name, route).is_err(), "{name} {route:?}");
        }
    }

    #[test]
    fn each_contract_gets_all_its_places_once() {
        for contract in ["truefoundry", "langsmith", "kambrium", "hawser"] {
            let name = format!("{contract}-list-things");
            let endpoint = Endpoint::parse(&name, None).unwrap();
            let files = files(&endpoint, &root()).unwrap();
            assert_eq!(files.len(), 7);
            for (path, text) in &files[3..] {
                let before = fs::read_to_string(root().join(path)).unwrap();
                let named = if path.ends_with("mod.rs") {
                    "mod list_things;"
                } else {
                    name.as_str()
                };
                assert!(!before.contains(named) && text.contains(named), "{path}");
                // Nothing of the file before is lost.
                let mut kept = text.lines();
                assert!(
                    before.lines().all(|line| kept.any(|one| one == line)),
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn what_is_there_is_not_overwritten() {
        let there = Endpoint::parse("hawser-get-receipt", None).unwrap();
        assert!(files(&there, &root()).unwrap_err().contains("already"));
    }

    #[test]
    fn a_path_that_has_routes_gets_another() {
        let there = "\n\"/v1/a\" = [\n    x\n]\n\"/mcp/{server}\" = [\n";
        let added = with_watch_routes(there, "/v1/a", "    y\n").unwrap();
        assert!(added.contains("= [\n    y\n    x\n]"), "{added}");
        let new = with_watch_routes(there, "/v1/b", "    y\n").unwrap();
        assert!(
            new.contains("]\n\"/v1/b\" = [\n    y\n]\n\"/mcp/{server}\""),
            "{new}"
        );
    }
}
