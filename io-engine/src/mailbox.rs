//! A bounded mailbox between threads, with an eventfd as its doorbell. Control path only: never touched per request.
//!
//! A shard arms a read of the doorbell on its ring (`RingConfig::doorbell`) and is told through `Handler::doorbell`;
//! another thread waits with `Receiver::wait`, a task on any executor with `Receiver::receive`. One of the three per
//! receiver: they would take each other's rings.
//!
//! Invariants: the doorbell is rung once however many messages are sent before the receiver looks; after it rang the
//! receiver must take until `None`, or it isn't told of what it left.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Messages a mailbox made by `mailbox` holds.
pub const MAILBOX_MESSAGES: usize = 4096;

/// Makes a mailbox of `MAILBOX_MESSAGES`. Fails when the process is out of descriptors.
pub fn mailbox<T>() -> io::Result<(Sender<T>, Receiver<T>)> {
    mailbox_of(MAILBOX_MESSAGES)
}

/// Makes a mailbox that holds `limit` messages.
pub fn mailbox_of<T>(limit: usize) -> io::Result<(Sender<T>, Receiver<T>)> {
    let queue = Queue { messages: VecDeque::new(), rung: false, senders: 1, receiving: true, waker: None };
    let shared = Arc::new(Shared { queue: Mutex::new(queue), doorbell: Doorbell::new()?, limit });
    Ok((Sender { shared: shared.clone() }, Receiver { shared }))
}

/// Why a message wasn't taken; it comes back.
#[derive(Debug, PartialEq, Eq)]
pub enum SendError<T> {
    /// The mailbox is full: the receiver doesn't look.
    Full(T),
    /// The receiver is gone.
    Closed(T),
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full(_) => "the mailbox is full",
            SendError::Closed(_) => "the mailbox's receiver is gone",
        })
    }
}

impl<T: fmt::Debug> std::error::Error for SendError<T> {}

