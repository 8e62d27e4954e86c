//! Numbers of the socket calls that the standard library keeps for itself.

/// A write to a connection whose peer is gone is an error, not a signal.
pub const NOSIGNAL: i32 = libc::MSG_NOSIGNAL;

/// Descriptors or memory ran out.
pub const EXHAUSTED: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];

/// An error that waited on the new connection itself and is handed out by `accept`: the
/// listener is well.
pub const ONE_CONNECTION: [i32; 11] = [
    libc::ECONNABORTED,
    libc::ECONNRESET,
    libc::EPERM,
    libc::EPROTO,
    libc::ENOPROTOOPT,
    libc::ENETDOWN,
    libc::ENONET,
    libc::EHOSTDOWN,
    libc::EHOSTUNREACH,
    libc::ENETUNREACH,
    libc::EOPNOTSUPP,
];

/// A non-blocking connect is under way.
pub const IN_PROGRESS: i32 = libc::EINPROGRESS;
