//! Which thread runs where: one pinned glommio executor per shard, one for the control plane beside them.
//!
//! Computed from sched_getaffinity: glommio's own set of online CPUs ignores the mask a container or taskset gives, and
//! its placements fail with more shards than CPUs. Shards go to distinct physical cores first, node by node.
//!
//! Invariants: no thread leaves the mask the process was started with; no shard's future starts before every shard's
//! executor is made; a panic in a shard ends the process, since its clients would hang.

use glommio::{CpuSet, GlommioError, LocalExecutor, LocalExecutorBuilder, PoolPlacement};
use std::fmt;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

/// glommio's least. Its default, 10 MiB per executor, is for storage; no data passes through here.
const IO_MEMORY_BYTES: usize = 64 << 10;
/// glommio refuses to start below this limit on locked memory, in words that don't survive its error type.
const LOCKED_BYTES: u64 = 512 << 10;
/// Each executor makes three rings of this many entries, for the control plane's timers and little else.
const RING_DEPTH: usize = 16;

/// Where shards and the control plane run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The CPUs the process may use.
    allowed: Vec<usize>,
    /// Each shard's CPU; `None` for all when there are more shards than CPUs.
    shards: Vec<Option<usize>>,
}

impl Placement {
    /// Places `count` shards, by default one per allowed CPU.
    pub fn new(count: Option<usize>) -> Result<Placement, PlacementError> {
        let allowed = allowed_cpus().map_err(|e| PlacementError::from_io("reading the CPU mask", &e))?;
        let ordered = spread(allowed.iter().map(|&cpu| Cpu::read(cpu)).collect());
        Ok(place(allowed, &ordered, count))
    }

    /// Each shard's CPU; `None` where it isn't pinned.
    pub fn cpus(&self) -> &[Option<usize>] {
        &self.shards
    }

    /// What the operator should know: that shards share CPUs.
    pub fn warning(&self) -> Option<String> {
        let (shards, allowed) = (self.shards.len(), self.allowed.len());
        (shards > allowed).then(|| {
            format!("{shards} shards on {allowed} allowed CPUs: they share them and aren't pinned; fewer would do more")
        })
    }

    /// Starts one executor per shard and runs `shard(index)` on each as its one long future. Returns when all executors
    /// are made; if one can't be, none runs its future.
    pub fn spawn_shards<F, T>(&self, name: &str, shard: F) -> Result<ShardThreads, PlacementError>
    where
        F: Fn(usize) -> T + Send + Clone + 'static,
        T: Future<Output = ()> + 'static,
    {
        let mut starting = Vec::new();
        for (index, &cpu) in self.shards.iter().enumerate() {
            let (shard, allowed) = (shard.clone(), self.allowed.clone());
            starting.push(Starting::spawn(format!("{name}-{index}"), cpu, allowed, move || shard(index))?);
        }
        for thread in &starting {
            thread.made()?;
        }
        Ok(ShardThreads { handles: starting.into_iter().map(Starting::go).collect() })
    }

    /// Starts the control plane's executor: on CPUs without a shard where there are some, else anywhere allowed.
    pub fn spawn_control<F, T>(&self, name: &str, control: F) -> Result<ControlThread, PlacementError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Future<Output = ()> + 'static,
    {
        let thread = Starting::spawn(name.into(), None, self.control_cpus(), control)?;
        thread.made()?;
        Ok(ControlThread { handle: thread.go() })
    }

    fn control_cpus(&self) -> Vec<usize> {
        let free: Vec<usize> = self.allowed.iter().copied().filter(|&cpu| !self.shards.contains(&Some(cpu))).collect();
        if free.is_empty() { self.allowed.clone() } else { free }
    }
}

fn place(allowed: Vec<usize>, ordered: &[usize], count: Option<usize>) -> Placement {
    let count = count.unwrap_or(ordered.len()).max(1);
    let cpu = |index: usize| if count > ordered.len() { None } else { ordered.get(index).copied() };
    Placement { allowed, shards: (0..count).map(cpu).collect() }
}

