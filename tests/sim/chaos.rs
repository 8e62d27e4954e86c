//! Everything at once: clients, servers and a network that fail at random. Whatever happens, no
//! byte of one exchange reaches another, every request has one end, and nothing stays behind.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use proxyd::metric::label::Class;
use proxyd::rt;
use proxyd::rt::sim::{Weather, net};

use super::house::{Proxy, sleep_ms, with_seeds};
use super::peer::{Broken, Client, Kind, Message, Peer, Seen, Server};

const SERVERS: [&str; 3] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];

fn below(n: u64) -> u64 {
    net().random() % n
}

fn one_in(n: u64) -> bool {
    below(n) == 0
}

/// A payload that says whose it is, all the way.
fn payload(tag: u64, size: usize) -> Vec<u8> {
    format!("<{tag}>")
        .into_bytes()
        .into_iter()
        .cycle()
        .take(size)
        .collect()
}

fn size() -> usize {
    let most = [1, 100, 3000, 20_000, 150_000][below(5) as usize];
    below(most) as usize
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(1 + below(5000) as usize) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// What all sides have seen.
#[derive(Default)]
struct Book {
    next_tag: Cell<u64>,
    /// Requests that a server got whole, by tag.
    served: RefCell<HashMap<u64, u32>>,
    /// Requests that clients have sent to their end.
    sent: Cell<u64>,
    /// Final responses that clients got whole, by class.
    got: RefCell<HashMap<&'static str, u64>>,
    /// Connections that broke under a client.
    broken: Cell<u64>,
}

impl Book {
    fn tag(&self) -> u64 {
        self.next_tag.set(self.next_tag.get() + 1);
        self.next_tag.get()
    }

    fn note(&self, answer: &Message) {
        let class = Class::of(answer.status()).as_str();
        *self.got.borrow_mut().entry(class).or_default() += 1;
    }
}

/// One connection of a server that is in a bad mood now and then.
async fn serve(mut peer: Peer, seen: Seen, book: Rc<Book>) {
    loop {
        let Ok(head) = peer.head().await else { return };
        let tag: u64 = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
        if one_in(30) {
            // It answers before it has read the body, and hangs up.
            let _sent = peer
                .send("HTTP/1.1 403 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                .await;
            return;
        }
        let request = match peer.body(head, Kind::Request).await {
            Ok(request) => request,
            Err(broken) => {
                seen.broken.borrow_mut().push(broken);
                return;
            }
        };
        assert_eq!(
            request.body,
            payload(tag, request.body.len()),
            "a mixed request"
        );
        *book.served.borrow_mut().entry(tag).or_default() += 1;
        if one_in(4) {
            sleep_ms(below(400)).await;
        }
        if !answer(&mut peer, tag).await {
            if one_in(2) {
                peer.reset();
            }
            return;
        }
    }
}

/// Answers in one of many ways; false when the connection ends with it.
async fn answer(peer: &mut Peer, tag: u64) -> bool {
    let body = payload(tag, size());
    let head = format!("HTTP/1.1 200 OK\r\nX-Tag: {tag}\r\n");
    let length = format!("{head}Content-Length: {}\r\n", body.len());
    let plain = [format!("{length}\r\n").as_bytes(), &body].concat();
    let coded = [
        format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes(),
        &chunked(&body),
    ]
    .concat();
    match below(24) {
        0 => false,
        1 => {
            // Cut off anywhere.
            let whole = if one_in(2) { plain } else { coded };
            let part = below(whole.len() as u64) as usize;
            let _sent = peer.send(&whole[..part]).await;
            false
        }
        2 => {
            let _sent = peer.send(format!("{head}\r\n")).await;
            let _sent = peer.send(&body).await;
            peer.finish().await;
            sleep_ms(below(50)).await;
            // What the proxy has closed must not become a reset here.
            let _rest = rt::timeout(Duration::from_secs(2), peer.rest()).await;
            false
        }
        3 => {
            let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 C\r\n\r\n";
            peer.send(hints).await && peer.send(plain).await
        }
        4 | 5 => {
            let _sent = peer.send(format!("{head}Content-Length: x\r\n\r\n")).await;
            false
        }
        6 => {
            let pause = Duration::from_millis(below(30));
            peer.drip(&plain, 1 + plain.len() / 10, pause).await
        }
        7 => {
            peer.send(format!(
                "HTTP/1.1 503 Busy\r\nX-Tag: {tag}\r\nContent-Length: 0\r\n\r\n"
            ))
            .await
        }
        8 => {
            sleep_ms(4000).await;
            false
        }
        9..=15 => peer.send(coded).await,
        _ => peer.send(plain).await,
    }
}

/// What a client expects of a request that it has sent.
struct Sent {
    tag: u64,
    head: bool,
}

fn request(book: &Book) -> (Vec<u8>, Sent) {
    let tag = book.tag();
    let body = payload(tag, size());
    let host = "Host: a\r\n";
    let (bytes, head) = match below(8) {
        0 => (
            format!("HEAD /{tag} HTTP/1.1\r\n{host}\r\n").into_bytes(),
            true,
        ),
        1..=3 => (
            format!("GET /{tag} HTTP/1.1\r\n{host}\r\n").into_bytes(),
            false,
        ),
        4 | 5 => {
            let method = if one_in(2) { "PUT" } else { "POST" };
            let length = body.len();
            let head =
                format!("{method} /{tag} HTTP/1.1\r\n{host}Content-Length: {length}\r\n\r\n");
            ([head.as_bytes(), &body].concat(), false)
        }
        _ => {
            let head = format!("POST /{tag} HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n");
            ([head.as_bytes(), &chunked(&body)].concat(), false)
        }
    };
    (bytes, Sent { tag, head })
}

/// Reads the final response and checks that it belongs to the request. `Ok(false)`: the proxy
/// closes the connection after it.
async fn read(client: &mut Client, sent: &Sent, book: &Book) -> Result<bool, Broken> {
    loop {
        let kind = if sent.head {
            Kind::Bodiless
        } else {
            Kind::Response
        };
        let got = rt::timeout(Duration::from_secs(120), client.message(kind));
        let answer = got.await.expect("an end of every request")?;
        if answer.status() < 200 {
            assert_ne!(answer.status(), 101);
            continue;
        }
        book.note(&answer);
        if answer.status() == 200 {
            assert_eq!(
                answer.field("x-tag"),
                Some(&*sent.tag.to_string()),
                "of another request"
            );
            assert_eq!(
                answer.body,
                payload(sent.tag, answer.body.len()),
                "a mixed response"
            );
        } else if let Some(tag) = answer.field("x-tag") {
            assert_eq!(tag, sent.tag.to_string());
        }
        return Ok(!answer.closes());
    }
}

/// A client that does one thing after another on one connection until it ends.
async fn client(book: Rc<Book>) {
    let mut client = Client::new().await;
    for _ in 0..1 + below(8) {
        let (bytes, first) = request(&book);
        match below(14) {
            0 => {
                // Gone in the middle of a request, or behind it.
                let part = below(bytes.len() as u64 + 1) as usize;
                let _sent = client.send(&bytes[..part]).await;
                sleep_ms(below(20)).await;
                if one_in(2) {
                    client.0.reset();
                }
                return;
            }
            1 => {
                client.send("BROKEN\r\n\r\n").await;
                let answer = client.response().await;
                if let Ok(answer) = answer {
                    assert_eq!(answer.status(), 400);
                    book.note(&answer);
                }
                return;
            }
            2 | 3 => {
                // Several at once.
                let mut all = bytes;
                let mut expected = vec![first];
                for _ in 0..below(4) {
                    let (more, next) = request(&book);
                    all.extend(more);
                    expected.push(next);
                }
                let count = expected.len() as u64;
                if client.send(all).await {
                    book.sent.set(book.sent.get() + count);
                }
                for sent in &expected {
                    match read(&mut client, sent, &book).await {
                        Ok(true) => {}
                        Ok(false) => return,
                        Err(_) => {
                            book.broken.set(book.broken.get() + 1);
                            return;
                        }
                    }
                }
                continue;
            }
            4 => {
                let pause = Duration::from_millis(below(20));
                let piece = 1 + bytes.len() / 15;
                let _sent = client.drip(&bytes, piece, pause).await;
            }
            _ => {
                let _sent = client.send(&bytes).await;
            }
        }
        book.sent.set(book.sent.get() + 1);
        match read(&mut client, &first, &book).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => {
                book.broken.set(book.broken.get() + 1);
                return;
            }
        }
        if one_in(6) {
            sleep_ms(below(1500)).await;
        }
    }
}

/// Makes trouble until it is stopped.
async fn trouble(end: Rc<Cell<bool>>) {
    while !end.get() {
        sleep_ms(20 + below(300)).await;
        let server = SERVERS[below(3) as usize].parse().unwrap();
        match below(8) {
            0 => {
                net().reset_connections(server);
            }
            1 => net().refuse(server),
            2 if one_in(3) => net().black_hole(server),
            3 if one_in(3) => {
                net().reset_connections(super::house::FRONT.parse().unwrap());
            }
            4 => net().set_weather(Weather {
                latency_max: Duration::from_micros(100 + below(20_000)),
                segment_max: 1 + below(9000) as usize,
                window: 500 + below(80_000) as usize,
                ..Weather::default()
            }),
            _ => net().heal(server),
        }
    }
    for server in SERVERS {
        net().heal(server.parse().unwrap());
    }
    net().set_weather(Weather::default());
}

/// Counts a task as long as it lives.
struct Running(Rc<Cell<u32>>);

impl Running {
    fn new(count: &Rc<Cell<u32>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn check(proxy: &Proxy, book: &Book) {
    // A client sees at most what is recorded; what it does not see broke under it.
    let mut seen = 0;
    for class in Class::ALL {
        let got = book.got.borrow().get(class.as_str()).copied().unwrap_or(0);
        assert!(got <= proxy.recorded(*class), "{}: {got}", class.as_str());
        seen += got;
    }
    assert!(seen <= proxy.all_recorded());
    assert!(seen > 50, "some of it has to work: {seen}");
    for (tag, times) in book.served.borrow().iter() {
        assert!(*times <= 3, "request {tag} was served {times} times");
    }
}

fn storm(route: &'static str, listener: &'static str) {
    with_seeds(|seed| async move {
        let upstream = format!(
            "servers = {SERVERS:?}\npool = {{ max = 6, max_idle = 4, max_requests = 20 }}\n\
             queue = {{ timeout = \"2s\" }}"
        );
        let proxy = Proxy::with_upstream(&upstream, listener, route, seed);
        let book = Rc::<Book>::default();
        let servers: Vec<Server> = SERVERS
            .iter()
            .map(|addr| {
                let book = Rc::clone(&book);
                Server::raw(addr, move |peer, seen| serve(peer, seen, Rc::clone(&book)))
            })
            .collect();
        let end = Rc::<Cell<bool>>::default();
        rt::spawn(trouble(Rc::clone(&end))).detach();
        let running = Rc::new(Cell::new(0));
        for _ in 0..8 {
            let (book, running) = (Rc::clone(&book), Running::new(&running));
            rt::spawn(async move {
                for _ in 0..8 {
                    client(Rc::clone(&book)).await;
                }
                drop(running);
            })
            .detach();
        }
        let begun = rt::now();
        while running.get() > 0 {
            sleep_ms(100).await;
            assert!(
                rt::now() - begun < Duration::from_secs(7200),
                "a client hangs"
            );
        }
        end.set(true);
        sleep_ms(3000).await;
        check(&proxy, &book);
        proxy.assert_over().await;
        // It works as if nothing had been.
        drop(servers);
        sleep_ms(50).await;
        let _good: Vec<Server> = SERVERS.iter().map(|addr| Server::good(addr)).collect();
        sleep_ms(11_000).await;
        for _ in 0..12 {
            Client::new().await.assert_works().await;
        }
        proxy.assert_over().await;
    });
}

#[test]
fn a_storm_over_streamed_bodies() {
    storm(
        "timeouts = { response_header = \"3s\", response_body = \"3s\" }",
        "",
    );
}

#[test]
fn a_storm_over_kept_bodies() {
    storm(
        "buffering = { request = \"16KiB\" }\nearly_hints = true\n\
         retry = { on = [\"timeout\", \"503\"], budget = \"50%\" }\n\
         timeouts = { response_header = \"3s\", response_body = \"3s\", total = \"20s\" }",
        "limits = { retry_buffer = \"64KiB\" }\nkeepalive = { requests = 6 }",
    );
}

/// POST is never carried out twice, whatever the network does.
#[test]
fn what_is_not_idempotent_is_done_at_most_once() {
    with_seeds(|seed| async move {
        let proxy = Proxy::with_upstream(
            &format!("servers = {SERVERS:?}"),
            "",
            "buffering = { request = \"on\" }",
            seed,
        );
        let done = Rc::<RefCell<HashMap<String, u32>>>::default();
        let _servers: Vec<Server> = SERVERS
            .iter()
            .map(|addr| {
                let done = Rc::clone(&done);
                Server::raw(addr, move |mut peer, _| {
                    let done = Rc::clone(&done);
                    async move {
                        while let Ok(request) = peer.message(Kind::Request).await {
                            *done
                                .borrow_mut()
                                .entry(request.text().to_owned())
                                .or_default() += 1;
                            if one_in(4)
                                || !peer
                                    .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                                    .await
                            {
                                return;
                            }
                            if one_in(5) {
                                sleep_ms(below(4)).await;
                                return;
                            }
                        }
                    }
                })
            })
            .collect();
        let end = Rc::<Cell<bool>>::default();
        rt::spawn(trouble(Rc::clone(&end))).detach();
        let mut good = 0;
        for n in 0..120 {
            sleep_ms(below(500)).await;
            let mut client = Client::new().await;
            if client
                .post("/", format!("order {n}").as_bytes())
                .await
                .is_ok_and(|a| a.status() == 200)
            {
                good += 1;
                let count = done.borrow().get(&format!("order {n}")).copied();
                assert_eq!(count, Some(1), "order {n}");
            }
        }
        end.set(true);
        sleep_ms(5000).await;
        assert!(good > 0);
        assert!(done.borrow().values().all(|times| *times == 1));
        proxy.assert_over().await;
    });
}
