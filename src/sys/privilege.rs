//! Giving up power, in one function that can be audited: after [`shed`] a process has the wanted
//! user and groups, holds no capability, cannot get one back, and cannot by `exec` either.
//! Which process runs as whom is not decided here.

#![expect(
    unsafe_code,
    reason = "capset has no safe wrapper in the crates in use"
)]

use std::ffi::CString;
use std::io;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist, setgroups, setresgid, setresuid};

/// A user with its groups, looked up in advance: after a change of root or in a sandbox the files
/// that name users may be out of reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// What could not be given up, and why that is no danger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The process was not started as root: it keeps the user it has, which is not the wanted one.
    KeptUser,
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

impl Identity {
    /// Looks up a user and, when given, a group that replaces its primary one.
    ///
    /// # Errors
    /// `NotFound` with the name that does not exist.
    pub fn look_up(user: &str, group: Option<&str>) -> io::Result<Self> {
        let found =
            User::from_name(user)?.ok_or_else(|| missing(format!("user {user} does not exist")))?;
        let gid = match group {
            None => found.gid,
            Some(name) => {
                Group::from_name(name)?
                    .ok_or_else(|| missing(format!("group {name} does not exist")))?
                    .gid
            }
        };
        let name = CString::new(user)?;
        Ok(Self {
            uid: found.uid,
            gid,
            groups: getgrouplist(&name, gid)?,
        })
    }

    /// Whether this process has the user already.
    #[must_use]
    pub fn is_current(&self) -> bool {
        Uid::effective() == self.uid
    }

    /// The number of the user, to own files.
    #[must_use]
    pub const fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// The number of the group, to own files.
    #[must_use]
    pub const fn gid(&self) -> u32 {
        self.gid.as_raw()
    }
}

fn missing(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, text)
}

/// Becomes the identity (when there is one), drops every capability and forbids new ones.
///
/// Without root the user stays what it is; everything else is done all the same.
///
/// # Errors
/// When root could not be left completely: the process must end then.
pub fn shed(identity: Option<&Identity>) -> io::Result<Option<Note>> {
    let mut note = None;
    // The bounding set first: taking from it needs a capability that is lost with the user.
    drop_bounding_set();
    if let Some(identity) = identity {
        if is_root() {
            // Groups before the user, because only root may set them.
            setgroups(&identity.groups)?;
            setresgid(identity.gid, identity.gid, identity.gid)?;
            setresuid(identity.uid, identity.uid, identity.uid)?;
        } else if Uid::effective() != identity.uid {
            note = Some(Note::KeptUser);
        }
    }
    drop_capabilities()?;
    nix::sys::prctl::set_no_new_privs()?;
    check(identity.filter(|_| note.is_none()))?;
    Ok(note)
}

/// Looks at the result instead of trusting the way to it.
fn check(identity: Option<&Identity>) -> io::Result<()> {
    let users = nix::unistd::getresuid()?;
    let kept_user = identity.is_some_and(|id| {
        [users.real, users.effective, users.saved]
            .iter()
            .any(|u| *u != id.uid)
    });
    let root_again = identity.is_some_and(|id| !id.uid.is_root())
        && setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok();
    if kept_user || root_again || capabilities()? != [0; 6] {
        return Err(io::Error::other("root could not be given up"));
    }
    Ok(())
}

/// Takes every capability from the bounding set; without `CAP_SETPCAP` nothing is in our power,
/// and `no_new_privs` makes the set meaningless anyway.
fn drop_bounding_set() {
    for capability in 0..64_u64 {
        // SAFETY: this prctl reads numbers only.
        let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if done != 0 {
            return;
        }
    }
}

/// `_LINUX_CAPABILITY_VERSION_3`: 64 bits in two halves.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

fn drop_capabilities() -> io::Result<()> {
    // SAFETY: this prctl reads numbers only. A kernel before 4.3 has no ambient set and says so.
    let _ambient = unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    };
    let header = Header {
        version: VERSION,
        pid: 0,
    };
    let none = [0_u32; 6];
    // SAFETY: both pointers are valid for the call; version 3 reads two triples of u32.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Effective, permitted and inheritable, low half and then high half.
fn capabilities() -> io::Result<[u32; 6]> {
    let mut header = Header {
        version: VERSION,
        pid: 0,
    };
    let mut sets = [0_u32; 6];
    // SAFETY: both pointers are valid for the call; version 3 writes two triples of u32.
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{Exit, Fork, exit_now, fork_for_test, wait_for};

    fn in_child(body: impl FnOnce() -> bool) -> Exit {
        match fork_for_test().unwrap() {
            Fork::Child => {
                let fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
                exit_now(i32::from(!fine.unwrap_or(false)));
            }
            Fork::Parent(pid) => wait_for(pid).unwrap(),
        }
    }

    fn status(field: &str) -> String {
        let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = text.lines().find(|l| l.starts_with(field));
        line.and_then(|l| l.split_once(':'))
            .map(|(_, v)| v.split_whitespace().collect::<Vec<_>>().join(" "))
            .unwrap_or_default()
    }

    #[test]
    fn names_that_do_not_exist_are_told() {
        let user = Identity::look_up("no-such-user", None).unwrap_err();
        assert!(user.to_string().contains("no-such-user"));
        let group = Identity::look_up("root", Some("no-such-group")).unwrap_err();
        assert!(group.to_string().contains("no-such-group"));
        assert_eq!(Identity::look_up("root", None).unwrap().uid(), 0);
    }

    #[test]
    fn nothing_is_left_of_root() {
        if !is_root() {
            return; // the next test covers an ordinary user
        }
        let nobody = Identity::look_up("nobody", None).unwrap();
        let exit = in_child(|| {
            let note = shed(Some(&nobody)).unwrap();
            let empty = "0000000000000000";
            note.is_none()
                && status("CapEff") == empty
                && status("CapPrm") == empty
                && status("CapBnd") == empty
                && status("CapAmb") == empty
                && status("NoNewPrivs") == "1"
                && status("Uid") == format!("{0} {0} {0} {0}", nobody.uid())
                && status("Groups") == nobody.gid().to_string()
                && setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_err()
        });
        assert_eq!(exit, Exit::Code(0));
    }

    #[test]
    fn an_ordinary_user_keeps_its_name_and_loses_the_rest() {
        let nobody = Identity::look_up("nobody", None).unwrap();
        let root = Identity::look_up("root", None).unwrap();
        let exit = in_child(|| {
            if is_root() {
                shed(Some(&nobody)).unwrap();
            }
            let note = shed(Some(&root)).unwrap();
            note == Some(Note::KeptUser) && status("NoNewPrivs") == "1"
        });
        assert_eq!(exit, Exit::Code(0));
    }

    #[test]
    fn root_without_a_user_keeps_its_name_and_no_capability() {
        let exit = in_child(|| {
            let note = shed(None).unwrap();
            note.is_none() && status("CapEff") == "0000000000000000"
        });
        assert_eq!(exit, Exit::Code(0));
    }
}
