//! Certificates on their way from the master to a worker: names and PEM blobs, length-prefixed.
//! The reader trusts no length, holds no more than it was sent, and either gives the whole
//! message or an error.

use super::cert::{self, Certificate, Fault};
use crate::base::secret::Secret;

/// No message is larger.
pub const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// No single name or blob is larger.
pub const BLOB_BYTES_MAX: usize = 16 << 20;
/// No list is longer.
pub const LIST_LEN_MAX: usize = 100_000;

/// One chain with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// Tells the pairs of one certificate apart: the file name in a directory, else empty.
    pub label: String,
    /// PEM; the file may hold the key as well.
    pub chain: Vec<u8>,
    /// PEM.
    pub key: Secret,
}

impl Pair {
    /// Parses it again, without judging dates or order: the master has done so.
    ///
    /// # Errors
    /// When the bytes are no usable pair.
    pub fn build(&self, hosts: &[String]) -> Result<Certificate, Fault> {
        cert::build(&self.chain, self.key.expose_secret(), hosts)
    }
}

// The chain may come from a file that holds the key too, so neither is printed.
impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// All pairs of one `[[certificate]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// Its name.
    pub name: String,
    /// Overrides the names in the certificates; empty takes those.
    pub hosts: Vec<String>,
    /// In the order of the files.
    pub pairs: Vec<Pair>,
}

impl Bundle {
    /// What turns `old` into `self`; `None` when nothing does.
    #[must_use]
    pub fn delta(&self, old: &Self) -> Option<Delta> {
        let same_hosts = self.hosts == old.hosts;
        let is_new = |pair: &&Pair| !same_hosts || !old.pairs.contains(pair);
        let is_gone = |pair: &&Pair| !self.pairs.iter().any(|p| p.label == pair.label);
        let delta = Delta {
            name: self.name.clone(),
            hosts: self.hosts.clone(),
            put: self.pairs.iter().filter(is_new).cloned().collect(),
            remove: old
                .pairs
                .iter()
                .filter(is_gone)
                .map(|pair| pair.label.clone())
                .collect(),
        };
        let is_empty = delta.put.is_empty() && delta.remove.is_empty();
        (!is_empty).then_some(delta)
    }
}

/// A change of one `[[certificate]]`: only the pairs that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Its name.
    pub name: String,
    /// As in [`Bundle`].
    pub hosts: Vec<String>,
    /// New or changed.
    pub put: Vec<Pair>,
    /// Labels of those that are gone.
    pub remove: Vec<String>,
}

/// Certificate authorities and revocation lists, PEM or (lists only) DER.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The CA file.
    pub ca: Vec<u8>,
    /// The CRL files.
    pub crls: Vec<Vec<u8>>,
}

/// What the master tells a worker when files changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// A certificate.
    Certificate(Delta),
    /// Client authentication of the named listener.
    ClientTrust(String, Trust),
    /// The CA of the named upstream.
    UpstreamTrust(String, Trust),
}

/// The bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// They end too early.
    Short,
    /// Something follows the message.
    Trailing,
    /// An unknown kind of message or version.
    Kind,
    /// A length over its limit.
    TooLarge,
    /// A name that is not UTF-8.
    Text,
}

const VERSION: u8 = 1;
const KIND_CERTIFICATE: u8 = 1;
const KIND_CLIENT_TRUST: u8 = 2;
const KIND_UPSTREAM_TRUST: u8 = 3;

struct Writer(Vec<u8>);

impl Writer {
    fn length(&mut self, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
    }

