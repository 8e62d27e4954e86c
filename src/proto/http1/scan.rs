//! Finding the end of a head in octets that arrive in any pieces, with work that is linear in
//! their number; line faults and bounds are found as soon as the octet that breaks them is there.
//!
//! It knows lines, not fields: what stands in a line is looked at when the head is complete.

use crate::proto::http1::grammar;

/// Empty lines that are skipped before a request line (rule 2.2).
pub(super) const EMPTY_LINES: u8 = 2;

/// How far the search for the end of a head has got. It belongs to one head in one buffer: the
/// buffer may grow, but its first octet has to stay the first octet of the head. It is reset by
/// the parser when a head is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// All octets before this place were looked at.
    place: usize,
    /// Where the first line starts.
    start: usize,
    /// Where the current line starts.
    line: usize,
    /// Where the first line ends, once it did.
    first_end: usize,
    /// Lines that ended and are not empty.
    lines: u32,
    /// Empty lines that were skipped.
    skipped: u8,
}

/// The bounds of a head; sizes in octets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The first line without its CRLF.
    pub(super) first_line: u32,
    /// Every other line without its CRLF.
    pub(super) line: u32,
    /// The whole with all CRLFs.
    pub(super) head: u32,
    /// Number of lines.
    pub(super) lines: u32,
    /// Empty lines that may stand in front; None if an empty line is the end (trailers).
    pub(super) skip: Option<u8>,
}

/// What is wrong with the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A bare LF, a bare CR or a NUL.
    BareEnd,
    /// Another control octet in the first line.
    ControlInFirstLine,
    /// Another control octet in a later line.
    Control,
    /// Too many empty lines in front.
    EmptyLine,
    /// The first line is too long.
    FirstLineTooLong,
    /// A later line is too long.
    LineTooLong,
    /// The whole is too long.
    TooLong,
    /// There are too many lines.
    TooManyLines,
}

/// A complete head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The first line starts here.
    pub(super) start: usize,
    /// The first line ends here, before its CRLF.
    pub(super) first_end: usize,
    /// The second line starts here.
    pub(super) fields: usize,
    /// The head ends here, its empty line included.
    pub(super) end: usize,
    /// Number of lines, the empty one not counted.
    pub(super) lines: u32,
}

impl Scan {
    /// Looks at the octets that are new in `buf`.
    pub(super) fn advance(&mut self, buf: &[u8], bounds: &Bounds) -> Result<Option<Found>, Fault> {
        while let Some(place) = grammar::find_control(buf, self.place) {
            self.check(place, bounds)?;
            if buf.get(place) != Some(&b'\r') {
                return Err(self.control(buf.get(place).copied()));
            }
            let behind = place.saturating_add(1);
            self.check_head(behind, bounds)?;
            match buf.get(behind) {
                None => {
                    self.place = place;
                    return Ok(None);
                }
                Some(b'\n') => {}
                Some(_) => return Err(Fault::BareEnd),
            }
            let next = behind.saturating_add(1);
            self.check_head(next, bounds)?;
            if self.end_line(place, next, bounds)? {
                return Ok(Some(Found {
                    start: self.start,
                    first_end: self.first_end,
                    fields: self.first_end.saturating_add(2),
                    end: next,
                    lines: self.lines,
                }));
            }
        }
        self.place = self.place.max(buf.len());
        self.check(self.place, bounds)?;
        Ok(None)
    }

    /// Whether nothing was looked at yet.
    pub(super) const fn is_fresh(&self) -> bool {
        self.place == 0
    }

    /// A line ended at `place`, the next one starts at `next`. True at the end of the head.
    fn end_line(&mut self, place: usize, next: usize, bounds: &Bounds) -> Result<bool, Fault> {
        let empty = place == self.line;
        if empty && (self.lines > 0 || bounds.skip.is_none()) {
            return Ok(true);
        }
        self.place = next;
        self.line = next;
        if empty {
            if bounds.skip.is_none_or(|most| self.skipped >= most) {
                return Err(Fault::EmptyLine);
            }
            self.skipped = self.skipped.saturating_add(1);
            self.start = next;
            return Ok(false);
        }
        if self.lines == 0 {
            self.first_end = place;
        }
        self.lines = self.lines.saturating_add(1);
        if self.lines > bounds.lines {
            Err(Fault::TooManyLines)
        } else {
            Ok(false)
        }
    }

    /// Checks the bounds when the line has no end before `place`. If both are passed, the one
    /// that was passed first counts, so that the pieces do not matter.
    fn check(&self, place: usize, bounds: &Bounds) -> Result<(), Fault> {
        let first = self.lines == 0;
        let line = if first {
            bounds.first_line
        } else {
            bounds.line
        } as usize;
        let line_end = self.line.saturating_add(line);
        let head_end = self.start.saturating_add(bounds.head as usize);
        if place > line_end && line_end <= head_end {
            return Err(if first {
                Fault::FirstLineTooLong
            } else {
                Fault::LineTooLong
            });
        }
        self.check_head(place, bounds)
    }

    fn check_head(&self, place: usize, bounds: &Bounds) -> Result<(), Fault> {
        let end = self.start.saturating_add(bounds.head as usize);
        if place > end {
            Err(Fault::TooLong)
        } else {
            Ok(())
        }
    }

