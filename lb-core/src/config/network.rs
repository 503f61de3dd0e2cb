//! Ranges of addresses.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Invalid;

/// Addresses with a common prefix, written `"10.0.0.0/8"`, `"fd00::/8"`, or as one address, `"::1"`.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

impl Network {
    /// Whether `ip` is one of them. An IPv4 address that came over an IPv6 socket counts as what it is.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.prefix_len() == self.0.max_prefix_len() {
            true => self.0.addr().fmt(formatter),
            false => self.0.fmt(formatter),
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl std::str::FromStr for Network {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refuse = |reason: String| Invalid::new("accept_proxy_from", reason);
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
            refuse(format!("{text:?} is not a network: write \"10.0.0.0/8\", \"fd00::/8\" or one IP address"))
        })?;
        match network.trunc() {
            same if same == network => Ok(Self(network)),
            whole => Err(refuse(format!("{text:?} has bits beyond its prefix: write \"{whole}\""))),
        }
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|invalid: Invalid| invalid.reason)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_their_networks_only() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.0.0.1"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("::1", "::1", "127.0.0.1"),
            ("fd00::/8", "fdff::1", "fe80::1"),
            ("0.0.0.0/0", "192.0.2.1", "::1"),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(parsed.to_string(), network);
            assert!(parsed.contains(inside.parse().unwrap()), "{inside} in {network}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{outside} in {network}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_the_reason() {
        for (text, reason) in [
            ("10.0.0.0/33", "is not a network"),
            ("10.0.0", "is not a network"),
            ("", "is not a network"),
            ("10.1.2.3/8", "\"10.1.2.3/8\" has bits beyond its prefix: write \"10.0.0.0/8\""),
        ] {
            let error = text.parse::<Network>().unwrap_err().reason;
            assert!(error.contains(reason), "{error}");
        }
    }
}
