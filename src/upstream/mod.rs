//! Upstreams: servers, balancing, connection pools, retries.
