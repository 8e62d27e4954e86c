//! The listening sockets of the house. They belong to the master and outlive every generation,
//! so a worker that leaves or dies takes no waiting connection with it.
//!
//! With `reuseport` every event loop has its own socket of each listener. A socket is never given
//! up while its listener lives: with fewer loops than sockets the kernel is told to hand new
//! connections to the first ones only, and the others are accepted from beside them, so whatever
//! waits there is served. Growing works the same way round: a new socket gets its first
//! connection when there is somebody to accept it, not before.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::base::addr::BindAddr;
use crate::conf::model::AcceptMode;
use crate::process::program::Listen;
use crate::process::worker::Listening;
use crate::sys::socket::{self, Local, Options};

/// An address; with port 0, whose it is too, because each such one is another port.
type Key = (BindAddr, String);

/// For whom sockets are, and how they are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// Which processes accept from them; two kinds never share a chosen port.
    pub kind: &'static str,
    /// How.
    pub mode: AcceptMode,
    /// How many event loops share them.
    pub loops: usize,
}

/// All sockets of one place.
#[derive(Debug)]
struct Place {
    name: String,
    local: Local,
    /// The file of a Unix socket that we made.
    file: Option<PathBuf>,
    sockets: Vec<OwnedFd>,
    /// The sockets that get new connections; `None`: the kernel was never told, and spreads them
    /// over all.
    active: Option<Vec<usize>>,
    /// The line for the log was written.
    announced: bool,
}

/// The sockets by place.
#[derive(Debug, Default)]
pub struct Sockets {
    places: BTreeMap<Key, Place>,
    /// Those of socket activation, kept for a configuration that names them.
    inherited: BTreeMap<String, Vec<OwnedFd>>,
}

/// What one generation uses: for undoing it, and for handing it out.
#[derive(Clone, Debug)]
pub struct Claim {
    keys: Vec<Key>,
    sharing: Sharing,
    /// What was made for this generation: places, and sockets added to places.
    new_places: Vec<Key>,
    added: Vec<(Key, usize)>,
}

impl Sockets {
    /// With the sockets of socket activation.
    #[must_use]
    pub fn new(inherited: Vec<(String, OwnedFd)>) -> Self {
        let mut by_name: BTreeMap<String, Vec<OwnedFd>> = BTreeMap::new();
        for (name, fd) in inherited {
            by_name.entry(name).or_default().push(fd);
        }
        Self {
            places: BTreeMap::new(),
            inherited: by_name,
        }
    }

    /// Opens what is missing for a generation; what serves already is not touched.
    ///
    /// # Errors
    /// Which address cannot be used, and why. Nothing is left open then.
    pub fn claim(&mut self, listen: &[Listen], sharing: Sharing) -> Result<Claim, String> {
        let mut claim = Claim {
            keys: Vec::new(),
            sharing,
            new_places: Vec::new(),
            added: Vec::new(),
        };
        for wanted in listen {
            if let Err(error) = self.claim_one(wanted, &mut claim) {
                let text = explain(wanted, &error);
                self.release(&claim);
                return Err(text);
            }
        }
        Ok(claim)
    }

    fn claim_one(&mut self, wanted: &Listen, claim: &mut Claim) -> std::io::Result<()> {
        let key = claim.key(wanted);
        if !self.places.contains_key(&key) {
            let sockets = self.first_sockets(wanted)?;
            let local = sockets
                .first()
                .ok_or(std::io::ErrorKind::NotFound)
                .map(socket::local)??;
            let file = match &wanted.bind {
                BindAddr::Unix(path) => Some(path.clone()),
                _ => None,
            };
            let place = Place {
                name: wanted.name.clone(),
                local,
                file,
                sockets,
                active: None,
                announced: false,
            };
            self.places.insert(key.clone(), place);
            claim.new_places.push(key.clone());
        }
        claim.keys.push(key.clone());
        let target = claim.sockets_of(&key);
        let is_new = claim.new_places.contains(&key);
        if let Some(place) = self.places.get_mut(&key) {
            place.name.clone_from(&wanted.name);
            let added = place.grow(wanted, target, is_new)?;
            if added > 0 && !is_new {
                claim.added.push((key, added));
            }
        }
        Ok(())
    }

