//! The TLS streams of the library on real sockets of the event loop, against OpenSSL as client
//! and as server: versions, tickets over two workers, key updates, large transfers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::time::Duration;

use proxyd::base::addr::Endpoint;
use proxyd::base::time::Instant;
use proxyd::io::Stream as _;
use proxyd::net::Conn;
use proxyd::net::tls::client::{self, Client, Sessions};
use proxyd::net::tls::params::{ClientParams, ServerParams, TicketParams, TlsVersion, Verify};
use proxyd::net::tls::server::{self, Server};
use proxyd::net::tls::store::Catalog;
use proxyd::net::tls::trust::SystemRoots;
use proxyd::net::tls::wire::Bundle;
use proxyd::net::tls::{crypto, self_signed, ticket};
use proxyd::rt::sock::{ConnectOpts, TcpListener};
use proxyd::rt::{self, Runtime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const PATIENCE: Duration = Duration::from_secs(20);

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_secs()).unwrap()
}

/// One self-signed certificate for `a.test`.
fn bundle() -> Bundle {
    let month = Duration::from_secs(30 * 86_400);
    Bundle {
        name: "site".into(),
        hosts: Vec::new(),
        pairs: vec![self_signed::generate(&["a.test".into()], month, now()).unwrap()],
    }
}

fn ticket_words() -> &'static [AtomicU64] {
    let words: &_ = Vec::leak((0..ticket::WORDS).map(|_| AtomicU64::new(0)).collect());
    let mut bytes = [0; ticket::FIRST_BYTES];
    crypto::random(&mut bytes).unwrap();
    ticket::rotate(words, &bytes, Instant::ZERO).unwrap();
    words
}

fn tls_server(bundle: &Bundle, words: &'static [AtomicU64]) -> Server {
    let mut catalog = Catalog::new();
    catalog.insert(bundle).unwrap();
    let params = ServerParams {
        certificates: vec!["site".into()],
        default: String::new(),
        min_version: TlsVersion::V12,
        max_version: TlsVersion::V13,
        alpn: vec!["http/1.1".into()],
        client_auth: None,
        tickets: TicketParams::default(),
    };
    Server::new(server::Setup {
        listener: "web",
        params: &params,
        catalog: &catalog,
        trust: None,
        ticket_words: Some(words),
    })
    .unwrap()
}

/// Answers every line with the facts of the session and the line, until the client ends.
async fn answer(mut conn: Conn) -> std::io::Result<()> {
    let facts = conn.tls_facts().unwrap();
    let prefix = format!(
        "{} sni={} resumed={} ",
        facts.version,
        facts.sni.as_deref().unwrap_or("-"),
        facts.resumed
    );
    let mut buf = vec![0; 16 * 1024];
    loop {
        let n = conn.read(&mut buf).await?;
        if n == 0 {
            return conn.shutdown().await;
        }
        let text = String::from_utf8_lossy(&buf[..n]).into_owned();
        conn.write_all(format!("{prefix}{text}").as_bytes()).await?;
        conn.flush().await?;
    }
}

/// A worker: a thread with an event loop that serves [`answer`].
fn worker(bundle: Bundle, words: &'static [AtomicU64]) -> SocketAddr {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = Runtime::new(rt::Config::default()).unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let server = tls_server(&bundle, words);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut tls = server.accept(Conn::Tcp(stream)).unwrap();
                rt::spawn(async move {
                    if tls.handshake(PATIENCE).await.is_ok() {
                        drop(answer(tls.into()).await);
                    }
                })
                .detach();
            }
        });
    });
    told.recv().unwrap()
}

/// Sends every line of `output`, from a thread of its own.
fn forward(output: impl std::io::Read + Send + 'static, tell: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if tell
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                return;
            }
        }
    });
}

/// `openssl s_client`, spoken to line by line.
struct SClient {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl SClient {
    fn start(addr: SocketAddr, args: &[&str]) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_client", "-connect", &addr.to_string()])
            .args(["-servername", "a.test"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, lines) = mpsc::channel();
        forward(child.stdout.take().unwrap(), tell.clone());
        forward(child.stderr.take().unwrap(), tell);
        Self { child, lines }
    }

    fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    /// The next line of output with this text in it.
    fn hears(&self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("`{text}` did not come"));
            if line.contains(text) {
                return line;
            }
        }
    }
}

