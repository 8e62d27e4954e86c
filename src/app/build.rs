//! From a plan to running parts, in one thread of a worker: upstreams, routes, services. Read it
//! as the table of contents of the data path.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use slab::Slab;

use crate::app::plan::Plan;
use crate::base::addr::{Endpoint, Host};
use crate::base::rng::Rng;
use crate::conf::model::Listener;
use crate::http::client_addr::Networks;
use crate::http::edit::{RequestRules, ResponseRules};
use crate::http::kept;
use crate::http::params::{Action as ActionParams, RouteParams};
use crate::http::redirect::Redirect;
use crate::http::reply::Answer;
use crate::http::router::Router;
use crate::http::service::{Action, Dates, Route, Rules, Service, Shared};
use crate::log::access::AccessLog;
use crate::metric::Column;
use crate::net::resolve::{self, Resolver};
use crate::net::tls::client::{self, Client as TlsClient};
use crate::net::tls::server::{self, Server as TlsServer};
use crate::net::tls::store::Catalog;
use crate::rt::drain::Watch;
use crate::upstream::balance::Place;
use crate::upstream::connect::Connector;
use crate::upstream::group::{Server, Upstream};
use crate::upstream::params::{ServerAddress, UpstreamParams};

/// What a thread brings along.
pub struct Thread {
    /// Its column of the metrics.
    pub column: Column,
    /// Its place among all event loops.
    pub place: Place,
    /// A seed of its own.
    pub seed: u64,
    /// The access log.
    pub log: AccessLog,
    /// The calendar clock.
    pub wall: fn() -> Duration,
    /// Tells when to leave.
    pub drain: Watch,
}

/// A listener's service with its TLS.
pub struct Front {
    /// What is done with connections.
    pub service: Rc<Service>,
    /// How they are made private.
    pub tls: Option<TlsServer>,
}

/// Everything that one thread of a worker runs.
pub struct House {
    /// What all services share.
    pub shared: Rc<Shared>,
    /// By the model's listeners.
    pub fronts: Vec<Rc<Front>>,
    /// By the model's upstreams.
    pub upstreams: Vec<Rc<Upstream>>,
    /// TLS of upstreams, by the model's upstreams.
    pub upstream_tls: Vec<Option<Rc<TlsClient>>>,
    /// All certificates.
    pub catalog: RefCell<Catalog>,
}

/// Builds everything.
///
/// # Errors
/// What does not fit together; `conf` has checked it, so this is rare.
pub fn build(plan: &Plan, thread: Thread) -> Result<House, String> {
    let catalog = plan.certificates.catalog.clone();
    let dns = resolve::Params {
        servers: plan.model.dns.servers.clone(),
        min_ttl: plan.model.dns.min_ttl,
        max_ttl: plan.model.dns.max_ttl,
        stale: plan.model.dns.stale,
    };
    let resolver = Rc::new(Resolver::new(dns, resolve::System::load()));
    let mut upstreams = Vec::with_capacity(plan.model.upstreams.len());
    let mut upstream_tls = Vec::with_capacity(plan.model.upstreams.len());
    for (params, slots) in plan.model.upstreams.iter().zip(&plan.slots.upstreams) {
        let tls = tls_client(plan, params, &catalog)?;
        let mut servers = Vec::with_capacity(params.servers.len());
        for (server, slots) in params.servers.iter().zip(&slots.1) {
            let endpoint = endpoint(plan, &server.address)?;
            let connector = Connector::new(&endpoint, &resolver, params.source, tls.clone());
            let metrics = slots.bind(&thread.column);
            servers.push(Server::new(server.clone(), params.pool, connector, metrics));
        }
        let metrics = slots.0.bind(&thread.column);
        upstreams.push(Rc::new(Upstream::new(
            params,
            servers,
            metrics,
            thread.place,
        )));
        upstream_tls.push(tls);
    }
    let routes = routes(plan, &upstreams, &thread.column)?;
    let shared = Rc::new(shared(plan, thread.seed, &thread));
    *shared.log.borrow_mut() = Some(thread.log);
    let names: Vec<&str> = plan
        .model
        .listeners
        .iter()
        .map(|l| l.http.name.as_str())
        .collect();
    let router = Rc::new(Router::new(&names, &plan.model.routes));
    let mut fronts = Vec::with_capacity(plan.model.listeners.len());
    for (index, (listener, slots)) in plan
        .model
        .listeners
        .iter()
        .zip(&plan.slots.listeners)
        .enumerate()
    {
        let tls = tls_server(plan, listener, &catalog)?;
        let service = Rc::new(Service {
            params: listener.http.clone(),
            index,
            router: Rc::clone(&router),
            routes: Rc::clone(&routes),
            rules: rules(plan, listener)?,
            trusted: Networks::new(&listener.http.trusted_proxies),
            certificates: tls.as_ref().map(TlsServer::share_store),
            metrics: slots.bind(&thread.column),
            shared: Rc::clone(&shared),
        });
        fronts.push(Rc::new(Front { service, tls }));
    }
    let catalog = RefCell::new(catalog);
    Ok(House {
        shared,
        fronts,
        upstreams,
        upstream_tls,
        catalog,
    })
}

