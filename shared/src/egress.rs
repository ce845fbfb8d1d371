//! The one HTTP client for every URL that was learned from anywhere: registrations, metadata, endpoints, MCP servers
//! (MCP authorization 8). It reaches public addresses and those that the operator opens, and exactly those that
//! were checked.

pub mod coding;
mod private;
#[cfg(test)]
pub(crate) mod testing;

pub use private::{NotAHost, PrivateHosts};

use crate::{Error, Result};
use bytes::Bytes;
use coding::Decoder;
use reqwest::Method;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue, LOCATION};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::warn;
use url::{Host, Url};
use zeroize::Zeroizing;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole exchange may take, redirects included.
pub(crate) const TOTAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a streamed answer may take to begin.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// How many exchanges may be under way at once; others wait for their turn, within their time.
const EXCHANGES: usize = 64;
/// The largest body that is read.
const BODY_LIMIT: usize = 1 << 20;
const MAX_REDIRECTS: usize = 3;
/// The most characters of a redirect's target that are told.
const TARGET_SHOWN: usize = 200;

/// How many Hawsers a request has come through, this one included. Without it a server that points at Hawser would make one
/// call many.
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

/// What carries a request that was checked.
#[derive(Clone, Debug)]
enum Network {
    Sockets(reqwest::Client),
    #[cfg(feature = "simulation")]
    InProcess(Arc<dyn InProcess>),
}

/// A simulated network.
#[cfg(feature = "simulation")]
pub trait InProcess: fmt::Debug + Send + Sync {
    /// Carries a request to whoever plays its server.
    fn send(
        &self,
        request: reqwest::Request,
    ) -> futures_util::future::BoxFuture<'static, Result<reqwest::Response, Failure>>;
}

/// A request to send.
pub struct Outgoing<'a> {
    /// Its method.
    pub method: Method,
    /// Where it goes; checked before anything is sent.
    pub url: &'a str,
    /// Its headers; `Host`, `User-Agent`, `Content-Length` and `Accept-Encoding` are set by the client, and [`HOPS_HEADER`] where
    /// it is absent.
    pub headers: HeaderMap,
    /// Its body; empty for none.
    pub body: Vec<u8>,
}

/// An answer that was read to its end.
pub struct Fetched {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, which may hold tokens.
    pub body: Zeroizing<Vec<u8>>,
}

impl Fetched {
    /// The body as a text; what is no UTF-8 in it is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// Why there is no answer. None of them says more, for the difference would map the inside to whoever chose the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The URL, its name or one of its addresses is not allowed. Callers show it like [`Self::Unreachable`].
    Refused,
    /// DNS, TLS, connecting or the answer itself failed, or took too long.
    Unreachable,
    /// The body is over 1 MiB.
    TooLarge,
}