/// The shards' threads. Dropping it leaves them running.
#[derive(Debug)]
pub struct ShardThreads {
    handles: Vec<JoinHandle<()>>,
}

impl ShardThreads {
    /// Waits until every shard's future is done.
    pub fn join(self) {
        for handle in self.handles {
            // A panic has ended the process already.
            let _ = handle.join();
        }
    }
}

/// The control plane's thread. Dropping it leaves it running.
#[derive(Debug)]
pub struct ControlThread {
    handle: JoinHandle<()>,
}

impl ControlThread {
    /// Waits until its future is done.
    pub fn join(self) {
        let _ = self.handle.join();
    }
}

/// A thread whose executor is being made, and which runs its future when told to go. Dropped before, it ends.
struct Starting {
    handle: JoinHandle<()>,
    made: mpsc::Receiver<Result<(), PlacementError>>,
    go: mpsc::Sender<()>,
}

impl Starting {
    fn spawn<F, T>(name: String, cpu: Option<usize>, allowed: Vec<usize>, main: F) -> Result<Starting, PlacementError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Future<Output = ()> + 'static,
    {
        let (say_made, made) = mpsc::channel();
        let (go, may_go) = mpsc::channel();
        let thread_name = name.clone();
        let run = move || {
            let executor = match executor(cpu, &allowed) {
                Ok(executor) => executor,
                Err(error) => return drop(say_made.send(Err(error))),
            };
            // Errors mean that nobody waits for us any more: another executor failed.
            if say_made.send(Ok(())).is_err() || may_go.recv().is_err() {
                return;
            }
            if std::panic::catch_unwind(AssertUnwindSafe(|| executor.run(main()))).is_err() {
                eprintln!("thread {thread_name} panicked (see above): what it served would hang, so the process ends");
                std::process::abort();
            }
        };
        let handle =
            Builder::new().name(name).spawn(run).map_err(|e| PlacementError::from_io("starting a thread", &e))?;
        Ok(Starting { handle, made, go })
    }

    fn made(&self) -> Result<(), PlacementError> {
        self.made.recv().unwrap_or(Err(PlacementError::Executor("its thread ended".into())))
    }

    fn go(self) -> JoinHandle<()> {
        // Its thread waits for this, and nothing can have ended it.
        let _ = self.go.send(());
        self.handle
    }
}

/// Makes an executor for the calling thread: pinned to `cpu`, or free within `allowed`.
fn executor(cpu: Option<usize>, allowed: &[usize]) -> Result<LocalExecutor, PlacementError> {
    let limit = memory_lock_limit();
    if limit < LOCKED_BYTES {
        return Err(PlacementError::MemoryLock(limit));
    }
    // glommio pins only to CPUs it finds in /sys, which a sandbox may hide; the mask is set here for that case too.
    let mask = cpu.map_or_else(|| allowed.to_vec(), |cpu| vec![cpu]);
    confine(&mask).map_err(|e| PlacementError::from_io("pinning a thread", &e))?;
    let known = |cpu| CpuSet::online().is_ok_and(|online| online.iter().any(|location| location.cpu == cpu));
    let placement = match cpu {
        Some(cpu) if known(cpu) => glommio::Placement::Fixed(cpu),
        Some(_) | None => glommio::Placement::Unbound,
    };
    LocalExecutorBuilder::new(placement)
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
        .map_err(PlacementError::from_glommio)
}

/// Why threads can't be placed or started. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlacementError {
    /// glommio's rings need more locked memory than the limit, in bytes, allows.
    MemoryLock(u64),
    /// io_uring isn't there for glommio either.
    Ring(crate::probe::SetupError),
    /// The executor wasn't made; glommio's words.
    Executor(String),
    /// A system call's errno.
    System {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        errno: i32,
    },
}

