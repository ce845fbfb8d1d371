//! Requests through any of the processes, and their answers.

use super::{AT, Play};
use crate::world::{BASE, Process, fixed};
use http_body_util::BodyExt;
use lambda_http::http::Request;
use lambda_http::{Body, RequestExt};
use serde_json::Value;
use std::sync::Arc;

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter().filter(|(n, _)| n == name);
        all.next().map(|(_, value)| value.as_str())
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Play {
    /// A process that somebody's request reaches: a new one where one has died.
    pub(super) fn process(&self) -> Arc<Process> {
        if let Ok(process) = AT.try_with(Arc::clone) {
            return process;
        }
        let count = self.slots.lock().unwrap().len();
        self.process_in(self.world.draw(|rng| rng.below(count as u64)) as usize)
    }

    pub(super) fn process_in(&self, slot: usize) -> Arc<Process> {
        let mut process = self.slots.lock().unwrap()[slot].clone();
        if process.is_dead() {
            process = self.world.start("p", self.skew());
            self.slots.lock().unwrap()[slot] = process.clone();
        }
        process
    }

    /// A request through any process; `None` if there is no answer.
    pub(super) async fn ask(
        &self,
        who: &str,
        method: &str,
        target: &str,
        more: &[(&str, &str)],
        body: Value,
    ) -> Option<Answer> {
        let process = self.process();
        // Whoever keeps to one process stays to the end.
        let impatient = match AT.try_with(|_| ()) {
            Ok(()) => 0,
            Err(_) => self.shape.impatient,
        };
        let hangs_up = self
            .world
            .draw(|rng| rng.chance(impatient).then(|| rng.below(40) as u32));
        self.ask_at(&process, hangs_up, who, method, target, more, body)
            .await
    }

    #[expect(clippy::too_many_arguments, reason = "a request has that many parts")]
    pub(super) async fn ask_at(
        &self,
        process: &Arc<Process>,
        hangs_up: Option<u32>,
        who: &str,
        method: &str,
        target: &str,
        more: &[(&str, &str)],
        body: Value,
    ) -> Option<Answer> {
        let path = target.split('?').next().unwrap_or_default();
        let (endpoint, parameters) = fixed().router.find(method, path);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{BASE}{target}"));
        if let Some(token) = self.tokens.get(who) {
            request = request.header("authorization", token);
        }
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        let body = match body {
            Value::Null => Body::Empty,
            Value::String(form) => Body::Text(form),
            body => Body::Text(body.to_string()),
        };
        let request = request.body(body).unwrap().with_path_parameters(parameters);
        self.world.tell(|| {
            format!(
                "{process:?} <- {who} {}, hangs up {hangs_up:?}",
                endpoint.name
            )
        });
        let app = process.app();
        let answering = async move {
            let (parts, body) = endpoint.answer(&app, request).await.into_parts();
            let text = body.collect().await.map(|body| body.to_bytes());
            let text = String::from_utf8(text.unwrap_or_default().into()).unwrap();
            let headers = parts.headers.iter();
            let headers = headers
                .map(|(n, v)| {
                    (
                        n.to_string(),
                        String::from_utf8_lossy(v.as_bytes()).into_owned(),
                    )
                })
                .collect();
            let status = parts.status.as_u16();
            Answer {
                status,
                headers,
                text,
            }
        };
        let answer = process.host(hangs_up, answering).await;
        self.world.tell(|| {
            let status = answer.as_ref().map(|answer| answer.status);
            format!("{process:?} -> {who} {}: {status:?}", endpoint.name)
        });
        if let Some(answer) = &answer {
            let text = answer.text.clone();
            self.world
                .explain(|| text.chars().filter(|c| *c != '\n').take(600).collect());
        }
        answer
    }
}
