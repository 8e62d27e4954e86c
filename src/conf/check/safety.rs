//! What works and is dangerous.

use crate::conf::build::Draft;
use crate::conf::code::Code;
use crate::conf::finding::{Finding, Findings};
use crate::net::tls::params::Verify;

/// Reports it.
pub(super) fn check(draft: &Draft<'_>, findings: &mut Findings) {
    for upstream in &draft.upstreams {
        let off = upstream
            .value
            .tls
            .as_ref()
            .is_some_and(|t| t.verify == Verify::Off);
        if off {
            findings.push(
                Finding::new(
                    Code::VerifyOff,
                    upstream.at_in("tls", "verify"),
                    format!(
                        "the certificates of upstream `{}` are not verified",
                        upstream.value.name
                    ),
                )
                .help("write verify = \"full\" with `ca`, or a pin: verify = \"pin:sha256/...\""),
            );
        }
    }
    for listener in &draft.listeners {
        let any = listener
            .value
            .http
            .trusted_proxies
            .iter()
            .any(|n| n.prefix_len() == 0);
        if any {
            findings.push(
                Finding::new(
                    Code::TrustAny,
                    listener.at("trusted_proxies"),
                    "every client is a trusted proxy and can choose its address",
                )
                .help("write the networks of your proxies"),
            );
        }
    }
}
