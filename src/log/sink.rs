//! Where lines end up: a descriptor opened by the master, the journal's socket or a syslog socket.
//! Writing never waits: what the other end does not take at once is an error for the caller, who
//! counts it. Nothing here formats a line.

use super::calendar::Date;
use super::params::Output;
use crate::base::time::Instant;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The kernel writes so many bytes to a pipe in one piece.
const PIPE_BUF: usize = 4096;
/// The journal's native socket.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// The syslog facility of services.
const DAEMON: u8 = 3;

/// An open output. A clone writes to the same place.
#[derive(Clone, Debug)]
pub struct Sink(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Off,
    File(File),
    /// A pipe, terminal or socket: takes little at a time, and may take nothing.
    Pipe(File),
    Datagram {
        socket: UnixDatagram,
        path: PathBuf,
        dialect: Dialect,
    },
}

/// How a line is dressed for its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// As it is.
    Plain,
    /// As it is, after `<N>` with its priority: a service manager reads standard error.
    Priority,
    /// Fields of the journal.
    Journal,
    /// The format of `/dev/log`.
    Syslog,
}

/// How bad it is, in the numbers of syslog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Priority {
    /// Something failed.
    Error = 3,
    /// Something is wrong.
    Warning = 4,
    /// Something happened.
    Info = 6,
    /// For developers.
    Debug = 7,
}

/// What receivers of single messages want to know about a line.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// How bad it is.
    pub priority: Priority,
    /// When it happened.
    pub wall: Duration,
}

/// How far a write came.
#[derive(Debug)]
pub struct Stopped {
    /// Bytes that were taken.
    pub written: usize,
    /// What stopped it.
    pub error: io::Error,
}

impl Sink {
    /// Nowhere.
    #[must_use]
    pub fn off() -> Self {
        Self(Arc::new(Kind::Off))
    }

    /// Opens an output. `file` is the descriptor that the master opened for [`Output::File`].
    /// Without a journal, its output is standard error.
    ///
    /// # Errors
    /// When a file's descriptor is missing or a socket cannot be made.
    pub fn open(output: &Output, file: Option<OwnedFd>) -> io::Result<Self> {
        match output {
            Output::Off => Ok(Self::off()),
            Output::File(_) => {
                let file = file.ok_or(io::ErrorKind::InvalidInput)?;
                Self::of_descriptor(file)
            }
            Output::Stderr => Self::of_descriptor(io::stderr().as_fd().try_clone_to_owned()?),
            Output::Journald if Path::new(JOURNAL).exists() => {
                Self::datagram(Path::new(JOURNAL), Dialect::Journal)
            }
            Output::Journald => Self::of_descriptor(io::stderr().as_fd().try_clone_to_owned()?),
            Output::Syslog(path) => Self::datagram(path, Dialect::Syslog),
        }
    }

    /// Over a descriptor.
    ///
    /// # Errors
    /// When the kernel does not tell what it is.
    pub fn of_descriptor(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd);
        let kind = file.metadata()?.file_type();
        let slow = kind.is_fifo() || kind.is_socket() || kind.is_char_device();
        Ok(Self(Arc::new(if slow {
            Kind::Pipe(file)
        } else {
            Kind::File(file)
        })))
    }

    fn datagram(path: &Path, dialect: Dialect) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self(Arc::new(Kind::Datagram {
            socket,
            path: path.to_owned(),
            dialect,
        })))
    }

    /// Goes on with another file behind the same descriptor number, for every clone in this
    /// process and without losing a line. Outputs other than files have nothing to reopen.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn reopen(&self, file: &OwnedFd) -> io::Result<()> {
        match &*self.0 {
            Kind::File(old) | Kind::Pipe(old) => crate::sys::file::replace(old.as_raw_fd(), file),
            Kind::Off | Kind::Datagram { .. } => Ok(()),
        }
    }

    /// The descriptor behind it, if there is one.
    #[must_use]
    pub fn descriptor(&self) -> Option<RawFd> {
        match &*self.0 {
            Kind::Off => None,
            Kind::File(file) | Kind::Pipe(file) => Some(file.as_raw_fd()),
            Kind::Datagram { socket, .. } => Some(socket.as_raw_fd()),
        }
    }

    /// Whether everything goes nowhere.
    #[must_use]
    pub fn is_off(&self) -> bool {
        matches!(*self.0, Kind::Off)
    }

    /// Whether a person looks at it.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(&*self.0, Kind::Pipe(file) if file.is_terminal())
    }

    /// How lines are dressed for it, given what was asked for.
    #[must_use]
    pub fn dialect(&self, output: &Output) -> Dialect {
        match (&*self.0, output) {
            (Kind::Datagram { dialect, .. }, _) => *dialect,
            (Kind::File(_) | Kind::Pipe(_), Output::Journald) => Dialect::Priority,
            (Kind::Off | Kind::File(_) | Kind::Pipe(_), _) => Dialect::Plain,
        }
    }

    /// The longest line that is written in one piece.
    #[must_use]
    pub fn line_max(&self) -> usize {
        match &*self.0 {
            Kind::Pipe(_) => PIPE_BUF,
            Kind::Off | Kind::File(_) | Kind::Datagram { .. } => 64 * 1024,
        }
    }

    /// Writes whole lines without waiting. Of several processes that write to the same place, no
    /// two mix their lines.
    ///
    /// # Errors
    /// Where it stopped and why.
    pub fn write(&self, lines: &[u8], stamp: Stamp) -> Result<(), Stopped> {
        match &*self.0 {
            Kind::Off => Ok(()),
            Kind::File(file) => write_file(file, lines),
            Kind::Pipe(file) => write_pipe(file, lines),
            Kind::Datagram {
                socket,
                path,
                dialect,
            } => {
                let head = head(*dialect, stamp);
                write_datagrams(socket, path, &head, lines)
            }
        }
    }
}

