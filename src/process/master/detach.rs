//! Going to the background: the process that was started waits until the one that stays is ready,
//! and leaves with its result, so that `proxyd -d` in a script fails when the start fails.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use crate::sys::file;
use crate::sys::process::{self, Fork};

/// The way back to the process that was started; nothing for one in the foreground.
#[derive(Debug, Default)]
pub struct Waiting(Option<File>);

impl Waiting {
    /// Splits off the process that stays. Returns in that one only.
    ///
    /// # Errors
    /// When the kernel has no room.
    pub fn detach() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        match process::fork()? {
            Fork::Parent(_) => {
                drop(writer);
                let mut code = [1];
                // The end without a word is a failure as well.
                let told = File::from(OwnedFd::from(reader)).read_exact(&mut code);
                process::exit_now(if told.is_ok() { i32::from(code[0]) } else { 1 });
            }
            Fork::Child => {}
        }
        drop(reader);
        process::new_session()?;
        // The second fork: who leads no session can never get a terminal again.
        if let Fork::Parent(_) = process::fork()? {
            process::exit_now(0);
        }
        Ok(Self(Some(File::from(OwnedFd::from(writer)))))
    }

    /// Lets the process that was started leave with this code, and lets go of its terminal; of
    /// error output too, unless that is the log.
    pub fn release(&mut self, code: u8, keep_errors: bool) {
        if let Some(mut back) = self.0.take() {
            let _nobody_waits = back.write_all(&[code]);
            let _as_it_was = file::detach_standard(!keep_errors);
        }
    }
}
