//! `keyway moved-keys`, and what a reload logs: the share of keys whose server changes between two configurations.
//!
//! Works on configurations alone: no server is asked, all count as up. Each key of a fixed sample is explained as a `get`
//! under both; it has moved when no server that the new one asks at once is among those the old one asks at once, so
//! that what is cached for it isn't found. Servers are told apart by their address.
//!
//! Never on a request's path: it allocates, and takes time in proportion to the keys and the trees that differ.

use crate::config::{Config, NamedRoute, Route, ServerAddress, quoted};
use crate::table::{ServerKey, Table, TableRoute};
use keyway_policies::{Action, ClientView, Env, HealthView, Plan, RequestView, RouteStates};
use keyway_protocol::Operation;
use std::collections::HashMap;
use std::fmt;

/// How many keys are tried when nobody says.
pub const SAMPLE_KEYS: usize = 100_000;
/// Most keys that are tried.
pub const MAX_SAMPLE_KEYS: usize = 10_000_000;
/// memcached's longest key.
const KEY_BYTES: usize = 250;

/// The keys to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sample {
    /// That many made up, always the same ones.
    Generated(usize),
    /// These.
    Keys(Vec<String>),
}

impl Sample {
    /// Reads keys, one in each line; an error says what is wrong with which line.
    pub fn from_lines(text: &str) -> Result<Sample, String> {
        let mut keys = Vec::new();
        for (at, line) in text.lines().enumerate() {
            if line.is_empty() || line.len() > KEY_BYTES {
                return Err(format!("line {}: a key has 1 to {KEY_BYTES} bytes, this one {}", at + 1, line.len()));
            }
            if line.bytes().any(|byte| byte <= b' ' || byte == 127) {
                return Err(format!("line {}: a key has no spaces or control characters", at + 1));
            }
            if keys.len() == MAX_SAMPLE_KEYS {
                return Err(format!("more than {MAX_SAMPLE_KEYS} keys"));
            }
            keys.push(line.to_owned());
        }
        if keys.is_empty() {
            return Err("holds no keys".to_owned());
        }
        Ok(Sample::Keys(keys))
    }