/// One write takes everything, or the disk is full.
fn write_file(mut file: &File, lines: &[u8]) -> Result<(), Stopped> {
    loop {
        return match file.write(lines) {
            Ok(written) if written == lines.len() => Ok(()),
            Ok(written) => Err(Stopped {
                written,
                error: io::ErrorKind::StorageFull.into(),
            }),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(Stopped { written: 0, error }),
        };
    }
}

/// As many whole lines at a time as the kernel takes in one piece.
fn write_pipe(mut file: &File, lines: &[u8]) -> Result<(), Stopped> {
    let mut written = 0;
    while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty()) {
        let chunk = whole_lines(rest, PIPE_BUF);
        // The descriptor may be shared with others who want it to block: it is asked first.
        if !crate::sys::poll::writable(file) {
            let error = io::ErrorKind::WouldBlock.into();
            return Err(Stopped { written, error });
        }
        match file.write(chunk) {
            Ok(0) => {
                let error = io::ErrorKind::WriteZero.into();
                return Err(Stopped { written, error });
            }
            Ok(n) => written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Stopped { written, error }),
        }
    }
    Ok(())
}

/// One datagram for each line.
fn write_datagrams(
    socket: &UnixDatagram,
    path: &Path,
    head: &[u8],
    lines: &[u8],
) -> Result<(), Stopped> {
    let mut written = 0;
    let mut datagram = head.to_vec();
    for line in lines.split_inclusive(|b| *b == b'\n') {
        datagram.truncate(head.len());
        datagram.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        match socket.send_to(&datagram, path) {
            Ok(_) => written += line.len(),
            Err(error) => return Err(Stopped { written, error }),
        }
    }
    Ok(())
}

/// What stands before the text of a datagram.
fn head(dialect: Dialect, stamp: Stamp) -> Vec<u8> {
    let priority = stamp.priority as u8;
    match dialect {
        Dialect::Plain | Dialect::Priority => Vec::new(),
        // Lines are ASCII without control characters: the simple form of a field is enough.
        Dialect::Journal => {
            format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER=proxyd\nMESSAGE=").into_bytes()
        }
        Dialect::Syslog => {
            let date = Date::of(stamp.wall.as_secs());
            format!(
                "<{}>{} {:2} {:02}:{:02}:{:02} proxyd[{}]: ",
                DAEMON * 8 + priority,
                date.month_name(),
                date.day,
                date.hour,
                date.minute,
                date.second,
                std::process::id()
            )
            .into_bytes()
        }
    }
}

/// The longest beginning of at most `max` bytes that ends with a line; a single longer line as it
/// is.
fn whole_lines(bytes: &[u8], max: usize) -> &[u8] {
    let window = bytes.get(..max).unwrap_or(bytes);
    let end = window
        .iter()
        .rposition(|b| *b == b'\n')
        .or_else(|| bytes.iter().position(|b| *b == b'\n'))
        .map_or(bytes.len(), |newline| newline + 1);
    bytes.get(..end).unwrap_or(bytes)
}

