//! Asking one name server one question: by UDP, and by TCP when the answer does not fit.

use super::message::{self, Kind, NotAnAnswer, Reply};
use crate::rt::sock::{ConnectOpts, TcpStream, UdpSocket};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Packets that are no answer to the question and are passed over, for one question. More would
/// be somebody who guesses.
const WRONG_MAX: u32 = 16;

/// The longest answer that is read.
const ANSWER_MAX: usize = 16 * 1024;

/// Asks `server`. There is no deadline in it.
///
/// # Errors
/// Those of the network, and `InvalidData` when only wrong answers came.
pub async fn ask(server: SocketAddr, name: &str, kind: Kind) -> io::Result<Reply> {
    // Id and source port are random, so that an answer cannot be forged blindly.
    let id = (crate::rt::random() & 0xffff) as u16;
    let question = message::question(id, name, kind).ok_or(io::ErrorKind::InvalidInput)?;
    let any = if server.is_ipv4() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.send_to(&question, server).await?;
    let mut buf = vec![0; 4096];
    for _ in 0..WRONG_MAX {
        let (len, from) = socket.recv_from(&mut buf).await?;
        if from != server {
            continue;
        }
        match message::answer(buf.get(..len).unwrap_or_default(), id, name, kind) {
            Ok(Reply::Truncated) => return ask_tcp(server, name, kind).await,
            Ok(reply) => return Ok(reply),
            Err(NotAnAnswer) => {}
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

async fn ask_tcp(server: SocketAddr, name: &str, kind: Kind) -> io::Result<Reply> {
    let id = (crate::rt::random() & 0xffff) as u16;
    let question = message::question(id, name, kind).ok_or(io::ErrorKind::InvalidInput)?;
    let mut framed = u16::try_from(question.len())
        .map_err(io::Error::other)?
        .to_be_bytes()
        .to_vec();
    framed.extend_from_slice(&question);
    let mut stream = TcpStream::connect(server, &ConnectOpts::default()).await?;
    stream.write_all(&framed).await?;
    let len = usize::from(stream.read_u16().await?);
    if len > ANSWER_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).await?;
    match message::answer(&bytes, id, name, kind) {
        // Truncated by TCP makes no sense: take it for a failure.
        Ok(Reply::Truncated) => Ok(Reply::Failed),
        Ok(reply) => Ok(reply),
        Err(NotAnAnswer) => Err(io::ErrorKind::InvalidData.into()),
    }
}
