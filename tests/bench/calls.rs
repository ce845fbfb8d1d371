//! What a call through Hawser takes, against the same call to the server itself; and that a large answer passes through
//! without being held. Hawser is the real program, and the server is another one.

use crate::parts::{Other, forget_peak, peak, quantile, ratio};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// A piece of a large answer.
const PIECE: usize = 1 << 16;

/// An MCP server that answers every request at once: with JSON, or at `/events` with one event now and another later, or
/// at `/large` with as many MiB as the query says.
pub struct Upstream;

impl Upstream {
    pub async fn start() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(async move {
                    let serve = http1::Builder::new();
                    let answer = service_fn(|request| async {
                        // What was asked does not matter, but it is read.
                        let (parts, body) = Request::into_parts(request);
                        let _ = BodyExt::collect(body).await;
                        Ok::<_, Infallible>(answer(&parts))
                    });
                    let _ = serve.serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        url
    }
}

fn answer(asked: &hyper::http::request::Parts) -> Response<BoxBody<Bytes, Infallible>> {
    let (kind, body) = match asked.uri.path() {
        "/events" => {
            let event = Bytes::from_static(
                b"event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n",
            );
            let events = futures_util::stream::unfold(0, move |sent| {
                let event = event.clone();
                async move {
                    if sent == 1 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    (sent < 2).then(|| (Ok(Frame::data(event)), sent + 1))
                }
            });
            ("text/event-stream", BodyExt::boxed(StreamBody::new(events)))
        }
        "/large" => {
            let mib: usize = asked.uri.query().unwrap().parse().unwrap();
            let piece = Bytes::from(vec![b' '; PIECE]);
            let pieces = std::iter::repeat_n(piece, mib * (1 << 20) / PIECE);
            let pieces = pieces.map(|piece| Ok(Frame::data(piece)));
            let pieces = futures_util::stream::iter(pieces);
            ("text/event-stream", BodyExt::boxed(StreamBody::new(pieces)))
        }
        _ => {
            let body = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
            ("application/json", Full::new(body).boxed())
        }
    };
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("content-type", kind.parse().unwrap());
    response
}

/// The real program.
struct Hawser {
    process: std::process::Child,
    url: String,
    token: String,
}

impl Hawser {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hawser"));
        let command = command.args(["serve", "--in-memory", "--listen", "127.0.0.1:0"]);
        let (process, line) = Other::line(command);
        let ready: Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        Self {
            process,
            url: text("url"),
            token: text("adminToken"),
        }
    }

    /// Registers a server whose callers all have the same header; where it is called.
    async fn register(&self, http: &reqwest::Client, name: &str, url: &str) -> String {
        let auth = json!({"type": "header", "headers": {"X-Key": "v"}});
        let manifest = json!({"type": "mcp-server/remote", "name": name, "description": "d", "url": url, "auth_data": auth});
        let request = http.put(format!("{}/api/svc/v1/mcp", self.url));
        let request = request.bearer_auth(&self.token);
        let request = request.body(json!({"manifest": manifest}).to_string());
        let made = request.send().await.unwrap().text().await.unwrap();
        let made: Value = serde_json::from_str(&made).unwrap();
        format!("{}/mcp/{}", self.url, made["data"]["id"].as_str().unwrap())
    }
}

impl Drop for Hawser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub async fn run(small: bool) {
    let (turns, mib) = if small { (50, 8) } else { (3_000, 1_024) };
    let upstream = Other::start("upstream");
    let hawser = Hawser::start();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    println!("calls: through Hawser against the server itself, {turns} of each by turns");
    for (name, path) in [("JSON", "/mcp"), ("the first event of a stream", "/events")] {
        let direct = format!("{}{path}", upstream.url);
        let through = hawser
            .register(&http, path.trim_start_matches('/'), &direct)
            .await;
        let mut times = [Vec::new(), Vec::new()];
        for turn in 0..turns + 20 {
            for (url, times) in [&direct, &through].into_iter().zip(&mut times) {
                let begun = Instant::now();
                let mut answer = call(&http, url, &hawser.token).await;
                assert_eq!(answer.status(), 200);
                assert!(answer.chunk().await.unwrap().is_some());
                // The first ones each connect and read keys.
                if turn >= 20 {
                    times.push(begun.elapsed());
                }
                while answer.chunk().await.unwrap().is_some() {}
            }
        }
        for (which, part) in [("p50", 0.5), ("p99", 0.99)] {
            let [direct, through] = times.each_ref().map(|times| quantile(times, part));
            let ratio = ratio(through, direct);
            println!(
                "  {name}, {which}: {ratio:.1} times as long ({through:.2?} against {direct:.2?})"
            );
        }
    }
    let direct = format!("{}/large?{mib}", upstream.url);
    let through = hawser.register(&http, "large", &direct).await;
    let mut times = [Duration::ZERO; 2];
    forget_peak(hawser.process.id());
    let before = peak(hawser.process.id());
    for (url, time) in [direct, through].iter().zip(&mut times) {
        let begun = Instant::now();
        let mut answer = call(&http, url, &hawser.token).await;
        let mut bytes = 0;
        while let Some(piece) = answer.chunk().await.unwrap() {
            bytes += piece.len();
        }
        assert_eq!(bytes, mib << 20);
        *time = begun.elapsed();
    }
    let more = peak(hawser.process.id()) - before;
    let ratio = ratio(times[1], times[0]);
    println!(
        "  an answer of {mib} MiB: {ratio:.1} times as long, {more:.1} MiB more memory in Hawser than before"
    );
}

async fn call(http: &reqwest::Client, url: &str, token: &str) -> reqwest::Response {
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let request = http.post(url).bearer_auth(token).body(message.to_string());
    let request = request.header("content-type", "application/json");
    request
        .header("accept", "application/json, text/event-stream")
        .send()
        .await
        .unwrap()
}