/// Says something once and then keeps quiet about it for a while.
#[derive(Clone, Copy, Debug, Default)]
pub struct Once(Option<Instant>);

impl Once {
    /// Whether to say it now.
    pub fn says(&mut self, now: Instant, again_after: Duration) -> bool {
        let due = self.0.is_none_or(|last| now >= last + again_after);
        if due {
            self.0 = Some(now);
        }
        due
    }

    /// Whether it was said since the last reset; forgets it.
    pub fn reset(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    const STAMP: Stamp = Stamp {
        priority: Priority::Warning,
        wall: Duration::from_secs(1_700_000_000),
    };

    fn pipe() -> (io::PipeReader, Sink) {
        let (reader, writer) = io::pipe().unwrap();
        (reader, Sink::of_descriptor(writer.into()).unwrap())
    }

    #[test]
    fn chunks_end_with_lines() {
        assert_eq!(whole_lines(b"ab\ncd\nef\n", 7), b"ab\ncd\n");
        assert_eq!(whole_lines(b"ab\ncd\n", 6), b"ab\ncd\n");
        assert_eq!(whole_lines(b"abcdef\ngh\n", 3), b"abcdef\n");
        assert_eq!(whole_lines(b"abc", 2), b"abc");
    }

    #[test]
    fn a_full_pipe_is_an_error_and_not_a_wait() {
        let (mut reader, sink) = pipe();
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        let lines = line.repeat(200);
        let stopped = sink.write(&lines, STAMP).unwrap_err();
        assert_eq!(stopped.error.kind(), io::ErrorKind::WouldBlock);
        assert!(stopped.written > 0 && stopped.written < lines.len());
        assert_eq!(stopped.written % line.len(), 0, "whole lines only");
        let mut got = vec![0; stopped.written];
        reader.read_exact(&mut got).unwrap();
        assert!(sink.write(&line, STAMP).is_ok());
    }

    #[test]
    fn a_pipe_without_a_reader_is_an_error() {
        let (reader, sink) = pipe();
        drop(reader);
        assert!(sink.write(b"x\n", STAMP).is_err());
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let sink = Sink::of_descriptor(full.into()).unwrap();
        let stopped = sink.write(b"x\n", STAMP).unwrap_err();
        assert_eq!(stopped.written, 0);
        assert_eq!(stopped.error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_file_is_reopened_behind_every_clone() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| -> OwnedFd {
            let path = dir.path().join(name);
            let file = File::options().append(true).create(true).open(path);
            file.unwrap().into()
        };
        let output = Output::File(dir.path().join("a"));
        let sink = Sink::open(&output, Some(open("a"))).unwrap();
        let clone = sink.clone();
        clone.write(b"one\n", STAMP).unwrap();
        std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        sink.reopen(&open("a")).unwrap();
        clone.write(b"two\n", STAMP).unwrap();
        let read = |name| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!((read("a"), read("b")), ("two\n".into(), "one\n".into()));
    }

    #[test]
    fn datagrams_carry_a_line_each_and_a_missing_receiver_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let sink = Sink::open(&Output::Syslog(path.clone()), None).unwrap();
        assert!(sink.write(b"lost\n", STAMP).is_err());
        let receiver = UnixDatagram::bind(&path).unwrap();
        sink.write(b"one\ntwo\n", STAMP).unwrap();
        for text in ["one", "two"] {
            let mut buf = [0; 100];
            let n = receiver.recv(&mut buf).unwrap();
            let pid = std::process::id();
            let expected = format!("<28>Nov 14 22:13:20 proxyd[{pid}]: {text}");
            assert_eq!(&buf[..n], expected.as_bytes());
        }
    }

    #[test]
    fn the_journal_gets_fields() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let sink = Sink::datagram(&path, Dialect::Journal).unwrap();
        sink.write(b"one\n", STAMP).unwrap();
        let mut buf = [0; 100];
        let n = receiver.recv(&mut buf).unwrap();
        assert_eq!(
            &buf[..n],
            b"PRIORITY=4\nSYSLOG_IDENTIFIER=proxyd\nMESSAGE=one"
        );
    }

    #[test]
    fn a_file_needs_its_descriptor() {
        assert!(Sink::open(&Output::File("/x".into()), None).is_err());
        assert!(Sink::open(&Output::Off, None).unwrap().is_off());
    }
}
