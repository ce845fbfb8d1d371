//! A local server that more connections come to than it has room for, and that says nothing of them.

use crate::harness::{Ground, Wire};
use hawser_local::limits::Limits;
use hawser_local::server::serve_within;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server within these limits; its address, and what stops it.
async fn server(limits: Limits) -> (String, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let app = Ground::new().await.app(
        &Wire::default(),
        &format!("http://{address}"),
        |_| {},
        |_| {},
    );
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(serve_within(app, listener, limits, async {
        let _ = stopped.await;
    }));
    (address, stop)
}

/// What the server sends until it closes the connection.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // One that is closed with something unread is reset.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut all))
        .await
        .expect("it stays open");
    String::from_utf8_lossy(&all).into_owned()
}

async fn get(address: &str) -> u16 {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = timeout(
        PATIENCE,
        http.get(format!("http://{address}/v1/receipts")).send(),
    )
    .await;
    answer.expect("no answer").unwrap().status().as_u16()
}

#[tokio::test]
async fn connections_that_say_nothing_or_half_of_it_are_closed() {
    let limits = Limits {
        connections: 64,
        head: Duration::from_millis(150),
        body: Duration::from_millis(150),
    };
    let (address, _stop) = server(limits).await;
    for said in [
        "",
        "GET /v1/rec",
        "GET /v1/receipts HTTP/1.1\r\nhost: localhost\r\nx-",
        "POST /oauth2/token HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc",
        "POST /oauth2/token HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
    ] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        let is_late = answer.starts_with("HTTP/1.1 408 ");
        assert_eq!(is_late, said.contains("\r\n\r\n"), "{said:?}: {answer:?}");
    }
    // One that has been answered may rest for as long, and no longer.
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let request = b"GET /v1/receipts HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request).await.unwrap();
    assert!(read_to_end(&mut stream).await.starts_with("HTTP/1.1 401 "));
}

#[tokio::test]
async fn no_more_connections_are_held_than_there_is_room_for_and_all_are_served() {
    let limits = Limits {
        connections: 4,
        head: Duration::from_millis(200),
        body: Duration::from_millis(200),
    };
    let (address, _stop) = server(limits).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    // Those that are not accepted wait outside, and get their turn when the silent ones are closed.
    assert_eq!(get(&address).await, 401);
    for mut stream in silent {
        assert_eq!(read_to_end(&mut stream).await, "");
    }
}

#[tokio::test]
async fn an_answer_that_takes_its_time_is_no_idle_connection() {
    let limits = Limits {
        connections: 4,
        head: Duration::from_millis(100),
        body: Duration::from_millis(100),
    };
    let (address, _stop) = server(limits).await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let request = b"GET /v1/receipts HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for _ in 0..3 {
        stream.write_all(request).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 401");
        let mut rest = vec![0; 4096];
        assert!(stream.read(&mut rest).await.unwrap() > 0);
    }
}
