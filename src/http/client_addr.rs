//! Who the client is (rule 8.4), decided once per request for headers, limits and logs: the
//! right-most address of the chain peer ← X-Forwarded-For that is not a trusted proxy.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::proto::head::{Field, FieldId};

/// A set of networks, as sorted ranges that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Networks {
    /// The union of some networks.
    #[must_use]
    pub fn new(nets: &[IpNet]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        // An IPv4 network written in its IPv6 form means the same peers.
        let mapped = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0).to_bits();
        for (first, last) in &v6 {
            if first >> 32 == mapped >> 32 && last >> 32 == mapped >> 32 {
                v4.push((low(*first), low(*last)));
            }
        }
        Self {
            v4: merge(v4, |end| end.checked_add(1)),
            v6: merge(v6, |end| end.checked_add(1)),
        }
    }

    /// Whether an address lies in one of the networks. An IPv4 address in IPv6 form counts as
    /// the IPv4 address.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        match addr.to_canonical() {
            IpAddr::V4(addr) => holds(&self.v4, addr.to_bits()),
            IpAddr::V6(addr) => holds(&self.v6, addr.to_bits()),
        }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

fn low(bits: u128) -> u32 {
    u32::try_from(bits & u128::from(u32::MAX)).unwrap_or(0)
}

fn merge<T: Copy + Ord>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if next(before.1).is_none_or(|next| first <= next) => {
                before.1 = before.1.max(last);
            }
            _ => merged.push((first, last)),
        }
    }
    merged.into()
}

fn holds<T: Copy + Ord>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= value);
    after
        .checked_sub(1)
        .and_then(|at| ranges.get(at))
        .is_some_and(|(_, last)| value <= *last)
}

/// The two ends of what is known about a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Its address; none when it came over a Unix socket and nobody trusted says more.
    pub addr: Option<IpAddr>,
    /// Who is connected; none for a Unix socket.
    pub peer: Option<IpAddr>,
    /// Whether that peer is a trusted proxy.
    pub trusted_peer: bool,
}

impl Client {
    /// Decides from the peer of the connection (or the address that the PROXY protocol gave) and
    /// the fields of the request. Only a trusted peer's fields are looked at; of its chain, an
    /// element that is no address ends what can be believed.
    #[must_use]
    pub fn decide(peer: Option<IpAddr>, fields: &[Field], buf: &[u8], trusted: &Networks) -> Self {
        let peer = peer.map(|addr| addr.to_canonical());
        let trusted_peer = !trusted.is_empty() && peer.is_some_and(|addr| trusted.contains(addr));
        let mut addr = peer;
        if trusted_peer {
            let forwarded_for = lines(fields, FieldId::XForwardedFor, buf);
            if forwarded_for.clone().next().is_some() {
                let chain = forwarded_for.flat_map(|line| line.rsplit(|b| *b == b','));
                addr = last_untrusted(chain.map(parse_element), peer, trusted);
            } else {
                let elements = lines(fields, FieldId::Forwarded, buf)
                    .flat_map(|line| line.rsplit(|b| *b == b','));
                addr = last_untrusted(elements.map(parse_forwarded), peer, trusted);
            }
        }
        Self {
            addr,
            peer,
            trusted_peer,
        }
    }
}

/// The values of all fields `id`, the last one first.
fn lines<'a>(
    fields: &'a [Field],
    id: FieldId,
    buf: &'a [u8],
) -> impl Iterator<Item = &'a [u8]> + Clone {
    fields
        .iter()
        .rev()
        .filter(move |field| field.id == id)
        .map(|field| field.value.of(buf))
}

fn last_untrusted(
    chain: impl Iterator<Item = Option<IpAddr>>,
    peer: Option<IpAddr>,
    trusted: &Networks,
) -> Option<IpAddr> {
    let mut known = peer;
    for element in chain {
        let Some(addr) = element else {
            return known;
        };
        known = Some(addr);
        if !trusted.contains(addr) {
            return known;
        }
    }
    known
}

/// `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]` or `[::1]:5`, with blanks around it.
fn parse_element(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element.trim_ascii()).ok()?;
    let addr: IpAddr = if let Some(rest) = text.strip_prefix('[') {
        let (addr, port) = rest.split_once(']')?;
        is_port(port).then_some(())?;
        IpAddr::V6(addr.parse().ok()?)
    } else if let Ok(addr) = text.parse() {
        addr
    } else {
        let (addr, port) = text.split_at(text.rfind(':')?);
        is_port(port).then_some(())?;
        IpAddr::V4(addr.parse().ok()?)
    };
    Some(addr.to_canonical())
}

fn is_port(text: &str) -> bool {
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|p| p.parse::<u16>().is_ok() && !p.starts_with('+'))
}

