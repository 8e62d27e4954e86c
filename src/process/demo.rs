//! The demo servers of `builtin = "demo"`: a real HTTP server over loopback in a process of its
//! own, so that a first start has something to proxy and tests have something to play with.
//! Nothing of it is meant for production.

use crate::process::web::{self, Body, Bounds, Site};
use crate::process::worker::HelperContext;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

const BOUNDS: Bounds = Bounds {
    connections: 4096,
    head: Duration::from_secs(120),
    answer: Duration::from_secs(70),
    connection: Duration::from_secs(3600),
    leave: Duration::from_secs(1),
};

/// The longest `/delay`.
const DELAY_MAX: u64 = 60_000;
/// The most `/bytes`.
const BYTES_MAX: u64 = 16 << 30;
/// Bytes are made from this over and over.
static PATTERN: [u8; 64 * 1024] = [b'.'; 64 * 1024];
/// Between two pieces of `/stream`.
const PIECE_EVERY: Duration = Duration::from_millis(200);
/// Pieces of `/stream`.
const PIECES: u32 = 10;
/// Between two events.
const EVENT_EVERY: Duration = Duration::from_secs(1);
/// Tells which server answered.
const SERVER: HeaderName = HeaderName::from_static("x-demo-server");

/// Serves until the master says otherwise or is gone.
///
/// # Errors
/// Why it cannot serve.
pub fn run(context: HelperContext) -> Result<(), String> {
    web::run(context, BOUNDS, Demo)
}

struct Demo;

impl Site for Demo {
    async fn answer(&self, place: usize, request: Request<Incoming>) -> Response<Body> {
        let number = place + 1;
        let mut response = answer(number, request).await;
        if let Ok(value) = HeaderValue::from_str(&number.to_string()) {
            response.headers_mut().insert(SERVER, value);
        }
        response
    }
}

async fn answer(number: usize, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (what, argument) = (parts.next().unwrap_or(""), parts.next());
    let number_of = || argument.and_then(|text| text.parse::<u64>().ok());
    match what {
        "" => web::page(StatusCode::OK, "text/html; charset=utf-8", index(number)),
        "headers" => web::text(StatusCode::OK, head_of(&request)),
        "echo" => echo(request),
        "stream" => stream(number),
        "events" => events(number),
        "bytes" => match number_of().filter(|n| *n <= BYTES_MAX) {
            Some(n) => web::with_body(
                StatusCode::OK,
                "application/octet-stream",
                BodyExt::boxed_unsync(Filler(n)),
            ),
            None => wrong("/bytes/N needs a number up to 16 GiB."),
        },
        "delay" => match number_of().filter(|n| *n <= DELAY_MAX) {
            Some(n) => {
                sleep(Duration::from_millis(n)).await;
                web::text(StatusCode::OK, format!("Waited {n} ms.\n"))
            }
            None => wrong("/delay/MS needs milliseconds up to 60000."),
        },
        "status" => match number_of().and_then(status) {
            Some(status) => web::text(status, format!("Status {status}.\n")),
            None => wrong("/status/CODE needs a code from 200 to 599."),
        },
        _ => web::text(StatusCode::NOT_FOUND, "The demo server has no such page.\n"),
    }
}

fn wrong(text: &str) -> Response<Body> {
    web::text(StatusCode::BAD_REQUEST, format!("{text}\n"))
}

fn status(code: u64) -> Option<StatusCode> {
    let code = u16::try_from(code)
        .ok()
        .filter(|code| (200..600).contains(code))?;
    StatusCode::from_u16(code).ok()
}

/// The request's head as it arrived, as text.
fn head_of(request: &Request<Incoming>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _line = writeln!(
        text,
        "{} {} {:?}",
        request.method(),
        request.uri(),
        request.version()
    );
    for (name, value) in request.headers() {
        let _field = writeln!(text, "{name}: {}", value.as_bytes().escape_ascii());
    }
    text
}

/// The body comes back as it arrives.
fn echo(request: Request<Incoming>) -> Response<Body> {
    if request.method() == Method::GET || request.method() == Method::HEAD {
        return web::text(StatusCode::OK, "POST something here and it comes back.\n");
    }
    let content_type = request.headers().get(CONTENT_TYPE).cloned();
    let body = BodyExt::boxed_unsync(request.into_body());
    let mut response = web::with_body(StatusCode::OK, "application/octet-stream", body);
    if let Some(content_type) = content_type {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response
}

fn stream(number: usize) -> Response<Body> {
    let pieces = Pieces::new(PIECE_EVERY, move |i| {
        (i < PIECES).then(|| format!("piece {} of {PIECES} from demo server {number}\n", i + 1))
    });
    let body = BodyExt::boxed_unsync(pieces);
    web::with_body(StatusCode::OK, "text/plain; charset=utf-8", body)
}

fn events(number: usize) -> Response<Body> {
    let pieces = Pieces::new(EVENT_EVERY, move |i| {
        Some(format!(
            "id: {i}\nevent: tick\ndata: {{\"tick\":{i},\"server\":{number}}}\n\n"
        ))
    });
    web::with_body(
        StatusCode::OK,
        "text/event-stream",
        BodyExt::boxed_unsync(pieces),
    )
}

/// So many bytes.
struct Filler(u64);

impl hyper::body::Body for Filler {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        let len = usize::try_from(self.0).map_or(PATTERN.len(), |left| left.min(PATTERN.len()));
        self.0 -= len as u64;
        let piece = Bytes::from_static(PATTERN.get(..len).unwrap_or(&PATTERN));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

/// Text piece by piece, each after a pause; the first at once.
struct Pieces {
    make: Box<dyn FnMut(u32) -> Option<String> + Send>,
    made: u32,
    every: Duration,
    pause: Pin<Box<Sleep>>,
}

impl Pieces {
    fn new(every: Duration, make: impl FnMut(u32) -> Option<String> + Send + 'static) -> Self {
        Self {
            make: Box::new(make),
            made: 0,
            every,
            pause: Box::pin(sleep(Duration::ZERO)),
        }
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if this.pause.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let piece = (this.make)(this.made);
        this.made = this.made.wrapping_add(1);
        this.pause.set(sleep(this.every));
        Poll::Ready(piece.map(|text| Ok(Frame::data(Bytes::from(text)))))
    }
}

fn index(number: usize) -> String {
    const PAGES: &[(&str, &str)] = &[
        ("/headers", "the head of your request as it arrived here"),
        ("/status/418", "any status"),
        ("/delay/500", "an answer after half a second"),
        ("/bytes/1000000", "so many bytes"),
        ("/stream", "text that comes in ten pieces"),
        ("/events", "server-sent events, one a second"),
        ("/echo", "what you POST comes back"),
    ];
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>demo server {number}</title>\
         <style>:root{{color-scheme:light dark}}body{{font:16px/1.6 system-ui,sans-serif;\
         margin:3em auto;max-width:40em;padding:0 1em}}</style></head><body>\
         <h1>It works</h1><p>This is demo server <b>{number}</b>, reached through proxyd. \
         Reload the page: another one may answer.</p><ul>\n"
    );
    for (path, what) in PAGES {
        // Writing to a String cannot fail.
        let _item = writeln!(page, "<li><a href=\"{path}\">{path}</a>: {what}</li>");
    }
    page.push_str("</ul></body></html>\n");
    page
}

#[cfg(test)]
mod tests;
