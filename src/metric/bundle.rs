//! The metrics of one thing, together: registered by the master in one call, bound to its column
//! by each event loop in one call, used as plain fields. No caller handles slots one by one.

use super::catalog::{self, Desc};
use super::cell::{Counter, Each, Gauge, Histogram, HostGauge, Shared};
use super::label::{Class, Handshake, Label, Limit, Outcome, TlsVersion};
use super::registry::{Full, HistogramSlot, Registry, Slot};
use super::table::{Column, EachSlot};
use crate::base::reason::Reason;

/// A field of a bundle: how it is registered and bound.
trait Field: Sized {
    type Slot: Clone;
    fn register(
        registry: &mut Registry,
        desc: &'static Desc,
        labels: &[&str],
    ) -> Result<Self::Slot, Full>;
    fn bind(slot: &Self::Slot, column: &Column) -> Self;
    fn sink() -> Self;
    /// Words that it takes in a column.
    fn words(desc: &Desc, bounds: usize) -> usize;
}

macro_rules! single {
    ($ty:ty, $method:ident) => {
        impl Field for $ty {
            type Slot = Slot;
            fn register(
                registry: &mut Registry,
                desc: &'static Desc,
                labels: &[&str],
            ) -> Result<Slot, Full> {
                registry.$method(desc, labels)
            }
            fn bind(slot: &Slot, column: &Column) -> Self {
                column.$method(*slot)
            }
            fn sink() -> Self {
                Self::sink()
            }
            fn words(_desc: &Desc, _bounds: usize) -> usize {
                1
            }
        }
    };
}

single!(Counter, counter);
single!(Gauge, gauge);
single!(HostGauge, host_gauge);

impl Field for Shared {
    type Slot = Slot;
    fn register(
        registry: &mut Registry,
        desc: &'static Desc,
        labels: &[&str],
    ) -> Result<Slot, Full> {
        registry.shared(desc, labels)
    }
    fn bind(slot: &Slot, column: &Column) -> Self {
        column.table().shared(*slot)
    }
    fn sink() -> Self {
        Self::sink()
    }
    fn words(_desc: &Desc, _bounds: usize) -> usize {
        1
    }
}

impl Field for Histogram {
    type Slot = HistogramSlot;
    fn register(
        registry: &mut Registry,
        desc: &'static Desc,
        labels: &[&str],
    ) -> Result<HistogramSlot, Full> {
        registry.histogram(desc, labels)
    }
    fn bind(slot: &HistogramSlot, column: &Column) -> Self {
        column.histogram(slot)
    }
    fn sink() -> Self {
        Self::sink()
    }
    fn words(desc: &Desc, bounds: usize) -> usize {
        2 + if desc.bounds.is_empty() {
            bounds
        } else {
            desc.bounds.len()
        }
    }
}

impl<L: Label> Field for Each<L> {
    type Slot = EachSlot;
    fn register(
        registry: &mut Registry,
        desc: &'static Desc,
        labels: &[&str],
    ) -> Result<EachSlot, Full> {
        registry.each(desc, labels)
    }
    fn bind(slot: &EachSlot, column: &Column) -> Self {
        column.each(*slot)
    }
    fn sink() -> Self {
        Self::sink()
    }
    fn words(desc: &Desc, _bounds: usize) -> usize {
        desc.each.len() + usize::from(desc.sparse)
    }
}

