//! The one table of configuration keys: parsing, the "allowed" lists of errors, defaults and ranges all read it, and a
//! test compares `docs/configuration.md` with it. A key that isn't here doesn't exist.
//!
//! Names are in snake_case; camelCase is accepted for each of them (`key_of`).

mod hash;
mod health;

pub use hash::HASH;
pub use health::{HEALTH, TKO_TRACKER};

/// A map of the file with its keys.
#[derive(Debug)]
pub struct Section {
    /// Where it stands, as the docs write it.
    pub name: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// Keys of the field's other routers, or of versions to come: refused in words of their own.
    pub unsupported: &'static [&'static str],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// In snake_case.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What it means, in a sentence.
    pub meaning: &'static str,
}

/// What a key takes.
#[derive(Debug)]
pub enum Kind {
    /// A whole number within a range.
    Number {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
        /// When it isn't given.
        default: Default,
    },
    /// One of a few words.
    Word {
        /// The words.
        allowed: &'static [&'static str],
        /// Words that are known, and not done by this version.
        unsupported: &'static [&'static str],
        /// When it isn't given.
        default: Default,
    },
    /// Something with a reader of its own.
    Shape {
        /// The type, as the docs say it.
        shape: &'static str,
        /// What is allowed, as errors and docs say it; empty when its own section says it.
        allowed: &'static str,
        /// When it isn't given.
        default: Default,
    },
}

/// What counts when a key isn't given.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// It must be given.
    Required,
    /// This number.
    Number(u64),
    /// This word.
    Word(&'static str),
    /// What this says.
    Said(&'static str),
}

impl Section {
    /// True for a route's object.
    pub(super) fn is_route(&self) -> bool {
        self.keys.first().is_some_and(|key| key.name == TYPE.name)
    }

    /// The key of that exact snake_case name. For names in our code, not in a file: panics when there is none.
    pub fn key(&self, name: &str) -> &'static Key {
        match self.keys.iter().find(|key| key.name == name) {
            Some(key) => key,
            None => panic!("{}: no key {name} in the table", self.name),
        }
    }

    /// The key a file means by `given`, in snake_case or camelCase.
    pub fn key_of(&self, given: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| is_named(key.name, given))
    }

    /// True when `given` names a key this version doesn't do.
    pub fn is_unsupported(&self, given: &str) -> bool {
        self.unsupported.iter().any(|name| is_named(name, given))
    }

    /// The names, for an error.
    pub fn allowed(&self) -> String {
        self.keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
    }
}

impl Kind {
    /// What is allowed, for errors and docs.
    pub fn allowed(&self) -> String {
        match self {
            Kind::Number { min, max, .. } => format!("{min} to {max}"),
            Kind::Word { allowed, .. } => allowed.join(", "),
            Kind::Shape { allowed, .. } => (*allowed).to_owned(),
        }
    }

    /// What counts when it isn't given.
    pub fn default(&self) -> Default {
        match self {
            Kind::Number { default, .. } | Kind::Word { default, .. } | Kind::Shape { default, .. } => *default,
        }
    }
}

/// True when `given` is `name` (snake_case), or `name` in camelCase.
pub(super) fn is_named(name: &str, given: &str) -> bool {
    if name == given {
        return true;
    }
    let mut rest = given.chars();
    let mut after_underscore = false;
    for c in name.chars() {
        if c == '_' {
            after_underscore = true;
            continue;
        }
        let wanted = if after_underscore { c.to_ascii_uppercase() } else { c };
        after_underscore = false;
        if rest.next() != Some(wanted) {
            return false;
        }
    }
    rest.next().is_none()
}

pub(super) const fn number(name: &'static str, default: u64, min: u64, max: u64, meaning: &'static str) -> Key {
    Key { name, kind: Kind::Number { min, max, default: Default::Number(default) }, meaning }
}

pub(super) const fn shape(
    name: &'static str,
    shape: &'static str,
    allowed: &'static str,
    default: Default,
    meaning: &'static str,
) -> Key {
    Key { name, kind: Kind::Shape { shape, allowed, default }, meaning }
}

