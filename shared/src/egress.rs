//! The one HTTP client for every URL that was learned from outside: registrations, metadata, endpoints, MCP servers
//! (MCP authorization 8). It reaches public addresses and those that the operator opens, and connects to exactly the
//! addresses that it checked.

pub mod coding;
mod private;
mod rule;
#[cfg(test)]
pub(crate) mod testing;

pub use private::{NotAHost, PrivateHosts};
pub use rule::{is_loopback, is_public};

use crate::{Error, Result, trust_anchors};
use bytes::Bytes;
use coding::Decoder;
use reqwest::Method;
use reqwest::dns::Resolve;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue, LOCATION};
use rule::Rule;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use url::Url;
use zeroize::Zeroizing;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit of a whole exchange, redirects included.
pub(crate) const TOTAL_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit for the head of a streamed answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// The most exchanges under way at once. Others wait for their turn, within their time limit.
const EXCHANGES: usize = 64;
/// The largest body that is read, in bytes.
const BODY_LIMIT: usize = 1 << 20;
const MAX_REDIRECTS: usize = 3;
/// The most characters of a redirect's target that are shown.
const TARGET_SHOWN: usize = 200;

/// How many Hawsers a request has passed, this one included. Without a limit, a server that points back at Hawser would
/// turn one call into many.
pub const HOPS_HEADER: HeaderName = HeaderName::from_static("hawser-hops");

/// The guarded client.
#[derive(Clone, Debug)]
pub struct Egress {
    network: Network,
    rule: Rule,
    total_timeout: Duration,
    head_timeout: Duration,
    turns: Arc<Semaphore>,
}

/// What carries a request after the checks.
#[derive(Clone, Debug)]
enum Network {
    Sockets(reqwest::Client),
    #[cfg(feature = "simulation")]
    InProcess(Arc<dyn InProcess>),
}

/// A simulated network, for tests in process.
#[cfg(feature = "simulation")]
pub trait InProcess: fmt::Debug + Send + Sync {
    /// Carries a request to the code that plays its server.
    fn send(
        &self,
        request: reqwest::Request,
    ) -> futures_util::future::BoxFuture<'static, Result<reqwest::Response, Failure>>;
}

/// A request to send.
pub struct Outgoing<'a> {
    /// Its method.
    pub method: Method,
    /// The URL; checked before anything is sent.
    pub url: &'a str,
    /// Its headers. The client sets `Host`, `User-Agent`, `Content-Length` and `Accept-Encoding`, and [`HOPS_HEADER`]
    /// if it is absent.
    pub headers: HeaderMap,
    /// Its body; empty for none.
    pub body: Vec<u8>,
}

/// An answer that was read completely.
pub struct Fetched {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, which may hold tokens.
    pub body: Zeroizing<Vec<u8>>,
}

impl Fetched {
    /// The body as text. Bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// Why there is no answer. Nothing more is told: a difference would show the inner network to whoever chose the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The URL, its host name or one of its addresses is not allowed. Callers show it like [`Self::Unreachable`].
    Refused,
    /// DNS, TLS, connecting or the answer itself failed, or took too long.
    Unreachable,
    /// The body is over 1 MiB.
    TooLarge,
}

/// Why a URL can never be reached, for whoever chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAllowed {
    /// It is not a URL, or holds user information.
    Malformed,
    /// Its scheme is not https, nor http where that is allowed.
    Scheme,
    /// Its host is not public, and the operator has not opened it.
    Host,
}

impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Egress {
    /// A client for public hosts over https. With `loopback_http` also for loopback, over http as well.
    ///
    /// # Errors
    /// [`Error::Internal`] when no HTTP client can be made.
    pub fn new(loopback_http: bool) -> Result<Self> {
        Self::opened(loopback_http, PrivateHosts::default())
    }

    /// A client that also reaches these private hosts.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn opened(loopback_http: bool, private: PrivateHosts) -> Result<Self> {
        let rule = Rule {
            loopback: loopback_http,
            private,
        };
        Self::with_rules(rule.clone(), rule)
    }

    /// The same client with other limits: exchanges at once, and the time of each.
    #[must_use]
    pub(crate) fn limited(self, at_once: usize, total_timeout: Duration) -> Self {
        Self {
            total_timeout,
            turns: Arc::new(Semaphore::new(at_once)),
            ..self
        }
    }

    fn with_rules(rule: Rule, resolver: impl Resolve + 'static) -> Result<Self> {
        // Only the local server reaches loopback. It trusts what its machine trusts.
        let client = trust_anchors::http_client(rule.loopback)?
            .dns_resolver(resolver)
            .https_only(!rule.loopback && !rule.private.any_http())
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("hawser/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(Error::internal)?;
        Ok(Self::over(Network::Sockets(client), rule))
    }

    /// A client of a simulated network. All checks except that of resolved addresses, all limits and all times are the
    /// same.
    #[cfg(feature = "simulation")]
    pub fn in_process(network: Arc<dyn InProcess>) -> Self {
        Self::over(Network::InProcess(network), Rule::default())
    }

    fn over(network: Network, rule: Rule) -> Self {
        Self {
            network,
            rule,
            total_timeout: TOTAL_TIMEOUT,
            head_timeout: HEAD_TIMEOUT,
            turns: Arc::new(Semaphore::new(EXCHANGES)),
        }
    }

    /// Checks scheme, user information, IP literals and names that are known without DNS.
    ///
    /// # Errors
    /// [`Failure::Refused`], also for a text that is no URL.
    pub fn check(&self, url: &str) -> Result<Url, Failure> {
        self.judge(url).map_err(|_| Failure::Refused)
    }

    /// [`Self::check`] with the reason, for callers that may know it.
    ///
    /// # Errors
    /// [`NotAllowed`]. Names are not resolved: anyone who may register a server may know what follows from the text
    /// alone.
    pub fn judge(&self, url: &str) -> Result<Url, NotAllowed> {
        let url = Url::parse(url).map_err(|_| NotAllowed::Malformed)?;
        self.rule.judge(&url).map(|()| url)
    }

    /// Whether plain http is allowed for a URL.
    pub fn takes_http(&self, url: &Url) -> bool {
        self.rule.takes_http(url)
    }

    /// Reads a document, following at most three redirects, each checked like a new URL. For discovery only
    /// (MCP authorization 2.7).
    ///
    /// # Errors
    /// [`Failure`]; a fourth redirect is [`Failure::Refused`].
    pub async fn get(&self, url: &str, accept: &str) -> Result<Fetched, Failure> {
        let accept = HeaderValue::from_str(accept).map_err(|_| Failure::Refused)?;
        let headers = HeaderMap::from_iter([(ACCEPT, accept)]);
        self.exchange(async {
            let mut url = self.check(url)?;
            for _ in 0..=MAX_REDIRECTS {
                let answer = self
                    .execute(Method::GET, url.clone(), headers.clone(), Bytes::new())
                    .await?;
                let Some(next) = redirect(&answer) else {
                    return read(answer).await;
                };
                let next = url.join(next).map_err(|_| Failure::Refused)?;
                url = self.check(next.as_str())?;
            }
            Err(Failure::Refused)
        })
        .await
    }

    /// Sends a request and reads the answer; follows nothing and repeats nothing.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn send(&self, request: Outgoing<'_>) -> Result<Fetched, Failure> {
        let url = self.check(request.url)?;
        let answer = self.execute(request.method, url, request.headers, request.body.into());
        self.exchange(async { read(answer.await?).await }).await
    }

    /// Sends a request to an MCP server and returns as soon as the head of the answer is there. Connecting and the head
    /// have time limits, the body has none. Follows 307 and 308 within the same origin, three at most, because a
    /// server's address may differ by a final slash; any other redirect is returned. Repeats nothing.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn open(&self, request: Outgoing<'_>) -> Result<reqwest::Response, Failure> {
        let url = self.check(request.url)?;
        // A tool may work for long before it answers, but not for ever.
        timeout(self.head_timeout, self.follow(request, url))
            .await
            .unwrap_or(Err(Failure::Unreachable))
    }

    async fn follow(
        &self,
        request: Outgoing<'_>,
        mut url: Url,
    ) -> Result<reqwest::Response, Failure> {
        let body = Bytes::from(request.body);
        let mut left = MAX_REDIRECTS;
        loop {
            let (method, headers) = (request.method.clone(), request.headers.clone());
            let answer = self
                .execute(method, url.clone(), headers, body.clone())
                .await?;
            match moved_within_origin(&answer, &url).filter(|_| left > 0) {
                Some(next) => url = self.check(next.as_str())?,
                None => return Ok(answer),
            }
            left -= 1;
        }
    }

    /// Runs a whole exchange when its turn comes, within its time limit.
    async fn exchange<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let in_turn = async {
            let _turn = self.turns.acquire().await;
            work.await
        };
        timeout(self.total_timeout, in_turn)
            .await
            .unwrap_or(Err(Failure::Unreachable))
    }

    async fn execute(
        &self,
        method: Method,
        url: Url,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<reqwest::Response, Failure> {
        // Without this header any coding is acceptable (RFC 9110 12.5.3).
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers
            .entry(HOPS_HEADER)
            .or_insert(HeaderValue::from_static("1"));
        let mut request = reqwest::Request::new(method, url);
        *request.headers_mut() = headers;
        if !body.is_empty() {
            *request.body_mut() = Some(body.into());
        }
        match &self.network {
            // A name that resolves to a refused address fails like one that does not resolve. The refusal may be
            // temporary, and the difference would reveal which internal names exist.
            Network::Sockets(client) => client
                .execute(request)
                .await
                .map_err(|_| Failure::Unreachable),
            #[cfg(feature = "simulation")]
            Network::InProcess(network) => network.send(request).await,
        }
    }
}

