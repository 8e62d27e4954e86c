//! What the host says about names: `/etc/resolv.conf` and `/etc/hosts`. The parsers are pure; the
//! files are read once, at start.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Servers, domains and lines beyond these numbers are ignored.
const SERVERS_MAX: usize = 8;
const SEARCH_MAX: usize = 6;
const HOSTS_MAX: usize = 10_000;

/// The settings of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// Whom to ask, in this order.
    pub servers: Vec<SocketAddr>,
    /// Domains that are put behind short names.
    pub search: Vec<String>,
    /// A name with so many dots is tried as it is first.
    pub ndots: usize,
    /// How long to wait for one server.
    pub timeout: Duration,
    /// How often every server is asked.
    pub attempts: u32,
    /// Fixed addresses by lower-case name.
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
}

impl Default for System {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(2),
            attempts: 2,
            hosts: BTreeMap::new(),
        }
    }
}

impl System {
    /// Reads the files of this host; a file that is missing says nothing. It blocks, and is for
    /// the start of a process.
    #[must_use]
    pub fn load() -> Self {
        let read = |path| std::fs::read(path).unwrap_or_default();
        let mut system = Self::parse(&String::from_utf8_lossy(&read("/etc/resolv.conf")));
        system.hosts = parse_hosts(&String::from_utf8_lossy(&read("/etc/hosts")));
        system
    }

    /// Reads the text of a `resolv.conf`. Without a server it is the one on this host.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut system = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // A scope (fe80::1%eth0) cannot be had here; such a server is left out.
                    let ip = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    if let Some(ip) = ip.filter(|_| system.servers.len() < SERVERS_MAX) {
                        system.servers.push(SocketAddr::new(ip, 53));
                    }
                }
                Some("search" | "domain") => {
                    system.search = words
                        .map(|word| word.trim_matches('.').to_ascii_lowercase())
                        .filter(|word| !word.is_empty())
                        .take(SEARCH_MAX)
                        .collect();
                }
                Some("options") => words.for_each(|word| system.option(word)),
                _ => {}
            }
        }
        if system.servers.is_empty() {
            system.servers.push((Ipv4Addr::LOCALHOST, 53).into());
        }
        system
    }

    fn option(&mut self, word: &str) {
        let Some((key, Ok(value))) = word.split_once(':').map(|(k, v)| (k, v.parse::<u32>()))
        else {
            return;
        };
        match key {
            "ndots" => self.ndots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }

    /// The addresses that the host itself has for a (lower-case) name. `localhost` and what is
    /// below it is always this host (RFC 6761).
    #[must_use]
    pub fn fixed(&self, name: &str) -> Option<Vec<IpAddr>> {
        if let Some(list) = self.hosts.get(name) {
            return Some(list.clone());
        }
        let local = name == "localhost" || name.ends_with(".localhost");
        local.then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
    }

    /// The full names to ask for, in order.
    #[must_use]
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(full) = name.strip_suffix('.') {
            return vec![full.to_owned()];
        }
        let mut list: Vec<String> = self
            .search
            .iter()
            .map(|domain| format!("{name}.{domain}"))
            .collect();
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        let place = if dots >= self.ndots { 0 } else { list.len() };
        list.insert(place, name.to_owned());
        list
    }
}

/// Reads the text of a `hosts` file.
#[must_use]
pub fn parse_hosts(text: &str) -> BTreeMap<String, Vec<IpAddr>> {
    let mut hosts: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>) else {
            continue;
        };
        for name in words {
            if hosts.len() >= HOSTS_MAX {
                return hosts;
            }
            let list = hosts
                .entry(name.trim_end_matches('.').to_ascii_lowercase())
                .or_default();
            if !list.contains(&ip) {
                list.push(ip);
            }
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolv_conf_is_read() {
        let system = System::parse(
            "# made by somebody\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\n\
             nameserver 2001:db8::1 ; two\nsearch Corp.example. internal\n\
             options ndots:2 timeout:3 attempts:9 rotate\nnonsense\n",
        );
        let servers: Vec<String> = system.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.2:53", "[2001:db8::1]:53"]);
        assert_eq!(system.search, ["corp.example", "internal"]);
        assert_eq!(
            (system.ndots, system.timeout.as_secs(), system.attempts),
            (2, 3, 5)
        );
        let empty = System::parse("");
        assert_eq!(empty.servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn short_names_are_searched_and_full_ones_are_not() {
        let system = System {
            search: vec!["a.example".to_owned(), "b.example".to_owned()],
            ..System::default()
        };
        assert_eq!(
            system.candidates("api"),
            ["api.a.example", "api.b.example", "api"]
        );
        assert_eq!(
            system.candidates("api.x"),
            ["api.x", "api.x.a.example", "api.x.b.example"]
        );
        assert_eq!(system.candidates("api."), ["api"]);
    }

    #[test]
    fn a_hosts_file_is_read() {
        let hosts = parse_hosts(
            "127.0.0.1 localhost\n::1 localhost ip6-localhost # both\n10.0.0.1\tAPI api.x.\nbad line\n",
        );
        let system = System {
            hosts,
            ..System::default()
        };
        assert_eq!(system.fixed("api"), Some(vec!["10.0.0.1".parse().unwrap()]));
        assert_eq!(system.fixed("api.x"), system.fixed("api"));
        assert_eq!(system.fixed("localhost").map(|list| list.len()), Some(2));
        assert_eq!(system.fixed("db.localhost").map(|list| list.len()), Some(2));
        assert_eq!(system.fixed("other"), None);
        assert_eq!(parse_hosts("no names here\n"), BTreeMap::new());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(nameserver|options|search|[0-9.:]{1,9}|ndots:|[ \\n#;]|\\PC){0,60}") {
            let system = System::parse(&text);
            proptest::prop_assert!(!system.servers.is_empty() && system.servers.len() <= SERVERS_MAX);
            proptest::prop_assert!(system.search.len() <= SEARCH_MAX);
            proptest::prop_assert!(parse_hosts(&text).len() <= HOSTS_MAX);
        }
    }
}