const PROTOCOL: Key = Key {
    name: "protocol",
    kind: Kind::Word { allowed: &["memcached"], unsupported: &["redis"], default: Default::Word("memcached") },
    meaning: "The protocol spoken.",
};

pub(super) const TYPE: Key = shape("type", "word", "the route's type", Default::Required, "Which route this is.");

pub(super) const SERVER_FORMS: &str = "host:port, [v6]:port, unix:/path, embedded:name";
pub(super) const LISTEN_FORMS: &str = "tcp://ip:port, tcp://[v6]:port, tcp://:port for all addresses, unix:///path";
pub(super) const NAME_FORM: &str = "1 to 64 letters, digits, `_`, `-`, `.`";
pub(super) const SERVER_NAME_FORM: &str = "1 to 255 visible ASCII characters";
pub(super) const ROUTE_FORMS: &str = "an object with `type`, `Type|argument`, or a name";

/// The number `shards` takes beside `auto`.
pub const SHARDS: Kind = Kind::Number { min: 1, max: 1024, default: Default::Word("auto") };

/// The file's top.
pub static TOP: Section = Section {
    name: "the file",
    keys: &[
        shape(
            "listeners",
            "list of listeners",
            "",
            Default::Said("one on `tcp://:8080`"),
            "Where clients come in; `-l` replaces them all.",
        ),
        shape("pools", "map of name to pool", "", Default::Said("none"), "The servers, in named pools."),
        shape(
            "ordered_pool",
            "list of servers",
            "",
            Default::Said("none"),
            "gomcrouter's form: the only pool, named `ordered_pool`, of servers that hold the same, in order of preference. Not beside `pools`.",
        ),
        shape(
            "route",
            "route",
            ROUTE_FORMS,
            Default::Said("none"),
            "The only route tree; it is named `main`. Not beside `routes`.",
        ),
        shape(
            "routes",
            "map of name to route; mcrouter's list of `{aliases, route}`, or map of prefix to route",
            ROUTE_FORMS,
            Default::Said("none"),
            "Several route trees, by name. In mcrouter's forms the one tree that chooses by routing prefix: RootRoute.",
        ),
        shape(
            "default_route",
            "text",
            super::routes::PREFIX_FORM,
            Default::Said("`/././`"),
            "The routing prefix of keys that have none, where `routes` has prefixes.",
        ),
        Key {
            name: "send_invalid_route_to_default",
            kind: Kind::Word { allowed: &["true", "false"], unsupported: &[], default: Default::Word("false") },
            meaning: "Whether a routing prefix that nobody has goes to the default route.",
        },
        shape(
            "named_handles",
            "map of name to route, or list of routes with a `name`",
            ROUTE_FORMS,
            Default::Said("none"),
            "Routes that others refer to by name. Any route's object may also have a `name` where it stands.",
        ),
        shape(
            "shards",
            "number or `auto`",
            "auto, 1 to 1024",
            Default::Word("auto"),
            "Threads that carry requests; `auto` is one per CPU the process may use. `-n` overrides.",
        ),
        shape("metrics", "map", "", Default::Said("see there"), "The metrics port."),
        shape("admin", "map", "", Default::Said("see there"), "The admin port."),
        shape("batching", "map", "", Default::Said("see there"), "How long a turn may wait for more to do at once."),
        shape("limits", "map", "", Default::Said("see there"), "What clients and queues may hold."),
        shape("health", "map", "", Default::Said("see there"), "When a server is taken for down and for up again."),
        shape("dns", "map", "", Default::Said("see there"), "How servers' names are resolved."),
        shape("async_log", "map", "", Default::Said("none"), "Where deletes a server missed are kept for it."),
        shape("embedded", "map", "", Default::Said("see there"), "The servers inside this process (`embedded:name`)."),
        shape("reload", "map", "", Default::Said("see there"), "When a changed file is read again."),
    ],
    unsupported: &["macros", "cluster", "clusters", "tls", "<<"],
};

