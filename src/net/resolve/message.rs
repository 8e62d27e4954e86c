//! DNS messages: a question out, an answer in. Pure; hostile bytes give an error, never a panic,
//! and never more work than their length.

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The most addresses that are taken from one answer.
pub const ADDRESSES_MAX: usize = 64;

/// The most steps from alias to alias.
const ALIASES_MAX: usize = 16;

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
}

impl Kind {
    const fn wire(self) -> TYPE {
        match self {
            Self::A => TYPE::A,
            Self::Aaaa => TYPE::AAAA,
        }
    }
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// These addresses, for so long.
    Addresses(Vec<IpAddr>, Duration),
    /// The name has no address of this kind; how long that holds, if the server said.
    Empty(Option<Duration>),
    /// The name does not exist; how long that holds, if the server said.
    Unknown(Option<Duration>),
    /// The answer did not fit: ask again by TCP.
    Truncated,
    /// The server could not or would not answer.
    Failed,
}

/// The bytes are not an answer to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnAnswer;

/// Builds a question; `None` when `name` cannot be asked for.
pub fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let name = Name::new(name).ok()?;
    if name.get_labels().is_empty() {
        return None;
    }
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let class = QCLASS::CLASS(CLASS::IN);
    packet
        .questions
        .push(Question::new(name, QTYPE::TYPE(kind.wire()), class, false));
    packet.build_bytes_vec().ok()
}

/// Reads an answer to exactly this question.
///
/// # Errors
/// When the bytes are something else: malformed, another id, another question.
pub fn answer(bytes: &[u8], id: u16, name: &str, kind: Kind) -> Result<Reply, NotAnAnswer> {
    if !is_plausible(bytes) {
        return Err(NotAnAnswer);
    }
    let packet = Packet::parse(bytes).map_err(|_malformed| NotAnAnswer)?;
    let [question] = &packet.questions[..] else {
        return Err(NotAnAnswer);
    };
    let same = packet.id() == id
        && packet.has_flags(PacketFlag::RESPONSE)
        && question.qtype == QTYPE::TYPE(kind.wire())
        && question.qclass == QCLASS::CLASS(CLASS::IN)
        && is_name(&question.qname, name);
    if !same {
        return Err(NotAnAnswer);
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Ok(Reply::Truncated);
    }
    Ok(match packet.rcode() {
        RCODE::NoError => match addresses(&packet, kind) {
            (list, _) if list.is_empty() => Reply::Empty(negative_ttl(&packet)),
            (list, ttl) => Reply::Addresses(list, ttl),
        },
        RCODE::NameError => Reply::Unknown(negative_ttl(&packet)),
        _ => Reply::Failed,
    })
}

/// Whether the counts of the header fit into the bytes at all, so that nothing is allocated for
/// records that cannot be there.
fn is_plausible(bytes: &[u8]) -> bool {
    let count = |at: usize| match bytes.get(at..at + 2) {
        Some([high, low]) => usize::from(*high) << 8 | usize::from(*low),
        _ => usize::MAX / 64,
    };
    // The shortest question has 5 bytes, the shortest record 11.
    12 + count(4) * 5 + (count(6) + count(8) + count(10)) * 11 <= bytes.len()
}

fn is_name(wire: &Name<'_>, text: &str) -> bool {
    let mut labels = wire.as_bytes();
    let mut wanted = text.strip_suffix('.').unwrap_or(text).split('.');
    loop {
        match (labels.next(), wanted.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a.eq_ignore_ascii_case(b.as_bytes()) => {}
            _ => return false,
        }
    }
}

fn same_name(a: &Name<'_>, b: &Name<'_>) -> bool {
    a.get_labels().len() == b.get_labels().len()
        && a.as_bytes()
            .zip(b.as_bytes())
            .all(|(a, b)| a.eq_ignore_ascii_case(b))
}