    fn first_sockets(&self, wanted: &Listen) -> std::io::Result<Vec<OwnedFd>> {
        let port = wanted.bind.port();
        // A place of ours on the same port, such as `:80` beside `127.0.0.1:80`, is no stranger.
        let ours = self.places.values().any(|p| p.port() == port);
        let options = Options {
            backlog: wanted.backlog,
            first: !ours,
        };
        let one = match &wanted.bind {
            BindAddr::Ip(addr) => socket::listen_tcp(*addr, options)?,
            BindAddr::Any(port) => socket::listen_both(*port, options)?,
            BindAddr::Unix(path) => socket::listen_unix(path, wanted.mode, options)?,
            BindAddr::Inherited(name) => {
                let sockets = self.inherited.get(name);
                return sockets
                    .ok_or(std::io::ErrorKind::NotFound)?
                    .iter()
                    .map(OwnedFd::try_clone)
                    .collect();
            }
        };
        Ok(vec![one])
    }

    /// Undoes the claim of a generation that never served.
    pub fn release(&mut self, claim: &Claim) {
        for (key, added) in &claim.added {
            if let Some(place) = self.places.get_mut(key) {
                let keep = place.sockets.len().saturating_sub(*added);
                place.sockets.truncate(keep);
            }
        }
        for key in &claim.new_places {
            self.places.remove(key);
        }
    }

    /// The generation serves: new connections go where its loops accept, and places that it does
    /// not use are closed. Returns what cannot be spread as wished, for the log.
    pub fn settle(&mut self, claims: &[&Claim]) -> Vec<String> {
        self.places
            .retain(|key, _| claims.iter().any(|claim| claim.keys.contains(key)));
        claims
            .iter()
            .flat_map(|claim| self.spread(claim, &[]))
            .collect()
    }

    /// New connections go where the loops of the claim accept, except to the absent ones, whose
    /// worker is not there for a while: nobody shall wait for it. Returns what cannot be spread
    /// as wished, for the log.
    pub fn spread(&mut self, claim: &Claim, absent: &[usize]) -> Vec<String> {
        let mut troubles = Vec::new();
        for key in &claim.keys {
            let count = claim.sockets_of(key);
            if let Some(place) = self.places.get_mut(key)
                && is_sharable(key)
                && let Err(error) = place.spread(count, absent)
            {
                troubles.push(format!("listener {}: {error}", place.name));
            }
        }
        troubles
    }

    /// Lines for places that serve now and were not told yet.
    pub fn announce(&mut self, claim: &Claim) -> Vec<String> {
        let mut lines = Vec::new();
        for key in &claim.keys {
            if let Some(place) = self.places.get_mut(key)
                && !place.announced
            {
                place.announced = true;
                let (local, name) = (&place.local, &place.name);
                lines.push(format!("listening on {local} (listener {name})"));
            }
        }
        lines
    }

    /// Where each place of the claim really is, in the order it was asked for.
    #[must_use]
    pub fn addresses(&self, claim: &Claim) -> Vec<Option<SocketAddr>> {
        let local = |key: &Key| match &self.places.get(key)?.local {
            Local::Ip(addr) => Some(*addr),
            Local::Unix(_) => None,
        };
        claim.keys.iter().map(local).collect()
    }

    /// The sockets from which event loop number `own` accepts, each as a descriptor of its own.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn of_loop(&self, claim: &Claim, own: usize) -> std::io::Result<Vec<Listening>> {
        let mut found = Vec::new();
        for (index, key) in claim.keys.iter().enumerate() {
            let Some(place) = self.places.get(key) else {
                continue;
            };
            let shared = claim.sharing.mode == AcceptMode::Shared || !is_sharable(key);
            let loops = claim.sharing.loops.max(1);
            for (number, fd) in place.sockets.iter().enumerate() {
                if shared || number % loops == own {
                    found.push(Listening {
                        place: index,
                        local: place.local.clone(),
                        fd: fd.try_clone()?,
                    });
                }
            }
        }
        Ok(found)
    }

    /// Closes everything and removes the files of Unix sockets: at the end of the master.
    pub fn close_all(&mut self) {
        self.places.clear();
    }
}

/// Whether a place can have several sockets.
fn is_sharable(key: &Key) -> bool {
    matches!(key.0, BindAddr::Ip(_) | BindAddr::Any(_))
}

impl Claim {
    fn key(&self, wanted: &Listen) -> Key {
        if wanted.bind.port() != Some(0) {
            return (wanted.bind.clone(), String::new());
        }
        let kind = self.sharing.kind;
        let mut copy = 0;
        loop {
            let key = (
                wanted.bind.clone(),
                format!("{kind} {} {copy}", wanted.name),
            );
            if !self.keys.contains(&key) {
                return key;
            }
            copy += 1;
        }
    }

