//! What every scenario stands on: seeds, the run of one simulation with the checks at its end, and
//! a worker without a process that listens on the simulated network.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use proxyd::app::build::{self, House, Thread};
use proxyd::app::certificates::Certificates;
use proxyd::app::plan::{Plan, Slots};
use proxyd::app::serve::{self, Leave};
use proxyd::base::reason::Reason;
use proxyd::base::time::Instant;
use proxyd::conf;
use proxyd::http::service::{Route, Service};
use proxyd::io::buf;
use proxyd::log::Sink;
use proxyd::log::access::AccessLog;
use proxyd::log::params::AccessParams;
use proxyd::metric::label::{Class, Limit};
use proxyd::metric::{Layout, Registry, Table};
use proxyd::net::listen::{Gate, Listener, Reserve};
use proxyd::rt::drain::{Signal, signal};
use proxyd::rt::sock::TcpListener;
use proxyd::rt::{self, Runtime};
use proxyd::upstream::balance::Place;
use proxyd::upstream::group::Server;

/// Where the proxy listens.
pub const FRONT: &str = "10.0.9.1:80";

/// Turns of the loop without a step of the clock after which it is taken to spin.
const SPIN: u64 = 50_000;

fn seeds() -> Vec<u64> {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(
            text.parse()
                .unwrap_or_else(|_| panic!("{name} is a number")),
        )
    };
    match number("PROXYD_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("PROXYD_SEEDS").unwrap_or(24)).collect(),
    }
}

