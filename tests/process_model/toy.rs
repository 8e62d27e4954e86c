//! The smallest program that the process model can run: each worker answers a line with who it
//! is. Its configuration is a file of `key value` lines, so that a test can say what goes wrong.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proxyd::base::addr::BindAddr;
use proxyd::base::unit::parse_duration;
use proxyd::conf::model::{AcceptMode, Affinity, Master, Watchdog, Worker};
use proxyd::metric::{Layout, Registry, Table};
use proxyd::process::program::{Bound, Listen, Program, Refresh, Spec};
use proxyd::process::worker::{Command, HelperContext, ThreadContext, beat};
use proxyd::rt::sock::{TcpListener, TcpStream};
use proxyd::rt::{self, Config, Runtime, drain};
use proxyd::sys::shm::Mapping;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The program, in the master.
pub struct Toy {
    file: PathBuf,
    registry: Registry,
    table: Table,
}

/// A configuration.
pub struct Plan {
    values: BTreeMap<String, String>,
    generation: u64,
    table: Table,
    news: String,
    logs: Vec<(PathBuf, OwnedFd)>,
}

impl Plan {
    fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }
}

/// A logger for standard error: one line, one write.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}\n", record.level(), record.args());
        let _closed = std::io::stderr().write_all(line.as_bytes());
    }
    fn flush(&self) {}
}

/// Installs the logger.
pub fn log_to_stderr() {
    log::set_logger(&Stderr).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
}

impl Toy {
    /// Over a configuration file.
    pub fn new(file: &Path) -> Self {
        let layout = Layout::new(64, 4096);
        let words = Mapping::new(layout.words()).unwrap().leak();
        Self {
            file: file.to_owned(),
            registry: Registry::new(layout, &[]),
            table: Table::new(words, layout).unwrap(),
        }
    }
}

fn spec(values: &BTreeMap<String, String>, dir: &Path) -> Spec {
    let time = |key: &str, default: Duration| {
        values
            .get(key)
            .map_or(default, |text| parse_duration(text).unwrap())
    };
    let number = |key: &str, default: u32| values.get(key).map_or(default, |n| n.parse().unwrap());
    let ms = Duration::from_millis;
    let master = Master {
        user: values.get("user").cloned(),
        pid_file: Some(dir.join("proxyd.pid")),
        stop_timeout: time("stop_timeout", ms(5000)),
        drain_timeout: time("drain_timeout", ms(5000)),
        drain_timeout_upgraded: time("drain_timeout_upgraded", ms(60_000)),
        drain_spread: time("drain_spread", ms(100)),
        max_generations: number("max_generations", 4),
        reload_debounce: time("reload_debounce", ms(20)),
        ready_timeout: time("ready_timeout", ms(10_000)),
        ..Master::default()
    };
    let alert = values
        .get("alert_exec")
        .map(|p| vec![p.clone(), "fixed".to_owned()]);
    let watchdog = Watchdog {
        heartbeat_timeout: time("heartbeat_timeout", ms(10_000)),
        restart_delay: time("restart_delay", ms(200)),
        alert_exec: alert.unwrap_or_default(),
        ..Watchdog::default()
    };
    let worker = Worker {
        count: number("workers", 2),
        threads: number("threads", 1),
        affinity: Affinity::None,
        accept: match values.get("accept").map(String::as_str) {
            Some("shared") => AcceptMode::Shared,
            _ => AcceptMode::Reuseport,
        },
        ..Worker::default()
    };
    let places = |key: &str| -> Vec<Listen> {
        let list = values.get(key).map_or("", String::as_str).split(',');
        let place = |(name, bind): (&str, &str)| Listen {
            name: name.to_owned(),
            bind: BindAddr::parse(bind).unwrap(),
            backlog: 1024,
            mode: 0o600,
        };
        list.filter_map(|entry| entry.split_once('='))
            .map(place)
            .collect()
    };
    Spec {
        master,
        worker,
        watchdog,
        listen: places("listen"),
        admin: places("admin"),
        demo: (0..u16::try_from(number("demo", 0)).unwrap()).collect(),
        logs: values
            .get("log")
            .map(|name| dir.join(name))
            .into_iter()
            .collect(),
        log_to_stderr: true,
        drain_longest: Duration::ZERO,
    }
}

impl Program for Toy {
    type Plan = Plan;

