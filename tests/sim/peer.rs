//! Clients and servers of the scenarios: they read and write HTTP byte by byte, with a reader of
//! their own that is strict about where a message ends, and can be as rude as a scenario needs.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use proxyd::rt::sock::{ConnectOpts, TcpListener, TcpStream};
use proxyd::rt::{self, Task};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::house::FRONT;

/// A message that was received whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The first line and the fields, each line with its end, without the empty line.
    pub head: String,
    /// The payload.
    pub body: Vec<u8>,
    /// The trailer lines.
    pub trailers: String,
}

impl Message {
    /// The method of a request, or the version of a response.
    pub fn first_word(&self) -> &str {
        self.head.split(' ').next().unwrap()
    }

    /// The target of a request, or the status of a response.
    pub fn second_word(&self) -> &str {
        self.head.split([' ', '\r']).nth(1).unwrap()
    }

    pub fn status(&self) -> u16 {
        self.second_word().parse().unwrap()
    }

    /// The value of a field, if it stands in the head exactly once.
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Whether the sender ends the connection after it.
    pub fn closes(&self) -> bool {
        self.field("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The reason code of an answer that proxyd made itself.
    pub fn reason(&self) -> &str {
        let value = self.field("proxy-status").unwrap_or("");
        value.split('"').nth(1).unwrap_or("")
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut found = head.lines().skip(1).filter_map(|line| {
        let (left, right) = line.split_once(':')?;
        left.eq_ignore_ascii_case(name).then(|| right.trim())
    });
    let first = found.next();
    assert!(found.next().is_none(), "{name} stands twice in {head}");
    first
}

/// Why no message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The connection was closed in good order before a byte of it.
    Closed,
    /// The connection was closed in good order in its middle.
    Short,
    /// The connection was reset.
    Reset,
}

/// Whose messages are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    /// The response to a HEAD.
    Bodiless,
}

/// One end of a connection.
pub struct Peer {
    pub stream: TcpStream,
    pub held: Vec<u8>,
}

impl Peer {
    pub const fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            held: Vec::new(),
        }
    }

    /// Sends; false when the connection is broken.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Sends one piece after another with pauses.
    pub async fn drip(&mut self, bytes: &[u8], size: usize, pause: Duration) -> bool {
        for piece in bytes.chunks(size) {
            if !self.send(piece).await {
                return false;
            }
            rt::sleep(pause).await;
        }
        true
    }

    /// Ends the sending side.
    pub async fn finish(&mut self) {
        let _gone = self.stream.shutdown().await;
    }

    /// Closes with a reset.
    pub fn reset(self) {
        self.stream.reset();
    }

    async fn fill(&mut self) -> Result<(), Broken> {
        self.held.reserve(16 << 10);
        match self.stream.read_buf(&mut self.held).await {
            Ok(0) if self.held.is_empty() => Err(Broken::Closed),
            Ok(0) => Err(Broken::Short),
            Ok(_) => Ok(()),
            Err(_) => Err(Broken::Reset),
        }
    }

    /// The next bytes, however many.
    pub async fn some(&mut self) -> Result<Vec<u8>, Broken> {
        while self.held.is_empty() {
            self.fill().await?;
        }
        Ok(std::mem::take(&mut self.held))
    }

    /// Exactly so many bytes.
    pub async fn exactly(&mut self, n: usize) -> Result<Vec<u8>, Broken> {
        while self.held.len() < n {
            self.fill().await?;
        }
        Ok(self.held.drain(..n).collect())
    }

    /// Everything until the connection ends, and how it ends: `Closed` or `Reset`.
    pub async fn rest(&mut self) -> (Vec<u8>, Broken) {
        let mut bytes = std::mem::take(&mut self.held);
        loop {
            match self.some().await {
                Ok(more) => bytes.extend(more),
                Err(end) => return (bytes, end),
            }
        }
    }

    async fn line(&mut self) -> Result<String, Broken> {
        loop {
            if let Some(end) = self.held.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.held.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.fill().await?;
        }
    }

    /// A head or trailer section: its lines, without the empty one at its end.
    async fn section(&mut self) -> Result<String, Broken> {
        let mut section = String::new();
        loop {
            let line = self.line().await.map_err(|broken| match broken {
                Broken::Closed if !section.is_empty() => Broken::Short,
                other => other,
            })?;
            if line == "\r\n" {
                return Ok(section);
            }
            section.push_str(&line);
        }
    }

    /// The head of the next message, as it came.
    pub async fn head(&mut self) -> Result<String, Broken> {
        self.section().await
    }

    /// The next message. Within it a clean end of the connection is `Short`.
    pub async fn message(&mut self, kind: Kind) -> Result<Message, Broken> {
        let head = self.head().await?;
        self.body(head, kind).await.map_err(|broken| match broken {
            Broken::Closed => Broken::Short,
            other => other,
        })
    }

    /// The rest of a message whose head was read.
    pub async fn body(&mut self, head: String, kind: Kind) -> Result<Message, Broken> {
        let status = head.split([' ', '\r']).nth(1).unwrap_or("");
        let bodiless = match kind {
            Kind::Request => false,
            Kind::Response => status.starts_with('1') || matches!(status, "204" | "304"),
            Kind::Bodiless => true,
        };
        let (mut body, mut trailers) = (Vec::new(), String::new());
        let length = field(&head, "content-length").map(|n| n.parse::<usize>().unwrap());
        if bodiless {
        } else if field(&head, "transfer-encoding") == Some("chunked") {
            assert!(length.is_none(), "two lengths: {head}");
            (body, trailers) = self.chunks().await?;
        } else if let Some(length) = length {
            body = self.exactly(length).await?;
        } else if kind == Kind::Response {
            let (all, end) = self.rest().await;
            if end == Broken::Reset {
                return Err(end);
            }
            body = all;
        }
        Ok(Message {
            head,
            body,
            trailers,
        })
    }

    async fn chunks(&mut self) -> Result<(Vec<u8>, String), Broken> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let size = usize::from_str_radix(line.trim(), 16)
                .unwrap_or_else(|_| panic!("no chunk size: {line:?}"));
            if size == 0 {
                return Ok((body, self.section().await?));
            }
            body.extend(self.exactly(size).await?);
            assert_eq!(self.exactly(2).await?, b"\r\n", "the end of a chunk");
        }
    }
}

