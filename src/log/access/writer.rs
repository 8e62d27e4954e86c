//! The buffer of one event loop and its way to the sink: lines are collected until the buffer is
//! full or a second has passed, and written whole. Who calls `flush_due` is the caller's business.

use super::record::Record;
use super::redact::Redact;
use super::render::Renderer;
use super::sample::Sampler;
use super::template::{Error, Template};
use crate::base::time::Instant;
use crate::log::calendar;
use crate::log::escape::Cap;
use crate::log::params::AccessParams;
use crate::log::sink::{Once, Priority, Sink, Stamp, Stopped};
use std::time::Duration;

/// A full buffer is written at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// The first line in the buffer waits no longer than this.
const FLUSH_AFTER: Duration = Duration::from_secs(1);
/// How long a value of a line may get.
const VALUE_MAX: Cap = Cap(4096);
/// The same when the line would not go to its sink in one piece.
const VALUE_SHORT: Cap = Cap(160);
/// How often lost lines are complained about.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// How often the calendar clock is compared with the monotonic one.
const CLOCK_EVERY: Duration = Duration::from_secs(1);

/// What happened to lines since the counts were last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines that were written.
    pub written: u64,
    /// Lines that were lost because the sink did not take them.
    pub dropped: u64,
}

/// The access log of one event loop.
#[derive(Debug)]
pub struct AccessLog {
    template: Template,
    redact: Redact,
    sampler: Sampler,
    sink: Sink,
    dates: calendar::Cache,
    clock: Clock,
    buffer: Vec<u8>,
    /// When the first line in the buffer came.
    first: Option<Instant>,
    counts: Counts,
    complained: Once,
    lost: u64,
}

impl AccessLog {
    /// As configured, into an open sink. `seed` makes the sample of this event loop; `wall` is the
    /// calendar clock.
    ///
    /// # Errors
    /// When the format or an entry of `redact` is malformed.
    pub fn new(
        params: &AccessParams,
        sink: Sink,
        seed: u64,
        wall: fn() -> Duration,
    ) -> Result<Self, Error> {
        let redact = Redact::parse(&params.redact).map_err(|entry| Error {
            at: 0,
            what: format!("{entry:?} is neither query:NAME nor header:NAME"),
            hint: None,
        })?;
        Ok(Self {
            template: Template::compile(&params.format)?,
            redact,
            sampler: Sampler::new(params.sample, seed),
            sink,
            dates: calendar::Cache::default(),
            clock: Clock::new(wall),
            buffer: Vec::new(),
            first: None,
            counts: Counts::default(),
            complained: Once::default(),
            lost: 0,
        })
    }

    /// The compiled format: tells which request headers a line needs.
    #[must_use]
    pub const fn template(&self) -> &Template {
        &self.template
    }

