// SPDX-License-Identifier: GPL-2.0-or-later OR MIT

//! How many descriptors the daemon may have. What programs begin with, 1024, is for those that know no
//! better than select(2): flows that a [`crate::relay`] carries take two each.

use nix::errno::Errno;
use nix::sys::resource::{getrlimit, setrlimit, Resource};

/// Makes all of them ours that this process may have.
///
/// # Errors
///
/// As of setrlimit(2).
pub fn raise() -> Result<(), Errno> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    match soft < hard {
        true => setrlimit(Resource::RLIMIT_NOFILE, hard, hard),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_there_may_be_are_ours() {
        // Fewer than before, as for a program that was started by hand; more than other tests need.
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let few = soft.min(hard - 1);
        setrlimit(Resource::RLIMIT_NOFILE, few, hard).unwrap();
        raise().unwrap();
        assert_eq!(
            getrlimit(Resource::RLIMIT_NOFILE).unwrap(),
            (hard, hard),
            "from {few}"
        );
    }
}