/// Follows the aliases from the question to the addresses. Records of other names are ignored.
fn addresses(packet: &Packet<'_>, kind: Kind) -> (Vec<IpAddr>, Duration) {
    let (mut list, mut ttl) = (Vec::new(), u32::MAX);
    let Some(mut owner) = packet.questions.first().map(|question| &question.qname) else {
        return (list, Duration::ZERO);
    };
    for _ in 0..ALIASES_MAX {
        let mut alias = None;
        let records = packet.answers.iter();
        for record in records.filter(|r| r.class == CLASS::IN && same_name(&r.name, owner)) {
            let addr: IpAddr = match (&record.rdata, kind) {
                (RData::A(a), Kind::A) => Ipv4Addr::from(a.address).into(),
                (RData::AAAA(a), Kind::Aaaa) => Ipv6Addr::from(a.address).into(),
                (RData::CNAME(next), _) => {
                    alias = Some(&next.0);
                    ttl = ttl.min(record.ttl);
                    continue;
                }
                _ => continue,
            };
            ttl = ttl.min(record.ttl);
            if list.len() < ADDRESSES_MAX && !list.contains(&addr) {
                list.push(addr);
            }
        }
        match alias {
            Some(next) if list.is_empty() => owner = next,
            _ => break,
        }
    }
    (list, Duration::from_secs(u64::from(ttl)))
}

