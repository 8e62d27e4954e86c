//! A mock DNS server on UDP: answers A and AAAA questions from a table that a test can change.

use simple_dns::{CLASS, Name, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE, rdata};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What to answer for a name.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These addresses with this time to live in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// The name does not exist.
    Unknown,
    /// The server fails.
    Failure,
    /// Nothing comes back.
    Silence,
}

#[derive(Debug, Default)]
struct Table {
    answers: HashMap<String, Answer>,
    asked: HashMap<String, usize>,
    stop: bool,
}

/// The server.
#[derive(Debug)]
pub struct Dns {
    /// Where it listens.
    pub addr: SocketAddr,
    table: Arc<Mutex<Table>>,
}

impl Dns {
    /// Starts a server that knows no name.
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let addr = socket.local_addr().unwrap();
        let table = Arc::new(Mutex::new(Table::default()));
        let shared = Arc::clone(&table);
        std::thread::spawn(move || {
            let mut buffer = [0_u8; 1500];
            while !shared.lock().unwrap().stop {
                if let Ok((count, peer)) = socket.recv_from(&mut buffer)
                    && let Some(reply) = answer(&buffer[..count], &mut shared.lock().unwrap())
                {
                    socket.send_to(&reply, peer).ok();
                }
            }
        });
        Self { addr, table }
    }

    /// Sets the answer of a name.
    pub fn set(&self, name: &str, answer: Answer) {
        self.table
            .lock()
            .unwrap()
            .answers
            .insert(name.to_owned(), answer);
    }

    /// Sets the addresses of a name.
    pub fn point(&self, name: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        self.set(name, Answer::Addresses(addresses, ttl));
    }

    /// How often a name was asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.table
            .lock()
            .unwrap()
            .asked
            .get(name)
            .copied()
            .unwrap_or(0)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.table.lock().unwrap().stop = true;
    }
}

fn answer(bytes: &[u8], table: &mut Table) -> Option<Vec<u8>> {
    let query = simple_dns::Packet::parse(bytes).ok()?;
    let question = query.questions.first()?.clone();
    let name = question.qname.to_string().to_ascii_lowercase();
    *table.asked.entry(name.clone()).or_default() += 1;
    let mut reply = simple_dns::Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE | PacketFlag::RECURSION_DESIRED);
    match table.answers.get(&name).cloned().unwrap_or(Answer::Unknown) {
        Answer::Silence => return None,
        Answer::Unknown => *reply.rcode_mut() = RCODE::NameError,
        Answer::Failure => *reply.rcode_mut() = RCODE::ServerFailure,
        Answer::Addresses(addresses, ttl) => {
            for address in addresses {
                let data = match (address, question.qtype) {
                    (IpAddr::V4(v4), QTYPE::TYPE(TYPE::A)) => {
                        rdata::RData::A(rdata::A { address: v4.into() })
                    }
                    (IpAddr::V6(v6), QTYPE::TYPE(TYPE::AAAA)) => {
                        rdata::RData::AAAA(rdata::AAAA { address: v6.into() })
                    }
                    _ => continue,
                };
                let owner = Name::new_unchecked(&name).into_owned();
                reply
                    .answers
                    .push(ResourceRecord::new(owner, CLASS::IN, ttl, data));
            }
        }
    }
    reply.questions.push(question);
    reply.build_bytes_vec().ok()
}
