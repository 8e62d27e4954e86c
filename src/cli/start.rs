//! Where the command line hands over to the processes: becoming the master, and telling one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::flag::Word;
use super::out;
use crate::base::addr::BindAddr;
use crate::conf::{self, Loaded, Model};
use crate::process::control::{self, Request};
use crate::process::master::{self, Options};
use crate::process::proxyd::Proxyd;
use crate::upstream::params::ServerAddress;

/// Becomes the master when the configuration is usable.
pub(super) fn start(config: PathBuf, loaded: Loaded, daemon: bool) -> ExitCode {
    out::error(&conf::render::text(&loaded, out::colour()));
    let Some(model) = loaded.model else {
        return ExitCode::FAILURE;
    };
    out::print(&welcome(&model));
    let detach = daemon || model.master.daemon;
    ExitCode::from(master::run(Proxyd::new(config, model), Options { detach }))
}

/// `proxyd -s WORD`: tells the running master, and waits for what comes of it.
pub(super) fn signal(config: &Path, word: Word) -> ExitCode {
    let pid_file = match conf::pid_file(config) {
        Ok(Some(path)) => path,
        Ok(None) => {
            let name = config.display();
            out::error(&format!(
                "proxyd: {name} has no `pid_file` in [master], so the running proxyd cannot be found\n"
            ));
            return ExitCode::FAILURE;
        }
        Err(reason) => {
            out::error(&format!("proxyd: {reason}\n"));
            return ExitCode::FAILURE;
        }
    };
    let request = match word {
        Word::Reload => Request::Reload,
        Word::Stop => Request::Stop,
        Word::Quit => Request::Quit,
        Word::Reopen => Request::Reopen,
    };
    let answer = control::ask(&pid_file, request);
    let text = format!("proxyd: {}\n", answer.text.trim_end());
    if answer.done {
        out::print(&text);
        ExitCode::SUCCESS
    } else {
        out::error(&text);
        ExitCode::FAILURE
    }
}

/// For configurations with demo servers: what to try.
fn welcome(model: &Model) -> String {
    let demo =
        |s: &crate::upstream::params::ServerParams| matches!(s.address, ServerAddress::Demo(_));
    if !model.upstreams.iter().any(|u| u.servers.iter().any(demo)) {
        return String::new();
    }
    let mut text = String::from("proxyd serves its own demo servers. Try:\n");
    for listener in &model.listeners {
        let curl = match listener.tls {
            Some(_) => "curl -k https",
            None => "curl http",
        };
        for bind in &listener.bind {
            if let Some(authority) = authority(bind) {
                text.push_str(&format!("  {curl}://{authority}/\n"));
            }
        }
    }
    if let Some(authority) = model.metrics.bind.as_ref().and_then(authority) {
        let path = &model.metrics.path;
        text.push_str(&format!("  curl http://{authority}{path}\n"));
    }
    text
}

/// How an address is reached from this host.
fn authority(bind: &BindAddr) -> Option<String> {
    match bind {
        BindAddr::Ip(addr) if addr.ip().is_unspecified() => {
            Some(format!("localhost:{}", addr.port()))
        }
        BindAddr::Ip(addr) => Some(addr.to_string()),
        BindAddr::Any(port) => Some(format!("localhost:{port}")),
        BindAddr::Unix(_) | BindAddr::Inherited(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_file_says_what_to_try() {
        let text = include_str!("../../conf/proxyd.toml");
        let model = conf::load_str("proxyd.toml", text).model.unwrap();
        let shown = welcome(&model);
        for line in [
            "  curl http://localhost:8080/\n",
            "  curl -k https://localhost:8443/\n",
            "  curl http://127.0.0.1:9090/metrics\n",
        ] {
            assert!(shown.contains(line), "{shown}");
        }
        let plain = "[[listener]]\nbind = \":1\"\n[[route]]\nrespond = 204\n";
        assert_eq!(welcome(&conf::load_str("p", plain).model.unwrap()), "");
    }
}