fn endpoint(plan: &Plan, address: &ServerAddress) -> Result<Endpoint, String> {
    match address {
        ServerAddress::Endpoint(endpoint) => Ok(endpoint.clone()),
        ServerAddress::Demo(number) => {
            let found = plan.demo.iter().find(|(demo, _)| demo == number);
            let (_, addr) = found.ok_or_else(|| format!("demo server {number} does not run"))?;
            Ok(Endpoint::Tcp {
                host: Host::Ip(addr.ip()),
                port: addr.port(),
            })
        }
    }
}

fn shared(plan: &Plan, seed: u64, thread: &Thread) -> Shared {
    let retry_buffer = plan
        .model
        .listeners
        .iter()
        .map(|listener| listener.http.limits.retry_buffer)
        .max();
    Shared {
        draining: Cell::new(false),
        stopping: Cell::new(false),
        connections: RefCell::new(Slab::new()),
        addresses: RefCell::new(HashMap::new()),
        kept: kept::Budget::new(retry_buffer.unwrap_or(0)),
        rng: RefCell::new(Rng::new(seed)),
        log: RefCell::new(None),
        limits: plan.slots.limits.bind(&thread.column),
        drain: thread.drain.clone(),
        date: Dates::new(thread.wall),
    }
}

fn routes(plan: &Plan, upstreams: &[Rc<Upstream>], column: &Column) -> Result<Rc<[Route]>, String> {
    let by_name: HashMap<&str, &Rc<Upstream>> = upstreams
        .iter()
        .map(|upstream| (upstream.name.as_str(), upstream))
        .collect();
    let mut routes = Vec::with_capacity(plan.model.routes.len());
    for (params, slots) in plan.model.routes.iter().zip(&plan.slots.routes) {
        routes.push(Route {
            action: action(params)?,
            targets: targets(params, &by_name)?,
            metrics: slots.bind(column),
            params: params.clone(),
        });
    }
    Ok(routes.into())
}

fn action(params: &RouteParams) -> Result<Action, String> {
    Ok(match &params.action {
        ActionParams::Forward(_) => Action::Forward,
        ActionParams::Redirect { to, status } => {
            let redirect = Redirect::compile(to, *status)
                .map_err(|error| format!("route {}: {error:?}", params.name))?;
            Action::Answer(Answer::Redirect(redirect))
        }
        ActionParams::Respond {
            status,
            body,
            content_type,
        } => Action::Answer(Answer::Respond {
            status: *status,
            content_type: content_type.clone(),
            body: body.clone(),
        }),
    })
}

fn targets(
    params: &RouteParams,
    upstreams: &HashMap<&str, &Rc<Upstream>>,
) -> Result<Vec<(Rc<Upstream>, u64)>, String> {
    let ActionParams::Forward(targets) = &params.action else {
        return Ok(Vec::new());
    };
    let mut sum = 0;
    targets
        .iter()
        .map(|target| {
            sum += u64::from(target.weight);
            let upstream = upstreams.get(target.upstream.as_str());
            let upstream = upstream.ok_or_else(|| {
                format!(
                    "route {}: there is no upstream {}",
                    params.name, target.upstream
                )
            })?;
            Ok((Rc::clone(upstream), sum))
        })
        .collect()
}

/// The header rules of every route that applies to the listener.
fn rules(plan: &Plan, listener: &Listener) -> Result<Vec<Option<Rules>>, String> {
    let name = &listener.http.name;
    (plan.model.routes.iter())
        .map(|route| {
            let listeners = &route.matcher.listeners;
            if !listeners.is_empty() && !listeners.contains(name) {
                return Ok(None);
            }
            let failed = |error| format!("route {}: {error:?}", route.name);
            let request = RequestRules::compile(&listener.http, route, &plan.instance);
            let response = ResponseRules::compile(&listener.http, route);
            Ok(Some(Rules {
                request: request.map_err(failed)?,
                response: response.map_err(failed)?,
            }))
        })
        .collect()
}

fn tls_server(
    plan: &Plan,
    listener: &Listener,
    catalog: &Catalog,
) -> Result<Option<TlsServer>, String> {
    let Some(params) = &listener.tls else {
        return Ok(None);
    };
    let setup = server::Setup {
        listener: &listener.http.name,
        params,
        catalog,
        trust: plan.certificates.client_trust.get(&listener.http.name),
        ticket_words: plan.certificates.ticket_words,
    };
    TlsServer::new(setup)
        .map(Some)
        .map_err(|e| format!("listener {}: {e}", listener.http.name))
}

fn tls_client(
    plan: &Plan,
    params: &UpstreamParams,
    catalog: &Catalog,
) -> Result<Option<Rc<TlsClient>>, String> {
    let Some(setup) = tls_client_setup(plan, params, catalog) else {
        return Ok(None);
    };
    let client = TlsClient::new(setup).map_err(|e| format!("upstream {}: {e}", params.name))?;
    Ok(Some(Rc::new(client)))
}

/// What the TLS of an upstream is made of.
pub fn tls_client_setup<'a>(
    plan: &'a Plan,
    params: &'a UpstreamParams,
    catalog: &'a Catalog,
) -> Option<client::Setup<'a>> {
    Some(client::Setup {
        params: params.tls.as_ref()?,
        roots: &plan.certificates.roots,
        trust: plan.certificates.upstream_trust.get(&params.name),
        catalog,
    })
}
