//! The control plane: one task on an executor of its own that watches servers, reloads, drains and answers questions.
//!
//! ```text
//!  signals ─► wishes ─┐                        ┌─► ToShard: table, server, snapshot, stats, drain
//!  shards ─► FromShard ┼─► loop: Control ───────┼─► tasks: check, look up, try ─► Done ─┐
//!  files ──► FileRead ─┤   (owns all state)     ├─► FileTask: read, adopted             │
//!  HTTP ─► questions ──┘                        └─► answers to HTTP                    │
//!          ▲────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! What to do is decided in `health`, `dns` and `fleet`, which do nothing themselves; what is done is done in `probe` and
//! `http`, which decide nothing. Never on a request's way: shards work on with what they were told last.

pub mod dns;
pub mod events;
mod files;
pub mod fleet;
pub mod health;
pub mod http;
mod invalidations;
pub mod last_good;
mod load;
mod probe;
mod process;
mod servers;
pub mod signals;
pub mod standing;
mod state;
mod watch;

pub use files::{ConfigFile, Parse, absolute};
pub use load::{Embedded, Loaded};
pub use servers::{MAX_SERVER_KEYS, ServerKeys, Target, WatchedServer};
pub use watch::Contents;

use crate::config::ListenAddress;
use crate::messages::{FromShard, ToShard};
use crate::trouble::FailedCheck;
use files::FileRead;
use fleet::Action;
use futures_lite::future;
use glommio::timer::Timer;
use http::Asked;
use invalidations::Invalidations;
use keyway_io_engine::mailbox::{self, Receiver, Sender};
use signals::Wish;
use state::Control;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long after the drain's time is up a shard may take to say so.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// What the control plane is started with.
pub struct ControlInputs {
    /// When the process started.
    pub started: Instant,
    /// The mailbox of each shard, in their order.
    pub shards: Vec<Sender<ToShard>>,
    /// Where the shards report.
    pub from_shards: Receiver<FromShard>,
    /// What signals ask for (`signals::listen`).
    pub wishes: Receiver<Wish>,
    /// Where metrics and readiness are served; the same address twice is one.
    pub http: Vec<ListenAddress>,
    /// Is told the addresses served, or why one can't be; then `run` ends.
    pub serving: mpsc::Sender<Result<Vec<SocketAddr>, String>>,
    /// The keys given out so far.
    pub keys: ServerKeys,
    /// The configuration the shards were started with.
    pub loaded: Loaded,
    /// Where it comes from, to be watched and read again.
    pub file: ConfigFile,
    /// Where embedded servers are.
    pub embedded: Embedded,
}

/// How the control plane ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// An address could not be served, as `ControlInputs::serving` was told.
    NotStarted,
    /// Every shard has drained; this many clients were cut because the time was up.
    Drained {
        /// Clients cut.
        cut: usize,
    },
    /// The time was up and not every shard had said that it was done.
    TimedOut,
}

/// What a task or a connection of the control plane brings back to the loop.
enum Done {
    Checked { id: u64, epoch: u32, result: Result<(), FailedCheck> },
    LookedUp { id: u64, result: Result<Vec<SocketAddr>, String> },
    Tried { id: u64, candidates: Vec<SocketAddr>, still_given: bool, answered: Option<SocketAddr> },
    Asked(Asked),
}

/// One thing that happened.
enum Event {
    Shard(FromShard),
    Wish(Wish),
    Read(FileRead),
    Done(Done),
    /// The async log has sent a server what it missed.
    Released(String),
    Time,
}

/// Runs the control plane until the process is to end. Needs to be called on a glommio executor.
pub async fn run(inputs: ControlInputs) -> Finished {
    let Opened { addresses, log, done, mut finished_tasks, mut released } = match open(&inputs) {
        Ok(opened) => opened,
        Err(error) => {
            // Nobody may be waiting for it any more, which is not an error.
            let _ = inputs.serving.send(Err(error));
            return Finished::NotStarted;
        }
    };
    let ((files, tasks), (read_files, mut reads)) = match (mailbox::mailbox(), mailbox::mailbox()) {
        (Ok(tasks), Ok(reads)) => (tasks, reads),
        (Err(error), _) | (_, Err(error)) => {
            let _ = inputs.serving.send(Err(format!("out of descriptors for the control plane: {error}")));
            return Finished::NotStarted;
        }
    };
    let ControlInputs { started, shards, mut from_shards, mut wishes, serving, keys, loaded, file, embedded, .. } =
        inputs;
    let mut control = Control::new(shards, keys, loaded, (&file, files), embedded, log);
    if let Err(error) = files::start(file, tasks, read_files) {
        log::error!("there will be no reload: the thread for it can't be started: {error}");
    }
    control.start(started.elapsed());
    let _ = serving.send(Ok(addresses));
    loop {
        let now = started.elapsed();
        control.on_time(now);
        while let Some(action) = control.fleet.action(now) {
            carry_out(&mut control, action, &done, now);
        }
        if let Some(finished) = control.finished(now) {
            control.close();
            return finished;
        }
        let wait = control.next_due().map_or(Duration::MAX, |due| due.saturating_sub(now));
        let event =
            next_event((&mut from_shards, &mut wishes, &mut reads), &mut finished_tasks, &mut released, wait).await;
        let now = started.elapsed();
        match event {
            Event::Shard(message) => control.heard(message, now),
            Event::Wish(Wish::Reload) => control.reload(),
            Event::Wish(Wish::Stop) => control.drain(now),
            Event::Read(read) => control.read(read, now),
            Event::Done(done) => control.done(done, now),
            Event::Released(destination) => control.released(&destination, now),
            Event::Time => {}
        }
    }
}

