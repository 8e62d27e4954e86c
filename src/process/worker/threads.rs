//! Several event loops in one worker: each has a thread and a port of its own; the main thread
//! serves nobody, it hands orders on and reports as one. With one loop there is none of this.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::port::{Command, Heard, Port};
use crate::proto::control::{Drain, Order, Report};
use crate::sys::{fdpass, file};

/// One loop, seen from the main thread.
#[derive(Debug)]
struct Line {
    fd: OwnedFd,
    ready: bool,
    over: bool,
}

/// The main thread's ends of all ports.
#[derive(Debug)]
pub struct Hub {
    lines: Vec<Line>,
    told_ready: bool,
}

impl Hub {
    /// A hub and the ports of so many loops.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn new(loops: usize, logs: &[PathBuf], alone: Drain) -> io::Result<(Self, Vec<Port>)> {
        let mut lines = Vec::new();
        let mut ports = Vec::new();
        for _ in 0..loops {
            let (near, far) = fdpass::pair()?;
            lines.push(Line {
                fd: near,
                ready: false,
                over: false,
            });
            ports.push(Port::new(far, logs.to_vec(), alone));
        }
        let hub = Self {
            lines,
            told_ready: false,
        };
        Ok((hub, ports))
    }

    /// Works until every loop is over.
    ///
    /// # Errors
    /// When the kernel gives no epoll descriptor.
    pub fn run(mut self, master: &Port) -> io::Result<()> {
        let mut poll = Poll::new()?;
        let last = Token(self.lines.len());
        let register = |fd, token| {
            let source = &mut SourceFd(&fd);
            poll.registry().register(source, token, Interest::READABLE)
        };
        for (index, line) in self.lines.iter().enumerate() {
            register(line.fd.as_raw_fd(), Token(index))?;
        }
        register(master.as_fd().as_raw_fd(), last)?;
        let mut events = Events::with_capacity(16);
        while self.lines.iter().any(|line| !line.over) {
            match poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                done => done?,
            }
            for event in &events {
                if event.token() == last {
                    self.hand_on(master);
                } else {
                    self.listen(event.token().0, master);
                }
            }
        }
        Ok(())
    }

    /// Orders of the master go to every loop.
    fn hand_on(&self, master: &Port) {
        loop {
            match master.hear() {
                Ok(Heard::Serve) => self.tell(&Order::Serve, &[], master),
                Ok(Heard::Command(command)) => self.command(&command, master),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    master.warn("an order was not understood");
                }
                Err(_nothing_more) => return,
            }
        }
    }

    fn command(&self, command: &Command, master: &Port) {
        let (order, fds) = match command {
            Command::Drain(drain) => (Order::Drain(*drain), Vec::new()),
            Command::Close { spread } => (Order::Close { spread: *spread }, Vec::new()),
            Command::Reopen(logs) => (Order::Reopen, logs.iter().map(|(_, fd)| fd).collect()),
            Command::Update(bytes) => {
                let sent = file::in_memory(c"update", bytes)
                    .map(|content| self.tell(&Order::Update, &[content.as_fd()], master));
                if let Err(error) = sent {
                    master.warn(&format!("an update was lost: {error}"));
                }
                return;
            }
        };
        let fds: Vec<_> = fds.into_iter().map(AsFd::as_fd).collect();
        self.tell(&order, &fds, master);
    }

    fn tell(&self, order: &Order, fds: &[BorrowedFd<'_>], master: &Port) {
        for line in self.lines.iter().filter(|line| !line.over) {
            if fdpass::send(line.fd.as_fd(), &order.encode(), fds).is_err() {
                master.warn("an event loop does not take its orders");
            }
        }
    }

    /// Reports of a loop; its end is the end of its port.
    fn listen(&mut self, index: usize, master: &Port) {
        let Some(line) = self.lines.get_mut(index) else {
            return;
        };
        let mut buf = vec![0; fdpass::MESSAGE_MAX];
        while !line.over {
            let Ok(received) = fdpass::recv(line.fd.as_fd(), &mut buf) else {
                break;
            };
            if received.len == 0 {
                line.over = true;
                break;
            }
            match Report::decode(buf.get(..received.len).unwrap_or_default()) {
                Ok(Report::Ready) => line.ready = true,
                Ok(Report::Failed(text)) => master.failed(&text),
                Ok(Report::Warning(text)) => master.warn(&text),
                Err(_malformed) => master.warn("an event loop reports nonsense"),
            }
        }
        if !self.told_ready && self.lines.iter().all(|line| line.ready) {
            self.told_ready = true;
            master.ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    const ALONE: Drain = Drain {
        ordinary: None,
        upgraded: None,
        stopping: true,
    };

    fn wait<T>(mut what: impl FnMut() -> io::Result<T>) -> T {
        let start = Instant::now();
        loop {
            match what() {
                Ok(found) => return found,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    assert!(start.elapsed() < Duration::from_secs(10), "nothing came");
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn report(master: &OwnedFd) -> Report {
        let mut buf = vec![0; 1024];
        let len = wait(|| fdpass::recv(master.as_fd(), &mut buf)).len;
        Report::decode(&buf[..len]).unwrap()
    }

    #[test]
    fn loops_report_as_one_and_all_hear_the_orders() {
        let (master, child) = fdpass::pair().unwrap();
        let (hub, ports) = Hub::new(2, &[], ALONE).unwrap();
        let port = Port::new(child, Vec::new(), ALONE);
        let main = std::thread::spawn(move || hub.run(&port));
        ports[1].warn("careful");
        assert_eq!(report(&master), Report::Warning("careful".to_owned()));
        ports[0].ready();
        ports[1].ready();
        assert_eq!(report(&master), Report::Ready);
        fdpass::send(master.as_fd(), &Order::Serve.encode(), &[]).unwrap();
        let content = file::in_memory(c"update", b"news").unwrap();
        fdpass::send(master.as_fd(), &Order::Update.encode(), &[content.as_fd()]).unwrap();
        drop(master);
        for port in &ports {
            assert!(matches!(wait(|| port.hear()), Heard::Serve));
            assert!(matches!(wait(|| port.next()), Command::Update(bytes) if bytes == b"news"));
            assert!(matches!(wait(|| port.next()), Command::Drain(ALONE)));
        }
        drop(ports);
        main.join().unwrap().unwrap();
    }

    #[test]
    fn one_loop_that_fails_fails_the_worker() {
        let (master, child) = fdpass::pair().unwrap();
        let (hub, mut ports) = Hub::new(2, &[], ALONE).unwrap();
        let port = Port::new(child, Vec::new(), ALONE);
        let main = std::thread::spawn(move || hub.run(&port));
        ports[0].ready();
        ports[1].failed("no memory");
        ports.remove(1);
        assert_eq!(report(&master), Report::Failed("no memory".to_owned()));
        drop(ports);
        main.join().unwrap().unwrap();
    }
}