/// The `for` parameter of one element of Forwarded (RFC 7239 4). A comma within quotes, which no
/// address has, makes both halves unreadable, and that ends the chain.
fn parse_forwarded(element: &[u8]) -> Option<IpAddr> {
    let value = element.split(|b| *b == b';').find_map(|pair| {
        let (name, value) = pair.trim_ascii().split_at_checked(4)?;
        name.eq_ignore_ascii_case(b"for=").then_some(value)
    })?;
    match value.strip_prefix(b"\"") {
        Some(quoted) => parse_element(quoted.strip_suffix(b"\"")?),
        None => parse_element(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::head::Span;
    use proptest::prelude::*;

    fn nets(list: &[&str]) -> Networks {
        let list: Vec<IpNet> = list.iter().map(|net| net.parse().unwrap()).collect();
        Networks::new(&list)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn decide(peer: &str, id: FieldId, values: &[&str], trusted: &[&str]) -> String {
        let mut buf = Vec::new();
        let fields: Vec<Field> = values
            .iter()
            .map(|value| {
                let start = buf.len();
                buf.extend_from_slice(value.as_bytes());
                Field {
                    name: Span::EMPTY,
                    value: Span::new(start, buf.len()),
                    id,
                    hop: false,
                }
            })
            .collect();
        let client = Client::decide(Some(ip(peer)), &fields, &buf, &nets(trusted));
        client.addr.unwrap().to_string()
    }

    #[test]
    fn rule_8_4_the_right_most_untrusted_address() {
        let lan = ["10.0.0.0/8", "fd00::/8"];
        for (peer, chain, want) in [
            // an untrusted peer is the client, whatever it says
            ("203.0.113.1", &["1.1.1.1"][..], "203.0.113.1"),
            ("10.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
            (
                "10.0.0.1",
                &["6.6.6.6, 1.1.1.1, 10.2.2.2 ,10.3.3.3"],
                "1.1.1.1",
            ),
            // several lines are one list
            ("10.0.0.1", &["6.6.6.6", "1.1.1.1", "10.2.2.2"], "1.1.1.1"),
            // all trusted: the first of the chain
            ("10.0.0.1", &["10.9.9.9, 10.2.2.2"], "10.9.9.9"),
            // what cannot be read ends the chain
            ("10.0.0.1", &["1.1.1.1, unknown, 10.2.2.2"], "10.2.2.2"),
            ("10.0.0.1", &["garbage"], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1,"], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            // forms of addresses
            ("10.0.0.1", &["1.1.1.1:4711"], "1.1.1.1"),
            ("10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]:443"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]x"], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1:port"], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1, ::ffff:10.2.2.2"], "1.1.1.1"),
            ("::ffff:10.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            ("fd00::1", &["1.1.1.1"], "1.1.1.1"),
        ] {
            let got = decide(peer, FieldId::XForwardedFor, chain, &lan);
            assert_eq!(got, want, "{peer} {chain:?}");
        }
    }

    #[test]
    fn forwarded_is_read_when_there_is_no_x_forwarded_for() {
        for (value, want) in [
            ("for=1.1.1.1", "1.1.1.1"),
            ("For=\"[2001:db8::1]:4711\";proto=https", "2001:db8::1"),
            ("for=6.6.6.6, for=1.1.1.1;by=10.0.0.1", "1.1.1.1"),
            ("proto=http; for=1.1.1.1", "1.1.1.1"),
            ("for=unknown", "10.0.0.1"),
            ("for=_hidden, for=10.2.2.2", "10.2.2.2"),
            ("by=1.1.1.1", "10.0.0.1"),
            ("for=\"1.1.1.1", "10.0.0.1"),
        ] {
            let got = decide("10.0.0.1", FieldId::Forwarded, &[value], &["10.0.0.0/8"]);
            assert_eq!(got, want, "{value}");
        }
    }

    #[test]
    fn nobody_is_trusted_by_default() {
        let got = decide("127.0.0.1", FieldId::XForwardedFor, &["1.1.1.1"], &[]);
        assert_eq!(got, "127.0.0.1");
        let unix = Client::decide(None, &[], b"", &nets(&["0.0.0.0/0", "::/0"]));
        assert_eq!(unix, Client::default());
    }

    #[test]
    fn networks_are_merged_and_found() {
        let set = nets(&[
            "10.0.0.0/9",
            "10.128.0.0/9",
            "192.168.1.1/32",
            "::/0",
            "fd00::/8",
        ]);
        assert_eq!((set.v4.len(), set.v6.len()), (2, 1));
        assert!(set.contains(ip("10.255.255.255")) && set.contains(ip("10.0.0.0")));
        assert!(!set.contains(ip("11.0.0.0")) && !set.contains(ip("9.255.255.255")));
        assert!(set.contains(ip("192.168.1.1")) && !set.contains(ip("192.168.1.2")));
        assert!(nets(&["0.0.0.0/0"]).contains(ip("255.255.255.255")));
        assert!(nets(&["::ffff:10.0.0.0/104"]).contains(ip("10.1.2.3")));
    }

    proptest! {
        #[test]
        fn a_set_agrees_with_its_networks(
            list in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..20),
            probes in prop::collection::vec(any::<u32>(), 1..20),
        ) {
            let list: Vec<IpNet> = list
                .iter()
                .map(|(bits, len)| {
                    ipnet::Ipv4Net::new((*bits).into(), *len).unwrap().trunc().into()
                })
                .collect();
            let set = Networks::new(&list);
            let edges = list.iter().flat_map(|net| [net.network(), net.broadcast()]);
            let probes = probes.iter().map(|bits| IpAddr::V4((*bits).into()));
            for addr in probes.chain(edges) {
                prop_assert_eq!(set.contains(addr), list.iter().any(|net| net.contains(&addr)));
            }
        }

        #[test]
        fn any_chain_can_be_read(value in "[ -~]{0,60}") {
            for id in [FieldId::XForwardedFor, FieldId::Forwarded] {
                decide("10.0.0.1", id, &[&value], &["10.0.0.0/8"]);
            }
        }
    }
}
