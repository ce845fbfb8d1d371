//! An MCP client for a test to talk to, made of rmcp; what is said is in `../client.py`.
//!
//! `HEADERS='{"Authorization": "Bearer ..."}' hawser-interop-rmcp auto|legacy URL`
#![expect(
    deprecated,
    reason = "sampling and roots, which only the session era has"
)]

use anyhow::{Context, bail};
use http::{HeaderName, HeaderValue};
use rmcp::model::{
    CallToolRequestParams, ClientConfig, CreateMessageRequestParams, CreateMessageResult,
    ElicitRequestParams, ElicitResult, ErrorData, Implementation, ListRootsResult,
    ProgressNotificationParam, ProtocolVersion, Root,
};
use rmcp::service::{NotificationContext, RequestContext, RoleClient, ServiceError};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt};
use serde_json::{Value, from_value, json, to_value};
use std::collections::HashMap;
use std::env;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

/// Answers whatever a server asks of the client.
#[derive(Clone, Default)]
struct Handler {
    progress: Arc<Mutex<Vec<f64>>>,
}

fn internal(error: impl ToString) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        let capabilities = json!({"sampling": {}, "elicitation": {}, "roots": {}});
        ClientConfig::new(
            from_value(capabilities).expect("capabilities"),
            Implementation::new("interop", "0"),
        )
    }

    async fn create_message(
        &self,
        params: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let params = to_value(params).map_err(internal)?;
        let content = &params["messages"][0]["content"];
        let said = content.get("text").or(content[0].get("text"));
        let text = format!("{}!", said.and_then(Value::as_str).unwrap_or_default());
        let content = json!({"type": "text", "text": text});
        let result = json!({"role": "assistant", "model": "echo", "content": content});
        from_value(result).map_err(internal)
    }

    async fn create_elicitation(
        &self,
        params: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let params = to_value(params).map_err(internal)?;
        let fields = params["requestedSchema"]["properties"].as_object();
        let example = |schema: &Value| match schema["type"].as_str() {
            _ if schema.get("default").is_some() => schema["default"].clone(),
            Some("integer") => json!(2),
            Some("number") => json!(2.5),
            Some("boolean") => json!(true),
            _ => json!("text"),
        };
        let content: serde_json::Map<_, _> = fields
            .into_iter()
            .flatten()
            .map(|(name, schema)| (name.clone(), example(schema)))
            .collect();
        from_value(json!({"action": "accept", "content": content})).map_err(internal)
    }

    async fn list_roots(
        &self,
        _: RequestContext<RoleClient>,
    ) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(vec![Root::new("file:///work")]))
    }

    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.progress
            .lock()
            .expect("progress")
            .push(params.progress);
    }
}

fn say(what: Value) {
    println!("{what}");
}

fn failure(error: &anyhow::Error) -> Value {
    match error.downcast_ref::<ServiceError>() {
        Some(ServiceError::McpError(said)) => {
            json!({"error": {"code": said.code.0, "message": said.message, "data": said.data}})
        }
        _ => json!({"error": {"message": format!("{error:#}")}}),
    }
}

async fn converse(mode: &str, url: &str) -> anyhow::Result<()> {
    let headers: HashMap<String, String> = serde_json::from_str(&env::var("HEADERS")?)?;
    let mut custom = HashMap::new();
    for (name, value) in headers {
        custom.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    let config = StreamableHttpClientTransportConfig::with_uri(url).custom_headers(custom);
    let lifecycle = match mode {
        "auto" => ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: None,
        },
        "legacy" => ClientLifecycleMode::Initialize,
        _ => bail!("auto or legacy"),
    };
    let handler = Handler::default();
    let progress = handler.progress.clone();
    let transport = StreamableHttpClientTransport::from_config(config);
    let client = handler.serve_with_lifecycle(transport, lifecycle).await?;
    let tools = client.list_all_tools().await?;
    let names: Vec<_> = tools.iter().map(|tool| &tool.name).collect();
    let version = client.peer_info().map(|info| info.protocol_version.clone());
    say(json!({"version": version, "tools": names}));
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let call: Value = serde_json::from_str(&line)?;
        let tool = call["tool"].as_str().context("tool")?.to_owned();
        let arguments = call["arguments"].as_object().cloned().unwrap_or_default();
        let params = CallToolRequestParams::new(tool).with_arguments(arguments);
        match client.call_tool(params).await {
            Ok(result) => {
                let result = to_value(result)?;
                let content = result["content"].as_array();
                let text: String = content
                    .into_iter()
                    .flatten()
                    .filter_map(|block| block["text"].as_str())
                    .collect();
                let progress = std::mem::take(&mut *progress.lock().expect("progress"));
                let is_error = result["isError"] == true;
                say(json!({"text": text, "progress": progress, "is_error": is_error}));
            }
            Err(error) => say(failure(&error.into())),
        }
    }
    client.cancel().await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let words: Vec<_> = env::args().collect();
    let [_, mode, url] = words.as_slice() else {
        bail!("MODE and URL");
    };
    if let Err(error) = converse(mode, url).await {
        say(failure(&error));
    }
    Ok(())
}
