//! The client address of a request: the connection's peer, or the header of a trusted proxy.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// The header with the client address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// An invalid proxy setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Not an address or network.
    #[error("`{0}` is not an address or network such as 10.0.0.7 or 10.0.0.0/8")]
    Network(String),
    /// An unknown header.
    #[error("`{0}` is not supported; use X-Forwarded-For or Forwarded")]
    Header(String),
}

/// Trusted proxies, and their client address header.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: ForwardedHeader,
}

impl TrustedProxies {
    /// Parses a comma-separated list of addresses and networks, and a header name.
    ///
    /// # Errors
    /// [`ProxyError`] names the invalid part.
    pub fn parse(networks: &str, header: &str) -> Result<Self, ProxyError> {
        let parts = networks.split(',').map(str::trim).filter(|part| !part.is_empty());
        let networks = parts
            .map(|part| {
                let single = part.parse::<IpAddr>().map(|ip| IpNet::from(ip.to_canonical()));
                single.or_else(|_| part.parse()).map_err(|_| ProxyError::Network(part.to_owned()))
            })
            .collect::<Result<_, _>>()?;
        let header = match header.trim().to_ascii_lowercase().as_str() {
            "" | "x-forwarded-for" => ForwardedHeader::XForwardedFor,
            "forwarded" => ForwardedHeader::Forwarded,
            _ => return Err(ProxyError::Header(header.to_owned())),
        };
        Ok(Self { networks, header })
    }

    /// The name of the header that is read.
    pub fn header(&self) -> &'static str {
        match self.header {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        }
    }

    /// The client behind a connection from `peer`, from that header's `values` in order: the right-most address that is
    /// not a trusted proxy. Anything to its left can be forged.
    pub fn client<'a>(&self, peer: IpAddr, values: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut client = peer.to_canonical();
        for hop in values.rev().flat_map(|value| value.rsplit(',')) {
            if !self.trusts(client) {
                return client;
            }
            let Some(address) = self.address(hop) else { return client };
            client = address;
        }
        client
    }

    /// Whether an address is a trusted proxy's.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    fn address(&self, hop: &str) -> Option<IpAddr> {
        let text = match self.header {
            ForwardedHeader::XForwardedFor => hop.trim(),
            ForwardedHeader::Forwarded => hop.split(';').find_map(|part| {
                let (name, value) = part.trim().split_once('=')?;
                name.eq_ignore_ascii_case("for").then(|| value.trim_matches('"'))
            })?,
        };
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
        address.ok().map(|address| address.to_canonical())
    }
}

/// The unit for counting attempts: an IPv4 address, or the /64 network of an IPv6 subscriber.
pub(super) fn network_of(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(proxies: &str, header: &str, peer: &str, values: &[&str]) -> String {
        let proxies = TrustedProxies::parse(proxies, header).unwrap();
        proxies.client(peer.parse().unwrap(), values.iter().copied()).to_string()
    }

    #[test]
    fn a_header_is_read_from_a_trusted_proxy_alone() {
        assert_eq!(client("", "", "203.0.113.9", &["1.2.3.4"]), "203.0.113.9");
        assert_eq!(client("10.0.0.0/8", "", "203.0.113.9", &["1.2.3.4"]), "203.0.113.9");
        assert_eq!(client("10.0.0.0/8", "", "10.1.2.3", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(client("10.0.0.0/8", "", "10.1.2.3", &[]), "10.1.2.3");
    }

    #[test]
    fn the_right_most_address_that_is_no_proxy_is_the_client() {
        let proxies = "10.0.0.0/8, 192.0.2.7";
        assert_eq!(client(proxies, "", "10.1.2.3", &["9.9.9.9, 198.51.100.4, 192.0.2.7"]), "198.51.100.4");
        assert_eq!(client(proxies, "", "10.1.2.3", &["9.9.9.9", "198.51.100.4", "10.7.7.7"]), "198.51.100.4");
        assert_eq!(client(proxies, "", "10.1.2.3", &["9.9.9.9, nonsense"]), "10.1.2.3");
        assert_eq!(client(proxies, "", "::ffff:10.1.2.3", &["198.51.100.4:5511"]), "198.51.100.4");
    }

    #[test]
    fn the_standard_header_is_read_where_it_is_chosen_and_the_other_is_not() {
        let of = |value| client("10.0.0.0/8", "Forwarded", "10.1.2.3", &[value]);
        assert_eq!(of("for=198.51.100.4;proto=https, for=10.3.3.3"), "198.51.100.4");
        assert_eq!(of("For=\"[2001:db8:cafe::17]:4711\""), "2001:db8:cafe::17");
        assert_eq!(of("for=unknown"), "10.1.2.3");
        assert_eq!(of("198.51.100.4"), "10.1.2.3");
    }

    #[test]
    fn a_list_that_can_not_be_read_is_an_error() {
        assert_eq!(
            TrustedProxies::parse("10.0.0.1, proxy.local", "").unwrap_err(),
            ProxyError::Network("proxy.local".to_owned())
        );
        assert!(TrustedProxies::parse("", "X-Real-IP").is_err());
    }

    #[test]
    fn one_subscriber_of_ipv6_is_one_network() {
        let of = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
