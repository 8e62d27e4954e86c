//! Mock servers on threads with blocking sockets: they record what they received and answer what
//! a test tells them. They end when the test does.

use super::client::Wire;
use super::message::{Reader, Request};
use super::{PATIENCE, eventually};
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server saw so far.
#[derive(Debug, Default)]
struct Seen {
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    stop: AtomicBool,
}

/// A mock server.
#[derive(Debug)]
pub struct Upstream {
    addr: Option<SocketAddr>,
    seen: Arc<Seen>,
}

/// One accepted connection.
pub struct Conn {
    /// Which connection of this server it is, from 0.
    pub index: usize,
    reader: Reader<Box<dyn Wire>>,
    tcp: Option<TcpStream>,
    seen: Arc<Seen>,
}

impl Conn {
    /// The next request with its body, recorded; nothing when the peer closed.
    pub fn request(&mut self) -> io::Result<Option<Request>> {
        let Some(mut request) = self.head()? else {
            return Ok(None);
        };
        self.body(&mut request)?;
        self.record(&request);
        Ok(Some(request))
    }

    /// The head of the next request; the body is left unread and nothing is recorded.
    pub fn head(&mut self) -> io::Result<Option<Request>> {
        let mut request = self.reader.request_head()?;
        if let Some(request) = &mut request {
            request.connection = self.index;
        }
        Ok(request)
    }

    /// Reads the body of a request whose head was read.
    pub fn body(&mut self, request: &mut Request) -> io::Result<()> {
        self.reader.request_body(request)
    }

    /// Records a request by hand.
    pub fn record(&self, request: &Request) {
        self.seen.requests.lock().unwrap().push(request.clone());
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.stream.write_all(bytes.as_ref())?;
        self.reader.stream.flush()
    }

    /// Exactly so many bytes.
    pub fn read(&mut self, count: usize) -> io::Result<Vec<u8>> {
        self.reader.exactly(count)
    }

    /// Whatever comes next; empty at the end.
    pub fn some(&mut self) -> io::Result<Vec<u8>> {
        if self.reader.buffer.is_empty() {
            self.reader.fill()?;
        }
        Ok(std::mem::take(&mut self.reader.buffer))
    }

    /// Everything until the peer closes.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        self.reader.until_end()
    }

    /// Ends our direction.
    pub fn finish(&mut self) {
        if let Some(tcp) = &self.tcp {
            tcp.shutdown(Shutdown::Write).ok();
        }
    }

    /// The close of this connection will be a reset.
    pub fn reset(&mut self) {
        if let Some(tcp) = &self.tcp {
            socket2::SockRef::from(tcp)
                .set_linger(Some(Duration::ZERO))
                .ok();
        }
    }
}

impl Upstream {
    /// A server whose every connection is handled by a closure.
    pub fn raw(handler: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::on(listener, handler)
    }

    /// The same on a listener that the test made.
    pub fn on(
        listener: TcpListener,
        handler: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::wrapped(listener, |tcp| Ok(Box::new(tcp)), handler)
    }

    /// A server that wraps each connection, for example in TLS, before it is handled.
    pub fn wrapped(
        listener: TcpListener,
        wrap: impl Fn(TcpStream) -> io::Result<Box<dyn Wire>> + Send + Sync + 'static,
        handler: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let wrap = Arc::new(wrap);
        let handler = Arc::new(handler);
        std::thread::spawn(move || {
            while let Ok((tcp, _)) = listener.accept() {
                if shared.stop.load(Ordering::SeqCst) {
                    break;
                }
                let (wrap, handler) = (Arc::clone(&wrap), Arc::clone(&handler));
                serve(&shared, move |index, seen| {
                    tcp.set_read_timeout(Some(PATIENCE * 3))?;
                    tcp.set_nodelay(true)?;
                    let copy = tcp.try_clone()?;
                    let reader = Reader::new(wrap(tcp)?);
                    handler(&mut Conn {
                        index,
                        reader,
                        tcp: Some(copy),
                        seen,
                    })
                });
            }
        });
        Self {
            addr: Some(addr),
            seen,
        }
    }

    /// A server on a Unix socket.
    pub fn unix(
        path: &Path,
        handler: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let handler = Arc::new(handler);
        std::thread::spawn(move || {
            while let Ok((unix, _)) = listener.accept() {
                let handler = Arc::clone(&handler);
                serve(&shared, move |index, seen| {
                    unix.set_read_timeout(Some(PATIENCE * 3))?;
                    let reader = Reader::new(Box::new(unix) as Box<dyn Wire>);
                    handler(&mut Conn {
                        index,
                        reader,
                        tcp: None,
                        seen,
                    })
                });
            }
        });
        Self { addr: None, seen }
    }

    /// A keep-alive server that answers each request with what the closure returns.
    pub fn http(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::raw(keep_alive(answer))
    }

    /// A keep-alive server that answers 200 with a fixed body.
    pub fn says(body: &'static str) -> Self {
        Self::http(move |_| ok(body))
    }

    /// A keep-alive server that answers with the body it received.
    pub fn echo() -> Self {
        Self::http(|request| ok(&request.body))
    }

    /// The address.
    pub fn addr(&self) -> SocketAddr {
        self.addr.expect("a TCP server")
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.addr().port()
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// The only request; fails when there were more or none.
    #[track_caller]
    pub fn only(&self) -> Request {
        let all = self.requests();
        assert_eq!(all.len(), 1, "requests: {all:?}");
        all.into_iter().next().unwrap()
    }

    /// The last request, waited for.
    #[track_caller]
    pub fn last(&self) -> Request {
        eventually("a request", PATIENCE, || self.requests().pop())
    }

    /// How many requests were recorded.
    pub fn count(&self) -> usize {
        self.seen.requests.lock().unwrap().len()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::SeqCst);
        if let Some(addr) = self.addr {
            // wakes the accept loop so that it ends; the listener closes with it
            TcpStream::connect_timeout(&addr, Duration::from_millis(200)).ok();
        }
    }
}

fn serve(seen: &Arc<Seen>, run: impl FnOnce(usize, Arc<Seen>) -> io::Result<()> + Send + 'static) {
    let index = seen.connections.fetch_add(1, Ordering::SeqCst);
    seen.open.fetch_add(1, Ordering::SeqCst);
    let seen = Arc::clone(seen);
    std::thread::spawn(move || {
        run(index, Arc::clone(&seen)).ok();
        seen.open.fetch_sub(1, Ordering::SeqCst);
    });
}

/// A handler that answers request after request.
pub fn keep_alive(
    answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static,
) -> impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static {
    move |conn| {
        while let Some(request) = conn.request()? {
            conn.send(answer(&request))?;
        }
        Ok(())
    }
}

/// A 200 with a body.
pub fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    respond(200, &[], body)
}

/// A response with status, fields and a body of known length.
pub fn respond(status: u16, fields: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut out = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in fields {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut out = (out + "\r\n").into_bytes();
    out.extend_from_slice(body);
    out
}
