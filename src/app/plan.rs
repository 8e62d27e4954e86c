//! What a generation is made of: the checked configuration with its places in the table of
//! metrics and its key material. Made in the master and inherited by fork.

use std::net::SocketAddr;

use crate::app::certificates::Certificates;
use crate::conf::model::Model;
use crate::metric::bundle::{
    LimitMetrics, LimitSlots, ListenerMetrics, ListenerSlots, RouteMetrics, RouteSlots,
    ServerMetrics, ServerSlots, UpstreamMetrics, UpstreamSlots, WorkerMetrics, WorkerSlots,
};
use crate::metric::{Full, Registry, Table};

/// The places of everything that a worker counts.
#[derive(Clone, Debug)]
pub struct Slots {
    /// By listener.
    pub listeners: Vec<ListenerSlots>,
    /// By route.
    pub routes: Vec<RouteSlots>,
    /// By upstream, with its servers.
    pub upstreams: Vec<(UpstreamSlots, Vec<ServerSlots>)>,
    /// By worker.
    pub workers: Vec<WorkerSlots>,
    /// Limits.
    pub limits: LimitSlots,
}

impl Slots {
    /// Takes the slots for a model, or finds those it has from an earlier generation.
    ///
    /// # Errors
    /// When the table is full.
    pub fn register(model: &Model, workers: u32, registry: &mut Registry) -> Result<Self, Full> {
        let listeners = (model.listeners.iter())
            .map(|listener| ListenerMetrics::register(registry, &[&listener.http.name]))
            .collect::<Result<_, _>>()?;
        let routes = (model.routes.iter())
            .map(|route| RouteMetrics::register(registry, &[&route.name]))
            .collect::<Result<_, _>>()?;
        let mut upstreams = Vec::with_capacity(model.upstreams.len());
        for upstream in &model.upstreams {
            let servers = (upstream.servers.iter())
                .map(|server| ServerMetrics::register(registry, &[&upstream.name, &server.name]))
                .collect::<Result<_, _>>()?;
            upstreams.push((
                UpstreamMetrics::register(registry, &[&upstream.name])?,
                servers,
            ));
        }
        let workers = (0..workers)
            .map(|worker| WorkerMetrics::register(registry, &[&worker.to_string()]))
            .collect::<Result<_, _>>()?;
        let limits = LimitMetrics::register(registry, &[])?;
        Ok(Self {
            listeners,
            routes,
            upstreams,
            workers,
            limits,
        })
    }

    /// How many words of a column the model needs: for the size of the table.
    #[must_use]
    pub fn words(model: &Model, workers: u32) -> usize {
        let bounds = model.metrics.buckets.len();
        let servers: usize = model
            .upstreams
            .iter()
            .map(|upstream| upstream.servers.len())
            .sum();
        model.listeners.len() * ListenerMetrics::words(bounds)
            + model.routes.len() * RouteMetrics::words(bounds)
            + model.upstreams.len() * UpstreamMetrics::words(bounds)
            + servers * ServerMetrics::words(bounds)
            + workers as usize * WorkerMetrics::words(bounds)
            + LimitMetrics::words(bounds)
    }
}

/// A generation, ready to be built in every worker.
pub struct Plan {
    /// The configuration.
    pub model: Model,
    /// The table of numbers.
    pub table: Table,
    /// Its places in the table.
    pub slots: Slots,
    /// Certificates, CAs and roots.
    pub certificates: Certificates,
    /// Where the demo servers listen.
    pub demo: Vec<(u16, SocketAddr)>,
    /// The unique name of this instance in Via.
    pub instance: String,
}
