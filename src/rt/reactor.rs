//! Readiness of descriptors: edge-triggered, registered once for the life of a descriptor, the
//! last known readiness kept in a table so that most questions need no system call.

use super::context::Inner;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Reading may give something.
pub const READ: u8 = 1;
/// Writing may take something.
pub const WRITE: u8 = 2;
/// The peer has ended its side, or both sides are gone: the end is to be read.
pub const CLOSED: u8 = 4;
/// The socket has an error to report.
pub const ERROR: u8 = 8;

const BELL: mio::Token = mio::Token(usize::MAX);
const EVENTS: usize = 1024;

/// Which half of a descriptor somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Readable.
    Read,
    /// Writable.
    Write,
}

impl Side {
    const fn mask(self) -> u8 {
        match self {
            Self::Read => READ | CLOSED | ERROR,
            Self::Write => WRITE,
        }
    }
}

struct Slot {
    generation: u32,
    flags: u8,
    read: Option<Waker>,
    write: Option<Waker>,
}

/// Memory of one place in the table of descriptors.
#[cfg(test)]
pub const SLOT_SIZE: usize = size_of::<Slot>();

/// The mio side of an event loop.
pub struct Reactor {
    poll: RefCell<mio::Poll>,
    events: RefCell<mio::Events>,
    slots: RefCell<Slab<Slot>>,
    generation: Cell<u32>,
}

fn token(key: u32, generation: u32) -> mio::Token {
    mio::Token((generation as usize) << 32 | key as usize)
}

fn flags_of(event: &mio::event::Event) -> u8 {
    let mut flags = 0;
    if event.is_readable() {
        flags |= READ;
    }
    if event.is_writable() {
        flags |= WRITE;
    }
    if event.is_read_closed() {
        flags |= READ | CLOSED;
    }
    if event.is_write_closed() {
        flags |= WRITE;
    }
    if event.is_error() {
        // Whoever asks next, reader or writer, shall see the error.
        flags |= READ | WRITE | ERROR;
    }
    flags
}

impl Reactor {
    pub fn new() -> io::Result<(Self, mio::Waker)> {
        let poll = mio::Poll::new()?;
        let bell = mio::Waker::new(poll.registry(), BELL)?;
        let reactor = Self {
            poll: RefCell::new(poll),
            events: RefCell::new(mio::Events::with_capacity(EVENTS)),
            slots: RefCell::new(Slab::new()),
            generation: Cell::new(0),
        };
        Ok((reactor, bell))
    }

    /// Waits for events (not longer than `timeout`) and wakes who waits for them. Gives their number.
    pub fn turn(&self, timeout: Option<Duration>) -> u32 {
        let mut events = self.events.borrow_mut();
        if let Err(error) = self.poll.borrow_mut().poll(&mut events, timeout) {
            if error.kind() != io::ErrorKind::Interrupted {
                log::error!("waiting for events failed: {error}");
            }
            return 0;
        }
        let mut count = 0;
        for event in events.iter().filter(|event| event.token() != BELL) {
            count += 1;
            let (read, write) = self.note(event);
            // Woken with nothing borrowed.
            if let Some(waker) = read {
                waker.wake();
            }
            if let Some(waker) = write {
                waker.wake();
            }
        }
        count
    }

    fn note(&self, event: &mio::event::Event) -> (Option<Waker>, Option<Waker>) {
        let mio::Token(token) = event.token();
        let (key, generation) = (token & u32::MAX as usize, (token >> 32) as u32);
        let mut slots = self.slots.borrow_mut();
        // An event of a descriptor that was closed in this turn finds nothing.
        let Some(slot) = slots
            .get_mut(key)
            .filter(|slot| slot.generation == generation)
        else {
            return (None, None);
        };
        let flags = flags_of(event);
        slot.flags |= flags;
        let read = if flags & Side::Read.mask() == 0 {
            None
        } else {
            slot.read.take()
        };
        let write = if flags & Side::Write.mask() == 0 {
            None
        } else {
            slot.write.take()
        };
        (read, write)
    }

