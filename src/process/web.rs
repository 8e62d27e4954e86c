//! The small HTTP server of the processes that carry no traffic: hyper on a tokio runtime of one
//! thread. Everything about it is bounded: connections, the time for a head, the time for an
//! answer, the life of a connection. What is answered is its user's business.

use crate::process::worker::{Command, HelperContext, Listening, Port};
use crate::sys::socket::Local;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;
use tokio::time::timeout;

/// A body of any kind.
pub(super) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// What bounds the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections at a time; more wait in the kernel.
    pub(super) connections: usize,
    /// From the opening of a connection, or the last response, to the end of a head.
    pub(super) head: Duration,
    /// From a head to the head of its response.
    pub(super) answer: Duration,
    /// From the opening of a connection to its end.
    pub(super) connection: Duration,
    /// For responses under way when the process leaves.
    pub(super) leave: Duration,
}

/// What is served.
pub(super) trait Site: 'static {
    /// Answers a request that came in at this place.
    fn answer(
        &self,
        place: usize,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>>;

    /// The logs were opened anew.
    fn reopened(&self, _logs: &[(std::path::PathBuf, std::os::fd::OwnedFd)]) {}
}

/// Serves until the master says otherwise or is gone.
pub(super) fn run(context: HelperContext, bounds: Bounds, site: impl Site) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no event loop: {error}"))?;
    let HelperContext { sockets, port, .. } = context;
    let serve = serve(sockets, port, bounds, Rc::new(site));
    LocalSet::new()
        .block_on(&runtime, serve)
        .map_err(|error| format!("cannot serve: {error}"))
}

async fn serve<S: Site>(
    sockets: Vec<Listening>,
    port: Port,
    bounds: Bounds,
    site: Rc<S>,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(bounds.connections));
    let (leave, left) = watch::channel(false);
    for socket in sockets {
        let place = socket.place;
        let accept = Accept::new(socket)?;
        let (site, room, left) = (Rc::clone(&site), Arc::clone(&room), left.clone());
        tokio::task::spawn_local(async move {
            accept_all(accept, place, (bounds, site), room, left).await;
        });
    }
    port.ready();
    orders(port, &*site).await?;
    let _nobody_is_left = leave.send(true);
    // Every connection holds a place until its end.
    let all = u32::try_from(bounds.connections).unwrap_or(u32::MAX);
    let _ended_or_too_slow = timeout(bounds.leave, room.acquire_many(all)).await;
    Ok(())
}

/// Returns when the process has to leave.
async fn orders<S: Site>(port: Port, site: &S) -> io::Result<()> {
    // The runtime watches another descriptor of the same socket; messages are read by the port.
    let watched = std::os::unix::net::UnixStream::from(port.as_fd().try_clone_to_owned()?);
    watched.set_nonblocking(true)?;
    let watched = tokio::net::UnixStream::from_std(watched)?;
    loop {
        watched.readable().await?;
        match watched.try_io(Interest::READABLE, || port.next()) {
            Ok(Command::Drain(_) | Command::Close { .. }) => return Ok(()),
            Ok(Command::Reopen(logs)) => site.reopened(&logs),
            Ok(Command::Update(_)) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(error) => return Err(error),
        }
    }
}

enum Accept {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Accept {
    fn new(socket: Listening) -> io::Result<Self> {
        Ok(match socket.local {
            Local::Ip(_) => {
                let listener = std::net::TcpListener::from(socket.fd);
                listener.set_nonblocking(true)?;
                Self::Tcp(TcpListener::from_std(listener)?)
            }
            Local::Unix(_) => {
                let listener = std::os::unix::net::UnixListener::from(socket.fd);
                listener.set_nonblocking(true)?;
                Self::Unix(UnixListener::from_std(listener)?)
            }
        })
    }
}

/// How long a connection may still bring a request when the process leaves.
const LAST_CALL: Duration = Duration::from_millis(500);

/// How long accepting rests when descriptors have run out.
const REST: Duration = Duration::from_millis(200);

async fn accept_all<S: Site>(
    accept: Accept,
    place: usize,
    (bounds, site): (Bounds, Rc<S>),
    room: Arc<Semaphore>,
    left: watch::Receiver<bool>,
) {
    let mut leave = left.clone();
    loop {
        let next = async {
            // The place is taken first: a connection that finds none waits in the kernel.
            let place = Arc::clone(&room).acquire_owned().await.ok()?;
            let stream = match &accept {
                Accept::Tcp(listener) => listener.accept().await.map(|(s, _)| Stream::Tcp(s)),
                Accept::Unix(listener) => listener.accept().await.map(|(s, _)| Stream::Unix(s)),
            };
            Some((place, stream))
        };
        let next = tokio::select! {
            _gone = leave.wait_for(|left| *left) => return,
            next = next => next,
        };
        let (taken, stream) = match next {
            None => return,
            Some((_, Err(_))) => {
                tokio::time::sleep(REST).await;
                continue;
            }
            Some((taken, Ok(stream))) => (taken, stream),
        };
        let (site, left) = (Rc::clone(&site), left.clone());
        tokio::task::spawn_local(async move {
            let _until_the_end = taken;
            match stream {
                Stream::Tcp(stream) => {
                    let _small = stream.set_nodelay(true);
                    connection(stream, place, bounds, site, left).await;
                }
                Stream::Unix(stream) => connection(stream, place, bounds, site, left).await,
            }
        });
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn connection<S: Site>(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    place: usize,
    bounds: Bounds,
    site: Rc<S>,
    mut left: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| {
        let site = Rc::clone(&site);
        async move {
            let answer = timeout(bounds.answer, site.answer(place, request)).await;
            let late = |_| text(StatusCode::SERVICE_UNAVAILABLE, "This took too long.\n");
            Ok::<_, Infallible>(answer.unwrap_or_else(late))
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .half_close(true)
        .max_buf_size(64 * 1024);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // A client that misbehaves or goes away is its own problem: nothing is told.
    let whole = async {
        tokio::select! {
            _done = connection.as_mut() => return,
            _gone = left.wait_for(|left| *left) => {}
        }
        // Its request may be on the way or in the buffer: a shutdown now would reset it unread.
        tokio::select! {
            _done = connection.as_mut() => return,
            () = tokio::time::sleep(LAST_CALL) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _done = connection.await;
    };
    let _done_or_too_long = timeout(bounds.connection, whole).await;
}

/// A short answer in plain text.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    page(status, "text/plain; charset=utf-8", text)
}

/// An answer that is complete.
pub(super) fn page(
    status: StatusCode,
    content_type: &'static str,
    content: impl Into<Bytes>,
) -> Response<Body> {
    let never = |never: Infallible| match never {};
    let body = Full::new(content.into()).map_err(never).boxed_unsync();
    with_body(status, content_type, body)
}

/// An answer with a body of any kind.
pub(super) fn with_body(
    status: StatusCode,
    content_type: &'static str,
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