/// Why a URL can never be reached, in words for whoever chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAllowed {
    /// It is none, or holds user information.
    Malformed,
    /// It is neither https nor http where that will do.
    Scheme,
    /// Its host is no public one, and the operator has not opened it.
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
    /// A client for public https; with `loopback_http` also for loopback, there with `http` too.
    ///
    /// # Errors
    /// [`Error::Internal`] when no HTTP client can be made.
    pub fn new(loopback_http: bool) -> Result<Self> {
        Self::opened(loopback_http, PrivateHosts::default())
    }

    /// The same, also for these private hosts.
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

    /// The same with other limits: exchanges at once, and how long each may take.
    #[must_use]
    pub(crate) fn limited(self, at_once: usize, total_timeout: Duration) -> Self {
        Self {
            total_timeout,
            turns: Arc::new(Semaphore::new(at_once)),
            ..self
        }
    }

    fn with_rules(rule: Rule, resolver: impl Resolve + 'static) -> Result<Self> {
        let client = reqwest::Client::builder()
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

    /// A client of a simulated network. All checks but that of resolved addresses, all limits and all times are the same.
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

    /// Checks scheme, user info, IP literals and names that are known without DNS.
    ///
    /// # Errors
    /// [`Failure::Refused`], also for what is no URL.
    pub fn check(&self, url: &str) -> Result<Url, Failure> {
        self.judge(url).map_err(|_| Failure::Refused)
    }

    /// The same, for whoever may be told why.
    ///
    /// # Errors
    /// [`NotAllowed`]. Names are not looked up: what can be told before is told to anyone who may register a server.
    pub fn judge(&self, url: &str) -> Result<Url, NotAllowed> {
        let url = Url::parse(url).map_err(|_| NotAllowed::Malformed)?;
        self.rule.judge(&url).map(|()| url)
    }

    /// Whether plain http will do for a URL.
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

    /// Sends a request to an MCP server and returns as soon as the answer's head is there: no limit but that on connecting.
    /// Follows 307 and 308 within the same origin, three at most, for a server may live a slash away from its address; any other
    /// redirect is the answer. Repeats nothing.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn open(&self, request: Outgoing<'_>) -> Result<reqwest::Response, Failure> {
        let url = self.check(request.url)?;
        // A tool may work for long before it answers; but not for ever.
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

    /// A whole exchange, in its turn and within its time.
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
        // Without it any coding is acceptable (RFC 9110 12.5.3).
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
            // A name that leads inside looks like one that leads nowhere: it may do so for a moment only, and nobody is to
            // learn our names from the difference.
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

/// Where a redirect of a call leads that may be followed with all that the call carries.
fn moved_within_origin(answer: &reqwest::Response, from: &Url) -> Option<Url> {
    let next = matches!(answer.status().as_u16(), 307 | 308).then(|| target(answer, from))??;
    (next.origin() == from.origin()).then_some(next)
}

fn target(answer: &reqwest::Response, from: &Url) -> Option<Url> {
    let location = answer.headers().get(LOCATION)?.to_str().ok()?;
    from.join(location).ok()
}

/// Where an answer leads, without what may be secret there: scheme, host and path.
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
    // What nobody can decode is read as it is: it says nothing to whoever asked.
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

/// What may be reached.
#[derive(Clone, Debug, Default)]
struct Rule {
    loopback: bool,
    private: PrivateHosts,
}

impl Rule {
    fn judge(&self, url: &Url) -> Result<(), NotAllowed> {
        let takes_host = match url.host() {
            Some(Host::Domain(name)) => self.takes_name(name),
            Some(Host::Ipv4(addr)) => self.takes(None, addr.into()),
            Some(Host::Ipv6(addr)) => self.takes(None, addr.into()),
            None => return Err(NotAllowed::Malformed),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(NotAllowed::Malformed);
        }
        match url.scheme() {
            _ if !takes_host => Err(NotAllowed::Host),
            "https" => Ok(()),
            "http" if self.takes_http(url) => Ok(()),
            _ => Err(NotAllowed::Scheme),
        }
    }

    fn takes_http(&self, url: &Url) -> bool {
        self.loopback && is_loopback(url) || self.private.take_http(url)
    }

    fn takes_name(&self, name: &str) -> bool {
        if is_localhost(name) {
            return self.loopback;
        }
        let name = name.trim_end_matches('.');
        let inside = [".localhost", ".local", ".internal"];
        let is_inside = name == "metadata" || inside.iter().any(|suffix| name.ends_with(suffix));
        !is_inside || self.private.may_resolve(name)
    }

    fn takes(&self, name: Option<&str>, addr: IpAddr) -> bool {
        is_public(addr) || self.loopback && addr.is_loopback() || self.private.admit(name, addr)
    }

    /// What a name leads to. One address inside spoils it: who mixes them wants the client to try until it gets there.
    fn vet(&self, name: &str, found: Vec<SocketAddr>) -> Result<Addrs, RefusedAddress> {
        let name = name.trim_end_matches('.');
        if found.iter().all(|at| self.takes(Some(name), at.ip())) {
            Ok(Box::new(found.into_iter()))
        } else {
            // For the operator alone: whoever chose the name is not told it from one that leads nowhere.
            warn!(
                host = name,
                "a host resolved to an address that is not allowed"
            );
            Err(RefusedAddress)
        }
    }
}

/// Whether a URL's host is written as loopback.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_localhost(name),
        Some(Host::Ipv4(addr)) => addr.is_loopback(),
        Some(Host::Ipv6(addr)) => addr.is_loopback(),
        None => false,
    }
}