fn redirect(answer: &reqwest::Response) -> Option<&str> {
    matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308)
        .then(|| answer.headers().get(LOCATION)?.to_str().ok())
        .flatten()
}

/// The target of a redirect of a call, if the redirect may be followed with everything that the call carries.
fn moved_within_origin(answer: &reqwest::Response, from: &Url) -> Option<Url> {
    let next = matches!(answer.status().as_u16(), 307 | 308).then(|| target(answer, from))??;
    (next.origin() == from.origin()).then_some(next)
}

fn target(answer: &reqwest::Response, from: &Url) -> Option<Url> {
    let location = answer.headers().get(LOCATION)?.to_str().ok()?;
    from.join(location).ok()
}

/// The target of an answer's redirect without what may be secret in it: scheme, host and path.
pub fn leads_to(answer: &reqwest::Response) -> Option<String> {
    let mut target = target(answer, answer.url())?;
    target.set_query(None);
    target.set_fragment(None);
    let _ = target.set_username("");
    let _ = target.set_password(None);
    Some(String::from(target).chars().take(TARGET_SHOWN).collect())
}

async fn read(mut answer: reqwest::Response) -> Result<Fetched, Failure> {
    let mut body = Zeroizing::new(Vec::new());
    // A body that cannot be decoded is read as it is: its caller will not understand it.
    let mut decoder = Decoder::of(answer.headers()).unwrap_or_default();
    while let Some(mut chunk) = answer.chunk().await.map_err(|_| Failure::Unreachable)? {
        if let Some(decoder) = &mut decoder {
            let decoded = decoder.push(chunk, BODY_LIMIT);
            chunk = decoded.map_err(|_| Failure::TooLarge)?;
        }
        if body.len() + chunk.len() > BODY_LIMIT {
            return Err(Failure::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Fetched {
        status: answer.status().as_u16(),
        headers: std::mem::take(answer.headers_mut()),
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::testing::{Server, header, reply};
    use super::*;
    use reqwest::dns::{Name, Resolving};
    use std::io::ErrorKind;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;
    use tokio::sync::mpsc;

    fn rule(loopback: bool) -> Rule {
        Rule {
            loopback,
            ..Rule::default()
        }
    }

    fn outgoing(method: Method, url: &str) -> Outgoing<'_> {
        Outgoing {
            method,
            url,
            headers: HeaderMap::new(),
            body: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_redirect_to_a_refused_address_is_not_followed() {
        let inside = Server::start(|_, _| reply(200, "", "secret"));
        let port = inside.url.rsplit(':').next().unwrap().to_owned();
        // Both would reach a listener on loopback.
        for host in ["0.0.0.0", "[::ffff:127.0.0.1]"] {
            let to = format!("http://{host}:{port}/");
            let outside = Server::start(move |_, _| reply(302, &format!("Location: {to}\r\n"), ""));
            let answer = Egress::new(true).unwrap().get(&outside.url, "*/*").await;
            assert_eq!(answer.unwrap_err(), Failure::Refused);
            assert_eq!(outside.requests().len(), 1);
        }
        assert_eq!(inside.connections(), 0);
    }

    #[tokio::test]
    async fn three_redirects_are_followed_and_no_fourth() {
        let server = Server::start(|_, request| {
            let left: u32 = request[5..6].parse().unwrap();
            match left {
                0 => reply(200, "", "here"),
                _ => reply(307, &format!("Location: /{}\r\n", left - 1), ""),
            }
        });
        let egress = Egress::new(true).unwrap();
        let at = |path: &str| format!("{}{path}", server.url);
        let fetched = egress.get(&at("/3"), "text/plain").await.unwrap();
        assert_eq!(
            (fetched.status, fetched.body.as_slice()),
            (200, b"here".as_slice())
        );
        let request = &server.requests()[3];
        assert!(request.starts_with("GET /0 HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("accept: text/plain\r\n"), "{request}");
        assert!(request.contains("user-agent: hawser/"), "{request}");
        assert_eq!(
            egress.get(&at("/4"), "*/*").await.unwrap_err(),
            Failure::Refused
        );
        assert_eq!(server.requests().len(), 8);
    }

    #[tokio::test]
    async fn a_redirect_of_a_post_is_the_answer() {
        let server = Server::start(|_, _| reply(307, "Location: /again\r\n", ""));
        let egress = Egress::new(true).unwrap();
        let fetched = egress
            .send(outgoing(Method::POST, &server.url))
            .await
            .unwrap();
        assert_eq!((fetched.status, server.requests().len()), (307, 1));
        assert_eq!(format!("{fetched:?}"), "Fetched { status: 307, .. }");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_not_read() {
        for over in [0, 1] {
            let server = Server::start(move |_, _| reply(200, "", &"x".repeat(BODY_LIMIT + over)));
            let fetched = Egress::new(true).unwrap().get(&server.url, "*/*").await;
            assert_eq!(
                fetched.map(|f| f.body.len()),
                [Ok(BODY_LIMIT), Err(Failure::TooLarge)][over]
            );
        }
    }

    #[tokio::test]
    async fn a_name_that_resolves_inside_is_refused_before_connecting() {
        let server = Server::start(|_, _| reply(200, "", ""));
        let url = server.url.replace("127.0.0.1", "localhost");
        let egress = Egress::with_rules(rule(true), rule(false)).unwrap();
        // The failure is that of a name which does not resolve.
        assert_eq!(
            egress.get(&url, "*/*").await.unwrap_err(),
            Failure::Unreachable
        );
        assert_eq!(server.connections(), 0);
    }

    /// A resolver with another answer each time. Counts how often it was asked.
    #[derive(Default)]
    struct Changing {
        /// The rule and address of each answer, in order.
        answers: Vec<(Rule, &'static str)>,
        asked: Arc<AtomicUsize>,
    }

    impl Resolve for Changing {
        fn resolve(&self, _: Name) -> Resolving {
            let (rule, found) = self.answers[self.asked.fetch_add(1, Ordering::SeqCst)].clone();
            let found = vec![SocketAddr::new(found.parse().unwrap(), 0)];
            Box::pin(async move { Ok(rule.vet("a.example", found)?) })
        }
    }

    #[tokio::test]
    async fn a_name_is_resolved_once_and_only_what_was_checked_is_connected_to() {
        // 127.0.0.1 stands for the internet, 127.0.0.2 for the inner network.
        let (outside, inside) = (rule(true), rule(false));
        let public = Server::start(|_, _| reply(200, "", "public"));
        let port = public.url.rsplit(':').next().unwrap();
        let private = std::net::TcpListener::bind(format!("127.0.0.2:{port}")).unwrap();
        private.set_nonblocking(true).unwrap();
        let resolver = Changing {
            answers: vec![(outside.clone(), "127.0.0.1"), (inside, "127.0.0.2")],
            ..Changing::default()
        };
        let asked = resolver.asked.clone();
        let egress = Egress::with_rules(outside, resolver).unwrap();
        let url = format!("http://localhost:{port}/");
        let fetched = egress.get(&url, "*/*").await.unwrap();
        assert_eq!(fetched.body.as_slice(), b"public");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert_eq!(
            egress.get(&url, "*/*").await.unwrap_err(),
            Failure::Unreachable
        );
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        assert_eq!(private.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn nothing_is_kept_from_one_request_to_the_next() {
        let server = Server::start(|_, request| match request.starts_with("GET /moved") {
            true => reply(302, "Set-Cookie: a=b\r\nLocation: /there\r\n", ""),
            false => reply(200, "Set-Cookie: c=d\r\n", ""),
        });
        let egress = Egress::new(true).unwrap();
        for path in ["/moved", "/there"] {
            let url = format!("{}{path}", server.url);
            egress.get(&url, "*/*").await.unwrap();
        }
        assert_eq!(server.requests().len(), 3);
        for request in server.requests() {
            for name in ["cookie", "referer", "authorization"] {
                assert_eq!(header(&request, name), None, "{request}");
            }
            assert_eq!(header(&request, "accept-encoding"), Some("identity"));
        }
    }

    /// Accepts connections, hands each to the test and says nothing by itself.
    async fn silent() -> (String, mpsc::UnboundedReceiver<TcpStream>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = sender.send(stream);
            }
        });
        (url, receiver)
    }

    #[tokio::test]
    async fn an_exchange_ends_in_its_time_whatever_the_server_does() {
        let mut egress = Egress::new(true).unwrap();
        egress.total_timeout = Duration::from_millis(50);
        egress.head_timeout = Duration::from_millis(50);
        let (url, mut connections) = silent().await;
        let accepted = tokio::spawn(async move {
            let never_answers = connections.recv().await;
            let mut drips = connections.recv().await.unwrap();
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
            drips.write_all(head).await.unwrap();
            while drips.write_all(b"x").await.is_ok() {
                tokio::task::yield_now().await;
            }
            let no_head = connections.recv().await;
            (never_answers, no_head, connections.recv().await)
        });
        for _ in 0..2 {
            assert_eq!(
                egress.get(&url, "*/*").await.unwrap_err(),
                Failure::Unreachable
            );
        }
        let answer = egress.open(outgoing(Method::POST, &url)).await;
        assert_eq!(answer.unwrap_err(), Failure::Unreachable);
        accepted.abort();
    }

    #[tokio::test]
    async fn only_so_many_exchanges_are_under_way_at_once() {
        let egress = Egress::new(true).unwrap();
        let (url, mut connections) = silent().await;
        let mut exchanges = tokio::task::JoinSet::new();
        for _ in 0..EXCHANGES + 20 {
            let (egress, url) = (egress.clone(), url.clone());
            exchanges.spawn(async move { egress.get(&url, "*/*").await });
        }
        let mut open = Vec::new();
        while open.len() < EXCHANGES {
            open.push(connections.recv().await.unwrap());
        }
        // The other exchanges have every chance to begin.
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
        assert!(connections.try_recv().is_err());
        let ended = reply(200, "", "");
        open.remove(0).write_all(ended.as_bytes()).await.unwrap();
        open.push(connections.recv().await.unwrap());
        drop(open);
        drop(connections);
        let answered = exchanges.join_all().await.into_iter().filter(Result::is_ok);
        assert_eq!(answered.count(), 1);
    }

    #[tokio::test]
    async fn nobody_there_is_unreachable() {
        let server = Server::start(|_, _| "not HTTP".to_owned());
        let egress = Egress::new(true).unwrap();
        assert_eq!(
            egress.get(&server.url, "*/*").await.unwrap_err(),
            Failure::Unreachable
        );
        let closed = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let closed = egress.get(&format!("http://{closed}/"), "*/*").await;
        assert_eq!(closed.unwrap_err(), Failure::Unreachable);
    }

    #[test]
    fn nothing_secret_is_shown() {
        let mut request = outgoing(Method::POST, "https://example.com/?code=s3cret");
        request
            .headers
            .insert("authorization", HeaderValue::from_static("s3cret"));
        request.body = b"s3cret".to_vec();
        assert_eq!(format!("{request:?}"), "Outgoing { method: POST, .. }");
    }
}
