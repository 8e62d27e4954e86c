//! The words between the master and its children: one enum for each direction and one codec.
//! A message is one packet of a `SEQPACKET` socket; descriptors travel beside it. Not a format
//! for the wire or the disk: both sides are the same binary.

use std::fmt;
use std::time::Duration;

/// The longest text in a message; a longer one is cut.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;

/// How a worker leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long ordinary exchanges may go on; `None`: to their end.
    pub ordinary: Option<Duration>,
    /// How long upgraded connections and tunnels may go on; `None`: to their end.
    pub upgraded: Option<Duration>,
    /// The service ends and no other worker takes over: idle connections are closed soon instead
    /// of being kept answerable.
    pub stopping: bool,
}

/// From the master to a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The generation is the live one: accept connections.
    Serve,
    /// Stop accepting, finish, and leave.
    Drain(Drain),
    /// Close everything that is still open, spread over this time, and leave.
    Close {
        /// The time over which connections are closed.
        spread: Duration,
    },
    /// The logs were opened anew: one descriptor comes along for each file, in the order in which
    /// the child was given them.
    Reopen,
    /// Something that the plan of the child was built from changed: its new content comes along as
    /// the descriptor of a file in memory.
    Update,
}

/// From a child to the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Everything is built; a worker accepts when it is told to.
    Ready,
    /// It cannot serve, and leaves.
    Failed(String),
    /// Something the operator should know; it goes on.
    Warning(String),
}

/// A message that does not decode: a defect, since both sides are the same program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed control message")
    }
}

impl Order {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        match self {
            Self::Drain(drain) => {
                out.push(1);
                put_time(&mut out, drain.ordinary);
                put_time(&mut out, drain.upgraded);
                out.push(u8::from(drain.stopping));
            }
            Self::Close { spread } => {
                out.push(2);
                put_time(&mut out, Some(*spread));
            }
            Self::Reopen => out.push(3),
            Self::Update => out.push(4),
            Self::Serve => out.push(5),
        }
        out
    }

    /// From bytes.
    ///
    /// # Errors
    /// When the message is not one of ours.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (tag, mut rest) = bytes.split_first().ok_or(Malformed)?;
        match tag {
            1 => {
                let ordinary = take_time(&mut rest)?;
                let upgraded = take_time(&mut rest)?;
                let stopping = match rest {
                    [0] => false,
                    [1] => true,
                    _ => return Err(Malformed),
                };
                Ok(Self::Drain(Drain {
                    ordinary,
                    upgraded,
                    stopping,
                }))
            }
            2 => {
                let spread = take_time(&mut rest)?.ok_or(Malformed)?;
                rest.is_empty()
                    .then_some(Self::Close { spread })
                    .ok_or(Malformed)
            }
            3 => rest.is_empty().then_some(Self::Reopen).ok_or(Malformed),
            4 => rest.is_empty().then_some(Self::Update).ok_or(Malformed),
            5 => rest.is_empty().then_some(Self::Serve).ok_or(Malformed),
            _ => Err(Malformed),
        }
    }
}

impl Report {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (tag, text) = match self {
            Self::Ready => (1, ""),
            Self::Failed(text) => (2, cut(text)),
            Self::Warning(text) => (3, cut(text)),
        };
        let mut out = Vec::with_capacity(1 + text.len());
        out.push(tag);
        out.extend_from_slice(text.as_bytes());
        out
    }

    /// From bytes.
    ///
    /// # Errors
    /// When the message is not one of ours.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (tag, rest) = bytes.split_first().ok_or(Malformed)?;
        match tag {
            1 => rest.is_empty().then_some(Self::Ready).ok_or(Malformed),
            2 => Ok(Self::Failed(text(rest)?)),
            3 => Ok(Self::Warning(text(rest)?)),
            _ => Err(Malformed),
        }
    }
}

/// At most the longest text, cut between characters.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn text(bytes: &[u8]) -> Result<String, Malformed> {
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(Malformed);
    }
    String::from_utf8(bytes.to_vec()).map_err(|_e| Malformed)
}

/// Nanoseconds; all ones stand for "without end".
fn put_time(out: &mut Vec<u8>, time: Option<Duration>) {
    let nanos = time.map_or(u64::MAX, |t| {
        u64::try_from(t.as_nanos()).map_or(u64::MAX - 1, |n| n.min(u64::MAX - 1))
    });
    out.extend_from_slice(&nanos.to_le_bytes());
}

fn take_time(rest: &mut &[u8]) -> Result<Option<Duration>, Malformed> {
    let (bytes, behind) = rest.split_first_chunk::<8>().ok_or(Malformed)?;
    *rest = behind;
    let nanos = u64::from_le_bytes(*bytes);
    Ok((nanos != u64::MAX).then(|| Duration::from_nanos(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time() -> impl Strategy<Value = Option<Duration>> {
        proptest::option::of((0..u64::MAX).prop_map(Duration::from_nanos))
    }

    fn order() -> impl Strategy<Value = Order> {
        prop_oneof![
            (time(), time(), any::<bool>()).prop_map(|(ordinary, upgraded, stopping)| {
                Order::Drain(Drain {
                    ordinary,
                    upgraded,
                    stopping,
                })
            }),
            (0..u64::MAX).prop_map(|n| Order::Close {
                spread: Duration::from_nanos(n)
            }),
            Just(Order::Reopen),
            Just(Order::Update),
            Just(Order::Serve),
        ]
    }

    proptest! {
        #[test]
        fn orders_arrive_as_they_were_sent(order in order()) {
            prop_assert_eq!(Order::decode(&order.encode()), Ok(order));
        }

        #[test]
        fn reports_arrive_as_they_were_sent(text in ".*", kind in 0..3) {
            let report = match kind {
                0 => Report::Ready,
                1 => Report::Failed(text),
                _ => Report::Warning(text),
            };
            prop_assert_eq!(Report::decode(&report.encode()), Ok(report));
        }

        #[test]
        fn any_bytes_decode_or_not_and_a_message_has_one_form(
            bytes in proptest::collection::vec(any::<u8>(), 0..40)
        ) {
            if let Ok(order) = Order::decode(&bytes) {
                prop_assert_eq!(order.encode(), bytes.clone());
            }
            if let Ok(report) = Report::decode(&bytes) {
                prop_assert_eq!(report.encode(), bytes);
            }
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "ä".repeat(TEXT_BYTES_MAX);
        let bytes = Report::Failed(long).encode();
        assert_eq!(bytes.len(), TEXT_BYTES_MAX + 1);
        assert!(matches!(Report::decode(&bytes), Ok(Report::Failed(_))));
        let odd = format!("a{}", "ä".repeat(TEXT_BYTES_MAX));
        let bytes = Report::Failed(odd).encode();
        assert_eq!(bytes.len(), TEXT_BYTES_MAX);
    }

    #[test]
    fn what_is_cut_short_or_unknown_is_malformed() {
        for bytes in [&[][..], &[0], &[9], &[1, 0], &[2, 0, 0], &[3, 1]] {
            assert_eq!(Order::decode(bytes), Err(Malformed), "{bytes:?}");
        }
        for bytes in [&[][..], &[0], &[9], &[1, 0], &[2, 0xff]] {
            assert_eq!(Report::decode(bytes), Err(Malformed), "{bytes:?}");
        }
    }
}
