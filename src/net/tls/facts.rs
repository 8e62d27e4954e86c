//! What became of a handshake: the facts of a good one, the cause of a bad one.

use std::fmt;
use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CommonState, Error, HandshakeKind, ProtocolVersion};

use super::cert::describe_peer;
use crate::base::reason::Reason;
use crate::io::facts::TlsFacts;

/// Why there is no TLS session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeFailure {
    /// For logs, metrics and responses.
    pub reason: Reason,
    /// The alert that was sent, by its name in RFC 8446.
    pub alert_sent: Option<String>,
    /// The alert that came from the peer.
    pub alert_received: Option<String>,
    /// In words.
    pub detail: String,
}

impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        if let Some(alert) = &self.alert_sent {
            write!(f, " (alert {alert} sent)")?;
        }
        if let Some(alert) = &self.alert_received {
            write!(f, " (alert {alert} received)")?;
        }
        Ok(())
    }
}

impl std::error::Error for HandshakeFailure {}

impl From<HandshakeFailure> for io::Error {
    fn from(failure: HandshakeFailure) -> Self {
        Self::new(io::ErrorKind::InvalidData, failure)
    }
}

/// The reason for a failed handshake of a server, or of a client towards an upstream.
const fn reason(is_server: bool) -> Reason {
    if is_server {
        Reason::TlsFailed
    } else {
        Reason::UpstreamTls
    }
}

impl HandshakeFailure {
    /// The peer or we broke the protocol. `output` holds what is sent about it.
    pub(super) fn protocol(is_server: bool, error: &Error, output: &[u8]) -> Self {
        let alert_received = match error {
            Error::AlertReceived(alert) => Some(alert_name(*alert)),
            _ => None,
        };
        let alert_sent = (!output.is_empty() && alert_received.is_none())
            .then(|| plain_alert(output).or_else(|| implied_alert(error)))
            .flatten();
        Self {
            reason: reason(is_server),
            alert_sent: alert_sent.map(alert_name),
            alert_received,
            detail: detail(error),
        }
    }

    /// The connection under the handshake failed or ended.
    pub(super) fn transport(is_server: bool, error: &io::Error) -> Self {
        let detail = match error.kind() {
            io::ErrorKind::UnexpectedEof => "the peer left during the handshake".to_owned(),
            kind => kind.to_string(),
        };
        Self {
            reason: reason(is_server),
            alert_sent: None,
            alert_received: None,
            detail,
        }
    }

    /// The time for the handshake was up.
    #[must_use]
    pub fn timeout(is_server: bool) -> Self {
        let reason = if is_server {
            Reason::TlsTimeout
        } else {
            Reason::ConnectTimeout
        };
        Self {
            reason,
            alert_sent: None,
            alert_received: None,
            detail: "the handshake took too long".to_owned(),
        }
    }
}

fn detail(error: &Error) -> String {
    match error {
        Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            "the peer does not speak TLS".to_owned()
        }
        Error::AlertReceived(_) => "the peer refused the handshake".to_owned(),
        Error::InvalidCertificate(why) => format!("the certificate of the peer is refused: {why}"),
        Error::NoCertificatesPresented => "the peer sent no certificate".to_owned(),
        other => other.to_string(),
    }
}

/// The alert in an unencrypted alert record at the end of `output`.
fn plain_alert(output: &[u8]) -> Option<AlertDescription> {
    match output.last_chunk::<7>()? {
        [21, 3, _, 0, 2, _, description] => Some(AlertDescription::from(*description)),
        _ => None,
    }
}

/// An encrypted alert cannot be read back; that of a refused certificate is known all the same.
fn implied_alert(error: &Error) -> Option<AlertDescription> {
    match error {
        Error::InvalidCertificate(why) => Some(why.clone().into()),
        Error::NoCertificatesPresented => Some(AlertDescription::CertificateRequired),
        Error::InvalidMessage(why) => Some((*why).into()),
        Error::DecryptError => Some(AlertDescription::BadRecordMac),
        Error::NoApplicationProtocol => Some(AlertDescription::NoApplicationProtocol),
        _ => None,
    }
}

/// `BadRecordMac` as `bad_record_mac`.
fn alert_name(alert: AlertDescription) -> String {
    let Some(text) = alert.as_str() else {
        return format!("{}", u8::from(alert));
    };
    let mut out = String::with_capacity(text.len() + 4);
    let mut was_lower = false;
    for c in text.chars() {
        if c.is_ascii_uppercase() && was_lower {
            out.push('_');
        }
        was_lower = !c.is_ascii_uppercase();
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The facts of a finished handshake. The certificate of the peer is put in words for servers
/// only: nobody asks for that of an upstream.
pub(super) fn facts(
    common: &CommonState,
    is_server: bool,
    sni: Option<Box<str>>,
    handshake: Duration,
) -> TlsFacts {
    let peer = common
        .peer_certificates()
        .and_then(<[_]>::first)
        .filter(|_| is_server)
        .map(|leaf| Box::new(describe_peer(leaf)));
    let suite = common.negotiated_cipher_suite().map(|suite| suite.suite());
    let group = common.negotiated_key_exchange_group().map(|g| g.name());
    let alpn = common.alpn_protocol().map(String::from_utf8_lossy);
    TlsFacts {
        version: match common.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "",
        },
        cipher: suite.and_then(|suite| suite.as_str()).unwrap_or_default(),
        group: group.and_then(|group| group.as_str()).unwrap_or_default(),
        sni,
        alpn: alpn.map(Into::into),
        resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
        handshake,
        peer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_their_names_of_the_rfc() {
        for (alert, name) in [
            (AlertDescription::HandshakeFailure, "handshake_failure"),
            (AlertDescription::BadRecordMac, "bad_record_mac"),
            (AlertDescription::UnknownCA, "unknown_ca"),
            (
                AlertDescription::CertificateRequired,
                "certificate_required",
            ),
        ] {
            assert_eq!(alert_name(alert), name);
        }
    }

    #[test]
    fn a_failure_tells_the_alert_that_was_sent() {
        let error = Error::PeerIncompatible(rustls::PeerIncompatible::NoCipherSuitesInCommon);
        let record = [21, 3, 3, 0, 2, 2, 40];
        let failure = HandshakeFailure::protocol(true, &error, &record);
        assert_eq!(failure.alert_sent.as_deref(), Some("handshake_failure"));
        assert_eq!(failure.reason, Reason::TlsFailed);
        let silent = HandshakeFailure::protocol(false, &error, &[]);
        assert_eq!(silent.alert_sent, None);
        assert_eq!(silent.reason, Reason::UpstreamTls);
    }

    #[test]
    fn a_failure_tells_the_alert_that_came() {
        let error = Error::AlertReceived(AlertDescription::UnknownCA);
        let failure = HandshakeFailure::protocol(true, &error, &[]);
        assert_eq!(failure.alert_received.as_deref(), Some("unknown_ca"));
        assert!(failure.to_string().contains("unknown_ca received"));
    }

    #[test]
    fn a_slow_handshake_has_a_reason_of_its_side() {
        assert_eq!(HandshakeFailure::timeout(true).reason, Reason::TlsTimeout);
        assert_eq!(
            HandshakeFailure::timeout(false).reason,
            Reason::ConnectTimeout
        );
    }
}