    fn blob(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn texts(&mut self, list: &[String]) {
        self.length(list.len());
        for text in list {
            self.blob(text.as_bytes());
        }
    }

    fn trust(&mut self, name: &str, trust: &Trust) {
        self.blob(name.as_bytes());
        self.blob(&trust.ca);
        self.length(trust.crls.len());
        for crl in &trust.crls {
            self.blob(crl);
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, WireError> {
        let (first, rest) = self.0.split_first().ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    fn length(&mut self, most: usize) -> Result<usize, WireError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(WireError::Short)?;
        self.0 = rest;
        let length = usize::try_from(u32::from_be_bytes(*bytes)).unwrap_or(usize::MAX);
        if length > most {
            return Err(WireError::TooLarge);
        }
        Ok(length)
    }

    fn blob(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.length(BLOB_BYTES_MAX)?;
        let (blob, rest) = self.0.split_at_checked(length).ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(blob)
    }

    fn text(&mut self) -> Result<String, WireError> {
        let text = std::str::from_utf8(self.blob()?).map_err(|_e| WireError::Text)?;
        Ok(text.to_owned())
    }

    // Elements are pushed one by one: a length alone reserves nothing.
    fn list<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let length = self.length(LIST_LEN_MAX)?;
        let mut out = Vec::new();
        for _ in 0..length {
            out.push(element(self)?);
        }
        Ok(out)
    }

    fn pair(&mut self) -> Result<Pair, WireError> {
        Ok(Pair {
            label: self.text()?,
            chain: self.blob()?.to_vec(),
            key: Secret::new(self.blob()?.to_vec()),
        })
    }

    fn trust(&mut self) -> Result<(String, Trust), WireError> {
        let name = self.text()?;
        let ca = self.blob()?.to_vec();
        let crls = self.list(|reader| Ok(reader.blob()?.to_vec()))?;
        Ok((name, Trust { ca, crls }))
    }
}

/// The message as bytes.
#[must_use]
pub fn encode(update: &Update) -> Vec<u8> {
    let mut out = Writer(vec![VERSION]);
    match update {
        Update::Certificate(delta) => {
            out.0.push(KIND_CERTIFICATE);
            out.blob(delta.name.as_bytes());
            out.texts(&delta.hosts);
            out.length(delta.put.len());
            for pair in &delta.put {
                out.blob(pair.label.as_bytes());
                out.blob(&pair.chain);
                out.blob(pair.key.expose_secret());
            }
            out.texts(&delta.remove);
        }
        Update::ClientTrust(name, trust) => {
            out.0.push(KIND_CLIENT_TRUST);
            out.trust(name, trust);
        }
        Update::UpstreamTrust(name, trust) => {
            out.0.push(KIND_UPSTREAM_TRUST);
            out.trust(name, trust);
        }
    }
    out.0
}

/// The message in the bytes.
///
/// # Errors
/// What is wrong with them.
pub fn decode(bytes: &[u8]) -> Result<Update, WireError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(WireError::TooLarge);
    }
    let mut reader = Reader(bytes);
    if reader.byte()? != VERSION {
        return Err(WireError::Kind);
    }
    let update = match reader.byte()? {
        KIND_CERTIFICATE => Update::Certificate(Delta {
            name: reader.text()?,
            hosts: reader.list(Reader::text)?,
            put: reader.list(Reader::pair)?,
            remove: reader.list(Reader::text)?,
        }),
        KIND_CLIENT_TRUST => {
            let (name, trust) = reader.trust()?;
            Update::ClientTrust(name, trust)
        }
        KIND_UPSTREAM_TRUST => {
            let (name, trust) = reader.trust()?;
            Update::UpstreamTrust(name, trust)
        }
        _ => return Err(WireError::Kind),
    };
    if reader.0.is_empty() {
        Ok(update)
    } else {
        Err(WireError::Trailing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn pair(label: &str, chain: &str) -> Pair {
        Pair {
            label: label.into(),
            chain: chain.into(),
            key: Secret::new(b"k".to_vec()),
        }
    }

    fn bundle(pairs: &[(&str, &str)]) -> Bundle {
        Bundle {
            name: "n".into(),
            hosts: Vec::new(),
            pairs: pairs.iter().map(|(l, c)| pair(l, c)).collect(),
        }
    }

    #[test]
    fn a_delta_has_only_what_changed() {
        let old = bundle(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let new = bundle(&[("a", "1"), ("b", "2"), ("d", "1")]);
        let delta = new.delta(&old).unwrap();
        assert_eq!(delta.put, [pair("b", "2"), pair("d", "1")]);
        assert_eq!(delta.remove, ["c"]);
        assert_eq!(old.delta(&old), None);
    }

    #[test]
    fn other_hosts_change_every_pair() {
        let old = bundle(&[("a", "1")]);
        let mut new = old.clone();
        new.hosts = vec!["x".into()];
        assert_eq!(new.delta(&old).unwrap().put.len(), 1);
    }

    #[test]
    fn a_length_alone_reserves_nothing() {
        let mut bytes = encode(&Update::Certificate(Delta::default()));
        // The count of hosts follows version, kind and an empty name.
        bytes[6..10].copy_from_slice(&(LIST_LEN_MAX as u32).to_be_bytes());
        assert_eq!(decode(&bytes), Err(WireError::Short));
        bytes[6..10].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(decode(&bytes), Err(WireError::TooLarge));
    }

    fn any_pair() -> impl Strategy<Value = Pair> {
        (".{0,8}", vec(0_u8.., 0..40), vec(0_u8.., 0..40)).prop_map(|(label, chain, key)| Pair {
            label,
            chain,
            key: Secret::new(key),
        })
    }

    fn any_update() -> impl Strategy<Value = Update> {
        let trust = (vec(0_u8.., 0..40), vec(vec(0_u8.., 0..40), 0..3))
            .prop_map(|(ca, crls)| Trust { ca, crls });
        let lists = (
            vec(".{0,8}", 0..3),
            vec(any_pair(), 0..3),
            vec(".{0,8}", 0..3),
        );
        let delta = (".{0,8}", lists).prop_map(|(name, (hosts, put, remove))| Delta {
            name,
            hosts,
            put,
            remove,
        });
        prop_oneof![
            delta.prop_map(Update::Certificate),
            (".{0,8}", trust.clone()).prop_map(|(n, t)| Update::ClientTrust(n, t)),
            (".{0,8}", trust).prop_map(|(n, t)| Update::UpstreamTrust(n, t)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(update in any_update()) {
            prop_assert_eq!(decode(&encode(&update)), Ok(update));
        }

        #[test]
        fn a_message_cut_anywhere_is_refused(update in any_update(), cut in 0.0..1.0_f64) {
            let bytes = encode(&update);
            let at = (bytes.len() as f64 * cut) as usize;
            prop_assert_eq!(decode(&bytes[..at]), Err(WireError::Short));
            let mut longer = bytes;
            longer.push(0);
            prop_assert_eq!(decode(&longer), Err(WireError::Trailing));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in vec(0_u8.., 0..200)) {
            if let Ok(update) = decode(&bytes) {
                prop_assert_eq!(encode(&update), bytes);
            }
        }
    }
}
