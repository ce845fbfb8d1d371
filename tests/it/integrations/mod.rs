//! The catalogue of integrations in the table: how it is made equal to a file, what is read of it and when, where the secrets of its
//! clients are, and that no mistake, crash or second writer leaves something between.

mod command;
mod copies;
mod secrets;
mod writers;

pub(crate) use secrets::Stores;

use crate::harness::Answer;
use crate::issuer::{Issuer, StaticClient};
use crate::process::{line, run};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Output;
use tempfile::TempDir;

const KAMBRIUM: &str = "/api/v1/mcp-servers";
const SECRET: &str = "planted-client-secret-7f3a9c";

fn plain(title: &str) -> Value {
    json!({"display_name": title, "mcp_url": "https://x.example/mcp", "api_key": {}})
}

fn confidential(title: &str, secret: &str) -> Value {
    json!({"display_name": title, "mcp_url": "https://x.example/mcp",
           "oauth": {"client_id": "operator", "client_secret": secret}})
}

/// A folder for the command line.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs `hawser integrations ...` with this file.
    fn apply_text(&self, text: &str, more: &[&str]) -> Output {
        let file = self.path().join("file.json");
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let output = run(
            self.path(),
            &[&["integrations", "apply", file], more].concat(),
        );
        // What the folder holds besides is looked into.
        std::fs::remove_file(file).unwrap();
        output
    }

    fn apply(&self, integrations: Value) -> Vec<Value> {
        let text = json!({"integrations": integrations}).to_string();
        lines(self.apply_text(&text, &[]))
    }

    fn list(&self) -> Vec<Value> {
        lines(run(self.path(), &["integrations", "list"]))
    }

    fn events(&self) -> Vec<Value> {
        lines(run(self.path(), &["integrations", "events"]))
    }

    /// Every file in it.
    fn bytes(&self) -> Vec<u8> {
        let (mut bytes, mut folders) = (Vec::new(), vec![self.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => bytes.extend(std::fs::read(&path).unwrap()),
                }
            }
        }
        bytes
    }
}

fn lines(output: Output) -> Vec<Value> {
    let text = line(output);
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// Names and what is said of them.
fn available(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let data = answer.json()["data"].clone();
    let all = data.as_array().unwrap().iter();
    all.map(|one| one["name"].as_str().unwrap().to_owned())
        .collect()
}

fn know_operator(issuer: &Issuer, callback: String, secret: &str) {
    issuer.configure(|settings| {
        settings.static_clients.push(StaticClient {
            id: "operator".to_owned(),
            secret: Some(secret.to_owned()),
            redirect_uris: vec![callback],
        });
    });
}

fn by_consent() -> Value {
    json!({"mcp_server": "mail", "access_type": "write", "auth_method": "oauth"})
}
