//! Numbers that contradict each other.

use std::time::Duration;

use crate::base::unit::{print_duration, print_size};
use crate::conf::build::Draft;
use crate::conf::code::Code;
use crate::conf::finding::{Finding, Findings, Place};
use crate::conf::model::Master;
use crate::conf::view::View;
use crate::http::params::Timeouts;

/// Reports them.
pub(super) fn check(draft: &Draft<'_>, findings: &mut Findings) {
    pools(draft, findings);
    totals(draft, findings);
    drains(draft, findings);
    buffers(draft, findings);
}

fn pools(draft: &Draft<'_>, findings: &mut Findings) {
    let defaults = draft.root.sub("defaults").sub("pool");
    for upstream in &draft.upstreams {
        let pool = upstream.value.pool;
        if pool.max >= pool.max_idle {
            continue;
        }
        let own = View::new(upstream.table).sub("pool");
        let node = [own, defaults]
            .iter()
            .find_map(|v| v.node("max").or(v.node("max_idle")));
        // Below the default of max_idle a smaller max alone is plain enough.
        if own.node("max_idle").or(defaults.node("max_idle")).is_none() {
            continue;
        }
        findings.push(Finding::new(
            Code::PoolBounds,
            node.map_or(upstream.place, |n| n.place),
            format!(
                "`pool.max` ({}) is below `pool.max_idle` ({})",
                pool.max, pool.max_idle
            ),
        ));
    }
}

fn totals(draft: &Draft<'_>, findings: &mut Findings) {
    for route in &draft.routes {
        let timeouts = &route.value.timeouts;
        let Some(total) = timeouts.total else {
            continue;
        };
        if total < timeouts.connect {
            findings.push(Finding::new(
                Code::TotalShort,
                route.at_in("timeouts", "total"),
                format!(
                    "`total` ({}) ends before one try to connect does (`connect` is {})",
                    print_duration(total),
                    print_duration(timeouts.connect)
                ),
            ));
        }
    }
}

fn drains(draft: &Draft<'_>, findings: &mut Findings) {
    let master = &draft.model.master;
    let view = draft.root.sub("master");
    if master.drain_timeout_upgraded < master.drain_timeout
        && let Some(node) = view
            .node("drain_timeout_upgraded")
            .or(view.node("drain_timeout"))
    {
        findings.push(Finding::new(
            Code::DrainOrder,
            node.place,
            "`drain_timeout_upgraded` is shorter than `drain_timeout`",
        ));
    }
    let Some((longest, place)) = longest_response(draft) else {
        return;
    };
    // The built-in values are a deliberate compromise; only what somebody chose is worth a word.
    let chosen = master.drain_timeout != Master::default().drain_timeout;
    let written = view.node("drain_timeout").filter(|_| chosen);
    let Some(place) = written.map(|n| n.place).or(place) else {
        return;
    };
    if master.drain_timeout < longest {
        findings.push(
            Finding::new(
                Code::DrainShort,
                place,
                format!(
                    "responses may take {}, but are cut {} after a reload",
                    print_duration(longest),
                    print_duration(master.drain_timeout)
                ),
            )
            .help("make master.drain_timeout as long as the longest timeouts.response_header"),
        );
    }
}

/// The longest response deadline of all routes, and where it is written.
fn longest_response(draft: &Draft<'_>) -> Option<(Duration, Option<Place>)> {
    let defaults = draft.root.sub("defaults").sub("timeouts");
    draft
        .routes
        .iter()
        .map(|r| {
            let own = View::new(r.table).sub("timeouts");
            let longest = r.value.timeouts.response_header;
            let node = own
                .node("response_header")
                .or(defaults.node("response_header"))
                .filter(|_| longest != Timeouts::default().response_header);
            (longest, node.map(|n| n.place))
        })
        .max_by_key(|(d, _)| *d)
}

fn buffers(draft: &Draft<'_>, findings: &mut Findings) {
    let worker = &draft.model.worker;
    let view = draft.root.sub("worker");
    let buffer = u64::try_from(worker.buffer_size).unwrap_or(u64::MAX);
    let wanted = u64::from(worker.max_connections / 10).saturating_mul(buffer);
    if worker.buffer_pool_max < wanted
        && let Some(node) = view
            .node("buffer_pool_max")
            .or(view.node("max_connections"))
            .or(view.node("buffer_size"))
    {
        findings.push(
            Finding::new(
                Code::BufferPool,
                node.place,
                format!(
                    "{} of buffers for {} connections: reading will pause under load",
                    print_size(worker.buffer_pool_max),
                    worker.max_connections
                ),
            )
            .help(format!(
                "{} is a buffer for every tenth connection",
                print_size(wanted)
            )),
        );
    }
    for route in &draft.routes {
        for listener in &draft.listeners {
            let names = &route.value.matcher.listeners;
            let applies = names.is_empty() || names.contains(&listener.value.http.name);
            let all = listener.value.http.limits.retry_buffer;
            if applies && route.value.buffering.request > all {
                findings.push(Finding::new(
                    Code::RetryBuffer,
                    route.at_in("buffering", "request"),
                    format!(
                        "one request may be buffered up to {}, all together up to {}",
                        print_size(route.value.buffering.request),
                        print_size(all)
                    ),
                ));
                break;
            }
        }
    }
}