    /// How many keys.
    pub fn len(&self) -> usize {
        match self {
            Sample::Generated(count) => *count,
            Sample::Keys(keys) => keys.len(),
        }
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn for_each(&self, mut each: impl FnMut(&[u8])) {
        match self {
            Sample::Generated(count) => {
                (0..*count as u64).for_each(|at| each(format!("{:016x}", mixed(at)).as_bytes()))
            }
            Sample::Keys(keys) => keys.iter().for_each(|key| each(key.as_bytes())),
        }
    }
}

/// The `at`th number of SplitMix64 from seed 0 (Steele, Lea, Flood 2014): every key differs, and none looks like another.
fn mixed(at: u64) -> u64 {
    let mut z = (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What becomes of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// How many keys were tried.
    pub keys: usize,
    /// The listeners, by address: what their clients see. One alone in each configuration is compared with the other.
    pub listeners: Vec<Change>,
    /// The route trees, by name.
    pub routes: Vec<Change>,
    /// The pools, by name, each as PoolRoute spreads keys over it.
    pub pools: Vec<Change>,
}

/// What becomes of the keys of one listener, route or pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a listener, route or pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in both configurations, and that many keys change their server.
    Stays {
        /// How many keys.
        moved: usize,
    },
    /// Only the new configuration has it.
    Added,
    /// Only the old one has it.
    Removed,
}

/// The share of `sample` whose server changes from `old` to `new`.
pub fn moved_keys(old: &Config, new: &Config, sample: &Sample) -> Moved {
    let mut known = Known::default();
    let trees = Pair { old: known.view(old), new: known.view(new) };
    // Trees refer to pools by index: they are known to agree without a look at keys only where all pools do.
    let pools_agree = old.pools == new.pools;
    let mut counted: HashMap<(usize, usize), usize> = HashMap::new();
    let mut count = |from: usize, to: usize| {
        *counted.entry((from, to)).or_insert_with(|| {
            let agree = pools_agree && old.routes[from].route == new.routes[to].route;
            if agree { 0 } else { trees.moved(from, to, sample) }
        })
    };
    let names = |config: &Config| config.routes.iter().map(|route| route.name.clone()).collect::<Vec<_>>();
    let routes = matched(&names(old), &names(new), &mut count);
    let mut listened = |from: usize, to: usize| count(old.listeners[from].route, new.listeners[to].route);
    let listeners = match (old.listeners.as_slice(), new.listeners.as_slice()) {
        ([_], [only]) => vec![Change { name: only.address.to_string(), fate: Fate::Stays { moved: listened(0, 0) } }],
        (from, to) => {
            let names =
                |all: &[crate::config::Listener]| all.iter().map(|one| one.address.to_string()).collect::<Vec<_>>();
            matched(&names(from), &names(to), &mut listened)
        }
    };
    let pools = Pair { old: known.view(&pools_alone(old)), new: known.view(&pools_alone(new)) };
    let names = |config: &Config| config.pools.iter().map(|pool| pool.name.clone()).collect::<Vec<_>>();
    let pools = matched(&names(old), &names(new), &mut |from, to| {
        if old.pools[from] == new.pools[to] { 0 } else { pools.moved(from, to, sample) }
    });
    Moved { keys: sample.len(), listeners, routes, pools }
}

/// A configuration whose trees are its pools, each by itself.
fn pools_alone(config: &Config) -> Config {
    let routes = config
        .pools
        .iter()
        .enumerate()
        .map(|(pool, named)| NamedRoute { name: named.name.clone(), route: Route::Pool { pool } });
    Config { routes: routes.collect(), listeners: Vec::new(), ..config.clone() }
}

/// Pairs what has the same name, in the order of the new configuration, what is gone behind.
fn matched(old: &[String], new: &[String], moved: &mut dyn FnMut(usize, usize) -> usize) -> Vec<Change> {
    let index: HashMap<&String, usize> = old.iter().enumerate().map(|(at, name)| (name, at)).collect();
    let mut stays = vec![false; old.len()];
    let mut changes = Vec::with_capacity(new.len());
    for (to, name) in new.iter().enumerate() {
        let fate = match index.get(name) {
            Some(from) => {
                stays[*from] = true;
                Fate::Stays { moved: moved(*from, to) }
            }
            None => Fate::Added,
        };
        changes.push(Change { name: name.clone(), fate });
    }
    let gone = old.iter().zip(stays).filter(|(_, stays)| !stays);
    changes.extend(gone.map(|(name, _)| Change { name: name.clone(), fate: Fate::Removed }));
    changes
}

/// Gives the servers of both configurations their keys: one address, one key.
#[derive(Default)]
struct Known(HashMap<ServerAddress, ServerKey>);

impl Known {
    fn view(&mut self, config: &Config) -> View {
        let table = config.table(1, &mut |identity| {
            let next = ServerKey(self.0.len() as u32);
            *self.0.entry(identity.address.clone()).or_insert(next)
        });
        let up = vec![u8::MAX; table.servers.len()];
        View { table, up }
    }
}

/// The trees of one configuration.
struct View {
    table: Table,
    up: Vec<u8>,
}

/// One tree, asked key after key.
struct Asked<'a> {
    view: &'a View,
    tree: &'a TableRoute,
    states: RouteStates,
    plan: Plan,
    actions: Vec<Action>,
    /// The servers of the last key.
    servers: Vec<ServerKey>,
}

