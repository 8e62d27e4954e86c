//! The keys about TLS: `[[certificate]]`, `listener.tls` and its sub-sections, `[upstream.tls]`.

use super::{Kind, Section, TIME, key};
use crate::conf::grammar;

const VERSION: Kind = Kind::Word(&["1.2", "1.3"]);
/// A path, or `{ credential = "..." }`.
const KEY_FILE: Kind = Kind::Forms(&[Kind::Path, Kind::Table(&CREDENTIAL)]);

static CREDENTIAL: Section = Section {
    path: "key",
    doc: "A secret that is kept elsewhere; it can stand wherever a key file can.",
    keys: &[
        key("file", Kind::Path, "", "A file."),
        key(
            "credential",
            Kind::Name,
            "",
            "A credential that systemd hands over (LoadCredential=).",
        ),
        key(
            "env",
            Kind::Text,
            "",
            "A variable that holds the path of the file.",
        ),
    ],
};

static SELF_SIGNED: Section = Section {
    path: "certificate.self_signed",
    doc: "A certificate made at the start, for trying things out.",
    keys: &[
        key(
            "hosts",
            Kind::Many(&Kind::Special("a host", grammar::host)),
            "[\"localhost\", \"127.0.0.1\", \"::1\"]",
            "Names and addresses in it.",
        ),
        key("valid", TIME, "\"30d\"", "How long it is valid."),
    ],
};

/// `[[certificate]]`.
pub(super) static CERTIFICATE: Section = Section {
    path: "certificate",
    doc: "A certificate with its key, a folder of them, or a self-signed one. Exactly one of `cert`, `dir`, `self_signed`. Files are read again when they change, without a reload.",
    keys: &[
        key(
            "name",
            Kind::Name,
            "",
            "Its name in `tls.certificates`; derived from the file name otherwise.",
        ),
        key(
            "cert",
            Kind::Path,
            "",
            "PEM file with the chain, the server's own certificate first.",
        ),
        key(
            "key",
            KEY_FILE,
            "",
            "PEM file with the private key; may be the same file as `cert`.",
        ),
        key(
            "dir",
            Kind::Path,
            "",
            "A folder: every `*.pem` with its key, in the same file or in a `.key` file beside it.",
        ),
        key(
            "self_signed",
            Kind::Forms(&[Kind::Table(&SELF_SIGNED), Kind::Bool]),
            "",
            "`true`, or `{ hosts = [...], valid = \"30d\" }`.",
        ),
        key(
            "hosts",
            Kind::Many(&Kind::Special("a host", grammar::host_pattern)),
            "[]",
            "Names it is used for; those in the certificate otherwise.",
        ),
    ],
};

/// `listener.tls`.
pub(super) static SERVER: Section = Section {
    path: "listener.tls",
    doc: "TLS of a listener. Instead of the table: `tls = \"NAME\"` of a certificate, or `tls = \"self-signed\"`.",
    keys: &[
        key(
            "certificates",
            Kind::Many(&Kind::Name),
            "",
            "Names of certificates, found by the name that the client asks for; all of them otherwise.",
        ),
        key(
            "cert",
            Kind::Path,
            "",
            "Short form: the file of one certificate, with `key`.",
        ),
        key("key", KEY_FILE, "", "Short form: the file of its key."),
        key(
            "default",
            Kind::Name,
            "",
            "Certificate for clients that ask for no name or an unknown one; the first otherwise.",
        ),
        key("min_version", VERSION, "\"1.2\"", "Least version."),
        key("max_version", VERSION, "\"1.3\"", "Greatest version."),
    ],
};

/// `[listener.tls_client_auth]`.
pub(super) static CLIENT_AUTH: Section = Section {
    path: "listener.tls_client_auth",
    doc: "Certificates of clients (mutual TLS).",
    keys: &[
        key(
            "mode",
            Kind::Word(&["off", "optional", "required"]),
            "\"off\"",
            "Whether clients are asked, and have to have one.",
        ),
        key(
            "ca",
            Kind::Path,
            "",
            "PEM file with the CAs that issue them.",
        ),
        key(
            "crl",
            Kind::Many(&Kind::Path),
            "[]",
            "PEM files with revocation lists.",
        ),
    ],
};

/// `[listener.session_tickets]`.
pub(super) static TICKETS: Section = Section {
    path: "listener.session_tickets",
    doc: "Session tickets: keys are made by the master, shared by all workers and kept over reloads.",
    keys: &[
        key(
            "rotate",
            TIME,
            "\"6h\"",
            "A new key after this time; the one before stays valid as long again.",
        ),
        key(
            "key_file",
            KEY_FILE,
            "",
            "A file with the keys, the same on several machines.",
        ),
    ],
};

/// `[upstream.tls]`.
pub(super) static CLIENT: Section = Section {
    path: "upstream.tls",
    doc: "TLS towards the servers of an upstream. `tls = true` takes all defaults.",
    keys: &[
        key(
            "enabled",
            Kind::Bool,
            "true",
            "Switches the section off without removing it.",
        ),
        key(
            "verify",
            Kind::Forms(&[
                Kind::Word(&["full", "ca", "off"]),
                Kind::Special("pin:sha256/BASE64", grammar::pin),
            ]),
            "\"full\"",
            "`full`: chain and name; `ca`: chain only; `pin:sha256/...`: the public key of the server; `off`: nothing (warned).",
        ),
        key(
            "ca",
            Kind::Path,
            "",
            "PEM file with CAs; those of the system otherwise.",
        ),
        key(
            "sni",
            Kind::Special("a host", grammar::host),
            "",
            "The name asked for and verified; the server's own otherwise.",
        ),
        key(
            "client_certificate",
            Kind::Name,
            "",
            "Name of the certificate that is shown to the server.",
        ),
        key("min_version", VERSION, "\"1.2\"", "Least version."),
    ],
};
