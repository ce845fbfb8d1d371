//! What the local server reads from `template.yaml`: the routes and the table, so that both are stated once.

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType, TimeToLiveSpecification,
};
use hawser_functions::{ENDPOINTS, Endpoint};
use serde_yaml_ng::Value;
use std::collections::HashMap;
use std::io::Error;

const TEMPLATE: &str = include_str!("../../../template.yaml");

/// The parsed template.
pub struct Template(Value);

/// The routes to endpoints, matched as API Gateway's HTTP APIs do: a literal segment takes precedence over a parameter.
pub struct Router {
    routes: Vec<(String, String, &'static Endpoint)>,
    default: &'static Endpoint,
}

impl Template {
    /// The template of this build.
    ///
    /// # Errors
    /// It is not YAML.
    pub fn load() -> Result<Self, Error> {
        serde_yaml_ng::from_str(TEMPLATE)
            .map(Self)
            .map_err(Error::other)
    }

    fn functions(&self) -> impl Iterator<Item = (&str, &Value)> {
        let resources = self.0["Resources"].as_mapping().into_iter().flatten();
        resources.filter_map(|(_, resource)| {
            let binary = resource["Metadata"]["BuildProperties"]["Binary"].as_str()?;
            Some((binary, &resource["Properties"]))
        })
    }

    /// Binary, method and path of every route. The catch-all route has neither method nor path.
    pub fn routes(&self) -> Vec<(String, Option<(String, String)>)> {
        let events = self.functions().flat_map(|(binary, properties)| {
            let events = properties["Events"].as_mapping().into_iter().flatten();
            events.map(move |(_, event)| (binary, event))
        });
        let http = events.filter(|(_, event)| event["Type"].as_str() == Some("HttpApi"));
        http.map(|(binary, event)| {
            let text = |name: &str| event["Properties"][name].as_str().map(str::to_owned);
            (binary.to_owned(), text("Method").zip(text("Path")))
        })
        .collect()
    }

    /// The binaries of functions that get every request of a REST API, and take their routes from the index. With each,
    /// the mode in which the API passes its answers on.
    pub fn behind_rest_apis(&self) -> Vec<(String, Option<String>)> {
        let resources = self.0["Resources"].as_mapping().into_iter().flatten();
        let apis =
            resources.filter(|(_, one)| one["Type"].as_str() == Some("AWS::Serverless::Api"));
        let paths = apis.flat_map(|(_, api)| {
            let paths = api["Properties"]["DefinitionBody"]["paths"].as_mapping();
            paths.into_iter().flatten()
        });
        let methods = paths.flat_map(|(_, path)| path.as_mapping().into_iter().flatten());
        let mut found: Vec<_> = methods
            .filter_map(|(_, method)| {
                let integration = &method["x-amazon-apigateway-integration"];
                let Value::Tagged(uri) = &integration["uri"] else {
                    return None;
                };
                let (_, function) = uri.value.as_str()?.split_once("/functions/${")?;
                let (function, _) = function.split_once(".Arn}")?;
                let binary =
                    &self.0["Resources"][function]["Metadata"]["BuildProperties"]["Binary"];
                let mode = integration["responseTransferMode"].as_str();
                Some((binary.as_str()?.to_owned(), mode.map(str::to_owned)))
            })
            .collect();
        found.dedup();
        found
    }

    /// The names of all binaries.
    pub fn binaries(&self) -> Vec<String> {
        self.functions()
            .map(|(binary, _)| binary.to_owned())
            .collect()
    }

    /// The actions that a binary's own policy allows, as if every condition of the template were true.
    pub fn actions(&self, binary: &str) -> Vec<String> {
        let properties = self
            .functions()
            .find(|(name, _)| *name == binary)
            .map(|(_, properties)| properties);
        let policies = properties
            .and_then(|p| p["Policies"].as_sequence())
            .into_iter()
            .flatten();
        let policies = policies.map(|policy| match policy {
            Value::Tagged(choice) if choice.tag == "If" => &choice.value[1],
            policy => policy,
        });
        let statements = policies
            .filter_map(|policy| policy["Statement"].as_sequence())
            .flatten();
        let actions = statements.flat_map(|statement| match &statement["Action"] {
            Value::Sequence(actions) => actions
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            action => action
                .as_str()
                .map(str::to_owned)
                .into_iter()
                .collect::<Vec<_>>(),
        });
        actions.collect()
    }

