//! The demo server over a real socket, in a thread of the test.

use super::*;
use crate::process::worker::{Listening, Port};
use crate::proto::control::Drain;
use crate::sys::fdpass;
use crate::sys::socket::Local;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

struct Running {
    listener: TcpListener,
    _control: OwnedFd,
}

/// Two servers in one process, as for an upstream of two.
fn start() -> [Running; 2] {
    let (master, child) = fdpass::pair().unwrap();
    let alone = Drain {
        ordinary: None,
        upgraded: None,
        stopping: true,
    };
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let sockets = listeners
        .iter()
        .enumerate()
        .map(|(place, listener)| Listening {
            place,
            local: Local::Ip(listener.local_addr().unwrap()),
            fd: listener.try_clone().unwrap().into(),
        });
    let context = HelperContext {
        generation: 1,
        sockets: sockets.collect(),
        port: Port::new(child, Vec::new(), alone),
        column: None,
        logs: Vec::new(),
    };
    std::thread::spawn(move || run(context));
    listeners.map(|listener| Running {
        listener,
        _control: master.try_clone().unwrap(),
    })
}

impl Running {
    fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = self.send(request);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }

    fn get(&self, path: &str) -> String {
        let end = "host: demo.test\r\nconnection: close\r\n\r\n";
        self.ask(&format!("GET {path} HTTP/1.1\r\nx-a: é\r\n{end}"))
    }
}

#[test]
fn the_page_says_which_server_answered() {
    let [one, two] = start();
    assert!(one.get("/").contains("x-demo-server: 1\r\n"));
    let page = two.get("/");
    assert!(page.contains("x-demo-server: 2\r\n") && page.contains("demo server <b>2</b>"));
}

#[test]
fn headers_come_back_as_text() {
    let [server, _] = start();
    let text = server.get("/headers?a=1");
    assert!(text.contains("GET /headers?a=1 HTTP/1.1\n"), "{text}");
    assert!(text.contains("host: demo.test\n"));
    assert!(text.contains("x-a: \\xc3\\xa9\n"));
}

#[test]
fn bytes_status_and_delay_do_as_they_are_told() {
    let [server, _] = start();
    let bytes = server.get("/bytes/200000");
    assert!(bytes.contains("content-length: 200000\r\n"));
    assert_eq!(bytes.split_once("\r\n\r\n").unwrap().1.len(), 200_000);
    assert!(server.get("/bytes/0").ends_with("\r\n\r\n"));
    assert!(server.get("/status/418").starts_with("HTTP/1.1 418 "));
    let begun = std::time::Instant::now();
    assert!(server.get("/delay/50").ends_with("Waited 50 ms.\n"));
    assert!(begun.elapsed() >= Duration::from_millis(50));
    for wrong in [
        "/bytes/x",
        "/bytes",
        "/status/99",
        "/status/600",
        "/delay/999999",
    ] {
        assert!(server.get(wrong).starts_with("HTTP/1.1 400 "), "{wrong}");
    }
    assert!(server.get("/nothing").starts_with("HTTP/1.1 404 "));
}

#[test]
fn what_is_posted_comes_back() {
    let [server, _] = start();
    let head = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-type: a/b\r\nconnection: close\r\n";
    let answer = server.ask(&format!("{head}content-length: 5\r\n\r\nhello"));
    assert!(answer.contains("content-type: a/b\r\n") && answer.ends_with("hello"));
    let chunks = "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert!(server.ask(&format!("{head}{chunks}")).contains("abc"));
    assert!(server.get("/echo").contains("POST something"));
}

#[test]
fn streams_come_piece_by_piece() {
    let [server, _] = start();
    let text = server.get("/stream");
    assert!(text.contains("transfer-encoding: chunked\r\n"));
    assert!(text.contains("piece 1 of 10") && text.contains("piece 10 of 10"));
    let mut events = server.send("GET /events HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut seen = String::new();
    while !seen.contains("\"tick\":1") {
        let mut buf = [0; 1024];
        let n = events.read(&mut buf).unwrap();
        assert!(n > 0);
        seen.push_str(std::str::from_utf8(&buf[..n]).unwrap());
    }
    assert!(seen.contains("content-type: text/event-stream\r\n"));
}
