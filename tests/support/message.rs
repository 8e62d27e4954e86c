//! HTTP/1 messages as the tests see them: strict reading of heads and bodies from any stream.
//! A bare LF or a malformed chunk sent by proxyd is a test failure here.

use std::io::{self, Read};

/// A list of fields in the order received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    /// All values of a name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = |n: &str| n.eq_ignore_ascii_case(name);
        self.0
            .iter()
            .filter(|(n, _)| same(n))
            .map(|(_, v)| v.as_str())
            .collect()
    }

    /// Whether the name is there.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

/// A request as a server received it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The bytes of the head, for comparisons byte by byte.
    pub raw: Vec<u8>,
    /// The method.
    pub method: String,
    /// The target as received.
    pub target: String,
    /// The fields.
    pub fields: Fields,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Trailers of a chunked body.
    pub trailers: Fields,
    /// Which connection of the server it came on, from 0.
    pub connection: usize,
}

/// A response as a client received it.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The bytes of the head.
    pub raw: Vec<u8>,
    /// The status code.
    pub status: u16,
    /// The fields.
    pub fields: Fields,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Trailers of a chunked body.
    pub trailers: Fields,
    /// The body came in chunks.
    pub chunked: bool,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Fails unless the status is the expected one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.raw)
        );
        self
    }
}

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// A stream with what was read too far.
#[derive(Debug)]
pub struct Reader<S> {
    /// The stream.
    pub stream: S,
    /// Bytes read and not used yet.
    pub buffer: Vec<u8>,
}

impl<S: Read> Reader<S> {
    /// Nothing read yet.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Reads more; false at the end.
    pub fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0_u8; 16384];
        let count = loop {
            match self.stream.read(&mut chunk) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count > 0)
    }

    /// The bytes up to and with the mark; nothing when the stream ends before the first byte.
    fn until(&mut self, mark: &[u8]) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|w| w == mark) {
                return Ok(Some(self.buffer.drain(..at + mark.len()).collect()));
            }
            if !self.fill()? {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = self.until(b"\r\n")?.ok_or(io::ErrorKind::UnexpectedEof)?;
        line.truncate(line.len() - 2);
        if line.iter().any(|b| *b == b'\n' || *b == b'\r') {
            return Err(bad("bare CR or LF in a line"));
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Exactly so many bytes.
    pub fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// Everything up to the end.
    pub fn until_end(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? {}
        Ok(std::mem::take(&mut self.buffer))
    }

    fn head(&mut self) -> io::Result<Option<(Vec<u8>, String, Fields)>> {
        let Some(raw) = self.until(b"\r\n\r\n")? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&raw).into_owned();
        let mut lines = text.trim_end_matches("\r\n\r\n").split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let mut fields = Fields::default();
        for line in lines {
            fields.0.push(field(line)?);
        }
        Ok(Some((raw, first, fields)))
    }

    fn chunked(&mut self, body: &mut Vec<u8>, trailers: &mut Fields) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(&line, 16)
                .map_err(|_| bad(format!("chunk size line {line:?}")))?;
            if size == 0 {
                break;
            }
            body.extend(self.exactly(size)?);
            if self.exactly(2)? != b"\r\n" {
                return Err(bad("no CRLF behind a chunk"));
            }
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(());
            }
            trailers.0.push(field(&line)?);
        }
    }

    /// The head of the next request, body unread; nothing when the peer closed before it.
    pub fn request_head(&mut self) -> io::Result<Option<Request>> {
        let Some((raw, first, fields)) = self.head()? else {
            return Ok(None);
        };
        let parts: Vec<&str> = first.split(' ').collect();
        let [method, target, "HTTP/1.1"] = parts.as_slice() else {
            return Err(bad(format!("request line {first:?}")));
        };
        Ok(Some(Request {
            raw,
            method: (*method).to_owned(),
            target: (*target).to_owned(),
            fields,
            ..Request::default()
        }))
    }

    /// Reads the body that the head announces.
    pub fn request_body(&mut self, request: &mut Request) -> io::Result<()> {
        match (
            request.fields.get("transfer-encoding"),
            request.fields.all("content-length"),
        ) {
            (None, lengths) if lengths.is_empty() => Ok(()),
            (None, lengths) if lengths.len() == 1 => {
                let count = lengths[0].parse().map_err(|_| bad("Content-Length"))?;
                request.body = self.exactly(count)?;
                Ok(())
            }
            (Some("chunked"), lengths) if lengths.is_empty() => {
                let (mut body, mut trailers) = (Vec::new(), Fields::default());
                self.chunked(&mut body, &mut trailers)?;
                (request.body, request.trailers) = (body, trailers);
                Ok(())
            }
            other => Err(bad(format!("ambiguous framing {other:?}"))),
        }
    }

    /// The next request with its body.
    pub fn request(&mut self) -> io::Result<Option<Request>> {
        let Some(mut request) = self.request_head()? else {
            return Ok(None);
        };
        self.request_body(&mut request)?;
        Ok(Some(request))
    }

    /// The next response to a request with the given method; 1xx responses are returned too.
    pub fn response(&mut self, method: &str) -> io::Result<Response> {
        let (raw, first, fields) = self.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = first
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| bad(format!("status line {first:?}")))?;
        let mut response = Response {
            raw,
            status,
            fields,
            ..Response::default()
        };
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Ok(response);
        }
        let encoding = response.fields.get("transfer-encoding").map(str::to_owned);
        let lengths: Vec<String> = response
            .fields
            .all("content-length")
            .iter()
            .map(|s| (*s).to_owned())
            .collect();
        match (encoding.as_deref(), lengths.as_slice()) {
            (Some("chunked"), []) => {
                response.chunked = true;
                self.chunked(&mut response.body, &mut response.trailers)?;
            }
            (None, [length]) => {
                let count = length.parse().map_err(|_| bad("Content-Length"))?;
                response.body = self.exactly(count)?;
            }
            (None, []) => response.body = self.until_end()?,
            other => return Err(bad(format!("ambiguous framing {other:?}"))),
        }
        Ok(response)
    }
}

fn field(line: &str) -> io::Result<(String, String)> {
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| bad(format!("field {line:?}")))?;
    if name.is_empty() || name.contains(' ') || line.contains('\n') || line.contains('\r') {
        return Err(bad(format!("field {line:?}")));
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}