impl<'a> Asked<'a> {
    fn new(view: &'a View, tree: usize) -> Asked<'a> {
        let tree = &view.table.routes[tree];
        let states = tree.routes.states(1, view.table.host_id);
        Asked { view, tree, states, plan: Plan::default(), actions: Vec::new(), servers: Vec::new() }
    }

    /// The servers a get of `key` asks at once.
    fn ask(&mut self, key: &[u8]) {
        // What one key leaves behind, as a slot that is taken, must not decide where the next one goes.
        if self.states.remember() {
            self.states = self.tree.routes.states(1, self.view.table.host_id);
        }
        let env = Env {
            health: HealthView(&self.view.up),
            now: 0,
            unix_ms: 0,
            client: ClientView::default(),
            request: 0,
            spare_bytes: usize::MAX,
            state: &mut self.states,
        };
        self.plan.clear();
        let request = RequestView::of_key(Operation::Get, key);
        self.tree.routes.begin(&mut self.plan, &request, env, &mut self.actions);
        self.servers.clear();
        self.servers.extend(self.actions.drain(..).filter_map(|action| match action {
            Action::Send(dispatch) => Some(self.view.table.servers[dispatch.server.0 as usize].key),
            Action::Spool(_) | Action::Wake(_) | Action::Log(_) => None,
        }));
    }
}

struct Pair {
    old: View,
    new: View,
}

impl Pair {
    /// How many keys have moved from one tree to another.
    fn moved(&self, from: usize, to: usize, sample: &Sample) -> usize {
        let (mut before, mut after) = (Asked::new(&self.old, from), Asked::new(&self.new, to));
        let mut moved = 0;
        sample.for_each(|key| {
            before.ask(key);
            after.ask(key);
            let (before, after) = (&before.servers, &after.servers);
            let stays = before.iter().any(|server| after.contains(server)) || before == after;
            moved += usize::from(!stays);
        });
        moved
    }
}

impl Moved {
    /// The share of `moved` keys, from 0 to 1.
    pub fn share(&self, moved: usize) -> f64 {
        if self.keys == 0 { 0.0 } else { moved as f64 / self.keys as f64 }
    }

    /// One line for a log: the routes and pools of which keys move, come or go.
    pub fn summary(&self) -> String {
        let mut said = Vec::new();
        for (kind, changes) in [("route", &self.routes), ("pool", &self.pools)] {
            for Change { name, fate } in changes {
                match fate {
                    Fate::Stays { moved: 0 } => {}
                    Fate::Stays { moved } => said.push(format!("{kind} {name} {}", percent(self.share(*moved)))),
                    Fate::Added => said.push(format!("{kind} {name} is new")),
                    Fate::Removed => said.push(format!("{kind} {name} is gone")),
                }
            }
        }
        let (shown, more) = said.split_at(said.len().min(20));
        match (shown, more.len()) {
            ([], _) => "no key changes its server".to_owned(),
            (shown, 0) => format!("keys that change their server: {}", shown.join(", ")),
            (shown, more) => format!("keys that change their server: {}, and {more} more", shown.join(", ")),
        }
    }

    /// The same for programs.
    pub fn to_json(&self) -> String {
        let list = |changes: &[Change]| {
            let items = changes.iter().map(|Change { name, fate }| {
                let fate = match fate {
                    Fate::Stays { moved } => format!("\"moved\": {moved}, \"share\": {}", self.share(*moved)),
                    Fate::Added => "\"only_in\": \"new\"".to_owned(),
                    Fate::Removed => "\"only_in\": \"old\"".to_owned(),
                };
                format!("{{\"name\": {}, {fate}}}", quoted(name))
            });
            format!("[{}]", items.collect::<Vec<_>>().join(", "))
        };
        let (listeners, routes, pools) = (list(&self.listeners), list(&self.routes), list(&self.pools));
        format!("{{\"keys\": {}, \"listeners\": {listeners}, \"routes\": {routes}, \"pools\": {pools}}}\n", self.keys)
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "of {} keys change their server:", self.keys)?;
        for (kind, changes) in [("listener", &self.listeners), ("route", &self.routes), ("pool", &self.pools)] {
            for Change { name, fate } in changes {
                match fate {
                    Fate::Stays { moved } => {
                        writeln!(out, "{kind} {name}: {moved}, {}", percent(self.share(*moved)))?;
                    }
                    Fate::Added => writeln!(out, "{kind} {name}: only in the new configuration")?,
                    Fate::Removed => writeln!(out, "{kind} {name}: only in the old configuration")?,
                }
            }
        }
        Ok(())
    }
}

/// A share in percent. What rounds to nothing and is something says so.
fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.0001 { "< 0.01 %".to_owned() } else { format!("{:.2} %", share * 100.0) }
}