    fn control(&self, octet: Option<u8>) -> Fault {
        match octet {
            Some(b'\n' | b'\r' | 0) => Fault::BareEnd,
            _ if self.lines == 0 => Fault::ControlInFirstLine,
            _ => Fault::Control,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Bounds = Bounds {
        first_line: 100,
        line: 100,
        head: 1000,
        lines: 10,
        skip: Some(EMPTY_LINES),
    };

    /// One octet more at each call.
    fn trickle(text: &[u8], bounds: &Bounds) -> (usize, Result<Option<Found>, Fault>) {
        let mut scan = Scan::default();
        for length in 0..text.len() {
            match scan.advance(&text[..length], bounds) {
                Ok(None) => {}
                done => return (length, done),
            }
        }
        (text.len(), scan.advance(text, bounds))
    }

    fn whole(text: &[u8], bounds: &Bounds) -> Result<Option<Found>, Fault> {
        let result = Scan::default().advance(text, bounds);
        assert_eq!(trickle(text, bounds).1, result, "{text:?}");
        result
    }

    #[test]
    fn the_end_is_the_first_empty_line() {
        let found = whole(b"GET / HTTP/1.1\r\na: b\r\n\r\nrest\n", &WIDE)
            .unwrap()
            .unwrap();
        assert_eq!(
            found,
            Found {
                start: 0,
                first_end: 14,
                fields: 16,
                end: 24,
                lines: 2
            }
        );
        assert_eq!(whole(b"GET / HTTP/1.1\r\na: b\r\n\r", &WIDE), Ok(None));
    }

    #[test]
    fn two_empty_lines_in_front_are_skipped_and_no_more() {
        let found = whole(b"\r\n\r\nx\r\n\r\n", &WIDE).unwrap().unwrap();
        assert_eq!((found.start, found.first_end, found.end), (4, 5, 9));
        assert_eq!(
            whole(b"\r\n\r\n\r\nx\r\n\r\n", &WIDE),
            Err(Fault::EmptyLine)
        );
        let none = Bounds {
            skip: Some(0),
            ..WIDE
        };
        assert_eq!(whole(b"\r\nx\r\n\r\n", &none), Err(Fault::EmptyLine));
    }

    #[test]
    fn an_empty_section_ends_at_once_where_that_is_allowed() {
        let section = Bounds { skip: None, ..WIDE };
        let found = whole(b"\r\n", &section).unwrap().unwrap();
        assert_eq!((found.end, found.lines), (2, 0));
    }

    #[test]
    fn a_bare_line_end_is_found_at_the_octet() {
        for (text, at) in [
            (&b"ab\ncd"[..], 3),
            (b"ab\rcd", 4),
            (b"ab\0cd", 3),
            (b"ab\r\n\ncd", 5),
            (b"ab\r\ncd\r\r\n", 8),
        ] {
            assert_eq!(trickle(text, &WIDE), (at, Err(Fault::BareEnd)), "{text:?}");
            assert_eq!(whole(text, &WIDE), Err(Fault::BareEnd));
        }
        assert_eq!(whole(b"a\x01b", &WIDE), Err(Fault::ControlInFirstLine));
        assert_eq!(whole(b"a\r\nb\x0b", &WIDE), Err(Fault::Control));
        assert_eq!(
            whole(b"a\tb\r\n\tc\r\n", &WIDE),
            Ok(None),
            "HTAB is no fault of a line"
        );
    }

    #[test]
    fn bounds_are_inclusive_and_do_not_wait_for_the_end() {
        let bounds = Bounds {
            first_line: 4,
            line: 3,
            head: 100,
            lines: 3,
            skip: Some(2),
        };
        assert_eq!(whole(b"abcd\r\nabc\r\n", &bounds), Ok(None));
        assert_eq!(
            trickle(b"abcdefgh", &bounds),
            (5, Err(Fault::FirstLineTooLong))
        );
        assert_eq!(whole(b"abcde\r\n", &bounds), Err(Fault::FirstLineTooLong));
        assert_eq!(
            trickle(b"a\r\nabcdefgh", &bounds),
            (7, Err(Fault::LineTooLong))
        );
        assert_eq!(whole(b"a\r\nb\r\nc\r\n", &bounds), Ok(None));
        assert_eq!(
            whole(b"a\r\nb\r\nc\r\nd\r\n", &bounds),
            Err(Fault::TooManyLines)
        );
    }

    #[test]
    fn the_head_is_bounded_with_its_line_ends() {
        let bounds = Bounds { head: 10, ..WIDE };
        assert!(whole(b"ab\r\ncd\r\n\r\n", &bounds).unwrap().is_some());
        assert_eq!(whole(b"ab\r\ncde\r\n\r\n", &bounds), Err(Fault::TooLong));
        assert_eq!(
            trickle(b"abcdefghijklmn", &bounds),
            (11, Err(Fault::TooLong))
        );
        assert!(
            whole(b"\r\n\r\nab\r\ncd\r\n\r\n", &bounds)
                .unwrap()
                .is_some(),
            "skipped: free"
        );
    }

    #[test]
    fn the_work_is_linear() {
        // The place moves on with every call: what was seen is not seen again.
        let mut scan = Scan::default();
        let text = [b'a'; 90];
        for length in 1..text.len() {
            assert_eq!(scan.advance(&text[..length], &WIDE), Ok(None));
            assert_eq!(scan.place, length);
        }
        assert!(!scan.is_fresh());
    }
}