/// A listener.
pub static LISTENER: Section = Section {
    name: "listeners[]",
    keys: &[
        shape("address", "text", LISTEN_FORMS, Default::Required, "Where to listen. Port 0 takes any free port."),
        PROTOCOL,
        shape(
            "route",
            "name",
            "a route's name",
            Default::Said("the only route, else `main`"),
            "The route tree its requests take.",
        ),
    ],
    unsupported: &["tls"],
};

/// A pool.
pub static POOL: Section = Section {
    name: "pools.*",
    keys: &[
        PROTOCOL,
        shape(
            "servers",
            "list of servers",
            SERVER_FORMS,
            Default::Required,
            "The servers, as text or as a map (see `servers[]`). Their order counts.",
        ),
        shape(
            "hash",
            "map or name",
            "",
            Default::Said("ch3 over the whole key"),
            "How PoolRoute picks the server of a key; ch3 is mcrouter's default.",
        ),
        shape(
            "inherit",
            "name",
            "a pool's name",
            Default::Said("none"),
            "Another pool, of which this one takes what it doesn't say itself.",
        ),
        number("connections", 1, 1, 64, "Connections per server and shard. `-C` overrides."),
        number("connect_timeout_ms", 250, 1, 600_000, "Longest time to make a connection."),
        number("timeout_ms", 1000, 1, 3_600_000, "Longest time for one try, in the queue included. `-r` overrides."),
        Key {
            name: "deadline_ms",
            kind: Kind::Number { min: 1, max: 7_200_000, default: Default::Said("2 x `timeout_ms`") },
            meaning: "Longest time for a request with all its tries; at least `timeout_ms`. With `-r` twice that.",
        },
        Key {
            name: "keep_routing_prefix",
            kind: Kind::Word { allowed: &["true", "false"], unsupported: &[], default: Default::Word("false") },
            meaning: "Whether its servers get keys with the routing prefix that RootRoute took off them.",
        },
        Key {
            name: "on_down",
            kind: Kind::Word {
                allowed: &["error", "rehash", "miss"],
                unsupported: &[],
                default: Default::Word("error"),
            },
            meaning: "What PoolRoute does for keys of a server that is down: answer an error, or take the next server the hash gives among the others.",
        },
        health::TKO_TRACKER_KEY,
        health::MAX_EJECTED_PERCENT,
        health::SLOW_START_MS,
        health::AUTO_EJECT_HOSTS,
        health::SERVER_RETRY_TIMEOUT,
        health::SERVER_FAILURE_LIMIT,
    ],
    unsupported: &[
        "kind",
        "seeds",
        "tls",
        "password",
        "username",
        "protocol_version",
        "server_timeout",
        "security_mech",
    ],
};

/// A server written as a map.
pub static SERVER: Section = Section {
    name: "pools.*.servers[]",
    keys: &[
        shape("address", "text", SERVER_FORMS, Default::Required, "Where it is; host names are resolved."),
        shape(
            "name",
            "name",
            SERVER_NAME_FORM,
            Default::Said("its address"),
            "What stands for it in the hash, so that it can move without moving keys. Needs a hash that goes by names.",
        ),
        shape(
            "weight",
            "number",
            "1 to 1000000; 0 to 1 with weighted_ch3; 0 to 1000000 with weighted_rendezvous",
            Default::Number(1),
            "Its share of the keys. Needs a hash that has weights.",
        ),
        shape(
            "buckets",
            "text or list",
            "ranges such as 0-511, and numbers",
            Default::Said("an equal share"),
            "Its buckets. Needs hash codis or kvstore; then all servers have them or none.",
        ),
    ],
    unsupported: &["tls"],
};

/// The metrics port.
pub static METRICS: Section = Section {
    name: "metrics",
    keys: &[shape(
        "address",
        "text",
        "ip:port, [v6]:port, :port for all addresses, off",
        Default::Said("`127.0.0.1:9090`; without `listeners` in the file `:9090`"),
        "Where `/metrics` is served. `-L` overrides.",
    )],
    unsupported: &[],
};