impl Drop for SClient {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn openssl_speaks_both_versions_with_us() {
    let addr = worker(bundle(), ticket_words());
    for (flag, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let mut client = SClient::start(addr, &[flag]);
        client.say("hello");
        let expected = format!("{version} sni=a.test resumed=false hello");
        assert_eq!(client.hears("hello"), expected);
    }
}

#[test]
fn openssl_resumes_on_another_worker() {
    let (bundle, words) = (bundle(), ticket_words());
    let workers = [worker(bundle.clone(), words), worker(bundle, words)];
    let dir = tempfile::tempdir().unwrap();
    for flag in ["-tls1_2", "-tls1_3"] {
        let file = dir.path().join(flag);
        let file = file.to_str().unwrap();
        let mut client = SClient::start(workers[0], &[flag, "-sess_out", file]);
        client.say("first line");
        assert!(client.hears("first line").contains("resumed=false"));
        // The tickets came before the answer, so they are in the file by now or very soon.
        client.say("second line");
        client.hears("second line");
        let mut client = SClient::start(workers[1], &[flag, "-sess_in", file]);
        client.say("third line");
        assert!(
            client.hears("third line").contains("resumed=true"),
            "{flag}"
        );
    }
}

#[test]
fn keys_are_updated_when_the_peer_asks() {
    let addr = worker(bundle(), ticket_words());
    let mut client = SClient::start(addr, &["-tls1_3"]);
    client.say("before");
    client.hears("before");
    for round in 0..3 {
        // A line with this letter alone makes s_client send a key update and ask for one.
        client.say("K");
        client.hears("KEYUPDATE");
        client.say(&format!("after {round}"));
        client.hears(&format!("after {round}"));
    }
}

/// A client of ours on one connection, run to its end on a loop of its own.
fn on_loop<T>(work: impl Future<Output = T>) -> T {
    Runtime::new(rt::Config::default()).unwrap().block_on(work)
}

fn tls_client(verify: Verify) -> Client {
    let params = ClientParams {
        verify,
        ca: None,
        sni: Some("a.test".into()),
        client_certificate: None,
        min_version: TlsVersion::V12,
        alpn: Vec::new(),
    };
    Client::new(client::Setup {
        params: &params,
        roots: &SystemRoots::none(),
        trust: None,
        catalog: &Catalog::new(),
    })
    .unwrap()
}

async fn connect(addr: SocketAddr, client: &Client, sessions: &Sessions) -> Conn {
    let conn = Conn::tcp(addr, &ConnectOpts::default()).await.unwrap();
    let server = Endpoint::parse(&addr.to_string()).unwrap();
    let mut tls = client.connect(conn, &server, sessions).unwrap();
    tls.handshake(PATIENCE).await.unwrap();
    tls.into()
}

#[test]
fn a_large_transfer_both_ways_at_once_is_whole() {
    const TOTAL: usize = 8 << 20;
    let pattern: Vec<u8> = (0..TOTAL).map(|i| (i / 3) as u8).collect();
    let (ours, theirs) = (pattern.clone(), pattern.clone());
    on_loop(async move {
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let server = tls_server(&bundle(), ticket_words());
        rt::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut tls = server.accept(Conn::Tcp(stream)).unwrap();
            tls.handshake(PATIENCE).await.unwrap();
            exchange(tls.into(), theirs).await;
        })
        .detach();
        let client = tls_client(Verify::Off);
        let conn = connect(addr, &client, &Sessions::new()).await;
        let got = exchange(conn, ours).await;
        assert!(got == pattern);
    });
}

/// Sends everything while receiving as much, ends cleanly, and returns what came.
async fn exchange(conn: Conn, bytes: Vec<u8>) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(conn);
    let (tell, told) = rt::chan::oneshot();
    rt::spawn(async move {
        writer.write_all(&bytes).await.unwrap();
        writer.shutdown().await.unwrap();
        tell.send(()).unwrap();
    })
    .detach();
    let mut got = Vec::new();
    reader.read_to_end(&mut got).await.unwrap();
    told.await.unwrap();
    got
}

#[test]
fn we_speak_both_versions_with_openssl_and_resume() {
    let dir = tempfile::tempdir().unwrap();
    let pair = bundle().pairs.remove(0);
    let file = dir.path().join("both.pem");
    let mut text = pair.chain.clone();
    text.extend_from_slice(pair.key.expose_secret());
    std::fs::write(&file, text).unwrap();
    let ders = proxyd::net::tls::cert::certificates(&pair.chain).unwrap();
    let pin = proxyd::net::tls::pin_of(&ders[0]).unwrap();
    for (flag, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "0", "-www", flag, "-cert"])
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let addr = accept_addr(&mut child);
        let client = tls_client(Verify::Pin(pin));
        let (first, second) = on_loop(async {
            let sessions = Sessions::new();
            (
                get(addr, &client, &sessions).await,
                get(addr, &client, &sessions).await,
            )
        });
        drop(child.kill());
        drop(child.wait());
        assert_eq!(first, (version, false));
        assert_eq!(second, (version, true));
    }
}

/// The address that `s_server` prints when it listens.
fn accept_addr(child: &mut Child) -> SocketAddr {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("ACCEPT") {
        line.clear();
        assert!(
            output.read_line(&mut line).unwrap() > 0,
            "s_server did not start"
        );
    }
    let port = line.trim().rsplit(':').next().unwrap().to_owned();
    // It must not stop because nobody reads its output.
    std::thread::spawn(move || drop(output.read_to_end(&mut Vec::new())));
    format!("127.0.0.1:{port}").parse().unwrap()
}

async fn get(addr: SocketAddr, client: &Client, sessions: &Sessions) -> (&'static str, bool) {
    let mut conn = connect(addr, client, sessions).await;
    let facts = conn.tls_facts().unwrap().clone();
    conn.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    conn.flush().await.unwrap();
    let mut page = Vec::new();
    drop(conn.read_to_end(&mut page).await);
    assert!(page.starts_with(b"HTTP/1.0 200"));
    (facts.version, facts.resumed)
}
