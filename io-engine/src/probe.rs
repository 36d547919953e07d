//! What the kernel lets us do, found out at start, and in words what is missing and how to get it.
//!
//! Owns the text of every way the ring can be refused. Builds rings only to try them.

use io_uring::{IoUring, Probe, opcode};
use std::fmt;
use std::io;

/// The oldest kernel with everything the ring needs (deferred task work).
pub const OLDEST_KERNEL: &str = "6.1";

/// What the running kernel offers beyond the necessary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// The batching window without a timer of its own (6.12).
    pub min_timeout: bool,
}

/// Tries everything the ring needs. Cheap enough for every start, and for `--check`.
pub fn probe() -> Result<Kernel, SetupError> {
    let ring = build_ring(8, 16)?;
    Ok(Kernel { release: release(), min_timeout: ring.params().is_feature_min_timeout() })
}

/// Why the ring can't be made. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// The kernel lacks `feature`.
    KernelTooOld {
        /// `uname -r`.
        release: String,
        /// What was missing.
        feature: &'static str,
    },
    /// No io_uring system calls: not built in, or hidden by a seccomp filter.
    NotImplemented,
    /// Switched off by sysctl kernel.io_uring_disabled, which has this value.
    Disabled(u8),
    /// Forbidden though the sysctl allows it: a seccomp filter or a security module.
    Forbidden,
    /// The locked-memory limit, in bytes, or the memory itself is used up.
    MemoryLock(u64),
    /// Out of descriptors.
    OutOfDescriptors,
    /// A configured number the ring can't be made with.
    Invalid {
        /// Which.
        what: &'static str,
        /// The value seen.
        value: u64,
        /// The values allowed.
        allowed: &'static str,
    },
    /// The kernel's errno.
    Other {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        errno: i32,
    },
}

impl SetupError {
    pub(crate) fn from_errno(what: &'static str, error: &io::Error) -> SetupError {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        match errno {
            libc::ENOSYS => SetupError::NotImplemented,
            libc::EPERM | libc::EACCES => match io_uring_disabled() {
                Some(value @ 1..) => SetupError::Disabled(value),
                Some(0) | None => SetupError::Forbidden,
            },
            libc::ENOMEM => SetupError::MemoryLock(crate::placement::memory_lock_limit()),
            libc::EMFILE | libc::ENFILE => SetupError::OutOfDescriptors,
            errno => SetupError::Other { what, errno },
        }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::KernelTooOld { release, feature } => {
                write!(f, "Linux {release} lacks {feature}: run on Linux {OLDEST_KERNEL} or newer")
            }
            SetupError::NotImplemented => f.write_str(
                "the kernel has no io_uring: it was built without (CONFIG_IO_URING), or a seccomp filter hides it; in a \
                 container, allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile",
            ),
            SetupError::Disabled(value) => write!(
                f,
                "io_uring is switched off (kernel.io_uring_disabled = {value}): run `sysctl kernel.io_uring_disabled=0`, \
                 or with 1 add the user to the group named by kernel.io_uring_group"
            ),
            SetupError::Forbidden => f.write_str(
                "io_uring is forbidden here, mostly by a container's seccomp profile: allow io_uring_setup, \
                 io_uring_enter and io_uring_register in it (docker: --security-opt seccomp=PROFILE)",
            ),
            SetupError::MemoryLock(limit) => write!(
                f,
                "not enough memory for io_uring's rings and buffers: the locked-memory limit is {limit} bytes; raise it \
                 (ulimit -l, LimitMEMLOCK=) or use fewer shards or smaller buffers"
            ),
            SetupError::OutOfDescriptors => f.write_str("out of descriptors: raise the limit (ulimit -n, LimitNOFILE=)"),
            SetupError::Invalid { what, value, allowed } => write!(f, "{what} is {value}: allowed is {allowed}"),
            SetupError::Other { what, errno } => write!(f, "{what}: {}", io::Error::from_raw_os_error(*errno)),
        }
    }
}

impl std::error::Error for SetupError {}

/// Makes a ring with all we build on, and checks that the rest is there too.
pub(crate) fn build_ring(entries: u32, completion_entries: u32) -> Result<IoUring, SetupError> {
    let attempt = |no_sqarray: bool| {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun().setup_submit_all();
        builder.setup_cqsize(completion_entries);
        if no_sqarray {
            builder.setup_no_sqarray();
        }
        builder.build(entries)
    };
    let refused = |e: &io::Error| e.raw_os_error() == Some(libc::EINVAL);
    // NO_SQARRAY is Linux 6.6.
    let ring = match attempt(true) {
        Err(e) if refused(&e) => attempt(false),
        made => made,
    };
    let ring = ring.map_err(|e| match refused(&e) {
        true => too_old("io_uring's deferred task work"),
        false => SetupError::from_errno("making the ring", &e),
    })?;
    check_features(&ring)?;
    Ok(ring)
}

fn check_features(ring: &IoUring) -> Result<(), SetupError> {
    let parameters = ring.params();
    let features = [
        (parameters.is_feature_nodrop(), "io_uring's overflow list"),
        (parameters.is_feature_ext_arg(), "io_uring's wait with a timeout"),
        (parameters.is_feature_fast_poll(), "io_uring's fast poll"),
        (parameters.is_feature_skip_cqe_on_success(), "io_uring's silent completions"),
    ];
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|e| SetupError::from_errno("probing operations", &e))?;
    let operations = [
        (opcode::Accept::CODE, "io_uring's accept"),
        (opcode::Recv::CODE, "io_uring's recv"),
        (opcode::Send::CODE, "io_uring's send"),
        (opcode::Connect::CODE, "io_uring's connect"),
        (opcode::Close::CODE, "io_uring's close"),
        (opcode::AsyncCancel::CODE, "io_uring's cancel"),
        (opcode::Read::CODE, "io_uring's read"),
        // Came with multishot recv, which itself can't be probed.
        (opcode::SendZc::CODE, "io_uring's multishot recv"),
    ];
    let missing = features
        .into_iter()
        .chain(operations.map(|(code, name)| (probe.is_supported(code), name)))
        .find_map(|(present, name)| (!present).then_some(name));
    missing.map_or(Ok(()), |feature| Err(too_old(feature)))
}

fn too_old(feature: &'static str) -> SetupError {
    SetupError::KernelTooOld { release: release(), feature }
}

fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| "?".into(), |text| text.trim().into())
}

fn io_uring_disabled() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_will_do() {
        let kernel = probe().expect("io_uring");
        assert!(!kernel.release.is_empty());
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let error = |errno| SetupError::from_errno("trying", &io::Error::from_raw_os_error(errno)).to_string();
        let check = |text: String, must_say: &[&str]| {
            for words in must_say {
                assert!(text.contains(words), "{text:?} lacks {words:?}");
            }
        };
        check(error(libc::ENOSYS), &["no io_uring", "seccomp"]);
        check(SetupError::Disabled(2).to_string(), &["kernel.io_uring_disabled = 2", "sysctl"]);
        check(SetupError::Forbidden.to_string(), &["seccomp", "io_uring_setup"]);
        check(error(libc::ENOMEM), &["locked-memory limit", "ulimit -l"]);
        check(error(libc::EMFILE), &["descriptors", "ulimit -n"]);
        check(error(libc::EIO), &["trying: "]);
        check(too_old("a feature").to_string(), &["lacks a feature", OLDEST_KERNEL]);
        check(
            SetupError::Invalid { what: "buffers", value: 3, allowed: "a power of two" }.to_string(),
            &["buffers is 3", "a power of two"],
        );
    }
}
