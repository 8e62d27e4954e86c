//! One rustls session, driven without buffers of its own: ciphertext comes from and goes to
//! slices of the caller. Pure: it neither reads nor writes a socket.

use std::io::IoSlice;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, ReadTraffic, UnbufferedConnectionCommon,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, Error};
use tokio::io::ReadBuf;

use super::scratch::{Output, RECORD_BYTES, RECORD_OVERHEAD};

/// More alerts than this at the end of a failed session are not sent.
const ALERTS_MAX: usize = 8;

/// A session of either side.
pub(super) enum Session {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// Where decrypted bytes go.
pub(super) enum Plain<'a, 'b> {
    /// Nowhere: stop before they are taken.
    Leave,
    /// To the reader, as far as they fit; what it has from `start` on is of this call.
    Into {
        buf: &'a mut ReadBuf<'b>,
        start: usize,
    },
    /// To the side, because a writer is at work.
    Spill,
}

/// What to do once application data may be sent.
pub(super) enum Job<'a, 'b> {
    Nothing,
    /// Encrypt these, `limit` bytes of them at most.
    Encrypt {
        bufs: &'a [IoSlice<'b>],
        limit: usize,
        gather: &'a mut [u8],
    },
    /// Say that nothing follows.
    CloseNotify,
}

/// What a call works on.
pub(super) struct Work<'a, 'b, 'c, 'd> {
    pub(super) plain: Plain<'a, 'b>,
    pub(super) job: Job<'c, 'd>,
    pub(super) output: &'a mut Output,
    /// Decrypted bytes that did not go to a reader.
    pub(super) spill: &'a mut Vec<u8>,
}

/// Where the session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// The handshake needs more from the peer.
    Handshaking,
    /// Application data may be sent; everything received was dealt with.
    Open,
    /// Decrypted bytes wait for a reader.
    Full,
    /// Both sides have closed.
    Closed,
}

/// What a call did.
#[derive(Debug)]
pub(super) struct Done {
    /// Bytes of the input that are not needed any more.
    pub(super) consumed: usize,
    pub(super) stand: Stand,
    /// The peer said that nothing follows.
    pub(super) peer_closed: bool,
    /// Plain bytes taken by the job.
    pub(super) accepted: usize,
}

/// A session that failed; the alert about it, if any, is in the output.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: Error,
}

impl Session {
    /// Deals with `input` and does the job, as far as possible now.
    pub(super) fn run(
        &mut self,
        input: &mut [u8],
        work: Work<'_, '_, '_, '_>,
    ) -> Result<Done, Failed> {
        match self {
            Self::Server(side) => pump(&mut **side, input, work),
            Self::Client(side) => pump(&mut **side, input, work),
        }
    }

    pub(super) fn common(&self) -> &CommonState {
        match self {
            Self::Server(side) => side,
            Self::Client(side) => side,
        }
    }

    pub(super) const fn is_server(&self) -> bool {
        matches!(self, Self::Server(_))
    }
}

trait Side {
    type Data;

    fn step<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn has_outgoing(&self) -> bool;
}

impl Side for UnbufferedConnectionCommon<ServerConnectionData> {
    type Data = ServerConnectionData;

    fn step<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn has_outgoing(&self) -> bool {
        self.wants_write()
    }
}

impl Side for UnbufferedConnectionCommon<ClientConnectionData> {
    type Data = ClientConnectionData;

    fn step<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn has_outgoing(&self) -> bool {
        self.wants_write()
    }
}

enum Turn {
    Again,
    Stop(Stand),
    PeerClosed,
    Accepted(usize),
    Fail(Error),
}

fn pump<S: Side>(
    side: &mut S,
    input: &mut [u8],
    mut work: Work<'_, '_, '_, '_>,
) -> Result<Done, Failed> {
    let mut done = Done {
        consumed: 0,
        stand: Stand::Open,
        peer_closed: false,
        accepted: 0,
    };
    loop {
        // The bytes that stay undiscarded must be shown again: rustls remembers places in them.
        let rest = input.get_mut(done.consumed..).unwrap_or_default();
        let UnbufferedStatus { discard, state } = side.step(rest);
        let turn = match state {
            Ok(state) => turn(state, &mut work),
            Err(error) => Turn::Fail(error),
        };
        done.consumed += discard;
        match turn {
            Turn::Again => {}
            Turn::PeerClosed => done.peer_closed = true,
            Turn::Stop(stand) => {
                done.stand = stand;
                return Ok(done);
            }
            Turn::Accepted(accepted) => {
                done.accepted = accepted;
                return Ok(done);
            }
            Turn::Fail(error) => {
                take_alerts(side, work.output);
                return Err(Failed { error });
            }
        }
    }
}

fn turn<D>(state: ConnectionState<'_, '_, D>, work: &mut Work<'_, '_, '_, '_>) -> Turn {
    match state {
        ConnectionState::ReadTraffic(traffic) => read(traffic, work),
        ConnectionState::EncodeTlsData(mut data) => {
            let needed = match data.encode(&mut []) {
                Ok(_) => return Turn::Again,
                Err(EncodeError::InsufficientSize(size)) => size.required_size,
                Err(EncodeError::AlreadyEncoded) => return Turn::Again,
            };
            if let Ok(written) = data.encode(work.output.space(needed)) {
                work.output.advance(written);
            }
            Turn::Again
        }
        // The output is sent by the caller, in order and before anything else.
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Turn::Again
        }
        ConnectionState::BlockedHandshake => Turn::Stop(Stand::Handshaking),
        ConnectionState::WriteTraffic(traffic) => write(traffic, work),
        ConnectionState::PeerClosed => Turn::PeerClosed,
        ConnectionState::Closed => Turn::Stop(Stand::Closed),
        // Early data is never enabled.
        _ => Turn::Fail(Error::General("unexpected state".into())),
    }
}

