//! The look of findings, letter by letter.

use proxyd::conf;

#[test]
fn five_mistakes_in_one_file_are_reported_in_one_run() {
    let text = "\
[[listener]]
bind = \":443\"
tsl = { certificates = [\"site\"] }

[[route]]
host = \"example.org\"

# the upstream below
[[route]]
to = \"backnd\"

[defaults]
timeouts = { connect = \"3s\" }
[defaults.queue]
timeout = \"5seconds\"

[[upstream]]
name = \"backend\"
servers = [\"10.0.0.1:8080\", \"10.0.0.2\"]

[listner]
";
    let text = text
        .replace(
            "host = \"example.org\"",
            "redirect = \"/x\"\nhost = \"example.org\"",
        )
        .replace("\n# the upstream below\n", "\n");
    let loaded = conf::load_str("/etc/proxyd.toml", &text);
    assert!(loaded.model.is_none());
    let shown = conf::render::text(&loaded, false);
    let expected = r#"error[E0103]: unknown key `tsl`
 --> /etc/proxyd.toml:3:1
  |
3 | tsl = { certificates = ["site"] }
  | ^^^ did you mean `tls`?
  |
  = help: allowed here: ALLOWED

error[E0201]: route sends to upstream `backnd`, which is not defined
  --> /etc/proxyd.toml:10:6
   |
10 | to = "backnd"
   |      ^^^^^^^^ did you mean `backend`?
   |
   = help: define it with [[upstream]] name = "...", or write an address such as "http://127.0.0.1:9000"

error[E0104]: `5seconds` is not a duration: write a number and one of ms, s, m, h, d (for example "5s")
  --> /etc/proxyd.toml:15:11
   |
15 | timeout = "5seconds"
   |           ^^^^^^^^^^

error[E0107]: server address has no port
  --> /etc/proxyd.toml:19:29
   |
19 | servers = ["10.0.0.1:8080", "10.0.0.2"]
   |                             ^^^^^^^^^^ expected host:port

error[E0102]: unknown section `listner`
  --> /etc/proxyd.toml:21:2
   |
21 | [listner]
   |  ^^^^^^^ did you mean `listener`?

proxyd: /etc/proxyd.toml: 5 errors, configuration not usable
"#;
    let shown: Vec<&str> = shown.lines().collect();
    for (got, want) in shown.iter().zip(expected.lines()) {
        if want.contains("ALLOWED") {
            assert!(
                got.starts_with("  = help: allowed here: name, bind, protocol"),
                "{got}"
            );
        } else {
            assert_eq!(*got, want);
        }
    }
    assert_eq!(shown.len(), expected.lines().count());
    assert!(shown.iter().all(|l| l.is_ascii()));
}
