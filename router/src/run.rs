//! Serving: from a configuration to running shards and control plane, and to an orderly end.
//!
//! Owns the order of things at start: everything that can be refused (ports, rings, embedded servers) is tried on or
//! reported to the main thread before the program counts as started, and the reason is told in words.

use crate::cli::RunOptions;
use crate::config::{Config, ListenAddress, ServerAddress, Shards, read_file};
use crate::control::last_good::LastGood;
use crate::control::{self, ConfigFile, Contents, ControlInputs, Embedded, Finished, Loaded, ServerKeys, Target};
use crate::embedded;
use crate::messages::{FromShard, ToShard};
use crate::shard::Shard;
use crate::table::{ServerKey, Table};
use futures_lite::future;
use keyway_io_engine::mailbox::mailbox_of;
use keyway_io_engine::placement::{Placement, raise_limits};
use keyway_io_engine::{
    Address, Batching, Io, Listener, Nanos, Receiver, RingConfig, RingEngine, Sender, Wait, bind, bind_all_addresses,
    mailbox, probe,
};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime};

/// Connections waiting to be accepted, per listening socket; the kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// Messages a shard's mailbox holds: one for every server there can be, and what else is said meanwhile.
const SHARD_MESSAGES: usize = 2 * control::MAX_SERVER_KEYS;
/// Connections a ring holds beyond clients and servers: those refused with a word, and those lingering.
const SPARE_CONNECTIONS: usize = 1024;
/// Longest of those turns, in nanoseconds.
const TURN: Nanos = 50_000_000;
/// How long a finished shard waits for its last bytes to be taken and its closed connections to linger.
const LAST_TURNS: Duration = Duration::from_secs(2);

/// What one shard's thread is started with.
struct ShardInputs {
    number: usize,
    table: Arc<Table>,
    listeners: Vec<Listener>,
    inbox: Receiver<ToShard>,
    outbox: Sender<FromShard>,
    ring: RingConfig,
    batching: Batching,
}

/// Serves until told to stop. The error is ready to be printed.
pub fn run(options: &RunOptions) -> Result<(), String> {
    let started = Instant::now();
    let (config, file) = load(options)?;
    let config = Arc::new(config);
    let descriptors = raise_limits();
    let kernel = probe::probe().map_err(|error| error.to_string())?;
    let embedded = start_embedded(&config)?;
    let places = embedded.as_ref().map(|embedded| embedded.addresses().to_vec()).unwrap_or_default();
    let embedded_at: Embedded =
        Box::new(move |name| places.iter().find(|(known, _)| known == name).map(|(_, address)| Address::Tcp(*address)));

    let placement = Placement::new(match config.shards {
        Shards::Auto => None,
        Shards::Count(count) => Some(count),
    })
    .map_err(|error| error.to_string())?;
    if let Some(warning) = placement.warning() {
        log::warn!("{warning}");
    }
    let shards = placement.cpus().len();
    let mut keys = ServerKeys::new();
    let loaded = Loaded::new(config.clone(), 1, &mut keys, &*embedded_at)?;

    warn_of_descriptors(&config, shards, descriptors);
    let (wishes_sender, wishes) = mailbox().map_err(out_of_descriptors)?;
    control::signals::listen(wishes_sender).map_err(|error| format!("signals: {error}"))?;
    let (outbox, from_shards) = mailbox().map_err(out_of_descriptors)?;
    let (senders, inputs) = shard_inputs(&config, &loaded.table, shards, &outbox)?;
    for listener in &inputs[0].listeners {
        log::info!("listening on {}", Spoken(listener.address()));
    }
    tell_addresses(&senders, &loaded);

    let control_inputs = ControlInputs {
        started,
        shards: senders,
        from_shards,
        wishes,
        http: config.metrics.iter().chain(&config.admin).cloned().collect(),
        serving: mpsc::channel().0,
        keys,
        loaded,
        file,
        embedded: embedded_at,
    };
    // Before the shards: when the metrics port is taken, no client should have been let in.
    let finished = start_control(&placement, control_inputs)?;
    let threads = start_shards(&placement, inputs)?;
    log::info!(
        "keyway {} serves with {shards} shard(s) on Linux {}; worst-case memory: {}",
        env!("CARGO_PKG_VERSION"),
        kernel.release,
        config.memory_bound(shards)
    );
    let how = finished.recv().map_err(|_| "the control plane ended without a word".to_string())?;
    match how {
        Finished::Drained { cut: 0 } => log::info!("drained: every request that was read is answered"),
        Finished::Drained { cut } => log::warn!("drained: the time was up, {cut} client(s) were cut"),
        Finished::TimedOut => log::warn!("the drain's time was up and not every shard was done"),
        Finished::NotStarted => return Err("the control plane did not start".to_string()),
    }
    if how != Finished::TimedOut {
        threads.join();
    }
    drop(embedded);
    Ok(())
}