/// How long "there is none" holds (RFC 2308): the lesser of the two numbers of the SOA record.
fn negative_ttl(packet: &Packet<'_>) -> Option<Duration> {
    packet
        .name_servers
        .iter()
        .find_map(|record| match &record.rdata {
            RData::SOA(soa) => Some(Duration::from_secs(u64::from(soa.minimum.min(record.ttl)))),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, AAAA, CNAME, SOA};

    const NAME: &str = "Api.Internal";

    fn packet(kind: Kind) -> Packet<'static> {
        let mut packet = Packet::new_reply(7);
        let name = Name::new("api.internal").unwrap();
        let class = QCLASS::CLASS(CLASS::IN);
        packet
            .questions
            .push(Question::new(name, QTYPE::TYPE(kind.wire()), class, false));
        packet
    }

    fn record(name: &'static str, ttl: u32, data: RData<'static>) -> ResourceRecord<'static> {
        ResourceRecord::new(Name::new(name).unwrap(), CLASS::IN, ttl, data)
    }

    fn a(n: u8) -> RData<'static> {
        RData::A(A {
            address: u32::from(Ipv4Addr::new(10, 0, 0, n)),
        })
    }

    fn alias(name: &'static str) -> RData<'static> {
        RData::CNAME(CNAME(Name::new(name).unwrap()))
    }

    fn read(packet: &Packet<'_>, kind: Kind) -> Result<Reply, NotAnAnswer> {
        answer(&packet.build_bytes_vec_compressed().unwrap(), 7, NAME, kind)
    }

    fn ip(n: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, n).into()
    }

    #[test]
    fn a_question_is_what_a_server_reads() {
        let bytes = question(0xabcd, "api.internal.", Kind::Aaaa).unwrap();
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.id(), 0xabcd);
        assert!(packet.has_flags(PacketFlag::RECURSION_DESIRED));
        assert!(!packet.has_flags(PacketFlag::RESPONSE));
        assert!(is_name(&packet.questions[0].qname, "api.internal"));
        assert_eq!(packet.questions[0].qtype, QTYPE::TYPE(TYPE::AAAA));
        assert_eq!(question(1, "", Kind::A), None);
        assert_eq!(question(1, &"a".repeat(64), Kind::A), None);
        assert_eq!(question(1, &"a.".repeat(140), Kind::A), None);
    }

    #[test]
    fn addresses_come_with_the_shortest_time() {
        let mut packet = packet(Kind::A);
        packet.answers.push(record("API.internal", 60, a(1)));
        packet.answers.push(record("api.internal", 30, a(2)));
        packet.answers.push(record("api.internal", 30, a(2)));
        packet.answers.push(record("other.internal", 5, a(3)));
        let ttl = Duration::from_secs(30);
        assert_eq!(
            read(&packet, Kind::A),
            Ok(Reply::Addresses(vec![ip(1), ip(2)], ttl))
        );
    }

    #[test]
    fn aliases_are_followed_in_any_order_but_not_for_ever() {
        let mut packet = packet(Kind::A);
        packet.answers.push(record("c.internal", 50, a(1)));
        packet
            .answers
            .push(record("b.internal", 40, alias("c.internal")));
        packet
            .answers
            .push(record("api.internal", 60, alias("b.internal")));
        let ttl = Duration::from_secs(40);
        assert_eq!(
            read(&packet, Kind::A),
            Ok(Reply::Addresses(vec![ip(1)], ttl))
        );
        packet.answers.remove(0);
        packet
            .answers
            .push(record("c.internal", 50, alias("api.internal")));
        assert_eq!(read(&packet, Kind::A), Ok(Reply::Empty(None)));
    }

    #[test]
    fn the_kinds_are_not_mixed() {
        let mut packet = packet(Kind::Aaaa);
        packet.answers.push(record("api.internal", 60, a(1)));
        assert_eq!(read(&packet, Kind::Aaaa), Ok(Reply::Empty(None)));
        packet
            .answers
            .push(record("api.internal", 60, RData::AAAA(AAAA { address: 1 })));
        let ttl = Duration::from_secs(60);
        let list = vec![Ipv6Addr::LOCALHOST.into()];
        assert_eq!(read(&packet, Kind::Aaaa), Ok(Reply::Addresses(list, ttl)));
        assert_eq!(read(&packet, Kind::A), Err(NotAnAnswer));
    }

    #[test]
    fn no_is_an_answer_with_a_time() {
        let mut packet = packet(Kind::A);
        let soa = SOA {
            mname: Name::new("ns.internal").unwrap(),
            rname: Name::new("me.internal").unwrap(),
            serial: 1,
            refresh: 1,
            retry: 1,
            expire: 1,
            minimum: 20,
        };
        packet
            .name_servers
            .push(record("internal", 90, RData::SOA(soa)));
        let ttl = Some(Duration::from_secs(20));
        assert_eq!(read(&packet, Kind::A), Ok(Reply::Empty(ttl)));
        *packet.rcode_mut() = RCODE::NameError;
        assert_eq!(read(&packet, Kind::A), Ok(Reply::Unknown(ttl)));
        *packet.rcode_mut() = RCODE::Refused;
        assert_eq!(read(&packet, Kind::A), Ok(Reply::Failed));
        packet.set_flags(PacketFlag::TRUNCATION);
        assert_eq!(read(&packet, Kind::A), Ok(Reply::Truncated));
    }

    #[test]
    fn what_was_not_asked_is_not_an_answer() {
        let mut packet = packet(Kind::A);
        packet.answers.push(record("api.internal", 60, a(1)));
        let bytes = packet.build_bytes_vec().unwrap();
        assert!(answer(&bytes, 7, NAME, Kind::A).is_ok());
        assert_eq!(answer(&bytes, 8, NAME, Kind::A), Err(NotAnAnswer));
        assert_eq!(
            answer(&bytes, 7, "api.internal.x", Kind::A),
            Err(NotAnAnswer)
        );
        assert_eq!(answer(&bytes, 7, "internal", Kind::A), Err(NotAnAnswer));
        packet.remove_flags(PacketFlag::RESPONSE);
        assert_eq!(read(&packet, Kind::A), Err(NotAnAnswer));
        packet.set_flags(PacketFlag::RESPONSE);
        packet.questions.clear();
        assert_eq!(read(&packet, Kind::A), Err(NotAnAnswer));
    }

    #[test]
    fn a_long_list_is_cut() {
        let mut packet = packet(Kind::A);
        for n in 0..=255 {
            packet.answers.push(record("api.internal", 60, a(n)));
        }
        let Ok(Reply::Addresses(list, _)) = read(&packet, Kind::A) else {
            panic!()
        };
        assert_eq!(list.len(), ADDRESSES_MAX);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _either = answer(&bytes, 7, NAME, Kind::A);
        }

        /// Bytes that are nearly right reach deeper than random ones.
        #[test]
        fn damaged_answers_never_panic(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
            keep in proptest::bool::ANY,
        ) {
            let mut packet = packet(Kind::A);
            packet.answers.push(record("api.internal", 60, alias("b.internal")));
            packet.answers.push(record("b.internal", 60, a(1)));
            packet.answers.push(record("b.internal", 60, RData::AAAA(AAAA { address: 1 })));
            let mut bytes = packet.build_bytes_vec_compressed().unwrap();
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let len = if keep { bytes.len() } else { cut.index(bytes.len()) };
            if let Ok(Reply::Addresses(list, _)) = answer(&bytes[..len], 7, NAME, Kind::A) {
                prop_assert!(list.len() <= 2);
            }
        }

        #[test]
        fn names_survive_the_wire(labels in proptest::collection::vec("[a-z0-9_]{1,20}", 1..6)) {
            let name = labels.join(".");
            let bytes = question(1, &name, Kind::A).unwrap();
            let packet = Packet::parse(&bytes).unwrap();
            prop_assert!(is_name(&packet.questions[0].qname, &name));
        }
    }
}