/// A client of the proxy.
pub struct Client(pub Peer);

impl std::ops::Deref for Client {
    type Target = Peer;
    fn deref(&self) -> &Peer {
        &self.0
    }
}

impl std::ops::DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Peer {
        &mut self.0
    }
}

impl Client {
    pub async fn new() -> Self {
        Self::from_opts(&ConnectOpts::default()).await
    }

    async fn from_opts(opts: &ConnectOpts) -> Self {
        let front: SocketAddr = FRONT.parse().unwrap();
        Self(Peer::new(TcpStream::connect(front, opts).await.unwrap()))
    }

    pub async fn response(&mut self) -> Result<Message, Broken> {
        self.message(Kind::Response).await
    }

    /// Sends a request with a head that ends in `\r\n` lines of `fields`.
    pub async fn request(&mut self, line: &str, fields: &str, body: impl AsRef<[u8]>) -> bool {
        let head = format!("{line} HTTP/1.1\r\nHost: example.org\r\n{fields}\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body.as_ref());
        self.send(bytes).await
    }

    pub async fn get(&mut self, path: &str) -> Result<Message, Broken> {
        self.request(&format!("GET {path}"), "", "").await;
        self.response().await
    }

    /// A POST with a body of known length.
    pub async fn post(&mut self, path: &str, body: &[u8]) -> Result<Message, Broken> {
        let fields = format!("Content-Length: {}\r\n", body.len());
        self.request(&format!("POST {path}"), &fields, body).await;
        self.response().await
    }

    /// The connection still works.
    #[track_caller]
    pub fn assert_works(&mut self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.get("/works").await;
            assert!(
                answer.as_ref().is_ok_and(|answer| answer.status() == 200),
                "{caller}: {answer:?}"
            );
        }
    }