/// The configuration to start with: the file's, or the last good one where that has faults or is missing.
fn load(options: &RunOptions) -> Result<(Config, ConfigFile), String> {
    let path = control::absolute(&options.file);
    let contents: Contents = read_file(&options.file).map(Arc::from);
    let parsed = match &contents {
        Ok(bytes) => options.parse(bytes).map_err(|errors| errors.to_string()),
        // In the words for somebody who starts it the first time.
        Err(_) => options.load(),
    };
    let started_with_last_good = parsed.is_err();
    let config = match (parsed, &options.last_good) {
        (Ok(config), _) => config,
        (Err(errors), None) => return Err(errors),
        (Err(errors), Some(last_good)) => load_last_good(options, &path, &errors, last_good)?,
    };
    let parse = reparse(options.clone(), config.listeners.clone());
    let last_good = options.last_good.clone();
    Ok((config, ConfigFile { path, parse, contents, last_good, started_with_last_good }))
}

fn load_last_good(options: &RunOptions, file: &Path, errors: &str, last_good: &LastGood) -> Result<Config, String> {
    let no_use = |why: String| format!("{errors}\nand there is no last good configuration to start with: {why}");
    let kept = last_good.load(file, SystemTime::now()).map_err(no_use)?;
    // Its flags or this version may be other ones than when it was good.
    let config = options.parse(&kept.bytes).map_err(|errors| no_use(errors.to_string()))?;
    log::error!("{} CAN'T BE USED:", file.display());
    for line in errors.lines() {
        log::error!("  {line}");
    }
    log::error!(
        "STARTING WITH THE LAST GOOD CONFIGURATION, which the file held {} s ago ({}), until the file is mended",
        kept.age.as_secs(),
        kept.path.display()
    );
    Ok(config)
}

/// Makes a configuration of bytes for a reload. What only a start can change must be the same.
fn reparse(options: RunOptions, listeners: Vec<crate::config::Listener>) -> control::Parse {
    Box::new(move |bytes| {
        let config = options.parse(bytes).map_err(|errors| errors.to_string())?;
        let addresses = |listeners: &[crate::config::Listener]| -> Vec<ListenAddress> {
            listeners.iter().map(|listener| listener.address.clone()).collect()
        };
        if addresses(&config.listeners) != addresses(&listeners) {
            return Err("the listeners changed, which takes a restart; nothing of the new file is used".to_string());
        }
        Ok(config)
    })
}

/// Clients are refused by the kernel, not by our limit, when descriptors run out first: said at start.
fn warn_of_descriptors(config: &Config, shards: usize, descriptors: u64) {
    let upstream: u64 = config.identities().iter().map(|identity| u64::from(identity.connection.connections)).sum();
    let needed = (config.limits.clients_per_shard as u64 + upstream) * shards as u64;
    if needed > descriptors {
        log::warn!(
            "limits.clients lets {needed} connections in, but only {descriptors} descriptors are allowed: raise the hard \
             limit (ulimit -Hn, LimitNOFILE=) or lower limits.clients"
        );
    }
}

fn start_embedded(config: &Config) -> Result<Option<embedded::Embedded>, String> {
    let mut names: Vec<String> = Vec::new();
    for server in config.pools.iter().flat_map(|pool| &pool.servers) {
        if let ServerAddress::Embedded(name) = &server.address
            && !names.contains(name)
        {
            names.push(name.clone());
        }
    }
    if names.is_empty() {
        return Ok(None);
    }
    let embedded = embedded::start(&names, config.embedded_memory_bytes).map_err(|error| error.to_string())?;
    for (name, address) in embedded.addresses() {
        log::info!("embedded server {name} on {address}, for trying out: its items end with this process");
    }
    Ok(Some(embedded))
}

/// The mailboxes and inputs of all shards. Makes every listening socket, so that a taken port is said at once.
fn shard_inputs(
    config: &Config,
    table: &Arc<Table>,
    shards: usize,
    outbox: &Sender<FromShard>,
) -> Result<(Vec<Sender<ToShard>>, Vec<ShardInputs>), String> {
    let mut senders = Vec::new();
    let mut inputs = Vec::new();
    let upstream: usize = config.identities().iter().map(|identity| usize::from(identity.connection.connections)).sum();
    for number in 0..shards {
        let (sender, inbox) = mailbox_of(SHARD_MESSAGES).map_err(out_of_descriptors)?;
        let connections = table.limits.clients_per_shard + 2 * upstream + SPARE_CONNECTIONS;
        let ring = RingConfig {
            doorbell: Some(inbox.doorbell()),
            max_connections: u32::try_from(connections).unwrap_or(u32::MAX),
            kept_for_upstreams: u32::try_from(2 * upstream).unwrap_or(u32::MAX),
            ..RingConfig::default()
        };
        senders.push(sender);
        inputs.push(ShardInputs {
            number,
            table: table.clone(),
            listeners: Vec::new(),
            inbox,
            outbox: outbox.clone(),
            ring,
            batching: config.batching,
        });
    }
    for listener in &config.listeners {
        for (input, member) in inputs.iter_mut().zip(bind_all(&listener.address, shards)?) {
            input.listeners.push(member);
        }
    }
    Ok((senders, inputs))
}

