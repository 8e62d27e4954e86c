//! The error log: what the program says about itself, through the `log` facade. One line, one
//! write, at the moment it happens. There is one for each process; requests do not pass here.

use super::calendar;
use super::escape::{self, Cap};
use super::level::{self, Levels};
use super::params::{Format, Output, Params};
use super::repeat::Repeats;
use super::sink::{Dialect, Priority, Sink, Stamp};
use crate::base::time::Instant;
use log::{Level, Log, Metadata, Record};
use std::fmt::Write as _;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A line goes through a pipe in one piece.
const LINE_MAX: usize = 4096;
/// What a message may take of it.
const MESSAGE_MAX: Cap = Cap(LINE_MAX - 512);
const TARGET_MAX: Cap = Cap(120);
/// What the master is called; children have other names.
const MASTER: &str = "proxyd";

/// Starts the error log of this process, or goes on with other parameters and another output.
/// Children inherit it by fork.
///
/// # Errors
/// When another logger was installed before.
pub fn install(params: &Params, sink: Sink) -> Result<(), log::SetLoggerError> {
    let log = ErrorLog::new(params, sink);
    let most = log.levels.most();
    let first = LOGGER.lock().replace(log).is_none();
    if first {
        log::set_logger(&LOGGER)?;
    }
    log::set_max_level(most);
    Ok(())
}

/// What the lines of this process say about who writes them, such as `worker 0 gen 3`.
pub fn identify(process: &str) {
    if let Some(log) = &mut *LOGGER.lock() {
        process.clone_into(&mut log.process);
    }
}

/// Goes on with another file, which the master has opened under the same name.
///
/// # Errors
/// When the kernel refuses.
pub fn reopen(file: &OwnedFd) -> std::io::Result<()> {
    LOGGER
        .lock()
        .as_ref()
        .map_or(Ok(()), |log| log.sink.reopen(file))
}

/// The descriptor of the error log, which a child must keep open.
#[must_use]
pub fn descriptor() -> Option<RawFd> {
    LOGGER.lock().as_ref().and_then(|log| log.sink.descriptor())
}

/// Writes what is due about repeated messages: every second or so, and before the process ends.
pub fn tick() {
    if let Some(log) = &mut *LOGGER.lock() {
        log.summarise(crate::sys::clock::monotonic(), crate::sys::wall::now());
    }
}

struct Logger(Mutex<Option<ErrorLog>>);

static LOGGER: Logger = Logger(Mutex::new(None));

impl Logger {
    fn lock(&self) -> MutexGuard<'_, Option<ErrorLog>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.lock()
            .as_ref()
            .is_some_and(|log| metadata.level() <= log.levels.of(metadata.target()))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // Made outside of the lock: what is shown may log, too.
        let message = record.args().to_string();
        let (now, wall) = (crate::sys::clock::monotonic(), crate::sys::wall::now());
        if let Some(log) = &mut *self.lock() {
            log.write(record.level(), record.target(), &message, (now, wall));
        }
    }

    fn flush(&self) {
        tick();
    }
}

struct ErrorLog {
    levels: Levels,
    format: Format,
    dialect: Dialect,
    colour: bool,
    sink: Sink,
    process: String,
    repeats: Repeats,
    dates: calendar::Cache,
    buffer: Vec<u8>,
    lost: u64,
}

impl ErrorLog {
    fn new(params: &Params, sink: Sink) -> Self {
        Self {
            levels: Levels::new(params.level, &params.levels),
            format: params.format,
            dialect: sink.dialect(&params.output),
            colour: params.output == Output::Stderr && sink.is_terminal(),
            sink,
            process: MASTER.to_owned(),
            repeats: Repeats::default(),
            dates: calendar::Cache::default(),
            buffer: Vec::with_capacity(LINE_MAX),
            lost: 0,
        }
    }

    fn write(&mut self, level: Level, target: &str, message: &str, at: (Instant, Duration)) {
        let (now, wall) = at;
        self.summarise(now, wall);
        if self.repeats.writes(level, target, message, now) {
            self.put_lines(level, target, message, wall);
        }
    }

    /// What the master says over several lines, such as the findings about a configuration, stays
    /// readable in a text log. In other processes a line break may come from a client: it is
    /// escaped.
    fn put_lines(&mut self, level: Level, target: &str, message: &str, wall: Duration) {
        if self.format == Format::Json || self.process != MASTER {
            return self.put(level, target, message, wall);
        }
        for line in message.lines().filter(|line| !line.trim().is_empty()) {
            self.put(level, target, line, wall);
        }
    }

    fn summarise(&mut self, now: Instant, wall: Duration) {
        while let Some(over) = self.repeats.over(now) {
            let mut message = over.message;
            // Writing to a String cannot fail.
            let _written = write!(message, " ({} more of these)", over.count);
            self.put(over.level, &over.target, &message, wall);
        }
    }