    /// How many sockets get new connections.
    fn sockets_of(&self, key: &Key) -> usize {
        match self.sharing.mode {
            AcceptMode::Reuseport if is_sharable(key) => self.sharing.loops.max(1),
            AcceptMode::Reuseport | AcceptMode::Shared => 1,
        }
    }
}

impl Place {
    const fn port(&self) -> Option<u16> {
        match &self.local {
            Local::Ip(addr) => Some(addr.port()),
            Local::Unix(_) => None,
        }
    }

    /// Adds sockets up to `target`. While others serve already, a new one gets no connection
    /// before [`Place::spread`].
    fn grow(&mut self, wanted: &Listen, target: usize, is_new: bool) -> std::io::Result<usize> {
        let options = Options {
            backlog: wanted.backlog,
            first: false,
        };
        let before = self.sockets.len();
        if !is_new && before < target && self.active.is_none() {
            // Where the kernel does not let us choose, a connection may wait until the new
            // loops accept.
            let _without = self.tell((0..before).collect());
        }
        while self.sockets.len() < target {
            let fd = match (&wanted.bind, &self.local) {
                (BindAddr::Any(_), Local::Ip(addr)) if addr.is_ipv6() => {
                    socket::listen_both(addr.port(), options)?
                }
                (_, Local::Ip(addr)) => socket::listen_tcp(*addr, options)?,
                (_, Local::Unix(_)) => break,
            };
            self.sockets.push(fd);
        }
        Ok(self.sockets.len() - before)
    }

    /// New connections go to the first `count` sockets without those of absent loops.
    fn spread(&mut self, count: usize, absent: &[usize]) -> std::io::Result<()> {
        let first = 0..count.min(self.sockets.len());
        let present = first.clone().filter(|number| !absent.contains(number));
        let mut chosen: Vec<usize> = present.collect();
        // One socket for all needs no choice, and with nobody there they may as well wait.
        if chosen.is_empty() || count == 1 {
            chosen = first.collect();
        }
        let is_so = match &self.active {
            Some(active) => *active == chosen,
            // The kernel spreads over all by itself.
            None => chosen.len() == self.sockets.len(),
        };
        if is_so {
            return Ok(());
        }
        self.tell(chosen)
    }

