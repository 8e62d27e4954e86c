//! The data of the tidy rules: ranks, places, limits and their few exceptions, each with its
//! reason. Changing a rule means changing this file, in the open.

/// The order of the house: a module may use modules of a lower rank and its own children.
const RANKS: &[(u8, &[&str])] = &[
    (0, &["base"]),
    (1, &["proto", "sys"]),
    (2, &["log", "metric"]),
    (3, &["rt"]),
    (4, &["io"]),
    (5, &["net"]),
    (6, &["limit", "upstream"]),
    (7, &["http", "forward", "socks", "relay", "tun"]),
    (8, &["conf"]),
    (9, &["app"]),
    (10, &["process"]),
    (11, &["cli"]),
];

/// The rank of a top-level module.
pub fn rank(module: &str) -> Option<u8> {
    RANKS
        .iter()
        .find(|(_, names)| names.contains(&module))
        .map(|(rank, _)| *rank)
}

/// Something that only a few files may do.
pub struct Place {
    /// What to look for in product code.
    pub patterns: &'static [&'static str],
    /// Where it is allowed: files below `src/`, or folders with a slash at the end.
    pub files: &'static [&'static str],
    /// Why.
    pub rule: &'static str,
}

/// Where clocks, threads, exits and the environment are touched.
pub const PLACES: &[Place] = &[
    Place {
        patterns: &[
            "std::time::Instant",
            "Instant::now",
            "SystemTime::now",
            "SystemTime",
            "clock_gettime",
        ],
        files: &["base/time.rs", "rt/", "sys/"],
        rule: "the clock is read in base/time, rt and sys only; everybody else is given `now`",
    },
    Place {
        patterns: &["thread::spawn", "thread::Builder", "thread::scope"],
        files: &["rt/offload.rs", "process/worker/"],
        rule: "a thread before a fork is a trap (D1): threads start in rt/offload and in the worker only",
    },
    Place {
        patterns: &["process::exit", "process::abort", "libc::_exit"],
        files: &["sys/process.rs"],
        rule: "the program ends by returning an exit code",
    },
    Place {
        patterns: &[
            "env::var",
            "env::var_os",
            "env::vars",
            "env::set_var",
            "env::args",
            "env::args_os",
        ],
        files: &["main.rs", "cli/", "conf/env.rs", "sys/notify.rs"],
        rule: "the environment is read at the edges only",
    },
    Place {
        patterns: &["print!", "println!", "eprint!", "eprintln!"],
        files: &["cli/"],
        rule: "output has one door: the log, or the command line",
    },
];

/// Module names that say nothing.
pub const BANNED_NAMES: &[&str] = &[
    "util", "utils", "common", "misc", "manager", "helper", "helpers", "stuff", "core",
];

/// Lines of a file that are not test code.
pub const FILE_LINES_MAX: usize = 600;

/// Lines of a function, from `fn` to its closing brace.
pub const FUNCTION_LINES_MAX: usize = 80;

/// A function that may be longer, exactly as long as it is.
pub struct LongFunction {
    /// The file.
    pub path: &'static str,
    /// The function.
    pub function: &'static str,
    /// Its length; it may only shrink.
    pub lines: usize,
    /// Why it is one function.
    #[allow(dead_code, reason = "written for people")]
    pub reason: &'static str,
}

/// The exceptions.
pub const LONG_FUNCTIONS: &[LongFunction] = &[];

/// Words that mark unfinished work. They are put together here so that this file passes.
pub const UNFINISHED_WORDS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];