fn is_localhost(name: &str) -> bool {
    name.trim_end_matches('.') == "localhost"
}

/// The cause inside a client error that tells a refused name from one that does not resolve.
#[derive(Debug)]
struct RefusedAddress;

impl fmt::Display for RefusedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the address is not allowed")
    }
}

impl std::error::Error for RefusedAddress {}

impl Resolve for Rule {
    fn resolve(&self, name: Name) -> Resolving {
        let rule = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(rule.vet(name.as_str(), found.collect())?)
        })
    }
}

/// The refused IPv4 networks (MCP authorization 8).
const REFUSED_V4: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The refused IPv6 networks within `2000::/3` (MCP authorization 8); all outside it is refused anyway.
const REFUSED_V6: [(Ipv6Addr, u32); 4] = [
    // All protocol assignments, of which MCP authorization 8 names four: none is a place for a server.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether an address is out on the internet (MCP authorization 8). Of the IPv4 addresses inside IPv6 only those of
/// `64:ff9b::/96` are judged by the inner one, as networks without IPv4 need; all others are refused.
pub fn is_public(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => is_public_v4(addr),
        IpAddr::V6(addr) => is_public_v6(addr),
    }
}

fn is_public_v4(addr: Ipv4Addr) -> bool {
    let bits = addr.to_bits();
    !REFUSED_V4
        .iter()
        .any(|(net, length)| (bits ^ net.to_bits()) >> (32 - length) == 0)
}

fn is_public_v6(addr: Ipv6Addr) -> bool {
    let segments = addr.segments();
    if let [0x64, 0xff9b, 0, 0, 0, 0, ..] = segments {
        return is_public_v4(Ipv4Addr::from_bits(addr.to_bits() as u32));
    }
    let is_unicast = segments[0] >> 13 == 1;
    let is_isatap = matches!(segments[4..6], [0 | 0x200, 0x5efe]);
    let is_refused = REFUSED_V6
        .iter()
        .any(|(net, length)| (addr.to_bits() ^ net.to_bits()) >> (128 - length) == 0);
    is_unicast && !is_isatap && !is_refused
}

#[cfg(test)]
mod tests {
    use super::testing::{Server, header, reply};
    use super::*;
    use proptest::prelude::*;
    use std::io::ErrorKind;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;
    use tokio::sync::mpsc;

    fn public(text: &str) -> bool {
        is_public(text.parse().unwrap())
    }

    fn rule(loopback: bool) -> Rule {
        Rule {
            loopback,
            ..Rule::default()
        }
    }

