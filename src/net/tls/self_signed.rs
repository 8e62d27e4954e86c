//! Self-signed certificates: made once by the master and kept for its life, or in a directory
//! where it may write, so that a restart does not surprise those who pinned one.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use super::cert::{self, Fault};
use super::load;
use super::wire::Pair;
use crate::base::secret::Secret;

/// Clocks of clients may be this much behind.
const BACKDATED: Duration = Duration::from_secs(3600);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The certificate's name in the configuration.
    pub name: &'a str,
    /// Names and addresses.
    pub hosts: &'a [String],
    /// How long.
    pub valid: Duration,
}

/// The old pair while it fits (same hosts, more than a third of its time left), else the one in
/// `state_dir`, else a new one, which is then written there.
///
/// # Errors
/// A host that cannot stand in a certificate, or a provider that fails.
pub fn obtain(
    wanted: Wanted<'_>,
    old: Option<&Pair>,
    state_dir: Option<&Path>,
    now: i64,
) -> Result<Pair, Fault> {
    if let Some(pair) = old.filter(|pair| fits(pair, wanted, now)) {
        return Ok(pair.clone());
    }
    let path = state_dir.map(|dir| stored_path(dir, wanted.name));
    let stored = path.as_deref().and_then(read_stored);
    if let Some(pair) = stored.filter(|pair| fits(pair, wanted, now)) {
        return Ok(pair);
    }
    let pair = generate(wanted.hosts, wanted.valid, now)?;
    if let Some(path) = path {
        // Keeping it is a convenience: where it cannot be written it lives in memory.
        drop(store(&path, &pair));
    }
    Ok(pair)
}

fn stored_path(dir: &Path, name: &str) -> PathBuf {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    let plain: String = name
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    dir.join(format!("self-signed-{plain}.pem"))
}

fn read_stored(path: &Path) -> Option<Pair> {
    let bytes = load::read(path).ok()?;
    Some(Pair {
        label: String::new(),
        key: Secret::new(bytes.clone()),
        chain: bytes,
    })
}

fn store(path: &Path, pair: &Pair) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&pair.chain)?;
    file.write_all(pair.key.expose_secret())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

fn fits(pair: &Pair, wanted: Wanted<'_>, now: i64) -> bool {
    let found = cert::inspect(&pair.chain, pair.key.expose_secret(), &[], &[], now);
    let Some(certificate) = found.certificate else {
        return false;
    };
    let lower = wanted.hosts.iter().map(|host| host.to_ascii_lowercase());
    let third = i64::try_from(wanted.valid.as_secs() / 3).unwrap_or(i64::MAX);
    certificate.info.names.iter().cloned().eq(lower)
        && certificate.info.not_after.saturating_sub(now) > third
}

/// Makes a new one: ECDSA P-256, valid from an hour ago.
///
/// # Errors
/// A host that cannot stand in a certificate, or a provider that fails.
pub fn generate(hosts: &[String], valid: Duration, now: i64) -> Result<Pair, Fault> {
    for host in hosts {
        if crate::base::addr::parse_host(host.strip_prefix("*.").unwrap_or(host)).is_err() {
            return Err(Fault::BadHost(host.clone()));
        }
    }
    let failed = |error: rcgen::Error| Fault::CannotGenerate(error.to_string());
    let mut params = CertificateParams::new(hosts).map_err(failed)?;
    let since_epoch = Duration::from_secs(u64::try_from(now).unwrap_or(0));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    // The year 9999 is the last that a certificate can say.
    let century = Duration::from_secs(100 * 365 * 86_400);
    params.not_before = epoch + since_epoch.saturating_sub(BACKDATED);
    params.not_after = epoch + since_epoch.saturating_add(valid.min(century));
    let common_name = hosts.first().map_or("proxyd", String::as_str);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Pair {
        label: String::new(),
        chain: certificate.pem().into_bytes(),
        key: Secret::new(key.serialize_pem().into_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::testing::NOW;
    use std::os::unix::fs::PermissionsExt as _;

    const MONTH: Duration = Duration::from_secs(30 * 86_400);

    fn wanted(hosts: &[String]) -> Wanted<'_> {
        Wanted {
            name: "lab/1",
            hosts,
            valid: MONTH,
        }
    }

    #[test]
    fn the_old_one_stays_until_a_third_of_its_time_is_left() {
        let hosts = ["Lab.internal".to_owned(), "*.lab.internal".to_owned()];
        let first = obtain(wanted(&hosts), None, None, NOW).unwrap();
        let day = 86_400;
        let later = obtain(wanted(&hosts), Some(&first), None, NOW + 19 * day).unwrap();
        assert_eq!(first, later);
        let renewed = obtain(wanted(&hosts), Some(&first), None, NOW + 21 * day).unwrap();
        assert_ne!(first, renewed);
        let other = ["x".to_owned()];
        assert_ne!(
            first,
            obtain(wanted(&other), Some(&first), None, NOW).unwrap()
        );
    }

    #[test]
    fn it_survives_a_restart_where_it_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = ["lab".to_owned()];
        let first = obtain(wanted(&hosts), None, Some(dir.path()), NOW).unwrap();
        let again = obtain(wanted(&hosts), None, Some(dir.path()), NOW).unwrap();
        let ders = |pair: &Pair| cert::certificates(&pair.chain).unwrap();
        assert_eq!(ders(&first), ders(&again));
        let path = dir.path().join("self-signed-lab_1.pem");
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let nowhere = dir.path().join("none");
        assert!(obtain(wanted(&hosts), None, Some(&nowhere), NOW).is_ok());
    }

    #[test]
    fn a_host_that_cannot_stand_in_a_certificate_is_named() {
        for bad in ["", "a b", "ü.example", "a..b"] {
            let hosts = [bad.to_owned()];
            assert_eq!(
                generate(&hosts, MONTH, NOW),
                Err(Fault::BadHost(bad.to_owned()))
            );
        }
    }

    #[test]
    fn an_endless_validity_is_cut() {
        let pair = generate(&["a".to_owned()], Duration::MAX, NOW).unwrap();
        let found = cert::inspect(&pair.chain, pair.key.expose_secret(), &[], &[], NOW);
        assert!(found.certificate.is_some());
    }
}