    /// Whether lines go anywhere.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.sink.is_off()
    }

    /// Takes the line of a request that has ended, unless the sample leaves it out.
    pub fn write(&mut self, record: &Record<'_>, now: Instant) {
        if self.sink.is_off() || !self.sampler.keeps(record.status) {
            return;
        }
        let start = self.buffer.len();
        let wall = self.clock.at(now);
        self.line(record, wall, VALUE_MAX);
        let line_max = self.sink.line_max();
        if self.buffer.len() - start > line_max {
            self.buffer.truncate(start);
            self.line(record, wall, VALUE_SHORT);
        }
        if self.buffer.len() - start > line_max {
            self.buffer.truncate(start);
            self.counts.dropped += 1;
            return;
        }
        if self.buffer.len() > BUFFER_BYTES {
            self.flush_up_to(start, now);
        }
        self.first.get_or_insert(now);
    }

    /// Writes the buffer when its first line has waited long enough. When to call again; `None`
    /// while the buffer is empty.
    pub fn flush_due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.first? + FLUSH_AFTER;
        if now < due {
            return Some(due);
        }
        self.flush(now);
        None
    }

    /// Writes the buffer now.
    pub fn flush(&mut self, now: Instant) {
        self.flush_up_to(self.buffer.len(), now);
    }

    /// What happened since the last call, for the metrics of the worker.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    fn line(&mut self, record: &Record<'_>, wall: Duration, cap: Cap) {
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(2 * BUFFER_BYTES);
        }
        Renderer {
            template: &self.template,
            redact: &self.redact,
            dates: &mut self.dates,
            wall,
            cap,
        }
        .line(&mut self.buffer, record);
    }

    fn flush_up_to(&mut self, end: usize, now: Instant) {
        let lines = self.buffer.get(..end).unwrap_or(&[]);
        if !lines.is_empty() {
            let count = count_lines(lines);
            let stamp = Stamp {
                priority: Priority::Info,
                wall: self.clock.at(now),
            };
            match self.sink.write(lines, stamp) {
                Ok(()) => {
                    self.counts.written += count;
                    self.recovered();
                }
                Err(stopped) => self.failed((end, count), &stopped, stamp, now),
            }
        }
        self.buffer.drain(..end.min(self.buffer.len()));
        self.first = None;
    }

    /// What was not taken is lost: keeping it would only move the loss and cost memory.
    fn failed(
        &mut self,
        (end, count): (usize, u64),
        stopped: &Stopped,
        stamp: Stamp,
        now: Instant,
    ) {
        let lines = self.buffer.get(..end).unwrap_or(&[]);
        let taken = lines.get(..stopped.written).unwrap_or(&[]);
        let whole = count_lines(taken);
        if taken.last().is_some_and(|last| *last != b'\n') {
            // Ends the torn line, if there is room for that, so that the next one is whole.
            let _ended = self.sink.write(b"\n", stamp);
        }
        self.counts.written += whole;
        self.counts.dropped += count - whole;
        self.lost += count - whole;
        if self.complained.says(now, COMPLAIN_EVERY) {
            ::log::error!(
                "access log: lines are lost: {}; {} so far",
                stopped.error,
                self.lost
            );
        }
    }

    fn recovered(&mut self) {
        if self.complained.reset() {
            ::log::warn!("access log: writing again; {} lines were lost", self.lost);
            self.lost = 0;
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        let last = self.first.unwrap_or(Instant::ZERO);
        self.flush(last);
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    lines
        .iter()
        .fold(0, |count, b| count + u64::from(*b == b'\n'))
}

/// The calendar time of a point on the monotonic clock, read from the system now and then.
#[derive(Debug)]
struct Clock {
    wall: fn() -> Duration,
    read: Option<(Instant, Duration)>,
}

impl Clock {
    const fn new(wall: fn() -> Duration) -> Self {
        Self { wall, read: None }
    }

    fn at(&mut self, now: Instant) -> Duration {
        if let Some((at, wall)) = self.read
            && now - at < CLOCK_EVERY
        {
            return wall + (now - at);
        }
        let wall = (self.wall)();
        self.read = Some((now, wall));
        wall
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::*;
    use crate::log::params::Output;
    use std::io::Read;

    const START: Instant = Instant::from_nanos(1_000_000_000_000);

    fn wall() -> Duration {
        Duration::from_secs(1_700_000_000)
    }

    fn at(seconds: f64) -> Instant {
        START + Duration::from_secs_f64(seconds)
    }

    fn params(format: &str) -> AccessParams {
        AccessParams {
            output: Output::Stderr,
            format: format.to_owned(),
            ..AccessParams::default()
        }
    }

    fn log(format: &str, sink: Sink) -> AccessLog {
        AccessLog::new(&params(format), sink, 1, wall).unwrap()
    }

    fn file() -> (std::fs::File, Sink) {
        let file = tempfile::tempfile().unwrap();
        let sink = Sink::of_descriptor(file.try_clone().unwrap().into()).unwrap();
        (file, sink)
    }

    fn content(file: &mut std::fs::File) -> String {
        use std::io::Seek;
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    fn record(path: &[u8]) -> Record<'_> {
        Record {
            path,
            ..Record::empty("l")
        }
    }

    #[test]
    fn lines_are_written_a_second_after_the_first() {
        let (mut file, sink) = file();
        let mut log = log("{path}", sink);
        assert_eq!(log.flush_due(at(0.0)), None);
        log.write(&record(b"/a"), at(0.0));
        log.write(&record(b"/b"), at(0.9));
        assert_eq!(log.flush_due(at(0.9)), Some(at(1.0)));
        assert_eq!(content(&mut file), "");
        assert_eq!(log.flush_due(at(1.0)), None);
        assert_eq!(content(&mut file), "/a\n/b\n");
        assert_eq!(log.take_counts().written, 2);
        assert_eq!(log.take_counts(), Counts::default());
    }

    #[test]
    fn a_full_buffer_is_written_without_the_line_that_filled_it() {
        let (mut file, sink) = file();
        let mut log = log("{path}", sink);
        let path = [b'x'; 1023];
        for _ in 0..64 {
            log.write(&record(&path), at(0.0));
        }
        assert_eq!(content(&mut file), "");
        log.write(&record(&path), at(0.5));
        assert_eq!(content(&mut file).len(), 64 * 1024);
        assert_eq!(log.flush_due(at(0.6)), Some(at(1.5)));
        drop(log);
        assert_eq!(content(&mut file).len(), 65 * 1024);
    }

    #[test]
    fn a_full_disk_loses_lines_and_counts_them() {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let sink = Sink::of_descriptor(full.unwrap().into()).unwrap();
        let mut log = log("{path}", sink);
        for _ in 0..5 {
            log.write(&record(b"/a"), at(0.0));
        }
        log.flush(at(0.0));
        let lost = Counts {
            written: 0,
            dropped: 5,
        };
        assert_eq!(log.take_counts(), lost);
        assert_eq!(log.flush_due(at(9.0)), None, "nothing is kept");
    }

    #[test]
    fn a_pipe_nobody_reads_loses_whole_lines() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut log = log("{path}", Sink::of_descriptor(writer.into()).unwrap());
        let path = [b'x'; 999];
        for _ in 0..300 {
            log.write(&record(&path), at(0.0));
        }
        log.flush(at(0.1));
        let counts = log.take_counts();
        assert_eq!(counts.written + counts.dropped, 300);
        assert!(counts.dropped > 0);
        drop(log);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count() as u64, counts.written);
        assert!(text.lines().all(|line| line.len() == 999));
    }

    #[test]
    fn a_line_that_a_pipe_would_split_is_shortened_or_dropped() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut log = log("{path} {path}", Sink::of_descriptor(writer.into()).unwrap());
        log.write(&record(&[b'x'; 3000]), at(0.0));
        drop(log);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text.len(), 160 + 1 + 160 + 1);

        let (_reader, writer) = std::io::pipe().unwrap();
        let many = "{path} ".repeat(30);
        let mut log = self::log(&many, Sink::of_descriptor(writer.into()).unwrap());
        log.write(&record(&[b'x'; 3000]), at(0.0));
        assert_eq!(log.take_counts().dropped, 1);
    }

    #[test]
    fn the_sample_decides_by_status() {
        let (mut file, sink) = file();
        let params = AccessParams {
            sample: [1.0, 0.0, 1.0, 1.0, 1.0],
            ..params("{status}")
        };
        let mut log = AccessLog::new(&params, sink, 1, wall).unwrap();
        for status in [200, 500, 204, 0] {
            let record = Record {
                status,
                ..Record::empty("l")
            };
            log.write(&record, at(0.0));
        }
        drop(log);
        assert_eq!(content(&mut file), "500\n0\n");
    }

    #[test]
    fn steady_work_does_not_grow_the_buffer() {
        let (_file, sink) = file();
        let mut log = log("json", sink);
        log.write(&record(b"/"), at(0.0));
        let capacity = log.buffer.capacity();
        for i in 0..20_000 {
            log.write(&record(&[b'/'; 3000]), at(f64::from(i) / 1000.0));
        }
        assert_eq!(log.buffer.capacity(), capacity);
    }

    #[test]
    fn times_follow_the_monotonic_clock_between_readings() {
        let mut clock = Clock::new(wall);
        assert_eq!(clock.at(at(0.0)), wall());
        assert_eq!(clock.at(at(0.5)), wall() + Duration::from_millis(500));
        assert_eq!(clock.at(at(1.5)), wall());
    }

    #[test]
    fn malformed_parameters_are_errors() {
        assert!(AccessLog::new(&params("{nope}"), Sink::off(), 1, wall).is_err());
        let params = AccessParams {
            redact: vec!["token".to_owned()],
            ..params("json")
        };
        assert!(AccessLog::new(&params, Sink::off(), 1, wall).is_err());
    }
}
