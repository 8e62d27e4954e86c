//! Random bytes of the kernel. The only source that is safe to use before and after `fork`: user
//! space generators seeded in the master would repeat in every worker. Not a generator for hot
//! paths.

#![expect(
    unsafe_code,
    reason = "getrandom has no safe wrapper in the crates in use"
)]

use std::io;

/// Fills `out` with bytes that nobody can predict.
///
/// # Errors
/// When the kernel has no entropy call; nothing sensible can be done without it.
pub fn fill(out: &mut [u8]) -> io::Result<()> {
    let mut rest = out;
    while !rest.is_empty() {
        // SAFETY: the pointer and the length describe the mutable slice `rest`.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => rest = rest.get_mut(got..).unwrap_or_default(),
            Err(_negative) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// A number that nobody can predict.
///
/// # Errors
/// As [`fill`].
pub fn number() -> io::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_the_whole_slice_and_never_repeats() {
        let mut a = [0_u8; 4096];
        let mut b = [0_u8; 4096];
        fill(&mut a).unwrap();
        fill(&mut b).unwrap();
        assert_ne!(a, b);
        assert!(a.chunks(64).all(|c| c.iter().any(|&x| x != 0)));
        assert_ne!(number().unwrap(), number().unwrap());
        fill(&mut []).unwrap();
    }
}