fn bind_all(address: &ListenAddress, shards: usize) -> Result<Vec<Listener>, String> {
    let bind = |address: Address| bind(&address, shards, BACKLOG);
    let bound = match address {
        ListenAddress::Tcp(address) => bind(Address::Tcp(*address)),
        ListenAddress::Unix(path) => bind(Address::Unix(path.clone())),
        ListenAddress::AllTcp(port) => bind_all_addresses(*port, shards, BACKLOG),
    };
    bound.map_err(|error| error.to_string())
}

/// The first thing a shard takes from its mailbox: where the servers are that need no lookup. A client that comes before
/// the control plane runs would otherwise find no server.
fn tell_addresses(shards: &[Sender<ToShard>], loaded: &Loaded) {
    let mut messages = Vec::new();
    for server in &loaded.servers {
        if let Target::Address(address) = &server.target {
            let told =
                |key: &ServerKey| ToShard::Server { key: *key, up: true, why: None, address: Some(address.clone()) };
            messages.extend(server.keys.iter().map(told));
        }
    }
    for shard in shards {
        if let Err(error) = shard.send_all(messages.clone()) {
            log::error!("a shard can't be told where its servers are: {error}");
        }
    }
}

/// Starts every shard and waits until each says that it is ready, or why not.
fn start_shards(
    placement: &Placement,
    inputs: Vec<ShardInputs>,
) -> Result<keyway_io_engine::placement::ShardThreads, String> {
    let count = inputs.len();
    let inputs: Arc<Mutex<Vec<Option<ShardInputs>>>> = Arc::new(Mutex::new(inputs.into_iter().map(Some).collect()));
    let (ready, readiness) = mpsc::channel();
    let threads = placement
        .spawn_shards("keyway-shard", move |number| {
            let input = inputs.lock().ok().and_then(|mut inputs| inputs[number].take());
            let ready = ready.clone();
            async move {
                if let Some(input) = input {
                    serve_shard(input, &ready).await;
                }
            }
        })
        .map_err(|error| error.to_string())?;
    for _ in 0..count {
        readiness.recv().map_err(|_| "a shard ended before it was ready".to_string())??;
    }
    Ok(threads)
}

/// One shard's life: the executor's one long future.
async fn serve_shard(input: ShardInputs, ready: &mpsc::Sender<Result<(), String>>) {
    let ShardInputs { number, table, listeners, inbox, outbox, ring, batching } = input;
    let mut engine = match RingEngine::new(ring, listeners, batching) {
        Ok(engine) => engine,
        Err(error) => return drop(ready.send(Err(format!("shard {number}: {error}")))),
    };
    let mut shard = Shard::new(number, table, inbox, outbox, seed(number));
    // Before the first client: what goes by the date would be wrong until the control plane tells the time.
    shard.set_clock(unix_ms());
    if ready.send(Ok(())).is_err() {
        return;
    }
    let mut doorbells = 0;
    while !shard.is_finished() {
        let wait = shard.wait();
        if let Err(error) = engine.turn(&mut shard, wait) {
            // There is no going on without the ring, and no client of this shard would ever be answered.
            log::error!("shard {number}: {error}; the process ends");
            std::process::exit(1);
        }
        shard.turn_took(engine.worked());
        // The doorbell is also the executor's: only then may something of its own be waiting.
        if std::mem::replace(&mut doorbells, shard.doorbells()) != doorbells {
            future::yield_now().await;
        }
    }
    let until = Instant::now() + LAST_TURNS;
    while engine.io().open_connections() > 0 && Instant::now() < until {
        let soon = engine.io().now() + engine.worked() + TURN;
        if engine.turn(&mut shard, Wait { deadline: Some(soon), immediate: false, in_flight: 0 }).is_err() {
            return;
        }
    }
}

fn start_control(placement: &Placement, mut inputs: ControlInputs) -> Result<mpsc::Receiver<Finished>, String> {
    let (serving, is_serving) = mpsc::channel();
    let (finish, finished) = mpsc::channel();
    inputs.serving = serving;
    placement
        .spawn_control("keyway-control", move || async move {
            // Nobody waiting means that the program is ending already.
            let _ = finish.send(control::run(inputs).await);
        })
        .map_err(|error| error.to_string())?;
    let addresses = is_serving.recv().map_err(|_| "the control plane ended before it was ready".to_string())??;
    for address in addresses {
        log::info!("metrics on http://{address}/metrics (also /events, /healthz, /readyz)");
    }
    Ok(finished)
}

/// Milliseconds since 1970.
fn unix_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Jitter need not be secret, only different: between shards, processes and hosts.
fn seed(number: usize) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_usize(number);
    hasher.finish()
}

fn out_of_descriptors(error: std::io::Error) -> String {
    format!("out of descriptors at start: {error}; raise the limit on open files (ulimit -n)")
}

/// An address as it is said to people.
struct Spoken<'a>(&'a Address);

impl std::fmt::Display for Spoken<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Address::Tcp(address) => write!(f, "tcp://{address}"),
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}