impl PlacementError {
    fn from_io(what: &'static str, error: &io::Error) -> PlacementError {
        PlacementError::System { what, errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }

    fn from_glommio(error: GlommioError<()>) -> PlacementError {
        match error {
            GlommioError::IoError(e) | GlommioError::EnhancedIoError { source: e, .. } => match e.raw_os_error() {
                Some(libc::ENOMEM) => PlacementError::MemoryLock(memory_lock_limit()),
                _ => PlacementError::Ring(crate::probe::SetupError::from_errno("making an executor's rings", &e)),
            },
            error => PlacementError::Executor(error.to_string()),
        }
    }
}

impl fmt::Display for PlacementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlacementError::MemoryLock(limit) => write!(
                f,
                "a shard's executor needs 512 KiB of locked memory, the limit is {} KiB for all of the process: raise it \
                 (ulimit -l, LimitMEMLOCK=, docker --ulimit memlock=) or use fewer shards",
                limit / 1024
            ),
            PlacementError::Ring(error) => error.fmt(f),
            PlacementError::Executor(words) => write!(f, "an executor can't be made: {words}"),
            PlacementError::System { what, errno } => write!(f, "{what}: {}", io::Error::from_raw_os_error(*errno)),
        }
    }
}

impl std::error::Error for PlacementError {}

/// Raises the soft limits on locked memory and on descriptors to the hard ones. Returns what descriptors are allowed now.
pub fn raise_limits() -> u64 {
    raise(libc::RLIMIT_MEMLOCK);
    raise(libc::RLIMIT_NOFILE)
}

fn raise(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = limit_of(resource);
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // Refused, it stays as it was; what then lacks says so itself.
        // SAFETY: reads one rlimit.
        unsafe { libc::setrlimit(resource, &raw const limit) };
    }
    limit_of(resource).rlim_cur
}

/// The soft limit on locked memory, in bytes.
pub(crate) fn memory_lock_limit() -> u64 {
    limit_of(libc::RLIMIT_MEMLOCK).rlim_cur
}

fn limit_of(resource: libc::__rlimit_resource_t) -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one rlimit.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    limit
}

/// A mask as the kernel has it, for up to 8192 CPUs; `cpu_set_t` ends at 1024.
type Mask = [u64; 128];

fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mut mask: Mask = [0; 128];
    // SAFETY: writes at most the mask's size into it.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<Mask>(), mask.as_mut_ptr().cast()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((0..mask.len() * 64).filter(|&cpu| mask[cpu / 64] >> (cpu % 64) & 1 == 1).collect())
}

