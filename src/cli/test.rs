//! `proxyd -t` and `-T`: the checker on the command line.

use std::process::ExitCode;

use super::flag::{Cli, Format};
use super::{USAGE, out};
use crate::conf::{self, Code, Loaded, Options, Severity};

/// Checks a file, says what was found, and prints what was asked for.
pub(super) fn test(cli: &Cli) -> ExitCode {
    let options = Options {
        host: true,
        ports: true,
        probe: cli.probe,
    };
    let loaded = conf::load_with(&cli.config, options);
    if cli.format == Format::Json {
        out::print(&conf::render::json(&loaded));
    } else {
        out::error(&conf::render::text(&loaded, out::colour()));
    }
    match &loaded.model {
        Some(model) if cli.dump || cli.effective => out::print(&conf::effective(model)),
        Some(_) if cli.format == Format::Text => out::print(&conf::render::summary(&loaded)),
        _ => {}
    }
    ExitCode::from(code(&loaded, cli.strict))
}

/// 0 good, 1 errors, 2 warnings that count.
fn code(loaded: &Loaded, strict: bool) -> u8 {
    let warned = loaded
        .findings
        .iter()
        .any(|f| f.severity() == Severity::Warning);
    match loaded.model {
        None => 1,
        Some(_) if strict && warned => 2,
        Some(_) => 0,
    }
}

/// `proxyd config explain E0103`.
pub(super) fn explain(wanted: &str) -> ExitCode {
    let found = Code::ALL
        .iter()
        .find(|c| c.as_str().eq_ignore_ascii_case(wanted));
    match found {
        Some(code) => {
            out::print(&format!(
                "{}: {}\n\n{}\n",
                code.as_str(),
                code.title(),
                code.text()
            ));
            ExitCode::SUCCESS
        }
        None => {
            out::error(&format!("proxyd: there is no finding `{wanted}`\n"));
            ExitCode::from(USAGE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        let good = "[[listener]]\nbind = \":8080\"\n[[route]]\nrespond = 204\n";
        let warned = good.replace(":8080", ":0");
        for (text, strict, expected) in [
            (good, false, 0),
            (good, true, 0),
            (warned.as_str(), false, 0),
            (warned.as_str(), true, 2),
            ("x = 1", false, 1),
            ("x = 1", true, 1),
        ] {
            let loaded = conf::load_str("t.toml", text);
            assert_eq!(code(&loaded, strict), expected, "{text}");
        }
    }
}