    /// The router.
    ///
    /// # Errors
    /// A route leads to a function that is not in the index, or there is no catch-all.
    pub fn router(&self) -> Result<Router, Error> {
        let endpoint = |name: &str| {
            ENDPOINTS
                .iter()
                .find(|e| e.name == name)
                .ok_or_else(|| Error::other(format!("no endpoint is called {name}")))
        };
        let (mut routes, mut default) = (Vec::new(), None);
        for (binary, route) in self.routes() {
            match route {
                Some((method, path)) => routes.push((method, path, endpoint(&binary)?)),
                None => default = Some(endpoint(&binary)?),
            }
        }
        for (binary, _) in self.behind_rest_apis() {
            let endpoint = endpoint(&binary)?;
            let own = endpoint.all_routes();
            routes.extend(own.map(|(m, p)| (m.to_owned(), p.to_owned(), endpoint)));
        }
        let default = default.ok_or_else(|| Error::other("the template has no catch-all route"))?;
        Ok(Router { routes, default })
    }

    /// Creates the table under `name` if there is none. It has no stream: nobody listens to one here, and the embedded
    /// store writes more slowly with one.
    ///
    /// # Errors
    /// The store refuses, or the template's table is malformed.
    pub async fn create_table(
        &self,
        client: &aws_sdk_dynamodb::Client,
        name: &str,
    ) -> Result<(), Error> {
        let tables = client.list_tables().send().await.map_err(Error::other)?;
        if tables.table_names().iter().any(|table| table == name) {
            return Ok(());
        }
        let table = &self.0["Resources"]["Table"]["Properties"];
        let build = || {
            let mut request = client
                .create_table()
                .table_name(name)
                .billing_mode(BillingMode::PayPerRequest);
            for one in sequence(&table["AttributeDefinitions"]) {
                let definition = AttributeDefinition::builder()
                    .attribute_name(text(&one["AttributeName"]))
                    .attribute_type(ScalarAttributeType::from(text(&one["AttributeType"])));
                request = request.attribute_definitions(definition.build()?);
            }
            for one in sequence(&table["GlobalSecondaryIndexes"]) {
                let kind = ProjectionType::from(text(&one["Projection"]["ProjectionType"]));
                let index = GlobalSecondaryIndex::builder()
                    .index_name(text(&one["IndexName"]))
                    .set_key_schema(Some(key_schema(&one["KeySchema"])?))
                    .projection(Projection::builder().projection_type(kind).build());
                request = request.global_secondary_indexes(index.build()?);
            }
            let key = key_schema(&table["KeySchema"])?;
            Ok::<_, BuildError>(request.set_key_schema(Some(key)))
        };
        match build().map_err(Error::other)?.send().await {
            Ok(_) => {
                let ttl = &table["TimeToLiveSpecification"];
                let ttl = TimeToLiveSpecification::builder()
                    .attribute_name(text(&ttl["AttributeName"]))
                    .enabled(ttl["Enabled"].as_bool().unwrap_or_default());
                let set = client.update_time_to_live().table_name(name);
                let set = set.time_to_live_specification(ttl.build().map_err(Error::other)?);
                set.send().await.map(drop).map_err(Error::other)
            }
            // Another process on the same data folder has created it.
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|e| e.is_resource_in_use_exception()) =>
            {
                Ok(())
            }
            Err(error) => Err(Error::other(error)),
        }
    }
}

fn sequence(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_sequence().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn key_schema(value: &Value) -> Result<Vec<KeySchemaElement>, BuildError> {
    let element = |one: &Value| {
        let kind = KeyType::from(text(&one["KeyType"]));
        KeySchemaElement::builder()
            .attribute_name(text(&one["AttributeName"]))
            .key_type(kind)
            .build()
    };
    sequence(value).map(element).collect()
}

impl Router {
    /// The endpoint for a request, with the values of the path's parameters.
    pub fn find(&self, method: &str, path: &str) -> (&'static Endpoint, HashMap<String, String>) {
        let of_method = self.routes.iter().filter(|(m, _, _)| m == method);
        of_method
            .filter_map(|(_, pattern, endpoint)| {
                Some((*endpoint, hawser_functions::route::capture(pattern, path)?))
            })
            .min_by_key(|(_, parameters)| parameters.len())
            .unwrap_or_else(|| (self.default, HashMap::new()))
    }
}