/// The admin port.
pub static ADMIN: Section = Section {
    name: "admin",
    keys: &[
        shape(
            "address",
            "text",
            "ip:port, [v6]:port, :port for all addresses, off",
            Default::Said("`127.0.0.1:9091`; without `listeners` in the file off"),
            "Where the admin pages are served. Keep it off other people's networks.",
        ),
        Key {
            name: "keys",
            kind: Kind::Word { allowed: &["true", "false"], unsupported: &[], default: Default::Word("true") },
            meaning: "Whether the router answers `get __mcrouter__.<command>` itself; with false these are keys like all others.",
        },
    ],
    unsupported: &[],
};

/// The batching window.
pub static BATCHING: Section = Section {
    name: "batching",
    keys: &[
        Key {
            name: "mode",
            kind: Kind::Word {
                allowed: &["off", "fixed", "adaptive"],
                unsupported: &[],
                default: Default::Word("adaptive"),
            },
            meaning: "Whether a turn waits for more events: never, for `batch` of them, or for a share of the requests in flight.",
        },
        number(
            "max_delay_us",
            100,
            1,
            10_000,
            "Longest wait, in microseconds: the most it can add to a request's time.",
        ),
        number("batch", 32, 2, 4096, "Events waited for; only with mode fixed."),
    ],
    unsupported: &[],
};

/// What clients and queues may hold.
pub static LIMITS: Section = Section {
    name: "limits",
    keys: &[
        number("clients", 10_000, 1, 1_000_000, "Most clients on one shard; one more is closed at once."),
        number("client_idle_ms", 0, 0, 86_400_000, "Close a client that sent nothing for this long; 0 is never."),
        number("value_bytes", 64 << 20, 1, 1 << 30, "Largest value."),
        number("keys_per_get", 10_000, 1, 1_000_000, "Most keys of one get; one with more is refused."),
        number(
            "buffered_bytes",
            1 << 30,
            1 << 20,
            1 << 40,
            "Most bytes one shard holds for its clients together; beyond it, those that hold much are cut.",
        ),
        number("retrieval_line_bytes", 1 << 20, 2048, 64 << 20, "Longest get or gets line; other lines end at 2048."),
        number(
            "requests_per_client",
            1024,
            1,
            65_536,
            "Most requests of one client waiting for an answer; then it isn't read until half are answered.",
        ),
        number(
            "reply_bytes_per_client",
            1 << 20,
            4096,
            1 << 30,
            "Most reply bytes held for one client; then it isn't read until half are sent.",
        ),
        number(
            "queued_bytes_per_connection",
            16 << 20,
            4096,
            1 << 30,
            "Most request bytes queued on one connection to a server; beyond that requests fail with `queue_full`. `-b` overrides.",
        ),
        number(
            "requests_per_connection",
            65_536,
            1,
            1 << 20,
            "Most requests in flight on one connection to a server; beyond that they fail with `queue_full`.",
        ),
        number(
            "max_replay_bytes",
            1 << 20,
            0,
            64 << 20,
            "Largest request kept so that it can be tried on another server.",
        ),
        number(
            "timeouts_per_connection",
            10,
            1,
            100_000,
            "Replies in a row that may fail to come before a connection to a server is closed.",
        ),
        number("drain_ms", 10_000, 0, 3_600_000, "How long a stopping process waits for its clients."),
    ],
    unsupported: &[],
};

/// How names are resolved.
pub static DNS: Section = Section {
    name: "dns",
    keys: &[number("ttl_ms", 30_000, 100, 86_400_000, "How long a resolved name is used. `-t` overrides.")],
    unsupported: &[],
};

/// Servers inside the process.
pub static EMBEDDED: Section = Section {
    name: "embedded",
    keys: &[number("memory_bytes", 64 << 20, 1 << 20, 1 << 40, "Memory of each embedded server for keys and values.")],
    unsupported: &[],
};

/// Every section but those of routes (`ROUTE_SECTIONS`), in the order of the docs.
pub static SECTIONS: [&Section; 15] = [
    &TOP,
    &LISTENER,
    &POOL,
    &TKO_TRACKER,
    &SERVER,
    &HASH,
    &METRICS,
    &ADMIN,
    &BATCHING,
    &LIMITS,
    &HEALTH,
    &DNS,
    &EMBEDDED,
    &super::reload::RELOAD,
    &super::async_log::ASYNC_LOG,
];
