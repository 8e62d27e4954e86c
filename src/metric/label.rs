//! Label values that form a closed list: each is an enum, so that no byte from the network can
//! ever become a label and every value has its slot beforehand.

use crate::base::reason::Reason;

/// One value of a closed list of label values.
pub trait Label: Copy + 'static {
    /// Its place in the list.
    fn place(self) -> usize;
    /// The words of the whole list.
    const WORDS: &'static [&'static str];
}

macro_rules! label {
    ($(#[$meta:meta])* $name:ident { $( $(#[$item:meta])* $variant:ident = $word:literal, )* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$item])* $variant, )* }

        impl $name {
            /// Every value in the order of the list.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The word in the label.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }
        }

        impl Label for $name {
            fn place(self) -> usize {
                self as usize
            }
            const WORDS: &'static [&'static str] = &[ $( $word, )* ];
        }
    };
}

label! {
    /// The first digit of a response's status.
    Class {
        /// 100 to 199 as the last word to the client: the connection became a tunnel.
        Informational = "1xx",
        /// 200 to 299.
        Success = "2xx",
        /// 300 to 399.
        Redirection = "3xx",
        /// 400 to 499.
        ClientError = "4xx",
        /// 500 to 599.
        ServerError = "5xx",
        /// No response head was sent at all.
        None = "none",
    }
}

impl Class {
    /// The class of a status; 0 and nonsense are [`Class::None`].
    #[must_use]
    pub const fn of(status: u16) -> Self {
        match status {
            100..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500..600 => Self::ServerError,
            _ => Self::None,
        }
    }
}

label! {
    /// How a TLS handshake ended.
    Handshake {
        /// With keys agreed afresh.
        Full = "full",
        /// From a ticket.
        Resumed = "resumed",
        /// Not at all.
        Failed = "failed",
    }
}

label! {
    /// The protocol version of a TLS connection.
    TlsVersion {
        /// TLS 1.2.
        Tls12 = "1.2",
        /// TLS 1.3.
        Tls13 = "1.3",
    }
}

label! {
    /// Whether something worked.
    Outcome {
        /// It did.
        Ok = "ok",
        /// It did not.
        Failed = "failed",
    }
}

label! {
    /// A named limit that can bite.
    Limit {
        /// Client connections of a worker.
        WorkerConnections = "worker_connections",
        /// Client connections of one address.
        ClientConnections = "client_connections",
        /// File descriptors.
        OpenFiles = "open_files",
        /// Memory of pooled buffers.
        BufferPool = "buffer_pool",
        /// Length of the request line.
        RequestLine = "request_line",
        /// Length of one field line.
        RequestField = "request_field",
        /// Length of the request head.
        RequestHead = "request_head",
        /// Number of fields.
        RequestFields = "request_fields",
        /// Length of the request body.
        RequestBody = "request_body",
        /// Interim responses before the final one.
        InterimResponses = "interim_responses",
        /// Memory for request bodies kept for a retry.
        RetryBuffer = "retry_buffer",
        /// Requests waiting for an upstream.
        Queue = "queue",
        /// Time in the queue.
        QueueTime = "queue_time",
        /// Requests on one client connection.
        ConnectionRequests = "connection_requests",
        /// Age of a client connection.
        ConnectionAge = "connection_age",
        /// Lines of the access log that its output did not take.
        AccessLog = "access_log",
        /// Time of connections of old generations.
        DrainTime = "drain_time",
    }
}

impl Limit {
    /// The limit behind a reason, where a limit is the whole reason.
    #[must_use]
    pub const fn of(reason: Reason) -> Option<Self> {
        Some(match reason {
            Reason::RequestLineTooLong => Self::RequestLine,
            Reason::FieldTooLarge => Self::RequestField,
            Reason::HeadTooLarge => Self::RequestHead,
            Reason::TooManyFields => Self::RequestFields,
            Reason::BodyTooLarge => Self::RequestBody,
            Reason::UpstreamInterim => Self::InterimResponses,
            Reason::QueueFull => Self::Queue,
            Reason::QueueTimeout => Self::QueueTime,
            _ => return None,
        })
    }
}

impl Label for Reason {
    fn place(self) -> usize {
        self as usize
    }
    const WORDS: &'static [&'static str] = &REASONS;
}

const REASONS: [&str; Reason::ALL.len()] = {
    let mut words = [""; Reason::ALL.len()];
    let mut at = 0;
    while at < words.len() {
        words[at] = Reason::ALL[at].as_str();
        at += 1;
    }
    words
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_label_is_the_place_of_its_word() {
        for limit in Limit::ALL {
            assert_eq!(Limit::WORDS[limit.place()], limit.as_str());
        }
        for reason in Reason::ALL {
            assert_eq!(Reason::WORDS[reason.place()], reason.as_str());
        }
    }

    #[test]
    fn a_reason_that_is_a_limit_names_it() {
        assert_eq!(Limit::of(Reason::BodyTooLarge), Some(Limit::RequestBody));
        assert_eq!(Limit::of(Reason::QueueFull), Some(Limit::Queue));
        assert_eq!(Limit::of(Reason::BadHost), None);
    }

    #[test]
    fn every_status_has_a_class() {
        assert_eq!(Class::of(0), Class::None);
        assert_eq!(Class::of(101), Class::Informational);
        assert_eq!(Class::of(204), Class::Success);
        assert_eq!(Class::of(304), Class::Redirection);
        assert_eq!(Class::of(499), Class::ClientError);
        assert_eq!(Class::of(500), Class::ServerError);
        assert_eq!(Class::of(600), Class::None);
    }
}