    fn put(&mut self, level: Level, target: &str, message: &str, wall: Duration) {
        if self.lost > 0 {
            let lost = format!("{} lines of this log were lost", self.lost);
            self.line(Level::Warn, "log", &lost, wall);
            if self.send(Level::Warn, wall) {
                self.lost = 0;
            }
        }
        self.line(level, target, message, wall);
        if !self.send(level, wall) {
            self.lost += 1;
        }
    }

    fn send(&self, level: Level, wall: Duration) -> bool {
        let stamp = Stamp {
            priority: priority(level),
            wall,
        };
        self.sink.write(&self.buffer, stamp).is_ok()
    }

    fn line(&mut self, level: Level, target: &str, message: &str, wall: Duration) {
        let mut out = std::mem::take(&mut self.buffer);
        out.clear();
        if self.dialect == Dialect::Priority {
            let number = [b'<', b'0' + priority(level) as u8, b'>'];
            out.extend_from_slice(&number);
        }
        match self.format {
            Format::Json => self.json(&mut out, level, target, message, wall),
            Format::Text => self.text(&mut out, level, target, message, wall),
        }
        out.push(b'\n');
        self.buffer = out;
    }

    fn text(
        &mut self,
        out: &mut Vec<u8>,
        level: Level,
        target: &str,
        message: &str,
        wall: Duration,
    ) {
        if self.dialect == Dialect::Plain {
            self.dates.iso(out, wall);
            out.push(b' ');
            let (start, end) = if self.colour { colour(level) } else { ("", "") };
            out.extend_from_slice(start.as_bytes());
            out.extend_from_slice(word(level).as_bytes());
            out.extend_from_slice(end.as_bytes());
            out.extend_from_slice(padding(level).as_bytes());
        }
        escape::text(out, self.process.as_bytes(), TARGET_MAX);
        out.extend_from_slice(b": ");
        if !message.is_empty() && level::part(target) != "proxyd" {
            escape::text(out, level::part(target).as_bytes(), TARGET_MAX);
            out.extend_from_slice(b": ");
        }
        escape::message(out, message, MESSAGE_MAX);
    }

    fn json(
        &mut self,
        out: &mut Vec<u8>,
        level: Level,
        target: &str,
        message: &str,
        wall: Duration,
    ) {
        out.extend_from_slice(b"{\"time\":\"");
        self.dates.iso(out, wall);
        out.extend_from_slice(b"\",\"level\":\"");
        out.extend_from_slice(word(level).as_bytes());
        out.extend_from_slice(b"\",\"process\":\"");
        escape::json(out, self.process.as_bytes(), TARGET_MAX);
        out.extend_from_slice(b"\",\"part\":\"");
        escape::json(out, level::part(target).as_bytes(), TARGET_MAX);
        out.extend_from_slice(b"\",\"message\":\"");
        escape::json(out, message.as_bytes(), MESSAGE_MAX);
        out.extend_from_slice(b"\"}");
    }
}

const fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

const fn padding(level: Level) -> &'static str {
    match level {
        Level::Error | Level::Debug | Level::Trace => " ",
        Level::Warn | Level::Info => "  ",
    }
}

const fn colour(level: Level) -> (&'static str, &'static str) {
    let start = match level {
        Level::Error => "\x1b[31m",
        Level::Warn => "\x1b[33m",
        Level::Info => "\x1b[32m",
        Level::Debug | Level::Trace => "\x1b[2m",
    };
    (start, "\x1b[0m")
}