/// Restricts the calling thread, and those it starts, to `cpus`.
fn confine(cpus: &[usize]) -> io::Result<()> {
    let mut mask: Mask = [0; 128];
    for &cpu in cpus {
        mask[cpu / 64] |= 1 << (cpu % 64);
    }
    // SAFETY: reads the mask.
    match unsafe { libc::sched_setaffinity(0, size_of::<Mask>(), mask.as_ptr().cast()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A CPU and what it shares with others.
#[derive(Clone, Copy, Debug)]
struct Cpu {
    id: usize,
    node: usize,
    package: usize,
    core: usize,
}

impl Cpu {
    /// From /sys; what isn't said there counts as a core of its own.
    fn read(id: usize) -> Cpu {
        let directory = format!("/sys/devices/system/cpu/cpu{id}");
        let number = |file: &str| {
            let text = std::fs::read_to_string(format!("{directory}/topology/{file}")).ok()?;
            text.trim().parse().ok()
        };
        let core = number("core_id");
        let package = core.and_then(|_| number("physical_package_id"));
        Cpu {
            id,
            node: node_in(Path::new(&directory)).unwrap_or(0),
            package: package.unwrap_or(0),
            core: core.unwrap_or(id),
        }
    }
}

/// The `nodeN` link in a CPU's directory.
fn node_in(directory: &Path) -> Option<usize> {
    let names = std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.strip_prefix("node")?.parse().ok()).next()
}

/// Every core's first hyperthread before any core's second; within that, node by node, so that few shards share a cache.
fn spread(mut cpus: Vec<Cpu>) -> Vec<usize> {
    cpus.sort_by_key(|cpu| cpu.id);
    let rank = |at: usize| {
        let same = |other: &&Cpu| (other.package, other.core) == (cpus[at].package, cpus[at].core);
        cpus[..at].iter().filter(same).count()
    };
    let mut ranked: Vec<(usize, usize, usize, usize)> =
        (0..cpus.len()).map(|at| (rank(at), cpus[at].node, cpus[at].package, cpus[at].id)).collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, _, _, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    fn check_spread(cpus: &[(usize, usize, usize, usize)], expected: &[usize]) {
        let cpus = cpus.iter().map(|&(id, node, package, core)| Cpu { id, node, package, core }).collect();
        assert_eq!(spread(cpus), expected);
    }

    #[test]
    fn physical_cores_come_first_and_nodes_together() {
        check_spread(&[], &[]);
        // Siblings numbered apart, as Intel does, and side by side, as others do.
        check_spread(&[(0, 0, 0, 0), (1, 0, 0, 1), (2, 0, 0, 0), (3, 0, 0, 1)], &[0, 1, 2, 3]);
        check_spread(&[(0, 0, 0, 0), (1, 0, 0, 0), (2, 0, 0, 1), (3, 0, 0, 1)], &[0, 2, 1, 3]);
        // Two nodes interleaved, the same core numbers in both packages.
        check_spread(&[(0, 0, 0, 0), (1, 1, 1, 0), (2, 0, 0, 1), (3, 1, 1, 1)], &[0, 2, 1, 3]);
    }

    fn check_place(allowed: &[usize], count: Option<usize>, shards: &[Option<usize>], control: &[usize], warns: bool) {
        let placement = place(allowed.to_vec(), allowed, count);
        assert_eq!(placement.cpus(), shards);
        assert_eq!(placement.control_cpus(), control);
        assert_eq!(placement.warning().is_some(), warns);
    }

    #[test]
    fn places() {
        check_place(&[2, 5], None, &[Some(2), Some(5)], &[2, 5], false);
        check_place(&[2, 5], Some(1), &[Some(2)], &[5], false);
        check_place(&[2, 5], Some(3), &[None, None, None], &[2, 5], true);
        check_place(&[2], Some(0), &[Some(2)], &[2], false);
    }

    #[test]
    fn shards_run_where_they_were_placed() {
        for count in [None, Some(1), Some(allowed_cpus().expect("a mask").len() + 1)] {
            let placement = Placement::new(count).expect("placed");
            let seen = Arc::new(Mutex::new(Vec::new()));
            let shard = {
                let seen = seen.clone();
                move |index| {
                    let seen = seen.clone();
                    async move { seen.lock().expect("lock").push((index, allowed_cpus().expect("a mask"))) }
                }
            };
            placement.spawn_shards("test", shard).expect("started").join();
            let mut seen = seen.lock().expect("lock").clone();
            seen.sort();
            let expected: Vec<(usize, Vec<usize>)> = placement
                .cpus()
                .iter()
                .map(|cpu| cpu.map_or_else(|| placement.allowed.clone(), |cpu| vec![cpu]))
                .enumerate()
                .collect();
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn control_stays_off_the_shards() {
        let placement = Placement::new(Some(1)).expect("placed");
        let expected = placement.control_cpus();
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let control = move || async move {
            assert_eq!(allowed_cpus().expect("a mask"), expected);
            glommio::timer::sleep(std::time::Duration::from_micros(1)).await;
            counted.fetch_add(1, Ordering::Relaxed);
        };
        placement.spawn_control("control", control).expect("started").join();
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn limits_are_raised() {
        assert!(raise_limits() > 0);
        let limit = limit_of(libc::RLIMIT_MEMLOCK);
        assert_eq!(limit.rlim_cur, limit.rlim_max);
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let text = PlacementError::MemoryLock(65536).to_string();
        assert!(text.contains("64 KiB") && text.contains("ulimit -l"), "{text}");
        let error = GlommioError::<()>::IoError(io::Error::from_raw_os_error(libc::ENOSYS));
        let text = PlacementError::from_glommio(error).to_string();
        assert!(text.contains("no io_uring"), "{text}");
    }
}
