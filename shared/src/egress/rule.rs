//! Which addresses may be reached: public ones, the private hosts that the operator opens, and loopback where that is
//! allowed (MCP authorization 8).

use super::{NotAllowed, PrivateHosts};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tracing::warn;
use url::{Host, Url};

/// Which addresses may be reached.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    pub(super) loopback: bool,
    pub(super) private: PrivateHosts,
}

impl Rule {
    pub(super) fn judge(&self, url: &Url) -> Result<(), NotAllowed> {
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

    pub(super) fn takes_http(&self, url: &Url) -> bool {
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

    /// The addresses of a name. One refused address refuses them all: a name that mixes them wants the client to try
    /// until it reaches the inner one.
    pub(super) fn vet(&self, name: &str, found: Vec<SocketAddr>) -> Result<Addrs, RefusedAddress> {
        let name = name.trim_end_matches('.');
        if found.iter().all(|at| self.takes(Some(name), at.ip())) {
            Ok(Box::new(found.into_iter()))
        } else {
            // Logged for the operator alone: whoever chose the name cannot tell it from one that does not resolve.
            warn!(
                host = name,
                "a host resolved to an address that is not allowed"
            );
            Err(RefusedAddress)
        }
    }
}

/// Whether a URL's host is written as loopback.
pub fn is_loopback(url: &Url) -> bool {
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

/// The cause, inside a client error, that tells a refused name from one that does not resolve.
#[derive(Debug)]
pub(super) struct RefusedAddress;

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

/// The refused IPv6 networks within `2000::/3` (MCP authorization 8). Everything outside `2000::/3` is refused anyway.
const REFUSED_V6: [(Ipv6Addr, u32); 4] = [
    // All protocol assignments, of which MCP authorization 8 names four. None of them is for servers.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether an address is on the public internet (MCP authorization 8). Of the IPv6 addresses that contain an IPv4
/// address, only those of `64:ff9b::/96` are judged by it, as networks without IPv4 need; the others are refused.
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
    use super::*;
    use crate::egress::{Egress, Failure};
    use proptest::prelude::*;

    fn public(text: &str) -> bool {
        is_public(text.parse().unwrap())
    }

    fn rule(loopback: bool) -> Rule {
        Rule {
            loopback,
            ..Rule::default()
        }
    }

    /// The same table, written with octets and segments instead of prefixes.
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
}
