//! The private hosts that an operator opens. Link-local and metadata addresses can never be opened: whoever reaches
//! them from a Lambda function gets its credentials.

use super::is_public;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;
use url::{Host, Url};

/// Private hosts that may be reached, by name or by range of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrivateHosts(Arc<[Entry]>);

/// One entry: `mcp.corp.example`, `*.corp.example`, `10.20.0.0/16`, `fd12:3456::/32`, or one of these behind `http://`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    hosts: Hosts,
    /// Whether plain http is allowed there.
    http: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    /// The host of this name.
    Name(String),
    /// All hosts whose names end in this, which begins with a dot.
    Below(String),
    /// All addresses with this prefix.
    V4(Ipv4Addr, u32),
    V6(Ipv6Addr, u32),
}

/// An entry that is neither a host name nor a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAHost(String);

impl fmt::Display for NotAHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is neither a host name nor a range of addresses such as 10.20.0.0/16",
            self.0
        )
    }
}

impl std::error::Error for NotAHost {}

impl PrivateHosts {
    /// Reads a list of entries.
    ///
    /// # Errors
    /// The first malformed entry.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, NotAHost> {
        entries.into_iter().map(str::parse).collect()
    }

    /// Whether an address may be connected to. `name` is the host name that resolved to it, if the URL has a name.
    pub(super) fn admit(&self, name: Option<&str>, addr: IpAddr) -> bool {
        !is_never_reached(addr)
            && self
                .0
                .iter()
                .any(|entry| entry.hosts.contain(addr) || name.is_some_and(|n| entry.hosts.name(n)))
    }

    /// Whether a name that is known to be internal may be resolved.
    pub(super) fn may_resolve(&self, name: &str) -> bool {
        let is_range = |entry: &Entry| matches!(entry.hosts, Hosts::V4(..) | Hosts::V6(..));
        self.0
            .iter()
            .any(|entry| is_range(entry) || entry.hosts.name(name))
    }

    /// Whether plain http is allowed for a host. A range counts only for addresses that the URL spells out: what a name
    /// resolves to is not known before connecting.
    pub(super) fn take_http(&self, url: &Url) -> bool {
        let mut plain = self.0.iter().filter(|entry| entry.http);
        plain.any(|entry| match url.host() {
            Some(Host::Domain(name)) => entry.hosts.name(name.trim_end_matches('.')),
            Some(Host::Ipv4(addr)) => entry.hosts.contain(addr.into()),
            Some(Host::Ipv6(addr)) => entry.hosts.contain(addr.into()),
            None => false,
        })
    }

    /// Whether plain http is allowed for any host.
    pub(super) fn any_http(&self) -> bool {
        self.0.iter().any(|entry| entry.http)
    }
}

impl FromIterator<Entry> for PrivateHosts {
    fn from_iter<T: IntoIterator<Item = Entry>>(entries: T) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl Hosts {
    fn name(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Below(end) => name.ends_with(end.as_str()),
            Self::V4(..) | Self::V6(..) => false,
        }
    }