/// What the control plane works with and may fail to get.
struct Opened {
    addresses: Vec<SocketAddr>,
    log: Invalidations,
    done: Sender<Done>,
    finished_tasks: Receiver<Done>,
    released: Receiver<String>,
}

fn open(inputs: &ControlInputs) -> Result<Opened, String> {
    let no_mailbox = |error: std::io::Error| format!("out of descriptors for the control plane: {error}");
    let (done, finished_tasks) = mailbox::mailbox().map_err(no_mailbox)?;
    let (release, released) = mailbox::mailbox_of(MAX_SERVER_KEYS).map_err(no_mailbox)?;
    let addresses = serve_http(&inputs.http, &done)?;
    let log = Invalidations::open(inputs.loaded.async_log.as_ref(), &inputs.shards, release)?;
    Ok(Opened { addresses, log, done, finished_tasks, released })
}

async fn next_event(
    (from_shards, wishes, reads): (&mut Receiver<FromShard>, &mut Receiver<Wish>, &mut Receiver<FileRead>),
    tasks: &mut Receiver<Done>,
    released: &mut Receiver<String>,
    wait: Duration,
) -> Event {
    // A mailbox whose senders are gone says so at once and for ever: it is then no longer waited for.
    async fn from<T>(mailbox: &mut Receiver<T>) -> T {
        match mailbox.receive().await {
            Some(message) => message,
            None => future::pending().await,
        }
    }
    let shard = async { Event::Shard(from(from_shards).await) };
    let wish = async { Event::Wish(from(wishes).await) };
    let read = async { Event::Read(from(reads).await) };
    let task = async { Event::Done(from(tasks).await) };
    let release = async { Event::Released(from(released).await) };
    let time = async {
        Timer::new(wait.min(Duration::from_secs(60))).await;
        Event::Time
    };
    let told = future::or(future::or(wish, shard), read);
    future::or(told, future::or(future::or(task, release), time)).await
}

/// Serves every address; the addresses as they came to be.
fn serve_http(addresses: &[ListenAddress], done: &Sender<Done>) -> Result<Vec<SocketAddr>, String> {
    let mut served = Vec::new();
    for (at, address) in addresses.iter().enumerate() {
        // Port 0 is a different port each time.
        if addresses[..at].contains(address) && !matches!(address, ListenAddress::Tcp(address) if address.port() == 0) {
            continue;
        }
        let listener = http::bind(address)?;
        served.push(listener.local_addr().map_err(|error| format!("metrics on {address}: {error}"))?);
        let done = done.clone();
        glommio::spawn_local(http::serve(listener, move |asked| done.send(Done::Asked(asked)).is_ok())).detach();
    }
    Ok(served)
}

/// Does what the fleet decided. The number of tasks is bounded by the fleet.
fn carry_out(control: &mut Control, action: Action, done: &Sender<Done>, now: Duration) {
    let timeout = control.fleet.settings().health.timeout;
    let done = done.clone();
    // A task that can't report would never be waited for again; the mailbox holds far more than there are tasks.
    let report = move |message| {
        if done.send(message).is_err() {
            log::error!("the control plane is stuck: a result was lost");
        }
    };
    match action {
        Action::Publish { .. } | Action::Stand { .. } => control.publish(action, now),
        Action::Check { id, epoch, address } => {
            let check = async move {
                let result = probe::probe(&address, timeout).await;
                report(Done::Checked { id, epoch, result });
            };
            glommio::spawn_local(check).detach();
        }
        Action::LookUp { id, name, port } => {
            let look_up = async move {
                let resolve = move || (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
                let result = glommio::executor().spawn_blocking(resolve).await;
                report(Done::LookedUp { id, result: result.map_err(|error| error.to_string()) });
            };
            glommio::spawn_local(look_up).detach();
        }
        Action::Try { id, candidates, still_given } => {
            let try_all = async move {
                let answered = probe::first_answering(&candidates, timeout).await;
                report(Done::Tried { id, candidates, still_given, answered });
            };
            glommio::spawn_local(try_all).detach();
        }
    }
}
