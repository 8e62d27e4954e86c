//! The strict sandbox of an event loop: no file can be opened any more (Landlock), and system calls
//! that a proxy has no use for fail (seccomp). For the calling thread, after everything is open;
//! there is no way back. Changing the user and giving up capabilities is `privilege`.

use std::io;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// What the kernel has taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforced {
    /// Files are out of reach.
    pub landlock: bool,
    /// System calls are filtered.
    pub seccomp: bool,
}

/// The only path that is still opened: the reserve of descriptors is made of it.
const NULL: &str = "/dev/null";

/// Calls with which a process gets at another program, another process, the kernel or the host.
const DENIED: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_open_by_handle_at,
    libc::SYS_io_uring_setup,
    libc::SYS_personality,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Restricts the calling thread. What the kernel does not know is left out and reported.
///
/// # Errors
/// When the kernel refuses a rule that it knows.
pub fn restrict() -> io::Result<Enforced> {
    Ok(Enforced {
        landlock: close_files()?,
        seccomp: filter_calls()?,
    })
}

fn close_files() -> io::Result<bool> {
    let all = AccessFs::from_all(ABI::V5);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(Ruleset::create)
        .map_err(io::Error::other)?;
    let null = PathFd::new(NULL).map_err(io::Error::other)?;
    let access = AccessFs::ReadFile | AccessFs::WriteFile;
    let status = ruleset
        .add_rule(PathBeneath::new(null, access))
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(io::Error::other)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// Sockets that a proxy makes are of these families.
const FAMILIES: [i32; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

fn filter_calls() -> io::Result<bool> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Ok(false);
    };
    let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> =
        DENIED.iter().map(|call| (*call, Vec::new())).collect();
    let other_family = FAMILIES
        .iter()
        .map(|family| {
            let family = u64::from(family.unsigned_abs());
            SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
        })
        .collect::<Result<Vec<_>, _>>()
        .and_then(SeccompRule::new)
        .map_err(io::Error::other)?;
    rules.insert(libc::SYS_socket, vec![other_family]);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let program: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)
        .and_then(TryInto::try_into)
        .map_err(io::Error::other)?;
    apply_filter(&program).map_err(io::Error::other)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    /// In a thread of its own, because there is no way back.
    fn restricted(check: impl FnOnce(Enforced) + Send + 'static) {
        std::thread::spawn(move || check(restrict().unwrap()))
            .join()
            .unwrap();
    }

    #[test]
    fn files_are_out_of_reach_and_the_reserve_is_not() {
        restricted(|enforced| {
            if !enforced.landlock {
                println!("skipped: this kernel has no Landlock");
                return;
            }
            let error = std::fs::read("/etc/hostname").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            assert!(std::fs::write("/tmp/proxyd-sandbox", b"x").is_err());
            assert!(std::fs::File::open(NULL).is_ok());
        });
    }

    #[test]
    fn connections_work_and_other_programs_do_not_start() {
        restricted(|enforced| {
            assert!(enforced.seccomp);
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            listener.accept().unwrap();
            UdpSocket::bind("127.0.0.1:0").unwrap();
            std::os::unix::net::UnixStream::pair().unwrap();
            assert!(std::process::Command::new("/bin/true").status().is_err());
            let packet = socket2::Socket::new(17.into(), socket2::Type::RAW, None);
            let error = packet.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        });
    }
}