/// The sending end. Clone it for each thread that sends.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Puts a message in and rings. Never blocks for long.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut queue = self.shared.lock();
        if !queue.receiving {
            return Err(SendError::Closed(message));
        }
        if queue.messages.len() >= self.shared.limit {
            return Err(SendError::Full(message));
        }
        queue.messages.push_back(message);
        self.shared.ring(queue);
        Ok(())
    }

    /// Puts several messages in, all or none. A receiver that takes until `None` takes them together.
    pub fn send_all(&self, messages: Vec<T>) -> Result<(), SendError<Vec<T>>> {
        let mut queue = self.shared.lock();
        if !queue.receiving {
            return Err(SendError::Closed(messages));
        }
        if queue.messages.len() + messages.len() > self.shared.limit {
            return Err(SendError::Full(messages));
        }
        queue.messages.extend(messages);
        self.shared.ring(queue);
        Ok(())
    }

    /// Rings without a message.
    pub fn ring(&self) {
        self.shared.ring(self.shared.lock());
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.shared.lock().senders += 1;
        Sender { shared: self.shared.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.senders -= 1;
        if queue.senders == 0 {
            self.shared.ring(queue);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

/// The receiving end.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Receiver<T> {
    /// The next message, if there is one. Take until `None`.
    pub fn take(&mut self) -> Option<T> {
        let mut queue = self.shared.lock();
        queue.rung = false;
        queue.messages.pop_front()
    }

    /// True when every sender is gone; what they sent before can still be taken.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().senders == 0
    }

    /// What rings when something was sent: for `RingConfig::doorbell`.
    pub fn doorbell(&self) -> Doorbell {
        self.shared.doorbell.clone()
    }

    /// Blocks the thread until a message is there, every sender is gone, or `timeout` has passed.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Option<T> {
        let until = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            if let Some(message) = self.take() {
                return Some(message);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if self.is_closed() || left == Some(Duration::ZERO) {
                return self.take();
            }
            self.shared.doorbell.wait(left);
        }
    }

    /// Waits as a task, on any executor. `None` when every sender is gone and everything was taken.
    pub async fn receive(&mut self) -> Option<T> {
        std::future::poll_fn(|context| self.poll_receive(context)).await
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut queue = self.shared.lock();
        queue.rung = false;
        match queue.messages.pop_front() {
            Some(message) => Poll::Ready(Some(message)),
            None if queue.senders == 0 => Poll::Ready(None),
            None => {
                queue.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> AsFd for Receiver<T> {
    /// Readable when something was sent. Reading 8 bytes from it silences it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.doorbell.descriptor.as_fd()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.receiving = false;
        let left = std::mem::take(&mut queue.messages);
        drop(queue);
        // Outside the lock: a message's own drop may send.
        drop(left);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}

/// An eventfd shared by those who ring and the one who listens.
#[derive(Clone, Debug)]
pub struct Doorbell {
    descriptor: Arc<OwnedFd>,
}

impl Doorbell {
    fn new() -> io::Result<Doorbell> {
        // Blocking: the ring answers a read of a non-blocking one with EAGAIN instead of waiting.
        // SAFETY: takes no memory.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else's.
        Ok(Doorbell { descriptor: Arc::new(unsafe { OwnedFd::from_raw_fd(descriptor) }) })
    }

    fn ring(&self) {
        let one = 1u64;
        // Blocks only at 2^64 rings nobody heard; `rung` allows one.
        // SAFETY: reads 8 bytes of `one`.
        unsafe { libc::write(self.descriptor.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    /// Waits until it rings, at most `timeout`, and silences it.
    fn wait(&self, timeout: Option<Duration>) {
        let mut poll = libc::pollfd { fd: self.descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // Rounded up, so that a wait below a millisecond doesn't spin.
        let millis = timeout.map_or(-1, |timeout| timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32);
        // SAFETY: one pollfd, which outlives the call.
        if unsafe { libc::poll(&raw mut poll, 1, millis) } > 0 {
            let mut rings = 0u64;
            // SAFETY: writes 8 bytes into `rings`. It doesn't block: readable, and there is one listener.
            unsafe { libc::read(self.descriptor.as_raw_fd(), (&raw mut rings).cast(), size_of::<u64>()) };
        }
    }
}

impl AsRawFd for Doorbell {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.descriptor.as_raw_fd()
    }
}

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    doorbell: Doorbell,
    limit: usize,
}

struct Queue<T> {
    messages: VecDeque<T>,
    /// Rung since the receiver looked last.
    rung: bool,
    senders: usize,
    receiving: bool,
    waker: Option<Waker>,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        // Nothing under the lock can leave the queue half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self, mut queue: MutexGuard<'_, Queue<T>>) {
        let waker = queue.waker.take();
        let silent = !std::mem::replace(&mut queue.rung, true);
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        } else if silent {
            self.doorbell.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_order_and_the_bell_rings_once() {
        let (sender, mut receiver) = mailbox::<u32>().expect("eventfd");
        for n in 0..10 {
            sender.send(n).expect("room");
        }
        let mut rings = 0u64;
        // SAFETY: writes 8 bytes into `rings`.
        let read = unsafe { libc::read(receiver.as_fd().as_raw_fd(), (&raw mut rings).cast(), 8) };
        assert_eq!((read, rings), (8, 1));
        assert_eq!(std::iter::from_fn(|| receiver.take()).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn full_and_closed_give_the_message_back() {
        let (sender, mut receiver) = mailbox_of::<u32>(1).expect("eventfd");
        assert_eq!(sender.send(1), Ok(()));
        assert_eq!(sender.send(2), Err(SendError::Full(2)));
        assert_eq!(receiver.take(), Some(1));
        assert_eq!(sender.send_all(vec![3, 4]), Err(SendError::Full(vec![3, 4])));
        assert_eq!(receiver.take(), None);
        drop(receiver);
        assert_eq!(sender.send(3), Err(SendError::Closed(3)));
        assert_eq!(sender.send_all(vec![3]), Err(SendError::Closed(vec![3])));
    }

    #[test]
    fn a_thread_waits_for_messages_for_the_end_and_for_the_time() {
        let (sender, mut receiver) = mailbox::<u32>().expect("eventfd");
        assert_eq!(receiver.wait(Some(Duration::from_millis(1))), None);
        let other = sender.clone();
        let thread = std::thread::spawn(move || (0..1000).for_each(|n| other.send(n).expect("room")));
        for n in 0..1000 {
            assert_eq!(receiver.wait(None), Some(n));
        }
        thread.join().expect("the sender ends");
        drop(sender);
        assert_eq!(receiver.wait(None), None);
        assert!(receiver.is_closed());
    }

    #[test]
    fn a_task_waits_on_a_foreign_executor() {
        let (sender, mut receiver) = mailbox::<u32>().expect("eventfd");
        let thread = std::thread::spawn(move || (0..100).for_each(|n| sender.send(n).expect("room")));
        let executor = glommio::LocalExecutorBuilder::default().io_memory(64 << 10).ring_depth(8).make();
        let sum = executor.expect("glommio's rings").run(async move {
            let mut sum = 0;
            while let Some(n) = receiver.receive().await {
                sum += n;
            }
            sum
        });
        thread.join().expect("the sender ends");
        assert_eq!(sum, (0..100).sum());
    }
}
