//! The admin process: metrics, health and a page for people. It reads the shared table and
//! `/proc`, asks no worker for anything, and may die at any time without touching traffic.

mod overview;
mod processes;

use crate::conf::Model;
use crate::log;
use crate::log::params::Output;
use crate::metric::{self, Registry, Table};
use crate::process::web::{self, Body, Bounds, Site};
use crate::process::worker::HelperContext;
use crate::sys::{clock, wall};
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

const BOUNDS: Bounds = Bounds {
    connections: 64,
    head: Duration::from_secs(10),
    answer: Duration::from_secs(10),
    connection: Duration::from_secs(300),
    leave: Duration::from_secs(2),
};

/// A worker that has not said for so long that it is alive does not count as serving.
const FRESH: Duration = Duration::from_secs(10);

/// Serves until the master says otherwise or is gone.
///
/// # Errors
/// Why it cannot serve.
pub fn run(
    model: &Model,
    registry: &Registry,
    table: Table,
    context: HelperContext,
) -> Result<(), String> {
    let _column = context.take_column(table, clock::monotonic());
    let admin = Admin {
        path: model.metrics.path.clone(),
        log: model.log.output.clone(),
        registry: registry.clone(),
        table,
        generation: context.generation,
    };
    web::run(context, BOUNDS, admin)
}

struct Admin {
    path: String,
    log: Output,
    registry: Registry,
    table: Table,
    generation: u64,
}

impl Site for Admin {
    async fn answer(&self, _place: usize, request: Request<Incoming>) -> Response<Body> {
        self.page(request.method(), request.uri().path())
    }

    fn reopened(&self, logs: &[(PathBuf, OwnedFd)]) {
        let Output::File(path) = &self.log else {
            return;
        };
        let file = logs.iter().find(|(known, _)| known == path);
        if let Some((_, file)) = file
            && let Err(error) = log::reopen(file)
        {
            ::log::error!("{} was not opened anew: {error}", path.display());
        }
    }
}

impl Admin {
    fn page(&self, method: &Method, path: &str) -> Response<Body> {
        if method != Method::GET && method != Method::HEAD {
            let mut refused = web::text(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD.\n");
            let allowed = HeaderValue::from_static("GET, HEAD");
            refused.headers_mut().insert(ALLOW, allowed);
            return refused;
        }
        match path {
            path if path == self.path => self.metrics(),
            "/healthz" => self.health(),
            "/" => self.overview(),
            _ => {
                let text = format!("Nothing here. There are /, /healthz and {}.\n", self.path);
                web::text(StatusCode::NOT_FOUND, text)
            }
        }
    }

    fn metrics(&self) -> Response<Body> {
        let processes = processes::living(&self.table);
        let samples = processes::samples(&processes);
        match metric::encode(&self.registry, &self.table, &samples) {
            Ok(text) => web::page(StatusCode::OK, metric::CONTENT_TYPE, text),
            Err(error) => {
                ::log::error!("metrics: {error}");
                web::text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "The metrics are broken.\n",
                )
            }
        }
    }

    /// Whether any worker serves.
    fn health(&self) -> Response<Body> {
        if processes::serves(&self.table, clock::monotonic(), FRESH) {
            web::text(StatusCode::OK, "ok\n")
        } else {
            web::text(StatusCode::SERVICE_UNAVAILABLE, "no worker serves\n")
        }
    }

    fn overview(&self) -> Response<Body> {
        let processes = processes::living(&self.table);
        let now = overview::Now {
            monotonic: clock::monotonic(),
            wall: wall::now(),
            generation: self.generation,
        };
        let page = overview::page(&self.registry, &self.table, &processes, &now, &self.path);
        web::page(StatusCode::OK, "text/html; charset=utf-8", page)
    }
}

#[cfg(test)]
mod tests;
