//! Puts the parts of docs/openapi together into one document, which `hawser-openapi` serves. What the parts abbreviate is written
//! out here; docs/openapi/openapi.yaml says what that is.

use serde_json::{Map, Value, json};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const PARTS: &str = "docs/openapi";
const FRAME: &str = "openapi.yaml";
const RENDERER: &str = "docs/openapi/renderer/rapidoc-min.js";

fn main() -> Outcome {
    println!("cargo::rerun-if-changed={PARTS}");
    let document = serde_json::to_vec(&document()?)?;
    write("openapi.json", &document)?;
    write("rapidoc-min.js", &fs::read(RENDERER)?)
}

/// Writes a file, and the same compressed.
fn write(name: &str, bytes: &[u8]) -> Outcome {
    let folder = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(folder.join(name), bytes)?;
    let file = fs::File::create(folder.join(format!("{name}.gz")))?;
    let mut coder = flate2::write::GzEncoder::new(file, flate2::Compression::best());
    coder.write_all(bytes)?;
    coder.finish()?;
    Ok(())
}

fn document() -> Outcome<Value> {
    let mut document = read(&Path::new(PARTS).join(FRAME))?;
    let mut parts: Vec<PathBuf> = fs::read_dir(PARTS)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    parts.retain(|path| path.extension().is_some_and(|kind| kind == "yaml"));
    parts.sort();
    let mut paths = Map::new();
    for part in parts.iter().filter(|path| !path.ends_with(FRAME)) {
        let at = |why| format!("{}: {why}", part.display());
        let mut part = read(part)?;
        let own = object(part["paths"].take()).map_err(at)?;
        add(&mut paths, own).map_err(at)?;
        for (kind, named) in object(part["components"].take()).map_err(at)? {
            let all = &mut document["components"][&kind];
            if all.is_null() {
                *all = json!({});
            }
            let all = all.as_object_mut().ok_or("components are objects")?;
            add(all, object(named).map_err(at)?).map_err(at)?;
        }
    }
    write_out_likes(&mut paths)?;
    let responses = document["components"]["responses"].clone();
    for (path, item) in &mut paths {
        write_out_operations(item, &responses).map_err(|why| format!("{path}: {why}"))?;
    }
    document["paths"] = paths.into();
    for (name, response) in document["components"]["responses"]
        .as_object_mut()
        .into_iter()
        .flatten()
    {
        name_the_request(response).map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(document)
}

fn read(path: &Path) -> Outcome<Value> {
    let text = fs::read_to_string(path)?;
    serde_yaml_ng::from_str(&text).map_err(|why| format!("{}: {why}", path.display()).into())
}

fn object(value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(object) => Ok(object),
        Value::Null => Ok(Map::new()),
        other => Err(format!("{other} is no object")),
    }
}

/// Adds what is not there yet.
fn add(all: &mut Map<String, Value>, more: Map<String, Value>) -> Result<(), String> {
    for (name, value) in more {
        if all.insert(name.clone(), value).is_some() {
            return Err(format!("{name} is there twice"));
        }
    }
    Ok(())
}

/// `x-like`: the operations of another path, with a word behind their names.
fn write_out_likes(paths: &mut Map<String, Value>) -> Outcome {
    let plain = paths.clone();
    for (path, item) in paths.iter_mut() {
        let like = item["x-like"].take();
        if like.is_null() {
            remove(item, "x-like");
            continue;
        }
        let (Some(other), Some(word)) = (like["path"].as_str(), like["word"].as_str()) else {
            return Err(format!("{path}: x-like needs a path and a word").into());
        };
        let mut copy = plain
            .get(other)
            .cloned()
            .ok_or_else(|| format!("{path} is like nothing"))?;
        for (_, operation) in operations(&mut copy) {
            let id = operation["operationId"].as_str().unwrap_or_default();
            operation["operationId"] = format!("{id}.{word}").into();
        }
        if !item["parameters"].is_null() {
            copy["parameters"] = item["parameters"].take();
        }
        *item = copy;
    }
    Ok(())
}

fn operations(item: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    let methods = ["get", "put", "post", "delete", "patch", "head"];
    let all = item.as_object_mut().into_iter().flatten();
    all.filter(move |(name, _)| methods.contains(&name.as_str()))
}

fn remove(value: &mut Value, name: &str) {
    if let Some(object) = value.as_object_mut() {
        object.shift_remove(name);
    }
}

/// `x-errors` with 415 where there is a body, and HEAD beside each GET that is no page.
fn write_out_operations(item: &mut Value, responses: &Value) -> Outcome {
    let mut head = None;
    for (method, operation) in operations(item) {
        let has_body = !operation["requestBody"].is_null();
        for (family, statuses) in object(operation["x-errors"].take())? {
            let mut refuse = |status: &str, family: &str| {
                let response = format!("#/components/responses/{family}{status}");
                operation["responses"][status] = json!({"$ref": response});
            };
            for status in statuses.as_array().ok_or("x-errors lists statuses")? {
                refuse(&status.to_string().replace('"', ""), &family);
            }
            if has_body {
                let own = !responses[format!("{family}415")].is_null();
                refuse("415", if own { family.as_str() } else { "Hawser" });
            }
        }
        remove(operation, "x-errors");
        for (_, response) in operation["responses"].as_object_mut().into_iter().flatten() {
            name_the_request(response)?;
        }
        let is_page = operation["x-page"].take() == true;
        remove(operation, "x-page");
        if method == "get" && !is_page {
            let mut copy = operation.clone();
            let id = copy["operationId"].as_str().unwrap_or_default();
            copy["operationId"] = format!("{id}.head").into();
            let summary = copy["summary"].as_str().unwrap_or_default();
            copy["summary"] = format!("{summary}: the headers alone").into();
            remove(&mut copy, "description");
            // The page leaves out what has this badge.
            copy["x-badges"] = json!([{"label": "HEAD"}]);
            head = Some(copy);
        }
    }
    if let Some(head) = head {
        item["head"] = head;
    }
    Ok(())
}

/// Every answer names its request.
fn name_the_request(response: &mut Value) -> Outcome {
    if response["$ref"].is_null() {
        remove(response, "$ref");
        if response["headers"].is_null() {
            response["headers"] = json!({});
        }
        response["headers"]["Hawser-Request-Id"] =
            json!({"$ref": "#/components/headers/RequestId"});
    }
    Ok(())
}
