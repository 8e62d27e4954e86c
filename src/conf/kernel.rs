//! What the kernel tells about this host through /proc, for checks only: rights, limits,
//! addresses, listening sockets. Everything is read-only, and unknown when /proc is not there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

const CAP_NET_BIND_SERVICE: u32 = 10;

/// The lowest port that this process may listen on.
#[must_use]
pub fn lowest_free_port() -> u16 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capable = status
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_none_or(|bits| bits >> CAP_NET_BIND_SERVICE & 1 == 1);
    if capable {
        return 0;
    }
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|t| t.trim().parse().ok())
        .unwrap_or(1024)
}

/// The greatest number of files that a process may open after raising its limit.
#[must_use]
pub fn open_files_max() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|l| l.starts_with("Max open files"))?;
    line.split_whitespace().nth(4)?.parse().ok()
}

/// The addresses of this host's interfaces.
#[must_use]
pub fn addresses() -> Option<Vec<IpAddr>> {
    let mut list = v4_addresses(&std::fs::read_to_string("/proc/net/fib_trie").ok()?);
    let v6 = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    list.extend(
        v6.lines()
            .filter_map(|l| u128::from_str_radix(l.split_whitespace().next()?, 16).ok())
            .map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    );
    Some(list)
}

/// Local addresses are those with `/32 host LOCAL` on the line behind them.
fn v4_addresses(trie: &str) -> Vec<IpAddr> {
    let mut last = None;
    let mut list = Vec::new();
    for line in trie.lines() {
        if let Some((_, address)) = line.split_once("-- ") {
            last = address.trim().parse::<Ipv4Addr>().ok();
        } else if line.contains("/32 host LOCAL")
            && let Some(address) = last
        {
            list.push(IpAddr::V4(address));
        }
    }
    list
}

/// Sockets that other programs listen on, with their process where it can be seen.
#[must_use]
pub fn foreign_listeners() -> Vec<(SocketAddr, u32, String)> {
    let mut sockets = BTreeMap::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // Line by line: the file has one for every connection of the host.
        let Ok(file) = File::open(file) else {
            continue;
        };
        let lines = BufReader::new(file).lines().map_while(Result::ok);
        sockets.extend(lines.skip(1).filter_map(|line| listening(&line)));
    }
    if sockets.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let name = name.trim();
        if name.is_empty() || name.starts_with("proxyd") {
            continue;
        }
        for inode in socket_inodes(&entry.path().join("fd")) {
            if let Some(addr) = sockets.get(&inode) {
                found.push((*addr, pid, name.to_owned()));
            }
        }
    }
    found
}

/// Inode and address of a listening socket in a line of /proc/net/tcp.
fn listening(line: &str) -> Option<(u64, SocketAddr)> {
    let mut words = line.split_whitespace().skip(1);
    let local = words.next()?;
    let state = words.nth(1)?;
    let inode = words.nth(5)?.parse().ok()?;
    if state != "0A" {
        return None;
    }
    let (ip, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(
            u32::from_str_radix(ip, 16).ok()?.to_ne_bytes(),
        )),
        32 => {
            let mut bytes = Vec::with_capacity(16);
            for i in 0..4 {
                let word = u32::from_str_radix(ip.get(i * 8..i * 8 + 8)?, 16).ok()?;
                bytes.extend(word.to_ne_bytes());
            }
            let bytes: [u8; 16] = bytes.try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some((inode, SocketAddr::new(ip, port)))
}

fn socket_inodes(folder: &Path) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|e| std::fs::read_link(e.path()).ok())
        .filter_map(|target| {
            let text = target.to_str()?;
            text.strip_prefix("socket:[")?
                .strip_suffix(']')?
                .parse()
                .ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_understood() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 41234 1 0000000000000000 100 0 0 10 0";
        assert_eq!(
            listening(line),
            Some((41_234, "127.0.0.1:8080".parse().unwrap()))
        );
        assert_eq!(listening(&line.replace(" 0A ", " 01 ")), None);
        assert_eq!(listening("garbage"), None);
        let trie =
            "  |-- 10.0.0.0\n     /8 universe UNICAST\n  |-- 10.0.0.7\n     /32 host LOCAL\n";
        assert_eq!(v4_addresses(trie), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn this_host_has_a_loopback_address_and_a_limit() {
        let own = addresses().unwrap();
        assert!(own.iter().any(IpAddr::is_loopback));
        assert!(open_files_max().unwrap() > 0);
    }
}
