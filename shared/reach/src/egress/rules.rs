//! `EGRESS_ALLOW`: what may be called beside public addresses by https.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use url::Host;

use super::addresses::is_public;

/// What a deployment lets be called: names and networks, each by https or by plain http as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressRules {
    names: Vec<(String, bool)>,
    networks: Vec<(IpNet, bool)>,
}

impl EgressRules {
    /// Whether a name is admitted whatever its addresses are.
    pub(super) fn names(&self, name: &str, is_plain: bool) -> bool {
        let name = name.trim_end_matches('.');
        self.names.iter().any(|(named, may_be_plain)| named.eq_ignore_ascii_case(name) && (*may_be_plain || !is_plain))
    }

    /// Whether an address is admitted: everybody's by https, and those of the networks that are named.
    pub(super) fn admits(&self, address: IpAddr, is_plain: bool) -> bool {
        let is_named =
            |(network, may_be_plain): &(IpNet, bool)| network.contains(&address) && (*may_be_plain || !is_plain);
        (!is_plain && is_public(address)) || self.networks.iter().any(is_named)
    }

    /// Whether a name may turn out to be one that plain http is admitted for.
    pub(super) fn may_be_plain(&self, name: &str) -> bool {
        self.names(name, true) || self.networks.iter().any(|(_, may_be_plain)| *may_be_plain)
    }
}

impl FromStr for EgressRules {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str =
            "must be hosts and networks such as hooks.example.org, 10.1.0.0/16 or http://10.1.2.3, comma-separated";
        let mut rules = Self::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (rest, is_plain) = match entry.strip_prefix("http://") {
                Some(rest) => (rest, true),
                None => (entry.strip_prefix("https://").unwrap_or(entry), false),
            };
            let address = rest.trim_start_matches('[').trim_end_matches(']');
            if let Ok(network) = rest.parse::<IpNet>() {
                rules.networks.push((network.trunc(), is_plain));
            } else if let Ok(address) = address.parse::<IpAddr>() {
                rules.networks.push((address.into(), is_plain));
            } else {
                match Host::parse(rest) {
                    Ok(Host::Domain(name)) if !name.contains('*') => rules.names.push((name, is_plain)),
                    _ => return Err(RULE),
                }
            }
        }
        Ok(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> EgressRules {
        text.parse().expect("rules")
    }

    #[test]
    fn entries_are_names_and_networks_by_https_or_both() {
        let rules = rules("http://127.0.0.1, 10.0.0.0/8,hooks.internal,http://[fd00::1], http://Plain.Internal");
        for (address, by_https, by_http) in [
            ("127.0.0.1", true, true),
            ("127.0.0.2", false, false),
            ("10.200.1.1", true, false),
            ("fd00::1", true, true),
            ("fd00::2", false, false),
            ("93.184.216.34", true, false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!((rules.admits(address, false), rules.admits(address, true)), (by_https, by_http), "{address}");
        }
        assert!(rules.names("hooks.internal", false) && !rules.names("hooks.internal", true));
        assert!(rules.names("plain.internal.", true) && !rules.names("x.plain.internal", false));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in ["*", "*.example.org", "host:80", "http://host/path", "10.0.0.0/33", "ftp://host", "a b"] {
            assert!(text.parse::<EgressRules>().is_err(), "{text}");
        }
        assert_eq!(rules(" , "), EgressRules::default());
    }
}
