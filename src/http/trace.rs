//! Trace context (W3C `traceparent`): parsed, continued with a new span, or created. No span is
//! recorded here; `tracestate` is passed on or dropped by `edit`.

use crate::proto::head::{Field, FieldId};

/// Octets of a `traceparent` of version 00.
pub const LEN: usize = 55;

const SAMPLED: u8 = 1;

/// A position in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Of the whole trace; never 0.
    pub trace_id: u128,
    /// Of the span that sent it; never 0.
    pub span_id: u64,
    /// Whether the sender may have recorded it.
    pub sampled: bool,
}

impl Trace {
    /// The place of one that was not decided yet, because no head was read. It is never sent.
    pub const UNDECIDED: Self = Self {
        trace_id: 1,
        span_id: 1,
        sampled: false,
    };

    /// Parses a `traceparent`: lower-case hex, no zero ids, not version ff. Of a higher version
    /// the part that version 00 defines is taken.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (version, rest) = number(value, 2)?;
        let (trace_id, rest) = number(dash(rest)?, 32)?;
        let (span_id, rest) = number(dash(rest)?, 16)?;
        let (flags, rest) = number(dash(rest)?, 2)?;
        let end_fits = rest.is_empty() || (version > 0 && rest.first() == Some(&b'-'));
        if version == 0xff || trace_id == 0 || span_id == 0 || !end_fits {
            return None;
        }
        Some(Self {
            trace_id,
            span_id: u64::try_from(span_id).ok()?,
            sampled: flags & u128::from(SAMPLED) != 0,
        })
    }

    /// The start of a new trace, from random bits. It is marked as sampled: whether to record is
    /// then up to those behind, who would record nothing at all otherwise.
    #[must_use]
    pub fn create(random_trace: u128, random_span: u64) -> Self {
        Self {
            trace_id: random_trace.max(1),
            span_id: random_span.max(1),
            sampled: true,
        }
    }

    /// The same trace, one span further, from random bits.
    #[must_use]
    pub fn child(self, random_span: u64) -> Self {
        Self {
            span_id: random_span.max(1),
            ..self
        }
    }

    /// As a `traceparent` of version 00.
    #[must_use]
    pub fn to_bytes(self) -> [u8; LEN] {
        let mut out = [b'-'; LEN];
        let flags = if self.sampled { SAMPLED } else { 0 };
        write_hex(out.get_mut(..2), 0);
        write_hex(out.get_mut(3..35), self.trace_id);
        write_hex(out.get_mut(36..52), u128::from(self.span_id));
        write_hex(out.get_mut(53..), u128::from(flags));
        out
    }
}

/// The trace as it goes on from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Our own position.
    pub trace: Trace,
    /// Whether the client began it; only then does its `tracestate` mean anything.
    pub continued: bool,
}

impl Hop {
    /// Continues the trace of a request that has exactly one valid `traceparent`, or begins one.
    #[must_use]
    pub fn decide(fields: &[Field], buf: &[u8], random_trace: u128, random_span: u64) -> Self {
        let mut received = fields
            .iter()
            .filter(|field| field.id == FieldId::Traceparent && !field.hop);
        let first = received
            .next()
            .and_then(|field| Trace::parse(field.value.of(buf)));
        match (first, received.next()) {
            (Some(trace), None) => Self {
                trace: trace.child(random_span),
                continued: true,
            },
            _ => Self {
                trace: Trace::create(random_trace, random_span),
                continued: false,
            },
        }
    }
}

fn dash(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"-")
}

fn number(text: &[u8], digits: usize) -> Option<(u128, &[u8])> {
    let (digits, rest) = text.split_at_checked(digits)?;
    let mut value = 0;
    for byte in digits {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        value = value << 4 | u128::from(digit);
    }
    Some((value, rest))
}

/// Fills `out` with the lower-case hexadecimal digits of a number.
pub(super) fn write_hex(out: Option<&mut [u8]>, number: u128) {
    let mut rest = number;
    for place in out.unwrap_or_default().iter_mut().rev() {
        let digit = b"0123456789abcdef".get((rest & 15) as usize);
        *place = digit.copied().unwrap_or(b'0');
        rest >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::head::Span;
    use proptest::prelude::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_good_one_is_read_and_continued() {
        let trace = Trace::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(trace.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(trace.span_id, 0x00f0_67aa_0ba9_02b7);
        assert!(trace.sampled);
        assert_eq!(trace.to_bytes(), GOOD.as_bytes());
        let child = trace.child(7);
        assert_eq!(
            child.to_bytes().as_slice(),
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01"
        );
    }

    #[test]
    fn bad_ones_are_not_continued() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
        ] {
            assert_eq!(Trace::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_later_version_is_taken_for_what_is_known_of_it() {
        for good in [
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-what-the-future-holds",
        ] {
            let trace = Trace::parse(good.as_bytes()).unwrap();
            assert_eq!(trace.to_bytes(), GOOD.as_bytes());
        }
        let unsampled = GOOD.replace("-01", "-fe");
        assert!(!Trace::parse(unsampled.as_bytes()).unwrap().sampled);
    }

    #[test]
    fn ids_are_never_zero() {
        let trace = Trace::create(0, 0);
        assert_eq!(Trace::parse(&trace.to_bytes()), Some(trace));
        assert_eq!(trace.child(0).span_id, 1);
    }

    #[test]
    fn only_a_single_valid_one_is_continued() {
        let field = |at: usize| Field {
            name: Span::EMPTY,
            value: Span::new(at, at + LEN),
            id: FieldId::Traceparent,
            hop: false,
        };
        let buf = [GOOD.as_bytes(), &[b'x'; LEN]].concat();
        for (fields, continued) in [
            (vec![], false),
            (vec![field(0)], true),
            (vec![field(LEN)], false),
            (vec![field(0), field(0)], false),
        ] {
            let hop = Hop::decide(&fields, &buf, 5, 6);
            assert_eq!(hop.continued, continued);
            assert_eq!(hop.trace.span_id, 6);
            assert_eq!(hop.trace.trace_id == 5, !continued);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace_id in 1_u128.., span_id in 1_u64.., sampled: bool) {
            let trace = Trace { trace_id, span_id, sampled };
            prop_assert_eq!(Trace::parse(&trace.to_bytes()), Some(trace));
        }

        #[test]
        fn anything_can_be_parsed(bytes in prop::collection::vec(any::<u8>(), 0..70)) {
            let _any = Trace::parse(&bytes);
        }
    }
}
