//! Calls as bytes: what no well-behaved client or server sends. Of each request at most one call reaches the server, made of
//! what was meant; of each answer only itself reaches the caller.

use crate::harness::Hawser;
use crate::upstream::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends these bytes, then a request after which the connection ends, and reads to that end.
async fn exchange(hawser: &Hawser, request: &str) -> String {
    let address = hawser.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let last = "GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let bytes = format!("{request}{last}");
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // Who is refused in the middle of a request may find the connection reset.
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// The statuses in a string of answers.
fn statuses(answers: &str) -> Vec<&str> {
    let heads = answers.split("HTTP/1.1 ").skip(1);
    heads.map(|head| &head[..3]).collect()
}

#[tokio::test]
async fn names_of_headers_have_no_case_and_their_repetitions_count() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let auth = json!({"auth_data": {"type": "header", "headers": {"X-Key": "stored"}}});
    let mcp = register(&hawser, "wiki", &upstream.url, auth).await;
    let (_, bearer) = &user(&hawser, "ada").headers[0];
    let request = format!(
        "POST /mcp/{mcp} HTTP/1.1\r\nHOST: localhost\r\nAUTHORIZATION: {bearer}\r\nX-KEY: planted\r\nx-kEy: planted\r\n\
         cOOKIE: planted\r\nCONTENT-type: application/json\r\nMCP-Param-A: 1\r\nmcp-PARAM-a: 2\r\nMCP-PARAM-SECRET: planted\r\n\
         cOnNeCtIoN: keep-alive, x-secret\r\nConnection: MCP-param-SECRET\r\nX-Secret: planted\r\nTRACEPARENT: planted\r\n\
         Connection:TraceParent\r\nPROXY-AUTHORIZATION: planted\r\ncontent-LENGTH: 2\r\n\r\n{{}}"
    );
    let answer = exchange(&hawser, &request).await;
    assert_eq!(statuses(&answer), ["200", "404"], "{answer}");
    let seen = upstream.last();
    assert_eq!(seen.header("x-key"), Some("stored"));
    let repeated: Vec<_> = seen
        .headers
        .iter()
        .filter(|(n, _)| n == "mcp-param-a")
        .collect();
    assert_eq!(repeated.len(), 2, "{seen:?}");
    assert!(!format!("{seen:?}").contains("planted"), "{seen:?}");
    assert!(!format!("{seen:?}").contains(bearer.as_str()));
}

#[tokio::test]
async fn no_request_hides_another() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let (_, bearer) = &user(&hawser, "ada").headers[0];
    let head =
        format!("POST /mcp/{mcp} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer}\r\n");
    // Without a credential of its own: whoever takes it for a request refuses it.
    let hidden =
        format!("POST /mcp/{mcp} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\nplanted");
    let chunked = format!("2\r\n{{}}\r\n0\r\n\r\n{hidden}");
    let whole = hidden.len() + 2;
    for (framing, body) in [
        (
            format!("Content-Length: {whole}\r\nTransfer-Encoding: chunked"),
            &chunked,
        ),
        (
            format!("Transfer-Encoding: chunked\r\nContent-Length: {whole}"),
            &chunked,
        ),
        (
            format!("Content-Length: 2\r\nContent-Length: {whole}"),
            &format!("{{}}{hidden}"),
        ),
        (
            format!("Content-Length: 2, {whole}"),
            &format!("{{}}{hidden}"),
        ),
        ("Content-Length: +2".to_owned(), &format!("{{}}{hidden}")),
        ("Content-Length: 0x2".to_owned(), &format!("{{}}{hidden}")),
        ("Content-Length : 2".to_owned(), &format!("{{}}{hidden}")),
        ("Transfer-Encoding : chunked".to_owned(), &chunked),
        ("Transfer-Encoding: xchunked".to_owned(), &chunked),
        ("Transfer-Encoding: chunked, identity".to_owned(), &chunked),
        (
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked".to_owned(),
            &chunked,
        ),
        ("Transfer-Encoding:\x0bchunked".to_owned(), &chunked),
        ("X: y\r\n Transfer-Encoding: chunked".to_owned(), &chunked),
        ("X: y\nTransfer-Encoding: chunked".to_owned(), &chunked),
        ("X: y\rTransfer-Encoding: chunked".to_owned(), &chunked),
        (
            "Transfer-Encoding: chunked".to_owned(),
            &format!("2;a=\r\n\r\n{{}}\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "Transfer-Encoding: chunked".to_owned(),
            &format!("-1\r\n{hidden}"),
        ),
        (
            "Transfer-Encoding: chunked".to_owned(),
            &format!("fffffffffffffffff\r\n{hidden}"),
        ),
        (
            format!("Content-Length: 2\r\nX: \0\r\n\r\n{hidden}"),
            &String::new(),
        ),
    ] {
        let before = upstream.count();
        let request = format!("{head}{framing}\r\n\r\n{body}");
        let answer = exchange(&hawser, &request).await;
        for status in statuses(&answer) {
            assert!(
                ["200", "400", "401", "404"].contains(&status),
                "{framing}: {answer}"
            );
        }
        let seen = &upstream.seen()[before..];
        assert!(seen.len() <= 1, "{framing}: {seen:?}");
        for one in seen {
            assert!(
                one.body.is_empty() || one.body == b"{}",
                "{framing}: {one:?}"
            );
            assert_eq!(one.header("transfer-encoding"), None);
        }
    }
}

