//! What `ps` and `top` show for this process. The title is written over the memory of the
//! arguments and, when that is too small, of the environment, which is copied away before.

#![expect(unsafe_code, reason = "the arguments of a process are raw memory")]

use std::ffi::CString;
use std::fs;
use std::os::raw::c_char;

/// The memory that holds the arguments and the environment of this process.
#[derive(Debug)]
pub struct Title {
    start: usize,
    len: usize,
}

unsafe extern "C" {
    static mut environ: *const *const c_char;
}

impl Title {
    /// Finds the memory and moves the environment out of it. Only once, before any thread, in
    /// the program itself (not in a library's user).
    ///
    /// Returns a title that changes only the short name where the kernel does not tell the place.
    #[must_use]
    pub fn capture() -> Self {
        let (start, end) = range().unwrap_or((0, 0));
        if start != 0 {
            move_environment();
        }
        Self {
            start,
            len: end.saturating_sub(start),
        }
    }

    /// Sets the title; what does not fit is cut.
    pub fn set(&self, text: &str) {
        // The short name holds 15 bytes and is cut by the kernel.
        if let Ok(name) = CString::new(text) {
            let _cosmetic = nix::sys::prctl::set_name(&name);
        }
        if self.len < 2 {
            return;
        }
        let len = text.len().min(self.len - 1);
        let start = std::ptr::with_exposed_provenance_mut::<u8>(self.start);
        // SAFETY: the kernel placed the arguments and the environment of this process at
        // `start..start + len` as writable memory, contiguous and for its whole life; the
        // environment was moved away, `std` reads its arguments before, and there is one thread.
        unsafe {
            std::ptr::write_bytes(start, 0, self.len);
            std::ptr::copy_nonoverlapping(text.as_ptr(), start, len);
        }
    }
}

/// From the start of the arguments to the end of the environment.
fn range() -> Option<(usize, usize)> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<usize> = rest
        .split_ascii_whitespace()
        .map(|f| f.parse().unwrap_or(0))
        .collect();
    let field = |index: usize| fields.get(index).copied().filter(|&v| v != 0);
    let (arguments, arguments_end) = (field(45)?, field(46)?);
    let (environment, environment_end) = (field(47)?, field(48)?);
    let plausible = arguments < arguments_end && environment <= environment_end;
    if !plausible {
        return None;
    }
    // The environment follows the arguments; if not, the arguments alone must do.
    let end = if environment == arguments_end {
        environment_end
    } else {
        arguments_end
    };
    Some((arguments, end))
}

fn move_environment() {
    // SAFETY: `environ` is either null or an array of C strings that ends with null, and no other
    // thread changes it. The new array and its strings are never freed.
    unsafe {
        let old = environ;
        if old.is_null() {
            return;
        }
        let mut copy: Vec<*const c_char> = Vec::new();
        let mut at = 0;
        loop {
            let entry = *old.add(at);
            if entry.is_null() {
                break;
            }
            copy.push(std::ffi::CStr::from_ptr(entry).to_owned().into_raw());
            at += 1;
        }
        copy.push(std::ptr::null());
        environ = copy.leak().as_ptr();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{Exit, Fork, exit_now, fork_for_test, wait_for};

    #[test]
    fn the_title_shows_and_the_environment_survives() {
        let before = std::env::var_os("PATH");
        assert!(before.is_some());
        let Fork::Parent(pid) = fork_for_test().unwrap() else {
            let title = Title::capture();
            title.set("proxyd: worker 0 gen 1");
            let line = fs::read("/proc/self/cmdline").unwrap_or_default();
            let name = fs::read_to_string("/proc/self/comm").unwrap_or_default();
            let fine = line.starts_with(b"proxyd: worker 0 gen 1\0")
                && name.trim_end() == "proxyd: worker"
                && std::env::var_os("PATH") == before;
            title.set(&"x".repeat(1 << 20));
            title.set("short");
            let line = fs::read("/proc/self/cmdline").unwrap_or_default();
            exit_now(i32::from(!(fine && line.starts_with(b"short\0"))));
        };
        assert_eq!(wait_for(pid).unwrap(), Exit::Code(0));
    }
}