macro_rules! bundle {
    (
        $(#[$meta:meta])*
        $name:ident, $slots:ident {
            $( $(#[$field_meta:meta])* $field:ident: $ty:ty = $desc:ident, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }

        #[doc = concat!("The slots of [`", stringify!($name), "`].")]
        #[derive(Clone, Debug)]
        pub struct $slots {
            $( $field: <$ty as Field>::Slot, )*
        }

        impl $name {
            /// Takes the slots, or finds those that these label values already have: in the
            /// master, before it forks.
            ///
            /// # Errors
            /// When the table is full.
            pub fn register(registry: &mut Registry, labels: &[&str]) -> Result<$slots, Full> {
                Ok($slots {
                    $( $field: <$ty as Field>::register(registry, &catalog::$desc, labels)?, )*
                })
            }

            /// Counts nothing: for tests, and where there is no table.
            #[must_use]
            pub fn sink() -> Self {
                Self { $( $field: <$ty as Field>::sink(), )* }
            }

            /// How many words one of these takes in a column, with so many histogram bounds.
            #[must_use]
            pub fn words(bounds: usize) -> usize {
                0 $( + <$ty as Field>::words(&catalog::$desc, bounds) )*
            }
        }

        impl $slots {
            /// The metrics as fields of one column: in the thread that will count.
            #[must_use]
            pub fn bind(&self, column: &Column) -> $name {
                $name { $( $field: <$ty as Field>::bind(&self.$field, column), )* }
            }
        }
    };
}

bundle! {
    /// Of a listener; label values: its name.
    ListenerMetrics, ListenerSlots {
        /// Connections accepted.
        connections: Counter = LISTENER_CONNECTIONS,
        /// Connections that are open.
        active: Gauge = LISTENER_CONNECTIONS_ACTIVE,
        /// Connections ended without a response.
        refused: Each<Reason> = LISTENER_REFUSED,
        /// Requests by status class.
        requests: Each<Class> = LISTENER_REQUESTS,
        /// Requests by reason, [`Reason::Ok`] left out.
        reasons: Each<Reason> = LISTENER_REASONS,
        /// Duration of requests.
        duration: Histogram = LISTENER_DURATION,
        /// Bytes from clients.
        received: Counter = LISTENER_RECEIVED,
        /// Bytes to clients.
        sent: Counter = LISTENER_SENT,
        /// TLS handshakes by result.
        handshakes: Each<Handshake> = LISTENER_HANDSHAKES,
        /// TLS connections by version.
        tls_versions: Each<TlsVersion> = LISTENER_TLS_VERSIONS,
        /// Duration of handshakes.
        handshake_duration: Histogram = LISTENER_HANDSHAKE_DURATION,
    }
}

bundle! {
    /// Of a route; label values: its name.
    RouteMetrics, RouteSlots {
        /// Requests by status class.
        requests: Each<Class> = ROUTE_REQUESTS,
        /// Requests by reason, [`Reason::Ok`] left out.
        reasons: Each<Reason> = ROUTE_REASONS,
        /// Duration of requests.
        duration: Histogram = ROUTE_DURATION,
        /// Time to the first byte of the response.
        first_byte: Histogram = ROUTE_FIRST_BYTE,
        /// Bytes of requests.
        received: Counter = ROUTE_RECEIVED,
        /// Bytes of responses.
        sent: Counter = ROUTE_SENT,
        /// Requests being served.
        in_flight: Gauge = ROUTE_ACTIVE,
        /// Upgraded connections.
        tunnels: Gauge = ROUTE_TUNNELS,
    }
}

bundle! {
    /// Of an upstream; label values: its name.
    UpstreamMetrics, UpstreamSlots {
        /// Requests by status class.
        requests: Each<Class> = UPSTREAM_REQUESTS,
        /// Attempts after the first.
        retries: Counter = UPSTREAM_RETRIES,
        /// Duration of requests.
        duration: Histogram = UPSTREAM_DURATION,
        /// Requests in the queue.
        waiting: Gauge = UPSTREAM_WAITING,
        /// Requests that left the queue by time.
        queue_timeouts: Counter = UPSTREAM_QUEUE_TIMEOUTS,
        /// Requests that found the queue full.
        queue_full: Counter = UPSTREAM_QUEUE_FULL,
        /// Time in the queue.
        queue_duration: Histogram = UPSTREAM_QUEUE_DURATION,
        /// Requests without a usable server.
        no_server: Counter = UPSTREAM_NO_SERVER,
    }
}

bundle! {
    /// Of a server; label values: its upstream's name, its own.
    ServerMetrics, ServerSlots {
        /// Attempts by status class.
        requests: Each<Class> = SERVER_REQUESTS,
        /// Connections tried.
        connects: Each<Outcome> = SERVER_CONNECTS,
        /// Time to connect.
        connect_duration: Histogram = SERVER_CONNECT_DURATION,
        /// Requests in flight, exact over the host.
        in_flight: HostGauge = SERVER_ACTIVE,
        /// Kept connections.
        idle: Gauge = SERVER_POOL_IDLE,
        /// Connections in use.
        active: Gauge = SERVER_POOL_ACTIVE,
        /// Requests on kept connections.
        reused: Counter = SERVER_REUSED,
        /// Kept connections found closed.
        stale: Counter = SERVER_STALE,
        /// Failures that count against the server.
        failures: Counter = SERVER_FAILURES,
        /// Word of the host: until when the server is passed over; 0 while it is in order.
        shut_until: Shared = SERVER_UP,
        /// Word of the host: the present window of failures.
        fail_window: Shared = SERVER_FAIL_COUNT,
        /// Bytes from the server.
        received: Counter = SERVER_RECEIVED,
        /// Bytes to the server.
        sent: Counter = SERVER_SENT,
    }
}

bundle! {
    /// Of a worker; label values: its number.
    WorkerMetrics, WorkerSlots {
        /// Client connections.
        connections: Gauge = WORKER_CONNECTIONS,
        /// Tasks.
        tasks: Gauge = WORKER_TASKS,
        /// Duration of a turn of the loop.
        loop_lag: Histogram = WORKER_LAG,
        /// Nanoseconds in which the loop was busy.
        busy: Counter = WORKER_BUSY,
        /// Memory of the buffer pool.
        buffer_bytes: Gauge = WORKER_BUFFER_BYTES,
        /// Access log lines.
        log_lines: Counter = WORKER_LOG_LINES,
        /// Access log lines that were lost.
        log_dropped: Counter = WORKER_LOG_DROPPED,
        /// Tasks that panicked.
        panics: Counter = WORKER_PANICS,
        /// Bytes of request bodies kept for a retry.
        retry_bytes: Gauge = WORKER_RETRY_BUFFER,
    }
}

bundle! {
    /// Limits that bit, of every process; no label values.
    LimitMetrics, LimitSlots {
        /// By the name of the limit.
        hits: Each<Limit> = LIMIT_HITS,
    }
}

bundle! {
    /// What the master counts about a worker; label values: its number.
    RestartMetrics, RestartSlots {
        /// Starts after the worker ended by itself.
        restarts: Counter = WORKER_RESTARTS,
    }
}

bundle! {
    /// Of the master; no label values.
    MasterMetrics, MasterSlots {
        /// The generation that serves.
        generation: Gauge = CONFIG_GENERATION,
        /// Generations with a living worker.
        generations: Gauge = CONFIG_GENERATIONS,
        /// 1 or 0.
        reload_successful: Gauge = CONFIG_RELOAD_OK,
        /// Seconds since 1970.
        reload_time: Gauge = CONFIG_RELOAD_TIME,
        /// Reloads by result.
        reloads: Each<Outcome> = CONFIG_RELOADS,
        /// Alerts.
        alerts: Counter = MASTER_ALERTS,
        /// Seconds since 1970.
        start_time: Gauge = MASTER_START_TIME,
    }
}

bundle! {
    /// Of a certificate; label values: its name.
    CertificateMetrics, CertificateSlots {
        /// Word of the host: seconds since 1970.
        expiry: Shared = CERTIFICATE_EXPIRY,
        /// Changed files that could not be used.
        failures: Counter = CERTIFICATE_FAILURES,
    }
}