    /// The same table, told by octets and segments in place of prefixes.
    fn is_public_told_otherwise(addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => {
                let refused = addr.is_private()
                    || addr.is_loopback()
                    || addr.is_link_local()
                    || addr.is_multicast()
                    || addr.is_broadcast()
                    || addr.is_documentation()
                    || addr == Ipv4Addr::new(168, 63, 129, 16)
                    || match addr.octets() {
                        [0 | 240..=255, ..] => true,
                        [100, second, ..] => (64..128).contains(&second),
                        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => true,
                        _ => false,
                    };
                !refused
            }
            IpAddr::V6(addr) => match addr.segments() {
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                    let [a, b] = high.to_be_bytes();
                    let [c, d] = low.to_be_bytes();
                    is_public_told_otherwise(Ipv4Addr::new(a, b, c, d).into())
                }
                [_, _, _, _, 0 | 0x200, 0x5efe, ..] => false,
                [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
                [first, ..] => (0x2000..0x4000).contains(&first),
            },
        }
    }

    #[test]
    fn every_row_of_the_table_is_refused_to_its_last_address() {
        for text in "
            0.0.0.0 0.255.255.255 127.0.0.1 127.255.255.255 :: ::1 10.0.0.0 10.255.255.255 172.16.0.0
            172.31.255.255 192.168.0.0 192.168.255.255 fc00:: fd00:ec2::254 fd00:ec2::23
            fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 169.254.0.0 169.254.169.254 169.254.170.2 169.254.170.23
            169.254.255.255 fe80::1 febf:: 100.64.0.0 100.100.100.200 100.127.255.255 168.63.129.16 192.0.0.0
            192.0.0.255 192.88.99.0 192.88.99.255 198.18.0.0 198.19.255.255 2001:2::
            2001:2:0:ffff:ffff:ffff:ffff:ffff 192.0.2.0 192.0.2.255 198.51.100.0 198.51.100.255 203.0.113.0
            203.0.113.255 2001:db8:: 2001:db8:ffff:: 3fff:: 3fff:fff:ffff:: 224.0.0.0 239.255.255.255 240.0.0.0
            255.255.255.255 ff00:: ff02::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::127.0.0.1 ::8.8.8.8
            ::ffff:0:10.0.0.1 64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254
            64:ff9b::168.63.129.16 2002:: 2002:7f00:1:: 2002:808:808::1 2a00::5efe:10.0.0.1
            2a00::200:5efe:8.8.8.8 64:ff9b:1:: 64:ff9b:1::8.8.8.8 2001:: 2001:0:ffff:: 2001:10:: 2001:1f:ffff::
            2001:20:: 2001:2f:ffff:: 2001:1:: 2001:2:1:: 2001:3:: 2001:1ff:ffff:: 100::1 5f00:: fec0:: 1fff:ffff:: 4000:: 8000::"
            .split_whitespace()
        {
            assert!(!public(text), "{text}");
        }
    }

    #[test]
    fn the_neighbours_of_the_table_are_public() {
        for text in "
            1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.15
            168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0
            192.0.3.0 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0
            198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255 64:ff9b::8.8.8.8 2000::
            2001:200:: 2001:db7:: 2001:db9:: 2001:4860:4860::8888 2003::
            2a00::1 3ffe:: 3fff:1000:: 3fff:ffff:: 2a00::100:5efe:1.2.3.4"
            .split_whitespace()
        {
            assert!(public(text), "{text}");
        }
    }

    #[test]
    fn every_notation_of_an_inside_address_is_refused() {
        let egress = Egress::new(false).unwrap();
        for host in "
            127.0.0.1 127.1 127.0.1 2130706433 0x7f000001 0x7f.1 0X7F.0.0.1 0177.0.0.1 017700000001 127.0.0.1.
            127.1. %31%32%37.0.0.1 １２７.０.０.１ 127。0。0。1 ①27.0.0.1 0 0.0.0.0 169.254.169.254 2852039166 0xa9fea9fe
            0251.0376.0251.0376 [::] [::1] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] [::127.0.0.1]
            [64:ff9b::7f00:1] [fe80::1] [fd00:ec2::254]"
            .split_whitespace()
        {
            let url = format!("https://{host}/x");
            assert_eq!(egress.check(&url), Err(Failure::Refused), "{host}");
        }
        assert!(egress.check("https://8.8.8.8/").is_ok());
        assert!(egress.check("https://[2a00::1]/").is_ok());
    }

    #[test]
    fn names_schemes_and_user_info() {
        let egress = Egress::new(false).unwrap();
        for url in "
            https://localhost/ https://LOCALHOST./ https://a.localhost https://printer.local https://a.local./
            https://metadata https://Metadata./ https://metadata.google.internal https://x.internal.:8443/
            https://ｌｏｃａｌｈｏｓｔ/ https://localhost../ http://example.com/ ftp://example.com/ file:///etc/passwd
            javascript:alert(1) data:text/plain,x gopher://example.com ws://example.com //example.com
            example.com https:// https:/// https://user@example.com/ https://user:pw@example.com/
            https://:pw@example.com/ http://localhost/ http://127.0.0.1/"
            .split_whitespace()
        {
            assert_eq!(egress.check(url), Err(Failure::Refused), "{url}");
        }
        for url in [
            "https://example.com",
            "HTTPS://EXAMPLE.com:8443/a?b#c",
            "https://metadata.example.com",
            "https://local.example",
            "https://localhost.example",
            "https://@example.com/",
        ] {
            assert!(egress.check(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn the_switch_opens_loopback_and_nothing_else() {
        let egress = Egress::new(true).unwrap();
        for url in [
            "http://localhost:1/",
            "http://127.0.0.1/",
            "http://127.1/",
            "http://127.255.255.254/",
            "http://[::1]:3000/",
            "https://localhost/",
            "https://127.0.0.1/",
            "https://example.com/",
        ] {
            assert!(egress.check(url).is_ok(), "{url}");
        }
        for url in "
            http://example.com/ http://0.0.0.0/ http://[::]/ http://[::ffff:127.0.0.1]/ http://10.0.0.1/
            https://10.0.0.1/ http://a.localhost/ https://x.internal/ http://8.8.8.8/ http://u@localhost/"
            .split_whitespace()
        {
            assert_eq!(egress.check(url), Err(Failure::Refused), "{url}");
        }
    }

    fn v6() -> impl Strategy<Value = Ipv6Addr> {
        let first = prop_oneof![
            any::<u16>(),
            prop::sample::select(vec![
                0, 0x64, 0x100, 0x2001, 0x2002, 0x3fff, 0x5f00, 0xfc00, 0xfe80, 0xff02
            ]),
        ];
        let second = prop_oneof![
            any::<u16>(),
            0u16..0x40,
            prop::sample::select(vec![0xdb8, 0xff9b, 0x0fff, 0x1000]),
        ];
        let inner = prop_oneof![
            Just(0u16),
            Just(0x200),
            Just(0x5efe),
            Just(0xffff),
            any::<u16>()
        ];
        (first, second, prop::array::uniform4(inner), any::<u32>()).prop_map(
            |(a, b, [c, d, e, f], last)| {
                Ipv6Addr::new(a, b, c, d, e, f, (last >> 16) as u16, last as u16)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn both_tellings_of_the_table_agree(
            bits: u32,
            addr in v6(),
            net in 0usize..16,
            net6 in 0usize..REFUSED_V6.len(),
            step in -2i32..=2,
        ) {
            let at = |addr: IpAddr| (is_public(addr), is_public_told_otherwise(addr));
            let (net, length) = REFUSED_V4[net];
            let edge = net.to_bits().wrapping_add((u64::from(u32::MAX) >> length) as u32);
            let (net6, length6) = REFUSED_V6[net6];
            let edge6 = net6.to_bits().wrapping_add(u128::MAX >> length6);
            let around = |bits: u32| Ipv4Addr::from_bits(bits.wrapping_add_signed(step));
            let around6 = |bits: u128| Ipv6Addr::from_bits(bits.wrapping_add_signed(step.into()));
            let v4 = [Ipv4Addr::from_bits(bits), around(net.to_bits()), around(edge)];
            for addr in v4 {
                let (one, other) = at(addr.into());
                prop_assert_eq!(one, other, "{}", addr);
                let inside = Ipv6Addr::from_bits((0x64_ff9b << 96) | u128::from(addr.to_bits()));
                prop_assert_eq!(is_public(inside.into()), one, "{}", inside);
                prop_assert!(!is_public(addr.to_ipv6_mapped().into()));
            }
            for addr in [addr, around6(net6.to_bits()), around6(edge6)] {
                let (one, other) = at(addr.into());
                prop_assert_eq!(one, other, "{}", addr);
            }
        }

        #[test]
        fn checking_never_panics(url: String) {
            let _ = Url::parse(&url).map(|url| rule(true).judge(&url));
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
        // Both reach a listener on loopback, were they tried.
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
        // As one that leads nowhere.
        assert_eq!(
            egress.get(&url, "*/*").await.unwrap_err(),
            Failure::Unreachable
        );
        assert_eq!(server.connections(), 0);
    }

    #[test]
    fn one_address_inside_spoils_a_name() {
        let takes_all = |addrs: &[&str]| {
            let found = addrs.iter().map(|at| at.parse().unwrap()).collect();
            rule(false).vet("a.example", found).is_ok()
        };
        assert!(takes_all(&["8.8.8.8:0", "[2a00::1]:0"]));
        assert!(!takes_all(&["8.8.8.8:0", "[2a00::1]:0", "10.0.0.1:0"]));
        assert!(!takes_all(&["[::1]:0", "8.8.8.8:0"]));
    }

    /// Answers differently each time it is asked, and counts.
    #[derive(Default)]
    struct Changing {
        /// By rule and address, in turn.
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
        // 127.0.0.1 stands for the internet, 127.0.0.2 for the inside.
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
        // The others have every chance to begin.
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