/// Runs a scenario with every seed; the seed of a failure is printed.
pub fn with_seeds<F: Future<Output = ()>>(scenario: impl Fn(u64) -> F) {
    for seed in seeds() {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(seed, scenario(seed));
        }));
        if let Err(panic) = outcome {
            eprintln!("seed {seed} failed: run again with PROXYD_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn run(seed: u64, scenario: impl Future<Output = ()>) {
    let runtime = Runtime::simulated(seed);
    let (last, turns) = (Cell::new(Instant::ZERO), Cell::new(0));
    runtime.on_turn(move |stats| {
        let stands = stats.now == last.replace(stats.now);
        turns.set(if stands { turns.get() + 1 } else { 0 });
        assert!(turns.get() < SPIN, "the loop spins");
    });
    runtime.block_on(scenario);
    // What is left closes by itself: nothing may stay behind.
    for _ in 0..600 {
        if runtime.tasks() == 0 {
            break;
        }
        runtime.block_on(rt::sleep(Duration::from_secs(1)));
    }
    assert_eq!(runtime.tasks(), 0, "tasks stay behind");
    assert_eq!(buf::stats().in_use, 0, "buffers stay behind");
}

/// A worker without a process: listening on the simulated network.
pub struct Proxy {
    pub house: Rc<House>,
    leave: Signal,
}

impl Proxy {
    /// Builds and serves a configuration. Its first listener gets the address [`FRONT`].
    pub fn start(text: &str, seed: u64) -> Self {
        let loaded = conf::load_str("sim.toml", text);
        let Some(model) = loaded.model else {
            panic!("{:#?}", loaded.findings)
        };
        let layout = Layout::new(4, 1 << 16);
        let table = Table::heap_with(layout);
        let mut registry = Registry::new(layout, &model.metrics.buckets);
        let slots = Slots::register(&model, 1, &mut registry).unwrap();
        let certificates = Certificates::load(&model, None, None, 1_800_000_000).unwrap();
        let plan = Plan {
            model,
            table,
            slots,
            certificates,
            demo: Vec::new(),
            instance: "sim".to_owned(),
        };
        let (leave, drain) = signal();
        let wall = || Duration::from_secs(1_800_000_000);
        let params = AccessParams::default();
        let thread = Thread {
            column: table.column(1),
            place: Place::ONLY,
            seed,
            log: AccessLog::new(&params, Sink::off(), seed, wall).unwrap(),
            wall,
            drain,
        };
        let house = Rc::new(build::build(&plan, thread).unwrap());
        let socket = TcpListener::bind(FRONT.parse().unwrap()).unwrap();
        let (gate, reserve) = (Gate::new(1000), Reserve::new().unwrap());
        serve::accept(&house, 0, Listener::Tcp(socket), gate, reserve);
        Self { house, leave }
    }

    /// A listener and one route to these servers; `listener` and `route` are further keys.
    pub fn to(servers: &[&str], listener: &str, route: &str, seed: u64) -> Self {
        let text = format!(
            "[[listener]]\nname = \"web\"\nbind = \"{FRONT}\"\n{listener}\n\
             [[route]]\nname = \"all\"\nto = {servers:?}\n{route}\n"
        );
        Self::start(&text, seed)
    }

    /// A listener and one route to the upstream `app`, which `upstream` describes.
    pub fn with_upstream(upstream: &str, listener: &str, route: &str, seed: u64) -> Self {
        let text = format!(
            "[[listener]]\nname = \"web\"\nbind = \"{FRONT}\"\n{listener}\n\
             [[route]]\nname = \"all\"\nto = \"app\"\n{route}\n\
             [[upstream]]\nname = \"app\"\n{upstream}\n"
        );
        Self::start(&text, seed)
    }

    pub fn service(&self) -> &Service {
        &self.house.fronts[0].service
    }

    pub fn route(&self) -> &Route {
        &self.service().routes[0]
    }

    pub fn server(&self, index: usize) -> &Server {
        &self.house.upstreams[0].servers()[index]
    }

    /// How often a reason was recorded for a request.
    pub fn reasons(&self, reason: Reason) -> u64 {
        self.service().metrics.reasons.get(reason)
    }

    /// How often a connection ended for a reason without a request.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.service().metrics.refused.get(reason)
    }

    /// How often a limit bit.
    pub fn hits(&self, limit: Limit) -> u64 {
        self.house.shared.limits.hits.get(limit)
    }

    /// Requests recorded, by class.
    pub fn recorded(&self, class: Class) -> u64 {
        self.service().metrics.requests.get(class)
    }

    /// All requests recorded.
    pub fn all_recorded(&self) -> u64 {
        Class::ALL.iter().map(|class| self.recorded(*class)).sum()
    }

    /// Begins to leave as after a reload.
    pub fn drain(&self, ordinary: Duration, upgraded: Duration) {
        self.leave(ordinary, upgraded, false);
    }

    /// Begins to leave with nobody who takes over.
    pub fn stop(&self, ordinary: Duration, upgraded: Duration) {
        self.leave(ordinary, upgraded, true);
    }

    fn leave(&self, ordinary: Duration, upgraded: Duration, stopping: bool) {
        let how = Leave {
            ordinary: Some(ordinary),
            upgraded: Some(upgraded),
            stopping,
        };
        serve::leave(&self.house, &self.leave, how);
    }

    /// Client connections that are open.
    pub fn connections(&self) -> usize {
        self.house.shared.connections.borrow().len()
    }

    /// Nothing is being done: everything that is held during an exchange was given back.
    pub fn assert_quiet(&self) {
        assert_eq!(buf::stats().in_use, 0, "buffers in use");
        assert_eq!(self.house.shared.kept.in_use(), 0, "bodies kept");
        for route in self.service().routes.iter() {
            assert_eq!(route.metrics.in_flight.get(), 0, "requests in flight");
            assert_eq!(route.metrics.tunnels.get(), 0, "tunnels");
        }
        for upstream in &self.house.upstreams {
            assert_eq!(upstream.metrics.waiting.get(), 0, "requests in the queue");
            for server in upstream.servers() {
                let metrics = &server.metrics;
                assert_eq!(metrics.active.get(), 0, "busy connections");
                let words = [metrics.in_flight.host(), metrics.in_flight.own()];
                for word in words {
                    let flying = word.load(std::sync::atomic::Ordering::Relaxed);
                    assert_eq!(flying, 0, "requests in flight at a server");
                }
            }
        }
    }

    /// The clients are gone: so is everything else.
    pub async fn assert_over(&self) {
        sleep_ms(20).await;
        assert_eq!(self.connections(), 0, "client connections stay open");
        assert!(self.house.shared.addresses.borrow().is_empty());
        assert_eq!(self.service().metrics.active.get(), 0);
        self.assert_quiet();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop(Duration::ZERO, Duration::ZERO);
        }
    }
}

pub async fn sleep_ms(millis: u64) {
    rt::sleep(Duration::from_millis(millis)).await;
}

pub async fn sleep_s(seconds: u64) {
    rt::sleep(Duration::from_secs(seconds)).await;
}

/// Measures how long something takes in virtual time.
pub struct Watch(Instant);

impl Watch {
    pub fn start() -> Self {
        Self(rt::now())
    }

    pub fn elapsed(&self) -> Duration {
        rt::now() - self.0
    }

    /// It took so long: not less, and at most a tick of the timers and the network more.
    #[track_caller]
    pub fn assert_took(&self, expected: Duration) {
        let (took, slack) = (self.elapsed(), Duration::from_millis(12));
        assert!(
            took + Duration::from_millis(4) >= expected && took <= expected + slack,
            "it took {took:?}, expected {expected:?}"
        );
    }
}