    fn add(&self, fd: RawFd, interest: mio::Interest, flags: u8) -> io::Result<u32> {
        let generation = self.generation.get().wrapping_add(1) % u32::MAX;
        self.generation.set(generation);
        let mut slots = self.slots.borrow_mut();
        let entry = slots.vacant_entry();
        let key = u32::try_from(entry.key()).map_err(io::Error::other)?;
        self.poll.borrow().registry().register(
            &mut mio::unix::SourceFd(&fd),
            token(key, generation),
            interest,
        )?;
        entry.insert(Slot {
            generation,
            flags,
            read: None,
            write: None,
        });
        Ok(key)
    }

    fn remove(&self, key: u32) {
        let slot = self.slots.borrow_mut().try_remove(key as usize);
        drop(slot);
    }
}

/// One registered descriptor. Dropping it forgets the descriptor; a descriptor that lives on
/// elsewhere must be taken out with `deregister` first.
pub struct Registration {
    inner: Rc<Inner>,
    key: u32,
}

impl Registration {
    /// Registers `fd`, whose readiness is `flags` for now.
    pub fn new(fd: RawFd, interest: mio::Interest, flags: u8) -> io::Result<Self> {
        let inner = super::context::current();
        let key = inner.reactor()?.add(fd, interest, flags)?;
        Ok(Self { inner, key })
    }

    fn with<R>(&self, default: R, f: impl FnOnce(&mut Slot) -> R) -> R {
        let Ok(reactor) = self.inner.reactor() else {
            return default;
        };
        let mut slots = reactor.slots.borrow_mut();
        slots.get_mut(self.key as usize).map_or(default, f)
    }

    /// The readiness as last known.
    pub fn flags(&self) -> u8 {
        self.with(0, |slot| slot.flags)
    }

    /// Notes that the kernel said "not now", or that a short read or write has shown it.
    pub fn clear(&self, flags: u8) {
        self.with((), |slot| slot.flags &= !flags);
    }

    /// Ready as long as the side is known to be ready; else the task is woken when it is. One
    /// task can wait for each side. Counts against the task's budget.
    pub fn poll_ready(&self, side: Side, cx: &mut Context<'_>) -> Poll<()> {
        if self.inner.spend_budget(cx).is_pending() {
            return Poll::Pending;
        }
        if self.flags() & side.mask() != 0 {
            return Poll::Ready(());
        }
        let old = self.with(None, |slot| {
            let place = match side {
                Side::Read => &mut slot.read,
                Side::Write => &mut slot.write,
            };
            match place {
                Some(waker) if waker.will_wake(cx.waker()) => None,
                _ => place.replace(cx.waker().clone()),
            }
        });
        drop(old);
        Poll::Pending
    }

    /// Ready once the socket has an error to report: a reset. Takes the place of a waiting reader.
    pub fn poll_error(&self, cx: &Context<'_>) -> Poll<()> {
        let old = self.with(None, |slot| match &slot.read {
            _ if slot.flags & ERROR != 0 => None,
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => slot.read.replace(cx.waker().clone()),
        });
        drop(old);
        if self.flags() & ERROR != 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Runs `op` whenever the side is ready until it gives something else than "would block".
    pub fn poll_io<R>(
        &self,
        side: Side,
        cx: &mut Context<'_>,
        mut op: impl FnMut() -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            if self.poll_ready(side, cx).is_pending() {
                return Poll::Pending;
            }
            match op() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.clear(side.mask()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// After a read of `got` of at most `wanted` bytes: a short read has emptied the socket,
    /// unless its end is still to be read.
    pub fn note_read(&self, got: usize, wanted: usize) {
        if got != 0 && got < wanted {
            self.with((), |slot| {
                if slot.flags & (CLOSED | ERROR) == 0 {
                    slot.flags &= !READ;
                }
            });
        }
    }

    /// After a write of `put` of `wanted` bytes: a short write has filled the socket.
    pub fn note_write(&self, put: usize, wanted: usize) {
        if put < wanted {
            self.clear(WRITE);
        }
    }

    /// Takes the descriptor out of the kernel's list too. Needed where the open file lives on
    /// after this process closes its descriptor: inherited listeners, descriptors given away.
    pub fn deregister(&self, fd: RawFd) {
        if let Ok(reactor) = self.inner.reactor() {
            // A failure means that it is not registered any more.
            let _gone = reactor
                .poll
                .borrow()
                .registry()
                .deregister(&mut mio::unix::SourceFd(&fd));
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Ok(reactor) = self.inner.reactor() {
            reactor.remove(self.key);
        }
    }
}