/// A server that answers whatever comes with these bytes, and goes on listening on the connection.
async fn answering(answer: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = [0; 4096];
                while stream.read(&mut read).await.is_ok_and(|count| count > 0) {
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn no_answer_hides_another() {
    let hawser = Hawser::start().await;
    let url = answering(
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none\
         HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nplanted",
    );
    let mcp = register(&hawser, "wiki", &url.await, json!({})).await;
    for name in ["ada", "bob", "ada", "bob"] {
        let answer = call(&user(&hawser, name), &mcp).await;
        // A connection that said too much is not used again, or fails the next one; nobody is given what is left over.
        assert!(
            ["one", ""].contains(&answer.text.as_str()) || answer.status == 502,
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn what_is_no_http_answer_is_answered_as_unreachable() {
    let hawser = Hawser::start().await;
    let text = "The MCP server cannot be reached";
    for (i, answer) in [
        "",
        "planted\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nplanted",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 7\r\n\r\nplanted",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nplanted",
        "HTTP/1.1 99 planted\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nplanted\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\netag: planted\r\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let url = match answer {
            // It closes the connection.
            "" => raw(Vec::new()).await,
            answer => answering(answer).await,
        };
        let mcp = register(&hawser, &format!("server-{i}"), &url, json!({})).await;
        let refused = call(&user(&hawser, "ada"), &mcp).await;
        is_refused(&refused, 502, -32603, text, Value::Null);
    }
}

#[tokio::test]
async fn an_error_of_the_server_s_passes_whole() {
    let (hawser, upstream) = (Hawser::start().await, Upstream::start().await);
    let mcp = register(&hawser, "wiki", &upstream.url, json!({})).await;
    let ada = user(&hawser, "ada");
    let page = "<h1>oh</h1>".repeat(200_000);
    let html = vec![("content-type", "text/html".to_owned())];
    upstream.reply(Reply::new(500, html, page.clone()));
    let answer = call(&ada, &mcp).await;
    assert_eq!(
        (answer.status, answer.header("content-type").as_deref()),
        (500, Some("text/html"))
    );
    assert!(answer.text == page, "{} bytes", answer.text.len());
    // One that names a header in `Connection` means the connection to us.
    let headers = [
        ("connection", "close, retry-after"),
        ("retry-after", "7"),
        ("allow", "POST"),
    ];
    let headers = headers.map(|(name, value)| (name, value.to_owned()));
    upstream.reply(Reply::new(503, headers.to_vec(), "{}"));
    let answer = call(&ada, &mcp).await;
    assert_eq!((answer.status, answer.text.as_str()), (503, "{}"));
    assert_eq!(answer.header("allow").as_deref(), Some("POST"));
    for name in ["retry-after", "connection"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    // Ours says what is wrong in the protocol's own form.
    let path = format!("/mcp/{mcp}");
    let answer = ada
        .send("POST", &path, &[MODERN], vec![b'x'; (4 << 20) + 1])
        .await;
    let error = json!({"code": -32600, "message": "The request body is larger than 4 MiB"});
    answer.is(413, json!({"jsonrpc": "2.0", "id": null, "error": error}));
    assert_eq!(upstream.count(), 2);
}