    fn tell(&mut self, chosen: Vec<usize>) -> std::io::Result<()> {
        if let Some(fd) = self.sockets.first() {
            let number = |&number: &usize| u32::try_from(number).unwrap_or(0);
            let numbers: Vec<u32> = chosen.iter().map(number).collect();
            socket::spread_over(fd, &numbers)?;
            self.active = Some(chosen);
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(path) = &self.file {
            // A file that somebody removed before is no trouble.
            let _gone = std::fs::remove_file(path);
        }
    }
}

/// What is wrong with an address, in words.
fn explain(wanted: &Listen, error: &std::io::Error) -> String {
    let (bind, name) = (&wanted.bind, &wanted.name);
    let why = match (error.kind(), bind) {
        (std::io::ErrorKind::AddrInUse, BindAddr::Unix(_)) => {
            "another process listens on this socket".to_owned()
        }
        (std::io::ErrorKind::AddrInUse, _) => "the port is in use by another process".to_owned(),
        (std::io::ErrorKind::AlreadyExists, _) => {
            "a file that is not a socket is in the way".to_owned()
        }
        (std::io::ErrorKind::AddrNotAvailable, _) => "this host has no such address".to_owned(),
        (std::io::ErrorKind::PermissionDenied, _) => {
            "not allowed; a port below 1024 needs root or the capability net_bind_service"
                .to_owned()
        }
        (std::io::ErrorKind::NotFound, BindAddr::Inherited(_)) => {
            "the service manager handed over no socket of this name".to_owned()
        }
        _ => error.to_string(),
    };
    format!("listener {name}: cannot listen on {bind}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::os::fd::AsFd;

    fn at(name: &str, bind: &str) -> Listen {
        Listen {
            name: name.to_owned(),
            bind: BindAddr::parse(bind).unwrap(),
            backlog: 128,
            mode: 0o600,
        }
    }

    const fn each(loops: usize) -> Sharing {
        Sharing {
            kind: "worker",
            mode: AcceptMode::Reuseport,
            loops,
        }
    }

    const ONE: Sharing = Sharing {
        kind: "worker",
        mode: AcceptMode::Shared,
        loops: 4,
    };

    fn waiting(sockets: &Sockets) -> Vec<u32> {
        let place = sockets.places.values().next().unwrap();
        let count = |fd: &OwnedFd| socket::waiting(&fd.as_fd()).unwrap();
        place.sockets.iter().map(count).collect()
    }

    fn connect(sockets: &Sockets, claim: &Claim, count: usize) -> Vec<TcpStream> {
        let addr = sockets.addresses(claim)[0].unwrap();
        (0..count)
            .map(|_| TcpStream::connect(addr).unwrap())
            .collect()
    }

    #[test]
    fn each_loop_has_its_socket_and_a_reload_keeps_them() {
        let mut sockets = Sockets::new(Vec::new());
        let listen = [at("web", "127.0.0.1:0"), at("other", "127.0.0.1:0")];
        let first = sockets.claim(&listen, each(2)).unwrap();
        assert!(sockets.settle(&[&first]).is_empty());
        let addresses = sockets.addresses(&first);
        assert_ne!(addresses[0], addresses[1]);
        let lines = sockets.announce(&first);
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[0],
            format!("listening on {} (listener web)", addresses[0].unwrap())
        );
        assert_eq!(sockets.of_loop(&first, 0).unwrap().len(), 2);
        let _held = connect(&sockets, &first, 20);
        let before: u32 = waiting(&sockets).iter().sum();
        let second = sockets.claim(&listen, each(2)).unwrap();
        sockets.settle(&[&second]);
        assert_eq!(waiting(&sockets).iter().sum::<u32>(), before);
        assert_eq!(sockets.of_loop(&second, 1).unwrap().len(), 2);
        assert_eq!(addresses, sockets.addresses(&second));
        assert_eq!(sockets.announce(&second), Vec::<String>::new());
    }

    #[test]
    fn a_new_socket_gets_no_connection_before_its_loop_serves() {
        let mut sockets = Sockets::new(Vec::new());
        let listen = [at("web", "127.0.0.1:0")];
        let first = sockets.claim(&listen, each(1)).unwrap();
        sockets.settle(&[&first]);
        let second = sockets.claim(&listen, each(3)).unwrap();
        let _held = connect(&sockets, &second, 30);
        assert_eq!(waiting(&sockets), [30, 0, 0]);
        sockets.settle(&[&second]);
        let _more = connect(&sockets, &second, 60);
        let now = waiting(&sockets);
        assert!(now[1] > 0 && now[2] > 0, "{now:?}");
    }

    #[test]
    fn a_failed_growth_leaves_what_was() {
        let mut sockets = Sockets::new(Vec::new());
        let listen = [at("web", "127.0.0.1:0")];
        let first = sockets.claim(&listen, each(2)).unwrap();
        sockets.settle(&[&first]);
        let second = sockets.claim(&listen, each(4)).unwrap();
        sockets.release(&second);
        let _held = connect(&sockets, &first, 40);
        let now = waiting(&sockets);
        assert_eq!(now.len(), 2);
        assert!(now[0] > 0 && now[1] > 0, "{now:?}");
    }

    #[test]
    fn with_fewer_loops_every_socket_still_has_one_that_accepts() {
        let mut sockets = Sockets::new(Vec::new());
        let listen = [at("web", "127.0.0.1:0")];
        let first = sockets.claim(&listen, each(4)).unwrap();
        sockets.settle(&[&first]);
        let _held = connect(&sockets, &first, 80);
        let before = waiting(&sockets);
        let second = sockets.claim(&listen, each(2)).unwrap();
        sockets.settle(&[&second]);
        let _more = connect(&sockets, &second, 80);
        let after = waiting(&sockets);
        assert_eq!(before[2..], after[2..], "retired sockets get nothing new");
        let served: usize = (0..2)
            .map(|own| sockets.of_loop(&second, own).unwrap().len())
            .sum();
        assert_eq!(served, 4, "and what waits there is accepted");
        let third = sockets.claim(&listen, each(3)).unwrap();
        sockets.settle(&[&third]);
        let _again = connect(&sockets, &third, 80);
        assert!(waiting(&sockets)[2] > after[2]);
        assert_eq!(waiting(&sockets)[3], after[3]);
    }

    #[test]
    fn from_one_socket_for_all_to_one_for_each_and_back() {
        let mut sockets = Sockets::new(Vec::new());
        let listen = [at("web", "127.0.0.1:0")];
        let first = sockets.claim(&listen, ONE).unwrap();
        sockets.settle(&[&first]);
        assert!((0..4).all(|own| sockets.of_loop(&first, own).unwrap().len() == 1));
        let second = sockets.claim(&listen, each(2)).unwrap();
        let _held = connect(&sockets, &second, 20);
        assert_eq!(waiting(&sockets), [20, 0]);
        sockets.settle(&[&second]);
        let third = sockets.claim(&listen, ONE).unwrap();
        sockets.settle(&[&third]);
        assert!((0..4).all(|own| sockets.of_loop(&third, own).unwrap().len() == 2));
    }

    #[test]
    fn what_is_not_used_any_more_is_closed_and_its_file_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let unix = format!("unix:{}", path.display());
        let mut sockets = Sockets::new(Vec::new());
        let both = [at("web", "127.0.0.1:0"), at("local", &unix)];
        let first = sockets.claim(&both, each(2)).unwrap();
        sockets.settle(&[&first]);
        assert_eq!(sockets.of_loop(&first, 1).unwrap().len(), 2);
        assert_eq!(sockets.addresses(&first)[1], None);
        let addr = sockets.addresses(&first)[0].unwrap();
        assert!(path.exists());
        let second = sockets.claim(&both[..1], each(2)).unwrap();
        assert!(path.exists(), "kept until the new generation serves");
        sockets.settle(&[&second]);
        assert!(!path.exists());
        sockets.close_all();
        assert!(TcpStream::connect(addr).is_err());
    }