    /// Nothing more comes, and the connection is closed in good order.
    #[track_caller]
    pub fn assert_closed(&mut self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let (bytes, end) = self.rest().await;
            let text = String::from_utf8_lossy(&bytes);
            assert_eq!((&*text, end), ("", Broken::Closed), "{caller}");
        }
    }
}

/// What a server has seen.
#[derive(Clone, Default)]
pub struct Seen {
    /// Connections accepted.
    pub connections: Rc<Cell<u32>>,
    /// Connections that are open at its side.
    pub open: Rc<Cell<u32>>,
    /// Requests that came whole.
    pub requests: Rc<RefCell<Vec<Message>>>,
    /// Requests that broke off.
    pub broken: Rc<RefCell<Vec<Broken>>>,
}

impl Seen {
    pub fn count(&self) -> usize {
        self.requests.borrow().len()
    }

    pub fn last(&self) -> Message {
        self.requests.borrow().last().expect("a request").clone()
    }
}

struct Open(Rc<Cell<u32>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A server on the simulated network; it ends when it is dropped.
pub struct Server {
    pub seen: Seen,
    addr: SocketAddr,
    tasks: Rc<RefCell<Vec<Task>>>,
}

impl Server {
    /// Calls `serve` for every connection.
    pub fn raw<F>(addr: &str, serve: impl Fn(Peer, Seen) -> F + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let addr: SocketAddr = addr.parse().unwrap();
        let listener = TcpListener::bind(addr).unwrap();
        let seen = Seen::default();
        let tasks = Rc::<RefCell<Vec<Task>>>::default();
        let (noted, started) = (seen.clone(), Rc::clone(&tasks));
        let acceptor = rt::spawn(async move {
            while let Ok((stream, _)) = poll_fn(|cx| listener.poll_accept(cx)).await {
                noted.connections.set(noted.connections.get() + 1);
                noted.open.set(noted.open.get() + 1);
                let open = Open(Rc::clone(&noted.open));
                let serving = serve(Peer::new(stream), noted.clone());
                let task = rt::spawn(async move {
                    serving.await;
                    drop(open);
                });
                let mut tasks = started.borrow_mut();
                tasks.retain(|task| !task.is_finished());
                tasks.push(task);
            }
        });
        tasks.borrow_mut().push(acceptor);
        Self { seen, addr, tasks }
    }

    /// Answers every request; connections are kept until the proxy closes them, and after an
    /// answer that says `Connection: close`, or an empty one, they end.
    pub fn http(addr: &str, answer: impl Fn(&Message) -> Vec<u8> + 'static) -> Self {
        let answer = Rc::new(answer);
        Self::raw(addr, move |mut peer, seen| {
            let answer = Rc::clone(&answer);
            async move {
                while let Some(request) = next(&mut peer, &seen).await {
                    let bytes = answer(&request);
                    let closes = bytes.is_empty() || contains(&bytes, b"Connection: close\r\n");
                    if !peer.send(bytes).await || closes {
                        return;
                    }
                }
            }
        })
    }

    /// Answers everything with 200.
    pub fn good(addr: &str) -> Self {
        Self::http(addr, |_| ok("good"))
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        tasks.into_iter().for_each(Task::abort);
    }
}

/// Reads the next request of a server's connection and notes it.
pub async fn next(peer: &mut Peer, seen: &Seen) -> Option<Message> {
    match peer.message(Kind::Request).await {
        Ok(request) => {
            seen.requests.borrow_mut().push(request.clone());
            Some(request)
        }
        Err(Broken::Closed) => None,
        Err(broken) => {
            seen.broken.borrow_mut().push(broken);
            None
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A response with a body of known length.
pub fn response(line: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {line}\r\nContent-Length: {length}\r\n{fields}\r\n");
    [head.as_bytes(), body].concat()
}

/// 200 with this text.
pub fn ok(body: &str) -> Vec<u8> {
    response("200 OK", "", body.as_bytes())
}
