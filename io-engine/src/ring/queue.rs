//! The kernel ring itself: pushing entries, entering, taking completions out.
//!
//! Owns the ring's descriptor and its registered index. Knows nothing of connections. Entering is written out here
//! because it needs what the crate's calls don't offer together: the registered index without a borrowed submitter, and
//! GETEVENTS also when nothing is waited for (deferred task work runs only then).

use super::EngineError;
use crate::io::EngineCounters;
use io_uring::{EnterFlags, IoUring, cqueue, squeue};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// IORING_ENTER_REGISTERED_RING, IORING_REGISTER_RING_FDS: not exported by the crate.
const REGISTERED_RING: u32 = 1 << 4;
const REGISTER_RING_FDS: libc::c_uint = 20;

/// What one enter waits for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Want {
    /// Completions; 0 doesn't wait.
    pub(super) count: u32,
    /// After this long one completion is enough. 0 for none. Needs the kernel's min_timeout feature.
    pub(super) min_wait_us: u32,
    /// Longest wait; `None` for ever.
    pub(super) timeout: Option<Duration>,
}

pub(super) struct Queue {
    ring: IoUring,
    /// The ring's index in the thread's table of registered rings, which spares a descriptor lookup per enter.
    registered: Option<u32>,
    /// Entries that found the queue full while the kernel took none. Bounded by operations per connection.
    waiting: VecDeque<squeue::Entry>,
    pub(super) counters: EngineCounters,
}

impl Queue {
    pub(super) fn new(ring: IoUring) -> Queue {
        let registered = register(&ring);
        Queue { ring, registered, waiting: VecDeque::new(), counters: EngineCounters::default() }
    }

    pub(super) fn ring(&self) -> &IoUring {
        &self.ring
    }

    /// Puts an entry into the queue, submitting what is there when it is full.
    ///
    /// # Safety
    ///
    /// Memory the entry points at stays where it is, and readable or writable as the operation needs, until the
    /// operation's last completion was taken.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        if self.waiting.is_empty() {
            // SAFETY: the caller's promise.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            self.counters.submission_queue_full += 1;
            // An error here is met again, and reported, by the turn's own enter.
            let _ = self.enter_raw(0, 0, None);
            // SAFETY: the caller's promise.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
        }
        self.waiting.push_back(entry);
    }

    /// Submits everything and waits as `want` says. True when it was not ended by the timeout.
    pub(super) fn enter(&mut self, want: Want) -> Result<bool, EngineError> {
        self.push_waiting();
        let time = want.timeout.map(|timeout| KernelTimespec {
            seconds: timeout.as_secs().min(i64::MAX as u64) as i64,
            nanoseconds: i64::from(timeout.subsec_nanos()),
        });
        let argument = GetEventsArgument {
            sigmask: 0,
            sigmask_bytes: 0,
            min_wait_us: want.min_wait_us,
            timeout: time.as_ref().map_or(0, |time| std::ptr::from_ref(time) as u64),
        };
        match self.enter_raw(want.count, EnterFlags::GETEVENTS.bits() | EnterFlags::EXT_ARG.bits(), Some(&argument)) {
            Ok(()) => Ok(true),
            Err(libc::ETIME) => Ok(false),
            Err(libc::EINTR | libc::EAGAIN | libc::EBUSY) => {
                self.counters.interrupted += 1;
                Ok(true)
            }
            // Completions were dropped for want of kernel memory: an operation is lost, and with it a connection.
            Err(errno) => Err(EngineError::Enter(errno)),
        }
    }

    /// Moves the completions that are there to `out`.
    pub(super) fn take(&mut self, out: &mut Vec<cqueue::Entry>) {
        if self.ring.submission().cq_overflow() {
            self.counters.cq_overflow += 1;
        }
        out.extend(self.ring.completion());
        self.counters.completions += out.len() as u64;
    }

    pub(super) fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    fn push_waiting(&mut self) {
        while let Some(entry) = self.waiting.front() {
            // SAFETY: `push` got the caller's promise for this entry, until its completion.
            if unsafe { self.ring.submission().push(entry) }.is_err() {
                if self.enter_raw(0, 0, None).is_err() {
                    return;
                }
                continue;
            }
            self.waiting.pop_front();
        }
    }

    fn enter_raw(&mut self, want: u32, flags: u32, argument: Option<&GetEventsArgument>) -> Result<(), i32> {
        self.counters.enters += 1;
        let to_submit = self.ring.submission().len() as u32;
        let (descriptor, flags) = match self.registered {
            Some(index) => (index as i32, flags | REGISTERED_RING),
            None => (self.ring.as_raw_fd(), flags),
        };
        // SAFETY: the argument, if any, lives through the call and its size is given; the entries submitted were pushed
        // under `push`'s promise.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                descriptor,
                to_submit,
                want,
                flags,
                argument.map_or(std::ptr::null(), std::ptr::from_ref),
                if argument.is_some() { size_of::<GetEventsArgument>() } else { 0 },
            )
        };
        if result < 0 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)) } else { Ok(()) }
    }
}

/// Registers the ring's descriptor with the calling thread. `None` where the kernel won't: then it goes by descriptor.
fn register(ring: &IoUring) -> Option<u32> {
    #[repr(C)]
    struct ResourceUpdate {
        offset: u32,
        reserved: u32,
        data: u64,
    }
    let mut update = ResourceUpdate { offset: u32::MAX, reserved: 0, data: ring.as_raw_fd() as u64 };
    // SAFETY: `update` is what this operation reads and writes (one io_uring_rsrc_update), and outlives the call.
    let done = unsafe {
        libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), REGISTER_RING_FDS, &raw mut update, 1u32)
    };
    (done == 1).then_some(update.offset)
}

impl Drop for Queue {
    /// Gives the registered index back: threads outlive engines in tests, and a thread has room for 16.
    fn drop(&mut self) {
        #[repr(C)]
        struct ResourceUpdate {
            offset: u32,
            reserved: u32,
            data: u64,
        }
        const UNREGISTER_RING_FDS: libc::c_uint = 21;
        if let Some(offset) = self.registered {
            let update = ResourceUpdate { offset, reserved: 0, data: 0 };
            // SAFETY: `update` is what this operation reads (one io_uring_rsrc_update), and outlives the call.
            unsafe {
                libc::syscall(
                    libc::SYS_io_uring_register,
                    self.ring.as_raw_fd(),
                    UNREGISTER_RING_FDS,
                    &raw const update,
                    1u32,
                )
            };
        }
    }
}

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct GetEventsArgument {
    sigmask: u64,
    sigmask_bytes: u32,
    min_wait_us: u32,
    timeout: u64,
}

/// `struct __kernel_timespec`.
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanoseconds: i64,
}