    fn load(&mut self, generation: u64) -> Result<(Spec, Plan), String> {
        let text = std::fs::read_to_string(&self.file).map_err(|e| e.to_string())?;
        let mut values = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let (key, value) = line
                .split_once(' ')
                .ok_or_else(|| format!("line {number}: no value\n  {line}\n  ^"))?;
            values.insert(key.to_owned(), value.to_owned());
        }
        let dir = self.file.parent().unwrap();
        let spec = spec(&values, dir);
        let plan = Plan {
            values,
            generation,
            table: self.table,
            news: "none".to_owned(),
            logs: Vec::new(),
        };
        Ok((spec, plan))
    }

    fn bound(&mut self, plan: &mut Plan, bound: Bound) -> Result<(), String> {
        assert!(bound.listen.iter().all(|a| a.is_none_or(|a| a.port() > 0)));
        for (number, addr) in &bound.demo {
            log::info!("demo {number} is {addr}");
        }
        plan.logs = bound.logs;
        if plan.has("fail_bound") {
            return Err("not content with its sockets".to_owned());
        }
        Ok(())
    }

    fn metrics(&mut self) -> Option<(&mut Registry, Table)> {
        Some((&mut self.registry, self.table))
    }

    fn refresh(&mut self, plan: &mut Plan) -> Refresh {
        let news = std::fs::read_to_string(self.file.with_extension("news")).unwrap_or_default();
        if news.is_empty() || news == plan.news {
            return Refresh::default();
        }
        plan.news.clone_from(&news);
        Refresh {
            updates: vec![news.into_bytes()],
            warnings: vec!["there is news".to_owned()],
        }
    }

    fn reopened(&mut self, plan: &mut Plan, logs: &[(PathBuf, OwnedFd)]) {
        plan.logs = logs
            .iter()
            .map(|(path, fd)| (path.clone(), fd.try_clone().unwrap()))
            .collect();
    }

    fn keep(&self, _plan: &Plan) -> Vec<RawFd> {
        vec![std::io::stderr().as_raw_fd()]
    }

    fn run_worker(plan: &Plan, context: ThreadContext) -> Result<(), String> {
        if plan.has("fail_worker") && context.worker == 1 {
            return Err("worker 1 does not like this configuration".to_owned());
        }
        if plan.has("crash_worker") {
            std::process::abort();
        }
        if plan.has("hang_worker") {
            std::thread::sleep(Duration::from_secs(60));
        }
        let column = context.take_column(plan.table, proxyd::sys::clock::monotonic());
        let runtime = Runtime::new(Config::default()).map_err(|e| e.to_string())?;
        runtime.block_on(async move {
            rt::spawn(beat(column)).detach();
            serve(plan, context).await
        })
    }

    fn run_admin(&self, plan: &Plan, context: HelperContext) -> Result<(), String> {
        help(plan, context, "admin")
    }

    fn run_demo(&self, plan: &Plan, context: HelperContext) -> Result<(), String> {
        help(plan, context, "demo")
    }
}

fn help(plan: &Plan, context: HelperContext, who: &'static str) -> Result<(), String> {
    let runtime = Runtime::new(Config::default()).map_err(|e| e.to_string())?;
    let name = format!("{who} {}", plan.generation);
    runtime.block_on(async move {
        context.port.ready();
        let port = context.port.in_loop().map_err(|e| e.to_string())?;
        let (signal, _) = drain::signal();
        for socket in context.sockets {
            let listener = TcpListener::from_fd(socket.fd).map_err(|e| e.to_string())?;
            let name = name.clone();
            let watch = signal.watch();
            rt::spawn(async move {
                accept(listener, watch, move || name.clone()).await;
            })
            .detach();
        }
        loop {
            if let Command::Drain(_) = port.command().await {
                return Ok(());
            }
        }
    })
}

async fn serve(plan: &Plan, context: ThreadContext) -> Result<(), String> {
    let failed = |e: std::io::Error| e.to_string();
    let news = std::rc::Rc::new(std::cell::RefCell::new(plan.news.clone()));
    let (signal, watch) = drain::signal();
    drop(watch);
    let pid = std::process::id();
    let (worker, thread, generation) = (context.worker, context.thread, context.generation);
    let port = context.port.in_loop().map_err(failed)?;
    if !port.begin().await {
        return Ok(());
    }
    for socket in context.sockets {
        let watch = signal.watch();
        let news = std::rc::Rc::clone(&news);
        let listener = TcpListener::from_fd(socket.fd).map_err(failed)?;
        rt::spawn(async move {
            let who = move || {
                let news = news.borrow();
                format!("gen {generation} worker {worker}.{thread} pid {pid} news {news}")
            };
            accept(listener, watch, who).await;
        })
        .detach();
    }
    loop {
        let over = async {
            signal.over().await;
        };
        tokio::select! {
            command = port.command() => match command {
                Command::Drain(order) => {
                    let at = |limit: Option<Duration>| {
                        limit.map_or(proxyd::base::time::Instant::FAR, |l| rt::now() + l)
                    };
                    signal.start(drain::Deadlines {
                        ordinary: at(order.ordinary),
                        upgraded: at(order.upgraded),
                    });
                }
                Command::Close { .. } => return Ok(()),
                Command::Update(bytes) => {
                    *news.borrow_mut() = String::from_utf8(bytes).unwrap();
                }
                Command::Reopen(new) => {
                    for (_, fd) in new {
                        let mut log = File::from(fd);
                        writeln!(log, "worker {worker} of {generation} writes here").unwrap();
                    }
                }
            },
            () = over, if signal.is_started() => return Ok(()),
        }
    }
}

/// Accepts until the drain, takes what waits in the queue then, and answers each line.
async fn accept(
    listener: TcpListener,
    watch: drain::Watch,
    who: impl Fn() -> String + Clone + 'static,
) {
    let mut own = watch.branch().1;
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    let (who, watch) = (who.clone(), watch.branch().1);
                    rt::spawn(answer(stream, watch, who)).detach();
                }
            }
            _ = own.wait_started() => return,
        }
    }
}

/// `hold` keeps the connection open to the upgraded deadline; any other line is answered.
async fn answer(mut stream: TcpStream, mut watch: drain::Watch, who: impl Fn() -> String) {
    let mut buf = [0; 64];
    loop {
        let leave = async {
            let until = watch.wait_started().await.ordinary;
            rt::sleep_until(until).await;
        };
        let len = tokio::select! {
            biased;
            read = stream.read(&mut buf) => read.unwrap_or(0),
            () = leave => 0,
        };
        if len == 0 {
            return;
        }
        if buf.starts_with(b"hold") {
            let _told = stream.write_all(b"holding\n").await;
            let until = watch.wait_started().await.upgraded;
            let _gone = rt::timeout_at(until, stream.read(&mut buf)).await;
            return;
        }
        if stream
            .write_all(format!("{}\n", who()).as_bytes())
            .await
            .is_err()
        {
            return;
        }
        if watch.is_started() {
            return;
        }
    }
}
