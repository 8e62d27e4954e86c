//! Raw clients: bytes in, bytes out, with framing only where a test asks for it.

use super::message::{Reader, Response};
use super::{PATIENCE, tls};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// What both plain and TLS connections can do.
pub trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// One client connection.
pub struct Client {
    reader: Reader<Box<dyn Wire>>,
    tcp: TcpStream,
}

impl Client {
    /// Connects.
    pub fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).unwrap_or_else(|e| panic!("connect to {addr}: {e}"))
    }

    /// Connects, or says why not.
    pub fn try_connect(addr: SocketAddr) -> io::Result<Self> {
        let tcp = TcpStream::connect_timeout(&addr, PATIENCE)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        tcp.set_nodelay(true)?;
        let wire: Box<dyn Wire> = Box::new(tcp.try_clone()?);
        Ok(Self {
            reader: Reader::new(wire),
            tcp,
        })
    }

    /// Connects with TLS, trusting the given authority; the handshake is complete.
    pub fn tls(addr: SocketAddr, name: &str, config: &tls::ClientSetup) -> io::Result<Self> {
        let plain = Self::try_connect(addr)?;
        let stream = tls::handshake(plain.tcp.try_clone()?, name, config)?;
        Ok(Self {
            reader: Reader::new(Box::new(stream)),
            tcp: plain.tcp,
        })
    }

    /// The local address.
    pub fn local(&self) -> SocketAddr {
        self.tcp.local_addr().unwrap()
    }

    /// Another bound for reads.
    pub fn patience(&mut self, limit: Duration) {
        self.tcp.set_read_timeout(Some(limit)).unwrap();
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes).expect("send");
        self
    }

    /// Sends bytes, or says why not.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.stream.write_all(bytes.as_ref())?;
        self.reader.stream.flush()
    }

    /// Sends pieces of the given size with a pause behind each.
    pub fn send_in_pieces(&mut self, bytes: impl AsRef<[u8]>, size: usize, pause: Duration) {
        for piece in bytes.as_ref().chunks(size) {
            self.send(piece);
            std::thread::sleep(pause);
        }
    }

    /// Ends our direction.
    pub fn finish(&mut self) {
        self.tcp.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.tcp)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    /// The next response; 1xx responses count.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// The next response to a request of this method.
    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Response {
        self.try_response(method)
            .unwrap_or_else(|e| panic!("no response: {e}"))
    }

    /// The next response, or why there is none.
    pub fn try_response(&mut self, method: &str) -> io::Result<Response> {
        self.reader.response(method)
    }

    /// A GET on this connection.
    #[track_caller]
    pub fn get(&mut self, host: &str, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.response()
    }

    /// A GET on this connection, or why it failed.
    pub fn try_get(&mut self, host: &str, path: &str) -> io::Result<Response> {
        self.try_send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))?;
        self.try_response("GET")
    }

    /// Exactly so many bytes.
    #[track_caller]
    pub fn read(&mut self, count: usize) -> Vec<u8> {
        self.try_read(count)
            .unwrap_or_else(|e| panic!("{count} bytes: {e}"))
    }

    /// Exactly so many bytes, or why there are fewer.
    pub fn try_read(&mut self, count: usize) -> io::Result<Vec<u8>> {
        self.reader.exactly(count)
    }

    /// Everything until the peer closes; a reset counts as an error.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        self.reader.until_end()
    }

    /// Whether the peer closes within the time, sending nothing more. A reset counts.
    pub fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.patience(limit);
        let mut rest = [0_u8; 1];
        let closed = match self.reader.stream.read(&mut rest) {
            Ok(count) => count == 0,
            Err(e) => !matches!(
                e.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ),
        };
        self.patience(PATIENCE);
        closed && self.reader.buffer.is_empty()
    }
}

/// One GET on a connection of its own.
#[track_caller]
pub fn get(addr: SocketAddr, host: &str, path: &str) -> Response {
    Client::connect(addr).get(host, path)
}

/// One request as bytes on a connection of its own.
#[track_caller]
pub fn send(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> Response {
    let mut client = Client::connect(addr);
    client.send(bytes);
    client.response()
}