const fn priority(level: Level) -> Priority {
    match level {
        Level::Error => Priority::Error,
        Level::Warn => Priority::Warning,
        Level::Info => Priority::Info,
        Level::Debug | Level::Trace => Priority::Debug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::LevelFilter;
    use std::io::{Read, Seek};

    const NOW: Instant = Instant::from_nanos(1_000_000_000_000);
    const WALL: Duration = Duration::from_millis(1_700_000_000_123);

    fn log(params: &Params) -> (std::fs::File, ErrorLog) {
        let file = tempfile::tempfile().unwrap();
        let sink = Sink::of_descriptor(file.try_clone().unwrap().into()).unwrap();
        (file, ErrorLog::new(params, sink))
    }

    fn content(file: &mut std::fs::File) -> String {
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_text_line_says_when_how_bad_who_and_where() {
        let (mut file, mut log) = log(&Params::default());
        log.process = "worker 0".to_owned();
        log.write(Level::Warn, "proxyd::net::tls", "no \"x\"\né", (NOW, WALL));
        log.write(Level::Error, "proxyd", "gone", (NOW, WALL));
        assert_eq!(
            content(&mut file),
            "2023-11-14T22:13:20.123Z warn  worker 0: net::tls: no \"x\"\\x0a\\xc3\\xa9\n\
             2023-11-14T22:13:20.123Z error worker 0: gone\n"
        );
    }

    #[test]
    fn what_the_master_says_over_several_lines_stays_readable() {
        let (mut file, mut log) = log(&Params::default());
        let text = "failed: error: a\n --> f:1:1\n\n  |\n";
        log.write(Level::Error, "proxyd::m", text, (NOW, WALL));
        let start = "2023-11-14T22:13:20.123Z error proxyd: m: ";
        assert_eq!(
            content(&mut file),
            format!("{start}failed: error: a\n{start} --> f:1:1\n{start}  |\n")
        );
    }

    #[test]
    fn a_json_line_is_an_object() {
        let params = Params {
            format: Format::Json,
            ..Params::default()
        };
        let (mut file, mut log) = log(&params);
        log.write(Level::Info, "proxyd::app", "a \"b\"\n", (NOW, WALL));
        let line: serde_json::Value = serde_json::from_str(&content(&mut file)).unwrap();
        assert_eq!(line["level"], "info");
        assert_eq!(line["part"], "app");
        assert_eq!(line["process"], "proxyd");
        assert_eq!(line["message"], "a \"b\"\n");
        assert_eq!(line["time"], "2023-11-14T22:13:20.123Z");
    }

    #[test]
    fn a_service_manager_gets_priorities_instead_of_dates() {
        let (mut file, mut log) = log(&Params {
            output: Output::Journald,
            ..Params::default()
        });
        log.write(Level::Error, "proxyd::app", "x", (NOW, WALL));
        assert_eq!(content(&mut file), "<3>proxyd: app: x\n");
    }

    #[test]
    fn no_colour_reaches_a_file() {
        let (mut file, mut log) = log(&Params::default());
        assert!(!log.colour);
        log.write(Level::Error, "proxyd", "x", (NOW, WALL));
        assert!(!content(&mut file).contains('\x1b'));
        log.colour = true;
        log.write(Level::Error, "proxyd", "y", (NOW, WALL));
        assert!(content(&mut file).contains("\x1b[31merror\x1b[0m "));
    }

    #[test]
    fn a_flood_is_summed_up() {
        let (mut file, mut log) = log(&Params::default());
        for _ in 0..100 {
            log.write(Level::Warn, "proxyd::a", "again", (NOW, WALL));
        }
        log.summarise(NOW + Duration::from_secs(1), WALL);
        let text = content(&mut file);
        assert_eq!(text.lines().count(), 11);
        assert!(text.ends_with("a: again (90 more of these)\n"), "{text}");
    }

    #[test]
    fn a_long_message_stays_one_piece() {
        for format in [Format::Text, Format::Json] {
            let (mut file, mut log) = log(&Params {
                format,
                ..Params::default()
            });
            log.process = "p".repeat(500);
            let target = "t\u{1}".repeat(500);
            log.write(Level::Warn, &target, &"\u{1}x".repeat(9999), (NOW, WALL));
            let text = content(&mut file);
            assert_eq!(text.lines().count(), 1);
            assert!(text.len() <= LINE_MAX, "{}", text.len());
        }
    }

    #[test]
    fn lost_lines_are_owned_up_to() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let sink = Sink::of_descriptor(writer.into()).unwrap();
        let mut log = ErrorLog::new(&Params::default(), sink);
        let long = "x".repeat(3000);
        for i in 0..40 {
            log.write(Level::Warn, "proxyd", &format!("{i} {long}"), (NOW, WALL));
        }
        assert!(log.lost > 0);
        let mut some = vec![0; 30_000];
        reader.read_exact(&mut some).unwrap();
        log.write(Level::Warn, "proxyd", "after", (NOW, WALL));
        assert_eq!(log.lost, 0);
        drop(log);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("lines of this log were lost\n"), "{rest}");
        assert!(rest.ends_with("after\n"));
    }

    #[test]
    fn the_facade_reaches_the_log_and_can_be_installed_again() {
        let (mut file, first) = log(&Params::default());
        install(&Params::default(), first.sink.clone()).unwrap();
        identify("test 7");
        log::info!(target: "proxyd::tests", "hello {}", 1);
        log::debug!(target: "proxyd::tests", "hidden");
        let text = content(&mut file);
        assert!(text.contains("test 7: tests: hello 1\n"), "{text}");
        assert!(!text.contains("hidden"));
        let params = Params {
            level: LevelFilter::Off,
            levels: vec![("tests".to_owned(), LevelFilter::Debug)],
            ..Params::default()
        };
        install(&params, first.sink).unwrap();
        log::debug!(target: "proxyd::tests", "shown now");
        tick();
        assert!(content(&mut file).contains("shown now"));
        install(&Params::default(), Sink::off()).unwrap();
    }
}