fn read<D>(mut traffic: ReadTraffic<'_, '_, D>, work: &mut Work<'_, '_, '_, '_>) -> Turn {
    loop {
        let Some(len) = traffic.peek_len() else {
            return Turn::Again;
        };
        let len = len.get();
        match &mut work.plain {
            Plain::Leave => return Turn::Stop(Stand::Full),
            Plain::Into { buf, start } if buf.remaining() < len && buf.filled().len() > *start => {
                return Turn::Stop(Stand::Full);
            }
            Plain::Into { .. } | Plain::Spill => {}
        }
        let record = match traffic.next_record() {
            Some(Ok(record)) => record,
            Some(Err(error)) => return Turn::Fail(error),
            None => return Turn::Again,
        };
        match &mut work.plain {
            Plain::Into { buf, .. } => {
                let fits = buf.remaining().min(record.payload.len());
                let (now, later) = record.payload.split_at(fits);
                buf.put_slice(now);
                work.spill.extend_from_slice(later);
            }
            Plain::Leave | Plain::Spill => work.spill.extend_from_slice(record.payload),
        }
    }
}

fn write<D>(mut traffic: WriteTraffic<'_, D>, work: &mut Work<'_, '_, '_, '_>) -> Turn {
    let result = match std::mem::replace(&mut work.job, Job::Nothing) {
        Job::Nothing => return Turn::Stop(Stand::Open),
        Job::Encrypt {
            bufs,
            limit,
            gather,
        } => encrypt_all(&mut traffic, bufs, limit, gather, work.output),
        Job::CloseNotify => close_notify(&mut traffic, work.output).map(|()| 0),
    };
    match result {
        Ok(accepted) => Turn::Accepted(accepted),
        Err(_) => Turn::Fail(Error::EncryptError),
    }
}

/// Encrypts with as few records as possible: pieces smaller than a record are gathered, larger
/// ones are encrypted from where they are.
fn encrypt_all<D>(
    traffic: &mut WriteTraffic<'_, D>,
    bufs: &[IoSlice<'_>],
    limit: usize,
    gather: &mut [u8],
    output: &mut Output,
) -> Result<usize, EncryptError> {
    let mut left = limit;
    let mut accepted = 0;
    let mut gathered = 0;
    let mut pieces = bufs.iter().filter(|buf| !buf.is_empty()).peekable();
    while let Some(piece) = pieces.next() {
        let mut piece = piece.get(..left.min(piece.len())).unwrap_or_default();
        left -= piece.len();
        accepted += piece.len();
        let is_last = left == 0 || pieces.peek().is_none();
        while !piece.is_empty() {
            if gathered == 0 && (is_last || piece.len() >= RECORD_BYTES) {
                let whole = if is_last {
                    piece.len()
                } else {
                    piece.len() - piece.len() % RECORD_BYTES
                };
                let (now, later) = piece.split_at(whole);
                encrypt(traffic, now, output)?;
                piece = later;
                continue;
            }
            let space = gather.get_mut(gathered..).unwrap_or_default();
            let fits = space.len().min(piece.len());
            let (now, later) = piece.split_at(fits);
            if let Some(space) = space.get_mut(..fits) {
                space.copy_from_slice(now);
            }
            gathered += fits;
            piece = later;
            if gathered == gather.len() {
                encrypt(traffic, gather, output)?;
                gathered = 0;
            }
        }
        if left == 0 {
            break;
        }
    }
    if gathered > 0 {
        encrypt(traffic, gather.get(..gathered).unwrap_or_default(), output)?;
    }
    Ok(accepted)
}

fn encrypt<D>(
    traffic: &mut WriteTraffic<'_, D>,
    plain: &[u8],
    output: &mut Output,
) -> Result<(), EncryptError> {
    let records = plain.len().div_ceil(RECORD_BYTES);
    let guess = plain.len() + records * RECORD_OVERHEAD;
    with_space(guess, output, |space| traffic.encrypt(plain, space))
}

fn close_notify<D>(
    traffic: &mut WriteTraffic<'_, D>,
    output: &mut Output,
) -> Result<(), EncryptError> {
    with_space(RECORD_OVERHEAD, output, |space| {
        traffic.queue_close_notify(space)
    })
}

fn with_space(
    guess: usize,
    output: &mut Output,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), EncryptError> {
    // A key update that goes along can need more than the guess.
    let first = fill(output.space(guess));
    let written = match first {
        Err(EncryptError::InsufficientSize(size)) => fill(output.space(size.required_size))?,
        other => other?,
    };
    output.advance(written);
    Ok(())
}

/// Moves what a failed session still has to say, which is its alert, to the output.
fn take_alerts<S: Side>(side: &mut S, output: &mut Output) {
    for _ in 0..ALERTS_MAX {
        // Only while something is queued: with nothing to say rustls would look at its input,
        // and there is none any more.
        if !side.has_outgoing() {
            return;
        }
        match side.step(&mut []).state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
                    let written = data.encode(output.space(size.required_size));
                    output.advance(written.unwrap_or(0));
                }
            }
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while traffic.next_record().is_some() {}
            }
            _ => return,
        }
    }
}
