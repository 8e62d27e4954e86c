//! The closed list of finding codes: one number for each kind of mistake that the checker can
//! report. Numbers are never re-used. The first digit pair is the class: 01 shape, 02 references,
//! 03 addresses, 04 routing, 05 TLS, 06 numbers, 07 safety, 08 host, 10 reload.

use super::finding::Severity;

macro_rules! codes {
    ($( $variant:ident, $id:literal, $title:literal, $text:literal; )*) => {
        /// A kind of finding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $( #[doc = $title] $variant, )* }

        impl Code {
            /// Every code, in the order of the list.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// `E0103`, `W0505`, `I1001`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $id, )* }
            }

            /// What it is, in a few words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $( Self::$variant => $title, )* }
            }

            /// What it means and what to do.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }
        }
    };
}

codes! {
    Syntax, "E0101", "not TOML", "The file is not valid TOML at this place. Only the first mistake of each line is shown, because one missing quote makes many.";
    UnknownSection, "E0102", "unknown section", "There is no section of this name in this version.";
    UnknownKey, "E0103", "unknown key", "The section has no such key. If the key belongs to the section above, move it above the header of the sub-section: in TOML a key belongs to the header before it.";
    BadDuration, "E0104", "not a duration", "A duration is a whole number with one of ms, s, m, h, d.";
    BadQuantity, "E0105", "not a size, share or mode", "A size is a whole number with B, KiB, MiB or GiB (64k is 64KiB); a share is a percentage such as 20%; a file mode is octal such as 0640.";
    WrongType, "E0106", "wrong type", "The value has another type than the key takes: for example a number where a string is needed.";
    NoPort, "E0107", "address without port", "Every address needs a port: host:port, [v6]:port.";
    OutOfRange, "E0108", "out of range", "The value is smaller or larger than the key allows.";
    MissingKey, "E0109", "missing key", "The section needs this key.";
    Exclusive, "E0110", "keys that exclude each other", "Only one of these keys can be written in one section.";
    Duplicate, "E0111", "defined twice", "The same name, or the same single section key, is defined in two places; included files count as if they were written in the including file.";
    NotAllowed, "E0112", "value not in the list", "The key takes one of a fixed list of words.";
    Environment, "E0113", "environment variable", "`${NAME}` in a string is replaced by the variable of that name, `${NAME:-text}` by text when it is not set; an unset variable without a default is an error. `$${` is a plain `${`.";
    Include, "E0114", "file cannot be loaded", "The configuration file or an included file cannot be read, or files include each other in a circle.";
    Malformed, "E0115", "malformed value", "The text does not follow the grammar of its key: a header name, a host name, a network, a template.";
    BareSecret, "W0116", "secret written into a readable file", "A password or key stands in a file that other users can read. Use { file = ... }, { env = ... } or { credential = ... }, or chmod the file to 0600.";
    SecretMissing, "E0117", "secret not found", "The file, variable or systemd credential that a secret refers to cannot be read or is empty.";

    UnknownUpstream, "E0201", "undefined upstream", "A route names an upstream that no [[upstream]] section defines.";
    UnknownCertificate, "E0202", "undefined certificate", "A name that no [[certificate]] section defines.";
    UnknownSet, "E0203", "undefined set", "A name that is neither in [sets] nor a network.";
    UnknownListener, "E0204", "undefined listener", "A route names a listener that no [[listener]] section defines.";
    NoServers, "E0205", "upstream without servers", "An upstream needs at least one server.";
    UnusedUpstream, "W0206", "unused upstream", "No route sends anything to this upstream.";
    UnusedCertificate, "W0207", "unused certificate", "No listener or upstream uses this certificate.";
    UnusedSet, "W0208", "unused set", "Nothing uses this set.";
    NoRoutes, "W0209", "listener without routes", "No route applies to the listener: every request gets a 404.";
    NoListeners, "W0210", "no listener", "The file defines no listener, so nothing is served.";

    PortZero, "E0301", "port 0", "Port 0 is not an address to connect to.";
    KernelPort, "W0302", "listening on port 0", "With port 0 the kernel chooses a port at each start; useful for tests only.";
    BadAddress, "E0303", "not an address", "The text is not an address of the form the key takes.";
    BareIpv6, "E0304", "IPv6 address without brackets", "Write [::1]:80.";
    SameAddress, "E0305", "address used twice", "Two sections listen on the same address and port.";
    Overlap, "E0306", "addresses overlap", "A wildcard address and a single address on the same port: the kernel cannot hold both.";
    LowPort, "E0307", "port below 1024 without the right to bind it", "Ports below 1024 need root or CAP_NET_BIND_SERVICE (or a lower net.ipv4.ip_unprivileged_port_start).";
    ForeignAddress, "W0308", "address not on this host", "No interface has this address now; binding will fail unless it appears.";
    Unresolved, "W0309", "name does not resolve", "With --probe: the name of a server has no address now. proxyd starts all the same and asks again.";
    Unreachable, "W0310", "server cannot be reached", "With --probe: no connection to the server now.";

    SameRoutes, "E0401", "routes that match the same requests", "Two routes match exactly the same requests, so neither is more specific. File order does not decide.";
    ShadowedRoute, "W0402", "route never reached", "Every request that the route matches is matched by a more specific or higher-priority one.";
    BadRegex, "E0403", "regular expression does not compile", "The text behind ~ is not a regular expression.";
    HostNotCovered, "W0404", "host without certificate", "No certificate of the TLS listener covers the host of the route: clients will see another name.";
    NoSlash, "E0405", "path without leading slash", "A path or prefix starts with a slash.";
    BadHostPattern, "E0406", "not a host pattern", "A host is a name, an address, or a name whose first label is `*`.";
    NoAction, "E0407", "route without action", "A route needs one of to, redirect, respond.";
    NotRaw, "E0408", "raw path on a selective route", "normalize = \"raw\" is allowed only on routes that match every path.";

    TlsFile, "E0501", "file missing or unreadable", "A certificate, key, CA or CRL file cannot be read.";
    TlsFormat, "E0502", "not a usable PEM file", "The file holds no PEM block of the kind that is needed, or the block cannot be parsed.";
    KeyMismatch, "E0503", "key does not match the certificate", "The private key is not the one the certificate was issued for.";
    Chain, "W0504", "certificate chain may be incomplete", "The last certificate was issued by somebody who is neither in the file nor among the roots of this system: clients may miss an intermediate certificate.";
    ExpiresSoon, "W0505", "certificate expires soon", "Less than 14 days are left.";
    Expired, "E0506", "certificate expired or not yet valid", "Clients will refuse the certificate.";
    WeakKey, "E0507", "weak key", "RSA keys need at least 2048 bits.";
    DefaultNotLoaded, "E0508", "default certificate not loaded", "The name in `default` is not one of the listener's certificates.";
    TlsVersions, "E0509", "least TLS version above the greatest", "min_version must not be above max_version.";
    NoClientCa, "E0510", "client certificates without CA", "mode \"optional\" and \"required\" need `ca`.";
    CrlExpired, "W0511", "revocation list out of date or of another CA", "The next update of the CRL is in the past, or its issuer is not in the CA file.";
    EmptyDir, "E0512", "no certificate in the directory", "The directory holds no *.pem with its key.";
    ChainOrder, "E0513", "certificate chain out of order", "Each certificate of the chain must be issued by the one behind it: server first, then intermediates.";
    NoNames, "W0514", "certificate without names", "The certificate names no host, so it is served only as the default.";
    CaExpired, "W0515", "CA expired", "A certificate of the CA file has run out.";

    PoolBounds, "E0601", "pool smaller than its idle part", "pool.max must not be below pool.max_idle.";
    DrainShort, "W0602", "drain shorter than a response may take", "A response that is still running when the drain ends is cut.";
    Descriptors, "W0603", "more file descriptors than the limit", "At full load a worker needs more descriptors than it may open.";
    TotalShort, "E0604", "total time shorter than one try", "timeouts.total must not be below timeouts.connect.";
    BufferPool, "W0605", "buffer pool smaller than the connections", "Less than one buffer for every tenth connection: reading pauses when the pool is empty.";
    RetryBuffer, "W0606", "request buffer above the memory for all", "One buffered request may take more than all buffered requests together.";
    DrainOrder, "W0607", "upgraded drain shorter than the plain one", "drain_timeout_upgraded is for long-lived connections and should not be shorter than drain_timeout.";

    VerifyOff, "W0701", "upstream certificate not verified", "Anyone on the path can pose as the server.";
    TrustAny, "W0702", "everybody is a trusted proxy", "Any client can choose the address that logs and limits see.";

    NoUser, "E0801", "user or group missing", "The workers' user or group does not exist on this host.";
    NoDirectory, "E0802", "directory missing or not writable", "The file cannot be created there by the process that needs it.";
    NeedsRoot, "W0803", "setting without effect for an ordinary user", "Only a master that was started as root can change user and group.";
    PortTaken, "W0804", "port held by another process", "Something else listens on the address now.";
    NotBuiltIn, "E0805", "not built in yet", "The value is reserved and this version cannot do it.";
    NotInEffect, "W0806", "accepted without effect", "The value is known and this version does not act on it.";

    NeedsRestart, "I1001", "setting needs a restart", "The new value is used after the next restart of the master, not after a reload.";
}

impl Code {
    /// How bad it is: the first letter of the code.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self.as_str().as_bytes().first() {
            Some(b'E') => Severity::Error,
            Some(b'W') => Severity::Warning,
            _ => Severity::Info,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_are_unique_and_in_order() {
        let mut numbers = HashSet::new();
        let mut last = 0;
        for code in Code::ALL {
            let id = code.as_str();
            assert_eq!(id.len(), 5, "{id}");
            let number: u32 = id[1..].parse().unwrap();
            assert!(numbers.insert(number), "{id} twice");
            assert!(number > last, "{id} out of order");
            last = number;
            assert!(code.text().ends_with('.'), "{id}");
        }
    }

    #[test]
    fn the_letter_is_the_severity() {
        assert_eq!(Code::UnknownKey.severity(), Severity::Error);
        assert_eq!(Code::ExpiresSoon.severity(), Severity::Warning);
        assert_eq!(Code::NeedsRestart.severity(), Severity::Info);
    }
}