    fn contain(&self, addr: IpAddr) -> bool {
        match (self, addr) {
            (Self::V4(net, length), IpAddr::V4(addr)) => {
                let bits = (addr.to_bits() ^ net.to_bits()).checked_shr(32 - length);
                bits.unwrap_or(0) == 0
            }
            (Self::V6(net, length), IpAddr::V6(addr)) => {
                let bits = (addr.to_bits() ^ net.to_bits()).checked_shr(128 - length);
                bits.unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Entry {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        let plain = text.strip_prefix("http://");
        let host = plain.or(text.strip_prefix("https://")).unwrap_or(text);
        let hosts = range(host).or_else(|| name(host));
        Ok(Self {
            hosts: hosts.ok_or_else(|| NotAHost(text.to_owned()))?,
            http: plain.is_some(),
        })
    }
}

/// A range of addresses, or one address.
fn range(text: &str) -> Option<Hosts> {
    let (addr, length) = text.split_once('/').map_or((text, None), |(addr, length)| {
        (addr, Some(length.parse::<u32>().ok()))
    });
    let addr = addr.trim_start_matches('[').trim_end_matches(']');
    match addr.parse().ok()? {
        IpAddr::V4(addr) => {
            let length = length.unwrap_or(Some(32)).filter(|length| *length <= 32)?;
            Some(Hosts::V4(addr, length))
        }
        IpAddr::V6(addr) => {
            let length = length
                .unwrap_or(Some(128))
                .filter(|length| *length <= 128)?;
            Some(Hosts::V6(addr, length))
        }
    }
}

/// A host name as URLs spell it, possibly with `*.` before it.
fn name(text: &str) -> Option<Hosts> {
    let below = text.strip_prefix("*.");
    let Host::Domain(name) = Host::parse(below.unwrap_or(text)).ok()? else {
        return None;
    };
    let name = name.trim_end_matches('.').to_owned();
    let is_plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    (is_plain && !name.is_empty()).then(|| match below {
        Some(_) => Hosts::Below(format!(".{name}")),
        None => Hosts::Name(name),
    })
}

/// Addresses that no operator can open: this machine, its link, multicast, and where clouds hand out credentials.
fn is_never_reached(addr: IpAddr) -> bool {
    if is_public(addr) {
        return false;
    }
    match addr {
        IpAddr::V4(addr) => {
            addr.is_loopback()
                || addr.is_link_local()
                || addr.is_multicast()
                || matches!(addr.octets(), [0 | 240..=255, ..])
                // The metadata services of Azure, Alibaba and Oracle.
                || matches!(
                    addr.octets(),
                    [168, 63, 129, 16] | [100, 100, 100, 200] | [192, 0, 0, 192]
                )
        }
        // Only unique local addresses are in use inside networks; no other non-public address leads to a private host.
        // Amazon's and Google's metadata services have such addresses.
        IpAddr::V6(addr) => match addr.segments() {
            [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..] => true,
            [first, ..] => first & 0xfe00 != 0xfc00,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(list: &str) -> PrivateHosts {
        PrivateHosts::parse(list.split_whitespace()).unwrap()
    }

    fn admits(list: &str, name: Option<&str>, addr: &str) -> bool {
        hosts(list).admit(name, addr.parse().unwrap())
    }

    #[test]
    fn names_and_ranges_open_what_they_say_and_nothing_beside_it() {
        for (list, name, addr) in [
            ("mcp.corp.example", Some("mcp.corp.example"), "10.1.2.3"),
            ("MCP.Corp.Example.", Some("mcp.corp.example"), "192.168.0.9"),
            ("*.corp.internal", Some("a.b.corp.internal"), "fd12::1"),
            ("10.20.0.0/16", None, "10.20.255.255"),
            ("10.20.0.0/16", Some("any.example"), "10.20.0.0"),
            ("10.9.9.9", None, "10.9.9.9"),
            ("0.0.0.0/0", None, "172.16.0.1"),
            ("fd12:3456::/32", None, "fd12:3456:ffff::1"),
            ("::/0", None, "fdff::1"),
            ("http://172.16.0.0/12", None, "172.31.255.255"),
        ] {
            assert!(admits(list, name, addr), "{list} {name:?} {addr}");
        }
        for (list, name, addr) in [
            ("", None, "10.0.0.1"),
            ("mcp.corp.example", Some("other.corp.example"), "10.1.2.3"),
            ("mcp.corp.example", Some("x.mcp.corp.example"), "10.1.2.3"),
            ("mcp.corp.example", None, "10.1.2.3"),
            ("*.corp.internal", Some("corp.internal"), "10.1.2.3"),
            ("*.corp.internal", Some("evilcorp.internal"), "10.1.2.3"),
            ("10.20.0.0/16", None, "10.21.0.0"),
            ("10.20.0.0/16", None, "10.19.255.255"),
            ("10.9.9.9", None, "10.9.9.8"),
            ("fd12:3456::/32", None, "fd12:3457::1"),
            ("10.0.0.0/8", None, "::ffff:10.0.0.1"),
        ] {
            assert!(!admits(list, name, addr), "{list} {name:?} {addr}");
        }
    }

    #[test]
    fn no_list_opens_links_metadata_or_this_machine() {
        let all = "0.0.0.0/0 ::/0 *.example";
        for addr in "
            169.254.0.1 169.254.169.254 169.254.170.2 127.0.0.1 127.255.255.254 0.0.0.0 0.1.2.3 224.0.0.1 255.255.255.255
            168.63.129.16 100.100.100.200 192.0.0.192 ::1 :: fe80::1 febf::1 fec0::1 ff02::1 fd00:ec2::254 fd00:ec2::23
            fd20:ce::254 ::ffff:169.254.169.254 ::ffff:10.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 2002:a9fe:a9fe::1"
            .split_whitespace()
        {
            assert!(!admits(all, Some("a.example"), addr), "{addr}");
            assert!(!admits(&format!("{all} {addr}"), None, addr), "{addr}");
        }
    }

    #[test]
    fn plain_http_is_for_those_that_say_so() {
        let list =
            hosts("a.corp http://b.corp http://10.0.0.0/8 192.168.0.0/16 http://*.plain.corp");
        let takes = |url: &str| list.take_http(&Url::parse(url).unwrap());
        for url in [
            "http://b.corp/mcp",
            "http://B.corp.:81/",
            "http://10.9.9.9",
            "http://x.plain.corp",
        ] {
            assert!(takes(url), "{url}");
        }
        for url in [
            "http://a.corp/",
            "http://192.168.0.1/",
            "http://plain.corp",
            "http://xb.corp",
            "http://[fd00::1]/",
        ] {
            assert!(!takes(url), "{url}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused_by_name() {
        for text in [
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0.0/x",
            "10.0.0.0/",
            "a b",
            "a/b",
            "*",
            "*.",
            "*.10.0.0.1",
            "http://",
            "ftp://a",
            "a:80",
            "*a.example",
            "a.*.example",
        ] {
            let refused = PrivateHosts::parse([text]).unwrap_err();
            assert!(refused.to_string().contains(text), "{refused}");
        }
    }
}