    #[test]
    fn a_claim_that_fails_opens_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = busy.local_addr().unwrap().to_string();
        let unix = format!("unix:{}", path.display());
        let mut sockets = Sockets::new(Vec::new());
        let listen = [at("local", &unix), at("web", &taken)];
        let text = sockets.claim(&listen, each(1)).unwrap_err();
        let wanted = format!(
            "listener web: cannot listen on {taken}: the port is in use by another process"
        );
        assert_eq!(text, wanted);
        assert!(sockets.places.is_empty() && !path.exists());
    }

    #[test]
    fn a_wider_address_may_replace_a_narrower_one_on_the_same_port() {
        let mut sockets = Sockets::new(Vec::new());
        let first = sockets.claim(&[at("web", "127.0.0.1:0")], each(1)).unwrap();
        sockets.settle(&[&first]);
        let port = sockets.addresses(&first)[0].unwrap().port();
        let wider = [at("web", &format!("0.0.0.0:{port}"))];
        let second = sockets.claim(&wider, each(1)).unwrap();
        sockets.settle(&[&second]);
        assert_eq!(sockets.places.len(), 1);
    }

    #[test]
    fn nobody_waits_for_a_loop_that_is_not_there() {
        let mut sockets = Sockets::new(Vec::new());
        let claim = sockets.claim(&[at("web", "127.0.0.1:0")], each(3)).unwrap();
        sockets.settle(&[&claim]);
        assert!(sockets.spread(&claim, &[0]).is_empty());
        let _held = connect(&sockets, &claim, 40);
        let without = waiting(&sockets);
        assert!(
            without[0] == 0 && without[1] > 0 && without[2] > 0,
            "{without:?}"
        );
        sockets.spread(&claim, &[]);
        let _more = connect(&sockets, &claim, 40);
        assert!(waiting(&sockets)[0] > 0, "it is back");
        sockets.spread(&claim, &[0, 1, 2]);
        let _others = connect(&sockets, &claim, 10);
    }

    #[test]
    fn inherited_sockets_are_shared_by_all_loops_and_kept() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let mut sockets = Sockets::new(vec![("web".to_owned(), listener.into())]);
        let missing = sockets.claim(&[at("x", "fd:none")], each(2)).unwrap_err();
        assert!(missing.contains("no socket of this name"), "{missing}");
        let listen = [at("x", "fd:web")];
        let claim = sockets.claim(&listen, each(2)).unwrap();
        assert!(sockets.settle(&[&claim]).is_empty());
        assert!((0..2).all(|own| sockets.of_loop(&claim, own).unwrap().len() == 1));
        assert_eq!(sockets.addresses(&claim), [Some(addr)]);
        let none = sockets.claim(&[], each(2)).unwrap();
        sockets.settle(&[&none]);
        assert!(sockets.claim(&listen, each(2)).is_ok());
    }
}
